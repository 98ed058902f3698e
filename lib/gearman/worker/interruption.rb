# frozen_string_literal: true

module Gearman
  class Worker
    # Matches exceptions that are no error of the job in which they are raised, but interrupt it: they end the worker,
    # and the servers hand the job out again. Any other one fails the job, as it would end one worker after the other.
    #
    # @api private
    module Interruption
      # Most belong to libraries that need not be loaded.
      NAMES = %w[
        SignalException NoMemoryError Gearman::Worker::Loop::Abandoned Timeout::ExitException Async::Stop IRB::Abort
      ].freeze
      private_constant :NAMES

      # @param error [Exception]
      # @return [Boolean]
      def self.===(error)
        NAMES.any? { |name| Object.const_defined?(name) && error.is_a?(Object.const_get(name)) }
      end
    end
  end
end
