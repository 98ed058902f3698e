# frozen_string_literal: true

require "socket"
require "timeout"
require "tmpdir"

module Bench
  # A gearmand of our own on a free loopback port.
  class Broker
    COMMAND = ["gearmand", "-t", "4", "-q", "builtin", "-L", "127.0.0.1"].freeze

    # Yields a running broker and ends it afterwards.
    # @param arguments [Array<String>] further ones of gearmand
    def self.run(processes, *arguments, cores:)
      Dir.mktmpdir("gearman-benchmark") do |folder|
        broker = new(processes, cores, folder, arguments)
        yield broker
      ensure
        processes.stop(broker.pid) if broker
      end
    end

    attr_reader :port, :pid

    def initialize(processes, cores, folder, arguments)
      @port = TCPServer.open("127.0.0.1", 0) { |server| server.addr[1] }
      log = File.join(folder, "log")
      command = [*COMMAND, "-p", @port.to_s, "-l", log, "--verbose=ERROR", "-P", File.join(folder, "pid"),
                 *arguments]
      @pid = processes.start(command, cores: cores, limit: 1800, %i[out err] => File::NULL)
      wait_for("gearmand to listen (#{File.exist?(log) ? File.read(log) : "no log"})") do
        raise Error, "gearmand ended at once: #{command.join(" ")}" unless processes.alive?(@pid)

        listening?
      end
    end

    # @return [String] such as "1.1.20+ds"
    def version = ask("version")[/OK (\S+)/, 1]

    # @return [Integer] how many jobs of the function there are, once no worker holds any
    def queued(function)
      wait_for("the workers of #{function} to leave") do
        total, running, workers = status.fetch(function, [0, 0, 0])
        return total if (running + workers).zero?
      end
    end

    private

    def status
      ask("status", "\n.\n").lines.grep(/\t/).to_h do |line|
        name, *counts = line.split("\t")
        [name, counts.map(&:to_i)]
      end
    end

    def ask(command, ending = "\n")
      Timeout.timeout(5) do
        TCPSocket.open("127.0.0.1", @port) do |socket|
          socket.puts(command)
          answer = +""
          answer << socket.readpartial(65_536) until answer.end_with?(ending) || answer == ".\n"
          answer
        end
      end
    end

    def listening?
      TCPSocket.new("127.0.0.1", @port).close
      true
    rescue Errno::ECONNREFUSED
      false
    end

    def wait_for(what)
      500.times do
        return if yield

        sleep 0.01
      end
      raise Error, "waited 5 s for #{what}"
    end
  end
end
