# frozen_string_literal: true

# Leaves many jobs with the server, without waiting for it to take one before the next is sent.
#
#   ruby examples/bulk/client.rb [SERVER [JOBS]]

require "gearman"
require_relative "../progress_line"

client = Gearman::Client.new(ARGV.fetch(0, "localhost:4730"))
tasks = Array.new(ARGV.fetch(1, 10_000).to_i) { |number| Gearman::BackgroundTask.new("index", "page #{number}") }

line = ProgressLine.new(tasks.size)
handles = client.submit_all(tasks) { |done, _total| line.update(done) { tasks.count(&:error) } }

# A task that a server refused has no handle, but an error that says why; a full queue is one reason.
refused = tasks.select(&:error)
puts "#{handles.compact.size} jobs submitted, #{refused.size} refused"
puts "the first of these: #{refused.first.error.message}" if refused.any?
