# frozen_string_literal: true

# Compares this gem with gearman-ruby, libgearman and plain sockets; README.md beside this file explains the figures.

require "fileutils"
require "json"
require "optparse"
require_relative "harness/runner"
require_relative "harness/report"

module Bench
  DEFAULTS = { rows: ROWS.values, contestants: CONTESTANTS.values, cores: [1, 2], rounds: 7, jobs: nil, seconds: 3.0,
               calls: true, save: false }.freeze
  QUICK = { cores: [1], rounds: 3, jobs: 2_000, seconds: 1.0 }.freeze
  LIMITS = { jobs: 100..1_000_000, rounds: 1..100, cores: 1..2, seconds: 0.1..600.0 }.freeze

  module_function

  def parse(arguments)
    chosen = {}
    parser(chosen).parse!(arguments)
    raise OptionParser::NeedlessArgument, arguments.first if arguments.any?

    { **DEFAULTS, **(chosen.delete(:quick) ? QUICK : {}), **chosen }
  rescue OptionParser::ParseError => e
    abort "#{e.message}; --help lists what there is"
  end

  def parser(chosen)
    rows = ROWS.values
    OptionParser.new do |o|
      o.banner = "Usage: ruby benchmark/run.rb [options]\n\n" \
                 "Measures, round by round and one after the other, the jobs a second, CPU time, system calls\n" \
                 "and Ruby objects of each contestant, against a gearmand started for it on a loopback port.\n\n"
      o.on("--rows A,B", Array, "only these of:", *rows.map { |row| "  #{row.name}: #{row.title}" }) do |names|
        chosen[:rows] = pick(names, ROWS)
      end
      o.on("--contestants A,B", Array, "only these of: #{CONTESTANTS.keys.join(", ")}") do |names|
        chosen[:contestants] = pick(names, CONTESTANTS)
      end
      o.on("--cores 1,2", Array, "how many cores all processes share (#{DEFAULTS[:cores].join(", then ")})") do |counts|
        chosen[:cores] = counts.uniq.map { |count| within(:cores, Integer(count, exception: false) || count) }
      end
      o.on("--rounds N", Integer, "how often each is measured (#{DEFAULTS[:rounds]})") do |count|
        chosen[:rounds] = within(:rounds, count)
      end
      o.on("--jobs N", Integer, "measured jobs of each row (by default:",
           "#{rows.map { |row| "#{row.name} #{row.jobs}" }.join(", ")})") do |count|
        chosen[:jobs] = within(:jobs, count)
      end
      o.on("--seconds N", Float, "the longest that one measurement takes (#{DEFAULTS[:seconds]})") do |count|
        chosen[:seconds] = within(:seconds, count)
      end
      o.on("--quick", "one core, #{QUICK[:rounds]} rounds of #{QUICK[:jobs]} jobs, unless told otherwise") do
        chosen[:quick] = true
      end
      o.on("--no-calls", "do not count system calls") { chosen[:calls] = false }
      o.on("--save", "write the table and all measurements to benchmark/results/") { chosen[:save] = true }
    end
  end

  def pick(names, known)
    names.uniq.map do |name|
      known.fetch(name) { raise OptionParser::InvalidArgument, "#{name} (there are #{known.keys.join(", ")})" }
    end
  end

  def within(name, value)
    return value if LIMITS[name].cover?(value)

    raise OptionParser::InvalidArgument, "#{value.inspect} (must be #{LIMITS[name].min} to #{LIMITS[name].max})"
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
    save(report, header, cells, runner.counts) if options[:save]
  ensure
    processes&.stop_all
  end

  def pick_counter(options)
    require_tools
    return unless options[:calls]

    Counter.available ||
      raise(Error, "neither perf (as root, package linux-perf) nor strace can count system calls here; see --no-calls")
  end

  def require_tools
    tools = { "gearmand" => "gearman-job-server", "taskset" => "util-linux", "setpriv" => "util-linux",
              "timeout" => "coreutils" }
    missing = tools.reject { |tool, _| Processes.command?(tool) }
    return if missing.empty?

    raise Error, "not found: #{missing.keys.join(", ")}; Debian's packages: #{missing.values.uniq.join(", ")}"
  end

  def describe(options, processes, counter)
    gearmand = Broker.run(processes, cores: Processes.cores(1), &:version)
    { "date" => Time.now.strftime("%F %T %z"), **Machine.describe,
      "gearmand" => "#{gearmand} (#{Broker::COMMAND.drop(1).join(" ")})",
      **options[:contestants].to_h { |contestant| [contestant.name, contestant.version] },
      "system calls" => counter ? "counted by #{counter::NAME}" : "not counted",
      "rounds" => "#{options[:rounds]}, each at most #{options[:seconds]} s a measurement" }
  end

  def progress(text)
    $stderr.print "\r\e[K#{text}" if $stderr.tty?
  end

  def save(report, header, cells, counts)
    folder = File.join(__dir__, "results")
    FileUtils.mkdir_p(folder)
    base = File.join(folder, Time.now.strftime("%Y-%m-%d-%H%M%S"))
    File.write("#{base}.txt", report.to_s)
    File.write("#{base}.json", JSON.pretty_generate(header: header, cells: cells.map(&:to_h), calls: counts))
    puts "\nSaved as #{base}.txt and .json"
  end
end

begin
  Bench.run(Bench.parse(ARGV))
rescue Bench::Error => e
  abort e.message
rescue Interrupt
  exit 130
end
