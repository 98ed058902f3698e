# frozen_string_literal: true

# A server that does what an example says, to a worker. It answers ECHO_REQ and the text command "version" by itself,
# nothing else, and hides connections on which nothing else comes.
#
#   peer = fake.accept                       # a worker's connection
#   peer.receive_until(:grab_job_uniq)       # [[:set_client_id, "me"], [:can_do, "f"], [:grab_job_uniq]]
#   peer.respond(:job_assign_uniq, "H:1", "f", "unique", "data")
#   peer.receive                             # [:work_complete, "H:1", "result"]
class FakeJobServer
  # One connection.
  class Peer
    PARTS = { can_do_timeout: 2, work_complete: 2, work_data: 2, work_warning: 2, work_exception: 2,
              work_status: 3 }.freeze
    private_constant :PARTS

    # How often each type has come, and the text command :version.
    attr_reader :counts
    # Seconds that it waits behind each read of 64 KiB at most.
    attr_writer :pause

    def initialize(socket, rules, version)
      @socket = socket
      @socket.setsockopt(Socket::IPPROTO_TCP, Socket::TCP_NODELAY, 1)
      @packets = []
      @counts = Hash.new(0)
      @pause = 0
      @rules = rules
      @version = version
      @reader = Thread.new { read }
    end

    # The next packet: [type, part, ...].
    def receive(patience: JobServers::PATIENCE)
      JobServers.eventually("a packet of the worker", patience: patience) { @packets.any? || !@reader.alive? }
      raise EOFError, "the worker has closed the connection" if @packets.empty?

      @packets.shift.first
    end

    # The packets up to one of this type, and that.
    def receive_until(type)
      packets = [receive]
      packets << receive until packets.last.first == type
      packets
    end

    # The packets that one read brought.
    def receive_together
      JobServers.eventually("packets of the worker") { @packets.any? }
      read = @packets.first.last
      together = []
      together << @packets.shift.first while @packets.any? && @packets.first.last.equal?(read)
      together
    end

    # Whether packets are there that were not received.
    def any?
      @packets.any?
    end

    # Whether anything has come but ECHO_REQ and text.
    def spoken?
      @counts.keys.any? { |type| type != :version }
    end

    # Answers each packet of this type from now on by what the block returns, [type, part, ...]. Such packets are
    # not received.
    def answer(type, &block)
      @rules[type] = block
    end

    # Sends a packet.
    def respond(type, *parts)
      write(JobServers::Wire.packet(type, *parts, magic: "\0RES"))
    end

    def write(bytes)
      @socket.write(bytes)
      self
    end

    # Whether the worker has closed the connection, or does so soon.
    def closed_by_worker?
      !@reader.join(JobServers::PATIENCE).nil?
    end

    def open?
      @reader.alive?
    end

    def close
      @socket.shutdown unless @socket.closed?
    rescue Errno::ENOTCONN
      nil
    ensure
      @reader.join
      @socket.close
    end

    # Ends the connection as a server does that crashes.
    def reset
      @socket.setsockopt(Socket::SOL_SOCKET, Socket::SO_LINGER, [1, 0].pack("ii"))
      @reader.kill.join
      @socket.close
    end

    private

    def read
      buffer = String.new
      loop do
        chunk = @socket.readpartial(1 << 16)
        buffer << chunk
        take(buffer, chunk)
        sleep @pause if @pause.positive?
      end
    rescue SystemCallError, IOError
      nil
    end

    # Packets stay together with the object that stands for the read that completed them.
    def take(buffer, read)
      taken = []
      respond_to_text(buffer)
      while buffer.bytesize >= 12
        _, number, length = buffer.unpack("a4NN")
        break if buffer.bytesize < 12 + length

        type = Gearman::Packet::COMMANDS.fetch(number)
        body = buffer.slice!(0, 12 + length).byteslice(12..)
        handle(type, body) { |packet| taken << [packet, read] }
      end
      @packets.concat(taken)
    end

    def respond_to_text(buffer)
      return unless buffer.start_with?("version\r\n")

      buffer.slice!(0, 9)
      @counts[:version] += 1
      write("OK #{@version}\n") if @version
    end

    def handle(type, body)
      return respond(:echo_res, body) if type == :echo_req

      @counts[type] += 1
      parts = body.empty? ? [] : body.split("\0", PARTS.fetch(type, 1))
      if (rule = @rules[type])
        answer = rule.call(*parts)
        respond(*answer) if answer
      else
        yield [type, *parts]
      end
    end
  end

  attr_reader :host, :port

  # A worker asks servers before 2.0 once a second for scheduled jobs. Without a version, it answers no text. The first
  # connections may be reset at once.
  def initialize(port: JobServers.free_port, version: "2.0.1", resets: 0)
    @host = "127.0.0.1"
    @port = port
    @listener = TCPServer.new(host, port)
    @listener.setsockopt(Socket::SOL_SOCKET, Socket::SO_RCVBUF, 1 << 16) # or what is not read is there all the same
    @listener.listen(64)
    @peers = []
    @accepted = []
    @rules = {}
    @thread = Thread.new do
      resets.times { Peer.new(@listener.accept, {}, nil).reset }
      loop { @peers << Peer.new(@listener.accept, @rules.dup, version) }
    end
    @thread.report_on_exception = false
  end

  # Peer#answer for all connections to come.
  def answer(type, &block)
    @rules[type] = block
  end

  def address
    "#{host}:#{port}"
  end

  # The next connection.
  def accept(patience: JobServers::PATIENCE)
    peer = JobServers.eventually("a connection", patience: patience) { (@peers - @accepted).find(&:spoken?) }
    (@accepted << peer).last
  end

  # Whether somebody has connected who was not accepted.
  def connection?
    (@peers - @accepted).any?(&:spoken?)
  end

  def stop
    @thread.kill.join
    @listener.close
    @peers.each(&:close)
  end

  # What examples call.
  module Helpers
    def start_fake_job_server(**options)
      remember(FakeJobServer.new(**options))
    end
  end
end

RSpec.configure { |config| config.include FakeJobServer::Helpers }
