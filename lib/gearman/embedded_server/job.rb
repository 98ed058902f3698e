# frozen_string_literal: true

module Gearman
  class EmbeddedServer
    # A job from its submission to its end.
    # @private
    class Job
      attr_reader :handle, :function, :unique, :reducer, :data, :priority, :clients
      # order: where it stands in its queue; worker: the connection that runs it, or nil
      attr_accessor :order, :worker, :timer, :background, :ignored, :retries, :numerator, :denominator

      def initialize(handle, function, unique, data, priority:, reducer:)
        @handle = handle
        @function = function
        @unique = unique
        @data = data
        @priority = priority
        @reducer = reducer
        @clients = [] # connections, each once for each submission
        @background = @ignored = false
        @retries = @numerator = @denominator = 0
      end

      # What it shares with the jobs that it coalesces with, or nil.
      def key
        Job.key(@unique, @data)
      end

      # The unique "-" stands for the data.
      def self.key(unique, data)
        return if unique.empty?
        return unique unless unique == "-"

        [:data, data] unless data.empty?
      end

      # Forwards a packet of its worker.
      def tell_clients(type, body)
        packet = Connection.frame(type, body)
        @clients.each { |client| client.write(packet) }
      end

      def tell_failure
        tell_clients(:work_fail, @handle)
      end

      # A client that did not ask for exceptions is told of a failure.
      def tell_exception(body)
        exception = Connection.frame(:work_exception, body)
        failure = Connection.frame(:work_fail, "#{@handle}\0")
        @clients.each { |client| client.write(client.exceptions ? exception : failure) }
      end
    end
  end
end
