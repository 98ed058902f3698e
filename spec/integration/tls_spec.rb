# frozen_string_literal: true

require "async"
require "timeout"

# Over TLS, which a proxy ends in front of the job servers.
RSpec.describe "TLS", :quiet do
  let(:authority) { certificate_authority }
  let(:issued) { authority.issue("localhost", "127.0.0.1") }
  let(:options) { { ca_file: authority.file } }
  let(:proxy) { tls_proxy(job_server, issued) }
  let(:client) { client_of(proxy.address) }

  def client_of(servers, tls = options)
    remember(Gearman::Client.new(servers, tls: tls), :close)
  end

  def reverse(text, by: client)
    by.do_task(Gearman::Task.new("reverse", text), JobServers::PATIENCE)
  end

  def start_reversing(server = job_server)
    start_worker(server, "reverse" => ->(data, _job) { data.reverse })
  end

  # A worker over TLS, in a thread.
  def start_tls_worker(address, abilities, tls = options)
    worker = Gearman::Worker.new(address, tls: tls)
    abilities.each { |function, block| worker.add_ability(function, &block) }
    thread = Thread.new { worker.work }
    remember(lambda do
      worker.worker_enabled = false
      thread.join(JobServers::PATIENCE) or raise "a worker does not end"
      worker.close
    end, :call)
    worker
  end

  # A server that gives each of its connections to the block; returns its port.
  def listen(&block)
    listener = remember(TCPServer.new("127.0.0.1", 0), :close)
    thread = Thread.new do
      loop do
        socket = listener.accept
        Thread.new { block.call(socket) }.report_on_exception = false
      end
    end
    thread.report_on_exception = false
    remember(-> { thread.kill.join }, :call)
    listener.local_address.ip_port
  end

  # A proxy that asks its clients for a certificate.
  def mutual_proxy(version = nil, certificate: issued)
    tls_proxy(job_server, certificate) do |context|
      context.min_version = context.max_version = version if version
      context.verify_mode = OpenSSL::SSL::VERIFY_PEER | OpenSSL::SSL::VERIFY_FAIL_IF_NO_PEER_CERT
      context.ca_file = authority.file
    end
  end

  # Why no server could be used.
  def refuse(reason)
    raise_error(Gearman::NoJobServersError, reason)
  end

  each_job_server do
    %w[TLS1_2 TLS1_3].each do |version|
      context "of version #{version.delete_prefix("TLS").tr("_", ".")}" do
        let(:proxy) do
          number = OpenSSL::SSL.const_get("#{version}_VERSION")
          tls_proxy(job_server, issued) { |context| context.min_version = context.max_version = number }
        end

        it "carries jobs to a worker, and all that it says of them" do
          start_tls_worker(proxy.address, "steps" => lambda do |data, job|
            job.report_status(1, 2)
            job.send_data("some")
            job.report_warning("careful")
            data * 2
          end)
          said = []
          task = Gearman::Task.new("steps", "ab\0\xFF".b)
          task.on_status { |done, total| said << [done, total] }
          task.on_data { |data| said << data }
          task.on_warning { |text| said << text }
          expect(client.do_task(task, JobServers::PATIENCE)).to eq("ab\0\xFFab\0\xFF".b)
          expect(said).to eq([%w[1 2], "some", "careful"])
        end

        it "carries much in both directions" do
          start_tls_worker(proxy.address, "reverse" => ->(data, _job) { data.reverse })
          data = Random.bytes(5_000_000)
          tasks = Array.new(3) { |index| Gearman::Task.new("reverse", index.to_s + data) }
          answers = []
          set = Gearman::TaskSet.new(client)
          tasks.each do |task|
            task.on_complete { |result| answers << result }
            set.add_task(task)
          end
          expect(set.wait(60)).to be(true)
          expect(answers).to match_array(tasks.map { |task| task.payload.b.reverse })
        end

        it "shows a certificate where one is asked for" do
          mutual = mutual_proxy(OpenSSL::SSL.const_get("#{version}_VERSION"))
          start_reversing
          between = authority.intermediate
          own = between.issue("client.test", chain: [between.certificate])
          shown = options.merge(cert: own.file, key: own.key_file)
          expect(reverse("abc", by: client_of(mutual.address, shown))).to eq("cba")
          expect(mutual.peers.map(&:to_der)).to all(eq(own.certificate.to_der))
          expect { reverse("abc", by: client_of(mutual.address)) }
            .to refuse(/alert (certificate required|handshake failure)/)
          stranger = certificate_authority.issue("stranger.test")
          unknown = options.merge(cert: stranger.file, key: stranger.key_file)
          expect { reverse("abc", by: client_of(mutual.address, unknown)) }.to refuse(/alert unknown ca/)
        end
      end
    end

    it "takes what it trusts and what it shows from the environment" do
      mutual = mutual_proxy
      own = authority.issue("client.test")
      start_reversing
      with_environment("GEARMAND_CA_CERTIFICATE" => authority.file, "GEARMAN_CLIENT_PEM" => own.file,
                       "GEARMAN_CLIENT_KEY" => own.key_file) do
        expect(reverse("abc", by: client_of(mutual.address, true))).to eq("cba")
      end
      expect(mutual.peers.map(&:to_der)).to eq([own.certificate.to_der])
    end

    it "carries background jobs and questions, too" do
      tasks = Array.new(500) { |index| Gearman::BackgroundTask.new("later", "#{index}-#{"x" * 500}") }
      handles = client.submit_all(tasks)
      expect(handles).to all(start_with("H:"))
      expect(handles.uniq.size).to eq(500)
      expect(client.job_status(handles.last)).to be_known
      expect(client.set_options("exceptions")).to eq(["exceptions"])
      expect(client.ping).to match(proxy.address => a_kind_of(Float))
    end

    it "is spoken by the admin client, on one connection" do
      server = remember(Gearman::Server.new(proxy.address, tls: options), :close)
      3.times { expect(server.version).to match(/\A\d/) }
      client.submit_all(Array.new(3000) { |index| Gearman::BackgroundTask.new("f", index.to_s) })
      expect(server.show_jobs.size).to eq(3000)
      expect(server.status).to include("f" => a_hash_including(queue: "3000"))
      expect(proxy.handshakes).to eq(2)
      proxy.finish(:goodbye)
      expect(server.version).to match(/\A\d/)
    end

    it "is spoken by workers and the admin client with all options of a client" do
      own = authority.issue("client.test")
      mutual = mutual_proxy(certificate: authority.issue("other.test"))
      shown = { cert: own.file, key: own.key_file }
      { named: { ca_file: authority.file, hostname: "other.test" }, unverified: { verify: false } }
        .each do |function, trusted|
        start_tls_worker(mutual.address, { function.to_s => ->(data, _job) { data.reverse } }, shown.merge(trusted))
        plain = client_of(job_server.address, nil)
        expect(plain.do_task(Gearman::Task.new(function, "abc"), JobServers::PATIENCE)).to eq("cba")
        admin = remember(Gearman::Server.new(mutual.address, tls: shown.merge(trusted)), :close)
        expect(admin.version).to match(/\A\d/)
      end
      expect(mutual.peers.map(&:to_der)).to eq([own.certificate.to_der] * 4)
      expect(mutual.names).to eq(%w[other.test] * 2)
      without = Gearman::Server.new(mutual.address, tls: { verify: false })
      expect { without.version }.to raise_error(Gearman::NetworkError, /alert certificate required/)
    end

    it "has things to say that are no answers, which the admin client overlooks" do
      server = remember(Gearman::Server.new(proxy.address, tls: options), :close)
      expect(server.socket.to_io.wait_readable(JobServers::PATIENCE)).to be_truthy # tickets for other sessions
      expect(server.version).to match(/\A\d/)
      expect(proxy.handshakes).to eq(1)
    end

    it "ends with the connection" do
      connection = Gearman::Connection.new(proxy.host, proxy.port)
      connection.tls = Gearman::TLS.new(**options)
      socket = connection.socket
      expect(socket).to be_a(OpenSSL::SSL::SSLSocket)
      expect(connection.is_healthy?).to be(true)
      connection.close_socket
      expect(socket.to_io).to be_closed
      eventually("the other end is closed") { proxy.closed == 2 }
    end

    it "gives threads that share a client their own answers" do
      start_reversing
      texts = Array.new(10) { |thread| Array.new(30) { |index| "#{thread}-#{index}-#{"x" * 5000}" } }
      answers = texts.map { |list| Thread.new { list.map { |text| reverse(text) } } }.map(&:value)
      expect(answers).to eq(texts.map { |list| list.map(&:reverse) })
      expect(proxy.handshakes).to be <= 11
    end

    # Each fiber has a connection of its own, so all of them wait at once.
    {
      "of the specs" => ->(calls) { GateScheduler.run { calls.each { |call| Fiber.schedule(&call) } } },
      "of the async gem" => ->(calls) { Sync { |task| calls.map { |call| task.async { call.call } }.each(&:wait) } }
    }.each do |name, together|
      it "serves fibers of a scheduler #{name}, all at once" do
        start_worker(job_server, "reverse" => lambda do |data, _job|
          eventually("the other fibers") { proxy.handshakes >= 5 }
          data.reverse
        end)
        texts = Array.new(5) { |index| "#{index}#{"x" * 100_000}" }
        shared = client
        answers = []
        together.call(texts.map { |text| -> { answers << reverse(text, by: shared) } })
        expect(answers).to match_array(texts.map(&:reverse))
      end
    end

    it "keeps a connection that was not used for a while" do
      start_reversing
      expect(reverse("abc")).to eq("cba")
      sleep 1.2 # it is looked at then
      expect(reverse("abcd")).to eq("dcba")
      expect(proxy.handshakes).to eq(1)
    end

    %i[goodbye cut].each do |ending|
      it "notices that the server is gone, by a #{ending}" do
        start_reversing
        expect(reverse("abc")).to eq("cba")
        sleep 1.2
        proxy.finish(ending)
        expect(reverse("abcd")).to eq("dcba")
      end

      it "raises when the server goes before it has answered, by a #{ending}" do
        waiting = Thread.new { client.do_task(Gearman::Task.new("nobody does it", "")) }
        waiting.report_on_exception = false
        eventually("the job") { job_server.admin("status").match?(/nobody does it\t1/) }
        proxy.finish(ending)
        expect { waiting.value }
          .to raise_error(Gearman::NetworkError, /\A#{proxy.address}: .*; outcome unknown of nobody does it/)
      end

      it "lets a worker find the server again, after a #{ending}" do
        start_tls_worker(proxy.address, "reverse" => ->(data, _job) { data.reverse })
        eventually("the worker") { job_server.admin("status").match?(/reverse\t0\t0\t1/) }
        proxy.finish(ending)
        expect(reverse("abc")).to eq("cba")
      end
    end

    it "finds that a server does not speak it" do
      plain = client_of(job_server.address)
      expect(seconds { expect { reverse("abc", by: plain) }.to refuse(/TLS: .*; does the server speak TLS\?/) })
        .to be < 10
      admin = Gearman::Server.new(job_server.address, tls: options)
      expect { admin.version }.to raise_error(Gearman::NetworkError, /#{job_server.address}: TLS: .* speak TLS\?/)
    end

    it "is missed by those who do not speak it" do
      expect { reverse("abc", by: client_of(proxy.address, nil)) }
        .to refuse(/\Ano job server can be reached: #{proxy.address} \(.+\)/)
    end

    describe "a server's certificate" do
      before { start_reversing }

      def proxy_with(*names)
        tls_proxy(job_server, authority.issue(*names))
      end

      it "is for the name or the address that the server is connected by" do
        expect(reverse("abc", by: client_of(proxy_with("localhost").address("localhost")))).to eq("cba")
        by_address = proxy_with("127.0.0.1")
        expect(reverse("abc", by: client_of(by_address.address))).to eq("cba")
        expect(by_address.names).to eq([]) # an address is no name that can be asked for
      end

      it "is for nobody else" do
        { proxy_with("other.test").address("localhost") => /\(TLS: hostname "localhost" .* is for DNS:other.test/,
          proxy_with("localhost").address => /\(TLS: hostname "127.0.0.1" .* is for DNS:localhost\)/,
          proxy_with("127.0.0.2").address => /\(TLS: hostname "127.0.0.1" .* is for IP Address:127.0.0.2\)/ }
          .each do |address, reason|
          expect { reverse("abc", by: client_of(address)) }.to refuse(reason)
          admin = Gearman::Server.new(address, tls: options)
          expect { admin.version }.to raise_error(Gearman::NetworkError, /#{address}: TLS: hostname/)
        end
      end

      it "may be for the name that the caller tells, which is asked for" do
        other = proxy_with("other.test")
        expect(reverse("abc", by: client_of(other.address, options.merge(hostname: "other.test")))).to eq("cba")
        expect(other.names).to eq(["other.test"])
        expect { reverse("abc", by: client_of(proxy.address, options.merge(hostname: "other.test"))) }
          .to refuse(/"other.test" does not match/)
      end

      it "has to come from an authority that is trusted" do
        tls = { ca_file: certificate_authority.file }
        [tls, true].each do |setting|
          expect { reverse("abc", by: client_of(proxy.address, setting)) }
            .to refuse(/\(TLS: certificate verify failed \(.+\)\)\z/)
        end
        admin = Gearman::Server.new(proxy.address, tls: tls)
        expect { admin.version }
          .to raise_error(Gearman::NetworkError, /#{proxy.address}: TLS: certificate verify failed \(.+\)\z/)
      end

      it "that fails costs little time" do
        wrong = { proxy_with("other.test").address => options,
                  proxy.address => { ca_file: certificate_authority.file } }
        wrong.each do |address, tls|
          expect(seconds { expect { reverse("abc", by: client_of(address, tls)) }.to refuse(/TLS/) }).to be < 5
        end
      end

      it "may come by another authority, which the server shows" do
        between = authority.intermediate
        chained = tls_proxy(job_server, between.issue("127.0.0.1"), chain: [between.certificate])
        expect(reverse("abc", by: client_of(chained.address))).to eq("cba")
      end

      it "may be anything when it is not verified" do
        wrong = tls_proxy(job_server, certificate_authority.issue("other.test"))
        expect(reverse("abc", by: client_of(wrong.address, { verify: false }))).to eq("cba")
      end

      it "is trusted as the system says when nothing else is told" do
        output = with_environment("SSL_CERT_FILE" => authority.file) do
          run_ruby(<<~RUBY, proxy.address)
            client = Gearman::Client.new(ARGV.first, tls: true)
            puts client.do_task(Gearman::Task.new("reverse", "abc"), 20)
          RUBY
        end
        expect(output).to eq("cba\n")
      end

      it "that fails is not asked for again with every call" do
        wrong = proxy_with("other.test")
        client = client_of(wrong.address)
        50.times { expect { reverse("abc", by: client) }.to refuse(/does not match/) }
        expect(wrong.handshakes).to be <= 5
      end

      it "that fails is no reason not to use another server" do
        client = client_of([proxy_with("other.test").address, proxy.address])
        expect(Array.new(5) { |index| reverse("a#{index}", by: client) }).to eq(Array.new(5) { |index| "#{index}a" })
      end

      it "that fails is told to the log of a worker, which goes on with its other servers" do
        log = StringIO.new
        Gearman.logger = Logger.new(log)
        wrong = proxy_with("other.test")
        start_tls_worker([wrong.address, proxy.address], "twice" => ->(data, _job) { data * 2 })
        expect(client.do_task(Gearman::Task.new("twice", "ab"), JobServers::PATIENCE)).to eq("abab")
        eventually("the log") { log.string.match?(/WARN.*#{wrong.address}: TLS: hostname "127.0.0.1" does not match/) }
      end
    end

    describe "a handshake" do
      # The client's connections hold no more than a moment.
      def hasty(client)
        client.instance_variable_get(:@connection_pool).connections.each do |connection|
          connection.connect_timeout = 0.4
        end
        client
      end

      { "that stalls" => :read.to_proc,
        "that comes byte by byte" => lambda do |socket|
          socket.write("\x16\x03\x03\x3f\xff")
          loop do
            socket.write("\0")
            sleep 0.02
          end
        end }.each do |name, behaviour|
        it "#{name} takes the time of connecting" do
          address = "127.0.0.1:#{listen(&behaviour)}"
          client = hasty(client_of(address))
          took = seconds { expect { reverse("abc", by: client) }.to refuse(/#{address} \(.*no TLS handshake/) }
          expect(took).to be < 5
          admin = Gearman::Server.new(address, connect_timeout: 0.4, tls: options)
          expect(seconds do
            expect { admin.version }
              .to raise_error(Gearman::SocketTimeoutError, /#{address} within 0.4 s: .*no TLS handshake/)
          end).to be < 5
        end
      end

      it "that is interrupted leaves no socket open" do
        ends = Queue.new
        client = client_of("127.0.0.1:#{listen { |socket| ends << socket.read.bytesize }}")
        expect { Timeout.timeout(0.2) { reverse("abc", by: client) } }.to raise_error(Timeout::Error)
        expect(Timeout.timeout(JobServers::PATIENCE) { ends.pop }).to be_positive
      end

      it "that is refused leaves no socket open, and is tried with the next address" do
        start_reversing
        wrong = tls_proxy(job_server, authority.issue("other.test"))
        expect { reverse("abc", by: client_of(wrong.address)) }.to refuse(/does not match/)
        eventually("the socket is closed") { wrong.closed == 1 }
        both = [wrong, proxy].map { |server| Addrinfo.tcp(server.host, server.port) }
        allow(Addrinfo).to receive(:getaddrinfo).with("jobs.test", 4730, nil, :STREAM).and_return(both)
        expect(reverse("abc", by: client_of("jobs.test", options.merge(hostname: "localhost")))).to eq("cba")
        expect([wrong.handshakes, proxy.handshakes]).to eq([2, 1])
      end
    end

    describe "an interrupt" do
      it "in the middle of much data disturbs no later call" do
        start_tls_worker(proxy.address, "reverse" => ->(data, _job) { data.reverse })
        reverse("warm")
        data = "x" * 5_000_000
        interrupts = Array.new(20) do |index|
          Timeout.timeout(0.002 + (index * 0.004)) { reverse("#{index}#{data}") } && nil
        rescue Timeout::Error => e
          e
        ensure
          expect(reverse("abc#{index}")).to eq("abc#{index}".reverse)
        end
        expect(interrupts.compact.size).to be > 5
      end

      it "of one thread does not touch the others" do
        start_tls_worker(proxy.address, "reverse" => ->(data, _job) { data.reverse })
        reverse("warm") # RSpec's own lock around the making of the client does not bear that its thread is killed
        victims = Array.new(4) { |number| Thread.new { loop { reverse("victim#{number}#{"x" * 50_000}") } } }
        victims.each { |thread| thread.report_on_exception = false }
        killing = Thread.new do
          victims.each do |thread|
            sleep 0.05
            thread.kill.join
          end
        end
        texts = Array.new(6) { |number| Array.new(40) { |index| "#{number}-#{index}" } }
        answers = texts.map { |list| Thread.new { list.map { |text| reverse(text) } } }.map(&:value)
        expect(answers).to eq(texts.map { |list| list.map(&:reverse) })
        killing.join
      end
    end

    describe "a forked child", :process do
      it "opens connections of its own, and the parent's live on" do
        start_reversing
        expect(reverse("abc")).to eq("cba")
        answers = in_child do
          first = reverse("child")
          client.close
          GC.start
          [first, reverse("again")]
        end
        expect(answers).to eq(%w[dlihc niaga])
        expect(reverse("parent")).to eq("tnerap")
        expect(in_child { nil }).to be_nil
        expect(reverse("parent")).to eq("tnerap")
        expect(proxy.handshakes).to eq(3)
      end

      it "does not end the connection of the parent's admin client" do
        server = remember(Gearman::Server.new(proxy.address, tls: options), :close)
        version = server.version
        expect(in_child { [server.version, server.close, server.version] }).to eq([version, nil, version])
        expect(server.version).to eq(version)
        expect(proxy.handshakes).to eq(3)
      end

      it "may run the parent's worker" do
        worker = remember(Gearman::Worker.new(proxy.address, { tls: options }), :close)
        worker.add_ability("pid") { Process.pid.to_s }
        pid = fork { worker.work }
        worker.close
        expect(client.do_task(Gearman::Task.new("pid"), JobServers::PATIENCE)).to eq(pid.to_s)
      ensure
        if pid
          Process.kill("KILL", pid)
          Process.wait(pid)
        end
      end
    end
  end
end
