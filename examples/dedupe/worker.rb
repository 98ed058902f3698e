# frozen_string_literal: true

# Runs a job once for all who ask for it at the same time.
#
#   ruby examples/dedupe/worker.rb [SERVER]

require "gearman"

$stdout.sync = true

worker = Gearman::Worker.new(ARGV.fetch(0, "localhost:4730"))
%w[INT TERM].each { |signal| trap(signal) { worker.worker_enabled = false } }

worker.add_ability("report") do |data|
  puts "making the report of #{data}"
  sleep 1
  "the report of #{data}"
end

worker.work
