# frozen_string_literal: true

require "socket"

module Gearman
  # A job server inside the process, for development and tests: it answers clients, workers and admin
  # commands as gearmand 1.1 does, and keeps its jobs in memory only. It runs in a thread of its own. It closes the
  # connection of whoever sends it what only servers say, where gearmand answers with an error.
  #
  #   Gearman::EmbeddedServer.start(port: 4730) do |server|
  #     Gearman::Client.new(server.address)
  #   end
  class EmbeddedServer
    # The version that the admin command "version" reports: that of the gearmand it follows.
    FOLLOWS = "1.1.20+embedded"

    ACCEPT_PAUSE = 0.1 # s, while there are no file descriptors left
    private_constant :ACCEPT_PAUSE

    @running = []

    class << self
      # Starts a server.
      #
      # @param options [Hash] see {#initialize}
      # @yieldparam server [EmbeddedServer] the server, which stops when the block ends
      # @return [Object] what the block returns; without a block, the server
      # @raise (see #start)
      def start(**options)
        server = new(**options).start
        return server unless block_given?

        begin
          yield server
        ensure
          server.stop
        end
      end

      # @private
      attr_reader :running

      # A forked child has no part in its parent's servers: were their sockets left open there, their
      # peers would not see the parent go.
      # @private
      def abandon
        running.each(&:abandon).clear
      end
    end

    # @return [String] the host it was given
    attr_reader :host

    # @param host [String] the address to listen on, a loopback address unless `loopback_only` is false
    # @param port [Integer] the port to listen on; 0 takes a free one
    # @param logger [#debug, #info, #warn, #error]
    # @param loopback_only [Boolean] false allows addresses that other machines reach
    # @raise [InvalidArgsError] the host is no address of this kind, or the port is none
    def initialize(host: "127.0.0.1", port: 0, logger: Gearman.logger, loopback_only: true)
      unless port.is_a?(Integer) && port.between?(0, 65_535)
        raise InvalidArgsError, "port must be an Integer from 0 to 65535, not #{port.inspect}"
      end

      @host = host
      @requested = address_of(host, port, loopback_only)
      @logger = logger
    end

    # Listens and serves until {#stop}. A server that was stopped can be started again, without jobs.
    #
    # @return [self]
    # @raise [NetworkError] it cannot listen there
    def start
      return self if running?

      @listener = listen
      @address = @listener.local_address
      @stop_reader, @stop_writer = IO.pipe
      @connections = {}
      @unsent = []
      @blocked = {} # {Connection => true}: their peers do not read as fast as we write
      @broker = Broker.new
      @admin = Admin.new(@broker, @connections.method(:keys), @logger)
      @thread = Thread.new { run }
      @thread.name = "gearman embedded server"
      EmbeddedServer.running << self
      @logger.warn("Gearman::EmbeddedServer on #{address} keeps its jobs in memory only")
      self
    end

    # Closes every connection and ends the thread. Jobs that it holds are lost.
    #
    # @return [self]
    def stop
      return self unless (thread = @thread)

      @thread = nil
      EmbeddedServer.running.delete(self)
      @stop_writer.write(".")
      thread.join
      [@stop_reader, @stop_writer].each(&:close)
      self
    end

    # @return [Boolean]
    def running?
      !@thread.nil? && @thread.alive?
    end

    # @return [Integer, nil] the port it listens on, nil before the first {#start}
    def port
      @address&.ip_port
    end

    # @return [String, nil] "127.0.0.1:4730" or "[::1]:4730", nil before the first {#start}
    def address
      @address&.inspect_sockaddr
    end

    # @private
    def abandon
      @thread = nil
      [@listener, @stop_reader, @stop_writer, *@connections.each_key.map(&:to_io)].each(&:close)
    end

    private

    def address_of(host, port, loopback_only)
      address = Addrinfo.tcp(host, port)
      if loopback_only && !(address.ipv4_loopback? || address.ipv6_loopback?)
        raise InvalidArgsError, "host #{host.inspect} is not a loopback address: " \
                                "the embedded server asks nobody who he is (loopback_only: false allows it)"
      end
      address
    rescue SocketError, TypeError => e
      raise InvalidArgsError, "host #{host.inspect}: #{e.message}"
    end

    def listen
      @requested.listen(Socket::SOMAXCONN)
    rescue SystemCallError => e
      raise NetworkError, "#{@requested.inspect_sockaddr}: #{e.message}"
    end

    def run
      @readers = nil
      loop do
        @readers ||= [@stop_reader, @listener, *@connections.keys]
        readable, writable = IO.select(@readers, @blocked.keys, nil, @broker.idle_time)
        break if readable&.include?(@stop_reader)

        readable&.each { |io| io.equal?(@listener) ? accept : receive(io) }
        writable&.each { |connection| flush(connection) }
        @broker.run_due
        flush(@unsent.shift) until @unsent.empty?
      end
    ensure
      @connections.each_key(&:close)
      @listener.close
    end

    def accept
      while (accepted = @listener.accept_nonblock(exception: false)) != :wait_readable
        socket, address = accepted
        socket.setsockopt(Socket::IPPROTO_TCP, Socket::TCP_NODELAY, 1)
        socket.setsockopt(Socket::SOL_SOCKET, Socket::SO_KEEPALIVE, 1)
        @connections[Connection.new(socket, address.ip_address, @unsent)] = true
        @readers = nil
      end
    rescue Errno::EMFILE, Errno::ENFILE => e
      @logger.error("Gearman::EmbeddedServer: #{e.message}")
      sleep ACCEPT_PAUSE
    rescue SystemCallError => e # the peer has gone already
      @logger.debug("Gearman::EmbeddedServer: #{e.message}")
    end

    def receive(connection)
      drop(connection) unless connection.each_request { |type, body| answer(connection, type, body) }
    rescue ProtocolError => e
      @logger.warn("Gearman::EmbeddedServer: #{connection}: #{e.message}")
      drop(connection)
    rescue StandardError => e
      @logger.error("Gearman::EmbeddedServer: #{connection}: #{e.full_message(highlight: false)}")
      drop(connection)
    end

    def answer(connection, type, body)
      return @broker.request(connection, type, body) unless type == :text

      connection.write(@admin.answer(body))
    end

    def flush(connection)
      if connection.flush
        @blocked.delete(connection)
      else
        @blocked[connection] = true
      end
    rescue SystemCallError, IOError
      drop(connection)
    end

    def drop(connection)
      return unless @connections.delete(connection)

      @readers = nil
      @blocked.delete(connection)
      @broker.release(connection)
      connection.close
    end

    # Closes a child's copies of its parent's sockets.
    module ForkHook
      # @private
      def _fork
        pid = super
        EmbeddedServer.abandon if pid.zero?
        pid
      end
    end
    private_constant :ForkHook
    Process.singleton_class.prepend(ForkHook)
  end
end

# Behind the class, which "gearman" would otherwise autoload while it is being loaded.
require_relative "../gearman"
require "gearman/embedded_server/admin"
require "gearman/embedded_server/broker"
require "gearman/embedded_server/connection"
