# frozen_string_literal: true

# Moments that a storm meets now and then, one by one.
JobServers.describe "a client that is interrupted, closed or busy", :quiet do
  interruption = Class.new(StandardError)

  let(:server) { job_server }
  let(:client) { remember(Gearman::Client.new(server.address), :close) }
  let(:connection) { client.instance_variable_get(:@connection_pool).connections.first }
  let(:ran) { Queue.new }

  def echo(text)
    client.do_task(Gearman::Task.new("echo", text, coalesce: false), JobServers::PATIENCE)
  end

  def waiting(thread)
    thread.report_on_exception = false
    eventually("a thread that waits") { thread.status == "sleep" }
    thread
  end

  # Runs the block, with other code run where the library returns from a method or a block for the `number`th time:
  # there Ruby looks for interrupts and may go over to another thread. Returns how often it came to such a place.
  def at_return(number, other, *events)
    library = File.expand_path("../../lib/gearman", __dir__)
    thread = Thread.current
    returns = 0
    trace = TracePoint.new(:return, :b_return, *events) do |point|
      next unless Thread.current == thread && point.path.start_with?(library)

      other.call if (returns += 1) == number
    end
    trace.enable { yield }
    returns
  end

  # Raises there. Returns whether it came so far.
  def interrupt_at(number, interruption, *events, &block)
    at_return(number, -> { raise interruption }, *events, &block)
    false
  rescue interruption
    true
  end

  [1, 3].each do |count|
    it "ends each task of a set of #{count} once, wherever an interrupt ends the first wait" do
      start_worker(server, "f" => ->(data, _job) { (ran << data) && data })
      ended = Hash.new(0)
      interrupted = (1..).each do |number|
        set = Gearman::TaskSet.new(client)
        count.times do |index|
          task = Gearman::Task.new("f", "#{number}-#{index}", coalesce: false)
          task.on_complete { |data| ended[data] += 1 }
          set.add_task(task)
        end
        break number - 1 unless interrupt_at(number, interruption) { set.wait(JobServers::PATIENCE) }

        expect(set.wait(JobServers::PATIENCE)).to be(true)
      end
      expect(interrupted).to be > (count == 1 ? 0 : 10) # a task that runs alone has few methods written in Ruby
      expect(ended.size).to eq(count * (interrupted + 1))
      expect(ended.values.uniq).to eq([1])
      expect(ran.size).to eq(ended.size)
    end
  end

  it "ends a task that runs alone once, whenever an interrupt ends the first wait" do
    start_worker(server, "f" => ->(data, _job) { (ran << data) && data })
    quick = seconds { 20.times { client.do_task(Gearman::Task.new("f", "0", coalesce: false)) } } / 10
    ended = Hash.new(0)
    interrupted = 0
    tried = 0
    until interrupted >= 100 || tried >= 2000
      set = Gearman::TaskSet.new(client)
      task = Gearman::Task.new("f", (tried += 1).to_s, coalesce: false)
      task.on_complete { |data| ended[data] += 1 }
      set.add_task(task)
      waiting = Thread.new { set.wait(JobServers::PATIENCE) }
      waiting.report_on_exception = false
      sleep(rand * quick)
      waiting.raise(interruption)
      begin
        waiting.join
      rescue interruption
        interrupted += 1 unless ended.key?(tried.to_s)
      end
      expect(set.wait(JobServers::PATIENCE)).to be(true)
    end
    expect(interrupted).to be >= 100
    expect(ended.values.uniq).to eq([1])
    expect(ended.size).to be > tried * 0.98 # an interrupt may still take the place of a callback
    expect(ran.size).to eq(tried + 20)
  end

  it "loses one callback at most where an interrupt comes as a method written in C returns" do
    start_worker(server, "f" => ->(data, _job) { data })
    interrupted = (1..).each do |number|
      set = Gearman::TaskSet.new(client)
      ended = Hash.new(0)
      10.times do |index|
        task = Gearman::Task.new("f", "#{number}-#{index}", coalesce: false)
        task.on_complete { |data| ended[data] += 1 }
        set.add_task(task)
      end
      break number - 1 unless interrupt_at(number, interruption, :c_return) { set.wait(JobServers::PATIENCE) }

      expect(set.wait(JobServers::PATIENCE)).to be(true)
      expect(ended.size).to be >= 9
      expect(ended.values.uniq).to eq([1])
    end
    expect(interrupted).to be > 50
  end

  it "is closed by another thread in the moment when a result comes: the call returns it" do
    gate = Queue.new
    start_worker(server, "gate" => ->(data, _job) { gate.pop && data }, "echo" => ->(data, _job) { data })
    calling = waiting(Thread.new { client.do_task(Gearman::Task.new("gate", "result"), JobServers::PATIENCE) })
    connection.__send__(:channels).clear # as close does, before it closes them
    Array.new(2) { connection.lease }.each { |channel| connection.release(channel) }
    gate << true
    expect(calling.value).to eq("result")
    expect(echo("next")).to eq("next")
  end

  it "keeps no socket taken when the interrupt comes while it is given back" do
    socket = Class.new(SimpleDelegator) do
      define_method(:to_io) { __getobj__ }
      define_method(:close) { __getobj__.close || Thread.current.raise(interruption) }
    end
    allow(connection).to(receive(:connect).and_wrap_original { |original, timeout| socket.new(original.call(timeout)) })
    channel = connection.lease
    channel.queue(Gearman::Packet.encode(:option_req, "exceptions")) # unsent: it is closed when it is given back
    expect { connection.release(channel) }.to raise_error(interruption)
    allow(connection).to receive(:connect).and_call_original
    leases = Array.new(Gearman::Connection::MAX_CHANNELS) { connection.lease(Gearman::Connection::LINE_PATIENCE / 2) }
    leases.each { |lease| connection.release(lease) }
  end

  # Calls the block again and again, with other code run at the first, the second, ... such place in it. Returns how
  # many there are.
  def in_between(other, &block)
    (1..).each { |number| return number - 1 if at_return(number, other, :c_return, &block) < number }
  end

  it "closes what other threads open while it closes, then or the next time" do
    channels = []
    connection.lease
    open = -> { channels << connection.lease }
    expect(in_between(open) { connection.close_socket }).to be > 5
    connection.close_socket
    expect(channels.count(&:usable?)).to eq(0)
  end

  it "gives each of two threads its own answer, wherever the second begins while the first does" do
    held = first_came = nil
    server = scripted_server do |peer|
      while (_, text = peer.any_request)
        next held = peer unless first_came || text == "first"

        first_came = true
        held = held&.reply(:echo_res, "second") && nil
        peer.reply(:echo_res, text)
      end
    end
    connection = remember(Gearman::Connection.new("127.0.0.1", server.port), :close_socket)
    ask = ->(text) { connection.send_request(Gearman::Packet.encode(:echo_req, text), 5) }
    connection.socket
    second = nil
    other = lambda do
      second = Thread.new { ask.call("second") }
      eventually("its request") { held || first_came }
    end
    points = in_between(other) do
      second = nil
      first_came = false
      expect(ask.call("first")).to eq([:echo_res, "first"])
      expect(second.value).to eq([:echo_res, "second"]) if second
    end
    expect(points).to be > 5
  end

  it "raises nothing but errors of the library while another thread closes its sockets" do
    request = Gearman::Packet.encode(:echo_req, "x")
    errors = Queue.new
    threads = Array.new(4) do
      Thread.new do
        500.times do
          connection.send_request(request, JobServers::PATIENCE)
        rescue StandardError => e
          errors << e
        end
      end
    end
    connection.close_socket && sleep(0.0005) while threads.any?(&:alive?)
    others = Array.new(errors.size) { errors.pop }.reject do |error|
      [Gearman::NetworkError, Gearman::ServerDownException].include?(error.class)
    end
    expect(others.map { |error| [error, error.backtrace.first(8)] }).to eq([])
  end

  it "tells a thread that waits for several servers at once when it is closed" do
    servers = [server, start_job_server]
    client = remember(Gearman::Client.new(servers.map(&:address)), :close)
    set = Gearman::TaskSet.new(client)
    10.times { |number| set.add_task(Gearman::Task.new("undone", number.to_s)) }
    calling = Thread.new { set.wait(JobServers::PATIENCE) }
    eventually("ten jobs") { servers.sum { |one| one.admin("status")[/^undone\t(\d+)/, 1].to_i } == 10 }
    waiting(calling)
    start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    client.close
    expect { calling.value }.to raise_error(Gearman::NetworkError) { |error| expect(error.tasks.size).to eq(10) }
    expect(Process.clock_gettime(Process::CLOCK_MONOTONIC) - start).to be < 5 # it would look after the server behind 10
  end

  describe "with all sockets in use" do
    let!(:leases) { Array.new(Gearman::Connection::MAX_CHANNELS) { connection.lease } }

    # A thread that runs the block, once so many wait for a socket.
    def in_line(count, &block)
      thread = Thread.new(&block)
      eventually("#{count} in line") { connection.__send__(:waiting)&.size == count }
      thread
    end

    it "serves those first who wait for the longest time" do
      served = Queue.new
      threads = Array.new(5) do |number|
        in_line(number + 1) do
          channel = connection.lease
          served << number
          sleep 0.01
          connection.release(channel)
        end
      end
      connection.release(leases.pop)
      threads.each { |thread| thread.join(JobServers::PATIENCE) }
      expect(Array.new(served.size) { served.pop }).to eq([0, 1, 2, 3, 4])
    end

    it "does not give a socket back to who had it before those who wait for it" do
      served = false
      other = in_line(1) { connection.release(connection.lease.tap { served = true }) }
      channel = leases.pop
      rounds = (1..1000).find do
        connection.release(channel)
        channel = connection.lease
        served
      end
      other.join(JobServers::PATIENCE)
      expect(rounds).to be_between(1, 100)
    end

    it "opens one more for whoever has waited for long, who may be the one that the others wait for" do
      stub_const("Gearman::Connection::LINE_PATIENCE", 0.2)
      start_worker(server, "data" => ->(data, job) { job.send_data(data) && data }, "echo" => ->(data, _job) { data })
      leases.pop(3).each { |lease| connection.release(lease) }
      inside = Queue.new
      results = Array.new(3) do |number|
        Thread.new do
          task = Gearman::Task.new("data", number.to_s, coalesce: false)
          inner = nil
          task.on_data do
            inside << true
            eventually("all sockets in use") { inside.size == 3 }
            inner = echo("inner #{number}")
          end
          [client.do_task(task, JobServers::PATIENCE), inner]
        end
      end.map(&:value)
      expect(results).to eq(Array.new(3) { |number| [number.to_s, "inner #{number}"] })
    end

    it "closes those beyond the maximum when they are given back" do
      stub_const("Gearman::Connection::LINE_PATIENCE", 0.2)
      more = Array.new(5) { Thread.new { connection.lease } }.map(&:value)
      channels = connection.__send__(:channels)
      expect(channels.size).to eq(Gearman::Connection::MAX_CHANNELS + 5)
      (more + leases).each { |lease| connection.release(lease) }
      expect(channels.size).to eq(Gearman::Connection::MAX_CHANNELS)
      expect(more.map(&:usable?)).to all(be(false))
      expect(leases.map(&:usable?)).to all(be(true))
    end

    it "does not take the server for dead" do
      start_worker(server, "echo" => ->(data, _job) { data })
      allow(connection).to(receive(:exchange).and_wrap_original { |original, bytes, _| original.call(bytes, 0.05) })
      expect(client.ping.values).to all(be_a(Float))
      leases.each { |lease| connection.release(lease) }
      expect(echo("next")).to eq("next")
    end
  end

  it "waits on when a scheduler wakes its fiber too early" do
    hasty = Class.new(GateScheduler) do
      def io_wait(io, events, timeout = nil)
        (@hasty = !@hasty) ? false : super
      end
    end
    servers = Array.new(2) do
      scripted_server do |peer|
        (1..).each do |number|
          data = peer.accept_job("H:#{number}").last
          sleep 0.05
          peer.reply(:work_complete, "H:#{number}", data)
        end
      end
    end
    client = remember(Gearman::Client.new(servers.map(&:address)), :close)
    leases = client.instance_variable_get(:@connection_pool).connections.map { |one| Array.new(4) { one.lease } }
    leases.zip(client.instance_variable_get(:@connection_pool).connections) do |channels, one|
      channels.each { |channel| one.release(channel) } # they are connected: Ruby itself does not wait on there
    end
    results = []
    hasty.run do
      Fiber.schedule { results << client.do_task(Gearman::Task.new("f", "alone"), JobServers::PATIENCE) }
      Fiber.schedule { results << client.do_task(Gearman::BackgroundTask.new("f")) }
      Fiber.schedule do
        set = Gearman::TaskSet.new(client)
        10.times { |number| set.add_task(Gearman::Task.new("f", number.to_s)) }
        results << set.wait(JobServers::PATIENCE)
      end
    end
    expect(results).to contain_exactly("alone", nil, true)
  end
end
