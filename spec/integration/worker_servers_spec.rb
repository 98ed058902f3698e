# frozen_string_literal: true

# A worker with several servers: how it shares itself among them, and what it does while none is there.
RSpec.describe Gearman::Worker, :worker do
  describe "two busy servers" do
    let(:servers) { Array.new(2) { start_gearmand } }

    # How many jobs the servers have given out that were not answered.
    def given_out
      servers.sum { |server| Integer(server.admin("status").lines.first.split("\t")[2]) }
    end

    it "take turns of 16 jobs at most" do
      servers.each { |server| client(server).submit_all("f", Array.new(300, server.address)) }
      order = []
      run_worker(servers, "f" => ->(data, _) { order << data })
      eventually("the jobs") { order.size == 600 }
      both = order.first(order.rindex(order.last == servers[0].address ? servers[1].address : servers[0].address) + 1)
      expect(both.uniq.size).to eq(2)
      expect(both.chunk_while { |one, other| one == other }.map(&:size).max).to be <= 16
    end

    it "together give out no more than the prefetch at once" do
      servers.each { |server| client(server).submit_all("f", Array.new(20, server.address)) }
      go_on = Queue.new
      from = []
      run_worker(servers, { "f" => ->(data, _) { (from << data) && go_on.pop } }, prefetch: 5)
      eventually("jobs ahead") { given_out == 5 }
      30.times do |done|
        eventually("the next job") { from.size > done }
        expect(given_out).to be <= 5
        go_on << true
      end
      expect(from.uniq.size).to eq(2)
      10.times { go_on << true }
      eventually("the jobs") { from.size == 40 }
    end
  end

  [0, 1].each do |busy|
    it "the results of jobs that were fetched ahead from server #{busy} of two leave before the worker stops" do
      servers = Array.new(2) { start_gearmand }
      client(servers[busy]).submit_all("f", Array.new(30, "job"))
      done = 0
      worker = new_worker(servers, { "f" => ->(data, _) { (done += 1) && data } }, prefetch: 10)
      worker.on_grab_job { worker.stop if done == 5 }
      expect(run(worker).outcome).to be(false)
      eventually("the jobs are given back") { servers[busy].admin("status").match?(/^f\t\d+\t0\t0$/) }
      expect(servers[busy].admin("status")).to start_with("f\t#{30 - done}\t0\t0")
    end
  end

  describe "servers that all refuse" do
    let(:servers) { Array.new(4) { |number| "127.77.3.#{number + 1}:#{JobServers.free_port}" } }

    it "are tried about once a second, at times that differ, and otherwise the worker sleeps" do
      waits = 0
      tries = Hash.new { |times, port| times[port] = [] }
      allow(IO).to receive(:select).and_wrap_original do |select, *arguments|
        waits += 1
        select.call(*arguments)
      end
      allow_any_instance_of(Socket).to receive(:connect_nonblock).and_wrap_original do |connect, address, **options|
        tries[address.inspect_sockaddr] << Process.clock_gettime(Process::CLOCK_MONOTONIC)
        connect.call(address, **options)
      end
      run_worker(servers, {}, reconnect_sec: 30).worker.add_ability("f", announce: false) { true }
      sleep 7
      expect(tries.keys).to match_array(servers)
      expect(tries.values.map(&:size)).to all(be_between(5, 15))
      gaps = tries.values.flat_map { |times| times.each_cons(2).map { |before, after| after - before }.last(3) }
      expect(gaps).to all(be_between(0.5, 4))
      expect(gaps.max - gaps.min).to be > 0.15
      expect(waits).to be < 30 * servers.size
    end
  end

  describe "a server that refuses several loops" do
    it "is tried by one of them, and served by all as soon as it is there" do
      server = start_gearmand.tap(&:kill)
      tries = []
      allow_any_instance_of(Socket).to receive(:connect_nonblock).and_wrap_original do |connect, *arguments, **options|
        tries << Process.clock_gettime(Process::CLOCK_MONOTONIC) unless Thread.current == Thread.main
        connect.call(*arguments, **options)
      end
      run_worker(server, {}, concurrency: 5).worker.add_ability("f", announce: false) { |data| data }
      sleep 4
      before = tries.size
      sleep 6
      expect(tries.size - before).to be_between(3, 12)
      server = start_gearmand(port: server.port)
      took = seconds { eventually("all are there") { server.admin("status").start_with?("f\t0\t0\t5") } }
      expect(took).to be < 3
      expect(tries.last(5).max - tries.last(5).min).to be < 0.2
    end

    it "is tried by a loop that is free, whichever runs a job" do
      here = start_gearmand
      down = start_gearmand.tap(&:kill)
      running = Queue.new
      go_on = Queue.new
      worker = new_worker([here, down], {}, concurrency: 2)
      worker.add_ability("f", announce: false) { (running << true) && go_on.pop }
      run(worker)
      eventually("a try") { worker.outages.left_to_another(down.address, nil).positive? }
      client(here).submit_all("f", ["job"])
      pop(running)
      down = start_gearmand(port: down.port)
      client(down).submit_all("f", ["job"])
      expect(seconds { pop(running) }).to be < 4
    ensure
      2.times { go_on << true }
    end
  end

  describe "a server that was silent for long" do
    it "is served within 3 s once it is back" do
      address = silent_server
      worker = new_worker(address, {}, connect_timeout: 0.1)
      worker.add_ability("f", announce: false) { |data| data }
      connection = worker.instance_variable_get(:@connection_pool).connections.first
      50.times { connection.failed(false) }
      run(worker)
      eventually("a try") { log.string.include?("Unable to connect") }
      @started_things.select { |thing| thing.receiver.is_a?(Socket) }.each(&:call)
      server = start_gearmand(port: Integer(address[/\d+\z/]))
      took = seconds { expect(client(server).run("f", "back")).to eq([:work_complete, "back"]) }
      expect(took).to be < 3
    end

    # The third SYN of a try comes within its time-out of 3 s, two seconds behind the second.
    it "is tried again within a second behind each try, at times that differ" do
      worker = new_worker(silent_server)
      connection = worker.instance_variable_get(:@connection_pool).connections.first
      50.times { connection.failed(false) }
      waits = Array.new(20) { worker.instance_variable_get(:@loops).first.__send__(:retry_in, connection) }
      expect(waits).to all(be_between(0.1, 0.9))
      expect(waits.max - waits.min).to be > 0.05
    end
  end
end
