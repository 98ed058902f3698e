# frozen_string_literal: true

require "active_job"
require "active_support/notifications"
require_relative "../../gearman"
require "gearman/active_job/adapter_class"
require "gearman/active_job/submission"

# Rails' framework for jobs.
module ActiveJob
  # What runs them.
  module QueueAdapters
    # Submits jobs to Gearman servers; gearman-worker runs them.
    #
    #   config.active_job.queue_adapter = :gearman
    #
    # A job goes to the function that has the name of its queue, one that is to run later to "<queue>.scheduled". Its
    # `provider_job_id` is the unique of its submission, which {Gearman::Client#job_status_by_unique} takes. A negative
    # priority is Gearman's high one, a positive priority its low one.
    class GearmanAdapter < Gearman::ActiveJob::ADAPTER_CLASS
      # Submits a job.
      #
      # @param job [ActiveJob::Base]
      # @return [void]
      # @raise [Gearman::NetworkError, Gearman::NoJobServersError, Gearman::SocketTimeoutError] when it is not known
      #   that a server has it
      # @raise [ActiveJob::EnqueueError] when a server refuses it, so that perform_later returns false; Rails 6.1 has no
      #   such error: there it is a {Gearman::RefusedError}
      # @raise [Gearman::InvalidArgsError] when Gearman cannot have a queue of that name
      def enqueue(job)
        submit(job, nil)
      end

      # Submits a job that is to run later: never before its time, and behind the full second that follows it.
      #
      # @param job [ActiveJob::Base]
      # @param timestamp [Numeric] in seconds since the epoch
      # @return [void]
      # @raise (see #enqueue)
      def enqueue_at(job, timestamp)
        submit(job, timestamp)
      end

      # Submits many jobs, pipelined. Each is told by successfully_enqueued and enqueue_error what became of it.
      #
      # @param jobs [Array<ActiveJob::Base>]
      # @return [Integer] how many were taken
      # @raise [Gearman::NetworkError, Gearman::NoJobServersError, Gearman::SocketTimeoutError] when it is not known of
      #   all of them whether a server has them
      # @raise [Gearman::InvalidArgsError] when Gearman cannot have a queue of that name; none is submitted then
      # @raise [StandardError] what the serialization of one of them raised; all others have been submitted
      def enqueue_all(jobs)
        submission = Gearman::ActiveJob::Submission.new
        tasks = jobs.map { |job| task_of(job, submission) }
        failure = submit_all(tasks.grep(Gearman::BackgroundTask))
        notify = notify?
        taken = 0
        jobs.each_with_index { |job, index| taken += 1 if told?(job, tasks[index], failure, notify) }
        failure ||= tasks.map { |task| error_of(task) }.find { |error| error && !refused?(error) } if taken < jobs.size
        failure ? raise(failure) : taken
      end

      # Rails 7.2 asks whether jobs are to wait for the end of the transaction in which they are enqueued.
      #
      # @return [true] a job server knows nothing of transactions
      def enqueue_after_transaction_commit?
        true
      end

      # Rails 8.1 asks at the checkpoints of a job.
      #
      # @param _job [ActiveJob::Base]
      # @return [Boolean] whether this process has been told to stop
      def stopping?(_job = nil)
        Gearman::Runner.stopping?
      end

      private

      def submit(job, timestamp)
        task = Gearman::ActiveJob::Submission.new.task(job, timestamp)
        begin
          Gearman.client.submit_background(task)
        rescue Gearman::RefusedError => e
          raise enqueue_error(e)
        end
        job.provider_job_id = task.get_uniq_hash
        notify(job, task) if notify?
      end

      # Returns what serialization raised in place of the task of a job that cannot be serialized.
      def task_of(job, submission)
        submission.task(job, job.scheduled_at&.to_f)
      rescue Gearman::InvalidArgsError
        raise
      rescue StandardError => e
        e
      end

      # Returns what kept it from finding out about all tasks.
      def submit_all(tasks)
        Gearman.client.submit_all(tasks)
        nil
      rescue Gearman::NetworkError => e
        e
      end

      # Tells a job what became of it. Returns whether it was taken.
      def told?(job, task, failure, notify)
        if task.is_a?(Gearman::Task) && task.handle
          job.provider_job_id = task.get_uniq_hash
          job.enqueue_error = nil
          job.successfully_enqueued = true
          notify(job, task) if notify
        else
          job.enqueue_error = enqueue_error(error_of(task) || failure)
          job.successfully_enqueued = false
        end
        job.successfully_enqueued?
      end

      def error_of(task)
        task.is_a?(Gearman::Task) ? task.error : task
      end

      def notify?
        ActiveSupport::Notifications.notifier.listening?("enqueue.gearman")
      end

      def notify(job, task)
        ActiveSupport::Notifications.instrument("enqueue.gearman", job: job, function: task.func, handle: task.handle,
                                                                   unique: task.get_uniq_hash)
      end

      # perform_later rescues no other error.
      def enqueue_error(error)
        refused?(error) && defined?(ActiveJob::EnqueueError) ? ActiveJob::EnqueueError.new(error.message) : error
      end

      def refused?(error)
        error.is_a?(Gearman::RefusedError)
      end
    end
  end
end
