# frozen_string_literal: true

# The submitting side against gearmand and the embedded server.
RSpec.describe Gearman::Client, :quiet do
  each_job_server do
    subject(:client) { remember(described_class.new(job_server.address), :close) }

    let(:calls) { [] }

    # A task that writes down what it is told.
    def recording(function, argument = "", opts = {}, into: calls)
      Gearman::Task.new(function, argument, opts).tap do |task|
        %i[on_complete on_fail on_retry on_exception on_status on_warning on_data].each do |callback|
          task.public_send(callback) { |*arguments| into << [callback, *arguments] }
        end
      end
    end

    def run_set(*tasks, timeout: JobServers::PATIENCE)
      set = Gearman::TaskSet.new(client)
      tasks.each { |task| set.add_task(task) }
      set.wait(timeout)
    end

    # The sockets that the server has open, but the one that asks.
    def sockets
      job_server.admin("workers").lines.size - 2
    end

    # From a second without use on, a socket is looked at before it is used.
    def be_quiet
      sleep 1.1
    end

    describe "#do_task" do
      before { start_worker(job_server, "reverse" => ->(data, _job) { data.reverse }) }

      it "returns the result" do
        expect(client.do_task(Gearman::Task.new("reverse", "abc"))).to eq("cba")
        expect(client.do_task(Gearman::Task.new("reverse", "abc"), 20)).to eq("cba")
      end

      it "calls the callbacks of the task too, and leaves them in place" do
        task = recording("reverse", "abc")
        2.times { client.do_task(task) }
        expect(calls).to eq([[:on_complete, "cba"]] * 2)
        expect(task.successful).to be(true)
      end

      it "returns nil for a background and a scheduled task, which it submits" do
        handles = []
        tasks = [Gearman::BackgroundTask.new("later", "1"), Gearman::Task.new("later", "2", background: true),
                 Gearman::Task.new("later", "3").tap { |task| task.schedule(Time.now + 1000) }]
        tasks.each { |task| task.on_created { |handle| handles << handle } }
        expect(tasks.map { |task| client.do_task(task) }).to eq([nil, nil, nil])
        expect(handles).to all(match(/\AH:.+:\d+\z/)).and(satisfy { |all| all.uniq.size == 3 })
        expect(job_server.admin("status")).to include("later\t3\t0\t0\n")
      end

      it "returns nil when the time-out passed, and the next call gets its own answer" do
        start_worker(job_server, "wait" => ->(data, _job) { calls.pop if data == "x" && eventually { calls.any? } })
        expect(client.do_task(Gearman::Task.new("wait", "x"), 0.1)).to be_nil
        expect(client.do_task(Gearman::Task.new("reverse", "one"), 20)).to eq("eno")
        calls << "late"
        20.times { |index| expect(client.do_task(Gearman::Task.new("reverse", "n#{index}"), 20)).to eq("n#{index}".reverse) }
      end

      it "submits nothing when no time is left" do
        client.do_task(Gearman::Task.new("reverse", "")) # connects
        [0, -1].each { |timeout| expect(client.do_task(Gearman::Task.new("never", "x"), timeout)).to be_nil }
        expect(job_server.admin("status")).not_to include("never")
      end

      it "takes all that its one socket needs: no other is opened" do
        10.times { |index| client.do_task(Gearman::Task.new("reverse", index.to_s)) }
        client.do_task(Gearman::BackgroundTask.new("reverse", "b"))
        client.set_options("exceptions")
        expect(sockets).to eq(2) # the worker's and ours
      end
    end

    describe "payloads" do
      before { start_worker(job_server, "echo" => ->(data, _job) { data }, "size" => ->(data, _job) { data.bytesize }) }

      def echo(data) = client.do_task(Gearman::Task.new("echo", data), 20)

      {
        "nothing" => "",
        "a NUL byte" => "\0".b,
        "all bytes" => Array.new(256, &:chr).join.b,
        "UTF-8 over 128 bytes" => "é" * 200,
        "UTF-16" => "hé".encode("UTF-16LE"),
        "what looks like a packet" => "\0RES\0\0\0\x0D\0\0\0\x04H:1\0".b
      }.each do |what, data|
        it("carry #{what}") { expect(echo(data).b).to eq(data.b) }
      end

      it "carry 1 MiB both ways" do
        data = Random.new(1).bytes(1 << 20)
        expect(echo(data)).to eq(data)
      end

      it "carry 40 MiB both ways" do
        data = Random.new(2).bytes(1 << 20) * 40
        expect(echo(data) == data).to be(true)
        expect(echo("small")).to eq("small")
      end

      it "come back as UTF-8 when they are ASCII, as BINARY otherwise" do
        expect(echo("abc".b).encoding).to eq(Encoding::UTF_8)
        expect(echo("").encoding).to eq(Encoding::UTF_8)
        expect(echo("é")).to eq("é".b).and(have_attributes(encoding: Encoding::BINARY, frozen?: false))
      end

      it "are the same when they are large" do
        data = "x" * 300_000
        expect(echo(data)).to eq(data).and(have_attributes(encoding: Encoding::UTF_8, ascii_only?: true))
        data << "é"
        result = echo(data)
        expect(result).to eq(data.b).and(have_attributes(encoding: Encoding::BINARY, ascii_only?: false))
        expect(result << "more").to end_with("more")
      end

      it "of all sizes go out together and come back to their tasks" do
        results = {}
        sizes = [1, 70_000, 2 << 20, 5, 65_535, 65_536, 300_000, 3 << 20, 12]
        payloads = sizes.map { |size| Random.new(size).bytes(size) }
        set = Gearman::TaskSet.new(client)
        (payloads * 3).each_with_index do |data, index|
          keep = ->(result) { results[index] = result }
          set.add_task(Gearman::Task.new("echo", data, coalesce: false, on_complete: keep))
        end
        expect(set.wait(60)).to be(true)
        expect(results.sort.map(&:last) == payloads * 3).to be(true)
      end

      it "are not changed on the way out" do
        data = "é".dup.freeze
        expect(client.do_task(Gearman::Task.new("size", data), 20)).to eq("2")
        expect(data).to eq("é")
      end
    end

    describe "names" do
      it "may have any bytes but NUL" do
        start_worker(job_server, "fü nk" => ->(data, _job) { data })
        expect(client.do_task(Gearman::Task.new("fü nk", "\xFF".b), 20)).to eq("\xFF".b)
      end

      {
        "a function with a NUL byte" => ["a\0b", {}, /NUL byte in the argument "a\\u0000b"/],
        "an empty function" => ["", {}, /the function name is empty/],
        "a function over 8 KiB" => ["f" * 8200, {}, /longer than the server's limit of 8179 bytes/],
        "a unique with a NUL byte" => ["f", { hash: "u\0" }, /NUL byte in the argument "u\\u0000"/],
        "a unique of 64 bytes" => ["f", { hash: "u" * 64 }, /a unique of 64 bytes .*limit of 63: "u{64}"/]
      }.each do |what, (function, opts, message)|
        it "refuses #{what}, in every way to submit it, before anything is sent" do
          client.do_task(Gearman::BackgroundTask.new("other")) # connects
          task = -> { Gearman::Task.new(function, "data", opts) }
          background = -> { Gearman::BackgroundTask.new(function, "data", opts) }
          scheduled = -> { Gearman::Task.new(function, "data", { schedule_at: Time.now, **opts }) }
          [task, background, scheduled].each do |kind|
            expect { client.do_task(kind.call) }.to raise_error(Gearman::InvalidArgsError, message)
            expect { client.submit_job(kind.call, false, 5) }.to raise_error(Gearman::InvalidArgsError, message)
            expect { run_set(kind.call) }.to raise_error(Gearman::InvalidArgsError, message)
          end
          expect(job_server.admin("status")).to eq("other\t1\t0\t0\n.\n")
        end
      end

      it "takes a unique of 63 bytes as it is" do
        client.do_task(Gearman::BackgroundTask.new("f", "data", hash: "u" * 63))
        expect(job_server.admin("show unique jobs")).to eq("#{"u" * 63}\n.\n")
      end
    end

    describe "what a worker reports" do
      before do
        start_worker(job_server, "report" => lambda do |data, job|
          job.report_status(1, 2)
          job.send_data("part")
          job.report_warning("careful")
          job.send_data("\xFF\0".b)
          data
        end, "fail" => ->(*) {}, "raise" => ->(data, _job) { raise data })
      end

      it "reaches the callbacks in order" do
        expect(run_set(recording("report", "done"))).to be(true)
        expect(calls).to eq([[:on_status, "1", "2"], [:on_data, "part"], [:on_warning, "careful"],
                             [:on_data, "\xFF\0".b], [:on_complete, "done"]])
        expect(calls.flatten.grep(String).map(&:encoding).uniq).to eq([Encoding::UTF_8, Encoding::BINARY])
      end

      it "reaches nobody without callbacks, and the result is still right" do
        expect(client.do_task(Gearman::Task.new("report", "done"), 20)).to eq("done")
      end

      it "fails the task" do
        expect(run_set(recording("fail"))).to be(false)
        expect(calls).to eq([[:on_fail]])
        expect(client.do_task(Gearman::Task.new("fail"), 20)).to be_nil
        expect(client.submit_job(Gearman::Task.new("fail"))).to be(true)
      end

      it "retries it as often as it says" do
        task = recording("fail", "", { retry_count: 2 })
        expect(run_set(task)).to be(false)
        expect(calls).to eq([[:on_retry, 1], [:on_retry, 2], [:on_fail]])
        calls.clear
        expect(client.submit_job(task)).to be(true)
        expect(calls).to eq([[:on_fail]])
        calls.clear
        client.submit_job(task, true)
        expect(calls).to eq([[:on_retry, 1], [:on_retry, 2], [:on_fail]])
      end

      it "retries until it succeeds" do
        failures = 2
        start_worker(job_server, "flaky" => ->(data, _job) { (failures -= 1).negative? ? data : nil })
        expect(run_set(recording("flaky", "x", { retry_count: 5 }))).to be(true)
        expect(calls).to eq([[:on_retry, 1], [:on_retry, 2], [:on_complete, "x"]])
        failures = 1
        expect(client.do_task(Gearman::Task.new("flaky", "y", retry_count: 1), 20)).to eq("y")
      end

      it "is a failure when it is an exception and nobody asked for those" do
        expect(run_set(recording("raise", "boom", { retry_count: 1 }))).to be(false)
        expect(calls).to eq([[:on_retry, 1], [:on_fail]])
      end

      it "is an exception and then a failure with the option" do
        expect(client.set_options("exceptions")).to eq(["exceptions"])
        expect(run_set(recording("raise", "boom", { retry_count: 1 }))).to be(false)
        expect(calls).to eq([[:on_exception, "boom"], [:on_retry, 1], [:on_exception, "boom"], [:on_fail]])
        expect(client.do_task(Gearman::Task.new("raise", "boom"), 20)).to be_nil
        expect(client.do_task(Gearman::Task.new("report", "next"), 20)).to eq("next")
      end

      it "ends a task once when the worker sends both an exception and a failure, or its handle with a NUL" do
        wire_worker(job_server, "both", "nul") do |wire, handle, function|
          wire.request(:work_exception, handle, "boom") if function == "both"
          wire.request(:work_fail, "#{handle}\0")
        end
        [false, true].each do |option|
          client.set_options(:exceptions) if option
          %w[both nul].each do |function|
            expect(run_set(recording(function))).to be(false)
            expect(calls.count([:on_fail])).to eq(1)
            expect(calls.count([:on_exception, "boom"])).to eq(option && function == "both" ? 1 : 0)
            calls.clear
            expect(client.do_task(Gearman::Task.new("report", "next"), 20)).to eq("next")
          end
        end
      end
    end

    describe "#set_options" do
      it "takes a name or several, as Strings or Symbols" do
        expect(client.set_options(["exceptions", :exceptions])).to eq(%w[exceptions exceptions])
        expect(client.set_option(:exceptions).map(&:to_host_port)).to eq([job_server.address])
      end

      it "refuses what the server does not have, with its words" do
        expect { client.set_options("nonsense") }.to raise_error(Gearman::ProtocolError, /UNKNOWN_OPTION/)
        expect { client.set_options("a\0b") }.to raise_error(Gearman::InvalidArgsError, /NUL byte/)
      end

      it "holds on every socket, those of later too, and over a restart of the server" do
        start_worker(job_server, "echo" => ->(data, _job) { data })
        task = Gearman::Task.new("echo")
        task.on_complete { client.do_task(Gearman::BackgroundTask.new("other")) } # on a second socket
        client.do_task(task)
        client.set_options("exceptions")
        failures = lambda do
          start_worker(job_server, "raise" => ->(data, _job) { raise data })
          run_set(recording("raise", "one"))
          outer = recording("raise", "two")
          outer.on_exception do |text|
            calls << text
            client.do_task(recording("raise", "inner"), 20) # on a second socket
          end
          client.do_task(outer, 20)
          calls.dup.tap { calls.clear }
        end
        expected = [[:on_exception, "one"], [:on_fail], "two", [:on_exception, "inner"], [:on_fail], [:on_fail]]
        expect(failures.call).to eq(expected)
        job_server.restart
        be_quiet
        expect(failures.call).to eq(expected)
      end
    end

    describe "a server that is down for a moment" do
      it "is found again by the next call" do
        start_worker(job_server, "echo" => ->(data, _job) { data })
        expect(client.do_task(Gearman::Task.new("echo", "before"), 20)).to eq("before")
        job_server.kill
        expect { client.do_task(Gearman::Task.new("echo", "x"), 5) }
          .to raise_error(Gearman::Error) { |error|
            expect(error).to be_a(Gearman::NoJobServersError).or be_a(Gearman::NetworkError)
          }
        job_server.start
        expect(eventually do
          client.do_task(Gearman::Task.new("echo", "after"), 20)
        rescue Gearman::Error
          nil
        end).to eq("after")
      end

      it "costs a client that was quiet nothing" do
        start_worker(job_server, "echo" => ->(data, _job) { data })
        expect(client.do_task(Gearman::Task.new("echo", "before"), 20)).to eq("before")
        job_server.restart
        start_worker(job_server, "echo" => ->(data, _job) { data })
        be_quiet
        expect(client.do_task(Gearman::Task.new("echo", "after"), 20)).to eq("after")
      end
    end

    describe "equal uniques" do
      it "are one job for the server, whose result all tasks get, also on one socket" do
        runs = Queue.new
        gate = Queue.new
        start_worker(job_server, "count" => lambda do |data, job|
          runs << data
          gate.pop
          job.send_data("part")
          data
        end)
        tasks = Array.new(3) { |index| recording("count", "same", into: calls[index] = []) }
        tasks << recording("count", "other", { uniq: "other" }, into: calls[3] = [])
        created = 0
        tasks.each { |task| task.on_created { gate << true << true if (created += 1) == 4 } }
        expect(run_set(*tasks)).to be(true)
        expect(calls.first(3)).to eq([[[:on_data, "part"], [:on_complete, "same"]]] * 3)
        expect(calls.last).to eq([[:on_data, "part"], [:on_complete, "other"]])
        expect(runs.size).to eq(2)
      end

      it "are jobs of their own with coalesce: false" do
        runs = Queue.new
        start_worker(job_server, "count" => ->(data, _job) { (runs << data) && data })
        expect(run_set(*Array.new(3) { recording("count", "same", { coalesce: false }) })).to be(true)
        expect(runs.size).to eq(3)
      end
    end

    it "keeps priorities" do
      order = Queue.new
      %i[low high].each { |priority| client.do_task(Gearman::BackgroundTask.new("f", priority.to_s, priority: priority)) }
      client.do_task(Gearman::BackgroundTask.new("f", "normal"))
      start_worker(job_server, "f" => ->(data, _job) { order << data })
      expect(Array.new(3) { pop(order) }).to eq(%w[high normal low])
    end

    it "runs a scheduled task not before its time" do
      time = Time.now.to_i + 1
      runs = Queue.new
      client.do_task(Gearman::Task.new("f", "x", schedule_at: time), 20)
      start_worker(job_server, "f" => ->(*) { runs << Time.now.to_f })
      expect(pop(runs)).to be >= time
    end

    describe "#close" do
      it "closes every socket, and the next call opens new ones" do
        start_worker(job_server, "echo" => ->(data, _job) { data })
        2.times do
          expect(client.do_task(Gearman::Task.new("echo", "x"), 20)).to eq("x")
          expect(sockets).to eq(2)
          client.close
          eventually("one socket less") { sockets == 1 }
          client.close
        end
      end
    end

    describe "threads" do
      it "share a client" do
        start_worker(job_server, "reverse" => ->(data, _job) { data.reverse })
        answers = Array.new(20) do |thread|
          Thread.new { Array.new(25) { |index| client.do_task(Gearman::Task.new("reverse", "#{thread}-#{index}"), 60) } }
        end
        expect(answers.map(&:value))
          .to eq(Array.new(20) { |thread| Array.new(25) { |index| "#{thread}-#{index}".reverse } })
        expect(sockets - 1).to be_between(1, 20)
      end

      it "use 64 sockets at most, and then wait for one" do
        handles = Queue.new
        wire_worker = wire
        wire_worker.request(:can_do, "hold").settle
        threads = Array.new(70) do |index|
          Thread.new do
            task = Gearman::Task.new("hold", index.to_s)
            task.on_created { |handle| handles << handle }
            client.do_task(task, 60)
          end
        end
        first = Array.new(64) { pop(handles) }
        expect(sockets).to eq(65)
        expect(first.uniq.size).to eq(64)
        expect(handles).to be_empty
        70.times do
          reply = eventually("a job") { (answer = wire_worker.ask(:grab_job)).first == :job_assign && answer }
          wire_worker.request(:work_complete, reply[1], reply[3])
        end
        expect(threads.map(&:value)).to eq(Array.new(70, &:to_s))
        expect(sockets).to be <= 65
      end
    end
  end
end
