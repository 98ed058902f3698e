# frozen_string_literal: true

# Compares this gem with Sidekiq as a library for background jobs; README.md beside this file explains the figures.

require_relative "harness/command"
require_relative "harness/broker"
require_relative "harness/contestants"
require_relative "harness/report"
require_relative "jobs/redis"
require_relative "jobs/runner"
require_relative "jobs/report"

module Bench
  module Jobs
    DEFAULTS = { rows: ROWS.values, rounds: 5, jobs: 10_000, save: false, profile: nil }.freeze
    QUICK = { rounds: 3, jobs: 2_000 }.freeze
    LIMITS = { rounds: 1..100, jobs: 1_000..100_000 }.freeze

    extend Command

    module_function

    def parser(chosen)
      options(chosen, "Measures Sidekiq with Redis and this gem with gearmand, in turns, all on one core.\n",
              "#{QUICK[:rounds]} rounds of #{QUICK[:jobs]} jobs") do |o|
        %i[rounds jobs].each { |name| number(o, chosen, name, Integer, "#{name} (#{DEFAULTS[name]})") }
        o.on("--profile FOLDER", "one round with stackprof, which writes there") { |folder| chosen[:profile] = folder }
      end
    end

    def run(options)
      processes = Processes.new
      require_tools("redis-server" => "redis-server")
      runner = Runner.new(options, processes, method(:progress))
      header = describe(options, runner)
      cells = runner.measure
      progress("")
      report = Report.new(options, cells, header).to_s
      puts report
      save("jobs-", report, header: header, cells: cells.map(&:to_h)) if options[:save]
    ensure
      processes&.stop_all
    end

    def describe(options, runner)
      { "date" => Time.now.strftime("%F %T %z"), **Machine.describe, **runner.versions,
        "measured" => "#{options[:rounds]} rounds of #{options[:jobs]} jobs, client or worker and broker on one core",
        "logging" => "from warnings on" }
    end
  end
end

Bench::Jobs.start(ARGV)
