# frozen_string_literal: true

require "async"

RSpec.describe "a client under a Fiber scheduler", :quiet do
  def client_of(*servers)
    remember(Gearman::Client.new(servers.map(&:address)), :close)
  end

  # A server that answers a job only when `count` of them are there.
  def server_for(count)
    jobs = Queue.new
    scripted_server do |peer|
      loop do
        job = peer.accept_job("H:1")
        jobs << [peer, job.last]
        next if jobs.size < count

        Array.new(count) { jobs.pop }.each { |other, data| other.reply(:work_complete, "H:1", data) }
      end
    end
  end

  def echo(client, data)
    client.do_task(Gearman::Task.new("f", data), JobServers::PATIENCE)
  end

  describe "that says when it was asked to wait" do
    # Holds a server back until the scheduler was asked to wait since the last time that something was let through.
    # Says `beside` how often that did not happen.
    let(:gate) do
      Class.new do
        attr_accessor :scheduler
        attr_reader :beside

        def initialize
          @beside = 0
        end

        # From here on only a new wait counts: what is sent next ends the one that there is.
        def shut
          @seen = scheduler.waits
          self
        end

        def await
          JobServers.eventually("a wait of the scheduler", patience: 5) { scheduler.waits > @seen }
        rescue RuntimeError
          @beside += 1
        end
      end.new
    end

    # Makes these calls of a client in a fiber; the first one is not held back, it connects. A receive that blocks
    # would do so for long.
    def run_gated(client, calls)
      results = []
      GateScheduler.run do |scheduler|
        gate.scheduler = scheduler
        calls.each do |call|
          results << call.call(client)
          connection = client.instance_variable_get(:@connection_pool).connections.first
          connection.__send__(:channels).each do |channel|
            channel.io.setsockopt(Socket::SOL_SOCKET, Socket::SO_RCVTIMEO, [30, 0].pack("l!l!"))
          end
        end
      end
      results
    end

    def doing(task, *timeout)
      ->(client) { client.do_task(task, *timeout) }
    end

    it "waits nowhere else for a reply, with a time-out or without" do
      server = scripted_server do |peer|
        (0..).each do |number|
          _, _, _, data = peer.request
          [[:job_created, "H:1"], [:work_data, "H:1", "part"], [:work_complete, "H:1", data]].each do |packet|
            gate.await if number.positive?
            gate.shut
            peer.reply(*packet)
          end
        end
      end
      tasks = Array.new(3) { |index| Gearman::Task.new("f", index.to_s) }
      calls = [*tasks.map { |task| doing(task) }, doing(tasks[0], JobServers::PATIENCE), doing(tasks[1])]
      results = run_gated(client_of(server), calls)
      expect(results).to eq(%w[0 1 2 0 1])
      expect(gate.beside).to eq(0)
    end

    it "waits nowhere else to write" do
      server = scripted_server do |peer|
        2.times do |number|
          gate.await if number.positive?
          peer.request
          gate.shut
          peer.reply(:job_created, "H:1")
        end
      end
      run_gated(client_of(server), ["", "x" * 20_000_000].map { |data| doing(Gearman::BackgroundTask.new("f", data)) })
      expect(gate.beside).to eq(0)
    end

    it "waits nowhere else in a bulk submission, nor in a set" do
      server = scripted_server do |peer|
        (1..7).each do |number|
          type, _, _, data = peer.request
          replies = [[:job_created, "H:#{number}"]]
          replies << [:work_complete, "H:#{number}", data] if type == :submit_job
          replies.each do |packet|
            gate.await if number > 1
            gate.shut
            peer.reply(*packet)
          end
        end
      end
      answers = []
      in_bulk = ->(client) { client.submit_all(Array.new(3) { Gearman::BackgroundTask.new("f") }) }
      in_a_set = lambda do |client|
        set = Gearman::TaskSet.new(client)
        %w[a b c].each { |data| set.add_task(Gearman::Task.new("f", data, on_complete: answers.method(:<<))) }
        set.wait(JobServers::PATIENCE)
      end
      results = run_gated(client_of(server), [doing(Gearman::BackgroundTask.new("f")), in_bulk, in_a_set])
      expect([*results, answers]).to eq([nil, %w[H:2 H:3 H:4], true, %w[a b c]])
      expect(gate.beside).to eq(0)
    end

    it "lets other fibers run meanwhile" do
      order = []
      server = scripted_server do |peer|
        peer.accept_job("H:1")
        eventually("the other fiber") { order.any? }
        peer.reply(:work_complete, "H:1", "done")
      end
      client = client_of(server)
      GateScheduler.run do
        Fiber.schedule { order << echo(client, "x") }
        Fiber.schedule { order << :other }
      end
      expect(order).to eq([:other, "done"])
    end
  end

  describe "of the async gem" do
    it "serves many fibers at once" do
      client = client_of(server_for(50))
      answers = Sync do |task|
        Array.new(50) { |index| task.async { echo(client, index.to_s) } }.map(&:wait)
      end
      expect(answers).to eq(Array.new(50, &:to_s))
    end

    it "makes fibers wait for one of the 64 sockets" do
      server = scripted_server do |peer|
        (1..).each do |number|
          job = peer.accept_job("H:#{number}")
          peer.reply(:work_complete, "H:#{number}", job.last)
        end
      end
      client = client_of(server)
      answers = Sync do |task|
        Array.new(200) { |index| task.async { Array.new(3) { echo(client, index.to_s) } } }.map(&:wait)
      end
      expect(answers).to eq(Array.new(200) { |index| [index.to_s] * 3 })
      expect(server.connections.size).to be <= 64
    end

    it "serves task sets over several servers" do
      servers = Array.new(2) { server_for(1) }
      client = client_of(*servers)
      results = Sync do |task|
        Array.new(10) do |number|
          task.async do
            found = []
            set = Gearman::TaskSet.new(client)
            10.times do |index|
              job = Gearman::Task.new("f", "#{number}-#{index}")
              job.on_complete { |data| found << data }
              set.add_task(job)
              set.wait(JobServers::PATIENCE)
            end
            found
          end
        end.map(&:wait)
      end
      expect(results).to eq(Array.new(10) { |number| Array.new(10) { |index| "#{number}-#{index}" } })
      expect(servers.map { |server| server.connections.size }).to all(be_positive)
    end

    it "interrupts a call by with_timeout and stop, and the next one is right" do
      server = scripted_server do |peer|
        (1..).each do |number|
          job = peer.accept_job("H:#{number}")
          peer.reply(:work_complete, "H:#{number}", job.last) unless job.last == "hold"
        end
      end
      client = client_of(server)
      Sync do |task|
        expect { task.with_timeout(0.05) { echo(client, "hold") } }.to raise_error(Async::TimeoutError)
        expect(echo(client, "next")).to eq("next")
        held = task.async { echo(client, "hold") }
        task.yield
        held.stop
        expect(held).to be_stopped
        20.times { |index| expect(echo(client, index.to_s)).to eq(index.to_s) }
      end
      expect(server.connections.size).to be <= 2
    end

    each_job_server do
      it "leaves a client that threads use too" do
        start_worker(job_server, "f" => ->(data, _job) { data.reverse })
        client = client_of(job_server)
        threads = Array.new(3) { |number| Thread.new { Array.new(20) { |index| echo(client, "t#{number}-#{index}") } } }
        fibers = Sync { |task| Array.new(20) { |index| task.async { echo(client, "f-#{index}") } }.map(&:wait) }
        expect(fibers).to eq(Array.new(20) { |index| "f-#{index}".reverse })
        expect(threads.map(&:value)).to eq(Array.new(3) { |number|
          Array.new(20) { |index|
            "t#{number}-#{index}".reverse
          }
        })
      end
    end
  end
end
