# frozen_string_literal: true

require_relative "registry"

module Published
  # The specs of what gearman-native fixes, run against the gearman-ruby that they say is broken. Each example must fail
  # there, in a process of its own, for it may hang. Three tags of an example matter:
  #
  #   defect: 12       the defect's number
  #   control: true    must pass there: it proves that specs run there at all
  #   new_api: true    fails there as a method or argument is missing, and is meant to
  class Defects
    FORMATTER = File.expand_path("verdicts.rb", __dir__)
    PATTERN = "spec/defects/**/*_spec.rb"
    # Seconds after which an example hangs, which is a way to fail.
    PATIENCE = 40
    # What a spec raises when it asks for what was never there, which shows no defect.
    BESIDE_THE_POINT = %w[NameError NoMethodError ArgumentError LoadError].freeze

    def initialize(lib)
      @lib = lib
    end

    # Whether each example fails there, and each control passes; says what each does.
    def shown?
      listed = examples
      untagged = listed.reject { |example| example[:defect] || example[:control] }
      abort "spec:defects: no defect is named by #{untagged.map { |example| label(example) }}" unless untagged.empty?
      %i[defect control].each do |tag|
        abort "spec:defects: no example tagged #{tag} in #{PATTERN}" if listed.none? { |example| example[tag] }
      end

      verdicts = in_parallel(listed) { |example| verdict(example) }.sort_by { |example, _| listed.index(example) }
      verdicts.each { |example, (shown, how)| puts "#{shown ? "ok " : "RED"} #{label(example)}: #{how}" }
      shown = verdicts.count { |_, (is_shown, _)| is_shown }
      puts "spec:defects: #{listed.size} examples, #{listed.size - shown} not as they must be on gearman-ruby"
      shown == listed.size
    end

    private

    def examples
      report = report_of("--dry-run", "--order", "defined", "--pattern", PATTERN)
      abort "spec:defects: listing the examples hangs" unless report
      abort "spec:defects: an error outside of the examples" if report.fetch(:errors_outside).positive?
      report.fetch(:examples)
    end

    def in_parallel(listed, threads: 2)
      queue = Queue.new
      listed.each { |example| queue << example }
      queue.close
      Array.new(threads) do
        Thread.new do
          verdicts = []
          while (example = queue.pop)
            verdicts << [example, yield(example)]
          end
          verdicts
        end
      end.flat_map(&:value)
    end

    # [whether it is as it must be, how it ended]
    def verdict(example)
      report = report_of(example.fetch(:id)) || (return [!example[:control], "hangs"])
      result = report.fetch(:examples).first
      return [false, "did not run"] if result.nil? || report.fetch(:errors_outside).positive?

      status = result.fetch(:status)
      return [status == "passed", status] if example[:control]
      return [false, status] if status != "failed"

      how = result.values_at(:error, :message).join(": ")
      beside_the_point?(result) ? [false, "fails beside the point: #{how}"] : [true, how]
    end

    def beside_the_point?(result)
      BESIDE_THE_POINT.include?(result[:error]) && !result[:new_api] && !result[:raised_at].to_s.start_with?(@lib)
    end

    # What came of RSpec run with these arguments; nil when it does not end.
    def report_of(*arguments)
      Dir.mktmpdir do |folder|
        report = File.join(folder, "report.json")
        pid = spawn({ "GEARMAN_LIB" => @lib }, RbConfig.ruby, "-S", "rspec", "--require", FORMATTER,
                    "--format", "Published::Verdicts", "--out", report, *arguments,
                    in: File::NULL, %i[out err] => File.join(folder, "log"), pgroup: true)
        next unless ended?(pid)

        File.size?(report) ? JSON.parse(File.read(report), symbolize_names: true) : abort(File.read("#{folder}/log"))
      end
    end

    def ended?(pid)
      (PATIENCE * 10).times { return true if Process.wait(pid, Process::WNOHANG) || !sleep(0.1) }
      Process.kill("KILL", -pid)
      Process.wait(pid)
      false
    end

    def label(example)
      [("defect #{Array(example[:defect]).join(", ")}" if example[:defect]), ("control" if example[:control]),
       example.fetch(:name)].compact.join(" - ")
    end
  end
end
