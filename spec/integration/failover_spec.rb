# frozen_string_literal: true

# Several servers, some of which die, come back, move or never were there.
JobServers.describe "failover", :process, :quiet do
  def client_of(*addresses)
    remember(Gearman::Client.new(addresses), :close)
  end

  def connections(client)
    client.instance_variable_get(:@connection_pool).connections
  end

  # The server that a task goes to while all are up.
  def home_of(client, task)
    client.instance_variable_get(:@connection_pool).get_connection(task.get_uniq_hash).to_host_port
  end

  # Tasks with different arguments that go to a server while all are up.
  def tasks_for(server, client, function, count, size: 0)
    tasks = (0..).lazy.map { |number| Gearman::Task.new(function, number.to_s.ljust(size, "."), uniq: "#{size} #{number}") }
    tasks.select { |task| home_of(client, task) == server.address }.first(count)
  end

  def echo(client, text)
    client.do_task(Gearman::Task.new("echo", text, coalesce: false), JobServers::PATIENCE)
  end

  def start_echo(server)
    start_worker(server, "echo" => ->(data, _job) { data })
  end

  describe "of servers that die in the middle of a set" do
    let(:servers) { Array.new(3) { start_job_server } }
    let(:client) { client_of(*servers.map(&:address)) }
    let(:results) { {} }

    def set_of(tasks)
      Gearman::TaskSet.new(client).tap do |set|
        tasks.each do |task|
          task.on_complete { |data| results[task] = data }
          set.add_task(task)
        end
      end
    end

    it "collects what the others owe, and names those in doubt that had not ended" do
      gate = Queue.new
      servers.each { |server| start_worker(server, "f" => ->(data, _job) { gate.pop && data }) }
      by_server = servers.map { |server| tasks_for(server, client, "f", 10) }
      set = set_of(by_server.flatten)
      6.times { gate << true }
      eventually("six results") { set.wait(0.05) || results.size == 6 }
      ended = results.keys
      servers.first(2).each(&:kill)
      40.times { gate << true } # the workers of the dead are given some too
      in_doubt = by_server.first(2).flatten - ended
      expect { set.wait(JobServers::PATIENCE) }.to raise_error(Gearman::NetworkError) { |error|
        expect(error.tasks).to match_array(in_doubt)
        servers.first(2).each { |server| expect(error.message).to include(server.address) }
      }
      expect(results.keys).to match_array(ended + (by_server.last - ended))
      expect(results).to all(satisfy { |task, data| task.arg == data })
      expect(set.size).to eq(0)
      expect(set.wait(0)).to be(true)
    end

    it "sends what has not been sent to another" do
      servers[0] = slow = start_gearmand # which can be stopped in a process of its own
      others = servers.drop(1)
      others.each { |server| start_echo(server) }
      tasks = tasks_for(slow, client, "echo", 1_500, size: 20_000)
      set = set_of(tasks)
      flight = nil
      allow(Gearman::TaskLoop).to(receive(:new).and_wrap_original { |original, *given| flight = original.call(*given) })
      Process.kill(:STOP, slow.pid) # it takes what fits into the buffers of its sockets
      expect(set.wait(0.3)).to be(false)
      unsent = flight.unsent / 20_100 # whole tasks
      submitted = flight.open
      expect(unsent).to be >= 2
      slow.kill
      in_doubt = nil
      expect { set.wait(JobServers::PATIENCE) }.to raise_error(Gearman::NetworkError) { |error| in_doubt = error.tasks }
      expect(in_doubt.size).to be_between(1, submitted - unsent)
      expect(in_doubt).to eq(tasks.first(in_doubt.size)) # those that went out first
      expect(results.keys).to match_array(tasks - in_doubt)
      expect(results).to all(satisfy { |task, data| task.arg == data })
    end

    it "leaves the set to whoever comes back when all are dead before anything was sent" do
      servers.each(&:kill)
      set = set_of(tasks = Array.new(5) { |number| Gearman::Task.new("echo", number.to_s) })
      expect { set.wait(JobServers::PATIENCE) }.to raise_error(Gearman::NoJobServersError, /#{servers.last.address}/)
      expect(set.size).to eq(5)
      servers.last.start
      start_echo(servers.last)
      expect(set.wait(JobServers::PATIENCE)).to be(true)
      expect(results.keys).to match_array(tasks)
    end
  end

  describe "of a server that is dead from the start" do
    let(:live) { start_job_server.tap { |server| start_echo(server) } }

    it "costs one connect time-out, not one for each call" do
      client = client_of(silent_server, live.address)
      dead = connections(client).first
      dead.connect_timeout = 0.5
      tried = 0
      allow(dead).to(receive(:connect).and_wrap_original { |original, timeout| (tried += 1) && original.call(timeout) })
      time = seconds { 100.times { |number| expect(echo(client, number.to_s)).to eq(number.to_s) } }
      expect(tried).to be_between(1, 1 + (time / 0.75)) # behind 0.75 s at the earliest it is due again
      expect(time).to be_between(0.5, 10)
    end

    it "costs a caller no more than the caller has" do
      client = client_of(silent_server)
      task = Gearman::Task.new("f")
      expect(seconds { expect(client.do_task(task, 0.2)).to be_nil }).to be_between(0.15, 2)
      set = Gearman::TaskSet.new(client)
      set.add_task(task)
      expect(seconds { expect(set.wait(0.2)).to be(false) }).to be_between(0.15, 2)
      expect(connections(client).first).to be_due # nobody had the time to find out about it
    end

    it "leaves a caller with little time some for the others" do
      client = client_of(silent_server, live.address)
      tasks = Array.new(6) { |number| Gearman::Task.new("echo", number.to_s) }
      expect(tasks.map { |task| client.do_task(task, 1) }).to eq(tasks.map(&:arg))
    end

    it "costs nothing when it is due again and still silent" do
      client = client_of(silent_server, live.address)
      dead = connections(client).first
      dead.connect_timeout = 0.3
      20.times { |number| echo(client, number.to_s) }
      expect(dead.reason).to match(/timed out/)
      eventually("the next try") { dead.due? }
      dead.connect_timeout = 3
      expect(seconds { 20.times { |number| echo(client, number.to_s) } }).to be < 1
    end

    it "has no thread that looks whether it is back" do
      client = client_of(live.address, "127.0.0.1:#{JobServers.free_port}")
      threads = Thread.list
      20.times { |number| expect(echo(client, number.to_s)).to eq(number.to_s) }
      expect(connections(client).last.reason).to match(/refused/)
      expect(Thread.list - threads).to eq([])
    end

    it "is used again when it is back" do
      client = client_of(live.address, start_job_server.tap { |server| start_echo(server) }.address)
      silent = connections(client).first
      echo(client, "first")
      silent.failed(false)
      expect(silent.__send__(:known)).to be(false)
      eventually("its use") { echo(client, rand.to_s) && silent.__send__(:known) }
    end

    it "costs each of many threads one connect time-out at most" do
      client = client_of(silent_server, live.address)
      connections(client).first.connect_timeout = 1
      times = Array.new(10) { |thread| Thread.new { seconds { echo(client, "thread #{thread}") } } }.map(&:value)
      expect(times).to all(be < 5)
      expect(connections(client).first.retry_in).to be < 2.6 # that all have found out counts once
    end

    it "is tried again ever more rarely, and not by all at once" do
      connection = Gearman::Connection.new("127.0.0.1", 1)
      { true => [0.05, 1], false => [1, 30] }.each do |refused, (first, limit)|
        connection.instance_variable_set(:@failures, 0)
        delays = Array.new(12) { connection.failed(refused) }
        middles = delays.each_index.map { |index| [first * (2**index), limit].min }
        expect(delays.zip(middles)).to all(satisfy { |delay, middle| delay.between?(middle * 0.75, middle * 1.25) })
        expect(delays.last(4).uniq.size).to eq(4)
        expect(connection.retry_in).to be_within(1).of(delays.last)
      end
    end

    it "gets its share once it is there" do
      port = JobServers.free_port
      client = client_of("127.0.0.1:#{port}", live.address)
      5.times { |number| expect(echo(client, number.to_s)).to eq(number.to_s) }
      late = start_job_server(port: port)
      eventually("a job for the server that came late") do
        20.times { client.do_task(Gearman::BackgroundTask.new("keep", "", coalesce: false)) }
        late.admin("status").include?("keep")
      end
    end
  end

  describe "of a server that goes while nobody talks to it" do
    # A socket that was used just now is not looked at.
    let(:unused) { 1.1 }

    it "is no error when it is back: all calls go out on new connections" do
      server = start_job_server
      start_echo(server)
      client = client_of(server.address)
      Array.new(5) { |number| Thread.new { echo(client, number.to_s) } }.each(&:join)
      server.restart
      sleep unused
      answers = Array.new(10) { |number| Thread.new { echo(client, number.to_s) } }
      expect(client.do_task(Gearman::BackgroundTask.new("keep"))).to be_nil
      expect(client.ping.values).to all(be_a(Float))
      expect(answers.map(&:value)).to eq(Array.new(10, &:to_s))
    end

    it "is no error when it stays away: its tasks go to the next server" do
      servers = Array.new(2) { start_job_server }
      servers.each { |server| start_echo(server) }
      client = client_of(*servers.map(&:address))
      tasks = -> { servers.flat_map { |server| tasks_for(server, client, "echo", 3) } }
      first = tasks.call
      expect(first.map { |task| client.do_task(task, JobServers::PATIENCE) }).to eq(first.map(&:arg))
      again = tasks.call
      servers.first.kill
      sleep unused
      expect(again.map { |task| client.do_task(task, JobServers::PATIENCE) }).to eq(again.map(&:arg))
    end
  end

  describe "of name servers that do not answer" do
    before do
      allow(Addrinfo).to receive(:getaddrinfo).and_call_original
      allow(Addrinfo).to receive(:getaddrinfo).with("jobs.example", any_args) { sleep }
    end

    let(:client) { client_of("jobs.example") }

    it "costs the connect time-out" do
      connections(client).first.connect_timeout = 0.3
      took = seconds do
        expect { client.do_task(Gearman::Task.new("f")) }
          .to raise_error(Gearman::NoJobServersError, /jobs.example:4730 .*the name servers do not answer/)
      end
      expect(took).to be_between(0.25, 2)
    end

    it "costs a caller no more than the caller has" do
      expect(seconds { expect(client.do_task(Gearman::Task.new("f"), 0.2)).to be_nil }).to be_between(0.15, 2)
    end

    it "costs the other servers nothing but that" do
      live = start_job_server.tap { |server| start_echo(server) }
      client = Gearman::Client.new(["jobs.example", live.address], connect_timeout: 0.3)
      expect(seconds { 20.times { |number| echo(client, number.to_s) } }).to be < 2
    end
  end

  it "finds a server that has moved to another address behind the same name" do
    servers = Array.new(2) { start_job_server }
    servers.each_with_index { |server, index| start_worker(server, "where" => ->(*) { index.to_s }) }
    moved = false
    allow(Addrinfo).to receive(:getaddrinfo).and_call_original
    allow(Addrinfo).to receive(:getaddrinfo).with("jobs.example", any_args) do
      [Addrinfo.tcp("127.0.0.1", servers[moved ? 1 : 0].port)]
    end
    client = client_of("jobs.example:4730")
    where = -> { client.do_task(Gearman::Task.new("where"), JobServers::PATIENCE) }
    expect(where.call).to eq("0")
    servers.first.kill
    moved = true
    sleep 1.1 # a socket that was used just now is not looked at
    expect(where.call).to eq("1")
  end

  it "sends equal uniques to one server that lives, where they coalesce" do
    servers = Array.new(3) { start_job_server }
    clients = Array.new(2) { client_of(*servers.map(&:address)) }
    queued = ->(server) { server.admin("status")[/^f\t(\d+)/, 1].to_i }
    submit = lambda do
      clients.each do |client|
        30.times { |number| client.do_task(Gearman::BackgroundTask.new("f", "", uniq: number.to_s)) }
      end
    end
    submit.call
    counts = servers.map(&queued)
    expect(counts.sum).to eq(30)
    expect(counts).to all(be_positive)
    servers.first.kill
    sleep 1.1 # a socket that was used just now is not looked at
    submit.call
    expect(servers.drop(1).sum(&queued)).to eq(30)
  end
end
