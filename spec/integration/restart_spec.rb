# frozen_string_literal: true

# Job servers that come and go under a worker.
RSpec.describe Gearman::Worker, :process, :worker do
  let(:job_server) { start_gearmand }
  let(:other_server) { start_gearmand }

  # New, as a client's connection does not outlive its server.
  def run_job(function, data, server: job_server)
    WorkerSide::WireClient.new(wire(server)).run(function, data)
  end

  describe "one server" do
    it "killed and started again finds a waiting worker within 2 s" do
      worker = run_worker(job_server, { "f" => ->(data, _) { data } }, client_id: "the one").waiting
      job_server.kill
      sleep 1.5 # tries of a server that is down grow rarer
      job_server.start
      took = seconds { expect(run_job("f", "back")).to eq([:work_complete, "back"]) }
      expect(took).to be < 2
      expect(job_server.admin("workers")).to match(/ the one : f$/)
      expect(worker).not_to be_ended
    end

    it "is waited for by a worker that is there first" do
      port = JobServers.free_port
      worker = run_worker("127.0.0.1:#{port}", "f" => ->(data, _) { data })
      worker.worker.add_ability("g") { "g" }
      worker.waiting
      server = start_gearmand(port: port)
      expect(run_job("f", "there", server: server)).to eq([:work_complete, "there"])
      expect(run_job("g", "", server: server)).to eq([:work_complete, "g"])
    end

    it "that is down costs little while it is waited for" do
      address = "127.0.0.1:#{JobServers.free_port}"
      child = start_process do |out|
        worker = described_class.new(address)
        worker.add_ability("f") { |data| data }
        Thread.new do
          before = Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID)
          sleep 2
          out.puts Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID) - before
        end
        worker.work
      end
      expect(Float(child.line)).to be < 0.4
    end

    it "that drops every connection is not tried all the time" do
      listener = TCPServer.new("127.0.0.1", JobServers.free_port)
      dropped = 0
      dropping = Thread.new do
        loop do
          listener.accept.close
          dropped += 1
        end
      end
      worker = new_worker("127.0.0.1:#{listener.local_address.ip_port}")
      run(worker)
      sleep 1.5
      expect(dropped).to be_between(2, 20)
    ensure
      dropping.kill.join
      listener.close
    end

    it "lost under a job takes its result with it; the job is not answered on the new connection" do
      go_on = Queue.new
      ran = Queue.new
      worker = run_worker(job_server, "f" => ->(data, _) { (ran << data) && go_on.pop })
      client.submit("f", "first")
      eventually("the job") { ran.size == 1 }
      job_server.restart
      go_on << "late"
      registered("f")
      wire_client = WorkerSide::WireClient.new(wire)
      handle = wire_client.submit("f", "second")
      go_on << "in time"
      expect(wire_client.packets_of(handle)).to eq([[:work_complete, "in time"]])
      expect(worker).not_to be_ended
      expect(logged(:error)).to eq([])
      expect(logged(:warn).grep(/the result of f H:/).size).to eq(1)
    end

    it "that keeps its queue has a worker finish it behind a restart, with the job that was lost under it run again" do
      queue = File.join(Dir.mktmpdir.tap { |folder| remember(-> { FileUtils.rm_rf(folder) }, :call) }, "queue")
      keeping = start_gearmand("--queue-type=libsqlite3", "--libsqlite3-db=#{queue}")
      submitting = remember(Gearman::Client.new(keeping.address), :close)
      submitting.submit_all(Array.new(20) { |number| Gearman::BackgroundTask.new("f", number.to_s) })
      ran = Queue.new
      go_on = Queue.new
      run_worker(keeping, "f" => ->(data, _) { (ran << data) && go_on.pop && data })
      first = ran.pop
      keeping.restart
      21.times { go_on << true }
      eventually("all jobs") { keeping.admin("status").match?(/^f\t0\t0\t1$/) }
      expect(Array.new(ran.size) { ran.pop }).to match_array(Array.new(20, &:to_s))
      expect(first).to eq("0")
    end

    it "that restarts while a job reports leaves no worker without functions" do
      stop = Queue.new
      running = Queue.new
      run_worker(job_server, "busy" => lambda { |_, job|
        running << true
        job.report_status(1, 2) && sleep(0.01) while stop.empty?
      }, "f" => ->(data, _) { data })
      client.submit("busy")
      running.pop
      job_server.restart
      registered("f")
      expect(run_job("f", "x")).to eq([:work_complete, "x"])
      expect(workers_for("busy")).to eq(1)
      expect(logged(:error).join).to include("busy", "NetworkError")
    ensure
      stop << true
    end
  end

  describe "two servers" do
    let!(:servers) { [job_server, other_server] }

    it "are both served, at once" do
      run_worker(servers, "f" => ->(data, _) { data }).waiting
      servers.each { |server| registered("f", server: server) }
      took = seconds do
        5.times { |number| expect(client(other_server).run("f", number)).to eq([:work_complete, number.to_s]) }
        5.times { |number| expect(client(job_server).run("f", number)).to eq([:work_complete, number.to_s]) }
      end
      # A worker that heard of jobs only when it asks again would take a second for each.
      expect(took).to be < 4
    end

    it "are served in turn: a job does not wait for hundreds of the other server" do
      servers.permutation.each_with_index do |(full, short), round|
        order = Queue.new
        client(full).submit_all("f#{round}", ["full"] * 300)
        client(short).submit_all("f#{round}", ["short"] * 3)
        worker = run_worker(servers, "f#{round}" => ->(data, _) { order << data })
        eventually("all jobs") { order.size == 303 }
        ran = Array.new(303) { order.pop }
        expect(ran.index("short")).to be <= 100
        expect(ran.rindex("full")).to be > 100
        worker.stop
        worker.worker.close
      end
    end

    it "are served in turn: a job that comes meanwhile does not wait for hundreds of the other server" do
      order = Queue.new
      client(job_server).submit_all("f", ["full"] * 1000)
      small = client(other_server)
      run_worker(servers, "f" => lambda { |data, _|
        small.submit_all("f", ["short"]) if order.size == 200
        order << data
      })
      eventually("all jobs") { order.size == 1001 }
      ran = Array.new(1001) { order.pop }
      expect(ran.index("short")).to be_between(200, 600)
    end

    it "are served in turn: slow jobs of one do not keep those of the other" do
      order = Queue.new
      client(job_server).submit_all("f", ["slow"] * 20)
      client(other_server).submit_all("f", ["quick"] * 5)
      run_worker(servers, "f" => lambda { |data, _|
        sleep 0.06 if data == "slow"
        order << data
      })
      eventually("the quick jobs") { order.size == 25 }
      ran = Array.new(25) { order.pop }
      expect(ran.index("quick")).to be <= 5 # 100 ms and the job that was running
    end

    it "do without each other: one is killed, the other is served, and the first again when it is back" do
      worker = run_worker(servers, "f" => ->(data, _) { data }).waiting
      servers.each do |server|
        other = (servers - [server]).first
        server.kill
        5.times { |number| expect(run_job("f", number, server: other)).to eq([:work_complete, number.to_s]) }
        server.start
        expect(run_job("f", "back", server: server)).to eq([:work_complete, "back"])
      end
      expect(worker).not_to be_ended
    end

    it "do without one that was never there" do
      run_worker(["127.0.0.1:#{JobServers.free_port}", job_server], "f" => ->(data, _) { data })
      took = seconds { 5.times { |number| expect(client.run("f", number)).to eq([:work_complete, number.to_s]) } }
      expect(took).to be < 4
    end

    it "do without one that hangs, and it is served again when it goes on" do
      worker = run_worker(servers, { "f" => ->(data, _) { data } }, network_timeout_sec: 0.3).waiting
      servers.each { |server| registered("f", server: server) }
      Process.kill("STOP", job_server.pid)
      took = seconds do
        eventually("the loss of the server that hangs") { log.string.include?(job_server.address) }
        3.times { |number| expect(client(other_server).run("f", number)).to eq([:work_complete, number.to_s]) }
      end
      expect(took).to be < 15
      expect(worker).not_to be_ended
      Process.kill("CONT", job_server.pid)
      expect(run_job("f", "goes on")).to eq([:work_complete, "goes on"])
    ensure
      Process.kill("CONT", job_server.pid)
    end
  end
end
