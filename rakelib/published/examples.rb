# frozen_string_literal: true

require "English"
require "socket"
require_relative "registry"

module Published
  # The examples of one version: its workers and its clients, against a gearmand on the port that is written in them.
  class Examples
    PORT = 4730
    # Seconds after which a client that should have ended is taken to hang.
    PATIENCE = 120

    # What a client must have printed by its end.
    CLIENTS = {
      "client.rb" => ->(output) { output.match?(%r{^Status: 20/20|^true$}) },
      "client_background_jobs.rb" => ->(output) { output.include?("Completed 100000 jobs in") },
      "client_dedupe.rb" => ->(output) { !output.match?(/error/i) },
      "client_reverse_nohost.rb" => ->(output) { nohost?(output) },
      "client_reverse_string.rb" => ->(output) { reversed?(output) },
      "client_reverse_wait.rb" => ->(output) { reversed?(output) }
    }.freeze
    # Its server is an address on its author's network, where another network may have anything.
    WITHOUT_NETWORK = "client_reverse_nohost.rb"

    # What a worker must have printed when it is stopped.
    WORKERS = {
      "worker.rb" => /Sleeping for \d+ seconds/,
      "worker_dedupe.rb" => /Should only see one/,
      "worker_reverse_string.rb" => /Completed job #\d+/
    }.freeze

    # Whether a client's output is 100 lines "number text", each followed by the text reversed.
    def self.reversed?(output)
      lines = output.lines(chomp: true).grep_v(/\A[DIWEF], \[/)
      lines.size == 200 && lines.each_slice(2).all? { |sent, result| sent.split.last.reverse == result }
    end

    # Whether a client went through its 1000 tasks, which stay in their set as their server cannot be reached.
    def self.nohost?(output)
      [/^\d+ \w+$/, /stays in its task set: no job server/].all? { |line| output.lines.grep(line).size == 1000 }
    end

    # What runs a command in a network of its own. Whoever is not root has to be it there, to set the network up.
    UNSHARE = Process.uid.zero? ? %w[unshare --net] : %w[unshare --user --map-root-user --net]

    # Whether a program can be kept from the network.
    def self.isolates?
      return @isolates if defined?(@isolates)

      @isolates = system(*UNSHARE, "true", err: File::NULL)
    end

    # Whether those of all versions are green. Where something else listens on the port, they run in a network of their
    # own.
    def self.green?(folder)
      if listening?
        unless isolates?
          abort "spec:upstream: port #{PORT}, which the examples name, is in use, and there is no other network"
        end
        return system({ "PATH" => "#{ENV.fetch("PATH")}:/usr/sbin:/sbin" }, *UNSHARE, "sh", "-c",
                      'ip link set lo up && exec "$@"', "sh", RbConfig.ruby, __FILE__, folder)
      end

      with_gearmand do
        SUITES.keys.map { |version| new(version, File.join(folder, version)).green? }.all?
      end
    end

    # Yields while a gearmand listens on the port that the examples name.
    def self.with_gearmand
      pid = spawn({ "PATH" => "#{ENV.fetch("PATH")}:/usr/sbin" }, "gearmand", "--listen=127.0.0.1", "--port=#{PORT}",
                  "--log-file=none", %i[in out err] => File::NULL)
      100.times { break if Process.wait(pid, Process::WNOHANG) || listening? || !sleep(0.1) }
      abort "gearmand does not start on port #{PORT}" unless listening?
      yield
    ensure
      stop(pid) if pid
    end

    def self.listening?
      TCPSocket.new("127.0.0.1", PORT).close
      true
    rescue SystemCallError
      false
    end

    # SIGTERM, then SIGKILL; whether it was still running.
    def self.stop(pid)
      return false if Process.wait(pid, Process::WNOHANG)

      Process.kill("TERM", pid)
      50.times { return true if Process.wait(pid, Process::WNOHANG) || !sleep(0.1) }
      Process.kill("KILL", pid)
      Process.wait(pid)
      true
    rescue Errno::ECHILD
      false
    end

    def initialize(version, folder)
      @version = version
      @folder = File.join(folder, "examples")
      @names = Dir.children(@folder).sort
      unknown = @names - CLIENTS.keys - WORKERS.keys
      abort "gearman-ruby #{version}: unknown examples #{unknown.join(", ")}" unless unknown.empty?
    end

    def green?
      unless Examples.isolates?
        left_out = @names.delete(WITHOUT_NETWORK)
        puts "gearman-ruby #{@version}: #{left_out} is left out: it cannot be kept from the network" if left_out
      end
      workers = (@names & WORKERS.keys).to_h { |name| [name, start(name)] }
      clients = (@names & CLIENTS.keys).to_h { |name| [name, start(name)] }
      client_verdicts = clients.map { |name, pid| verdict(name, ended?(pid) && CLIENTS.fetch(name).call(output(name))) }
      worker_verdicts = workers.map do |name, pid|
        verdict(name, Examples.stop(pid) && output(name).match?(WORKERS.fetch(name)))
      end
      (client_verdicts + worker_verdicts).all?
    ensure
      [*workers&.values, *clients&.values].each { |pid| Examples.stop(pid) }
    end

    private

    def start(name)
      isolated = name == WITHOUT_NETWORK ? UNSHARE : []
      # Unbuffered, to see what a worker printed before it was stopped.
      spawn({ "GUARDED_LIB" => File.expand_path("../lib", @folder) }, *isolated, RbConfig.ruby, "-r", GUARD, "-e",
            "$stdout.sync = true; load ARGV.shift", name, chdir: @folder, in: File::NULL, %i[out err] => log(name))
    end

    # Whether a client ended by itself and with success.
    def ended?(pid)
      (PATIENCE * 10).times do
        return $CHILD_STATUS.success? if Process.wait(pid, Process::WNOHANG)

        sleep 0.1
      end
      false
    end

    def verdict(name, green)
      puts "gearman-ruby #{@version}: examples/#{name}: #{green ? "ok" : "RED"}"
      puts output(name).lines.last(40) unless green
      green
    end

    def output(name)
      File.read(log(name))
    end

    def log(name)
      File.join(@folder, "#{name}.log")
    end
  end
end

exit Published::Examples.green?(ARGV.fetch(0)) if $PROGRAM_NAME == __FILE__
