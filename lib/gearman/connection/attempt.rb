# frozen_string_literal: true

require "socket"
require_relative "../clock"
require_relative "../tls"

module Gearman
  class Connection
    # A socket on its way to a server. Whoever has no more time to wait for it leaves it to the next one.
    #
    # @api private
    class Attempt
      include Clock

      # What threads that look up a name are called.
      LOOKUP = "gearman lookup"

      # @return [Float] when it has failed, by the monotonic clock
      attr_reader :deadline

      # @param host [String]
      # @param port [Integer]
      # @param seconds [Numeric] that it may take in all
      def initialize(host, port, seconds)
        @deadline = now + seconds
        @lookup = address?(host) ? addresses_of(host, port) : Thread.new { looking_up(host, port) }
        @addresses = @socket = nil
      end

      # Waits for the socket. An address that refuses, or with which the block raises, gives way to the next.
      #
      # @param deadline [Float] until when to wait, by the monotonic clock
      # @yieldparam socket [Socket] connected, and the block's from then on
      # @return what the block returns; nil when it is still under way, which it is not behind {#deadline}
      # @raise [SystemCallError, SocketError, IOError, TLS::HandshakeError] when the name cannot be looked up, or no
      #   address is left to try
      def wait(deadline)
        @addresses ||= looked_up(deadline) or return
        begin
          connect_next unless @socket
          socket = connected(deadline) and yield socket
        rescue SystemCallError, IOError, TLS::HandshakeError
          @socket&.close
          @socket = nil
          raise if @addresses.empty?

          retry
        end
      end

      # @return [void]
      def close
        @socket&.close
        @lookup.kill if @lookup.is_a?(Thread)
      end

      private

      def address?(host)
        host.include?(":") || host.match?(/\A[\d.]+\z/)
      end

      def addresses_of(host, port)
        Addrinfo.getaddrinfo(host, port, nil, :STREAM)
      end

      # In a thread of its own: the C library neither has a time-out for it, nor can it be interrupted.
      def looking_up(host, port)
        Thread.current.report_on_exception = false
        Thread.current.name = LOOKUP
        addresses_of(host, port)
      end

      def looked_up(deadline)
        return @lookup.dup unless @lookup.is_a?(Thread)
        return @lookup.value.dup if @lookup.join([[deadline, @deadline].min - now, 0].max)

        raise Errno::ETIMEDOUT, "the name servers do not answer" if [deadline, now].max >= @deadline
      end

      def connect_next
        @address = @addresses.shift
        @address_deadline = now + ((@deadline - now) / (@addresses.size + 1))
        @socket = Socket.new(@address.pfamily, :STREAM)
        @socket.connect_nonblock(@address, exception: false)
      end

      def connected(deadline)
        # A fiber may have its turn only when the time is up, however early the socket was connected.
        if @socket.wait_writable([[deadline, @address_deadline].min - now, 0].max) || peer?
          error = @socket.getsockopt(:SOCKET, :ERROR).int
          raise SystemCallError.new("connect(2) for #{@address.inspect_sockaddr}", error) unless error.zero?

          socket = @socket
          @socket = nil
          socket
        elsif [deadline, now].max >= @address_deadline
          raise Errno::ETIMEDOUT, "connect(2) for #{@address.inspect_sockaddr}"
        end
      end

      def peer?
        @socket.getpeername && true
      rescue SystemCallError
        false
      end
    end
  end
end
