# frozen_string_literal: true

# Shows how far a long job is.
#
#   ruby examples/progress/client.rb [SERVER]

require "gearman"

client = Gearman::Client.new(ARGV.fetch(0, "localhost:4730"))
task = Gearman::Task.new("count", 5)
task.on_status { |numerator, denominator| puts "#{numerator}/#{denominator}" }
puts client.do_task(task)
