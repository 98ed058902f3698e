# frozen_string_literal: true

RSpec.describe Gearman::Connection, :quiet do
  def connection_to(server, kind = described_class)
    remember(kind.new(server.host, server.port), :close_socket)
  end

  def packet(...) = Gearman::Packet.encode(...)

  # Echoes; says of each connection how many it is.
  let(:echoing) do
    scripted_server do |peer, number|
      loop do
        type, data = peer.request
        case type
        when :echo_req then peer.reply(:echo_res, data == "number" ? number.to_s : data)
        when :option_req then peer.reply(:option_res, data)
        else peer.reply(:job_created, "H:#{number}")
        end
      end
    end
  end

  describe "what it says of itself" do
    it "is where the server is, and whether a socket is open" do
      connection = connection_to(echoing)
      expect(connection).to have_attributes(
        hostname: "127.0.0.1", port: echoing.port, state: nil, connect_timeout: 3, to_host_port: echoing.address,
        to_s: "#{echoing.address} (connected: false)"
      )
      connection.socket
      expect(connection.to_s).to eq("#{echoing.address} (connected: true)")
      expect(connection.inspect).to eq("#<Gearman::Connection #{echoing.address} (connected: true)>")
      expect(connection.close_socket).to be(true)
      expect(connection.to_s).to end_with("(connected: false)")
    end

    it "puts an IPv6 address in brackets" do
      expect(described_class.new("::1", 4730).to_host_port).to eq("[::1]:4730")
    end
  end

  describe "#socket" do
    it "connects when it is first asked, and gives the same socket then" do
      connection = connection_to(echoing)
      expect(echoing.connections).to be_empty
      expect(connection.socket).to equal(connection.socket).and(be_a(TCPSocket))
      expect(connection.socket(1)).to equal(connection.socket)
    end

    it "sets TCP_NODELAY and keep-alive" do
      socket = connection_to(echoing).socket
      expect(socket.getsockopt(Socket::IPPROTO_TCP, Socket::TCP_NODELAY).bool).to be(true)
      expect(socket.getsockopt(Socket::SOL_SOCKET, Socket::SO_KEEPALIVE).bool).to be(true)
      times = { TCP_KEEPIDLE: 60, TCP_KEEPINTVL: 10, TCP_KEEPCNT: 6 }.select do |option, _|
        Socket.const_defined?(option)
      end
      expect(times.to_h { |option, _| [option, socket.getsockopt(:TCP, option).int] }).to eq(times)
    end

    it "connects again when somebody closed it" do
      connection = connection_to(echoing)
      first = connection.socket
      first.close
      expect do
        connection.send_request(packet(:echo_req, "x"), 20)
      end.to raise_error(Gearman::NetworkError, /\A#{echoing.address}: /)
      expect(connection.send_request(packet(:echo_req, "x"), 20)).to eq([:echo_res, "x"])
      expect(connection.socket).not_to equal(first)
    end

    it "says which server cannot be reached, and why" do
      port = JobServers.free_port
      connection = described_class.new("127.0.0.1", port)
      message = /\AUnable to connect to job server 127.0.0.1:#{port}: .*[Rr]efused/
      expect { connection.socket }.to raise_error(Gearman::NetworkError, message)
      expect { described_class.new("no-such-host.invalid", 4730).socket }
        .to raise_error(Gearman::ServerDownException, /\AUnable to connect to job server no-such-host.invalid:4730: /)
    end

    { 0.2 => 0.19..2.5, nil => 2.9..5.0 }.each do |timeout, range|
      it "gives up after #{timeout || "3 (the default)"} seconds when the server does not answer" do
        connection = described_class.new("127.0.0.1", Integer(silent_server[/\d+\z/]))
        connection.connect_timeout = timeout if timeout
        start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
        expect { connection.socket }.to raise_error(Gearman::NetworkError, /timed out|timeout/i)
        expect(Process.clock_gettime(Process::CLOCK_MONOTONIC) - start).to be_between(range.begin, range.end)
      end
    end

    it "does not blame a server that it was connected with in time, and had no turn to see it" do
      allow_any_instance_of(Socket).to receive(:wait_writable) { |_, seconds| sleep(seconds) && nil }
      connection = connection_to(echoing)
      connection.connect_timeout = 0.1
      expect(connection.send_request(packet(:echo_req, "x"), 20)).to eq([:echo_res, "x"])
    end

    %i[raise kill].each do |strike|
      it "lets a #{strike} through that comes while its name is looked up, which ends with it" do
        allow(Addrinfo).to receive(:getaddrinfo) { sleep }
        connection = described_class.new("a.name", 4730)
        connecting = Thread.new { connection.socket }
        connecting.report_on_exception = false
        eventually("a lookup") { described_class.lookups.any? && connecting.stop? }
        connecting.public_send(strike)
        expect(connecting.join(2)).to equal(connecting)
      rescue RuntimeError
        expect(connecting).not_to be_alive
      ensure
        eventually("no lookup") { described_class.lookups.empty? }
      end
    end

    it "reaches a server over IPv6" do
      listener = begin
        TCPServer.new("::1", 0)
      rescue SystemCallError
        skip "this machine has no IPv6 on the loopback"
      end
      answering = Thread.new do
        peer = ScriptedServer::Peer.new(listener.accept)
        peer.reply(:echo_res, peer.any_request.last)
        peer.closed_by_client?
      end
      pool = Gearman::ConnectionPool.new("[::1]:#{listener.local_address.ip_port}")
      expect(pool.get_connection.to_host_port).to eq("[::1]:#{listener.local_address.ip_port}")
      pool.close
      answering.join
    ensure
      listener&.close
    end

    it "looks the name up again each time" do
      connection = remember(described_class.new("a.name", echoing.port), :close_socket)
      looked_up = []
      allow(Addrinfo).to receive(:getaddrinfo).and_wrap_original do |original, name, *rest|
        looked_up << name
        original.call("127.0.0.1", *rest)
      end
      2.times { connection.socket && connection.close_socket }
      expect(looked_up).to eq(["a.name"] * 2)
    end
  end

  describe "#is_healthy?" do
    it "is true when the server echoes" do
      connection = connection_to(echoing)
      expect(connection.is_healthy?).to be(true)
      connection.socket
      expect(connection.is_healthy?).to be(true)
      expect(echoing.connections.size).to be <= 2
    end

    it "is false for a server that is not there, echoes something else, or closes" do
      wrong = scripted_server { |peer| peer.any_request && peer.reply(:echo_res, "pong") }
      other = scripted_server { |peer| peer.any_request && peer.reply(:error, "WHAT", "ever") && peer.close }
      closing = scripted_server { |peer| peer.any_request && peer.close }
      nonsense = scripted_server { |peer| peer.write("HTTP/1.1 400 Bad Request\r\n\r\n") }
      expect(described_class.new("127.0.0.1", JobServers.free_port).is_healthy?).to be(false)
      [wrong, other, closing, nonsense].each { |server| expect(connection_to(server).is_healthy?).to be(false) }
    end
  end

  describe "#send_request" do
    it "returns the type and the body of the reply" do
      connection = connection_to(echoing)
      expect(connection.send_request(packet(:echo_req, "a\0\xFF".b))).to eq([:echo_res, "a\0\xFF".b])
      expect(connection.send_request(packet(:submit_job_bg, "f", "u", ""), 20)).to eq([:job_created, "H:0"])
      expect(echoing.connections.size).to eq(1)
    end

    it "keeps what else comes for read_response, in order" do
      server = scripted_server do |peer|
        peer.accept_job("H:1")
        peer.request
        peer.reply(:work_data, "H:1", "a").reply(:noop).reply(:work_complete, "H:1", "b").reply(:echo_res, "x")
      end
      connection = connection_to(server)
      expect(connection.send_request(packet(:submit_job, "f", "u", ""), 20)).to eq([:job_created, "H:1"])
      expect(connection.send_request(packet(:echo_req, "x"), 20)).to eq([:echo_res, "x"])
      expect(connection.read_response(20)).to eq([:work_data, "H:1\0a"])
      expect(connection.read_response(20)).to eq([:noop, ""])
      expect(connection.read_response(20)).to eq([:work_complete, "H:1\0b"])
    end

    it "raises SocketTimeoutError, and the late reply disturbs nobody" do
      gate = Queue.new
      server = scripted_server do |peer|
        peer.request
        gate.pop
        peer.reply(:echo_res, "late")
        peer.reply(:echo_res, peer.request.last)
      end
      connection = connection_to(server)
      expect { connection.send_request(packet(:echo_req, "one"), 0.05) }
        .to raise_error(Gearman::SocketTimeoutError, "#{server.address}: no answer before the time-out")
      gate << true
      expect(connection.send_request(packet(:echo_req, "two"), 20)).to eq([:echo_res, "two"])
      expect { connection.read_response(0.01) }.to raise_error(Gearman::SocketTimeoutError)
      expect(server.connections.size).to eq(1)
    end

    it "raises NetworkError when the connection is lost, ProtocolError for nonsense, and connects again" do
      server = scripted_server do |peer, number|
        data = peer.request.last
        case number
        when 0 then peer.close
        when 1 then peer.write("nonsense, and enough of it")
        else peer.reply(:echo_res, data)
        end
      end
      connection = connection_to(server)
      request = packet(:echo_req, "x")
      expect { connection.send_request(request, 20) }
        .to raise_error(Gearman::NetworkError, "#{server.address}: connection closed by the server")
      expect do
        connection.send_request(request, 20)
      end.to raise_error(Gearman::ProtocolError, "#{server.address}: invalid magic")
      expect(connection.send_request(request, 20)).to eq([:echo_res, "x"])
    end

    it "takes another socket when it is called in the middle of a conversation" do
      connection = connection_to(echoing)
      asking = Thread.new do
        Array.new(200) do |index|
          connection.send_request(packet(:echo_req, "a#{index}"), 20).last
        end
      end
      answers = Array.new(200) { |index| connection.send_request(packet(:echo_req, "b#{index}"), 20).last }
      expect(answers).to eq(Array.new(200) { |index| "b#{index}" })
      expect(asking.value).to eq(Array.new(200) { |index| "a#{index}" })
    end

    it "asks socket once" do
      connection = connection_to(echoing)
      socket = connection.socket
      expect(connection).to receive(:socket).once.and_return(socket)
      connection.send_request(packet(:echo_req, "x"), 20)
    end
  end

  describe "#send_update and #read_response" do
    it "send packets and read them, one by one" do
      connection = connection_to(echoing)
      expect(connection.send_update(packet(:echo_req, "a") + packet(:echo_req, "b"))).to be_nil
      expect(connection.send_update(packet(:echo_req, "c"), 5)).to be_nil
      expect(Array.new(3) do
        connection.read_response(20)
      end).to eq([[:echo_res, "a"], [:echo_res, "b"], [:echo_res, "c"]])
      expect { connection.read_response(0.01) }.to raise_error(Gearman::SocketTimeoutError, /\A#{echoing.address}: /)
    end

    it "raise SocketTimeoutError when the server takes nothing, and connect again" do
      server = scripted_server { |peer, number| number.zero? ? Thread.stop : peer.reply(:echo_res, peer.request.last) }
      connection = connection_to(server)
      expect { connection.send_update(packet(:echo_req, "x" * 40_000_000), 0.1) }
        .to raise_error(Gearman::SocketTimeoutError, /\A#{server.address}: /)
      expect(connection.send_request(packet(:echo_req, "y"), 20)).to eq([:echo_res, "y"])
    end
  end

  describe "#timed_recv" do
    it "reads bytes, those first that were read ahead" do
      server = scripted_server do |peer|
        peer.request
        peer.reply(:echo_res, "x").write("0123456789")
      end
      connection = connection_to(server)
      connection.send_request(packet(:echo_req, "x"), 20)
      expect(connection.timed_recv(connection.socket, 4, 20)).to eq("0123")
      expect(connection.timed_recv(connection.socket, 6)).to eq("456789")
      expect { connection.timed_recv(connection.socket, 1, 0.01) }.to raise_error(Gearman::SocketTimeoutError)
    end

    it "reads from any other socket" do
      one, other = UNIXSocket.pair
      connection = described_class.new("h", 1)
      other.write("abc")
      expect(connection.timed_recv(one, 2)).to eq("ab")
      expect { connection.timed_recv(one, 2, 0.01) }
        .to raise_error(Gearman::SocketTimeoutError, "h:1: read 1 of 2 bytes in 0.01 seconds")
      other.close
      expect { connection.timed_recv(one, 1, 5) }.to raise_error(Gearman::NetworkError, /end of file/)
    ensure
      one.close
    end
  end

  describe "#with_safe_socket_op" do
    it "returns what the block returns, and turns what it raises into NetworkError, the connection closed" do
      connection = connection_to(echoing)
      socket = connection.socket
      expect(connection.with_safe_socket_op { 7 }).to eq(7)
      expect { connection.with_safe_socket_op { raise "broken" } }.to raise_error(Gearman::NetworkError, "broken")
      expect(socket).to be_closed
    end

    it "does the same as raise_exception" do
      connection = connection_to(echoing)
      socket = connection.socket
      expect { connection.raise_exception("broken") }.to raise_error(Gearman::NetworkError, "broken")
      expect(socket).to be_closed
    end
  end

  describe "objects in the place of the socket" do
    it "need nothing but write to be written to" do
      duck = Class.new do
        def written = @written ||= +""
        def write(bytes) = (written << bytes) && bytes.bytesize
      end.new
      connection = described_class.new("h", 1)
      allow(connection).to receive(:socket).and_return(duck)
      connection.send_update(packet(:echo_req, "x"))
      expect(duck.written).to eq(packet(:echo_req, "x"))
    end

    it "raise NetworkError when they write less than all, or fail" do
      connection = described_class.new("h", 1)
      short = double(write: 3)
      failing = double
      allow(failing).to receive(:write).and_raise(Errno::EPIPE)
      [short, failing].each do |socket|
        allow(connection).to receive(:socket).and_return(socket)
        expect { connection.send_update(packet(:echo_req, "x")) }.to raise_error(Gearman::NetworkError, /\Ah:1: /)
      end
    end

    it "are read by readpartial" do
      duck = Class.new do
        def write(bytes) = bytes.bytesize
        def readpartial(_size) = (@replies ||= [ScriptedServer::Peer.packet(:echo_res, "x")]).shift || raise(EOFError)
      end.new
      connection = described_class.new("h", 1)
      allow(connection).to receive(:socket).and_return(duck)
      expect(connection.send_request(packet(:echo_req, "x"))).to eq([:echo_res, "x"])
      expect { connection.send_request(packet(:echo_req, "x")) }
        .to raise_error(Gearman::NetworkError, "h:1: connection closed by the server")
    end
  end

  describe "a socket that the server has closed" do
    it "is seen before something is sent, and what came on one that is open is there still" do
      server = scripted_server do |peer, number|
        loop do
          peer.reply(:echo_res, *peer.any_request.drop(1))
          next peer.close if number < 2
        end
      end
      connection = connection_to(server)
      2.times do |number|
        expect(connection.send_request(packet(:echo_req, number.to_s), 20)).to eq([:echo_res, number.to_s])
        sleep 1.1 # a socket that was used just now is not looked at
      end
      connection.send_update(packet(:echo_req, "early"))
      sleep 1.1
      expect(connection.send_request(packet(:echo_req, "late"), 20)).to eq([:echo_res, "late"])
      expect(connection.read_response(20)).to eq([:echo_res, "early"])
      expect(server.connections.size).to eq(3)
    end
  end

  describe "an outage" do
    it "counts once, however many are told of it" do
      connection = connection_to(echoing)
      connection.lease
      10.times { connection.lost }
      expect(connection.instance_variable_get(:@failures)).to eq(1)
      connection.lease
      connection.lost
      expect(connection.instance_variable_get(:@failures)).to eq(2)
    end
  end

  describe "leases" do
    it "end when what holds them is collected" do
      client = remember(Gearman::Client.new(echoing.address), :close)
      connection = client.instance_variable_get(:@connection_pool).get_connection
      # In a thread of its own, so that nothing of it is left on this stack.
      Thread.new do
        10.times do
          set = Gearman::TaskSet.new(client)
          set.add_task(Gearman::Task.new("never"))
          set.wait(0.001)
        end
      end.join
      eventually("a free socket") do
        GC.start
        before = echoing.connections.size
        connection.exchange(packet(:echo_req, "x"), 20)
        echoing.connections.size == before
      end
      expect(echoing.connections.size).to be <= 12
    end

    it "are waited for when all 64 are taken" do
      connection = connection_to(echoing)
      channels = Array.new(64) { connection.lease }
      expect { connection.lease(0.05) }
        .to raise_error(Gearman::SocketTimeoutError, "#{echoing.address}: all 64 sockets are in use")
      waiting = Thread.new { connection.lease(20) }
      eventually("a thread that waits") { waiting.status == "sleep" }
      connection.release(channels[5])
      expect(waiting.value).to equal(channels[5])
      eventually("64 sockets") { echoing.connections.size >= 64 }
      expect(echoing.connections.size).to eq(64)
    end

    it "go to who waits at once" do
      connection = connection_to(echoing)
      *rest, channel = Array.new(64) { connection.lease }
      start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      50.times do
        waiting = Thread.new { connection.lease(20) }
        eventually("a thread that waits") { waiting.status == "sleep" }
        connection.release(channel)
        expect(waiting.value).to equal(channel)
      end
      # Without a word to them, each would look again only after a tenth of a second.
      expect(Process.clock_gettime(Process::CLOCK_MONOTONIC) - start).to be < 3.5
      rest.each { |other| connection.release(other) }
    end

    it "are given out newest first" do
      connection = connection_to(echoing)
      channels = Array.new(3) { connection.lease }
      channels.reverse_each { |channel| connection.release(channel) }
      expect(Array.new(3) { connection.lease }).to match([equal(channels[0]), equal(channels[1]), equal(channels[2])])
    end
  end
end
