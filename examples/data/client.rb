# frozen_string_literal: true

# Takes a result in parts as they come, and warnings.
#
#   ruby examples/data/client.rb [SERVER]

require "gearman"

client = Gearman::Client.new(ARGV.fetch(0, "localhost:4730"))
parts = []
task = Gearman::Task.new("lines", "one\ntwo\n\nthree\n")
task.on_data { |part| parts << part }
task.on_warning { |text| puts "warning: #{text}" }
task.on_complete { puts parts.join(" ") }
client.do_task(task)
