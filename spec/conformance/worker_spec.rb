# frozen_string_literal: true

require "timeout"

# What the worker does for its jobs, with gearmand and with the embedded server.
RSpec.describe Gearman::Worker, :worker do
  each_job_server do
    # The outcome of a job whose block is given.
    def outcome_of(data = "", &block)
      run_worker(job_server, "f" => block)
      client.run("f", data)
    end

    # The same, and another job, which shows that the worker goes on.
    def outcome_and_next(&block)
      worker = run_worker(job_server, "f" => block, "next" => ->(data, _) { data })
      outcome = client.run("f")
      expect(client.run("next", "one")).to eq([:work_complete, "one"])
      expect(worker).not_to be_ended
      outcome
    end

    describe "results" do
      {
        "a String" => %w[result result],
        "an empty String" => ["", ""],
        "true" => [true, "true"],
        "an Integer" => [17, "17"],
        "a Symbol" => %i[done done],
        "an Array" => [[1, nil], "[1, nil]"],
        "bytes, NUL bytes among them" => ["\0\xff\0\x80\0".b, "\0\xff\0\x80\0".b],
        "UTF-8" => ["größer als ☃", "größer als ☃".b],
        "UTF-16" => ["ab".encode("UTF-16LE"), "a\0b\0".b],
        "a MiB" => ["\0a\xff\n".b * (1 << 18), "\0a\xff\n".b * (1 << 18)]
      }.each do |what, (value, bytes)|
        it "sends #{what}" do
          type, result = outcome_of { value }
          expect(type).to eq(:work_complete)
          expect(result.b).to eq(bytes.to_s.b)
        end
      end

      it "fails the job for nil and for false" do
        run_worker(job_server, "nil" => ->(*) {}, "false" => ->(*) { false })
        expect(client.run("nil")).to eq([:work_fail])
        expect(client.run("false")).to eq([:work_fail])
      end

      it "fails the job that leaves its block by next, or has no block" do
        run_worker(job_server, "next" => proc { next false }, "none" => nil)
        expect(client.run("next")).to eq([:work_fail])
        expect(client.run("none")).to eq([:work_fail])
      end

      it "reports a result whose to_s raises or gives no String" do
        liar = Class.new { def to_s = raise("no text") }
        expect(outcome_and_next { liar.new }).to eq([:work_exception, "no text"])
      end
    end

    describe "the argument" do
      def seen_for(data)
        seen = nil
        outcome_of(data) { |argument| (seen = argument) && true }
        seen
      end

      it "is UTF-8 when it is ASCII" do
        expect(seen_for("plain")).to eq("plain").and have_attributes(encoding: Encoding::UTF_8, frozen?: false)
      end

      it "is binary otherwise, byte for byte" do
        expect(seen_for("gr\xc3\xb6\xff\0x".b)).to eq("gr\xc3\xb6\xff\0x".b).and have_attributes(encoding: Encoding::BINARY)
      end

      it "is an empty String, in UTF-8, when there is none" do
        expect(seen_for("")).to eq("").and have_attributes(encoding: Encoding::UTF_8)
      end

      it "comes in whole when it is large" do
        data = "\0ab\xff".b * (1 << 18)
        expect(seen_for(data)).to eq(data)
      end

      it "goes to blocks of no, one, two and more parameters" do
        run_worker(job_server, "none" => proc { "none" }, "one" => proc { |data| data },
                               "two" => proc { |data, job| [data, job.class].join(" ") },
                               "more" => proc { |data, _job, nothing| [data, nothing.inspect].join(" ") })
        expect(%w[none one two more].map { |function| client.run(function, "x").last })
          .to eq(["none", "x", "x Gearman::Worker::Job", "x nil"])
      end
    end

    describe "exceptions of a job" do
      {
        "a StandardError" => [-> { raise ArgumentError, "no number" }, "no number"],
        "one without a message" => [-> { raise IOError }, "IOError"],
        "one in UTF-8" => [-> { raise "zu groß" }, "zu groß"],
        "one in bytes" => [-> { raise "\xff\0\xfe".b }, "\xff\0\xfe".b],
        "a large one" => [-> { raise "x" * 100_000 }, "x" * 100_000],
        "a NoMethodError" => [-> { 1.no_such_method }, /no_such_method/],
        "a ScriptError" => [-> { raise NotImplementedError, "not yet" }, "not yet"],
        "a SyntaxError" => [-> { eval("1 +") }, /syntax|unexpected/], # rubocop:disable Style/EvalWithLocation
        "a LoadError" => [-> { require "no/such/file" }, %r{no/such/file}],
        "a Timeout::Error" => [-> { Timeout.timeout(0.01) { sleep } }, "execution expired"],
        "one of the library's own" => [-> { raise Gearman::NetworkError, "elsewhere" }, "elsewhere"],
        "a SecurityError" => [-> { raise SecurityError, "insecure" }, "insecure"],
        "an exception that is no StandardError" => [
          -> { raise Class.new(Exception), "rejected" }, "rejected" # rubocop:disable Lint/InheritException
        ],
        "a StopIteration" => [-> { raise StopIteration, "no more" }, "no more"],
        "a throw that nobody catches" => [-> { throw :nobody }, /uncaught throw :nobody/]
      }.each do |what, (block, message)|
        it "sends the message of #{what}" do
          type, sent = outcome_and_next { block.call }
          expect(type).to eq(:work_exception)
          message.is_a?(Regexp) ? expect(sent).to(match(message)) : expect(sent.b).to(eq(message.b))
        end
      end

      it "sends the name of an error that has no message to tell" do
        mute = Class.new(StandardError) { def message = raise("no message") }
        Gearman.const_set(:MuteError, mute)
        expect(outcome_and_next { raise mute }).to eq([:work_exception, "Gearman::MuteError"])
      ensure
        Gearman.send(:remove_const, :MuteError)
      end

      it "sends the message of a SystemStackError" do
        deeper = ->(depth) { deeper.call(depth + 1) + 1 }
        expect(outcome_and_next { deeper.call(0) }).to match([:work_exception, /stack level too deep/])
      end

      it "outlasts a block of on_error that raises such an exception, too" do
        worker = new_worker(job_server, "f" => ->(data, _) { data == "bad" ? raise(SecurityError, "job") : data })
        worker.on_error { raise SecurityError, "handler" }
        run(worker)
        expect(client.run("f", "bad")).to eq([:work_exception, "job"])
        expect(client.run("f", "good")).to eq([:work_complete, "good"])
      end

      it "sends that of a break and a return out of the block" do
        run_worker(job_server, "break" => proc { break 1 }, "return" => returning_proc, "next" => proc { "ok" })
        expect(client.run("break")).to match([:work_exception, /break from proc-closure/])
        expect(client.run("return")).to match([:work_exception, /unexpected return/])
        expect(client.run("next")).to eq([:work_complete, "ok"])
      end

      def returning_proc
        proc { return 1 }
      end

      it "is the only answer to the job" do
        run_worker(job_server, "f" => ->(*) { raise "once" })
        handle = client.submit("f")
        expect(client.packets_of(handle)).to eq([[:work_exception, "once"]])
        expect(client.wire.settle).to be(client.wire)
      end

      it "is logged with the function, the handle, the message and the place" do
        run_worker(job_server, "größe" => ->(*) { raise ArgumentError, "no number" })
        line = __LINE__ - 1
        handle = client.submit("größe")
        client.packets_of(handle)
        expect(logged(:error).size).to eq(1)
        expect(logged(:error).first)
          .to include("größe", handle, "ArgumentError", "no number", "#{File.basename(__FILE__)}:#{line}")
      end

      it "is no reason to log when there is none" do
        run_worker(job_server, "f" => ->(data, _) { data })
        client.run("f", "x")
        expect(log.string).to eq("")
      end

      it "is a warning and a failure for clients that did not ask, if the worker is told so" do
        run_worker(job_server, { "f" => ->(*) { raise "bad" } }, exceptions: false)
        mute = wire
        mute.request(:submit_job, "f", "", "x")
        packets = [mute.response, mute.response, mute.response]
        expect(packets.map(&:first)).to eq(%i[job_created work_warning work_fail])
        expect(packets[1].last).to eq("bad")
      end

      it "comes to a client that did not ask for exceptions as a failure" do
        run_worker(job_server, "f" => ->(*) { raise "unseen" })
        plain = wire
        _, handle = plain.ask(:submit_job, "f", "", "")
        expect(plain.response.take(2)).to eq([:work_fail, handle])
      end
    end

    describe "what ends the worker" do
      it "is exit in a job, once the job is answered" do
        worker = run_worker(job_server, "f" => ->(data, _) { data == "bad" ? exit(3) : data })
        bad, *good = %w[bad good good].map { |data| client.submit("f", data) }
        expect(worker.outcome).to be_a(SystemExit).and have_attributes(status: 3)
        expect(client.outcome(bad)).to eq([:work_exception, "exit"])
        expect(logged(:error).join).to include("f #{bad}", "SystemExit", File.basename(__FILE__))

        run_worker(job_server, "f" => ->(data, _) { data })
        expect(good.map { |handle| client.outcome(handle) }).to eq([[:work_complete, "good"]] * 2)
      end

      it "is abort in a job, with its message" do
        worker = run_worker(job_server, "f" => ->(*) { raise SystemExit.new(1, "give up") })
        expect(client.run("f")).to eq([:work_exception, "give up"])
        expect(worker.outcome).to be_a(SystemExit)
      end

      it "is an exception by which a library interrupts a thread or fiber" do
        stub_const("IRB::Abort", Class.new(Exception)) # rubocop:disable Lint/InheritException
        worker = run_worker(job_server, "f" => ->(*) { raise IRB::Abort })
        client.submit("f")
        expect(worker.outcome).to be_a(IRB::Abort)
      end

      {
        Interrupt => -> { raise Interrupt },
        SignalException => -> { raise SignalException, "TERM" },
        NoMemoryError => -> { raise NoMemoryError, "failed to allocate memory" }
      }.each do |error, raising|
        it "is #{error} in a job, which another worker gets then" do
          worker = run_worker(job_server, "f" => ->(*) { raising.call })
          handle = client.submit("f", "data")
          expect(worker.outcome).to be_a(error)
          expect(worker.worker.worker_enabled).to be(true)
          registered("f", 0)

          run_worker(job_server, "f" => ->(data, job) { "#{job.handle} #{data}" })
          expect(client.packets_of(handle)).to eq([[:work_complete, "#{handle} data"]])
        end
      end

      it "is a throw that is caught around work, and the job is run again" do
        thrown = false
        worker = new_worker(job_server, "f" => lambda { |data, _|
          throw :done, "caught" unless thrown
          data
        })
        first = run(worker) { catch(:done) { worker.work } }
        handle = client.submit("f", "data")
        expect(first.outcome).to eq("caught")
        thrown = true

        run(worker)
        expect(client.packets_of(handle)).to eq([[:work_complete, "data"]])
      end

      it "is a return out of the block to the method that runs work" do
        worker = new_worker(job_server)
        first = run(worker) { build_and_work(worker) }
        handle = client.submit("f", "data")
        expect(first.outcome).to eq("returned")

        worker.add_ability("f") { |data| data }
        run(worker)
        expect(client.packets_of(handle)).to eq([[:work_complete, "data"]])
      end

      def build_and_work(worker)
        worker.add_ability("f") { return "returned" }
        worker.work
      end
    end

    describe "the job" do
      it "has the handle and the unique that the client knows" do
        run_worker(job_server, "f" => ->(_, job) { "#{job.handle} #{job.unique.inspect}" })
        handle = client.submit("f", unique: "my-unique")
        expect(client.outcome(handle)).to eq([:work_complete, %(#{handle} "my-unique")])
        handle = client.submit("f")
        expect(client.outcome(handle)).to eq([:work_complete, %(#{handle} "")])
      end

      it "reports status, data and warnings in their order" do
        run_worker(job_server, "f" => lambda { |_, job|
          job.report_status(1, 4).report_status("2", "4")
          job.send_data("part\0\xff".b).report_warning("größer").send_data("")
          "end"
        })
        expect(client.packets_of(client.submit("f")).map { |packet| packet.map { |part| part.to_s.b } })
          .to eq([%w[work_status 1 4], %w[work_status 2 4], ["work_data", "part\0\xff".b],
                  ["work_warning", "größer".b], ["work_data", ""], %w[work_complete end]])
      end

      it "sends each report at once" do
        go_on = Queue.new
        reports = { report_status: [1, 4], send_data: ["part"], report_warning: ["careful"] }
        run_worker(job_server, "f" => lambda { |_, job|
          reports.each { |method, arguments| job.public_send(method, *arguments) && go_on.pop }
          "end"
        })
        handle = client.submit("f")
        [[:work_status, "1", "4"], [:work_data, "part"], [:work_warning, "careful"]].each do |packet|
          expect(client.packet_of(handle)).to eq(packet)
          go_on << true
        end
        expect(client.packet_of(handle)).to eq([:work_complete, "end"])
      end

      it "is visible to others while it runs" do
        go_on = Queue.new
        run_worker(job_server, "f" => lambda { |_, job|
          job.report_status(3, 8)
          go_on.pop
        })
        handle = client.submit("f")
        client.packet_of(handle)
        expect(wire.ask(:get_status, handle)).to eq([:status_res, handle, "1", "1", "3", "8"])
      ensure
        go_on << "done"
      end

      it "reports from other threads while the block runs" do
        parts = Array.new(4) { |thread| Array.new(25) { |number| "#{thread} #{number} #{"x" * 5000}" } }
        run_worker(job_server, "f" => lambda { |_, job|
          parts.map { |some| Thread.new { some.each { |part| job.send_data(part).report_warning(part) } } }.each(&:join)
          "end"
        })
        *reports, last = client.packets_of(client.submit("f"))
        expect(last).to eq([:work_complete, "end"])
        expected = parts.flatten.flat_map { |part| [[:work_data, part], [:work_warning, part]] }
        expect(reports).to match_array(expected)
      end

      it "goes on to the next when the server refuses its answer, as the job was answered before" do
        worker = run_worker(job_server, "f" => lambda { |data, job|
          job.answer(:work_complete, "by hand") if data == "twice"
          data
        })
        expect(client.run("f", "twice")).to eq([:work_complete, "by hand"])
        expect(client.run("f", "once")).to eq([:work_complete, "once"])
        expect(worker).not_to be_ended
        expect(log.string).to include("JOB_NOT_FOUND")
      end
    end

    describe "functions" do
      it "are named by anything that has a to_s, in any script" do
        names = [:symbol, "größe", "snow ☃ man", "\xff\xfe".b, "größe binär".b, "a" * 200]
        run_worker(job_server, names.to_h { |name| [name, ->(data, _) { "#{name.to_s.b.bytes.sum} #{data}" }] })
        names.each do |name|
          expect(client.run(name.to_s, "x")).to eq([:work_complete, "#{name.to_s.b.bytes.sum} x"])
        end
      end

      it "are logged at DEBUG with each job" do
        Gearman.logger.level = Logger::DEBUG
        run_worker(job_server, "f" => ->(*) { "f" }, "größe" => ->(*) { "größe" })
        handles = %w[f größe].to_h { |function| [function, client.submit(function)] }
        handles.each_value { |handle| client.packets_of(handle) }
        handles.each do |function, handle|
          expect(logged(:debug).count { |entry| entry.include?("Got #{function} #{handle}") }).to eq(1)
        end
        expect(logged(:error)).to eq([])
      end

      it "are the same whatever the encoding of the name" do
        run_worker(job_server, { "größe" => ->(*) { "old" }, "größe".b => ->(*) { "new" } })
        expect(client.run("größe")).to eq([:work_complete, "new"])
        expect(workers_for("größe")).to eq(1)
      end

      it "are announced once, also when they are added again" do
        worker = new_worker(job_server, "f" => ->(*) { "old" })
        registered("f", 1)
        worker.add_ability("f") { "new" }
        run(worker)
        expect(client.run("f")).to eq([:work_complete, "new"])
        expect(workers_for("f")).to eq(1)

        worker.add_ability("f") { "newer" }
        expect(client.run("f")).to eq([:work_complete, "newer"])
        expect(workers_for("f")).to eq(1)
      end

      it "can be added while the worker waits, with jobs in the queue already" do
        worker = run_worker(job_server, "f" => ->(*) { "f" })
        handle = client.submit("g")
        worker.waiting
        worker.worker.add_ability(:g) { "g" }
        expect(client.outcome(handle)).to eq([:work_complete, "g"])
      end

      it "can be removed, which the server hears of, and added again" do
        worker = run_worker(job_server, "f" => ->(*) { "f" }, "g" => ->(*) { "g" })
        registered("f", 1)
        expect(worker.worker.remove_ability("f")).to be_a(Gearman::Worker::Ability)
        expect(worker.worker.remove_ability("f")).to be_nil
        eventually("no worker for f") { workers_for("f").to_i.zero? }
        handle = client.submit("f")
        expect(client.run("g")).to eq([:work_complete, "g"])

        worker.worker.add_ability("f") { "back" }
        expect(client.outcome(handle)).to eq([:work_complete, "back"])
        registered("f", 1)
      end

      it "can be removed and added again before the worker works" do
        worker = new_worker(job_server, "f" => ->(*) { "f" })
        registered("f", 1)
        worker.remove_ability("f")
        eventually("no worker for f") { workers_for("f").to_i.zero? }
        worker.add_ability("f") { "again" }
        registered("f", 1)
        run(worker)
        expect(client.run("f")).to eq([:work_complete, "again"])
      end

      it "can be added and removed in a job" do
        worker = new_worker(job_server)
        worker.add_ability("grow") { |data| worker.add_ability(data) { "grown" } && true }
        worker.add_ability("shrink") { |data| worker.remove_ability(data) && true }
        run(worker)
        expect(client.run("grow", "new")).to eq([:work_complete, "true"])
        expect(client.run("new")).to eq([:work_complete, "grown"])
        registered("new", 1)
        expect(client.run("shrink", "new")).to eq([:work_complete, "true"])
        eventually("no worker for new") { workers_for("new").to_i.zero? }
        expect(client.run("shrink", "shrink")).to eq([:work_complete, "true"])
        eventually("no worker for shrink") { workers_for("shrink").to_i.zero? }
      end

      it "can be added from another thread while a job runs, which does not wait for it" do
        started = Queue.new
        go_on = Queue.new
        worker = run_worker(job_server, "f" => ->(*) { (started << true) && go_on.pop })
        handle = client.submit("f")
        started.pop
        worker.worker.add_ability("g") { "g" }
        registered("g", 1)
        worker.worker.remove_ability("f")
        go_on << "f"
        expect(client.outcome(handle)).to eq([:work_complete, "f"])
        expect(client.run("g")).to eq([:work_complete, "g"])
        eventually("no worker for f") { workers_for("f").to_i.zero? }
      end
    end

    describe "the queue" do
      it "is run in its order, with high priority first" do
        order = []
        %i[submit_job_low_bg submit_job_bg submit_job_high_bg].each do |type|
          client.submit_all("f", ["#{type} 1", "#{type} 2"], type: type)
        end
        run_worker(job_server, "f" => ->(data, _) { order << data })
        eventually("six jobs") { order.size == 6 }
        expect(order).to eq(["submit_job_high_bg 1", "submit_job_high_bg 2", "submit_job_bg 1", "submit_job_bg 2",
                             "submit_job_low_bg 1", "submit_job_low_bg 2"])
      end

      it "is shared by workers" do
        both = Queue.new
        met = Queue.new
        2.times { run_worker(job_server, "f" => ->(*) { (both << true) && met.pop }) }
        registered("f", 2)
        handles = Array.new(2) { client.submit("f") }
        eventually("two jobs at once") { both.size == 2 }
        2.times { met << "met" }
        expect(handles.map { |handle| client.outcome(handle) }).to eq([[:work_complete, "met"]] * 2)
      end

      it "runs a scheduled job soon after it is due, by a worker that sleeps" do
        ran_at = nil
        worker = run_worker(job_server, "f" => ->(*) { ran_at = Time.now })
        worker.waiting
        due = Time.at(Time.now.to_i + 2)
        client.schedule("f", due)
        eventually("the scheduled job") { ran_at }
        expect(ran_at - due).to be_between(-0.1, 3)
      end

      it "does not spin while a scheduled job hides one of low priority" do
        ran = Queue.new
        grabs = 0
        worker = new_worker(job_server, "f" => ->(data, _) { ran << data })
        worker.on_grab_job { grabs += 1 }
        due = Time.at(Time.now.to_i + 2)
        client.schedule("f", due, "scheduled")
        client.submit_all("f", ["low"], type: :submit_job_low_bg)
        run(worker)
        eventually("both jobs") { ran.size == 2 }
        expect(Array.new(2) { ran.pop }).to contain_exactly("low", "scheduled")
        expect(grabs).to be < 100
      end
    end

    describe "what the server lists" do
      it "is the client id and the functions, from the first connection on" do
        new_worker(job_server, { "f" => ->(*) {}, "größe" => ->(*) {} }, client_id: "me and 1")
        row = eventually("the worker") { job_server.admin("workers").lines.find { |line| line.b.include?("größe".b) } }
        expect(row.b).to match(/ me and 1 : \S+ \S+$/n)
        expect(row.b.split(" : ").last.split).to contain_exactly("f", "größe".b)
      end

      it "is a client id of 30 letters unless told otherwise" do
        worker = new_worker(job_server, "f" => ->(*) {})
        expect(worker.client_id).to match(/\A[a-z]{30}\z/)
        eventually("the worker") { job_server.admin("workers").include?(" #{worker.client_id} : f") }
      end
    end

    describe "a server that restarts" do
      it "is registered with again, and its jobs are run" do
        worker = run_worker(job_server, { "f" => ->(data, _) { data } }, client_id: "me").waiting
        job_server.restart
        registered("f", 1)
        expect(WorkerSide::WireClient.new(wire).run("f", "x")).to eq([:work_complete, "x"])
        expect(job_server.admin("workers")).to include(" me : f")
        expect(worker).not_to be_ended
        expect(logged(:warn).join).to include(job_server.address)
      end
    end

    describe "stopping" do
      it "ends a worker that waits at once, and it can work again" do
        worker = new_worker(job_server, "f" => ->(data, _) { data })
        running = run(worker).waiting
        took = seconds do
          worker.worker_enabled = false
          expect(running.outcome).to be(false)
        end
        expect(took).to be < 0.8
        registered("f", 0)

        worker.worker_enabled = true
        run(worker)
        expect(client.run("f", "x")).to eq([:work_complete, "x"])
      end

      it "answers the job that runs, and leaves the next in the queue" do
        started = Queue.new
        go_on = Queue.new
        worker = run_worker(job_server, "f" => ->(*) { (started << true) && go_on.pop })
        first, second = Array.new(2) { client.submit("f") }
        started.pop
        worker.worker.worker_enabled = false
        expect(worker).not_to be_ended
        go_on << "done"
        expect(worker.outcome).to be(false)
        expect(client.outcome(first)).to eq([:work_complete, "done"])
        expect(started).to be_empty

        run_worker(job_server, "f" => ->(*) { "by another" })
        expect(client.outcome(second)).to eq([:work_complete, "by another"])
      end

      it "can be done in a job, which is answered" do
        worker = new_worker(job_server)
        worker.add_ability("f") { (worker.worker_enabled = false) || "done" }
        running = run(worker)
        expect(client.run("f")).to eq([:work_complete, "done"])
        expect(running.outcome).to be(false)
      end

      it "takes the worker off the server's list by close" do
        worker = new_worker(job_server, "f" => ->(*) { "f" })
        registered("f", 1)
        worker.close
        registered("f", 0)
        worker.close
        run(worker)
        expect(client.run("f")).to eq([:work_complete, "f"])
      end
    end

    describe "#work_once" do
      let(:worker) { new_worker(job_server, "f" => ->(data, _) { data == "bad" ? raise("bad") : data }) }

      it "is true behind one job, and leaves the next in the queue" do
        handles = %w[one bad two].map { |data| client.submit("f", data) }
        expect(worker.work_once(20)).to be(true)
        expect(client.outcome(handles[0])).to eq([:work_complete, "one"])
        expect(job_server.admin("status")).to match(/^f\t2\t0\t1$/)
        expect(worker.work_once).to be(true)
        expect(client.outcome(handles[1])).to eq([:work_exception, "bad"])
        expect(worker.work_once(20)).to be(true)
        expect(client.outcome(handles[2])).to eq([:work_complete, "two"])
      end

      it "is nil when no job comes in time, and the worker stays registered" do
        took = seconds { expect(worker.work_once(0.3)).to be_nil }
        expect(took).to be_between(0.29, 5)
        expect(workers_for("f")).to eq(1)
        handle = client.submit("f", "x")
        expect(worker.work_once(20)).to be(true)
        expect(client.outcome(handle)).to eq([:work_complete, "x"])
      end

      it "is nil at once with a time-out of 0 and an empty queue" do
        expect(seconds { expect(worker.work_once(0)).to be_nil }).to be < 2
      end

      it "is false when the worker is disabled, before or meanwhile" do
        worker.worker_enabled = false
        expect(worker.work_once(5)).to be(false)
        worker.worker_enabled = true
        running = run(worker) { worker.work_once }.waiting
        worker.worker_enabled = false
        expect(running.outcome).to be(false)
      end

      it "waits for ever without a time-out" do
        running = run(worker) { worker.work_once }.waiting
        handle = client.submit("f", "x")
        expect(running.outcome).to be(true)
        expect(client.outcome(handle)).to eq([:work_complete, "x"])
      end
    end

    describe "loops around work" do
      it "end when the worker is disabled" do
        # rubocop:disable Style/WhileUntilModifier
        {
          "loop" => ->(w) { loop { w.work or break } },
          "while" => lambda { |w|
            while w.worker_enabled
              w.work
            end
          }
        }.each do |name, program|
          # rubocop:enable Style/WhileUntilModifier
          worker = new_worker(job_server, "f" => ->(data, _) { data })
          running = run(worker) { program.call(worker) || :done }
          expect(client.run("f", name)).to eq([:work_complete, name])
          worker.worker_enabled = false
          expect(running.outcome).to eq(:done)
          worker.close
        end
      end
    end

    describe "#after_ability" do
      it "runs behind the answer, with the result and the data" do
        answered = Queue.new
        seen = Queue.new
        worker = new_worker(job_server, "f" => ->(data, _) { data.size })
        worker.after_ability("f") do |result, data|
          answered.pop
          seen << [result, data]
        end
        run(worker)
        expect(client.run("f", "four")).to eq([:work_complete, "4"])
        answered << true
        expect(seen.pop).to eq(%w[4 four])
      end

      it "runs only for what completed" do
        seen = []
        worker = new_worker(job_server, "f" => lambda { |data, _|
          raise "bad" if data == "raise"

          data == "good"
        })
        worker.after_ability(:f) { |result, data| seen << [result, data] }
        run(worker)
        expect(%w[fail raise good].map { |data| client.run("f", data).first })
          .to eq(%i[work_fail work_exception work_complete])
        eventually("the block of after_ability") { seen.any? }
        expect(seen).to eq([%w[true good]])
      end

      it "is logged when it raises, and the worker goes on" do
        worker = new_worker(job_server, "f" => ->(data, _) { data })
        worker.after_ability("f") { raise "afterwards" }
        run(worker)
        expect(Array.new(2) { client.run("f", "x") }).to eq([[:work_complete, "x"]] * 2)
        expect(logged(:error).join).to include("after_ability", "f", "afterwards")
      end
    end

    describe "a subclass" do
      # Handlers of its own, which end in ours.
      let(:kind) do
        Class.new(described_class) do
          attr_reader :seen

          def handle_job_assign(data, connection)
            (@seen ||= []) << [data, connection.to_host_port]
            super
          end
        end
      end

      it "is given each job and can leave it to the library" do
        worker = new_worker(job_server, { "f" => ->(data, job) { "#{job.handle} #{data}" } }, kind: kind)
        running = run(worker)
        handles = %w[a b].map { |data| client.submit("f", data) }
        expect(handles.map { |handle| client.outcome(handle).last }).to eq(["#{handles[0]} a", "#{handles[1]} b"])
        expect(worker.seen)
          .to eq([["#{handles[0]}\0f\0a", job_server.address], ["#{handles[1]}\0f\0b", job_server.address]])
        worker.worker_enabled = false
        expect(running.outcome).to be(false)
      end

      it "can take the messages" do
        messages = []
        kind = Class.new(described_class) do
          define_method(:handle_work_message) do |type, data, connection|
            messages << type
            super(type, data, connection)
          end
        end
        run(new_worker(job_server, { "f" => ->(data, _) { data == "bad" ? raise("bad") : data } }, kind: kind))
        expect(client.run("f", "x")).to eq([:work_complete, "x"])
        expect(client.run("f", "bad")).to eq([:work_exception, "bad"])
        eventually("NO_JOB") { messages.include?(:no_job) }
        expect(messages - [:no_job]).to eq(%i[job_assign job_assign])
      end
    end
  end
end
