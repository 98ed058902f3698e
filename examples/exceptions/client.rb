# frozen_string_literal: true

# Sees jobs fail: by an error, whose message comes when the option is set, and by returning false.
#
#   ruby examples/exceptions/client.rb [SERVER]

require "gearman"

client = Gearman::Client.new(ARGV.fetch(0, "localhost:4730"))
client.set_options("exceptions")
%w[16 XVI -16].each do |number|
  task = Gearman::Task.new("root", number, retry_count: 1)
  task.on_complete { |result| puts "#{number}: #{result}" }
  task.on_exception { |message| puts "#{number}: #{message}" }
  task.on_retry { puts "#{number}: tried again" }
  task.on_fail { puts "#{number}: failed" }
  client.do_task(task)
end
