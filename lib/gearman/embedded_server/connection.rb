# frozen_string_literal: true

module Gearman
  class EmbeddedServer
    # A client's or worker's socket, what is to be sent on it, and what its peer told of itself.
    # @private
    class Connection
      READ_SIZE = 64 * 1024
      WRITE_SIZE = 256 * 1024
      MAX_LINE = 8 * 1024 # bytes of an admin command
      private_constant :READ_SIZE, :WRITE_SIZE, :MAX_LINE

      attr_reader :to_io, :host, :waiting, :running
      attr_accessor :client_id, :exceptions, :abilities, :sleeping, :noop_sent

      # @param unsent [Array] where it enters itself when it has something to send
      def initialize(socket, host, unsent)
        @to_io = socket
        @host = host
        @unsent = unsent
        @parser = Packet::Parser.new(:request)
        @bytes = String.new
        @line_start = nil
        @out = String.new
        @sent = 0
        @client_id = "-"
        @abilities = [] # of Broker::Ability, the newest first
        @waiting = {}   # {Job => true}: foreground jobs that it submitted
        @running = {}   # {Job => true}: in the order they were grabbed
      end

      # Reads once, and yields the type and body of each packet, or :text and a line, that is whole.
      #
      # @return [Boolean] false at the end of the stream
      # @raise [ProtocolError] bytes that are neither
      def each_request
        case @to_io.read_nonblock(READ_SIZE, @bytes, exception: false)
        when :wait_readable then return true
        when nil then return false
        end
        feed
        while (request = next_request)
          yield(*request)
        end
        true
      rescue SystemCallError, IOError
        false
      end

      def respond(type, *parts)
        write(Connection.frame(type, parts.join("\0")))
      end

      def error(code, text)
        respond(:error, code, text)
      end

      # A packet around a body that is taken as it is.
      def self.frame(type, body)
        ["\0RES", Packet::NUMS.fetch(type), body.bytesize].pack("a4NN") << body
      end

      def write(bytes)
        @unsent << self if @out.empty?
        @out << bytes
      end

      # @return [Boolean] whether all was sent
      def flush
        until @sent == @out.bytesize
          piece = @out.bytesize > WRITE_SIZE ? @out.byteslice(@sent, WRITE_SIZE) : @out.byteslice(@sent..)
          count = @to_io.write_nonblock(piece, exception: false)
          return false if count == :wait_writable

          @sent += count
        end
        @out.clear
        @sent = 0
        true
      end

      def close
        flush
      rescue SystemCallError, IOError
        nil
      ensure
        @to_io.close
      end

      def to_s
        "#{@host} (#{@client_id.inspect})"
      end

      private

      def feed
        @parser.feed(@line_start) if @line_start
        @line_start = nil
        @parser.feed(@bytes)
      end

      def next_request
        line = @parser.next_line
        line ? [:text, line] : @parser.next_packet
      rescue ProtocolError
        # The parser takes the start of a line for a broken packet.
        @line_start = @parser.feed("\n").next_line
        raise if @line_start.nil? || @line_start.bytesize > MAX_LINE
      end
    end
  end
end
