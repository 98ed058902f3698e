# frozen_string_literal: true

# Waits for many tasks at once, and shows how far they are.
#
#   ruby examples/task_set/client.rb [SERVER [TASKS]]

require "gearman"
require_relative "../progress_line"

client = Gearman::Client.new(ARGV.fetch(0, "localhost:4730"))
total = ARGV.fetch(1, 1000).to_i

line = ProgressLine.new(total)
sum = completed = failed = 0
ended = -> { line.update(completed + failed) { failed } }

tasks = Gearman::TaskSet.new(client)
total.times do |number|
  task = Gearman::Task.new("square", number)
  task.on_complete do |result|
    completed += 1
    sum += result.to_i
    ended.call
  end
  task.on_fail do
    failed += 1
    ended.call
  end
  tasks.add_task(task)
end
tasks.wait_forever

puts "#{completed} completed, #{failed} failed, the sum is #{sum}"
