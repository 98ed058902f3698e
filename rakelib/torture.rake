# frozen_string_literal: true

# What takes too long for the suite, or needs the machine for itself.
namespace :torture do
  torture = ->(name) { sh "rspec", "--format", "documentation", "spec/torture/#{name}_torture.rb" }

  desc "Runs 100 000 foreground tasks in one set, and compares the CPU time of a task with that in sets of 1 000"
  task(tasks: :compile) { torture.call("tasks") }

  desc "Runs JOBS (10000) background jobs while workers are killed each second and gearmand is restarted 5 times"
  task jobs: :compile do
    require_relative "torture/jobs"
    jobs = Integer(ENV.fetch("JOBS", "10000"))
    abort "JOBS is a number from 100 to 1000000" unless jobs.between?(100, 1_000_000)
    abort "torture:jobs: failed" unless Torture::Jobs.new(jobs: jobs, seed: ENV["SEED"]&.to_i).run
  end
end
