# frozen_string_literal: true

# The worker's packets, one by one, with a server that does what the example says.
RSpec.describe Gearman::Worker, :worker do
  let(:fake) { start_fake_job_server(version: version) }
  let(:version) { "2.0.1" }
  # A running worker that can f.
  let(:worker) do
    run_worker(fake, { "f" => ->(data, _) { data } }, { client_id: "me" }.merge(options))
  end
  let(:options) { {} }
  # Its connection, once it has grabbed.
  let(:peer) { worker && fake.accept.tap { |peer| peer.receive_until(:grab_job_uniq) } }

  def assign(data = "data", handle: "H:1", to: peer)
    to.respond(:job_assign_uniq, handle, "f", "unique", data)
  end

  # What is to come of a worker that is in order: an answer to the job it is given now.
  def expect_to_work(on: peer)
    assign("in order", handle: "H:order", to: on)
    expect(on.receive).to eq([:work_complete, "H:order", "in order"])
    expect(on.receive).to eq([:grab_job_uniq])
  end

  # Lets a worker that has grabbed fall asleep. Functions that were added meanwhile make it grab once more.
  def fall_asleep(peer)
    loop do
      peer.respond(:no_job)
      expect(peer.receive).to eq([:pre_sleep])
      sleep 0.1
      return unless peer.any?

      expect(peer.receive).to eq([:grab_job_uniq])
    end
  end

  describe "a new connection" do
    it "tells the client id and the functions before it grabs" do
      worker
      expect(fake.accept.receive_until(:grab_job_uniq))
        .to eq([[:set_client_id, "me"], [:can_do, "f"], [:grab_job_uniq]])
    end

    it "is opened and told again when one is lost, with the functions as they are now" do
      fall_asleep(peer)
      worker.worker.add_ability("g", 30, server_timeout: true) { "g" }
      expect(peer.receive).to eq([:can_do_timeout, "g", "30000"])
      peer.close
      expect(fake.accept.receive_until(:grab_job_uniq))
        .to eq([[:set_client_id, "me"], [:can_do, "f"], [:can_do_timeout, "g", "30000"], [:grab_job_uniq]])
    end

    it "is not opened before the worker runs for functions that are added without being announced" do
      worker = new_worker(fake, {}, client_id: "me")
      expect(worker.add_ability("f", announce: false) { true }).to eq([])
      expect(fake).not_to be_connection
      run(worker)
      peer = fake.accept
      expect(peer.receive_until(:grab_job_uniq)).to eq([[:set_client_id, "me"], [:can_do, "f"], [:grab_job_uniq]])
      fall_asleep(peer)
      expect(worker.add_ability("g", announce: false) { true }).to eq([])
      expect(peer.receive_until(:grab_job_uniq)).to eq([[:can_do, "g"], [:grab_job_uniq]])
    end

    it "tells of time-outs on request only, in milliseconds" do
      worker = new_worker(fake)
      worker.add_ability("own", 30) { true }
      worker.add_ability("whole", 30, server_timeout: true) { true }
      worker.add_ability("part", 1.2345, server_timeout: true) { true }
      run(worker)
      expect(fake.accept.receive_until(:grab_job_uniq).drop(1))
        .to eq([[:can_do, "own"], [:can_do_timeout, "whole", "30000"], [:can_do_timeout, "part", "1235"],
                [:grab_job_uniq]])
    end
  end

  describe "a grab" do
    it "is followed by PRE_SLEEP when there is no job, and by another after a NOOP" do
      3.times do
        fall_asleep(peer)
        peer.respond(:noop)
        expect(peer.receive).to eq([:grab_job_uniq])
      end
      expect_to_work
    end

    it "is answered by what comes behind a NOOP" do
      peer.respond(:noop)
      assign
      expect(peer.receive).to eq([:work_complete, "H:1", "data"])
      expect(peer.receive).to eq([:grab_job_uniq])
      peer.respond(:noop)
      fall_asleep(peer)
      peer.respond(:noop)
      expect(peer.receive).to eq([:grab_job_uniq])
      expect_to_work
    end

    it "is answered by what comes behind an ERROR for a job before" do
      peer.respond(:error, "JOB_NOT_FOUND", "Job given in work result not found")
      assign
      expect(peer.receive).to eq([:work_complete, "H:1", "data"])
      expect(peer.receive).to eq([:grab_job_uniq])
      expect_to_work
      expect(logged(:warn).join).to include("JOB_NOT_FOUND", fake.address)
    end

    it "is answered by what comes behind packets that are no worker's business" do
      peer.respond(:echo_res, "stale").respond(:job_created, "H:9").respond(:work_complete, "H:9", "x")
          .respond(:option_res, "exceptions").respond(:status_res, "H:9", "0", "0", "0", "0")
      assign
      expect(peer.receive).to eq([:work_complete, "H:1", "data"])
      expect(peer.receive).to eq([:grab_job_uniq])
      expect_to_work
      expect(fake).not_to be_connection
    end

    it "may be answered in pieces" do
      packet = JobServers::Wire.packet(:job_assign_uniq, "H:1", "f", "unique", "pieces", magic: "\0RES")
      packet.each_char do |byte|
        peer.write(byte)
        sleep 0.001
      end
      expect(peer.receive).to eq([:work_complete, "H:1", "pieces"])
    end

    it "may be answered by any kind of JOB_ASSIGN" do
      peer.respond(:job_assign, "H:1", "f", "plain")
      expect(peer.receive).to eq([:work_complete, "H:1", "plain"])
      peer.receive
      peer.respond(:job_assign_all, "H:2", "f", "unique", "reducer", "all")
      expect(peer.receive).to eq([:work_complete, "H:2", "all"])
    end

    it "that is not answered in time costs the connection, not the worker" do
      options[:network_timeout_sec] = 0.2
      expect(peer).to be_closed_by_worker
      second = fake.accept
      second.receive_until(:grab_job_uniq)
      expect_to_work(on: second)
      expect(logged(:warn).join).to include(fake.address)
    end

    it "is not answered by a server that says something else all the time", :process do
      options[:network_timeout_sec] = 0.3
      address = "127.0.0.1:#{talking_server(:noop)}"
      worker = new_worker(address, {}, options)
      worker.add_ability("f", announce: false) { true }
      run(worker)
      eventually("the worker gives it up") { logged(:warn).join.include?("#{address} does not answer") }
    end
  end

  describe "asleep" do
    before { fall_asleep(peer) }

    context "at a server before 2.0" do
      let(:version) { "1.1.20" }

      it "grabs once a second for scheduled jobs, soon behind the full second" do
        moments = Array.new(4) do
          expect(peer.receive).to eq([:grab_job_uniq])
          now = Time.now.to_f
          peer.respond(:no_job)
          expect(peer.receive).to eq([:pre_sleep])
          now
        end
        expect(moments.last - moments.first).to be_between(2, 5)
        expect(moments.map { |moment| moment % 1 }.min).to be < 0.6
        peer.receive
        expect_to_work
      end
    end

    context "in several loops at a server before 2.0" do
      let(:version) { "1.1.20" }
      let(:options) { { concurrency: 2 } }
      let(:other) { fake.accept.tap { |peer| peer.receive_until(:grab_job_uniq) } }
      let(:peers) { [peer, other.tap { |peer| fall_asleep(peer) }] }

      # The connections that have grabbed, once there are so many.
      def grabbing(count)
        grabbed = []
        eventually("#{count} grabs") do
          peers.each { |peer| grabbed << peer if peer.any? && peer.receive == [:grab_job_uniq] }
          grabbed.uniq.size == count
        end
        grabbed.uniq
      end

      it "grabs in one of them each second" do
        peers.each { |peer| peer.answer(:grab_job_uniq) { [:no_job] } }
        grabs = -> { peers.sum { |peer| peer.counts[:grab_job_uniq] } }
        before = grabs.call
        took = seconds { sleep 4 }
        expect(grabs.call - before).to be_between(2, took + 2)
      end

      it "grabs in the others, too, when there is a job" do
        took = Array.new(3) do
          first, = grabbing(1)
          assign(to: first)
          time = seconds { expect(grabbing(2).size).to eq(2) }
          peers.each { |peer| peer.respond(:no_job) }
          time
        end
        expect(took.min).to be < 0.5
      end
    end

    it "does not take an ERROR or another packet for a NOOP" do
      peer.respond(:error, "JOB_NOT_FOUND", "too late").respond(:echo_res, "x")
      eventually("the log", patience: 0.5) { log.string.include?("JOB_NOT_FOUND") }
      expect(peer).not_to be_any
      peer.respond(:noop)
      expect(peer.receive).to eq([:grab_job_uniq])
      expect_to_work
    end

    it "loses no job that comes though it was not asked for" do
      assign("unasked", handle: "H:7")
      # It is run, or the connection is closed, so that the server hands it out again.
      eventually("the end of the connection, or an answer", patience: 5) do
        !peer.open? || (peer.any? && peer.receive == [:work_complete, "H:7", "unasked"])
      end
    end

    it "notices that the connection is lost" do
      peer.close
      second = fake.accept
      second.receive_until(:grab_job_uniq)
      expect_to_work(on: second)
    end

    it "grabs at once when a function is added" do
      took = seconds do
        worker.worker.add_ability("g") { "g" }
        expect(peer.receive).to eq([:can_do, "g"])
        expect(peer.receive).to eq([:grab_job_uniq])
      end
      expect(took).to be < 0.5
    end

    it "withdraws a function that is removed" do
      worker.worker.add_ability("g") { "g" }
      peer.receive_until(:grab_job_uniq)
      fall_asleep(peer)
      worker.worker.remove_ability("g")
      expect(peer.receive).to eq([:cant_do, "g"])
    end
  end

  describe "a server that sends NOOP after every PRE_SLEEP, and no job" do
    it "is not asked as fast as it answers, and its next job is run" do
      peer.answer(:pre_sleep) { [:noop] }
      peer.answer(:grab_job_uniq) { [:no_job] }
      peer.respond(:no_job)
      sleep 1
      grabs = peer.counts[:grab_job_uniq]
      expect(grabs).to be_between(3, 40)
      peer.answer(:grab_job_uniq) do
        peer.answer(:grab_job_uniq) { [:no_job] }
        [:job_assign_uniq, "H:1", "f", "unique", "after the storm"]
      end
      expect(peer.receive).to eq([:work_complete, "H:1", "after the storm"])
    end
  end

  describe "an answer" do
    it "is sent even when it is empty, with the NUL behind the handle" do
      raw = String.new
      peer.answer(:work_complete) { |*parts| (raw << parts.inspect) && nil }
      assign("")
      peer.receive_until(:grab_job_uniq)
      expect(raw).to eq('["H:1", ""]')
    end

    it "may take as long as the server goes on reading it" do
      options[:network_timeout_sec] = 1.5
      peer.pause = 0.02
      result = "r" * (8 << 20)
      worker.worker.add_ability("f") do |_, job|
        # What the kernel keeps for a server that reads slowly is no progress.
        job.__send__(:channel).io.setsockopt(Socket::SOL_SOCKET, Socket::SO_SNDBUF, 1 << 16)
        result
      end
      assign
      packets = peer.receive_until(:work_complete)
      expect(packets.last == [:work_complete, "H:1", result]).to be(true)
      expect(peer.receive).to eq([:grab_job_uniq])
      expect(log.string).to eq("")
    end

    it "is WORK_FAIL for a function that the worker does not have" do
      peer.respond(:job_assign_uniq, "H:1", "stranger", "", "x")
      expect(peer.receive).to eq([:work_fail, "H:1"])
      expect(peer.receive).to eq([:grab_job_uniq])
      expect(logged(:error).join).to include("stranger", "H:1")
      expect_to_work
    end

    it "is WORK_FAIL for a job that lacks its function" do
      peer.respond(:job_assign_uniq, "H:1")
      expect(peer.receive).to eq([:work_fail, "H:1"])
      expect(peer.receive).to eq([:grab_job_uniq])
      expect_to_work
    end

    it "is not sent to a server that was lost meanwhile, on no connection" do
      go_on = Queue.new
      worker.worker.add_ability("f") { go_on.pop }
      assign
      eventually("the job") { worker.worker.status == :working }
      peer.reset
      2.times { go_on << "late" }
      second = fake.accept
      expect(second.receive_until(:grab_job_uniq).map(&:first)).to eq(%i[set_client_id can_do grab_job_uniq])
      expect_to_hear_nothing_of("H:1", second)
    end

    def expect_to_hear_nothing_of(handle, peer)
      assign("other", handle: "H:other", to: peer)
      packets = peer.receive_until(:grab_job_uniq)
      expect(packets.flatten).not_to include(handle)
    end
  end

  describe "an answer and the next grab", :process do
    it "leave together" do
      fake # listens before the worker is there
      start_process do
        worker = described_class.new(fake.address)
        worker.add_ability("f") { |data| data == "bad" ? raise("bad") : data }
        worker.on_grab_job { sleep 0.01 } # tells two sends apart
        worker.work
      end
      peer = fake.accept
      peer.receive_until(:grab_job_uniq)
      30.times do |number|
        data = %w[good bad][number % 2]
        peer.respond(:job_assign_uniq, "H:#{number}", "f", "", data)
        answer = [data == "good" ? :work_complete : :work_exception, "H:#{number}", data]
        expect(peer.receive_together).to eq([answer, [:grab_job_uniq]])
      end
    end
  end

  describe "removing a function" do
    it "keeps a job running that the server has handed out already, and withdraws behind it" do
      peer
      worker.worker.remove_ability("f")
      expect(worker.worker.remove_ability("f")).to be_nil
      assign("assigned before")
      expect(peer.receive).to eq([:work_complete, "H:1", "assigned before"])
      expect(peer.receive).to eq([:cant_do, "f"])
      expect(peer.receive).to eq([:grab_job_uniq])
      peer.respond(:job_assign_uniq, "H:2", "f", "", "too late")
      expect(peer.receive).to eq([:work_fail, "H:2"])
    end

    it "lasts: the next connection does not tell it" do
      peer
      worker.worker.remove_ability("f")
      peer.close
      expect(fake.accept.receive_until(:grab_job_uniq)).to eq([[:set_client_id, "me"], [:grab_job_uniq]])
    end

    it "and adding it again withdraws nothing" do
      peer
      worker.worker.remove_ability("f")
      worker.worker.add_ability("f") { |data, _job| data.upcase }
      assign("x")
      expect(peer.receive_until(:work_complete).last).to eq([:work_complete, "H:1", "X"])
      peer.receive_until(:grab_job_uniq)
      expect(peer.counts[:can_do] - peer.counts[:cant_do]).to eq(1)
    end
  end

  describe "replacing a function" do
    it "counts from the next job on" do
      expect_to_work
      %i[upcase swapcase].each do |change|
        worker.worker.add_ability("f") { |data, _job| data.public_send(change) }
        2.times do
          assign("Data")
          expect(peer.receive_until(:work_complete).last).to eq([:work_complete, "H:1", "Data".public_send(change)])
          peer.receive_until(:grab_job_uniq)
        end
      end
    end
  end

  describe "bytes that are not the protocol" do
    {
      "text" => "ERR UNKNOWN_COMMAND Unknown+server+command\r\n",
      "a request" => JobServers::Wire.packet(:echo_req, "x"),
      "an unknown type" => ["\0RES", 99, 0].pack("a4NN"),
      "a length that nothing can have" => ["\0RES", 11, 0xFFFFFFFF].pack("a4NN")
    }.each do |what, bytes|
      it "end the connection, not the worker: #{what}" do
        peer.write(bytes)
        expect(seconds { expect(peer).to be_closed_by_worker }).to be < 5
        second = fake.accept
        second.receive_until(:grab_job_uniq)
        expect_to_work(on: second)
        expect(logged(:warn).join).to include(fake.address)
      end
    end
  end

  describe "stopping" do
    it "is quick while the server owes the answer to a grab" do
      peer
      took = seconds do
        worker.worker.worker_enabled = false
        expect(worker.outcome).to be(false)
      end
      expect(took).to be < 0.9
      expect(peer).to be_closed_by_worker
    end

    it "grabs nothing behind the last answer" do
      go_on = Queue.new
      worker.worker.add_ability("f") { go_on.pop }
      assign
      eventually("the job") { worker.worker.status == :working }
      worker.worker.worker_enabled = false
      go_on << "last"
      expect(peer.receive_until(:work_complete).last).to eq([:work_complete, "H:1", "last"])
      expect(worker.outcome).to be(false)
      expect(peer).to be_closed_by_worker
      expect(peer).not_to be_any
    end
  end

  describe "#close" do
    it "in a job lets the job be answered, and ends work" do
      worker.worker.add_ability("f") do
        worker.worker.close
        "closed"
      end
      assign
      expect(peer.receive_until(:work_complete).last).to eq([:work_complete, "H:1", "closed"])
      expect(worker.outcome).to be(false)
      expect(peer).to be_closed_by_worker
      expect(worker.worker.worker_enabled).to be(true)
    end

    it "from another thread ends work: while it waits, while a server owes an answer, in a callback" do
      running = run_worker(fake, "f" => ->(*) {})
      peer = fake.accept
      peer.receive_until(:grab_job_uniq)
      running.worker.close
      expect(running.outcome).to be(false)

      running = run(running.worker)
      fall_asleep(fake.accept.tap { |again| again.receive_until(:grab_job_uniq) })
      running.worker.close
      expect(running.outcome).to be(false)

      running.worker.on_no_job { running.worker.close }
      running = run(running.worker)
      fake.accept.tap { |third| third.receive_until(:grab_job_uniq) }.respond(:no_job)
      expect(running.outcome).to be(false)
    end

    it "from another thread while a job runs waits for the job, or for its violent end" do
      %i[finish kill].each do |ending|
        started = Queue.new
        go_on = Queue.new
        running = run_worker(fake, "f" => ->(*) { (started << true) && go_on.pop })
        peer = fake.accept
        peer.receive_until(:grab_job_uniq)
        assign(to: peer)
        started.pop
        running.worker.close
        expect(running).not_to be_ended
        ending == :finish ? go_on << "finished" : running.thread.kill
        expect(running.outcome).to ending == :finish ? be(false) : be_nil
        expect(peer).to be_closed_by_worker
        expect(peer.any? && peer.receive).to eq(ending == :finish && [:work_complete, "H:1", "finished"])
      end
    end
  end

  describe "#work_once" do
    it "is nil after the time-out though a server owes the answer to a grab" do
      worker = new_worker(fake, "f" => ->(data, _) { data })
      took = seconds { expect(worker.work_once(0.3)).to be_nil }
      expect(took).to be_between(0.29, 5)

      expect(fake.accept).to be_closed_by_worker # or a job might be assigned that nobody takes
    end

    it "takes the answer to its grab also behind something else" do
      worker = new_worker(fake, "f" => ->(data, _) { data })
      running = Thread.new { worker.work_once(0) }
      peer = fake.accept
      peer.receive_until(:grab_job_uniq)
      peer.respond(:noop)
      sleep 0.05
      assign(to: peer)
      expect(running.value).to be(true)
    end

    it "is nil after the time-out though a server says something else all the time", :process do
      worker = new_worker("127.0.0.1:#{talking_server(:noop)}")
      worker.add_ability("f", announce: false) { true }
      took = seconds { expect(worker.work_once(0.3)).to be_nil }
      expect(took).to be_between(0.29, 5)
    end
  end

  describe "a second work at the same time" do
    it "is refused, and disturbs nothing" do
      peer
      expect { worker.worker.work_once(1) }.to raise_error(Gearman::Error, /already/)
      expect { worker.worker.work }.to raise_error(Gearman::Error, /already/)
      expect_to_work
    end
  end

  describe "#status" do
    it "says what the worker does" do
      go_on = Queue.new
      idle = new_worker(fake)
      expect(idle.status).to eq(:preparing)
      worker.worker.add_ability("f") { go_on.pop }
      assign
      eventually("the job") { worker.worker.status == :working }
      go_on << "done"
      peer.receive_until(:grab_job_uniq)
      fall_asleep(peer)
      expect(worker.worker.status).to eq(:waiting)
    end
  end

  describe "a subclass with a handler of its own" do
    it "grabs with GRAB_JOB and gets the JOB_ASSIGN as it came" do
      seen = []
      kind = Class.new(described_class) do
        define_method(:handle_job_assign) do |data, connection|
          seen << data
          super(data, connection)
        end
      end
      run(new_worker(fake, { "f" => ->(data, _) { data } }, kind: kind))
      peer = fake.accept
      peer.receive_until(:grab_job)
      peer.respond(:job_assign, "H:1", "f", "a\0b")
      expect(peer.receive).to eq([:work_complete, "H:1", "a\0b"])
      expect(seen).to eq(["H:1\0f\0a\0b"])
      expect(peer.receive).to eq([:grab_job])
      peer.respond(:job_assign, "H:2", "stranger", "x")
      expect(peer.receive).to eq([:work_fail, "H:2"])
    end
  end

  describe "a subclass with a handler of its own that ends in ours" do
    it "runs a job that was assigned before its function was removed" do
      kind = Class.new(described_class) { def handle_job_assign(*) = super && true }
      running = run(new_worker(fake, { "f" => ->(data, _) { data } }, kind: kind))
      peer = fake.accept
      peer.receive_until(:grab_job)
      running.worker.remove_ability("f")
      peer.respond(:job_assign, "H:1", "f", "assigned before")
      expect(peer.receive).to eq([:work_complete, "H:1", "assigned before"])
      expect(peer.receive).to eq([:cant_do, "f"])
    end
  end

  describe "several servers" do
    let(:other) { start_fake_job_server }

    it "do not wait for each other" do
      other.answer(:grab_job_uniq) { [:no_job] }
      other.answer(:pre_sleep) { nil }
      run_worker([other, fake], "f" => ->(data, _) { data })
      idle, busy = [other, fake].map(&:accept)
      busy.receive_until(:grab_job_uniq)
      took = seconds do
        5.times do |number|
          fall_asleep(busy)
          busy.respond(:noop)
          expect(busy.receive).to eq([:grab_job_uniq])
          busy.respond(:job_assign_uniq, "H:#{number}", "f", "", "x")
          expect(busy.receive).to eq([:work_complete, "H:#{number}", "x"])
          expect(busy.receive).to eq([:grab_job_uniq])
        end
      end
      expect(took).to be < 4
      expect(idle.counts[:pre_sleep]).to be > 0
    end
  end

  describe "memory" do
    let!(:job_server) { start_gearmand } # before a process is forked

    each_job_server do
      it "holds at most 8 new objects a job", :process do
        child = start_process do |out|
          count = 0
          worker = described_class.new(job_server.address)
          worker.add_ability("f") do |data|
            count += 1
            @before = GC.stat(:total_allocated_objects) if count == 100
            out.puts GC.stat(:total_allocated_objects) - @before if count == 1100
            data
          end
          worker.work
        end
        client.submit_all("f", ["data"] * 1100)
        expect(Integer(child.line)).to be_between(1000, 8000)
      end
    end

    def resident_kib
      return `ps -o rss= -p #{Process.pid}`.strip unless File.exist?("/proc/self/status")

      File.read("/proc/self/status")[/^VmRSS:\s+(\d+)/, 1]
    end

    it "stays as it is over 20 000 jobs", :memory, :process do
      child = start_process do |out|
        count = 0
        worker = described_class.new(job_server.address)
        worker.add_ability("f") do |data|
          count += 1
          GC.start if (count % 5_000).zero? # a period each that is long enough for what there is at most
          out.puts "#{resident_kib} #{GC.stat(:heap_live_slots)}" if [10_000, 20_000].include?(count)
          data
        end
        worker.work
      end
      data = ["d" * 1000] * 10_000
      client.submit_all("f", data)
      early = child.line(patience: 120).split.map { |number| Integer(number) }
      client.submit_all("f", data)
      late = child.line(patience: 120).split.map { |number| Integer(number) }
      expect(late[0] - early[0]).to be < 6_000 # KiB: two thirds of the data of 10 000 jobs
      expect(late[1] - early[1]).to be < 3_000 # objects
    end

    it "is sound while the garbage collector runs all the time", :process do
      child = start_process do |out|
        worker = described_class.new(job_server.address)
        worker.add_ability("f") { |data, job| job.send_data(data) && "#{data} done" }
        worker.on_grab_job { out.puts "grabs" }
        GC.stress = true
        worker.work
      end
      child.line(patience: 120) # connecting makes many objects
      5.times do |number|
        data = "job #{number} \xff".b
        expect(client.packets_of(client.submit("f",
                                               data))).to eq([[:work_data, data], [:work_complete, "#{data} done".b]])
      end
    end

    it "is sound when the garbage collector moves objects", :process do
      skip "this Ruby cannot compact" unless GC.respond_to?(:verify_compaction_references)
      more_room = RUBY_VERSION < "3.2" ? :double_heap : :expand_heap
      child = start_process do |out|
        worker = described_class.new(job_server.address)
        worker.add_ability("f") do |data, job|
          GC.verify_compaction_references(toward: :empty, more_room => true)
          job.send_data(data)
          "#{data} done"
        end
        worker.after_ability("f") { |result, data| out.puts "#{result}, #{data}" }
        worker.work
      end
      3.times do |number|
        expect(client.packets_of(client.submit("f", "job #{number}")))
          .to eq([[:work_data, "job #{number}"], [:work_complete, "job #{number} done"]])
        expect(child.line).to eq("job #{number} done, job #{number}")
      end
    end
  end
end
