# frozen_string_literal: true

# Leaves jobs of every priority with the server. Start it before the worker.
#
#   ruby examples/priority/client.rb [SERVER]

require "gearman"

client = Gearman::Client.new(ARGV.fetch(0, "localhost:4730"))
[nil, :low, :high].each do |priority|
  client.do_task(Gearman::BackgroundTask.new("print", "#{priority || :normal} priority", priority: priority))
end
puts "queued"
