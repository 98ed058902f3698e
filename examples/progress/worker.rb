# frozen_string_literal: true

# Reports how far a long job is.
#
#   ruby examples/progress/worker.rb [SERVER]

require "gearman"

$stdout.sync = true

worker = Gearman::Worker.new(ARGV.fetch(0, "localhost:4730"))
%w[INT TERM].each { |signal| trap(signal) { worker.worker_enabled = false } }

worker.add_ability("count") do |data, job|
  steps = data.to_i
  (1..steps).each do |step|
    job.report_status(step, steps)
    sleep 0.1
  end
  "counted to #{steps}"
end

worker.work
