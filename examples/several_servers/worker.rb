# frozen_string_literal: true

# Runs the jobs of several servers; one that is down is tried again until it is back.
#
#   ruby examples/several_servers/worker.rb [SERVER...]

require "gearman"

worker = Gearman::Worker.new(ARGV.empty? ? %w[localhost:4730 localhost:4731] : ARGV)
%w[INT TERM].each { |signal| trap(signal) { worker.worker_enabled = false } }

worker.add_ability("square") { |data| data.to_i**2 }

worker.work
