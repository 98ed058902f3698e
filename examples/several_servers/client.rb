# frozen_string_literal: true

# Spreads tasks over several servers and waits for all of them; a server that is down is passed over.
#
#   ruby examples/several_servers/client.rb [SERVER...]

require "gearman"

client = Gearman::Client.new(ARGV.empty? ? %w[localhost:4730 localhost:4731] : ARGV)
tasks = Gearman::TaskSet.new(client)
squares = {}
(1..10).each do |number|
  task = Gearman::Task.new("square", number)
  task.on_complete { |result| squares[number] = result }
  tasks.add_task(task)
end
puts tasks.wait(10) ? "all completed" : "some failed, or took more than 10 seconds"
puts squares.sort.to_h.values.join(" ")
