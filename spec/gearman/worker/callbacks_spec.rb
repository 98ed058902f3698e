# frozen_string_literal: true

RSpec.describe Gearman::Worker::Callbacks, :worker do
  events = %i[connect grab_job no_job job_assign work_complete work_fail work_exception]

  let(:fake) { start_fake_job_server }
  let!(:calls) { Queue.new }

  # A worker that tells of each event.
  def telling_worker(events)
    worker = Gearman::Worker.new(fake.address)
    events.each { |event| worker.public_send(:"on_#{event}") { |*arguments| calls << [event, *arguments] } }
    yield worker if block_given?
    worker.add_ability("f") do |data|
      calls << [:running]
      data == "bad" ? raise("bad") : (data unless data == "fail")
    end
    remember(worker, :close)
  end

  def calls_until(event)
    taken = []
    taken << eventually("on_#{event}") { calls.pop unless calls.empty? }.first until taken.last == event
    taken
  end

  def assign(data)
    peer.respond(:job_assign_uniq, "H:#{data}", "f", "", data)
    peer.receive_until(:grab_job_uniq)
  end

  let(:peer) { fake.accept.tap { |peer| peer.receive_until(:grab_job_uniq) } }

  it "are called without arguments, each for its event, before the packet goes out" do
    run(telling_worker(events))
    peer
    expect(calls_until(:grab_job)).to eq(%i[connect grab_job])
    assign("good")
    expect(calls_until(:grab_job)).to eq(%i[job_assign running work_complete grab_job])
    assign("fail")
    expect(calls_until(:grab_job)).to eq(%i[job_assign running work_fail grab_job])
    assign("bad")
    expect(calls_until(:grab_job)).to eq(%i[job_assign running work_exception grab_job])
    peer.respond(:no_job)
    peer.receive_until(:pre_sleep)
    expect(calls_until(:no_job)).to eq([:no_job])
  end

  it "are called on each new connection" do
    run(telling_worker([:connect]))
    peer.close
    fake.accept.receive_until(:grab_job_uniq)
    expect(calls_until(:connect)).to eq([:connect])
    expect(calls_until(:connect)).to eq([:connect])
  end

  it "are called before the answer goes out" do
    worker = telling_worker([])
    go_on = Queue.new
    worker.on_work_complete do
      calls << [:work_complete]
      go_on.pop
    end
    run(worker)
    peer.respond(:job_assign_uniq, "H:1", "f", "", "good")
    calls_until(:work_complete)
    expect(peer).not_to be_any
    go_on << true
    expect(peer.receive).to eq([:work_complete, "H:1", "good"])
  end

  it "return the block they are given, and the last one counts" do
    worker = telling_worker([:grab_job])
    block = proc { calls << [:other] }
    expect(worker.on_grab_job(&block)).to equal(block)
    run(worker)
    peer
    expect(calls_until(:other)).to eq([:other])
  end

  it "count from when they are set, by the running job or while the worker waits" do
    worker = telling_worker([])
    worker.add_ability("set") { |_, _| worker.on_work_complete { calls << [:late] } && "set" }
    run(worker)
    peer.respond(:job_assign_uniq, "H:1", "set", "", "")
    expect(calls_until(:late)).to eq([:late])
    peer.receive_until(:grab_job_uniq)
    peer.respond(:no_job)
    peer.receive_until(:pre_sleep)
    worker.on_job_assign { calls << [:assigned] }
    peer.respond(:noop)
    peer.receive_until(:grab_job_uniq)
    peer.respond(:job_assign_uniq, "H:2", "f", "", "good")
    expect(calls_until(:assigned)).to eq([:assigned])
  end

  it "may be set before a subclass is initialized" do
    worker = Class.new(Gearman::Worker) do
      def initialize(...)
        on_connect { nil }
        super
      end
    end
    expect(worker.new(fake.address)).to be_a(Gearman::Worker)
  end

  it "may be missing: running one that is not set does nothing" do
    worker = Gearman::Worker.new(fake.address)
    events.each { |event| expect(worker.public_send(:"run_#{event}_callback")).to be_nil }
  end

  events.each do |event|
    it "on_#{event} that raises is logged, and the worker goes on" do
      run(telling_worker([]) { |worker| worker.public_send(:"on_#{event}") { raise "trouble in #{event}" } })
      peer
      peer.respond(:no_job)
      peer.receive_until(:pre_sleep)
      peer.respond(:noop) unless peer.any?
      peer.receive_until(:grab_job_uniq)
      expect(%w[good fail bad good].map { |data| assign(data).first.first })
        .to eq(%i[work_complete work_fail work_exception work_complete])
      expect(logged(:error).join).to include("on_#{event}", "trouble in #{event}")
    end
  end

  it "also work in a worker whose handlers are its own" do
    kind = Class.new(Gearman::Worker) { def handle_job_assign(*) = super && true }
    worker = kind.new(fake.address)
    events.each { |event| worker.public_send(:"on_#{event}") { calls << [event] } }
    worker.add_ability("f") { |data| data == "bad" ? raise("bad") : (data unless data == "fail") }
    run(remember(worker, :close))
    peer = fake.accept
    %w[good fail bad].zip(%i[work_complete work_fail work_exception]) do |data, event|
      peer.receive_until(:grab_job)
      peer.respond(:job_assign, "H:1", "f", data)
      expect(calls_until(event).drop_while { |call| call != :job_assign }).to eq([:job_assign, event])
    end
  end
end
