# frozen_string_literal: true

# A worker among servers that come, go, freeze and forget. With a real gearmand beside the one that has trouble.
RSpec.describe Gearman::Worker, :worker do
  let(:job_server) { start_gearmand }
  let(:fake) { start_fake_job_server(version: version, resets: resets) }
  let(:version) { "1.1.20" }
  let(:resets) { 0 }
  let(:echo) { { "f" => ->(data, _) { data } } }

  # That the worker serves gearmand, soon.
  def expect_service(patience = 2)
    took = seconds { expect(WorkerSide::WireClient.new(wire).run("f", "on")).to eq([:work_complete, "on"]) }
    expect(took).to be < patience
  end

  # The next connection of the worker, registered: it has told what it can and grabs.
  def next_peer
    fake.accept.tap do |peer|
      packets = peer.receive_until(:grab_job_uniq)
      expect(packets).to eq([[:set_client_id, "me"], [:can_do, "f"], [:grab_job_uniq]])
    end
  end

  describe "a server that is lost" do
    let(:running) { run_worker([fake, job_server], echo, client_id: "me") }
    let(:peer) { running && next_peer }

    {
      "before it answers a grab" => ->(_) {},
      "in the middle of an assignment" => ->(peer) { peer.write("\0RES\0\0\0\x1f\0\0\0\x40H:1\0f\0") },
      "behind NO_JOB" => ->(peer) { peer.respond(:no_job) },
      "once the worker sleeps" => lambda do |peer|
        peer.respond(:no_job)
        peer.receive_until(:pre_sleep)
      end,
      "as it wakes the worker" => lambda do |peer|
        peer.respond(:no_job)
        peer.receive_until(:pre_sleep)
        peer.respond(:noop)
      end,
      "behind an assignment" => ->(peer) { peer.respond(:job_assign_uniq, "H:1", "f", "", "x") },
      "behind the answer to a job" => lambda do |peer|
        peer.respond(:job_assign_uniq, "H:1", "f", "", "x")
        peer.receive_until(:work_complete)
      end
    }.each do |point, come_to|
      it "#{point} gets its worker back, registered, and does not stop the others" do
        come_to.call(peer)
        offered = Queue.new
        fake.answer(:grab_job_uniq) { offered.empty? ? [:no_job] : offered.pop } # the others' jobs would wait for it
        peer.reset
        expect_service
        again = fake.accept
        expect(again.receive_until(:pre_sleep)).to eq([[:set_client_id, "me"], [:can_do, "f"], [:pre_sleep]])
        offered << [:job_assign_uniq, "H:2", "f", "", "again"]
        again.respond(:noop)
        expect(again.receive_until(:work_complete).last).to eq([:work_complete, "H:2", "again"])
        expect_service
        expect(running).not_to be_ended
      end
    end

    {
      "while a job of it runs" => Gearman::Worker,
      "while a job of a subclass that handles assignments itself runs" => Class.new(Gearman::Worker) do
        def handle_job_assign(*) = super
      end
    }.each do |title, kind|
      it "#{title} has that job's result dropped, which is logged once" do
        work = ->(data, _) { sleep(data.to_f) && "done" }
        running = run_worker([fake, job_server], { "f" => work }, client_id: "me", kind: kind)
        peer = fake.accept
        peer.receive_until(kind == Gearman::Worker ? :grab_job_uniq : :grab_job)
        type = kind == Gearman::Worker ? [:job_assign_uniq, "H:9", "f", "", "0.2"] : [:job_assign, "H:9", "f", "0.2"]
        peer.respond(*type)
        eventually("the job") { running.worker.status == :working }
        peer.reset
        again = fake.accept
        again.receive_until(kind == Gearman::Worker ? :grab_job_uniq : :grab_job)
        again.respond(:no_job)
        eventually("the log") { log.string.include?("H:9") }
        expect(log.string.scan(/^.*H:9.*$/)).to match([/WARN.* dropped the result of f H:9/])
        expect(again.receive_until(:pre_sleep).map(&:first)).to eq([:pre_sleep])
        expect(running).not_to be_ended
      end
    end

    it "does not hide what a job raises behind answers that cannot be sent, whatever the log does" do
      told = 0
      Gearman.logger = Class.new(Logger) do
        define_method(:warn) do |&_|
          told += 1
          raise "inner"
        rescue RuntimeError
          nil
        end
      end.new(log)
      done = 0
      lose = ->(data, job) { (done += 1) == 3 ? (job.redeliver || raise(Interrupt, "of a job")) : data }
      WorkerSide::WireClient.new(wire).submit_all("f", Array.new(6, "x"))
      running = run_worker(job_server, { "f" => lose }, prefetch: 10)
      expect(running.outcome).to be_a(Interrupt).and have_attributes(message: "of a job")
      expect(told).to be <= 1 # a busy machine may have sent them before
    end

    it "while jobs that were fetched ahead run has their results dropped, which is logged once" do
      peer = nil
      assigned = Queue.new
      lose = ->(data, _) { (data == "1" && assigned.pop && peer.reset) || data }
      running = run_worker([fake, job_server], { "f" => lose }, client_id: "me", prefetch: 16)
      peer = fake.accept
      peer.receive_until(:grab_job_uniq)
      fake.answer(:grab_job_uniq) { [:no_job] }
      jobs = %w[1 2 3].map { |data| ScriptedServer::Peer.packet(:job_assign_uniq, "H:#{data}", "f", "", data) }
      peer.write(jobs.join)
      assigned << true
      expect_service
      expect(log.string.scan(/^.*dropped.*$/)).to match([/WARN.* dropped the results of [1-3] jobs at most/])
      expect(running).not_to be_ended
    end
  end

  describe "a frozen server" do
    it "costs the others a few seconds once, and gets its worker back within 3 s" do
      frozen = start_gearmand
      running = run_worker([frozen, job_server], echo)
      [frozen, job_server].each { |server| registered("f", server: server) }
      frozen.signal("STOP")
      sleep 1.2 # until it was asked
      expect_service(6)
      expect_service(2)
      sleep 4 # it is tried again and again
      5.times { expect_service(2) && sleep(0.3) }
      frozen.signal("CONT")
      took = seconds { expect(WorkerSide::WireClient.new(wire(frozen)).run("f", "back").last).to eq("back") }
      expect(took).to be < 3
      expect(running).not_to be_ended
      expect(log.string).to include("#{frozen.address} does not answer")
    ensure
      frozen.signal("CONT")
    end
  end

  describe "a server whose connection the network has forgotten" do
    let(:version) { "2.0.0" }

    it "is found out by an echo that is not answered" do
      proxy = tcp_proxy(fake)
      run_worker(proxy, echo, client_id: "me", network_timeout_sec: 0.4)
      peer = next_peer
      peer.respond(:no_job)
      peer.receive_until(:pre_sleep)
      sleep 1 # echoes are answered
      expect(proxy.links.size).to eq(1)
      proxy.links.last.silence
      next_peer
      expect(proxy.links.size).to be > 1
      expect(log.string).to include("#{proxy.address} does not answer")
    end

    it "is found out while another keeps the worker busy" do
      proxy = tcp_proxy(fake)
      client.submit_all("f", Array.new(4000, ""))
      run_worker([job_server, proxy], { "f" => ->(*) { sleep(0.005) } }, client_id: "me", network_timeout_sec: 0.4)
      peer = next_peer
      peer.respond(:no_job)
      peer.receive_until(:pre_sleep)
      proxy.links.last.silence
      next_peer
      expect(Integer(job_server.admin("status").split("\t")[1])).to be > 100
    end
  end

  describe "what asks for scheduled jobs" do
    # How often an idle worker asks.
    def grabs_within(seconds, prefetch: 1)
      fake.answer(:grab_job_uniq) { [:no_job] }
      worker = new_worker(fake, {}, prefetch: prefetch)
      worker.add_ability("f", announce: false) { true } # it connects, else
      run(worker)
      peer = fake.accept
      peer.receive_until(:pre_sleep)
      before = peer.counts[:grab_job_uniq]
      sleep seconds
      peer.counts[:grab_job_uniq] - before
    end

    it "asks gearmand 1.1 once a second" do
      expect(grabs_within(3.3)).to be_between(2, 4)
    end

    it "asks for one job at a time, however many are fetched ahead" do
      expect(grabs_within(3.3, prefetch: 8)).to be_between(2, 4)
    end

    it "asks a server for its version once a connection" do
      run_worker(fake, echo, client_id: "me")
      asked = Array.new(2) do
        peer = next_peer
        peer.respond(:no_job)
        peer.receive_until(:grab_job_uniq)
        peer.reset
        peer.counts[:version]
      end
      expect(asked).to eq([1, 1])
    end

    it "asks a server that knows no text commands once a second, too" do
      fake = start_fake_job_server(version: nil)
      run_worker(fake, echo)
      peer = fake.accept(patience: 10)
      peer.receive_until(:grab_job_uniq)
      peer.respond(:no_job)
      expect(peer.receive_until(:grab_job_uniq).map(&:first)).to eq(%i[pre_sleep grab_job_uniq])
    end

    context "with gearmand 2" do
      let(:version) { "2.0.1" }

      it "asks for none" do
        expect(grabs_within(2.5)).to eq(0)
      end

      context "when the first connection is lost at once" do
        let(:resets) { 1 }

        it "asks for none either" do
          expect(grabs_within(2.5)).to eq(0)
        end
      end
    end

    it "finds jobs of gearmand within a second" do
      begun = Queue.new
      run_worker(job_server, "f" => ->(*) { (begun << Time.now.to_f) && true })
      registered("f")
      due = Array.new(3) { |i| Time.now.to_i + 2 + i }
      due.each { |time| client.schedule("f", Time.at(time)) }
      late = due.map { |time| begun.pop - time }
      expect(late).to all(be_between(0, 1.5)) # a busy machine
      expect(late.sort[1]).to be <= 1
    end

    it "stays calm where a scheduled job hides a LOW one, which gearmand 1.1 answers by NOOP at once, for ever" do
      proxy = tcp_proxy(job_server)
      client.schedule("f", Time.now + 3600)
      client.submit("f", "low", type: :submit_job_low_bg)
      run_worker(proxy, echo).waiting
      sent = -> { proxy.links.sum { |link| link.carried[:request] } }
      sleep 3 # to back off, which begins anew where a busy machine keeps a NOOP
      grabs = []
      until grabs.size == 5 || (2..5).cover?(grabs.last)
        before = sent.call
        sleep 3
        grabs << ((sent.call - before) / 24) # GRAB_JOB_UNIQ and PRE_SLEEP
      end
      expect(grabs.last).to be_between(2, 5)
    end
  end

  describe "a function that is added" do
    let(:version) { "2.0.1" }

    it "is asked for at once on all servers that sleep, as no NOOP tells of its jobs" do
      servers = [fake, start_fake_job_server(version: version)]
      servers.each { |server| server.answer(:grab_job_uniq) { [:no_job] } }
      running = run_worker(servers, echo).waiting
      peers = servers.map { |server| server.accept.tap { |peer| peer.receive_until(:pre_sleep) } }
      sleep 0.3
      grabs = peers.map { |peer| peer.counts[:grab_job_uniq] }
      running.worker.add_ability("g") { true }
      peers.each { |peer| expect(peer.receive_until(:pre_sleep).first).to eq([:can_do, "g"]) }
      expect(peers.map { |peer| peer.counts[:grab_job_uniq] }).to eq(grabs.map(&:succ))
    end
  end

  describe "a job that comes when the worker was told to stop" do
    it "is not begun, and logged" do
      Gearman.logger.level = Logger::INFO
      ran = []
      running = run_worker(fake, { "f" => ->(data, _) { ran << data } }, client_id: "me")
      peer = next_peer
      running.worker.stop
      peer.respond(:job_assign_uniq, "H:5", "f", "", "late")
      expect(running.outcome).to be(false)
      expect(peer).to be_closed_by_worker
      expect(ran).to eq([])
      expect(logged(:info).join).to include("gave f H:5 back to #{fake.address}, not begun")
    end

    it "and was fetched ahead of one that is abandoned is logged, too" do
      Gearman.logger.level = Logger::INFO
      running = run_worker(fake, { "f" => ->(*) { sleep } }, client_id: "me", prefetch: 3)
      peer = fake.accept
      3.times { peer.receive_until(:grab_job_uniq) }
      jobs = %w[1 2 3].map { |number| ScriptedServer::Peer.packet(:job_assign_uniq, "H:#{number}", "f", "", "x") }
      peer.write(jobs.join)
      eventually("the first") { running.worker.running_jobs.any? }
      expect(running.worker.stop(0.1)).to be(false)
      expect(running.outcome).to be(false)
      expect(log.string).to include("abandoned f H:1")
      expect(logged(:info).join.scan(/gave f (\S+) back to #{fake.address}, not begun/).flatten).to eq(%w[H:2 H:3])
    end
  end

  describe "jobs that were fetched ahead" do
    it "are asked for at one server at a time, no more than the prefetch" do
      servers = [fake, start_fake_job_server(version: version)]
      run_worker(servers, echo, prefetch: 4)
      peers = servers.map(&:accept)
      grabs = -> { peers.sum { |peer| peer.counts[:grab_job_uniq] } }
      eventually("grabs") { grabs.call >= 4 }
      sleep 0.5
      expect(grabs.call).to eq(4)
    end

    it "are never more than the prefetch, and go back when the worker stops, logged" do
      Gearman.logger.level = Logger::INFO
      go_on = Queue.new
      handles = client.submit_all("f", Array.new(10, "x"))
      running = run_worker(job_server, { "f" => ->(*) { go_on.pop } }, prefetch: 4)
      eventually("a job") { running.worker.running_jobs.any? }
      eventually("others") { job_server.admin("status").lines.first.split("\t")[2] == "4" }
      running.worker.stop
      go_on << "done"
      expect(running.outcome).to be(false)
      eventually("the rest") { job_server.admin("status").lines.first.chomp.split("\t")[1, 3] == %w[9 0 0] }
      gone = logged(:info).join.scan(/gave f (\S+) back to #{job_server.address}, not begun/).flatten
      expect(gone).to match_array(handles[1, 3])
    end

    it "have a quick one's answer sent while the next one runs, and what that one reports" do
      go_on = Queue.new
      work = lambda do |data, job|
        job.send_data("part") if data == "reports"
        go_on.pop unless data == "quick"
        data
      end
      run_worker(fake, { "f" => work }, client_id: "me", prefetch: 4)
      peer = fake.accept
      4.times { peer.receive_until(:grab_job_uniq) }
      %w[quick slow quick reports].each_with_index do |data, index|
        peer.respond(:job_assign_uniq, "H:#{index}", "f", "", data)
      end
      expect(peer.receive_until(:work_complete).last).to eq([:work_complete, "H:0", "quick"])
      go_on << true
      answers = peer.receive_until(:work_data).reject { |type,| type == :grab_job_uniq }
      expect(answers).to eq([[:work_complete, "H:1", "slow"], [:work_complete, "H:2", "quick"],
                             [:work_data, "H:3", "part"]])
      go_on << true
      expect(peer.receive_until(:work_complete).last).to eq([:work_complete, "H:3", "reports"])
    end

    it "are run before a function of theirs is withdrawn" do
      go_on = Queue.new
      running = run_worker(fake, { "f" => ->(data, _) { go_on.pop && data } }, client_id: "me", prefetch: 3)
      peer = fake.accept
      3.times { peer.receive_until(:grab_job_uniq) }
      3.times { |i| peer.respond(:job_assign_uniq, "H:#{i}", "f", "", i.to_s) }
      eventually("a job") { running.worker.running_jobs.any? }
      running.worker.remove_ability("f")
      3.times { go_on << true }
      expect(peer.receive_until(:cant_do))
        .to eq([*Array.new(3) { |i| [:work_complete, "H:#{i}", i.to_s] }, [:cant_do, "f"]])
    end
  end
end
