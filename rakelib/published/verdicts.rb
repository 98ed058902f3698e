# frozen_string_literal: true

require "json"
require "rspec/core"

module Published
  # Writes what came of each example as JSON, with the tags that RSpec's own formatter leaves out.
  class Verdicts
    RSpec::Core::Formatters.register self, :stop, :dump_summary, :close

    def initialize(output)
      @output = output
      @report = { examples: [], errors_outside: 0 }
    end

    def stop(notification)
      @report[:examples] = notification.examples.map { |example| row(example) }
    end

    def dump_summary(summary)
      @report[:errors_outside] = summary.errors_outside_of_examples_count
    end

    def close(_notification)
      @output.write(JSON.generate(@report))
    end

    private

    def row(example)
      result = example.execution_result
      error = result.exception
      {
        id: example.id, name: example.full_description, status: result.status, error: error&.class&.name,
        message: error && error.message.strip.lines.first(3).map(&:strip).join(" "),
        raised_at: error && error.backtrace.to_a.first, **example.metadata.slice(:defect, :control, :new_api)
      }
    end
  end
end
