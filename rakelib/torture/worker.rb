# frozen_string_literal: true

# A worker process of torture:jobs: ruby worker.rb ADDRESS FUNCTION LOG
#
# It writes down what it does before it tells anybody: "begun JOB TIME", "done JOB TIME".

require "gearman"
require "logger"

address, function, log = ARGV
Gearman.logger = Logger.new(nil)
file = File.new(log, File::WRONLY | File::APPEND | File::CREAT)
file.sync = true
say = ->(what, job) { file.write("#{what} #{job} #{Process.clock_gettime(Process::CLOCK_MONOTONIC)}\n") }

worker = Gearman::Worker.new(address, concurrency: 2, prefetch: 2)
worker.add_ability(function) do |job|
  say.call("begun", job)
  sleep(rand * 0.03)
  say.call("done", job)
  job
end
trap("TERM") { worker.stop }
worker.work
