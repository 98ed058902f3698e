# frozen_string_literal: true

# Asks the functions of worker.rb.
#
#   ruby examples/worker_process/client.rb [SERVER]

require "gearman"

client = Gearman::Client.new(ARGV.fetch(0, "localhost:4730"))
puts "words: #{client.do_task(Gearman::Task.new("count_words", "to be or not to be"))}"
puts "sum: #{client.do_task(Gearman::Task.new("sum", "1 2 3"))}"
client.do_task(Gearman::BackgroundTask.new("sum", "one two three"))
