# frozen_string_literal: true

module Gearman
  class Worker
    # A job in the hands of its worker. Reports go out at once, from any thread; when the server is lost they
    # raise {NetworkError}, and none goes out on a newer connection.
    class Job
      # @return [String] what the server calls it
      attr_reader :handle
      # @return [String, nil] the unique that it was submitted with
      attr_reader :unique

      # @param connection [Connection, #send_update] where it came from
      # @param handle [String]
      # @param unique [String, nil]
      def initialize(connection, handle, unique = nil)
        @connection = connection
        @handle = handle
        @unique = unique
        @channel = connection.is_a?(Connection) ? connection.channel : connection
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

      # Answers the job.
      #
      # @api private
      def answer(type, *parts)
        report(type, *parts)
      end

      private

      def report(type, *parts)
        @channel.send_update(Packet.encode(type, @handle, *parts))
        self
      end
    end
  end
end
