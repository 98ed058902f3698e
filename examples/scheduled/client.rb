# frozen_string_literal: true

# Schedules a job; the server has it run when its time has come.
#
#   ruby examples/scheduled/client.rb [SERVER]

require "gearman"

client = Gearman::Client.new(ARGV.fetch(0, "localhost:4730"))
task = Gearman::Task.new("remind", Time.now.to_i)
task.schedule(Time.now + 3)
client.do_task(task)
puts "scheduled"
