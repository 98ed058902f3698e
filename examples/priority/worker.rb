# frozen_string_literal: true

# Runs jobs in the order of their priority. Start it behind the client, which fills the queue.
#
#   ruby examples/priority/worker.rb [SERVER]

require "gearman"

$stdout.sync = true

worker = Gearman::Worker.new(ARGV.fetch(0, "localhost:4730"))
%w[INT TERM].each { |signal| trap(signal) { worker.worker_enabled = false } }

worker.add_ability("print") do |data|
  puts data
  true
end

worker.work
