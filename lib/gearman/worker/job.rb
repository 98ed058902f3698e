# frozen_string_literal: true

require_relative "../packet"

module Gearman
  class Worker
    # A job in the hands of its worker. Reports go out at once, from any thread; when the server is lost they
    # raise {NetworkError}, and none goes out on a newer connection.
    class Job
      # @!attribute [r] handle
      #   @return [String] what the server calls it
      # @!attribute [r] unique
      #   @return [String, nil] the unique that it was submitted with
      # @!attribute [r] func_name
      #   @return [String] the name of its function
      # @!attribute [r] data
      #   @return [String] its argument

      # @param connection [Connection, #send_update] where it came from
      # @param handle [String]
      # @param unique [String, nil]
      # @param func_name [String, nil]
      # @param data [String, nil]
      # @param worker [Worker, nil]
      def initialize(connection, handle, unique = nil, func_name: nil, data: nil, worker: nil)
        channel = connection.is_a?(Connection) ? connection.channel : connection
        fill(channel, worker, func_name, data, handle, unique)
      end

      # @return [Boolean] whether the worker was told to stop: a long job may want to end early
      def stopping?
        worker ? worker.stopping? : false
      end

      # Reports how far the job is.
      #
      # @param numerator [#to_s]
      # @param denominator [#to_s]
      # @return [self]
      # @raise [NetworkError] when the server is lost
      def report_status(numerator, denominator)
        report(:work_status, numerator.to_s, denominator.to_s)
      end

      # Sends a part of the result.
      #
      # @param data [#to_s]
      # @return [self]
      # @raise (see #report_status)
      def send_data(data)
        report(:work_data, data.to_s)
      end

      # Sends a warning.
      #
      # @param warning [#to_s]
      # @return [self]
      # @raise (see #report_status)
      def report_warning(warning)
        report(:work_warning, warning.to_s)
      end

      # Gives the job back: its connection is closed without an answer, so the server hands it out again, and with it
      # the others that were fetched ahead.
      #
      # @return [void]
      def redeliver
        channel.close
      end

      # Answers the job.
      #
      # @api private
      def answer(type, *parts)
        report(type, *parts)
      end

      # @return [String]
      def inspect
        "#<#{self.class.name} #{func_name} #{handle}>"
      end

      private

      def report(type, *parts)
        channel.send_update(Packet.encode(type, handle, *parts))
        self
      end
    end
  end
end
