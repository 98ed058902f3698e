# frozen_string_literal: true

module Gearman
  module Runner
    # Logs one line a job, for {Worker#around_job}.
    #
    # @api private
    class JobLog
      include Clock

      # What is said of a job. Formatters that know it log its fields, others its text.
      Line = Struct.new(:outcome, :queue, :handle, :unique, :elapsed) do
        # @return [String]
        def to_s
          "#{queue} #{handle} #{outcome} in #{format("%.3f", elapsed)} s#{" (#{unique})" unless unique.to_s.empty?}"
        end
        alias_method :inspect, :to_s
      end

      # @param logger [#info]
      def initialize(logger)
        @logger = logger
      end

      # @param job [Worker::Job]
      # @param run [#call]
      # @return [void]
      def call(job, run)
        start = now
        outcome = "abandoned"
        begin
          outcome = run.call ? "done" : "failed"
        rescue StandardError, ScriptError, SystemStackError, SystemExit
          outcome = "failed"
          raise
        end
      ensure
        names = [job.func_name, job.handle, job.unique].map { |name| printable(name) }
        @logger.info(Line.new(outcome, *names, now - start))
      end

      # @return [Proc]
      def to_proc
        method(:call).to_proc
      end

      private

      # Others choose these, and may have put anything in them.
      def printable(text)
        return text if text.nil? || text.match?(/\A[\x20-\x7e]*\z/n)

        Logging.printable(text).gsub(/[[:cntrl:]]/, "?")
      end
    end
  end
end
