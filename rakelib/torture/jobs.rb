# frozen_string_literal: true

require "fileutils"
require "logger"
require "rbconfig"
require "socket"
require "tmpdir"

$LOAD_PATH.unshift(File.expand_path("../../lib", __dir__))
require "gearman"

module Torture
  # Background jobs in a gearmand that keeps them in SQLite, four worker processes of which one is killed each second,
  # and five restarts of gearmand. Every job has to be done; a job that is begun twice must have been in the hands of a
  # worker, or of a gearmand, that was killed.
  class Jobs
    WORKERS = 4
    RESTARTS = 5
    FUNCTION = "torture"
    # Seconds between the kills of workers.
    KILL_EVERY = 1
    # Seconds that an answer may take to come to rest in the database of gearmand.
    ANSWER = 0.25
    # Seconds for which a worker holds a job before it begins it, as it has fetched it ahead.
    AHEAD = 0.25
    # Seconds that all may take.
    LIMIT = 540

    # One time that a job was begun.
    Run = Struct.new(:job, :worker, :begun, :done)

    def initialize(jobs:, seed: nil, out: $stdout)
      @jobs = jobs
      @seed = seed || rand(100_000)
      @random = Random.new(@seed)
      @out = out
      @workers = {}
      @worker_kills = {}
      @restarts = []
      @started = 0
    end

    # @return [Boolean] whether no job was lost and each double is explained, although workers were killed and gearmand
    #   was restarted as often as it had to be
    def run
      Gearman.logger = Logger.new(nil)
      Dir.mktmpdir("gearman-torture", File.directory?("/dev/shm") ? "/dev/shm" : nil) do |folder|
        @folder = folder
        start_gearmand
        submit
        torment
        report
      ensure
        stop_all
      end
    end

    private

    def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)

    def address = "127.0.0.1:#{@port}"

    def start_gearmand
      @port ||= Socket.tcp_server_sockets("127.0.0.1", 0) { |sockets| break sockets.first.local_address.ip_port }
      @gearmand = spawn("gearmand", "--listen=127.0.0.1", "--port=#{@port}", "--log-file=none",
                        "--queue-type=libsqlite3", "--libsqlite3-db=#{@folder}/queue.db",
                        %i[in out err] => File::NULL)
      patiently("gearmand") { queued }
    end

    def restart_gearmand
      signal = @restarts.size.even? ? "KILL" : "TERM"
      @restarts << now
      Process.kill(signal, @gearmand)
      Process.wait(@gearmand)
      start_gearmand
    end

    # Jobs that gearmand has; nil while it does not answer.
    def queued
      server = Gearman::Server.new(address)
      server.status.fetch(FUNCTION, { queue: 0 }).fetch(:queue).to_i
    rescue Gearman::Error
      nil
    ensure
      server&.close
    end

    def patiently(what, patience: 60)
      limit = now + patience
      until (result = yield)
        raise "#{what}: not within #{patience} s" if now > limit

        sleep 0.05
      end
      result
    end

    def submit
      client = Gearman::Client.new(address)
      tasks = Array.new(@jobs) { |job| Gearman::Task.new(FUNCTION, job.to_s, background: true, uniq: "torture-#{job}") }
      tasks.each_slice(1000) { |some| client.submit_all(some).all? || raise("a job was not submitted") }
      @out.puts "#{queued} jobs of #{@jobs} are in gearmand #{address}; seed #{@seed}"
      raise "gearmand has not kept all jobs" unless queued == @jobs
    ensure
      client&.close
    end

    def start_worker
      @started += 1
      log = File.join(@folder, "worker-#{@started}.log")
      pid = spawn(RbConfig.ruby, "-I", File.expand_path("../../lib", __dir__), File.join(__dir__, "worker.rb"), address,
                  FUNCTION, log, %i[in out] => File::NULL)
      @workers[pid] = log
    end

    def kill_worker
      pid = @workers.keys.sample(random: @random)
      @worker_kills[@workers.delete(pid)] = now
      Process.kill("KILL", pid)
      Process.wait(pid)
      start_worker
    end

    def torment
      @began = now
      WORKERS.times { start_worker }
      restart_at = Array.new(RESTARTS) { |i| @jobs * (RESTARTS - i) / (RESTARTS + 1) }
      until (left = patiently("gearmand") { queued }).zero?
        sleep KILL_EVERY
        kill_worker
        restart_gearmand && restart_at.shift if restart_at.any? && left < restart_at.first
        raise "not finished within #{LIMIT} s: #{left} jobs are left" if now - @began > LIMIT
      end
      @took = now - @began
      end_workers
    end

    def end_workers
      Process.kill("TERM", *@workers.keys)
      Process.wait(@workers.shift.first) until @workers.empty?
    end

    def stop_all
      [*@workers.keys, @gearmand].compact.each do |pid|
        Process.kill("KILL", pid)
        Process.wait(pid)
      end
    end

    # What the workers have written down. A last line that was cut off by a kill counts for nothing.
    def runs
      Dir.glob(File.join(@folder, "worker-*.log")).flat_map do |log|
        lines = File.readlines(log).select { |line| line.end_with?("\n") }
        lines.map(&:split).each_with_object([]) do |(what, job, time), runs|
          if what == "begun"
            runs << Run.new(job, log, Float(time))
          else
            runs.reverse_each.find { |run| run.job == job }.done = Float(time)
          end
        end
      end
    end

    # Why a job may be begun again behind this run: nil if there is no reason.
    def reason(run)
      held = (run.begun - AHEAD)..(run.done ? run.done + ANSWER : Float::INFINITY)
      return :kill if @worker_kills.key?(run.worker) && held.cover?(@worker_kills[run.worker])

      :restart if @restarts.any? { |time| held.cover?(time) }
    end

    def report
      runs = self.runs.group_by(&:job)
      lost = @jobs - runs.count { |_, of_job| of_job.any?(&:done) }
      again = runs.values.flat_map { |of_job| of_job.sort_by(&:begun)[0...-1] }
      reasons = again.map { |run| reason(run) }.tally
      print_counts(runs.sum { |_, of_job| of_job.size }, lost, reasons)
      lost.zero? && reasons[nil].nil? && tormented?
    end

    # Too few jobs are done before anything has happened to them.
    def tormented?
      return true if @restarts.size == RESTARTS && @worker_kills.size >= @took / 2

      @out.puts "gearmand has to be restarted #{RESTARTS} times, and a worker killed each second or two: " \
                "more jobs are needed"
      false
    end

    def print_counts(runs, lost, reasons)
      @out.puts format("%<took>.0f s: %<kills>d workers killed, gearmand restarted %<restarts>d times",
                       took: @took, kills: @worker_kills.size, restarts: @restarts.size)
      @out.puts "jobs #{@jobs}, begun #{runs} times, lost #{lost}"
      @out.puts "begun again: #{reasons[:kill].to_i} held by a killed worker, " \
                "#{reasons[:restart].to_i} by a restarted gearmand, #{reasons[nil].to_i} without a reason"
    end
  end
end
