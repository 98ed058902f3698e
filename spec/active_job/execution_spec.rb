# frozen_string_literal: true

require "active_job"
require "logger"
require "stringio"
require "gearman/active_job/dead_letters"
require "gearman/active_job/execution"

RSpec.describe Gearman::ActiveJob::Execution, :worker do
  let(:server) { start_gearmand }
  let(:runs) { Queue.new }

  let(:job_class) do
    runs = self.runs
    stub_const("ScriptedJob", Class.new(ActiveJob::Base) do
      define_method(:perform) do |what = nil|
        runs << [what, provider_job_id]
        case what
        when "false" then false
        when "string" then "result"
        when "exit" then exit
        when "script error" then raise NotImplementedError, "not implemented"
        when "exception" then raise SecurityError, "no StandardError"
        when "bytes" then raise "caf\xE9 \xE2\x82\xAC".b
        when /boom/ then raise ArgumentError, what
        end
      end
    end)
  end

  around do |example|
    active_job_logger = ActiveJob::Base.logger
    ActiveJob::Base.logger = Logger.new(nil)
    Gearman.client = Gearman::Client.new(server.address)
    example.run
  ensure
    Gearman.client&.close
    Gearman.client = nil
    ActiveJob::Base.logger = active_job_logger
  end

  def run_queue(queue = "default", options = {})
    worker = new_worker(server, {}, options)
    described_class.add_to(worker, queue)
    yield worker if block_given?
    run(worker)
  end

  # Runs a job in the foreground, which tells its outcome: the packets that come for it.
  def outcome(what, unique: "unique-1")
    client(server).run("default", JSON.generate(job_class.new(*what).serialize), unique: unique)
  end

  it "tells the worker which jobs are scheduled ones" do
    worker = new_worker(server)
    described_class.add_to(worker, "default")
    expect(worker.abilities.transform_values(&:scheduled?)).to eq("default" => false, "default.scheduled" => true)
  end

  # The dead letters of a queue, parsed.
  def letters(queue = "default")
    taker = wire(server).request(:can_do, "#{queue}.dead")
    found = []
    while (packet = taker.ask(:grab_job)).first == :job_assign
      found << JSON.parse(packet.last)
    end
    found
  ensure
    taker&.close
  end

  def jobs_in(function)
    server.admin("status")[/^#{Regexp.escape(function)}\t(\d+)/, 1].to_i
  end

  it "runs jobs with the unique of their submission as provider_job_id" do
    run_queue
    expect(outcome("one", unique: "unique-7")).to eq([:work_complete, ""])
    expect(pop(runs)).to eq(%w[one unique-7])
  end

  it "takes no result for a failure, and passes none on" do
    run_queue
    [nil, "false", "string"].each { |what| expect(outcome(what)).to eq([:work_complete, ""]) }
    expect(letters).to be_empty
  end

  it "serves the jobs of now before the scheduled ones" do
    wire = wire(server)
    wire.ask(:submit_job_epoch, "default.scheduled", "1", "1", JSON.generate(job_class.new("scheduled").serialize))
    wire.ask(:submit_job_bg, "default", "2", JSON.generate(job_class.new("now").serialize))
    run_queue
    expect([pop(runs), pop(runs)].map(&:first)).to eq(%w[now scheduled])
  end

  # gearmand 1.1 serves first what was registered last.
  it "has gearman-worker serve queues in the order they are given, and scheduled jobs behind them" do
    announced = Queue.new
    scripted = scripted_server do |peer|
      loop do
        type, name = peer.request
        announced << name if type == :can_do
        peer.reply(:no_job) if type == :grab_job_uniq
      end
    end
    settings = { servers: scripted.address, queues: "first,second", concurrency: 1 }
    launcher = Gearman::Runner::Launcher.new(Gearman::Configuration.new.update(settings)).start
    expect(Array.new(4) { pop(announced) }).to eq(%w[second.scheduled first.scheduled second first])
  ensure
    launcher&.stop(5)
    Gearman::Runner.stopping = false
  end

  it "fails a job whose error nobody handles, and keeps it with the error" do
    run_queue
    job = job_class.new("boom 1")
    data = JSON.generate(job.serialize)
    type, message = client(server).run("default", data, unique: "unique-1")
    expect([type, message]).to eq([:work_exception, "boom 1"])
    expect(letters).to match([include(
      "data" => data, "queue" => "default", "function" => "default", "unique" => "unique-1",
      "failed_at" => match(/\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\z/),
      "error" => { "class" => "ArgumentError", "message" => "boom 1", "backtrace" => include(/execution_spec/) }
    )])
  end

  it "keeps a scheduled job that fails as a letter of its queue, and has it tried again there" do
    run_queue
    data = JSON.generate(job_class.new("boom later").serialize)
    wire(server).ask(:submit_job_epoch, "default.scheduled", "unique-3", "1", data)
    eventually("the letter") { jobs_in("default.dead") == 1 }
    expect(pop(runs)).to eq(["boom later", "unique-3"])
    Gearman::ActiveJob::DeadLetters.new(server.address, out: StringIO.new).retry("default")
    expect(pop(runs).first).to eq("boom later")
    eventually("another letter") { jobs_in("default.dead") == 1 }
    expect(letters).to match([include("data" => data, "queue" => "default", "function" => "default")])
  end

  it "keeps what cannot be run at all" do
    run_queue
    ["no JSON", "\xFF\0".b, "[1]", JSON.generate("job_class" => "MissingJob", "job_id" => "1", "arguments" => [])]
      .each { |data| expect(client(server).run("default", data, unique: "unique-1").first).to eq(:work_exception) }
    expect(letters.map { |letter| letter["data"] || letter["data64"] })
      .to match(["no JSON", ["\xFF\0"].pack("m0"), "[1]", include("MissingJob")])
  end

  it "keeps any error, whatever its message" do
    run_queue
    ["script error", "exception", "bytes"].each { |what| expect(outcome(what).first).to eq(:work_exception) }
    expect(letters.map { |letter| letter["error"].values_at("class", "message") })
      .to eq([["NotImplementedError", "not implemented"], ["SecurityError", "no StandardError"],
              ["RuntimeError", "caf\\xE9 €"]])
  end

  it "keeps a job that calls exit, which ends the worker" do
    running = run_queue
    expect(outcome("exit").first).to eq(:work_exception)
    expect(letters.map { |letter| letter["error"]["class"] }).to eq(["SystemExit"])
    expect(running.outcome).to be_a(SystemExit)
  end

  it "keeps a job that fails around its run, or is not run at all" do
    around = ->(job, run) { job.data.include?("not run") || (run.call && raise("around it")) }
    run_queue { |worker| worker.around_job(&around) }
    expect([outcome("one"), outcome("not run")]).to match([[:work_exception, "around it"], [:work_exception, /run/]])
    expect(letters.map { |letter| [JSON.parse(letter["data"])["arguments"], letter["error"]["message"]] })
      .to eq([[["one"], "around it"], [["not run"], "a block of around_job did not call run"]])
    expect(runs.size).to eq(1)
  end

  it "has the dead letter before the configuration's block hears of the error" do
    letters_then = Queue.new
    configuration = Gearman::Configuration.new.update(servers: server.address, queues: "default")
    configuration.on_error { letters_then << jobs_in("default.dead") }
    launcher = Gearman::Runner::Launcher.new(configuration).start
    expect(outcome("boom").first).to eq(:work_exception)
    expect(pop(letters_then)).to eq(1)
  ensure
    launcher&.stop(5)
    Gearman::Runner.stopping = false
  end

  it "keeps jobs of its queue alone" do
    run_queue { |worker| worker.add_ability("other") { raise "no ActiveJob" } }
    expect(client(server).run("other", "", unique: "u").first).to eq(:work_exception)
    expect([letters, letters("other")]).to eq([[], []])
  end

  it "has the dead letter taken before it fails the job" do
    log = Queue.new
    scripted = scripted_server do |peer|
      loop do
        type, *parts = peer.request
        case type
        when :submit_job_low_bg
          log << [type, parts.first]
          sleep 0.2 # the job must not be failed meanwhile
          log << [:created]
          peer.reply(:job_created, "H:2")
        when :grab_job_uniq
          log.empty? ? peer.reply(:job_assign_uniq, "H:1", "default", "u", "no JSON") : peer.reply(:no_job)
        when :work_exception, :work_fail then log << [type, parts.first]
        end
      end
    end
    Gearman.client = Gearman::Client.new(scripted.address)
    worker = new_worker(scripted)
    described_class.add_to(worker, "default")
    running = run(worker)
    expect(Array.new(3) do
      pop(log)
    end).to eq([[:submit_job_low_bg, "default.dead"], [:created], [:work_exception, "H:1"]])
    running.stop
  end

  it "has the job run again when no server takes its dead letter" do
    letters
    wire(server).ask(:submit_job_bg, "default.dead", "filler", "")
    server.admin("maxqueue default.dead 1")
    run_queue
    handle = client(server).submit("default", JSON.generate(job_class.new("boom 2").serialize), unique: "unique-2")
    expect(Array.new(2) { pop(runs) }).to eq([["boom 2", "unique-2"]] * 2)
    expect(logged(:error)).to include(/#{handle} will run again: no server takes its dead letter: .*QUEUE_ERROR/)
    server.admin("maxqueue default.dead 0")
    expect(client(server).outcome(handle).first).to eq(:work_exception)
    expect(jobs_in("default.dead")).to eq(2)
  end

  it "has the job run again when no server can be reached for its dead letter" do
    Gearman.client.close
    Gearman.client = Gearman::Client.new("127.0.0.1:#{JobServers.free_port}")
    run_queue
    handle = client(server).submit("default", JSON.generate(job_class.new("boom 3").serialize), unique: "unique-3")
    expect(Array.new(2) { pop(runs) }).to eq([["boom 3", "unique-3"]] * 2)
    expect(logged(:error)).to include(/#{handle} will run again: no server takes its dead letter/)
    Gearman.client = Gearman::Client.new(server.address)
    expect(client(server).outcome(handle).first).to eq(:work_exception)
  end

  it "keeps nothing where dead letters are switched off" do
    Gearman.configuration.dead_letters = false
    run_queue
    expect(outcome("boom").first).to eq(:work_exception)
    expect(letters).to be_empty
  ensure
    Gearman.configuration.dead_letters = true
  end

  {
    "abandoned" => ->(running) { running.worker.stop(0.1) }, "killed" => ->(running) { running.thread.kill.join }
  }.each do |how, ending|
    it "leaves a job alone that is #{how} with its worker" do
      stub_const("LongJob", Class.new(ActiveJob::Base) { define_method(:perform) { sleep } })
      running = run_queue
      handle = client(server).submit("default", JSON.generate(LongJob.new.serialize), unique: "u", type: :submit_job_bg)
      eventually("the job runs") { server.admin("status").match?(/^default\t1\t1\t/) }
      ending.call(running)
      taker = wire(server).request(:can_do, "default")
      expect(eventually("the job is there again") { (packet = taker.ask(:grab_job)).first == :job_assign && packet })
        .to include(handle)
      expect(letters).to be_empty
    end
  end

  it "tells subscribers of perform_job.gearman" do
    events = Queue.new
    subscriber = ActiveSupport::Notifications.subscribe("perform_job.gearman") { |*, payload| events << payload }
    run_queue
    outcome("one", unique: "unique-9")
    expect(pop(events)).to include(function: "default", unique: "unique-9", handle: /\AH:/,
                                   job: include("job_class" => "ScriptedJob"))
    outcome("boom")
    expect(pop(events)).to include(exception: %w[ArgumentError boom])
  ensure
    ActiveSupport::Notifications.unsubscribe(subscriber)
  end

  it "refuses what cannot be a queue" do
    expect { described_class.add_to(new_worker(server), "a b") }.to raise_error(Gearman::InvalidArgsError, /"a b"/)
  end
end
