# frozen_string_literal: true

require "socket"

module Gearman
  module Runner
    # Answers GET /live and GET /ready with 200 or 503, for orchestrators. A worker whose servers are away is alive: to
    # start it again would help nobody.
    #
    # @api private
    class Probe
      include Clock

      # Seconds that a client has to say what it wants.
      PATIENCE = 2
      # Bytes of a request that are read.
      REQUEST_SIZE = 4096
      # Seconds until the next try when no connection can be taken.
      PAUSE = 0.1
      private_constant :PATIENCE, :REQUEST_SIZE, :PAUSE

      # @return [Integer]
      attr_reader :port

      # @param port [Integer]
      # @yieldparam question [Symbol] :live or :ready
      # @yieldreturn [Boolean]
      # @raise [Error] when the port is taken
      def initialize(port, &answer)
        @server = TCPServer.new(port)
        @port = @server.addr[1]
        @answer = answer
        @thread = Thread.new { loop { accept } }
      rescue SystemCallError => e
        raise Error, "the probe cannot listen on port #{port}: #{e.message}"
      end

      # @return [void]
      def stop
        @thread.kill.join
        close
      end

      # For a forked child, which has no thread that answers.
      #
      # @return [void]
      def close
        @server.close
      end

      private

      # Nobody who is slow to ask keeps others waiting.
      def accept
        Thread.new(@server.accept) { |socket| serve(socket) }
      rescue SystemCallError # there are no descriptors left, or whoever asked has gone
        Kernel.sleep(PAUSE)
      end

      def serve(socket)
        method, path = read(socket)[%r{\A(?:GET|HEAD) /\w+}]&.split
        status = status_of(path)
        body = "#{status[4..]}\n"
        socket.write("HTTP/1.1 #{status}\r\nContent-Type: text/plain\r\nContent-Length: #{body.bytesize}\r\n" \
                     "Connection: close\r\n\r\n#{body unless method == "HEAD"}")
      rescue SystemCallError, IOError
        nil # whoever asked has gone
      ensure
        socket.close
      end

      # What is left unread when the socket is closed would take the answer with it.
      def read(socket)
        deadline = now + PATIENCE
        request = +""
        until request.match?(/\r?\n\r?\n/n) || request.bytesize >= REQUEST_SIZE
          raise IOError, "nothing was asked" unless socket.wait_readable(remaining(deadline))

          request << socket.readpartial(REQUEST_SIZE)
        end
        request
      end

      def status_of(path)
        return "404 Not Found" unless %w[/live /ready].include?(path)

        @answer.call(path.delete_prefix("/").to_sym) ? "200 OK" : "503 Service Unavailable"
      end
    end
  end
end
