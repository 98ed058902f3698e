# frozen_string_literal: true

require "timeout"
require_relative "../errors"

module Gearman
  class Worker
    # What a worker can do: a function and the block that does it.
    class Ability
      # @return [String]
      attr_reader :func_name
      # @return [Numeric, nil] seconds that a job may take
      attr_reader :timeout

      # @param func_name [String]
      # @param block [Proc, nil]
      # @param timeout [Numeric, nil] seconds that a job may take
      # @param server_timeout [Boolean] whether the servers are told of it
      # @raise [InvalidArgsError] when the time-out is no number of seconds
      # @param scheduled [Boolean] see {#scheduled?}
      def initialize(func_name, block, timeout = nil, server_timeout: false, scheduled: false)
        raise InvalidArgsError, "the time-out of #{func_name} is a number of seconds, not #{timeout.inspect}" unless
          timeout.nil? || (timeout.is_a?(Numeric) && timeout.real? && timeout >= 0 && timeout.to_f.finite?)

        @func_name = func_name
        @block = block
        @timeout = timeout
        @server_timeout = server_timeout
        @scheduled = scheduled ? true : false
        @on_complete = nil
      end

      # @return [Numeric, nil] the time-out that the servers are told of, in seconds
      def server_timeout
        @timeout if @server_timeout
      end

      # @return [Boolean] whether its jobs are scheduled ones, which have a turn before all others each second
      def scheduled?
        @scheduled
      end

      # Runs the block.
      #
      # @param data [String] the argument of the job
      # @param job [Job]
      # @return what the block returns
      # @raise [Timeout::Error] when it takes longer than {#timeout}
      def run(data, job)
        return @block&.call(data, job) unless @timeout

        Timeout.timeout(@timeout, nil, "#{@func_name} took longer than #{@timeout} seconds") do
          @block&.call(data, job)
        end
      end

      # Sets the block that is called behind the answer to a job that completed.
      #
      # @yieldparam result [String]
      # @yieldparam data [String] the argument of the job
      # @return [Proc]
      def after_complete(&block)
        @on_complete = block
      end

      # Calls the block of {#after_complete}.
      #
      # @api private
      def completed(result, data)
        @on_complete&.call(result, data)
      end
    end
  end
end
