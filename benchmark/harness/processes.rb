# frozen_string_literal: true

require "open3"
require "tmpdir"

module Bench
  class Error < StandardError; end

  # Starts processes on chosen cores, each bounded in time, and leaves none behind.
  class Processes
    # Debian keeps gearmand where only root looks.
    PATH = "#{ENV.fetch("PATH")}:/usr/sbin".freeze
    # Nothing of the caller's bundle or servers may reach a contestant.
    CLEAN = %w[RUBYOPT RUBYLIB BUNDLE_GEMFILE BUNDLE_BIN_PATH GEARMAN_SERVERS].to_h { |name| [name, nil] }
                                                                              .merge("PATH" => PATH).freeze

    def self.command?(name) = PATH.split(":").any? { |folder| File.executable?(File.join(folder, name)) }

    # The first +count+ cores that this process may use, as taskset writes them.
    def self.cores(count)
      allowed = File.read("/proc/self/status")[/^Cpus_allowed_list:\s*(.*)$/, 1].split(",").flat_map do |range|
        first, last = range.split("-").map(&:to_i)
        [*first..(last || first)]
      end
      raise Error, "#{count} cores asked for, but only #{allowed.size} allowed" if count > allowed.size

      allowed.first(count).join(",")
    end

    def initialize
      @running = []
    end

    # Starts +command+ on +cores+; it ends after +limit+ seconds, and when this process does, even by a kill -9.
    # +counter+ is a command that runs the command and counts what it does.
    # @return [Integer] the process id, also that of its process group
    def start(command, cores:, limit:, counter: [], **streams)
      bounded = ["setpriv", "--pdeathsig", "TERM", "timeout", "-k", "2", limit.to_s, *counter, "taskset", "-c", cores,
                 *command]
      pid = Process.spawn(CLEAN, *bounded, pgroup: true, in: File::NULL, **streams)
      @running << pid
      pid
    end

    # Runs +command+ to its end.
    # @return [String] what it wrote to standard output
    # @raise [Error] when it failed or was not done within +limit+ seconds
    def run(command, **options)
      Dir.mktmpdir("gearman-benchmark") do |folder|
        out, err = %w[out err].map { |name| File.join(folder, name) }
        pid = start(command, **options, out: out, err: err)
        status = Process.wait2(pid).last
        @running.delete(pid)
        return File.read(out) if status.success?

        why = status.exitstatus == 124 ? "not done within #{options[:limit]} s" : status.to_s.sub(/\Apid \d+ /, "")
        raise Error, "#{command.join(" ")}: #{why}\n#{File.read(err).lines.last(10).join}"
      end
    end

    def alive?(pid)
      return false unless @running.include?(pid)
      return true unless Process.wait(pid, Process::WNOHANG)

      @running.delete(pid)
      false
    end

    def stop(pid)
      return unless alive?(pid)

      Process.kill("TERM", -pid)
      deadline = Process.clock_gettime(Process::CLOCK_MONOTONIC) + 2
      sleep 0.01 while alive?(pid) && Process.clock_gettime(Process::CLOCK_MONOTONIC) < deadline
      return unless alive?(pid)

      Process.kill("KILL", -pid)
      Process.wait(@running.delete(pid))
    end

    def stop_all = @running.dup.each { |pid| stop(pid) }
  end
end
