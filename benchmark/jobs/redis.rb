# frozen_string_literal: true

require "socket"
require "timeout"
require "tmpdir"

module Bench
  module Jobs
    # A redis-server of our own on a free loopback port, which like gearmand's builtin queue keeps nothing on disk.
    class Redis
      COMMAND = ["redis-server", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"].freeze

      # Yields a running server and ends it afterwards.
      def self.run(processes, cores:)
        Dir.mktmpdir("redis-benchmark") do |folder|
          server = new(processes, cores, folder)
          yield server
        ensure
          processes.stop(server.pid) if server
        end
      end

      attr_reader :port, :pid

      def initialize(processes, cores, folder)
        @port = TCPServer.open("127.0.0.1", 0) { |server| server.addr[1] }
        @pid = processes.start([*COMMAND, "--port", @port.to_s, "--dir", folder], cores: cores, limit: 1800,
                                                                                  %i[out err] => File::NULL)
        500.times do
          raise Error, "redis-server ended at once" unless processes.alive?(@pid)

          break if answers?

          sleep 0.01
        end
      end

      # @return [String] such as "7.0.15"
      def version = ask("INFO server")[/redis_version:(\S+)/, 1]

      # @return [Integer] how many jobs of the queue there are
      def queued(queue) = Integer(ask("LLEN queue:#{queue}").delete_prefix(":"))

      def purge = ask("FLUSHALL")

      private

      def ask(command)
        Timeout.timeout(5) do
          TCPSocket.open("127.0.0.1", @port) do |socket|
            socket.write("#{command}\r\n")
            line = socket.gets.chomp
            raise Error, "Redis says #{line}" if line.start_with?("-")

            line.start_with?("$") ? socket.read(Integer(line[1..])) : line
          end
        end
      end

      def answers?
        ask("PING") == "+PONG"
      rescue SystemCallError
        false
      end
    end
  end
end
