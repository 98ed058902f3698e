# frozen_string_literal: true

require "monitor"
require "socket"
require_relative "address"
require_relative "clock"
require_relative "connection/attempt"
require_relative "logging"
require_relative "packet"
require_relative "tls"

module Gearman
  # One job server and the sockets to it. A socket of its own serves {#socket}, {#send_update} and
  # {#read_response}; other conversations borrow further ones, so they never read each other's replies.
  class Connection
    include Logging
    include Clock

    # Seconds in the line for a socket until one more is opened: who has the others may wait for this caller, as they do
    # where a callback calls the client.
    #
    # @api private
    LINE_PATIENCE = 10
    # Seconds that connecting may take unless told otherwise.
    CONNECT_TIMEOUT = 3
    # Seconds that a connected server may take for an echo.
    ECHO_TIMEOUT = 3
    # The same for one that was silent before, or for a caller with little time.
    SHORT_ECHO_TIMEOUT = 1
    # Seconds that a TLS handshake may take at least.
    HANDSHAKE_TIME = 0.5
    # Seconds between tries of a server that refuses connections: the first, and at most.
    REFUSED_BACKOFF = [0.05, 1.0].freeze
    # The same for one that does not answer: each try costs the connect time-out.
    SILENT_BACKOFF = [1.0, 30.0].freeze
    # Seconds without another failure until the ones before no longer count.
    FORGOTTEN_AFTER = 60
    # Seconds that a connection has to last to count as a success.
    SETTLED_AFTER = 1

    # When the kernel asks whether the other end of a silent connection is still there, where that can be said: behind
    # a minute, each 10 seconds, 6 times.
    KEEPALIVE = { TCP_KEEPIDLE: 60, TCP_KEEPINTVL: 10, TCP_KEEPCNT: 6 }
                .select { |name, _| Socket.const_defined?(name) }
                .transform_keys { |name| Socket.const_get(name) }.freeze

    # Who waits for a channel.
    Waiter = Struct.new(:condition, :called)
    # Nobody gave a channel back in time.
    class Busy < SocketTimeoutError; end
    # Who asked had no more time to wait for a connection, which says nothing of the server.
    class Pending < SocketTimeoutError; end
    private_constant :ECHO_TIMEOUT, :SHORT_ECHO_TIMEOUT, :HANDSHAKE_TIME, :KEEPALIVE, :REFUSED_BACKOFF,
                     :SILENT_BACKOFF, :FORGOTTEN_AFTER, :SETTLED_AFTER, :Waiter, :Busy, :Pending

    # @return [Array<Thread>] those that look up names, for whoever it may be
    # @api private
    def self.lookups
      Thread.list.select { |thread| thread.name == Attempt::LOOKUP }
    end

    # @return [String]
    attr_reader :hostname
    # @return [Integer]
    attr_reader :port
    # @return [nil] kept for code that reads it
    attr_reader :state
    # @return [Numeric] seconds that connecting may take
    attr_accessor :connect_timeout

    # Touches no network.
    #
    # @param hostname [String]
    # @param port [Integer]
    # @raise [InvalidArgsError] when it is no address
    def initialize(hostname, port)
      @hostname = hostname
      @port = port
      @state = nil
      @name = Address.new(hostname.to_s, port).to_s.freeze
      @connect_timeout = CONNECT_TIMEOUT
      @channel = nil
      @failures = 0
      @failure_told = false
      @retry_at = @failed_at = @opened_at = 0.0
      @refused = false
      @options = []
      @on_open = nil
      @fresh = nil
      @tls = nil
      @reason = nil
      @monitor = Monitor.new
      @talking = Mutex.new
      @pid = nil
      forget_other_process
    end

    # Asks the server for an echo, which takes {#connect_timeout} and 3 seconds at most.
    #
    # @param limit [Numeric, nil] seconds to wait for it, if less: a server that is connected has 1 second to answer
    # @return [Boolean]
    def is_healthy?(limit = nil) # rubocop:disable Naming/PredicatePrefix
      return healthy?(connect_timeout + 1, ECHO_TIMEOUT) unless limit

      healthy?(limit, limit.clamp(SHORT_ECHO_TIMEOUT, ECHO_TIMEOUT))
    end

    # The socket of {#send_update} and {#read_response}, connected when it is not yet.
    #
    # @param _num_retries [Integer] kept for code that gives it
    # @return [Socket, OpenSSL::SSL::SSLSocket]
    # @raise [NetworkError] when the server cannot be reached
    def socket(_num_retries = 3)
      channel.io or raise NetworkError, "#{@name}: connection closed"
    end

    # Sends a request and waits for the reply to it. What else comes meanwhile is kept for {#read_response}.
    #
    # @param req [String] a packet, see {Packet.encode}
    # @param timeout [Numeric, nil] seconds; nil waits for ever
    # @return [Array(Symbol, String)] the type and the body of the reply
    # @raise [NetworkError] when the connection is lost
    # @raise [ProtocolError] when what comes is not the protocol
    # @raise [SocketTimeoutError] when the time-out passed; a late reply disturbs nobody
    def send_request(req, timeout = nil)
      @channel&.look
      conversation(socket, timeout) { |channel| channel.request(req, timeout) }
    end

    # Sends packets. Safe from any thread.
    #
    # @param req [String] packets
    # @param timeout [Numeric, nil] seconds; nil waits for ever
    # @return [nil]
    # @raise [NetworkError] when the connection is lost
    # @raise [SocketTimeoutError] when the server takes nothing; nothing was sent then, or the connection is closed
    def send_update(req, timeout = nil)
      @channel&.look
      channel_over(socket).send_update(req, timeout)
    end

    # Waits for the next packet from the server.
    #
    # @param timeout [Numeric, nil] seconds; nil waits for ever
    # @return [Array(Symbol, String)] its type and body
    # @raise (see #send_request)
    def read_response(timeout = nil)
      channel_over(socket).read_response(timeout)
    end

    # Reads bytes, those first that were read ahead.
    #
    # @param sock [IO] {#socket}, or any other
    # @param len [Integer] bytes
    # @param timeout [Numeric, nil] seconds; nil waits for ever
    # @return [String]
    # @raise [NetworkError] when the connection is lost
    # @raise [SocketTimeoutError] when the time-out passed
    def timed_recv(sock, len, timeout = nil)
      own = @channel # another thread may close it
      return own.read_bytes(len, timeout) if own && sock.equal?(own.io)

      deadline = timeout && (now + timeout)
      data = String.new(capacity: len)
      while data.bytesize < len
        unless sock.wait_readable(remaining(deadline))
          raise SocketTimeoutError, "#{@name}: read #{data.bytesize} of #{len} bytes in #{timeout} seconds"
        end

        with_safe_socket_op { data << sock.readpartial(len - data.bytesize) }
      end
      data
    end

    # Runs the block and turns what it raises into a {NetworkError}, with the connection closed.
    #
    # @yield
    # @return what the block returns
    # @raise [NetworkError]
    def with_safe_socket_op
      yield
    rescue StandardError => e
      raise_exception(e.message)
    end

    # @param message [String]
    # @raise [NetworkError] with the connection closed
    def raise_exception(message)
      close_socket
      raise NetworkError, message
    end

    # Closes all sockets to the server; the next use opens new ones.
    #
    # @return [true]
    def close_socket
      @channel = nil
      # Other threads open some meanwhile: those are the next call's.
      channels.dup.each do |channel|
        channel.close
        channels.delete(channel)
      end
      take_attempt&.close
      true
    end

    # @return [String] "host:port"
    def to_host_port
      @name
    end

    # @return [String] "host:port (connected: true)"
    def to_s
      "#{@name} (connected: #{channels.any?(&:usable?)})"
    end

    # @return [String]
    def inspect
      "#<#{self.class.name} #{self}>"
    end

    # How to speak TLS on the sockets that are still to be opened; nil: not at all.
    #
    # @return [TLS, nil]
    # @api private
    attr_accessor :tls

    # @return [String, nil] why the server could not be used when it was last tried
    # @api private
    attr_reader :reason

    # Called with the connection each time the socket of {#socket} was opened.
    #
    # @api private
    def on_open(&block)
      @on_open = block
    end

    # Asks a server that was silent before for an echo, without waiting for it to be connected.
    #
    # @return [Boolean]
    # @api private
    def back?
      healthy?(0, SHORT_ECHO_TIMEOUT)
    end

    # The channel of {#socket}. It counts as open when the block of {#on_open} is through.
    #
    # @api private
    def channel
      own = connected_channel
      return own if own

      @monitor.synchronize do
        own = @fresh || @channel # the block of on_open asks for it
        next own if own&.usable?
        raise NetworkError, "#{@name}: connection closed" if @fresh && @pid == Process.pid

        open_own_channel
      end
    end

    # The channel of {#socket}, if it is open.
    #
    # @return [Channel, nil]
    # @api private
    def connected_channel
      own = @channel # another thread may close it
      own if own&.usable?
    end

    # @return [Boolean] whether the socket of {#socket} is open
    # @api private
    def connected?
      !connected_channel.nil?
    end

    # Sends an option on every channel, and on those still to be opened.
    #
    # @api private
    def remember_option(option)
      return if @options.include?(option)

      @options << option
      channels.dup.each { |channel| channel.queue(Packet.pack_request(:option_req, option)) if channel.usable? }
    end

    # Whether bytes were read ahead on the socket.
    #
    # @api private
    def buffered?
      connected_channel&.buffered? || false
    end

    # Notes that the server could not be used, and when to try again.
    #
    # @param refused [Boolean] whether asking is quick: it refuses connections
    # @param since [Float, nil] when the try began. Many threads that find out about one outage count once
    # @return [Float] seconds until it is due again
    # @api private
    def failed(refused, since = nil)
      return retry_in if since && since < [@failed_at, @opened_at].max

      @failed_at = now
      first, limit = refused ? REFUSED_BACKOFF : SILENT_BACKOFF
      @failures = 0 if now - @retry_at > FORGOTTEN_AFTER
      self.known = false
      @refused = refused
      delay = [first * (2**[@failures, 16].min), limit].min * (0.75 + (rand / 2))
      @failures += 1
      @retry_at = now + delay
      delay
    end

    # @return [Float] seconds until the server is due for another try, at least 0
    # @api private
    def retry_in
      [@retry_at - now, 0.0].max
    end

    # @api private
    def due?
      now >= @retry_at
    end

    # @api private
    def refused?
      @refused
    end

    # Says once that the server cannot be used, and once again when it could be used in between.
    #
    # @return [Boolean] whether it is to be said
    # @api private
    def failure_is_news?
      return false if @failure_told

      @failure_told = true
    end

    # @return [Boolean] whether the server can be used, as far as is known
    # @api private
    def up?
      known || false
    end

    # Notes that a socket was lost. However many are told of it, one outage counts once.
    #
    # @return [Float] seconds until the server is due for another try
    # @api private
    def lost
      return failed(true, @opened_at) if now - @opened_at < SETTLED_AFTER

      self.known = nil
      @failures = 0
      @failure_told = false
      0.0
    end

    private

    def open_own_channel
      release(@channel) if @channel
      @channel = nil
      lease_fresh
      @on_open&.call(self)
      @channel = kept = @fresh
    ensure
      fresh = @fresh
      @fresh = nil
      drop(fresh) if fresh && kept.nil?
    end

    def drop(channel)
      channel.close
    ensure
      release(channel)
    end

    # Takes the seconds for connecting, and those for the answer.
    def healthy?(connecting, answering)
      echo(connecting, answering)
    rescue ServerDownException => e
      logger.debug { "#{self} is not healthy: #{e.message}" }
      false
    end

    def echo(connecting, answering, tries = 2)
      type, data = with_lease(connecting) do |channel|
        channel.request(Packet.pack_request(:echo_req, "ping"), answering)
      end
      healthy = type == :echo_res && data == "ping"
      failed(false) unless healthy
      healthy
    rescue Busy
      true # somebody else is talking with it on each socket
    rescue Pending
      false
    rescue ServerDownException
      raise
    rescue NetworkError => e
      # Lost on the way: the server may be back already.
      return echo(connecting, answering, tries - 1) if tries > 1

      unhealthy(e, refused: true)
    rescue ProtocolError, SocketTimeoutError => e
      unhealthy(e, refused: false)
    end

    def unhealthy(error, refused:)
      logger.debug { "#{self} is not healthy: #{error.message}" }
      failed(refused)
      @reason = error.message.delete_prefix("#{@name}: ")
      false
    end

    # One conversation on the channel over `io`; on another channel while that one is in the middle of one.
    def conversation(io, timeout)
      own = channel_over(io)
      return yield own unless own.equal?(@channel)

      begin
        mine = @talking.try_lock
        return yield own if mine
      ensure
        @talking.unlock if mine
      end
      with_lease(timeout) { |channel| yield channel }
    end

    # `socket` may be anything that reads and writes: tests put other objects there.
    def channel_over(io)
      own = @fresh || @channel
      own && io.equal?(own.io) ? own : Channel.new(io, @name)
    end

    # Called when no channel is idle, or it is not this caller's turn, which it is behind the wait. Returns nil when one
    # may have been given back.
    def open_channel(timeout, turn)
      forget_other_process
      began = now
      return unless (room? && (turn || waiting.nil?)) || waited_for_long?(timeout)

      timeout = remaining(timeout && (began + timeout))
      began = now
      @opening += 1
      begin
        channel = Channel.new(connect([timeout, connect_timeout].compact.min), @name, true)
      ensure
        @opening -= 1
      end
      @options.each { |option| channel.queue(Packet.pack_request(:option_req, option)) }
      @opened_at = now
      self.known = true
      @reason = nil
      channel
    rescue SystemCallError, SocketError, IOError, TLS::HandshakeError => e
      cannot_connect(e, began)
    end

    # What threads of the parent were about to do is not done in a forked child.
    def forget_other_process
      return if @pid == Process.pid

      @pid = Process.pid
      @attempt = nil
      @opening = 0
      self.waiting = nil
      @mutex = Mutex.new
    end

    def cannot_connect(error, began)
      silent = error.is_a?(Errno::ETIMEDOUT)
      # A handshake that failed will fail again.
      failed(!silent && !error.is_a?(TLS::HandshakeError), began)
      @reason = error.message
      raise ServerDownException, "Unable to connect to job server #{@name}: #{error.message}"
    end

    # The name is looked up at each connect: the server may have moved.
    def connect(timeout)
      attempt = take_attempt || Attempt.new(hostname.to_s, port, connect_timeout)
      deadline = timeout < connect_timeout ? now + timeout : attempt.deadline
      socket = attempt.wait(deadline) { |plain| secure(configure(plain), [deadline, now + HANDSHAKE_TIME].max) }
      socket or raise Pending, "#{@name}: not connected within #{timeout.round(3)} seconds"
    rescue Pending
      kept = @attempt ||= attempt
      raise
    ensure
      attempt&.close unless kept.equal?(attempt)
    end

    def take_attempt
      attempt, @attempt = @attempt, nil # rubocop:disable Style/ParallelAssignment -- no thread comes in between
      attempt
    end

    def configure(socket)
      socket.setsockopt(Socket::IPPROTO_TCP, Socket::TCP_NODELAY, 1)
      socket.setsockopt(Socket::SOL_SOCKET, Socket::SO_KEEPALIVE, 1)
      KEEPALIVE.each { |option, value| socket.setsockopt(Socket::IPPROTO_TCP, option, value) }
      # Nobody would close the descriptor if an interrupt came in between.
      Thread.handle_interrupt(Object => :never) do
        socket.autoclose = false
        TCPSocket.for_fd(socket.fileno)
      end
    end

    def secure(socket, deadline)
      tls ? tls.connect(socket, hostname, deadline) : socket
    end

    def room?
      channels.size + @opening < MAX_CHANNELS
    end

    # Waits until it is this caller's turn to look for a channel, or until it has waited for long: then it is true. The
    # garbage collector gives channels back too, and tells nobody, so the first in the queue looks now and then.
    def waited_for_long?(timeout)
      deadline = timeout && (now + timeout)
      patience = now + LINE_PATIENCE
      waiter = Waiter.new(ConditionVariable.new, false)
      begin
        @mutex.lock
        self.waiting = [*waiting, waiter]
        queued = true
        until waiter.called || (waiting.first.equal?(waiter) && (idle? || room?))
          raise Busy, "#{@name}: all #{MAX_CHANNELS} sockets are in use" if deadline && now >= deadline
          return true if now >= patience

          waiter.condition.wait(@mutex, [deadline && (deadline - now), 0.1].compact.min)
        end
      ensure
        if queued
          rest = waiting - [waiter]
          self.waiting = rest.empty? ? nil : rest
        end
        @mutex.unlock if @mutex.owned? # Ruby 3.1 does not lock it again for a fiber that was interrupted
      end
      false
    end

    # Called when a channel was given back while somebody waits for one.
    def channel_released
      waiter = waiting&.find { |other| !other.called } or return
      waiter.called = true
      waiter.condition.signal
    end
  end
end
