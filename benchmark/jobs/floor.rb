# frozen_string_literal: true

# Runs empty ActiveJobs that came from nowhere, in one thread: ruby floor.rb WARMUP JOBS

require "json"
require_relative "contestants"

Contestants::Floor.set_up(nil, nil)
warmup, jobs = ARGV.map { |count| Integer(count) }
Measure.plan(warmup + jobs + 1, 0, nil) # the jobs count, and nothing else
payload = JSON.generate(EmptyJob.new(1, "text").serialize)
warmup.times { ActiveJob::Base.execute(JSON.parse(payload)) }
4.times { GC.start }
Measure.begin
jobs.times { ActiveJob::Base.execute(JSON.parse(payload)) }
puts Measure.result(jobs)
