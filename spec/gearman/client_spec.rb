# frozen_string_literal: true

require "stringio"

# The client against servers that misbehave. What it does against real ones is in spec/conformance/client_spec.rb.
RSpec.describe Gearman::Client, :quiet do
  def client_of(*servers)
    remember(described_class.new(servers.map(&:address)), :close)
  end

  def dead_address
    "127.0.0.1:#{JobServers.free_port}"
  end

  describe "what makes no sense" do
    let(:client) { described_class.new("127.0.0.1:1") }

    it "is refused with its value, where a time-out is taken" do
      task = Gearman::Task.new("f")
      set = Gearman::TaskSet.new(client)
      ["3", Float::NAN, :soon].each do |seconds|
        [-> { client.do_task(task, seconds) }, -> { set.wait(seconds) }].each do |call|
          message = /a time-out is a number of seconds or nil, not #{seconds.inspect}/
          expect(&call).to raise_error(Gearman::InvalidArgsError, message)
        end
      end
      expect(client.do_task(task, Struct.new(:to_f).new(-1.0))).to be_nil # ActiveSupport::Duration is like it
    end

    it "is refused with its value, where a task is taken" do
      set = Gearman::TaskSet.new(client)
      { do_task: client, submit_all: client, add_task: set }.each do |method, taker|
        expect { taker.public_send(method, method == :submit_all ? [nil] : nil) }
          .to raise_error(Gearman::InvalidArgsError, /task.* not nil/)
      end
    end

    it "is refused with its value, where a key is taken" do
      expect { client.job_status(nil) }.to raise_error(Gearman::InvalidArgsError, "a handle is a String, not nil")
      expect { client.job_status_by_unique(5) }.to raise_error(Gearman::InvalidArgsError, "a unique is a String, not 5")
    end

    [0, -1, "3", Float::NAN].each do |seconds|
      it "is refused as the connect time-out: #{seconds.inspect}" do
        message = "connect_timeout is a number of seconds above 0, not #{seconds.inspect}"
        expect { described_class.new("127.0.0.1:1", connect_timeout: seconds) }
          .to raise_error(Gearman::InvalidArgsError, message)
        expect { Gearman::Worker.new("127.0.0.1:1", connect_timeout: seconds) }
          .to raise_error(Gearman::InvalidArgsError, message)
      end
    end
  end

  # Answers each job with its argument, turned round.
  def reversing(peer)
    number = 0
    loop do
      type, _function, _unique, data = peer.request
      if type == :option_req
        peer.reply(:option_res, "exceptions")
      else
        handle = "H:#{number += 1}"
        peer.reply(:job_created, handle)
        peer.reply(:work_complete, handle, data.reverse) unless type.end_with?("_bg")
      end
    end
  end

  def reverse(client, text = "abc")
    client.do_task(Gearman::Task.new("reverse", text), JobServers::PATIENCE)
  end

  describe "#initialize" do
    it "touches no network" do
      server = scripted_server { |peer| reversing(peer) }
      client = described_class.new([server.address, "no-such-host.invalid", dead_address])
      expect(server.connections).to be_empty
      expect(client.task_create_timeout_sec).to eq(10)
    end

    it "takes addresses in every form" do
      [nil, [], "h", :h, "h:1,[::1]:2", ["h", :"h:1"]].each do |servers|
        expect do
          described_class.new(servers)
        end.not_to raise_error
      end
      server = scripted_server { |peer| reversing(peer) }
      expect(reverse(described_class.new(server.address))).to eq("cba")
      expect(reverse(described_class.new(server.address.to_sym))).to eq("cba")
    end

    ["", "h:name", "h:99999", ":1", "::1"].each do |address|
      it "refuses #{address.inspect} and names it" do
        [address, [address], ["good:1", address]].each do |servers|
          expect { described_class.new(servers) }
            .to raise_error(Gearman::InvalidArgsError,
                            /\A#{Regexp.escape(address.inspect)} is no address of a job server: /)
        end
      end
    end
  end

  describe "without a server" do
    it "says that none is configured" do
      client = described_class.new
      task = Gearman::Task.new("f")
      expect { client.do_task(task) }.to raise_error(Gearman::NoJobServersError, "no job server is configured")
      expect { client.do_task(Gearman::BackgroundTask.new("f")) }.to raise_error(Gearman::NoJobServersError)
      expect { client.submit_job(task) }.to raise_error(Gearman::NoJobServersError)
      expect { client.set_options("exceptions") }
        .to raise_error(Gearman::NoJobServersError, "no job server can be reached to set the option exceptions")
    end

    it "names those that cannot be reached" do
      addresses = [dead_address, dead_address]
      client = described_class.new(addresses)
      reasons = addresses.map { |address| "#{Regexp.escape(address)} \\(.+\\)" }
      message = /\Ano job server can be reached: #{reasons.join(", ")}\z/
      3.times { expect { client.do_task(Gearman::Task.new("f")) }.to raise_error(Gearman::NoJobServersError, message) }
      expect { client.set_option(:exceptions) }.to raise_error(Gearman::NoJobServersError, /the option exceptions/)
    end
  end

  describe "#task_create_timeout_sec" do
    it "bounds the wait for JOB_CREATED of a background task" do
      silent = scripted_server { |peer| loop { peer.request } }
      client = client_of(silent)
      client.task_create_timeout_sec = 0.05
      task = Gearman::BackgroundTask.new("f")
      message = "#{silent.address}: no answer before the time-out; outcome unknown of f (#{task.get_uniq_hash})"
      [-> { client.do_task(task) }, -> { Gearman::TaskSet.new(client).add_task(task) }].each do |call|
        expect(&call).to raise_error(Gearman::NetworkError, message) { |error| expect(error.tasks).to eq([task]) }
      end
    end
  end

  # Ruby code runs between what ends a submission and the caller then: it must not take its place.
  describe "a submission that fails while somebody waits for its connection" do
    let(:asked) { Queue.new }
    let(:answer) { Queue.new }
    let(:server) { scripted_server { |peer| loop { peer.request && (asked << true) && peer.reply(*pop(answer)) } } }
    let(:client) { client_of(server) }
    let(:waiter) { Struct.new(:condition, :called).new(ConditionVariable.new, false) }

    def submit_awaited
      calling = Thread.new { yield client }
      calling.report_on_exception = false
      pop(asked)
      client.instance_variable_get(:@connection_pool).get_connection.send(:waiting=, [waiter])
      calling
    end

    it "raises what the server has refused" do
      calling = submit_awaited { client.do_task(Gearman::BackgroundTask.new("f")) }
      answer << [:error, "QUEUE_FULL", "the queue is full"]
      expect { calling.value }.to raise_error(Gearman::RefusedError, /the queue is full/)
      expect(waiter.called).to be(true)
    end

    it "lets a time-out throw" do
      calling = submit_awaited { Timeout.timeout(0.3) { client.do_task(Gearman::BackgroundTask.new("f")) } }
      expect { calling.value }.to raise_error(Timeout::Error)
      expect(waiter.called).to be(true)
    end

    it "ends with its thread" do
      calling = submit_awaited { client.do_task(Gearman::BackgroundTask.new("f")) }
      expect(calling.kill.join.value).to be_nil
      expect(waiter.called).to be(true)
    end
  end

  it "asks a class of its own for what that has made its own" do
    kind = Class.new(described_class) do
      attr_reader :kept

      def submit_background(task) = @kept = task
      def task_create_timeout_sec = 0.05
    end
    client = remember(kind.new(scripted_server { |peer| loop { peer.request } }.address), :close)
    task = Gearman::BackgroundTask.new("f")
    expect(client.do_task(task)).to be_nil
    expect(client.kept).to equal(task)
    expect { client.do_task(Gearman::Task.new("f")) }.to raise_error(Gearman::NetworkError, /outcome unknown/)
  end

  describe "a time-out" do
    [
      Gearman::SocketTimeoutError, Gearman::NoJobServersError, Gearman::NetworkError, Gearman::ServerDownException
    ].each do |error|
      it "of another kind ends the wait, even if it raises a #{error}" do
        waits = Queue.new
        server = scripted_server { |peer| peer.accept_job("H:1") && (waits << true) && sleep }
        client = client_of(server)
        calling = Thread.new { client.do_task(Gearman::Task.new("f"), 5) }
        calling.report_on_exception = false
        pop(waits)
        sleep 0.05
        calling.raise(error, "enough")
        expect { calling.value }.to raise_error(error, "enough")
      end
    end

    it "is kept in the face of a server that talks and takes nothing", :process do
      client = remember(described_class.new("127.0.0.1:#{talking_server(:noop, deaf: true)}"), :close)
      client.task_create_timeout_sec = 0.2
      calling = Thread.new { client.do_task(Gearman::BackgroundTask.new("f", "x" * (8 << 20))) }
      calling.report_on_exception = false
      expect { calling.join(JobServers::PATIENCE) }.to raise_error(Gearman::NetworkError, /no answer before the time/)
    ensure
      calling&.kill
    end

    [[:work_status, "H:0", "1", "2"], [:noop]].each do |noise|
      it "is kept in the face of a server that sends #{noise.first} all the time", :process do
        client = remember(described_class.new("127.0.0.1:#{talking_server(*noise)}"), :close)
        client.task_create_timeout_sec = 0.2
        calls = [
          -> { client.do_task(Gearman::BackgroundTask.new("f")) },
          -> { client.job_status("H:2") },
          -> { client.do_task(Gearman::Task.new("f"), 0.2) || raise(Gearman::SocketTimeoutError) },
          -> { client.do_task(Gearman::Task.new("f"), 0.5) || raise(Gearman::SocketTimeoutError) }
        ]
        calls.each do |call|
          calling = Thread.new(&call)
          calling.report_on_exception = false
          expect { calling.join(JobServers::PATIENCE) }.to raise_error(Gearman::Error)
        ensure
          calling&.kill
        end
      end
    end
  end

  describe "#set_options" do
    let(:requests) { Queue.new }
    let(:script) do
      proc do |peer|
        loop do
          type, argument = peer.request
          requests << [type, argument]
          peer.reply(*(type == :option_req ? [:option_res, argument] : [:job_created, "H:1"]))
        end
      end
    end

    it "sends them first on each new socket" do
      client = client_of(scripted_server(&script))
      client.set_options(%w[exceptions])
      2.times do
        requests.clear
        client.close
        client.do_task(Gearman::BackgroundTask.new("f"))
        expect(Array.new(2) { pop(requests) }).to eq([[:option_req, "exceptions"], [:submit_job_bg, "f"]])
      end
    end

    it "sends them to a server that is down meanwhile when it is back" do
      port = JobServers.free_port
      up = scripted_server(&script)
      client = remember(described_class.new([up.address, "127.0.0.1:#{port}"]), :close)
      expect(client.set_options("exceptions")).to eq(%w[exceptions])
      client.close
      up.stop # the other is all that is left
      requests.clear
      scripted_server(port: port, &script)
      client.do_task(Gearman::BackgroundTask.new("f"))
      expect(Array.new(requests.size) { requests.pop }).to eq([[:option_req, "exceptions"], [:submit_job_bg, "f"]])
    end

    it "raises what the server says, and does not remember what it refuses" do
      requests = Queue.new
      server = scripted_server do |peer|
        loop do
          requests << (type, = peer.request).first
          peer.reply(*(type == :option_req ? [:error, "UNKNOWN_OPTION", "no such thing"] : [:job_created, "H:1"]))
        end
      end
      client = client_of(server)
      expect { client.set_options("nonsense") }.to raise_error(Gearman::RefusedError, "UNKNOWN_OPTION no such thing")
      client.close
      client.do_task(Gearman::BackgroundTask.new("f"))
      expect(Array.new(requests.size) { requests.pop }).to eq(%i[option_req submit_job_bg])
    end
  end

  describe "an ERROR for a submission" do
    it "is raised with its code and text, and the next call is right" do
      server = scripted_server do |peer|
        3.times { peer.request && peer.reply(:error, "QUEUE_ERROR", "Job queue is full") }
        reversing(peer)
      end
      client = client_of(server)
      message = /Received error when we were expecting JOB_CREATED: QUEUE_ERROR Job queue is full/
      refusal = raise_error(Gearman::RefusedError, message) { |error| expect(error.code).to eq("QUEUE_ERROR") }
      expect { reverse(client) }.to refusal
      expect { client.do_task(Gearman::BackgroundTask.new("f")) }.to refusal
      expect { client.submit_job(Gearman::Task.new("f")) }.to refusal
      expect(reverse(client)).to eq("cba")
      expect(server.connections.size).to eq(1)
    end
  end

  describe "replies" do
    it "are read one byte at a time" do
      server = scripted_server do |peer|
        2.times do
          peer.accept_job("H:1")
          bytes = %w[1 2].map { |number| ScriptedServer::Peer.packet(:work_status, "H:1", number, "2") }.join
          bytes << ScriptedServer::Peer.packet(:work_data, "H:1",
                                               "part") << ScriptedServer::Peer.packet(:work_complete, "H:1", "done")
          bytes.each_char { |byte| peer.write(byte) && Thread.pass }
        end
      end
      client = client_of(server)
      2.times do
        calls = []
        task = Gearman::Task.new("f")
        task.on_status { |*status| calls << status }
        task.on_data { |data| calls << data }
        expect(client.do_task(task, 20)).to eq("done")
        expect(calls).to eq([%w[1 2], %w[2 2], "part"])
      end
    end

    it "that belong to nobody are dropped, wherever they stand" do
      server = scripted_server do |peer|
        peer.request
        noise = [[:noop], [:no_job], [:work_complete, "H:0", "other's"], [:work_status, "H:0", "1", "2"],
                 [:status_res, "H:0", "0", "0", "0", "0"], [:option_res, "x"], [:echo_res, "y"],
                 [:work_fail, "H:9\0"], [:job_assign, "H:0", "f", "x"]]
        noise.each { |packet| peer.reply(*packet) }
        peer.reply(:job_created, "H:1")
        (noise + [[:error, "JOB_NOT_FOUND", "late"]]).each { |packet| peer.reply(*packet) }
        peer.reply(:work_complete, "H:1", "mine")
        noise.each { |packet| peer.reply(*packet) }
        peer.reply(:work_complete, "H:1", "again")
        reversing(peer)
      end
      client = client_of(server)
      expect(client.do_task(Gearman::Task.new("f"), 20)).to eq("mine")
      3.times { expect(reverse(client)).to eq("cba") }
      expect(server.connections.size).to eq(1)
    end

    it "end a task once: an exception and then a failure, twice the result, a handle with a NUL" do
      endings = [
        [[:work_exception, "H:1", "boom"], [:work_fail, "H:1"]],
        [[:work_exception, "H:1", "boom"], [:work_fail, "H:1\0"], [:work_complete, "H:1", "x"]],
        [[:work_fail, "H:1\0"], [:work_fail, "H:1"]],
        [[:work_fail, "H:1"], [:work_complete, "H:1", "x"]]
      ]
      server = scripted_server do |peer|
        endings.each do |packets|
          peer.accept_job("H:1")
          packets.each { |packet| peer.reply(*packet) }
        end
        reversing(peer)
      end
      client = client_of(server)
      calls = endings.map do
        [].tap do |list|
          task = Gearman::Task.new("f")
          task.on_exception { |message| list << message }
          task.on_fail { list << :fail }
          task.on_complete { |data| list << data }
          expect(client.do_task(task, 20)).to be_nil
        end
      end
      expect(calls).to eq([["boom", :fail], ["boom", :fail], [:fail], [:fail]])
      expect(reverse(client)).to eq("cba")
    end

    it "that warn are logged where no callback takes them, as text" do
      Gearman.logger = Logger.new(log = StringIO.new, level: Logger::WARN)
      server = scripted_server do |peer|
        2.times do
          peer.accept_job("H:1")
          peer.reply(:work_warning, "H:1", "disk \xFF full").reply(:work_complete, "H:1", "done")
        end
      end
      client = client_of(server)
      told = []
      heard = Gearman::Task.new("heard", "", on_warning: told.method(:push).to_proc)
      [heard, Gearman::Task.new("resize")].each { |task| expect(client.do_task(task, 20)).to eq("done") }
      expect(told).to eq(["disk \xFF full".b])
      expect(log.string.lines).to match([/WARN.*resize warns: disk \\xFF full$/])
    end

    it "of a job that was submitted twice come twice, one for each submission" do
      packets = [[:work_status, "1", "2"], [:work_warning, "w"], [:work_exception, "boom"], [:work_fail]]
      server = scripted_server do |peer|
        %w[exception fail retry].each do |how|
          2.times { peer.accept_job("H:#{how}") }
          sent = packets.reject { |type, _| type == (how == "exception" ? :work_fail : :work_exception) }
          sent.each { |type, *parts| 2.times { peer.reply(type, "H:#{how}", *parts) } }
        end
        2.times { peer.accept_job("H:again") }
        2.times { peer.reply(:work_complete, "H:again", "done") }
      end
      client = client_of(server)
      outcome = lambda do |count|
        set = Gearman::TaskSet.new(client)
        calls = Array.new(2) do
          [].tap do |list|
            set.add_task(task = Gearman::Task.new("f", "same", retry_count: count))
            { on_status: :status, on_warning: :warning, on_exception: :exception, on_fail: :fail, on_retry: :retry,
              on_complete: :complete }.each { |callback, name| task.public_send(callback) { |*| list << name } }
          end
        end
        [set.wait(20), *calls]
      end
      expect(outcome.call(0)).to eq([false, *[%i[status warning exception fail]] * 2])
      expect(outcome.call(0)).to eq([false, *[%i[status warning fail]] * 2])
      expect(outcome.call(1)).to eq([true, *[%i[status warning retry complete]] * 2])
    end

    it "that come after a time-out disturb nobody" do
      timed_out = Queue.new
      server = scripted_server do |peer|
        peer.request # its JOB_CREATED is late too
        timed_out.pop
        peer.reply(:job_created, "H:1").reply(:work_complete, "H:1", "late")
        peer.accept_job("H:2")
        timed_out.pop
        peer.reply(:work_data, "H:2", "late").reply(:work_fail, "H:2")
        peer.request # a background task
        timed_out.pop
        peer.reply(:job_created, "H:3")
        reversing(peer)
      end
      client = client_of(server)
      created = Queue.new
      expect(client.do_task(Gearman::Task.new("f"), 0.05)).to be_nil
      timed_out << true
      second = Gearman::Task.new("f", "x")
      second.on_created { created << true }
      expect { client.submit_job(second, false, 0.3) }
        .to raise_error(Gearman::SocketTimeoutError, "f: no result in 0.3 seconds")
      expect(created.size).to eq(1)
      timed_out << true
      client.task_create_timeout_sec = 0.05
      expect { client.do_task(Gearman::BackgroundTask.new("f")) }.to raise_error(Gearman::NetworkError)
      timed_out << true
      20.times { |index| expect(reverse(client, "n#{index}")).to eq("n#{index}".reverse) }
      expect(server.connections.size).to eq(1)
    end
  end

  describe "a stream that is not the protocol" do
    {
      "a wrong magic" => ["\0BAD\0\0\0\x08\0\0\0\0", "invalid magic"],
      "text" => ["ERR UNKNOWN_COMMAND whatever\r\n", "invalid magic"],
      "a request" => [JobServers::Wire.packet(:echo_req, "x"), "invalid magic"],
      "a type of the other direction" => ["\0RES\0\0\0\x07\0\0\0\0", "packet type not expected in this direction"],
      "an unknown type" => ["\0RES\0\0\0\x63\0\0\0\0", "invalid packet type"],
      "a length of 4 GiB" => [
        "\0RES\0\0\0\x0D\xFF\xFF\xFF\xFF",
        "packet of 4294967295 bytes is larger than the limit of 1073741824 bytes"
      ]
    }.each do |what, (bytes, message)|
      it "is #{what}: it is closed with that reason, and the next call is right" do
        created = []
        server = scripted_server do |peer, number|
          next reversing(peer) if number == 2

          number.zero? ? peer.accept_job("H:1") : peer.request
          peer.write(bytes)
          created << peer.closed_by_client?
        end
        client = client_of(server)
        [Gearman::Task.new("f"), Gearman::BackgroundTask.new("f")].each do |task|
          expect { client.do_task(task, 20) }
            .to raise_error(Gearman::NetworkError, /\A#{server.address}: #{message}; outcome unknown of f /) { |error|
              expect(error.tasks).to eq([task])
            }
        end
        expect(reverse(client)).to eq("cba")
        expect(eventually { created.size == 2 && created }).to eq([true, true])
      end
    end
  end

  describe "a connection that is lost" do
    endings = { "closed" => :close, "reset" => :reset }
    {
      "before the reply" => lambda(&:request),
      "behind half a reply" => ->(peer) { peer.request && peer.write("\0RES\0\0\0\x08\0\0\0\x03H:") },
      "behind the reply" => ->(peer) { peer.accept_job("H:1") },
      "in the middle of the result" => lambda { |peer|
        peer.accept_job("H:1") && peer.write("\0RES\0\0\0\x0D\0\0\0\x40H:1\0half")
      }
    }.each do |place, script|
      endings.each do |how, ending|
        it "#{place} (#{how}) raises NetworkError with the task, is not sent again, and the next call is right" do
          server = scripted_server do |peer, number|
            next reversing(peer) if number.positive?

            script.call(peer)
            peer.public_send(ending)
          end
          client = client_of(server)
          task = Gearman::Task.new("f", "data", uniq: "mine")
          completed = false
          task.on_complete { completed = true }
          expect { client.do_task(task, 20) }
            .to raise_error(Gearman::NetworkError,
                            /\A#{server.address}: .*; outcome unknown of f \(#{task.get_uniq_hash}\)\z/) { |error|
              expect(error.tasks).to eq([task])
            }
          expect(completed).to be(false)
          expect(reverse(client)).to eq("cba")
        end
      end
    end

    it "raises NetworkError for a background task, whose outcome is unknown" do
      server = scripted_server do |peer, number|
        next reversing(peer) if number.positive?

        peer.request
        peer.close
      end
      client = client_of(server)
      task = Gearman::BackgroundTask.new("f")
      expect { client.do_task(task) }
        .to raise_error(Gearman::NetworkError, /\A#{server.address}: .*f \(#{task.get_uniq_hash}\)/) { |error|
          expect(error.tasks).to eq([task])
        }
      expect(client.do_task(Gearman::BackgroundTask.new("f"))).to be_nil
      expect(server.connections.size).to eq(2)
    end

    it "costs nothing when that can be seen before something is sent" do
      closed = Queue.new
      server = scripted_server do |peer, number|
        next reversing(peer) if number.positive?

        peer.accept_job("H:1")
        peer.reply(:work_complete, "H:1", "first")
        peer.close
        closed << true
      end
      client = client_of(server)
      expect(client.do_task(Gearman::Task.new("f"), 20)).to eq("first")
      pop(closed)
      sleep 1.1 # a socket that was used just now is not looked at
      expect(reverse(client)).to eq("cba")
    end
  end

  describe "several servers" do
    it "passes over one that is dead from the start" do
      live = scripted_server { |peer| reversing(peer) }
      [[dead_address, live.address], [live.address, dead_address]].each do |addresses|
        client = remember(described_class.new(addresses), :close)
        10.times { |index| expect(reverse(client, index.to_s)).to eq(index.to_s) }
        3.times { expect(client.do_task(Gearman::BackgroundTask.new("f"))).to be_nil }
      end
    end

    it "passes over one that dies, and comes back to it" do
      servers = Array.new(2) { start_embedded_server }
      servers.each { |server| start_worker(server, "reverse" => ->(data, _job) { data.reverse }) }
      client = client_of(*servers)
      texts = Array.new(20, &:to_s)
      texts.each { |text| expect(reverse(client, text)).to eq(text.reverse) }
      port = servers[0].port
      servers[0].kill
      texts.each do |text|
        expect(reverse(client, text)).to eq(text.reverse)
      rescue Gearman::NetworkError # the sockets that were in use just now
        retry
      end
      again = remember(JobServers::Embedded.start(port: port))
      eventually("a job for the server that is back") do
        texts.each { |text| client.do_task(Gearman::BackgroundTask.new("later", text)) }
        again.admin("status").include?("later")
      end
    end

    it "sends equal uniques to one server, different ones to all" do
      servers = Array.new(3) { start_embedded_server }
      client = client_of(*servers)
      2.times do
        20.times { |index| client.do_task(Gearman::BackgroundTask.new("f", index.to_s)) }
      end
      counts = servers.map { |server| server.admin("status")[/^f\t(\d+)/, 1].to_i }
      expect(counts.sum).to eq(20)
      expect(counts).to all(be_positive)
    end
  end

  describe "#submit_job" do
    it "is true when the task has ended, also by failing" do
      server = scripted_server do |peer|
        peer.accept_job("H:1")
        peer.reply(:work_fail, "H:1")
        reversing(peer)
      end
      client = client_of(server)
      expect(client.submit_job(Gearman::Task.new("f"))).to be(true)
      task = Gearman::Task.new("reverse", "abc")
      expect(client.submit_job(task, true, 20)).to be(true)
      expect(task.successful).to be(true)
      expect(client.submit_job(Gearman::BackgroundTask.new("f"))).to be(true)
    end
  end

  describe "#handle_response" do
    subject(:client) { described_class.new }

    it "tells a task what a packet says" do
      task = Gearman::Task.new("f")
      calls = []
      task.on_complete { |data| calls << data }
      task.on_status { |*status| calls << status }
      task.on_fail { calls << :fail }
      client.handle_response(task, :work_status, "H:1\0001\0002")
      client.handle_response(task, :work_complete, "H:1\0a\0b")
      client.handle_response(task, :work_fail, "H:1\0")
      expect(calls).to eq([%w[1 2], "a\0b", :fail])
    end

    it "refuses other packets" do
      expect { client.handle_response(Gearman::Task.new("f"), :noop, "") }
        .to raise_error(Gearman::ProtocolError, "Received noop, which is not about a task")
    end
  end

  describe "a task of another class" do
    it "says itself whether nobody waits for it" do
      background = Class.new(Gearman::Task) { define_method(:background?) { true } }
      server = scripted_server { |peer| loop { peer.request && peer.reply(:job_created, "H:1") } }
      client = client_of(server)
      expect(client.do_task(background.new("f"), JobServers::PATIENCE)).to be_nil
      set = Gearman::TaskSet.new(client)
      set.add_task(background.new("f"))
      expect(set.size).to eq(0)
    end

    it "says itself what its unique is" do
      wordy = Class.new(Gearman::Task) { define_method(:get_uniq_hash) { "my own" } }
      uniques = Queue.new
      server = scripted_server do |peer|
        loop { (uniques << peer.request[2]) && peer.reply(:job_created, "H:1").reply(:work_complete, "H:1", "") }
      end
      client = client_of(server)
      client.do_task(wordy.new("f", "", hash: "given"), JobServers::PATIENCE)
      expect(pop(uniques)).to eq("my own")
    end

    it "may act as one alone, where no server is there" do
      acting = Struct.new(:background?, :func, :get_uniq_hash).new(false, "f", "unique")
      client = described_class.new(dead_address)
      expect { client.do_task(acting, JobServers::PATIENCE) }.to raise_error(Gearman::NoJobServersError)
    end
  end

  describe "a pool that gives something else than a Connection" do
    it "is asked for nothing but send_request" do
      stand_in = Class.new do
        attr_reader :requests

        def send_request(*arguments)
          (@requests ||= []) << arguments
          [:job_created, "H:1"]
        end
      end.new
      allow_any_instance_of(Gearman::ConnectionPool).to receive(:get_connection).and_return(stand_in)
      client = described_class.new
      task = Gearman::BackgroundTask.new("f", "data")
      expect(client.do_task(task)).to be_nil
      expect(stand_in.requests).to eq([[task.get_submit_packet, 10]])
    end
  end

  it "runs tasks of callbacks on another socket" do
    server = scripted_server { |peer| reversing(peer) }
    client = client_of(server)
    inner = []
    task = Gearman::Task.new("reverse", "outer")
    task.on_created { inner << reverse(client, "one") }
    task.on_complete { inner << reverse(client, "two") }
    expect(client.do_task(task, 20)).to eq("retuo")
    expect(inner).to eq(%w[eno owt])
    expect(server.connections.size).to eq(2)
  end

  it "closes its sockets when it is closed" do
    closed = Queue.new
    server = scripted_server do |peer|
      peer.accept_job("H:1")
      peer.reply(:work_complete, "H:1", "x")
      closed << peer.closed_by_client?
    end
    client = client_of(server)
    2.times do
      expect(client.do_task(Gearman::Task.new("f"), 20)).to eq("x")
      client.close
      expect(pop(closed)).to be(true)
    end
  end
end
