# frozen_string_literal: true

require_relative "../gearman"
require "monitor"
require "gearman/testing/submission"
require "gearman/testing/runner"
require "gearman/testing/interception"

module Gearman
  # Tests without a job server: nothing is sent, and background tasks are kept.
  #
  #   Gearman.testing!(:fake)
  #   Gearman.client.do_task(Gearman::BackgroundTask.new("resize", "cat.png"))
  #   Gearman::Testing.submitted("resize").map(&:data) # => ["cat.png"]
  #   Gearman::Testing.drain                           # runs it
  #
  # Functions are those of each {Worker} that the process has built since, those of `Gearman.worker { … }`, and those
  # that {.stub} adds. A task that somebody waits for is run at once in every mode but :disabled.
  module Testing
    # What {Gearman.testing!} takes.
    MODES = %i[fake inline disabled].freeze
    # Where a thread keeps the mode of the block that it is in.
    MODE = :gearman_testing_mode
    # A worker of {.stub}.
    class Stub < Worker
    end
    private_constant :MODE, :Stub

    autoload :HaveSubmitted, "gearman/testing/have_submitted"

    @mode = :disabled
    @lock = Monitor.new
    @submissions = []
    @workers = {}
    @stubs = {}

    class << self
      # @return [Symbol] :fake, :inline or :disabled
      def mode
        Thread.current.thread_variable_get(MODE) || @mode
      end

      # @return [Boolean] whether nothing is sent
      def active?
        mode != :disabled
      end

      # What has been submitted since the last {.clear}, in its order.
      #
      # @param func [#to_s, nil] of this function alone
      # @return [Array<Submission>]
      def submitted(func = nil)
        @lock.synchronize { @submissions.select { |submission| func.nil? || submission.func == func.to_s } }
      end

      # Runs what is queued, scheduled tasks too, and what is submitted by that. Equal tasks, which have the same
      # unique, are one job, as for a job server.
      #
      # @param func [#to_s, nil] of this function alone
      # @return [Integer] how many jobs were run
      # @raise [StandardError] what a job raises; those behind it stay queued
      # @raise [Error] when nothing can do a job
      def drain(func = nil)
        count = 0
        while (submission = take(func))
          Runner.run(submission, &method(:raise))
          count += 1
        end
        count
      end

      # Forgets what has been submitted, and the functions of {.stub}.
      #
      # @return [void]
      def clear
        @lock.synchronize do
          @submissions.clear
          @stubs.clear
        end
      end

      # Adds a function, in the place of one that a worker may have, until the next {.clear}.
      #
      # @param func [#to_s]
      # @yieldparam data [String]
      # @yieldparam job [Worker::Job]
      # @yieldreturn [#to_s, nil, false] the result; nil and false fail the job
      # @return [void]
      def stub(func, &block)
        raise InvalidArgsError, "stub of #{func.to_s.inspect} needs a block" unless block

        Stub.new("localhost").add_ability(func, &block)
        nil
      end

      # Sets the mode, see {Gearman.testing!}.
      #
      # @api private
      def switch(mode)
        unless MODES.include?(mode)
          raise InvalidArgsError, "testing! takes #{MODES.map(&:inspect).join(", ")}, not #{mode.inspect}"
        end

        Interception.install unless mode == :disabled
        return @mode = mode unless block_given?

        outer = Thread.current.thread_variable_get(MODE)
        begin
          Thread.current.thread_variable_set(MODE, mode)
          yield
        ensure
          Thread.current.thread_variable_set(MODE, outer)
        end
      end

      # Takes a background task in the place of a job server. Returns the handle.
      #
      # @api private
      def accept(task)
        submission = record(task)
        task.handle_created(submission.handle)
        Runner.run(submission, &method(:raise)) if mode == :inline && submission.take
        submission.handle
      end

      # Runs a task that somebody waits for. Returns its result.
      #
      # @api private
      def call(task)
        submission = record(task)
        submission.take
        task.handle_created(submission.handle)
        loop do
          state = nil
          Runner.run(submission) { nil }
          submission.reports.each { |event, *details| state = task.receive(event, details[0], details[1]) }
          return submission.result unless state == :retry
        end
      end

      # Remembers who can do a function.
      #
      # @api private
      def register(func, worker)
        @lock.synchronize { (worker.is_a?(Stub) ? @stubs : @workers)[func.to_s] = worker }
      end

      # The worker that can do a function.
      #
      # @api private
      def worker_for(func)
        found = @lock.synchronize { @stubs[func] || @workers[func] } and return found

        defined_worker(func) || raise(Error, <<~TEXT.tr("\n", " ").strip)
          nothing can do the function #{func.inspect} in this test: load the code that adds it to a Gearman::Worker,
          or add it by Gearman::Testing.stub(#{func.inspect}) { |data, job| … }
        TEXT
      end

      # Whether the job with this handle or unique is queued.
      #
      # @api private
      def queued?(key)
        @lock.synchronize { @submissions.any? { |submission| submission.queued? && submission.known_as?(key) } }
      end

      private

      def record(task)
        Submission.check(task)
        @lock.synchronize do
          twin = task.background? ? @submissions.find { |other| other.queued? && other.same_job?(task) } : nil
          submission = Submission.new(task, twin)
          @submissions << submission
          submission
        end
      end

      def take(func)
        @lock.synchronize { submitted(func).find(&:take) }
      end

      # A worker with a function of Gearman.worker { … }, registered for the next time.
      def defined_worker(func)
        definitions = Gearman.definitions
        return unless definitions.names.include?(func)

        worker = Worker.new("localhost")
        definitions.prepare(worker)
        definitions.add_to(worker, func)
        worker
      end
    end
  end
end
