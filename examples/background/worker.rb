# frozen_string_literal: true

# Runs jobs that nobody waits for.
#
#   ruby examples/background/worker.rb [SERVER]

require "gearman"

$stdout.sync = true

worker = Gearman::Worker.new(ARGV.fetch(0, "localhost:4730"))
%w[INT TERM].each { |signal| trap(signal) { worker.worker_enabled = false } }

worker.add_ability("mail") do |data|
  puts "sent to #{data}"
  true # nil and false fail the job
end

worker.work
