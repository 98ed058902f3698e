# frozen_string_literal: true

module Gearman
  module Testing
    # A task that was submitted in a test.
    class Submission
      # @return [Task]
      attr_reader :task
      # @return [String] the function
      attr_reader :func
      # @return [String] the argument
      attr_reader :data
      # @return [String] the unique
      attr_reader :unique
      # @return [Symbol, nil] :high or :low
      attr_reader :priority
      # @return [Time, nil] when it is to run
      attr_reader :run_at
      # @return [String] made up; that of the first task where several are one job
      attr_reader :handle
      # @return [Symbol] :queued, :running, :completed, :failed, or :coalesced: it is one job with a task that was
      #   queued already
      attr_reader :state
      # @return [String, nil] what the job answered
      attr_reader :result
      # @return [Array<Array>] what the job reported, each as the name of a packet and what came with it
      # @api private
      attr_reader :reports

      # Bytes of a unique, at most.
      MAX_UNIQUE_SIZE = 63
      private_constant :MAX_UNIQUE_SIZE

      @count = 0
      class << self
        # @return [Integer] how many handles have been made up
        # @api private
        attr_accessor :count

        # Raises what the client would raise when it cannot send the task.
        #
        # @param task [Task]
        # @return [void]
        # @raise [InvalidArgsError]
        # @api private
        def check(task)
          raise InvalidArgsError, "the function name is empty" if task.func.empty?

          size = task.get_uniq_hash.bytesize
          task.get_submit_packet
          return if size <= MAX_UNIQUE_SIZE

          raise InvalidArgsError, "a unique of #{size} bytes is longer than the server's limit of #{MAX_UNIQUE_SIZE}"
        end
      end

      # @param task [Task]
      # @param twin [Submission, nil] that of a queued task with the same unique
      # @api private
      def initialize(task, twin)
        @task = task
        @func = task.func
        @data = task.payload.dup.freeze
        @unique = task.get_uniq_hash
        @priority = task.priority
        @background = task.background?
        @run_at = task.run_at && Time.at(task.run_at)
        @state = twin ? :coalesced : :queued
        @handle = twin ? twin.handle : "H:testing:#{Submission.count += 1}"
        @reports = []
      end

      # @return [Boolean] whether nobody waits for the result
      def background?
        @background
      end

      # @return [Boolean] whether {Testing.drain} would run it
      def queued?
        @state == :queued
      end

      # @return [String] the function and its argument, in a form for messages
      def to_s
        details = [data.inspect]
        details << "#{priority} priority" if priority
        details << "at #{run_at}" if run_at
        "#{func}(#{details.join(", ")})"
      end

      # Whether a server would take the task for the same job.
      #
      # @api private
      def same_job?(task)
        func == task.func && unique == task.get_uniq_hash
      end

      # Whether this is its handle or its unique.
      #
      # @api private
      def known_as?(key)
        handle == key || unique == key
      end

      # Whether it was queued, and is not now.
      #
      # @api private
      def take
        return false unless queued?

        @state = :running
        true
      end

      # Keeps what the job reported.
      #
      # @api private
      def ended(reports)
        @reports = reports
        last, @result = reports.last
        @state = last == :work_complete ? :completed : :failed
        @result = nil unless @state == :completed
      end
    end
  end
end
