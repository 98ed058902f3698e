# frozen_string_literal: true

# Sends a result in parts, and warnings.
#
#   ruby examples/data/worker.rb [SERVER]

require "gearman"

$stdout.sync = true

worker = Gearman::Worker.new(ARGV.fetch(0, "localhost:4730"))
%w[INT TERM].each { |signal| trap(signal) { worker.worker_enabled = false } }

worker.add_ability("lines") do |data, job|
  data.each_line(chomp: true) do |line|
    line.empty? ? job.report_warning("an empty line") : job.send_data(line)
  end
  "" # not nil: the job has completed
end

worker.work
