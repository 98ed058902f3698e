# frozen_string_literal: true

# Fails some of its jobs.
#
#   ruby examples/task_set/worker.rb [SERVER]

require "gearman"

worker = Gearman::Worker.new(ARGV.fetch(0, "localhost:4730"))
%w[INT TERM].each { |signal| trap(signal) { worker.worker_enabled = false } }

# Returning false fails the job: here, for every hundredth number.
worker.add_ability("square") do |data|
  number = data.to_i
  number % 100 != 99 && (number**2)
end

worker.work
