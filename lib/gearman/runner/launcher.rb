# frozen_string_literal: true

require "gearman/runner"
require "gearman/runner/job_log"
require "socket"

module Gearman
  module Runner
    # The worker of one process, with the functions that were defined and the queues of ActiveJob. It has no signal
    # handlers, so that it can be a part of any process:
    #
    #   launcher = Gearman::Runner::Launcher.new.start
    #   launcher.stop(25)
    class Launcher
      # Seconds between two looks whether the worker has ended.
      POLL = 0.1
      private_constant :POLL

      # @return [Worker, nil] nil before {#start}
      attr_reader :worker
      # @return [Array<String>] what it serves, the first before the others
      attr_reader :queues
      # @return [Exception, nil] what ended it
      attr_reader :error

      # Touches no network.
      #
      # @param configuration [Configuration]
      # @raise [InvalidArgsError] when there is nothing to serve, or nobody knows how to run a queue
      def initialize(configuration = Gearman.configuration)
        @configuration = configuration
        @queues = configuration.queues || all_queues
        raise InvalidArgsError, "there is nothing to serve: no ability is defined, and ActiveJob is not loaded" if
          @queues.empty?

        @functions = functions_of(@queues - Gearman.definitions.names)
      end

      # Starts the worker in threads of its own, unless it is at work already.
      #
      # @return [self]
      def start
        return self if running?

        Runner.stopping = false
        @error = nil
        @worker = Worker.new(@configuration.effective_servers, **options)
        add_functions # first, so that whoever hears of an error finds the job's dead letter
        prepare
        @thread = Thread.new(@worker) { |worker| work(worker) }
        self
      end

      # Takes no more jobs, and finishes those it has. The connections stay.
      #
      # @return [void]
      def quiet
        Runner.stopping = true
        @worker&.quiet
      end

      # Ends the worker.
      #
      # @param timeout [Numeric] seconds that running jobs have; then their servers hand them out again
      # @return [Boolean] whether all jobs were finished
      def stop(timeout = @configuration.shutdown_timeout)
        Runner.stopping = true
        return true unless @worker

        event = {}
        Instrumentation.instrument("shutdown", event) { event[:finished] = @worker.stop(timeout) }
        @thread&.join(POLL) if event[:finished]
        @thread = nil
        event[:finished]
      end

      # @return [Boolean] whether the worker is at work
      def running?
        @thread&.alive? || false
      end

      private

      # Whoever started it decides what is to end with it.
      def work(worker)
        worker.work
      rescue Exception => e # rubocop:disable Lint/RescueException
        @error = e
        Gearman.logger.error("the worker has ended: #{Logging.printable(e.full_message(highlight: false))}")
      end

      def options
        { concurrency: @configuration.concurrency, prefetch: @configuration.prefetch, tls: @configuration.tls || nil,
          client_id: [Socket.gethostname, Process.pid, @configuration.tag].compact.join(":") }
      end

      def active_job?
        defined?(::ActiveJob::Base) ? true : false
      end

      def all_queues
        Gearman.definitions.names | (active_job? ? default_queues : [])
      end

      # Where jobs go that name no queue, and mails: once that was "mailers", unless told otherwise.
      def default_queues
        mails = ::ActionMailer::Base.deliver_later_queue_name if defined?(::ActionMailer::Base)
        [nil, mails, "mailers"].map { |name| ::ActiveJob::Base.queue_name_from_part(name) }.uniq
      end

      def prepare
        logger = Gearman.logger
        @worker.around_job(&JobLog.new(logger)) unless logger.respond_to?(:info?) && !logger.info?
        @configuration.job_wrappers.each { |block| @worker.around_job(&block) }
        Gearman.definitions.prepare(@worker)
        @configuration.error_handlers.each do |handler|
          @worker.on_error { |error, job| handler.call(error, context(job)) }
        end
      end

      def context(job)
        { job: job, function: job.func_name, handle: job.handle, unique: job.unique }
      end

      # gearmand 1.1 serves first what was registered last. Scheduled jobs come last: each grab costs the server more
      # the more of them there are.
      def add_functions
        @functions.to_a.reverse_each { |queue, (scheduled, _)| add_function(scheduled, queue) }
        @queues.reverse_each do |queue|
          _, function = @functions[queue]
          function ? add_function(function, queue) : Gearman.definitions.add_to(@worker, queue)
        end
      end

      def functions_of(queues)
        return {} if queues.empty?
        raise InvalidArgsError, "there is no ability #{queues.first.inspect}, and ActiveJob is not loaded" unless
          active_job?

        require "gearman/active_job/execution"
        queues.to_h { |queue| [queue, Gearman::ActiveJob::Execution.functions(queue)] }
      end

      def add_function(function, queue)
        Gearman::ActiveJob::Execution.add_function(@worker, function, queue)
      end
    end
  end
end
