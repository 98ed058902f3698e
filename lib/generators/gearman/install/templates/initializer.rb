# frozen_string_literal: true

# Gearman.configure do |config|
#   # An error that failed a job for good. Rails.error has it already from Rails 7.0 on.
#   config.on_error { |error, context| ErrorTracker.notify(error, function: context[:function]) }
#
#   # Around each job.
#   config.around_job { |job, run| Metrics.time(job.func_name) { run.call } }
#
#   # :high, :low or nil of a job; by default a priority below 0 is high, above 0 low.
#   config.priority = ->(job) { :high if job.queue_name == "critical" }
# end
