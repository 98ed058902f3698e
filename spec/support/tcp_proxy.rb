# frozen_string_literal: true

require "socket"

# Stands between a client and a job server and breaks the connection where the example says.
#
#   proxy = tcp_proxy(job_server) { |number| TCPProxy::Cut.new(:response, 20, :reset) if number.zero? }
#   client = Gearman::Client.new(proxy.address)
#
# The block is called with the number of each connection, from 0; nil lets it live.
class TCPProxy
  # The end of a connection behind so many bytes of the :request or the :response: :close says goodbye, :reset does
  # not, :silence keeps the connection and carries nothing any more.
  Cut = Struct.new(:direction, :bytes, :ending)

  # One connection.
  class Link
    CHUNK = 1 << 16

    def initialize(client, server, cut)
      @client = client
      @server = server
      @cut = cut
      @carried = { request: 0, response: 0 }
      @silent = false
      @thread = Thread.new { carry }
      @thread.report_on_exception = false
    end

    attr_reader :carried

    def silence
      @silent = true
    end

    def close(reset: false)
      @thread.kill.join
      finish(reset)
    end

    def open?
      !@client.closed?
    end

    private

    def carry
      routes = { @client => [:request, @server], @server => [:response, @client] }
      going = true
      while going
        from = IO.select(routes.keys).first.first
        direction, to = routes[from]
        going = pass(direction, from.readpartial(CHUNK), to)
      end
    rescue IOError, SystemCallError
      finish(false) unless @silent
    end

    # Whether the connection goes on.
    def pass(direction, bytes, to)
      return true if @silent

      room = @cut && @cut.direction == direction ? @cut.bytes - @carried[direction] : bytes.bytesize
      part = bytes.byteslice(0, room)
      to.write(part)
      @carried[direction] += part.bytesize
      return true if room > bytes.bytesize || @cut&.direction != direction

      @cut.ending == :silence ? silence : finish(@cut.ending == :reset)
    end

    def finish(reset)
      @client.setsockopt(Socket::SOL_SOCKET, Socket::SO_LINGER, [1, 0].pack("ii")) if reset && open?
      @client.close
      @server.close
      nil
    end
  end

  attr_reader :host, :port, :links

  def initialize(server, host: "127.0.0.1", port: nil, &cuts)
    @server = server
    @host = host
    @cuts = cuts
    @links = []
    @listener = port ? TCPServer.new(host, port) : JobServers.listen(host)
    @port = @listener.local_address.ip_port
    @thread = Thread.new { loop { accept(@listener.accept) } }
  end

  def address
    "#{host}:#{port}"
  end

  # From now on nothing is carried on the connections that there are, and nobody is told.
  def silence
    links.each(&:silence)
  end

  # Closes the connections that there are.
  def cut(reset: false)
    links.each { |link| link.close(reset: reset) }
  end

  def stop
    @thread.kill.join
    @listener.close
    cut
  end

  private

  def accept(client)
    server = TCPSocket.new(@server.host, @server.port)
    [client, server].each { |socket| socket.setsockopt(Socket::IPPROTO_TCP, Socket::TCP_NODELAY, 1) }
    links << Link.new(client, server, @cuts&.call(links.size))
  rescue SystemCallError
    client.close # the server is down
  end

  # What examples call.
  module Helpers
    def tcp_proxy(server, **options, &cuts)
      remember(TCPProxy.new(server, **options, &cuts))
    end
  end
end

RSpec.configure { |config| config.include TCPProxy::Helpers }
