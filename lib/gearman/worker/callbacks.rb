# frozen_string_literal: true

module Gearman
  class Worker
    # Blocks that are called, without arguments, when something happens in a worker. What they raise is logged.
    #
    #   worker.on_job_assign { StatsD.increment("jobs") }
    module Callbacks
      # @!macro [new] event
      #   @!method on_$1(&block)
      #     Sets the block for this event.
      #     @return [Proc]
      #   @!method run_$1_callback
      #     Calls the block of this event.
      #     @return [void]
      # @!visibility private
      def self.define(event)
        class_eval <<~RUBY, __FILE__, __LINE__ + 1
          # def on_connect(&block)
          #   @__on_connect = block
          #   wake
          #   block
          # end
          def on_#{event}(&block)
            @__on_#{event} = block
            wake
            block
          end

          # def run_connect_callback
          #   @__on_connect&.call
          # rescue StandardError => e
          #   logger.error("the callback on_connect failed: \#{Logging.printable(e.inspect)}")
          # end
          def run_#{event}_callback
            @__on_#{event}&.call
          rescue StandardError => e
            logger.error("the callback on_#{event} failed: \#{Logging.printable(e.inspect)}")
          end
        RUBY
      end

      # A connection was opened and the worker registered on it.
      # @macro event
      define("connect")
      # A server is asked for a job.
      # @macro event
      define("grab_job")
      # A server has none.
      # @macro event
      define("no_job")
      # A job came.
      # @macro event
      define("job_assign")
      # A result is about to be sent.
      # @macro event
      define("work_complete")
      # A failure is about to be sent.
      # @macro event
      define("work_fail")
      # An exception is about to be sent.
      # @macro event
      define("work_exception")
    end
  end
end
