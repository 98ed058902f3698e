# frozen_string_literal: true

require_relative "../gearman"

module Gearman
  # Runs a worker as a process (gearman-worker), or as a part of another one ({Launcher}).
  module Runner
    # Statuses that gearman-worker ends with.
    OK = 0
    # It could not start, or an error ended it.
    FAILED = 1
    # The command line, the configuration or what the code defines makes no sense (EX_USAGE).
    USAGE = 64
    # It was stopped with jobs that were not finished; the servers hand them out again (EX_TEMPFAIL).
    ABANDONED = 75

    autoload :CLI, "gearman/runner/cli"
    autoload :Launcher, "gearman/runner/launcher"

    class << self
      # @return [Boolean] whether the workers of this process were told to take no more jobs
      def stopping?
        @stopping || false
      end

      # @return [Boolean]
      # @api private
      attr_writer :stopping

      # Ends the process, whose at_exit handlers have run, if all that is left are threads that look up names: not every
      # Ruby can interrupt the C library, which waits long for name servers that do not answer.
      #
      # @param error [Exception, nil] what ends it
      # @return [void]
      # @api private
      def leave(error)
        return unless error.nil? || error.is_a?(SystemExit)
        return if (lookups = Connection.lookups).empty?

        others = Thread.list - lookups - [Thread.current]
        [*lookups, *others].each(&:kill)
        sleep 0.01 while others.any?(&:alive?)
        return if lookups.all? { |thread| thread.join(0.1) }

        [$stdout, $stderr].each(&:flush)
        exit!(error ? error.status : OK)
      end
    end
  end
end
