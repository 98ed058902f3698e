# frozen_string_literal: true

# Several loops in one worker, and what looks at them and stops them.
RSpec.describe Gearman::Worker, :worker do
  let(:job_server) { start_gearmand }
  let(:go_on) { Queue.new }
  let(:block) { ->(data, _) { go_on.pop && data } }
  let(:running) { run_worker(job_server, { "f" => block }, concurrency: 3) }
  let(:worker) { running.worker }

  # Handles of background jobs that three loops run now.
  def occupy(count = 3)
    worker && registered("f", 3)
    handles = client.submit_all("f", Array.new(count) { |i| "job #{i}" })
    eventually("running jobs") { worker.running_jobs.size == [count, 3].min }
    handles
  end

  # [jobs, running] of a function.
  def counts(function = "f")
    row = job_server.admin("status").lines.map { |line| line.chomp.split("\t") }.find { |name, *| name == function }
    row[1..2].map(&:to_i)
  end

  describe "concurrency" do
    it "runs as many jobs at once, each on a connection of its own, and the first in the thread that calls" do
      threads = Queue.new
      running = run_worker(job_server, { "f" => ->(*) { threads << Thread.current and go_on.pop } }, concurrency: 3)
      registered("f", 3)
      client.submit_all("f", %w[a b c d])
      eventually("three jobs") { threads.size == 3 }
      expect(counts).to eq([4, 3])
      seen = Array.new(3) { threads.pop }
      expect(seen.uniq.size).to eq(3)
      expect(seen).to include(running.thread)
      4.times { go_on << true }
      eventually("all jobs") { running.worker.jobs_done == 4 }
    end

    it "is a number of jobs from 1 on" do
      [0, -1, 1.5, "2", 10_000].each do |concurrency|
        expect { described_class.new("localhost", concurrency: concurrency) }
          .to raise_error(Gearman::InvalidArgsError, "concurrency is a number of jobs from 1 to 1000, " \
                                                     "not #{concurrency.inspect}")
      end
      expect(described_class.new("localhost").concurrency).to eq(1)
    end

    it "lets functions be added and removed in a job, for all loops" do
      worker.add_ability("add") { worker.add_ability("g") { "g" } && "added" }
      worker.add_ability("remove") { worker.remove_ability("g") && "removed" }
      registered("remove", 3)
      expect(client.run("add")).to eq([:work_complete, "added"])
      registered("g", 3)
      expect(client.run("g")).to eq([:work_complete, "g"])
      expect(client.run("remove")).to eq([:work_complete, "removed"])
      registered("g", 0)
      expect(log.string).to eq("")
    end

    it "never registers a function twice on one connection, though threads add while connections are opened" do
      worker && registered("f", 3)
      adding = Array.new(4) { |i| Thread.new { 20.times { |j| worker.add_ability("f#{(i + j) % 25}") { true } } } }
      adding.each(&:join)
      23.times { |i| registered("f#{i}", 3) }
    end

    # A worker that can do f and sleeps, and its peer, which has no job for it.
    def sleeping
      server = start_fake_job_server(version: "2.0.0") # asks for no scheduled jobs
      running = run_worker(server, { "f" => block })
      peer = server.accept
      peer.receive_until(:grab_job_uniq)
      peer.respond(:no_job).receive_until(:pre_sleep)
      peer.answer(:grab_job_uniq) { [:no_job] }
      [running, peer]
    end

    # What the peer is told of functions, up to the first time that it is told what is looked for.
    def told_until(peer, *wanted)
      told = []
      told << peer.receive until told.include?(wanted) && told.last == [:pre_sleep]
      told - [[:pre_sleep]]
    end

    it "does not take a function back that is added while it tells a server of others" do
      running, peer = sleeping
      late = nil
      allow(running.worker).to receive(:abilities).and_wrap_original do |original|
        original.call.tap do
          next if late || Thread.current != running.thread

          late = Thread.new { running.worker.add_ability("late") { true } }
          late.join
        end
      end
      running.worker.add_ability("g") { true }
      expect(told_until(peer, :can_do, "late")).to eq([[:can_do, "g"], [:can_do, "late"]])
    end

    it "tells a server last what holds, wherever a function is added again while it is told that it was removed" do
      (1..).each do |number|
        running, peer = sleeping
        calls = 0
        trace = TracePoint.new(:return, :b_return, :c_return) do |point|
          next unless Thread.current == running.thread && point.path.end_with?("gearman/worker.rb")

          Thread.new { running.worker.add_ability("f", &block) }.join if (calls += 1) == number
        end
        begin
          trace.enable # with a block it would look at this thread alone
          running.worker.remove_ability("f")
          eventually("a look at the functions") { peer.any? }
          running.worker.add_ability("end") { true }
          told = told_until(peer, :can_do, "end")
        ensure
          trace.disable
        end
        break expect(number).to be > 10 if calls < number

        expect(told.reverse.find { |_, name| name == "f" }).to be_nil.or eq([:can_do, "f"])
      end
    end
  end

  describe "what ends one loop" do
    it "ends all, behind the jobs that the others run: exit" do
      running = run_worker(job_server, { "f" => block, "leave" => ->(*) { exit(3) } }, concurrency: 3)
      registered("f", 3)
      client.submit_all("f", %w[a b])
      eventually("two jobs") { running.worker.running_jobs.size == 2 }
      expect(client.run("leave")).to eq([:work_exception, "exit"])
      eventually("the end of a loop") { workers_for("f") == 2 }
      expect(running).not_to be_ended
      2.times { go_on << true }
      expect(running.outcome).to be_a(SystemExit).and have_attributes(status: 3)
      eventually("the queue") { counts == [0, 0] }
    end

    [NoMemoryError, Interrupt].each do |error|
      it "ends all, with nothing reported: #{error}" do
        raised = 0
        running = run_worker(job_server, { "f" => ->(*) { (raised += 1) && raise(error, "of a job") } }, concurrency: 3)
        registered("f", 3)
        client.submit("f", type: :submit_job_bg)
        expect(running.outcome).to be_a(error)
        expect(raised).to eq(1)
        registered("f", 0)
        eventually("the queue") { counts == [1, 0] }
      end
    end

    it "ends all when a job kills its thread" do
      running = run_worker(job_server, { "f" => ->(*) { Thread.current.kill } }, concurrency: 3)
      registered("f", 3)
      client.submit("f", type: :submit_job_bg)
      eventually("the end") { running.ended? }
      registered("f", 0)
      eventually("the queue") { counts == [1, 0] }
    end

    it "leaves a worker that can work again" do
      running = run_worker(job_server, { "f" => ->(data, _) { data == "exit" ? exit : data } }, concurrency: 2)
      registered("f", 2)
      client.submit("f", "exit", type: :submit_job_bg)
      expect(running.outcome).to be_a(SystemExit)
      again = run(running.worker)
      registered("f", 2)
      expect(client.run("f", "again")).to eq([:work_complete, "again"])
      again.worker.stop
      expect(again.outcome).to be(false)
    end
  end

  describe "#stop" do
    it "returns at once; the running jobs are finished, no other is begun" do
      occupy(5)
      expect(worker.stop).to be_nil
      expect(worker).to be_stopping.and be_quiet
      sleep 0.2
      expect(running).not_to be_ended
      3.times { go_on << true }
      expect(running.outcome).to be(false)
      eventually("the queue") { counts == [2, 0] }
      expect(worker.jobs_done).to eq(3)
      expect(log.string).to eq("")
    end

    it "with a time-out is true when the jobs are finished in time" do
      occupy
      finishing = Thread.new { sleep(0.2) && 3.times { go_on << true } }
      expect(worker.stop(10)).to be(true)
      expect(running.outcome).to be(false)
      finishing.join
      eventually("the queue") { counts == [0, 0] }
    end

    it "with a time-out gives jobs back that are not finished, and logs them" do
      handles = occupy
      expect(worker.stop(0.2)).to be(false)
      expect(running.outcome).to be(false)
      eventually("the jobs") { counts == [3, 0] }
      expect(logged(:warn).join).to include(*handles.map { |handle| "abandoned f #{handle}" })
      expect(worker.running_jobs).to eq([])
    end

    it "abandons a job that rescues StandardError, and its ensure is run" do
      left = Queue.new
      worker.add_ability("f") do
        sleep(60)
      rescue StandardError
        left << :rescued
      ensure
        left << :left
      end
      occupy
      expect(worker.stop(0.1)).to be(false)
      expect(running.outcome).to be(false)
      expect(Array.new(left.size) { left.pop }).to eq(%i[left left left])
    end

    it "is true for a worker that does not run, also when its thread is only just starting" do
      expect(described_class.new(job_server.address).stop(1)).to be(true)
      worker = new_worker(job_server, { "f" => block }, concurrency: 3)
      thread = Thread.new { worker.work }
      expect(worker.stop(10)).to be(true)
      expect(thread.value).to be(false)
    end

    it "with a time-out is refused in a job of the worker" do
      worker.add_ability("f") { worker.stop(1) }
      registered("f", 3)
      expect(client.run("f")).to match([:work_exception, /cannot wait/])
    end

    it "is what a job can ask for" do
      asked = Queue.new
      worker.add_ability("f") do |_, job|
        asked << job.stopping?
        sleep 0.01 until job.stopping?
        "stopped"
      end
      registered("f", 3)
      handle = client.submit("f")
      expect(asked.pop).to be(false)
      worker.stop
      expect(client.outcome(handle)).to eq([:work_complete, "stopped"])
    end
  end

  describe "#quiet" do
    it "asks for no more jobs, keeps the connections, and lets work go on" do
      occupy
      worker.quiet
      client.submit("f", "later", type: :submit_job_bg)
      3.times { go_on << true }
      eventually("three jobs") { counts == [1, 0] }
      sleep 1.5 # longer than until it would ask for scheduled jobs
      expect(counts).to eq([1, 0])
      expect(workers_for("f")).to eq(3)
      expect(worker).to be_quiet
      expect(worker).not_to be_stopping
      expect(running).not_to be_ended
      worker.worker_enabled = true
      go_on << true
      eventually("the job") { counts == [0, 0] }
      worker.quiet
      expect(worker.stop(5)).to be(true)
    end
  end

  describe "what it tells" do
    it "is the running jobs, the servers and the last turn" do
      expect(worker.running_jobs).to eq([])
      occupy(2)
      jobs = worker.running_jobs
      expect(jobs).to be_frozen
      expect(jobs.map(&:first)).to all(be_a(Gearman::Worker::Job).and(have_attributes(func_name: "f")))
      expect(jobs.map { |job, _| job.data }).to contain_exactly("job 0", "job 1")
      expect(jobs.map(&:last)).to all(be_between(0, 20))
      expect(worker.connected_servers).to eq([job_server.address])
      now = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      expect(worker.last_turn).to be_between(now - 12, now)
      2.times { go_on << true }
      eventually("no job") { worker.running_jobs.empty? }
      job_server.stop
      eventually("no server") { worker.connected_servers.empty? }
    end
  end
end
