# frozen_string_literal: true

# Waits for a result.
#
#   ruby examples/plain/client.rb [SERVER]

require "gearman"

client = Gearman::Client.new(ARGV.fetch(0, "localhost:4730"))
result = client.do_task(Gearman::Task.new("reverse", "Größe"))
puts result.force_encoding(Encoding::UTF_8)
