# frozen_string_literal: true

require "json"
require "securerandom"
require "gearman/active_job/queue"

module Gearman
  module ActiveJob
    # Makes tasks of jobs, of one or of many that go out together: what is the same for all is found out once.
    #
    # @api private
    class Submission
      # Bytes of a unique, at most.
      MAX_UNIQUE = 63
      private_constant :MAX_UNIQUE

      # @param number [Numeric, nil] the priority of an ActiveJob
      # @return [Symbol, nil] that of its task
      def self.priority_of(number)
        return if number.nil? || number.zero?

        number.negative? ? :high : :low
      end

      def initialize
        @chooser = Gearman.configuration.priority
        @functions = {}
        # Nobody begins to submit the same job twice in a nanosecond.
        @moment = Process.clock_gettime(Process::CLOCK_REALTIME, :nanosecond).to_s(36)
        @tasks = 0
      end

      # @param job [ActiveJob::Base]
      # @param timestamp [Numeric, nil] when it is to run, in seconds since the epoch
      # @return [BackgroundTask]
      # @raise [InvalidArgsError] when no queue can have the name of the job's queue
      # @raise [StandardError] when the job cannot be serialized
      def task(job, timestamp)
        function = @functions[job.queue_name] ||= Queue.function(job.queue_name)
        # The servers' clock goes on where a test has stopped this process's.
        if timestamp && timestamp > Process.clock_gettime(Process::CLOCK_REALTIME)
          function = Queue.scheduled(function)
          options = { hash: unique_of(job), schedule_at: timestamp.ceil }
        elsif (priority = @chooser ? @chooser.call(job) : Submission.priority_of(job.priority))
          options = { hash: unique_of(job), priority: priority }
        else
          options = { hash: unique_of(job) }
        end
        BackgroundTask.new(function, serialized(job), options)
      end

      private

      # What {Execution} makes the job of.
      def serialized(job)
        content = job.serialize
        state = @state || JSON::State.new
        @state = nil # where it raises, it is of no use any more
        json = state.generate(content)
        @state = state
        json
      end

      # Each task has its own. A retry is submitted while the job still runs: with the same unique, a server would take
      # both for one job.
      def unique_of(job)
        unique = "#{job.job_id}:#{job.executions}:#{@moment}.#{@tasks += 1}"
        unique.bytesize > MAX_UNIQUE ? SecureRandom.uuid : unique
      end
    end
  end
end
