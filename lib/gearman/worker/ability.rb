# frozen_string_literal: true

module Gearman
  class Worker
    # What a worker can do: a function and the block that does it.
    class Ability
      # @return [String]
      attr_reader :func_name
      # @return [Numeric, nil] as given to {Worker#add_ability}
      attr_reader :timeout

      # @param func_name [String]
      # @param block [Proc, nil]
      # @param timeout [Numeric, nil]
      def initialize(func_name, block, timeout = nil)
        @func_name = func_name
        @block = block
        @timeout = timeout
        @on_complete = nil
      end

      # Runs the block.
      #
      # @param data [String] the argument of the job
      # @param job [Job]
      # @return what the block returns
      def run(data, job)
        @block&.call(data, job)
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
