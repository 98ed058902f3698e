# frozen_string_literal: true

# Enqueues jobs and prints what it took:
#
#   ruby client.rb CONTESTANT ROLE PORT QUEUE WARMUP JOBS
#
# ROLE is enqueue or enqueue-bulk (ActiveJobs), push or push-bulk (jobs of the library itself), or version. PROFILE in
# the environment names a file for stackprof.

require_relative "contestants"

BATCH = 1000 # jobs of a bulk: what Sidekiq sends at once
name, role, port, queue, warmup, jobs = ARGV
contestant = Contestants::BY_NAME.fetch(name)
if role == "version"
  contestant.load_library
  puts contestant.version
  exit
end
contestant.set_up(port, queue)

# Payloads of 64 bytes, each another one.
def text(number) = number.to_s.rjust(64, "0")

enqueue = case role
          when "enqueue"
            job = EmptyJob.set(queue: queue)
            ->(from, to) { (from...to).each { |number| job.perform_later(number, "text") } }
          when "enqueue-bulk"
            lambda do |from, to|
              (from...to).step(BATCH) do |first|
                numbers = (first...[first + BATCH, to].min)
                ActiveJob.perform_all_later(numbers.map { |number| EmptyJob.new(number, "text").set(queue: queue) })
              end
            end
          when "push"
            ->(from, to) { (from...to).each { |number| contestant.push(text(number)) } }
          when "push-bulk"
            lambda do |from, to|
              (from...to).step(BATCH) do |first|
                contestant.push_bulk((first...[first + BATCH, to].min).map { |number| text(number) })
              end
            end
          else abort "there is no role #{role}"
          end

warmup = Integer(warmup)
jobs = Integer(jobs)
enqueue.call(0, warmup)
4.times { GC.start }
measured = lambda do
  Measure.begin
  enqueue.call(warmup, warmup + jobs)
end
if ENV["PROFILE"]
  require "stackprof"
  StackProf.run(mode: :cpu, interval: 200, raw: true, out: ENV["PROFILE"]) { measured.call }
else
  measured.call
end
puts Measure.result(jobs)
