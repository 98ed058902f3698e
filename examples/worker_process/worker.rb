# frozen_string_literal: true

# Functions for gearman-worker, which brings the rest: threads, processes, signals, a log.
#
#   gearman-worker -r examples/worker_process/worker.rb [-s SERVER] [-c JOBS] [-w PROCESSES]

Gearman.configure do |config|
  config.concurrency = 10
  config.on_error { |error, context| warn "#{context[:function]} was given something else: #{error.message}" }
end

Gearman.worker do
  ability("count_words", timeout: 10) do |text, _job|
    text.split.size
  end

  ability("sum") do |numbers, _job|
    numbers.split.sum { |number| Integer(number) }
  end

  # Around each job, whatever its function.
  around_job do |job, run|
    puts "#{job.func_name} begins"
    run.call
  end
end
