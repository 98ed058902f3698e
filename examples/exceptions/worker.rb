# frozen_string_literal: true

# Fails in two ways: by an error, and by returning false.
#
#   ruby examples/exceptions/worker.rb [SERVER]

require "gearman"

$stdout.sync = true

worker = Gearman::Worker.new(ARGV.fetch(0, "localhost:4730"))
%w[INT TERM].each { |signal| trap(signal) { worker.worker_enabled = false } }

worker.add_ability("root") do |data|
  number = Float(data)
  number >= 0 && Math.sqrt(number)
end

worker.work
