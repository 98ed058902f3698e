# frozen_string_literal: true

# Leaves jobs with the server and ends.
#
#   ruby examples/background/client.rb [SERVER]

require "gearman"

client = Gearman::Client.new(ARGV.fetch(0, "localhost:4730"))
%w[alice bob carol].each do |name|
  task = Gearman::BackgroundTask.new("mail", name)
  task.on_created { |handle| puts "#{name}: the server has it as #{handle}" }
  client.do_task(task)
end
