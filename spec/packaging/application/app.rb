# frozen_string_literal: true

# An application of gearman-ruby 4.0 as its users have them: a worker and a client of the server that is its argument.
require "bundler/setup"
Bundler.require

Gearman.logger.level = Logger::FATAL
server = ARGV.fetch(0)

worker = Gearman::Worker.new([server])
worker.add_ability("reverse") do |data, job|
  job.report_status(1, 1)
  data.reverse
end
Thread.new { loop { worker.work } }

client = Gearman::Client.new(server)
task = Gearman::Task.new("reverse", "application")
task.on_status { |done, all| puts "status #{done}/#{all}" }
task.on_complete { |result| puts "result #{result}" }
tasks = Gearman::TaskSet.new(client)
tasks.add_task(task)
puts "in time: #{tasks.wait(10)}"
puts $LOADED_FEATURES.grep(%r{/gearman\.rb\z})
