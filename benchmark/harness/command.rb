# frozen_string_literal: true

require "fileutils"
require "json"
require "optparse"
require_relative "processes"

module Bench
  # What the commands of this folder share: how they read options, tell of their progress and save results. Who extends
  # itself by it has the constants ROWS, DEFAULTS, QUICK and LIMITS, and the methods parser and run.
  module Command
    TOOLS = { "gearmand" => "gearman-job-server", "taskset" => "util-linux", "setpriv" => "util-linux",
              "timeout" => "coreutils" }.freeze

    def start(arguments)
      run(parse(arguments))
    rescue Error => e
      abort e.message
    rescue Interrupt
      exit 130
    end

    def parse(arguments)
      chosen = {}
      parser(chosen).parse!(arguments)
      raise OptionParser::NeedlessArgument, arguments.first if arguments.any?

      { **self::DEFAULTS, **(chosen.delete(:quick) ? self::QUICK : {}), **chosen }
    rescue OptionParser::ParseError => e
      abort "#{e.message}; --help lists what there is"
    end

    # A parser of the options that every command has; the block adds others.
    def options(chosen, summary, quick)
      OptionParser.new do |o|
        o.banner = "Usage: ruby benchmark/#{File.basename($PROGRAM_NAME)} [options]\n\n#{summary}\n"
        choice(o, chosen, :rows, self::ROWS, "only these of:",
               *self::ROWS.values.map { |row| "  #{row.name}: #{row.title}" })
        yield o
        o.on("--quick", "#{quick}, unless told otherwise") { chosen[:quick] = true }
        o.on("--save", "write the table and all measurements to benchmark/results/") { chosen[:save] = true }
      end
    end

    def choice(parser, chosen, name, known, *help)
      parser.on("--#{name} A,B", Array, *help) do |values|
        chosen[name] = values.uniq.map do |value|
          known.fetch(value) { raise OptionParser::InvalidArgument, "#{value} (there are #{known.keys.join(", ")})" }
        end
      end
    end

    def number(parser, chosen, name, type, *help)
      parser.on("--#{name} N", type, *help) { |value| chosen[name] = within(name, value) }
    end

    def within(name, value)
      limits = self::LIMITS[name]
      return value if limits.cover?(value)

      raise OptionParser::InvalidArgument, "#{value.inspect} (must be #{limits.min} to #{limits.max})"
    end

    def require_tools(others = {})
      missing = { **TOOLS, **others }.reject { |tool, _| Processes.command?(tool) }
      return if missing.empty?

      raise Error, "not found: #{missing.keys.join(", ")}; Debian's packages: #{missing.values.uniq.join(", ")}"
    end

    def progress(text)
      $stderr.print "\r\e[K#{text}" if $stderr.tty?
    end

    def save(prefix, report, **measurements)
      folder = File.expand_path("../results", __dir__)
      FileUtils.mkdir_p(folder)
      base = File.join(folder, Time.now.strftime("#{prefix}%Y-%m-%d-%H%M%S"))
      File.write("#{base}.txt", report)
      File.write("#{base}.json", JSON.pretty_generate(measurements))
      puts "\nSaved as #{base}.txt and .json"
    end
  end
end
