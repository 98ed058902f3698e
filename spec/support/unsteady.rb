# frozen_string_literal: true

require "rspec/rebound"

# Hundreds of examples wait for other processes, on a machine that may have no time for them. One that fails is run once
# more, and if it passes then, it is named for somebody to look into. There may be few such: more are no accident.
RSpec.configure do |config|
  left = ENV["GEARMAN_LIB"] ? 0 : 3
  config.filter_gems_from_backtrace("rspec-rebound")
  config.verbose_retry = config.display_try_failure_messages = true
  config.retry_count_condition = ->(_) { left.positive? ? 1 : 0 }
  config.retry_callback = lambda do |_|
    left -= 1
    own = instance_variables.reject { |name| name.start_with?("@__") } - self.class.before_context_ivars.keys
    own.each { |name| remove_instance_variable(name) }
  end
  config.flaky_test_callback = lambda do |example|
    config.reporter.message("UNSTEADY: #{example.location_rerun_argument} # #{example.full_description}")
  end
end
