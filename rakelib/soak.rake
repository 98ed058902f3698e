# frozen_string_literal: true

desc "Runs JOBS (5000000) small jobs, or as many as MINUTES (60) take, through a worker whose memory must stay flat"
task soak: :compile do
  require_relative "soak/soak"
  jobs, minutes = [%w[JOBS 5000000], %w[MINUTES 60]].map { |name, default| Integer(ENV.fetch(name, default)) }
  abort "soak: JOBS is at least 100000 and MINUTES at least 1" unless jobs >= 100_000 && minutes >= 1
  abort "soak: the memory has grown" unless Soak.new.flat?(jobs, minutes * 60)
end

namespace :soak do
  desc "Measures the CPU time of a worker that waits: a minute idle, a minute with all servers down"
  task idle: :compile do
    require_relative "soak/soak"
    abort "soak:idle: too much" unless Soak.new.idle?(Integer(ENV.fetch("SECONDS", "60")))
  end
end
