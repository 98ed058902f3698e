# frozen_string_literal: true

require "tmpdir"
require_relative "processes"
require_relative "broker"
require_relative "contestants"
require_relative "counter"
require_relative "rows"

module Bench
  # What one contestant did in one row of one round.
  Cell = Struct.new(:cores, :round, :row, :contestant, :result, keyword_init: true) do
    def rate = result[:jobs] / result[:seconds]
    def cpu = result[:cpu] * 1e6 / result[:jobs]
    def objects = result[:objects] && (result[:objects].fdiv(result[:jobs]) - (task_objects || 0))
    def task_objects = result[:task_objects]
  end

  # Runs all cells, one after the other.
  class Runner
    FILL_WINDOW = 256
    PURGE_WINDOW = 64

    attr_reader :counts

    # @param progress [#call] is told what is going on, in a few words
    def initialize(options, processes, progress)
      @options = options
      @processes = processes
      @progress = progress
      @functions = 0
      @counts = {}
    end

    # @return [Array<Cell>]
    def measure
      @options[:cores].flat_map do |cores|
        (1..@options[:rounds]).flat_map do |round|
          each_cell(cores) do |row, contestant|
            @progress.call("#{cores} core#{"s" if cores > 1}, round #{round}: #{row.name}, #{contestant.name}")
            result = run_cell(row, contestant)
            Cell.new(cores: cores, round: round, row: row.name, contestant: contestant.name, result: result)
          end
        end
      end
    end

    # Fills {#counts}: system calls a job by row, contestant and name, on one core. Starting up is taken out by
    # running twice and dividing the difference.
    def count(counter)
      each_cell(1) do |row, contestant|
        next if row.only # for its CPU time

        @progress.call("counting system calls: #{row.name}, #{contestant.name}")
        few, many = [10, 2_000 + row.window].map { |jobs| count_cell(counter, row, contestant, jobs) }
        jobs = many[:jobs] - few[:jobs]
        (@counts[row.name] ||= {})[contestant.name] = many[:calls].to_h do |call, count|
          [call, (count - few[:calls][call]).fdiv(jobs)]
        end
      end
    end

    private

    # Calls the block with each row and contestant; rows that want the same broker share one.
    def each_cell(cores)
      @options[:rows].group_by(&:gearmand).flat_map do |arguments, rows|
        with_broker(cores, arguments) do
          rows.product(@options[:contestants]).filter_map do |row, contestant|
            yield row, contestant if row.measures?(contestant)
          end
        end
      end
    end

    # Every round has brokers of its own, warmed by one queue filled and emptied.
    def with_broker(cores, arguments)
      @cores = Processes.cores(cores)
      Broker.run(@processes, *arguments, cores: @cores) do |broker|
        @broker = broker
        fill(function = next_function, 20_000)
        purge(function)
        yield
      end
    end

    def count_cell(counter, row, contestant, jobs)
      Dir.mktmpdir("gearman-benchmark") do |folder|
        file = File.join(folder, "counts")
        result = run_cell(row, contestant, jobs: jobs, warmup: 10, counter: counter.command(file))
        { jobs: result[:warmed] + result[:jobs], calls: counter.read(File.read(file)) }
      end
    end

    def run_cell(row, contestant, jobs: @options[:jobs] || row.jobs, warmup: [jobs / 10, 100].max, counter: [])
      function = next_function
      filled = fill(function, warmup + jobs + row.grabs, row.fill) if row.fill
      worker = start_worker(row, contestant, function)
      plan = { port: @broker.port, function: function, warmup: warmup, jobs: jobs,
               window: row.worker ? row.window : [row.window, row.grabs].max, seconds: @options[:seconds] }
      program = contestant.command(row.role, **plan)
      result = parse(@processes.run(program, cores: @cores, counter: counter, limit: limit))
      contestant.verify(result)
      @processes.stop(worker) if worker
      check_queue(row, contestant, result[:warmed] + result[:jobs], @broker.queued(function), filled)
      purge(function)
      result
    end

    def start_worker(row, contestant, function)
      return unless row.worker

      worker = row.worker == :same ? contestant : CONTESTANTS.fetch(row.worker)
      command = worker.command("work", port: @broker.port, function: function, window: row.grabs)
      @processes.start(command, cores: @cores, limit: limit, %i[out err] => File::NULL)
    end

    # The broker is asked whether it has seen the jobs that the program says it did. A worker that drains
    # ends as its last job arrives, so that one is left, and those that it has run and not answered yet.
    def check_queue(row, contestant, done, left, filled)
      expected = case row.role
                 when /\Asubmit/ then done..done
                 when "drain" then (filled.to_i - done + 1)..(filled.to_i - done + row.grabs)
                 else 0..0
                 end
      return if expected.cover?(left)

      raise Error, "#{row.name}, #{contestant.name}: #{left} jobs are in the queue, #{expected} should be"
    end

    # @return [Integer] how many jobs are queued now: at least +jobs+, as it fills by the window
    def fill(function, jobs, role = "submit")
      sockets(role, function, jobs: jobs, window: FILL_WINDOW)
      @broker.queued(function)
    end

    def purge(function)
      sockets("purge", function, window: PURGE_WINDOW)
      left = @broker.queued(function)
      raise Error, "#{left} jobs of #{function} cannot be removed" unless left.zero?
    end

    def sockets(role, function, **plan)
      command = SOCKETS.command(role, port: @broker.port, function: function, seconds: 60, **plan)
      @processes.run(command, cores: @cores, limit: 60)
    end

    def parse(line)
      line.scan(/(\w+)=(\S*)/).to_h do |name, value|
        [name.to_sym, Integer(value, exception: false) || Float(value, exception: false) || value]
      end
    end

    def next_function = format("benchmark%05d", @functions += 1)

    # Generous: a program ends by itself after seconds and a quarter.
    def limit = (@options[:seconds] * 2) + 30
  end
end
