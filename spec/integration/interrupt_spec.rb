# frozen_string_literal: true

require "timeout"

# Interrupts at any moment: the call they hit ends, every other call gets its own answer.
JobServers.describe "an interrupted client", :quiet do
  interruption = Class.new(StandardError)

  let(:server) { job_server }
  let(:client) { remember(Gearman::Client.new(server.address), :close) }

  before { start_worker(server, "echo" => ->(data, _job) { data }) }

  def echo(text, by: client)
    by.do_task(Gearman::Task.new("echo", text, coalesce: false), JobServers::PATIENCE)
  end

  # The sockets of clients that are open in this process.
  def open_sockets
    GC.start
    ObjectSpace.each_object(TCPSocket).count { |socket| !socket.closed? }
  end

  # The seconds that one call takes: interrupts are spread over about twice that.
  def call_time
    echo("warm")
    start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    20.times { echo("time") }
    (Process.clock_gettime(Process::CLOCK_MONOTONIC) - start) / 20
  end

  # Runs calls in a thread until it is told to stop; what is interrupted is tried again. Returns the thread, whose
  # value is [finished calls, wrong answers, interrupts].
  def calling_thread(interruption, stop)
    # The mask is handed down: a thread can be hit before its first line.
    Thread.handle_interrupt(interruption => :never) do
      Thread.new do
        counts = Thread.current[:counts] = [0, [], 0]
        until stop.call
          begin
            text = "call #{counts[0]}"
            answer = Thread.handle_interrupt(interruption => :immediate) { echo(text) }
            counts[0] += 1
            counts[1] << answer unless answer == text
          rescue interruption
            counts[2] += 1
          end
        end
        counts
      end
    end
  end

  # Calls the block until it was true so often, in 200 calls at least.
  def until_hit(times)
    hits = count = 0
    until hits >= times && count >= 200
      hits += 1 if yield(count += 1)
      raise "only #{hits} of #{count} calls were hit" if count == 20_000
    end
  end

  it "by Timeout: the next call is right" do
    limit = call_time * 2
    before = open_sockets
    until_hit(50) do |count|
      expect(Timeout.timeout(rand * limit) { echo("first #{count}") }).to eq("first #{count}")
      false
    rescue Timeout::Error
      expect(echo("second #{count}")).to eq("second #{count}")
      true
    end
    expect(open_sockets).to be <= before + 8
  end

  it "by Thread#raise: no other call is wrong, and no socket is left over" do
    before = open_sockets
    time = call_time
    stopped = false
    threads = Array.new(3) { calling_thread(interruption, -> { stopped }) }
    300.times do
      threads.sample.raise(interruption)
      sleep(rand * time)
    end
    eventually("calls that finish") { threads.sum { |thread| thread[:counts]&.first.to_i } > 20 }
    stopped = true
    results = threads.map(&:value)
    expect(results.flat_map { |_, wrong, _| wrong }).to eq([])
    expect(results.sum(&:last)).to be > 100
    client.close
    eventually("no socket more than before") { open_sockets <= before }
  end

  it "by Thread#kill: the next call is right, and no socket stays taken" do
    time = call_time
    until_hit(50) do |count|
      victim = Thread.new { echo("victim #{count}") }
      sleep(rand * time * 1.5)
      victim.kill.join
      expect(echo("next #{count}")).to eq("next #{count}")
      victim.value.nil?
    end
    connection = client.instance_variable_get(:@connection_pool).connections.first
    leases = Array.new(64) { connection.lease(5) }
    leases.each { |lease| connection.release(lease) }
  end

  it "in the middle of a big submission: the next call is right" do
    slow = scripted_server do |peer|
      loop do
        peer.accept_job("H:1")
        peer.reply(:work_complete, "H:1", "right")
      end
    end
    other = remember(Gearman::Client.new(slow.address), :close)
    20.times do
      interrupted = Thread.new { other.do_task(Gearman::Task.new("f", "x" * 5_000_000)) }
      interrupted.report_on_exception = false
      sleep(rand * 0.01)
      interrupted.raise(interruption)
      begin
        interrupted.value
      rescue interruption
        nil
      end
    end
    expect(other.do_task(Gearman::Task.new("f"), JobServers::PATIENCE)).to eq("right")
  end

  it "while it connects" do
    full = Socket.new(:INET, :STREAM)
    full.bind(Addrinfo.tcp("127.0.0.1", 0))
    full.listen(0)
    others = Array.new(8) do
      Socket.new(:INET, :STREAM).tap { |other| other.connect_nonblock(full.local_address, exception: false) }
    end
    port = full.local_address.ip_port
    other = remember(Gearman::Client.new("127.0.0.1:#{port}"), :close)
    other.instance_variable_get(:@connection_pool).connections.first.connect_timeout = 600
    connecting = Thread.new { echo("x", by: other) }
    connecting.report_on_exception = false
    eventually("a thread that waits") { connecting.status == "sleep" }
    connecting.raise(interruption)
    expect { connecting.value }.to raise_error(interruption)
    [full, *others].each(&:close)
    scripted_server(port: port) do |peer|
      peer.accept_job("H:1")
      peer.reply(:work_complete, "H:1", "next")
    end
    expect(echo("next", by: other)).to eq("next")
  end

  it "while it waits for a socket" do
    connection = client.instance_variable_get(:@connection_pool).get_connection
    leases = Array.new(64) { connection.lease }
    waiting = Thread.new { echo("waiting") }
    waiting.report_on_exception = false
    eventually("a thread that waits") { waiting.status == "sleep" }
    waiting.raise(interruption)
    expect { waiting.value }.to raise_error(interruption)
    leases.each { |lease| connection.release(lease) }
    expect(echo("next")).to eq("next")
  end

  it "by a signal", :process do
    echo("before")
    parent = in_child do
      main = Thread.current
      trap("INT", "DEFAULT")
      interrupting = Thread.new do
        eventually("a thread that waits") { main.status == "sleep" }
        Process.kill("INT", Process.pid)
      end
      begin
        client.do_task(Gearman::Task.new("nobody does this"))
      rescue Interrupt
        interrupting.join
        [:interrupted, echo("behind")]
      end
    end
    expect(parent).to eq([:interrupted, "behind"])
  end

  it "by many signals, with no other thread: each is handled, and every call gets its answer", :process do
    handled, threads, right = in_child do
      handled = calls = 0
      trap("USR1") { handled += 1 }
      sender = spawn("while kill -USR1 #{Process.pid}; do sleep 0.003; done")
      calls += 1 while handled < 100 && echo(calls.to_s) == calls.to_s
      [handled, Thread.list.size, echo("behind")]
    ensure
      Process.kill("KILL", sender) if sender
    end
    expect([handled, threads, right]).to match([be >= 100, 1, "behind"])
  end

  it "by IO#close of its socket" do
    connection = client.instance_variable_get(:@connection_pool).get_connection
    socket = connection.socket
    waiting = Thread.new { connection.read_response }
    waiting.report_on_exception = false
    eventually("a thread that waits") { waiting.status == "sleep" }
    socket.close
    expect { waiting.value }.to raise_error(Gearman::NetworkError, /\A#{server.address}: /)
    expect(echo("next")).to eq("next")
  end
end

RSpec.describe "an interrupted client of a server that is frozen", :quiet, :worker do
  interruption = Class.new(StandardError)

  let(:server) { start_gearmand }
  let(:client) { remember(Gearman::Client.new(server.address), :close) }

  before { run_worker(server, "echo" => ->(data, _job) { data }) }

  def echo(text)
    client.do_task(Gearman::Task.new("echo", text, coalesce: false), JobServers::PATIENCE)
  end

  pool_of = ->(client) { client.instance_variable_get(:@connection_pool) }
  {
    "a background submission" => ->(client) { client.do_task(Gearman::BackgroundTask.new("f")) },
    "a bulk submission" => ->(client) { client.submit_all(Array.new(3) { Gearman::BackgroundTask.new("f") }) },
    "a set" => lambda do |client|
      set = Gearman::TaskSet.new(client)
      3.times { |number| set.add_task(Gearman::Task.new("f", number.to_s)) }
      set.wait_forever
    end,
    "set_options" => ->(client) { client.set_options("exceptions") },
    "job_status" => ->(client) { client.job_status("H:1") },
    "ping" => lambda(&:ping),
    "send_request" => lambda do |client|
      pool_of[client].connections.first.send_request(Gearman::Packet.encode(:echo_req, ""))
    end,
    "read_response" => ->(client) { pool_of[client].connections.first.read_response },
    "timed_recv" => ->(client) { pool_of[client].connections.first.then { |one| one.timed_recv(one.socket, 1) } },
    "poll_connections" => ->(client) { pool_of[client].poll_connections }
  }.each do |what, call|
    it "struck in #{what}, goes on behind it" do
      expect(echo("before")).to eq("before")
      server.signal("STOP")
      waiting = Thread.new { call.call(client) }
      waiting.report_on_exception = false
      eventually("a thread that waits") { waiting.status == "sleep" }
      waiting.raise(interruption)
      expect { waiting.join(JobServers::PATIENCE)&.value }.to raise_error(interruption)
      server.signal("CONT")
      expect(echo("behind")).to eq("behind")
    end
  end
end
