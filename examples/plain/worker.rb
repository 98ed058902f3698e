# frozen_string_literal: true

# Turns texts round.
#
#   ruby examples/plain/worker.rb [SERVER]

require "gearman"

$stdout.sync = true

worker = Gearman::Worker.new(ARGV.fetch(0, "localhost:4730"))
%w[INT TERM].each { |signal| trap(signal) { worker.worker_enabled = false } }

# What is not pure ASCII arrives as BINARY: only the application knows its encoding.
worker.add_ability("reverse") { |data| data.force_encoding(Encoding::UTF_8).reverse }

worker.work
