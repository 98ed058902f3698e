# frozen_string_literal: true

require "rbconfig"
require "tmpdir"

module Bench
  module Jobs
    # One thing that is measured.
    # role:: what the measured process does: a role of client.rb, or work
    # plain:: whether the jobs are those of the library itself, not of ActiveJob
    # goal:: how many times Sidekiq's jobs a second this library is to reach
    Row = Struct.new(:name, :title, :role, :plain, :goal, keyword_init: true) do
      def contestants = plain ? %w[sidekiq gearman-native] : ["no transport", "sidekiq", "gearman-native"]
    end

    ROWS = [
      Row.new(name: "enqueue", title: "ActiveJobs enqueued one by one: perform_later", role: "enqueue", goal: 1.5),
      Row.new(name: "enqueue-bulk", title: "ActiveJobs enqueued 1000 at a time: perform_all_later",
              role: "enqueue-bulk", goal: 1.3),
      Row.new(name: "work", title: "empty ActiveJobs run by a worker with 5 threads", role: "work", goal: 2.0),
      Row.new(name: "push", title: "plain jobs one by one: Sidekiq::Client.push, Client#do_task",
              role: "push", plain: true, goal: 2.0),
      Row.new(name: "push-bulk", title: "plain jobs 1000 at a time: Sidekiq::Client.push_bulk, Client#submit_all",
              role: "push-bulk", plain: true, goal: 1.8),
      Row.new(name: "work-plain", title: "empty plain jobs run by a worker with 5 threads",
              role: "work", plain: true, goal: 2.0)
    ].to_h { |row| [row.name, row] }.freeze

    # What one contestant did in one row of one round.
    Cell = Struct.new(:round, :row, :contestant, :result, keyword_init: true) do
      def rate = result[:jobs] / result[:seconds]
      def cpu = result[:cpu] * 1e6 / result[:jobs]
      def objects = result[:objects].fdiv(result[:jobs])
      def broker = result[:broker] || 0.0
      def all_cpu = cpu + broker
    end

    # Runs all cells, one after the other, each on its own queue.
    class Runner
      CONCURRENCY = 5
      LIMIT = 120 # seconds a process
      FOLDER = __dir__
      GEMFILE = File.join(FOLDER, "Gemfile")
      ENVIRONMENT = { "BUNDLE_GEMFILE" => GEMFILE, "BUNDLE_PATH" => File.join(CACHE, "jobs") }.freeze
      RUBY = ["env", *ENVIRONMENT.map { |pair| pair.join("=") }, RbConfig.ruby, "-rbundler/setup"].freeze
      BUNDLE = [RbConfig.ruby, "-e", 'load Gem.activate_bin_path("bundler", "bundle", ">= 0.a")', "--"].freeze

      def initialize(options, processes, progress)
        @options = options
        @processes = processes
        @progress = progress
        @queues = 0
        @cores = Processes.cores(1)
        install
      end

      # @return [Hash{String => String}] what takes part
      def versions
        libraries = ["no transport", "sidekiq", "gearman-native"].to_h do |name|
          [name, @processes.run(client(name, "version"), cores: @cores, limit: LIMIT).chomp]
        end
        brokers = with_brokers do
          { "Redis" => "#{@redis.version} (#{Redis::COMMAND.drop(1).join(" ")}): in memory only",
            "gearmand" => "#{@gearmand.version} (#{Broker::COMMAND.drop(1).join(" ")}): in memory only" }
        end
        libraries.merge(brokers)
      end

      # @return [Array<Cell>]
      def measure
        (1..(@options[:profile] ? 1 : @options[:rounds])).flat_map do |round|
          with_brokers do
            @options[:rows].flat_map do |row|
              row.contestants.map do |name|
                @progress.call("round #{round}: #{row.name}, #{name}")
                Cell.new(round: round, row: row.name, contestant: name, result: run_cell(row, name))
              end
            end
          end
        end
      end

      private

      def install
        return if bundled?("check")

        FileUtils.mkdir_p(CACHE)
        bundled?("install", "--quiet") || raise(Error, "the gems of #{GEMFILE} cannot be installed")
      end

      def bundled?(*arguments)
        system({ **Processes::CLEAN, **ENVIRONMENT }, *BUNDLE, *arguments,
               out: arguments.include?("check") ? File::NULL : $stderr, err: File::NULL)
      end

      def with_brokers
        Redis.run(@processes, cores: @cores) do |redis|
          Broker.run(@processes, cores: @cores) do |gearmand|
            @redis = redis
            @gearmand = gearmand
            yield
          end
        end
      end

      def run_cell(row, name)
        queue = format("benchmark%04d", @queues += 1)
        jobs = @options[:jobs]
        warmup = jobs / 10
        return floor(warmup, jobs) if row.role == "work" && name == "no transport"

        if row.role == "work"
          run_worker(row, name, queue, warmup, jobs)
        else
          result = beside_broker(name, warmup + jobs) do
            parse(run(client(name, row.role, port(name), queue, warmup, jobs), row, name))
          end
          check(row, name, queue, warmup + jobs)
          result
        end
      ensure
        purge(name, queue) if queue
      end

      def floor(warmup, jobs)
        parse(@processes.run([*RUBY, File.join(FOLDER, "floor.rb"), warmup, jobs].map(&:to_s), cores: @cores,
                                                                                               limit: LIMIT))
      end

      # The queue is full before the worker starts, which ends when it has run all of it.
      def run_worker(row, name, queue, warmup, jobs)
        fill = client(name, row.plain ? "push-bulk" : "enqueue-bulk", port(name), queue, 0, warmup + jobs)
        @processes.run(fill, cores: @cores, limit: LIMIT)
        check(row, name, queue, warmup + jobs)
        Dir.mktmpdir("jobs-benchmark") do |folder|
          file = File.join(folder, "result")
          log = File.join(folder, "log")
          command = worker(row, name, queue, "RESULT" => file, "WARMUP" => warmup, "JOBS" => jobs, **profile(row, name))
          beside_broker(name, warmup + jobs) do
            pid = @processes.start(command, cores: @cores, limit: LIMIT, %i[out err] => log)
            sleep 0.05 while !File.exist?(file) && @processes.alive?(pid)
            raise Error, "#{row.name}, #{name}: #{File.read(log)}" unless File.exist?(file)

            stop(pid)
            check(row, name, queue, 0)
            parse(File.read(file))
          end
        end
      end

      # Adds to what the block returns the broker's CPU time, in microseconds a job.
      def beside_broker(name, jobs)
        return yield if name == "no transport"

        broker = name == "sidekiq" ? @redis : @gearmand
        before = cpu_of(broker)
        yield.merge(broker: (cpu_of(broker) - before) / 1e3 / jobs)
      end

      # Of the process that was started by the one that limits its time, in nanoseconds.
      def cpu_of(broker)
        pid = File.read("/proc/#{broker.pid}/task/#{broker.pid}/children").to_i
        Dir.glob("/proc/#{pid}/task/*/schedstat").sum { |path| File.read(path).to_i }
      end

      def stop(pid)
        Process.kill("TERM", -pid)
        sleep 0.05 while @processes.alive?(pid)
      end

      def client(name, role, *arguments)
        [*RUBY, File.join(FOLDER, "client.rb"), name, role, *arguments].map(&:to_s)
      end

      def run(command, row, name)
        environment = profile(row, name).map { |pair| pair.join("=") }
        @processes.run(["env", *environment, *command], cores: @cores, limit: LIMIT)
      end

      def worker(row, name, queue, environment)
        environment = { "CONTESTANT" => name, "PORT" => port(name), "QUEUE" => queue, **environment,
                        **(row.plain ? { "PLAIN" => 1 } : {}) }
        program = File.join(FOLDER, "worker.rb")
        gem, executable, *options =
          if name == "sidekiq" then ["sidekiq", "sidekiq", "-r", program]
          else ["gearman-native", "gearman-worker", "-r", program, "-s", "127.0.0.1:#{port(name)}"]
          end
        load = "load Gem.bin_path(#{gem.dump}, #{executable.dump})"
        ["env", *environment.map { |pair| pair.join("=") }, *RUBY, "-e", load, "--", *options, "-q", queue,
         "-c", CONCURRENCY.to_s]
      end

      def profile(row, name)
        return {} unless @options[:profile]

        FileUtils.mkdir_p(@options[:profile])
        { "PROFILE" => File.expand_path("#{row.name}-#{name}.dump", @options[:profile]) }
      end

      def port(name) = { "sidekiq" => @redis.port, "gearman-native" => @gearmand.port }.fetch(name, 0)

      # The broker is asked whether it has the jobs that there should be.
      def check(row, name, queue, expected)
        return if name == "no transport"

        left = name == "sidekiq" ? @redis.queued(queue) : @gearmand.queued(queue)
        return if left == expected

        raise Error, "#{row.name}, #{name}: #{left} jobs are in the queue, #{expected} should be"
      end

      def purge(name, queue)
        case name
        when "sidekiq" then @redis.purge
        when "gearman-native"
          command = SOCKETS.command("purge", port: @gearmand.port, function: queue, seconds: 60, window: 64)
          @processes.run(command, cores: @cores, limit: LIMIT)
        end
      end

      def parse(line)
        line.scan(/(\w+)=(\S*)/).to_h { |name, value| [name.to_sym, Float(value)] }
      end
    end
  end
end
