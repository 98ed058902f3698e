# frozen_string_literal: true

# Asks for one thing three times at once. Tasks of a function with the same unique key are one job.
#
#   ruby examples/dedupe/client.rb [SERVER]

require "gearman"

client = Gearman::Client.new(ARGV.fetch(0, "localhost:4730"))
tasks = Gearman::TaskSet.new(client)
(1..3).each do |reader|
  # Without uniq, the key is made of function and argument; `coalesce: false` gives a task a key of its own.
  task = Gearman::Task.new("report", "May", uniq: "report May")
  task.on_complete { |result| puts "reader #{reader}: #{result}" }
  tasks.add_task(task)
end
tasks.wait(10)
