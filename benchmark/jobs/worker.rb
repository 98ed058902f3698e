# frozen_string_literal: true

# What sidekiq and gearman-worker load. CONTESTANT, PORT, QUEUE, WARMUP, JOBS and RESULT are in the environment, and
# PLAIN where the jobs are not ActiveJobs. PROFILE names a file for stackprof.

require_relative "contestants"

contestant = Contestants::BY_NAME.fetch(ENV.fetch("CONTESTANT"))
queue = ENV.fetch("QUEUE")
contestant.set_up(ENV.fetch("PORT"), queue)
contestant.define(queue) if ENV["PLAIN"] && contestant.respond_to?(:define)
Measure.plan(Integer(ENV.fetch("WARMUP")), Integer(ENV.fetch("JOBS")), ENV.fetch("RESULT"))

if ENV["PROFILE"]
  require "stackprof"
  StackProf.start(mode: :cpu, interval: 200, raw: true)
  at_exit do
    StackProf.stop
    StackProf.results(ENV["PROFILE"])
  end
end
