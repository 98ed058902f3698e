# frozen_string_literal: true

require "timeout"

# What strikes a worker from outside: signals, Timeout, Thread#raise, Thread#kill.
RSpec.describe Gearman::Worker, :process, :worker do
  let!(:job_server) { start_gearmand }
  let!(:other_server) { start_gearmand }

  # Runs until it is struck.
  def worker_with_job(started, go_on)
    new_worker([job_server, other_server], "f" => ->(data, _) { (started << true) && go_on.pop && data })
  end

  # A job that was taken up again by another worker, or by the same one later.
  def expect_redelivery(handle, worker)
    run(worker)
    expect(client.packets_of(handle)).to eq([[:work_complete, "data"]])
    expect(client.run("f", "next")).to eq([:work_complete, "next"])
  end

  strikes = {
    "Thread#raise" => [->(thread) { thread.raise(ArgumentError, "struck") }, ArgumentError],
    "Thread#raise of an Interrupt" => [->(thread) { thread.raise(Interrupt, "struck") }, Interrupt],
    "Thread#kill" => [lambda(&:kill), nil]
  }

  strikes.each do |what, (strike, error)|
    it "#{what} ends a worker that waits; its connections are closed, and it can work again" do
      worker = new_worker([job_server, other_server], "f" => ->(data, _) { data })
      running = run(worker).waiting
      strike.call(running.thread)
      expect(running.outcome).to error ? be_a(error) : be_nil
      [job_server, other_server].each { |server| registered("f", 0, server: server) }
      expect_redelivery(client.submit("f", "data"), worker)
    end
  end

  strikes.reject { |_, (_, error)| error == ArgumentError }.each do |what, (strike, error)|
    it "#{what} ends a worker in a job, which is handed out again" do
      started = Queue.new
      go_on = Queue.new
      worker = worker_with_job(started, go_on)
      running = run(worker)
      handle = client.submit("f", "data")
      started.pop
      strike.call(running.thread)
      expect(running.outcome).to error ? be_a(error) : be_nil
      [job_server, other_server].each { |server| registered("f", 0, server: server) }
      2.times { go_on << true }
      expect_redelivery(handle, worker)
    end
  end

  strikes.each do |what, (strike, error)|
    it "#{what} ends a worker whose answer the server does not take; the job is handed out again" do
      started = Queue.new
      answers = Queue.new
      worker = new_worker(job_server, "f" => ->(_, _) { (started << true) && answers.pop })
      running = run(worker)
      handle = client.submit("f", "data")
      started.pop
      job_server.signal("STOP")
      answers << ("x" * 50_000_000)
      eventually("a worker that waits") { answers.empty? && running.thread.status == "sleep" }
      strike.call(running.thread)
      expect(running.outcome).to error ? be_a(error) : be_nil
      job_server.signal("CONT")
      answers << "data" << "next"
      expect_redelivery(handle, worker)
    end
  end

  it "Thread#raise of a StandardError in a job is that job's exception" do
    started = Queue.new
    go_on = Queue.new
    running = run(worker_with_job(started, go_on))
    handle = client.submit("f", "data")
    started.pop
    running.thread.raise(ArgumentError, "struck")
    expect(client.packets_of(handle)).to eq([[:work_exception, "struck"]])
    go_on << true
    expect(client.run("f", "next")).to eq([:work_complete, "next"])
  end

  describe "Timeout around work" do
    it "ends a worker that waits" do
      worker = new_worker([job_server, other_server], "f" => ->(data, _) { data })
      expect { Timeout.timeout(0.3) { worker.work } }.to raise_error(Timeout::Error)
      [job_server, other_server].each { |server| registered("f", 0, server: server) }
      expect_redelivery(client.submit("f", "data"), worker)
    end

    it "ends a worker in a job, which is handed out again" do
      started = Queue.new
      go_on = Queue.new
      worker = worker_with_job(started, go_on)
      handle = client.submit("f", "data")
      expect { Timeout.timeout(0.5) { worker.work } }.to raise_error(Timeout::Error)
      expect(started.size).to eq(1)
      [job_server, other_server].each { |server| registered("f", 0, server: server) }
      2.times { go_on << true }
      expect_redelivery(handle, worker)
    end

    it "leaves work_once in order" do
      worker = new_worker(job_server, "f" => ->(data, _) { data })
      5.times do
        expect { Timeout.timeout(0.05) { worker.work_once } }.to raise_error(Timeout::Error)
        handle = client.submit("f", "data")
        expect(worker.work_once(20)).to be(true)
        expect(client.packets_of(handle)).to eq([[:work_complete, "data"]])
      end
    end
  end

  it "strikes at any moment lose no job" do
    done = Queue.new
    worker = new_worker(job_server, "f" => ->(data, _) { (done << data) && data })
    handles = client.submit_all("f", Array.new(300, &:to_s), type: :submit_job)
    random = Random.new(RSpec.configuration.seed)
    strikes = 0
    until job_server.admin("status").match?(/^f\t0\t0\t/)
      begin
        Timeout.timeout(random.rand(0.03)) { worker.work }
      rescue Timeout::Error
        strikes += 1
      end
    end
    expect(strikes).to be > 0
    outcomes = handles.map { |handle| client.outcome(handle) }
    # A strike while the block runs may also be the job's own exception: then the block never ended.
    expect(outcomes).to eq(Array.new(300) { |number| [:work_complete, number.to_s] })
    expect(done.size).to be_between(300, 300 + strikes)
  end

  describe "in a process" do
    # A worker process that says what becomes of it. The block may prepare the worker.
    def start_worker_process
      start_process do |out|
        worker = described_class.new([job_server.address, other_server.address])
        worker.add_ability("f") do |data|
          out.puts "job #{data}"
          sleep if data == "sleep"
          sleep 0.5 if data == "doze"
          data
        end
        yield worker, out if block_given?
        begin
          out.puts "work returns #{worker.work.inspect}"
        rescue Exception => e # rubocop:disable Lint/RescueException
          out.puts "work raises #{e.class}"
        end
      end
    end

    def stopping_worker_process
      start_worker_process { |worker, _| trap("TERM") { worker.worker_enabled = false } }
    end

    def registered_on_both(count = 1)
      [job_server, other_server].each { |server| registered("f", count, server: server) }
    end

    # What the process says once it is told to stop.
    def stop_by(signal, child)
      sleep 0.3 # both servers have no job: it waits
      said = nil
      took = seconds do
        child.signal(signal)
        said = child.line
      end
      expect(took).to be < 1.5
      said
    end

    it "worker_enabled = false in a trap ends a worker that waits at once" do
      child = stopping_worker_process
      registered_on_both
      expect(stop_by("TERM", child)).to eq("work returns false")
      expect(child.wait).to be_success
      registered_on_both(0)
    end

    it "worker_enabled = false in a trap lets the running job be answered" do
      child = stopping_worker_process
      first, second = %w[doze next].map { |data| client.submit("f", data) }
      expect(child.line).to eq("job doze")
      child.signal("TERM")
      expect(client.packets_of(first)).to eq([[:work_complete, "doze"]])
      expect(child.line).to eq("work returns false")
      run_worker(job_server, "f" => ->(data, _) { "another had #{data}" })
      expect(client.outcome(second)).to eq([:work_complete, "another had next"])
    end

    it "functions can be added and removed in a trap" do
      child = start_worker_process do |worker, out|
        trap("USR1") do
          worker.add_ability("g") { "g" }
          worker.remove_ability("f")
        rescue Exception => e # rubocop:disable Lint/RescueException
          out.puts "the trap raises #{e.class}: #{e.message}"
        end
      end
      registered_on_both
      child.signal("USR1")
      [job_server, other_server].each do |server|
        registered("g", server: server)
        eventually("no worker for f") { workers_for("f", server: server).to_i.zero? }
      end
      expect(client.run("g")).to eq([:work_complete, "g"])
    end

    it "functions can be removed in a trap while a job of theirs runs, which is answered first" do
      fake = start_fake_job_server(version: "2.0.1")
      child = start_process do |out|
        worker = Gearman::Worker.new(fake.address, prefetch: 2)
        worker.add_ability("f") do |data|
          out.puts "job #{data}"
          sleep 0.5
          data
        end
        trap("USR1") { worker.remove_ability("f") }
        worker.work
      end
      peer = fake.accept
      2.times { peer.receive_until(:grab_job_uniq) }
      2.times { |number| peer.respond(:job_assign_uniq, "H:#{number}", "f", "", number.to_s) }
      expect(child.line).to eq("job 0")
      child.signal("USR1")
      expect(peer.receive_until(:cant_do).reject { |type,| type == :grab_job_uniq })
        .to eq([[:work_complete, "H:0", "0"], [:work_complete, "H:1", "1"], [:cant_do, "f"]])
    end

    { "INT" => "Interrupt", "TERM" => "SignalException" }.each do |signal, error|
      it "SIG#{signal} ends a worker that waits" do
        child = start_worker_process
        registered_on_both
        expect(stop_by(signal, child)).to eq("work raises #{error}")
        registered_on_both(0)
      end

      it "SIG#{signal} ends a worker in a job, which is handed out again" do
        child = start_worker_process
        handle = client.submit("f", "sleep")
        expect(child.line).to eq("job sleep")
        child.signal(signal)
        expect(child.line).to eq("work raises #{error}")
        run_worker(job_server, "f" => ->(data, _) { "another had #{data}" })
        expect(client.packets_of(handle)).to eq([[:work_complete, "another had sleep"]])
      end
    end

    it "SIGKILL ends a worker in a job, which is handed out again" do
      child = start_worker_process
      handle = client.submit("f", "sleep")
      expect(child.line).to eq("job sleep")
      child.signal("KILL")
      run_worker(job_server, "f" => ->(data, _) { "another had #{data}" })
      expect(client.packets_of(handle)).to eq([[:work_complete, "another had sleep"]])
    end

    it "signals that are caught elsewhere disturb nothing" do
      child = start_worker_process { |_, out| trap("USR2") { out.puts "USR2" } }
      registered_on_both
      5.times do
        child.signal("USR2")
        expect(child.line).to eq("USR2")
      end
      expect(client.run("f", "x")).to eq([:work_complete, "x"])
    end
  end
end
