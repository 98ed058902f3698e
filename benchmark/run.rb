# frozen_string_literal: true

# Compares this gem with gearman-ruby, libgearman and plain sockets; README.md beside this file explains the figures.

require_relative "harness/command"
require_relative "harness/runner"
require_relative "harness/report"

module Bench
  DEFAULTS = { rows: ROWS.values, contestants: CONTESTANTS.values, cores: [1, 2], rounds: 7, jobs: nil, seconds: 3.0,
               calls: true, save: false }.freeze
  QUICK = { cores: [1], rounds: 3, jobs: 2_000, seconds: 1.0 }.freeze
  LIMITS = { jobs: 100..1_000_000, rounds: 1..100, cores: 1..2, seconds: 0.1..600.0 }.freeze

  extend Command

  module_function

  def parser(chosen)
    summary = "Measures, round by round and one after the other, the jobs a second, CPU time, system calls\n" \
              "and Ruby objects of each contestant, against a gearmand started for it on a loopback port.\n"
    options(chosen, summary, "one core, #{QUICK[:rounds]} rounds of #{QUICK[:jobs]} jobs") do |o|
      choice(o, chosen, :contestants, CONTESTANTS, "only these of: #{CONTESTANTS.keys.join(", ")}")
      o.on("--cores 1,2", Array, "how many cores all processes share (#{DEFAULTS[:cores].join(", then ")})") do |counts|
        chosen[:cores] = counts.uniq.map { |count| within(:cores, Integer(count, exception: false) || count) }
      end
      number(o, chosen, :rounds, Integer, "how often each is measured (#{DEFAULTS[:rounds]})")
      number(o, chosen, :jobs, Integer, "measured jobs of each row (by default:",
             "#{ROWS.values.map { |row| "#{row.name} #{row.jobs}" }.join(", ")})")
      number(o, chosen, :seconds, Float, "the longest that one measurement takes (#{DEFAULTS[:seconds]})")
      o.on("--no-calls", "do not count system calls") { chosen[:calls] = false }
    end
  end

  def run(options)
    processes = Processes.new
    counter = pick_counter(options)
    header = describe(options, processes, counter)
    runner = Runner.new(options, processes, method(:progress))
    runner.count(counter) if counter
    cells = runner.measure
    progress("")
    report = Report.new(options, cells, runner.counts, header)
    puts report
    save("", report.to_s, header: header, cells: cells.map(&:to_h), calls: runner.counts) if options[:save]
  ensure
    processes&.stop_all
  end

  def pick_counter(options)
    require_tools
    return unless options[:calls]

    Counter.available ||
      raise(Error, "neither perf (as root, package linux-perf) nor strace can count system calls here; see --no-calls")
  end

  def describe(options, processes, counter)
    gearmand = Broker.run(processes, cores: Processes.cores(1), &:version)
    { "date" => Time.now.strftime("%F %T %z"), **Machine.describe,
      "gearmand" => "#{gearmand} (#{Broker::COMMAND.drop(1).join(" ")})",
      **options[:contestants].to_h { |contestant| [contestant.name, contestant.version] },
      "system calls" => counter ? "counted by #{counter::NAME}" : "not counted",
      "rounds" => "#{options[:rounds]}, each at most #{options[:seconds]} s a measurement" }
  end
end

Bench.start(ARGV)
