# frozen_string_literal: true

require_relative "registry"

module Published
  # The suite of one version, run against our lib.
  class Suite
    def initialize(version, folder)
      @version = version
      @folder = folder
      @report = File.join(folder, "report.json")
      @log = File.join(folder, "report.log")
    end

    # Whether it is green; says so in one line, and prints its output when it is not.
    def green?
      exited = system(
        { "GUARDED_LIB" => File.join(@folder, "lib") },
        RbConfig.ruby, "-S", "rspec", "--require", GUARD, "--format", "json", "--out", @report, "--format", "progress",
        "spec", chdir: @folder, %i[out err] => @log
      )
      complaints = complaints(exited)
      puts "gearman-ruby #{@version}: #{summary ? summary.fetch(:line) : "no report"}" \
           "#{" - RED: #{complaints.join(", ")}" unless complaints.empty?}"
      puts File.read(@log) unless complaints.empty?
      complaints.empty?
    end

    private

    def summary
      return unless File.file?(@report)

      parsed = JSON.parse(File.read(@report), symbolize_names: true)
      parsed.fetch(:summary).merge(line: parsed.fetch(:summary_line))
    end

    def complaints(exited)
      return ["it ended with no report"] unless summary

      expected = SUITES.fetch(@version)
      [
        ("it failed" unless exited),
        ("#{expected} examples expected" if summary.fetch(:example_count) < expected),
        ("#{PENDING} pending expected" if summary.fetch(:pending_count) != PENDING)
      ].compact
    end
  end
end
