# frozen_string_literal: true

# Runs many short jobs. It has asked for the next ones by the time it is through with one.
#
#   ruby examples/bulk/worker.rb [SERVER]

require "gearman"

worker = Gearman::Worker.new(ARGV.fetch(0, "localhost:4730"), prefetch: 16)
%w[INT TERM].each { |signal| trap(signal) { worker.worker_enabled = false } }

pages = 0
worker.add_ability("index") do
  pages += 1
  true # nil and false fail the job
end

worker.work
puts "#{pages} pages"
