# frozen_string_literal: true

require "active_job"
require "active_support/notifications"
require "json"
require "gearman/active_job/dead_letter"
require "gearman/active_job/queue"

module Gearman
  module ActiveJob
    # Runs the jobs of one queue. ActiveJob itself wraps each in Rails' reloader and executor, and reports its error.
    #
    # @api private
    class Execution
      # Seconds between two runs of a job that failed and whose dead letter no server takes.
      PAUSE = 1
      private_constant :PAUSE

      class << self
        # @param queue [#to_s]
        # @return [Array<String>] the functions of the queue, the one that is to be served first at the end: a server
        #   serves first what was registered last
        # @raise [InvalidArgsError] when no queue can have this name
        def functions(queue)
          [Queue.scheduled(queue), Queue.function(queue)]
        end

        # Makes a worker run the jobs of a queue. Servers hear of it when it works.
        #
        # @param worker [Worker]
        # @param queue [#to_s]
        # @return [void]
        # @raise [InvalidArgsError] when no queue can have this name
        def add_to(worker, queue)
          functions(queue).each { |function| add_function(worker, function, queue) }
        end

        # Makes a worker run the jobs of one of the functions of a queue.
        #
        # @param worker [Worker]
        # @param function [String] one of {.functions}
        # @param queue [#to_s]
        # @return [void]
        def add_function(worker, function, queue)
          execution = new(queue, function)
          # Whatever fails a job, a block of around_job, too.
          name = Worker.function_name(function)
          worker.on_error { |error, job| execution.bury(error, job) if job.func_name == name }
          worker.add_ability(function, scheduled: function.end_with?(Queue::SCHEDULED), announce: false) do |data, job|
            execution.call(data, job)
          end
        end
      end

      # @param queue [#to_s]
      # @param function [String] one of {.functions}
      def initialize(queue, function)
        @queue = Queue.function(queue)
        @function = function
      end

      # Runs a job.
      #
      # @param data [String] what the adapter made of it
      # @param job [Worker::Job]
      # @return [String] empty: whatever a job returns, it has not failed
      # @raise [Exception] what the job raised and retry_on did not take
      def call(data, job)
        payload = JSON.parse(data)
        payload["provider_job_id"] = job.unique
        if ActiveSupport::Notifications.notifier.listening?("perform_job.gearman")
          ActiveSupport::Notifications.instrument("perform_job.gearman", job: payload, function: @function,
                                                                         handle: job.handle, unique: job.unique) do
            ::ActiveJob::Base.execute(payload)
          end
        else
          ::ActiveJob::Base.execute(payload)
        end
        ""
      end

      # Keeps a job that has failed for good, or has it run again. It is answered when this returns, unless its
      # connection is closed by then.
      #
      # @param error [Exception] what failed it
      # @param job [Worker::Job]
      # @return [void]
      def bury(error, job)
        return unless Gearman.configuration.dead_letters

        Gearman.client.submit_background(DeadLetter.of(job.data, job, error, queue: @queue, function: @function).task)
      rescue StandardError => e
        Gearman.logger.error do
          "#{@function} #{job.handle} will run again: no server takes its dead letter: " \
            "#{Logging.printable(e.message)}"
        end
        sleep PAUSE
        job.redeliver
      end
    end
  end
end
