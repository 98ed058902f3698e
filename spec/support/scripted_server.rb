# frozen_string_literal: true

require "socket"

# A job server that does what the example says, packet for packet.
#
#   server = scripted_server do |peer, number|
#     _, function, _unique, data = peer.request
#     peer.reply(:job_created, "H:1").reply(:work_complete, "H:1", data.upcase)
#   end
#   client = Gearman::Client.new(server.address)
#
# The block gets every connection in a thread of its own, and which one it is, from 0. What it raises fails the
# example, but for the loss of the connection, which ends the block.
class ScriptedServer
  attr_reader :port, :connections

  def initialize(port: 0, &script)
    @script = script
    @listener = TCPServer.new("127.0.0.1", port)
    @port = @listener.local_address.ip_port
    @connections = []
    @threads = []
    @errors = Queue.new
    @accepting = Thread.new { accept }
  end

  def host = "127.0.0.1"
  def address = "#{host}:#{port}"

  # Ends everything; raises what a script raised.
  def stop
    @accepting.kill.join
    @listener.close
    @threads.each { |thread| thread.kill.join }
    @connections.each(&:close)
    raise @errors.pop unless @errors.empty?
  end

  # One accepted connection.
  class Peer
    # How many parts a request has whose last part may have NUL bytes in it.
    PARTS = Hash.new(-1).merge(echo_req: 1, submit_job_epoch: 4, work_complete: 2, work_data: 2, work_exception: 2)
    SUBMISSIONS = %i[submit_job submit_job_bg submit_job_high submit_job_high_bg submit_job_low
                     submit_job_low_bg].freeze
    SUBMISSIONS.each { |type| PARTS[type] = 3 }
    PARTS.freeze

    attr_reader :socket

    def initialize(socket)
      @socket = socket
    end

    # The next request: [type, part, ...]. "ping", which asks whether the server is healthy, is answered on the way.
    def request
      loop do
        type, *parts = any_request
        return [type, *parts] unless type == :echo_req && parts == ["ping"]

        reply(:echo_res, "ping")
      end
    end

    # The next request, whichever it is.
    def any_request
      magic, number, length = read(12).unpack("a4NN")
      raise "not a request: #{magic.inspect}" unless magic == "\0REQ"

      type = Gearman::Packet::COMMANDS.fetch(number)
      body = read(length)
      [type, *(PARTS[type] == 1 ? [body] : body.split("\0", PARTS[type]))]
    end

    def reply(type, *parts)
      write(Peer.packet(type, *parts))
    end

    # Answers a worker that asks for the version first, and knows nothing else.
    def greet
      return unless @socket.recv(1, Socket::MSG_PEEK) == "v"

      @socket.gets
      write("OK 2.0.0\n")
    end

    # Reads a submission and acknowledges it. Returns [type, function, unique, data].
    def accept_job(handle)
      request.tap { reply(:job_created, handle) }
    end

    def write(bytes)
      @socket.write(bytes)
      self
    end

    # Whether the client has closed its end; what it still sends is dropped.
    def closed_by_client?
      loop { @socket.readpartial(1 << 16) }
    rescue EOFError, Errno::ECONNRESET
      true
    end

    # Closes with a reset instead of a goodbye.
    def reset
      @socket.setsockopt(Socket::SOL_SOCKET, Socket::SO_LINGER, [1, 0].pack("ii"))
      close
    end

    def close
      @socket.close unless @socket.closed?
    end

    # The bytes of a response packet.
    def self.packet(type, *parts, magic: "\0RES")
      body = parts.map { |part| part.to_s.b }.join("\0")
      [magic, Gearman::Packet::NUMS.fetch(type), body.bytesize].pack("a4NN") + body
    end

    private

    def read(length)
      return "".b if length.zero?

      bytes = @socket.read(length)
      raise EOFError, "the client is gone" if bytes.nil? || bytes.bytesize < length

      bytes
    end
  end

  # Serves for ever, see Helpers#talking_server.
  def self.talk(listener, noise, deaf)
    Thread.report_on_exception = false
    loop do
      peer = Peer.new(listener.accept)
      Thread.new do
        if deaf
          peer.reply(:echo_res, peer.any_request.last)
        else
          peer.greet
          created = Peer.packet(:job_created, "H:1")
          peer.write(created) if peer.request.first == :submit_job
        end
        loop { peer.write(noise) }
      end
    end
  end

  private

  def accept
    loop do
      socket = @listener.accept
      socket.setsockopt(Socket::IPPROTO_TCP, Socket::TCP_NODELAY, 1)
      peer = Peer.new(socket)
      number = @connections.size
      @connections << peer
      @threads << Thread.new { serve(peer, number) }
    end
  end

  def serve(peer, number)
    @script.call(peer, number)
  rescue IOError, Errno::ECONNRESET, Errno::EPIPE
    peer.close
  rescue Exception => e # rubocop:disable Lint/RescueException -- it fails the example
    @errors << e
    peer.close
  end

  # What examples call.
  module Helpers
    def scripted_server(**options, &script)
      remember(ScriptedServer.new(**options, &script))
    end

    # The port of a server in a process of its own, faster than its client: it takes a request, as job "H:1", and
    # sends the same packet for ever. One that is deaf takes an echo, and nothing else.
    def talking_server(type, *parts, deaf: false)
      listener = TCPServer.new("127.0.0.1", 0)
      pid = fork { ScriptedServer.talk(listener, ScriptedServer::Peer.packet(type, *parts) * 10_000, deaf) }
      remember(-> { Process.kill("KILL", pid) && Process.wait(pid) }, :call)
      listener.local_address.ip_port
    ensure
      listener&.close
    end

    # The next thing in a queue; fails where none comes.
    def pop(queue)
      eventually("something in the queue") { !queue.empty? }
      queue.pop
    end
  end
end

RSpec.configure { |config| config.include ScriptedServer::Helpers }
