# frozen_string_literal: true

# Runs jobs at the time they are scheduled for.
#
#   ruby examples/scheduled/worker.rb [SERVER]

require "gearman"

$stdout.sync = true

worker = Gearman::Worker.new(ARGV.fetch(0, "localhost:4730"))
%w[INT TERM].each { |signal| trap(signal) { worker.worker_enabled = false } }

worker.add_ability("remind") do |data|
  puts "#{Time.now.to_i - data.to_i} seconds later"
  true
end

worker.work
