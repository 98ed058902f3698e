# frozen_string_literal: true

# What the worker does by itself. What it does with servers is in conformance/, integration/ and worker_loop_spec.rb.
RSpec.describe Gearman::Worker, :worker do
  # A server that nobody runs.
  let(:nowhere) { "127.0.0.1:#{JobServers.free_port}" }
  let(:worker) { described_class.new(nowhere) }

  # Stands for the connection that a job came on.
  let(:connection) do
    Class.new do
      attr_reader :sent

      def send_update(packet)
        (@sent ||= []) << packet
        nil
      end
    end.new
  end

  def request(type, *parts)
    JobServers::Wire.packet(type, *parts)
  end

  describe ".new" do
    it "takes servers in every form and touches no network" do
      [nowhere, nowhere.to_sym, [nowhere], [nowhere.to_sym, "localhost", "[::1]:4731"], [], nil].each do |servers|
        expect(described_class.new(servers)).to have_attributes(status: :preparing, worker_enabled: true)
      end
      expect(described_class.new).to be_a(described_class)
    end

    it "refuses an address that makes no sense, and names it" do
      expect { described_class.new("host:99999") }.to raise_error(Gearman::InvalidArgsError, /99999/)
      expect { described_class.new(["fine", "h:name"]) }.to raise_error(Gearman::InvalidArgsError, /h:name/)
    end

    it "refuses a client id that cannot be sent" do
      expect { described_class.new(nowhere, client_id: "a\0b") }.to raise_error(Gearman::InvalidArgsError, /NUL/)
      expect { worker.client_id = "a\0b" }.to raise_error(Gearman::InvalidArgsError, /NUL/)
      expect(worker.client_id).not_to include("\0")
    end

    it "takes the options of 4.0, from a frozen Hash too, and overlooks others" do
      options = { client_id: "me", reconnect_sec: 4, network_timeout_sec: 2, other: 1 }.freeze
      expect(described_class.new(nowhere, options))
        .to have_attributes(client_id: "me", reconnect_sec: 4, network_timeout_sec: 2)
      expect(worker).to have_attributes(client_id: /\A[a-z]{30}\z/, reconnect_sec: 30, network_timeout_sec: 10)
      expect(described_class.new(nowhere).client_id).not_to eq(worker.client_id)
    end

    it "leaves what can be changed later writable" do
      worker.client_id = "other"
      worker.reconnect_sec = 3
      worker.network_timeout_sec = 1
      worker.status = :wakeup
      expect(worker)
        .to have_attributes(client_id: "other", reconnect_sec: 3, network_timeout_sec: 1, status: :wakeup)
    end
  end

  describe "#work and #work_once" do
    it "raise without a server" do
      expect { described_class.new.work }.to raise_error(Gearman::NoJobServersError)
      expect { described_class.new([]).work_once(1) }.to raise_error(Gearman::NoJobServersError)
    end

    it "return false at once when the worker is disabled" do
      worker.worker_enabled = false
      expect(worker.work).to be(false)
      expect(worker.work_once(10)).to be(false)
      expect(worker.work_once).to be(false)
    end

    def seconds_to_stop(running)
      seconds do
        running.worker.worker_enabled = false
        expect(running.outcome).to be(false)
      end
    end

    it "wait for a server that is down, and stop when told to" do
      expect(seconds_to_stop(run(worker).waiting)).to be < 0.9
    end

    it "give up after the time-out when no server is there" do
      took = seconds { expect(worker.work_once(0.2)).to be_nil }
      expect(took).to be_between(0.19, 3)
    end

    # The address of a server that takes connections, and says nothing.
    def mute_server
      listener = remember(TCPServer.new("127.0.0.1", 0), :close)
      "127.0.0.1:#{listener.local_address.ip_port}"
    end

    { "takes no connection" => :silent_server, "says nothing" => :mute_server }.each do |title, server|
      context "with a server that #{title}" do
        let(:worker) { new_worker(send(server)).tap { |one| one.add_ability("f", announce: false) { true } } }

        it "stop at once when told to" do
          running = run(worker)
          sleep 0.3
          expect(seconds_to_stop(running)).to be < 1
        end

        it "give up after the time-out" do
          took = seconds { expect(worker.work_once(0.2)).to be_nil }
          expect(took).to be_between(0.19, 1.5)
        end
      end
    end

    it "take a time-out that is a number, 0 or more" do
      expect { worker.work_once("soon") }.to raise_error(Gearman::InvalidArgsError, /soon/)
      expect(seconds { expect(worker.work_once(0)).to be_nil }).to be < 2
    end
  end

  describe "#add_ability" do
    it "does not wait for servers that are down" do
      told = nil
      expect(seconds { told = worker.add_ability("f") { true } }).to be < 2
      expect(told).to eq([])
    end

    it "returns the connections of the servers that were told" do
      server = start_embedded_server
      worker = described_class.new([server.address, nowhere])
      expect(worker.add_ability("f") { true }.map(&:to_host_port)).to eq([server.address])
    ensure
      worker.close
    end

    it "refuses names that cannot be sent" do
      expect { worker.add_ability("") { true } }.to raise_error(Gearman::InvalidArgsError, /empty/)
      expect { worker.add_ability("a\0b") { true } }.to raise_error(Gearman::InvalidArgsError, /NUL/)
      expect { worker.add_ability("a" * 9000) { true } }.to raise_error(Gearman::InvalidArgsError)
      expect(worker.remove_ability("a\0b")).to be_nil
    end

    it "refuses a time-out that is no number of seconds, and then cannot do the function" do
      ["x", "5", -1, Float::NAN, Float::INFINITY, 1i, :a, false].each do |timeout|
        expect { worker.add_ability("f", timeout) { true } }
          .to raise_error(Gearman::InvalidArgsError,
                          "the time-out of f is a number of seconds, not #{timeout.inspect}")
      end
      expect(worker.abilities).to be_empty
    end
  end

  it "keeps what several threads add and remove at once" do
    kept = Array.new(8) { |i| Array.new(500) { |j| "f#{i}-#{j}" } }
    threads = kept.map do |names|
      Thread.new do
        names.each do |name|
          worker.add_ability(name, announce: false) { true }
          worker.add_ability("#{name}-gone", announce: false) { true }
          worker.remove_ability("#{name}-gone")
        end
      end
    end
    threads.each(&:join)
    expect(worker.abilities.keys).to match_array(kept.flatten)
  end

  describe "#remove_ability" do
    it "returns the ability, and nil when there is none" do
      worker.add_ability(:f) { "from f" }
      ability = worker.remove_ability("f")
      expect(ability).to be_a(Gearman::Worker::Ability).and have_attributes(func_name: "f")
      expect(worker.remove_ability("f")).to be_nil
      expect(worker.remove_ability(:stranger)).to be_nil
    end
  end

  describe "#after_ability" do
    it "refuses a function that was not added" do
      expect { worker.after_ability("stranger") { nil } }.to raise_error(Gearman::InvalidArgsError, /stranger/)
    end
  end

  describe "#sleep" do
    it "sleeps for seconds, and until a Time" do
      expect(seconds { worker.sleep(0.05) }).to be_between(0.05, 2)
      expect(seconds { worker.sleep(Time.now + 0.05) }).to be_between(0.04, 2)
      expect(seconds { expect(worker.sleep(Time.now - 60)).to eq(0) }).to be < 1
    end
  end

  describe "#close" do
    it "may be called before anything, and again" do
      2.times { expect { worker.close }.not_to raise_error }
    end
  end

  describe "#handle_job_assign" do
    before { worker.add_ability("f") { |data, job| data == "bad" ? raise("bad #{job.handle}") : data&.upcase } }

    it "runs the job and answers on the connection it is given" do
      expect(worker.handle_job_assign("H:1\0f\0data\0more", connection)).to be(true)
      expect(connection.sent).to eq([request(:work_complete, "H:1", "DATA\0MORE")])
    end

    it "gives an empty argument when there is none" do
      expect(worker.handle_job_assign("H:1\0f", connection)).to be(true)
      expect(worker.handle_job_assign("H:2\0f\0", connection)).to be(true)
      expect(connection.sent).to eq([request(:work_complete, "H:1", ""), request(:work_complete, "H:2", "")])
    end

    it "reports an exception, and says so in the log" do
      expect(worker.handle_job_assign("H:1\0f\0bad", connection)).to be(true)
      expect(connection.sent).to eq([request(:work_exception, "H:1", "bad H:1")])
      expect(logged(:error).join).to include("f H:1", "RuntimeError", "bad H:1", File.basename(__FILE__))
    end

    it "fails a job of a function that the worker does not have" do
      expect(worker.handle_job_assign("H:1\0stranger\0data", connection)).to be(false)
      expect(connection.sent).to eq([request(:work_fail, "H:1")])
      expect(logged(:error).join).to include("stranger", "H:1")
    end

    it "takes nothing that lacks a handle or a function" do
      ["", "H:1"].each { |body| expect(worker.handle_job_assign(body, connection)).to be(false) }
      expect(connection.sent).to be_nil
      expect(logged(:error).size).to eq(2)
    end

    it "answers before the block of after_ability runs" do
      seen = nil
      worker.after_ability("f") { |result, data| seen = [result, data, connection.sent.size] }
      worker.handle_job_assign("H:1\0f\0data", connection)
      expect(seen).to eq(["DATA", "data", 1])
    end
  end

  describe "#around_job" do
    let(:seen) { [] }

    def answer_to(data = "x")
      worker.handle_job_assign("H:1\0f\0#{data}", connection)
      connection.sent
    end

    before do
      worker.add_ability("f") do |data|
        seen << data
        raise(ArgumentError, "bad") if data == "bad"

        exit if data == "exit"
        data unless data == "nothing"
      end
    end

    it "wraps each job, the first added outermost, and knows it" do
      %w[outer inner].each do |name|
        worker.around_job do |job, run|
          seen << [name, job.func_name, job.handle, job.data]
          seen << "#{run.call} #{name}"
        end
      end
      worker.around_job { |_, run| run.call.upcase }
      expect(answer_to).to eq([request(:work_complete, "H:1", "x")])
      expect(seen).to eq([%w[outer f H:1 x], %w[inner f H:1 x], "x", "x inner", "x outer"])
    end

    it "changes nothing of what comes of the job" do
      worker.around_job do |_, run|
        run.call
        "other"
      rescue Exception # rubocop:disable Lint/RescueException -- what such a block may not do
        "swallowed"
      end
      expect(answer_to).to eq([request(:work_complete, "H:1", "x")])
      expect(answer_to("nothing").last).to eq(request(:work_fail, "H:1"))
      expect(answer_to("bad").last).to eq(request(:work_exception, "H:1", "bad"))
      expect { answer_to("exit") }.to raise_error(SystemExit)
      expect(connection.sent.last).to eq(request(:work_exception, "H:1", "exit"))
    end

    it "leaves an abandoned job to its server, whatever the block makes of it" do
      abandoned = Gearman::Worker::Loop::Abandoned
      worker.add_ability("long") { raise abandoned }
      worker.around_job do |_, run|
        run.call
      ensure
        raise "cannot clear up"
      end
      errors = []
      worker.on_error { |error, _| errors << error }
      expect { worker.handle_job_assign("H:1\0long\0", connection) }.to raise_error(abandoned)
      expect([connection.sent, errors]).to eq([nil, []])
    end

    it "fails the job when it raises, runs nothing, or runs it twice" do
      worker.around_job { |_, run| run.call && raise("too late") }
      expect(answer_to.last).to eq(request(:work_exception, "H:1", "too late"))
      other = described_class.new(nowhere)
      other.add_ability("f") { seen << :run }
      other.around_job { nil }
      other.handle_job_assign("H:2\0f\0x", connection)
      expect(connection.sent.last).to include("H:2", "did not call run")
      twice = described_class.new(nowhere)
      twice.add_ability("f") { seen << :once }
      twice.around_job { |_, run| 2.times { run.call } }
      twice.handle_job_assign("H:3\0f\0x", connection)
      expect(connection.sent.last).to include("H:3", "called run twice")
      expect(seen).to eq(["x", :once])
    end

    it "needs a block" do
      expect { worker.around_job }.to raise_error(Gearman::InvalidArgsError, /around_job/)
      expect { worker.on_error }.to raise_error(Gearman::InvalidArgsError, /on_error/)
    end
  end

  describe "#on_error" do
    before { worker.add_ability("f") { |data| data == "bad" ? raise(ArgumentError, "bad") : data } }

    it "is called with each exception that failed a job, and the job" do
      seen = []
      2.times { |i| worker.on_error { |error, job| seen << [i, error.class, job.func_name, job.handle, job.data] } }
      worker.handle_job_assign("H:1\0f\0good", connection)
      worker.handle_job_assign("H:2\0f\0bad", connection)
      expect(seen).to eq(Array.new(2) { |i| [i, ArgumentError, "f", "H:2", "bad"] })
    end

    it "may raise, which is logged and changes nothing" do
      seen = []
      worker.on_error { raise "worse" }
      worker.on_error { seen << :called }
      worker.handle_job_assign("H:1\0f\0bad", connection)
      expect(connection.sent).to eq([request(:work_exception, "H:1", "bad")])
      expect(seen).to eq([:called])
      expect(logged(:error).join).to include("on_error", "worse")
    end
  end

  describe "exceptions: false" do
    it "sends what a job raised as a warning and a failure" do
      worker = described_class.new(nowhere, exceptions: false)
      worker.add_ability("f") { raise "bad" }
      worker.handle_job_assign("H:1\0f\0x", connection)
      expect(connection.sent).to eq([request(:work_warning, "H:1", "bad"), request(:work_fail, "H:1")])
    end
  end

  describe "#handle_work_message" do
    before { worker.add_ability("f") { |data| data } }

    it "runs a job, and says whether the worker goes on" do
      expect(worker.handle_work_message(:job_assign, "H:1\0f\0x", connection)).to be(true)
      worker.worker_enabled = false
      expect(worker.handle_work_message(:job_assign, "H:2\0f\0x", connection)).to be(false)
      expect(connection.sent.size).to eq(2)
    end

    it "takes NO_JOB and NOOP for nothing, and logs what is none of its business" do
      worker.handle_work_message(:no_job, "", connection)
      worker.handle_work_message(:noop, "", connection)
      expect(log.string).to eq("")
      worker.handle_work_message(:echo_res, "x", connection)
      expect(logged(:error).join).to include("echo_res")
      expect(connection.sent).to be_nil
    end
  end
end
