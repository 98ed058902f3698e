# frozen_string_literal: true

require "active_support/log_subscriber"

module Gearman
  # Logs what ActiveSupport::Notifications says of workers. That a connection was lost the worker has logged itself.
  #
  # @api private
  class LogSubscriber < ActiveSupport::LogSubscriber
    # @param event [ActiveSupport::Notifications::Event]
    def shutdown(event)
      payload = event.payload
      info do
        "Gearman worker stopped in #{(event.duration / 1000).round(1)} s, " \
          "#{payload[:finished] ? "with all jobs finished" : "with jobs that will be run again"}"
      end
    end

    # Logs what ActiveJob logs, too, with the names that Gearman has for it: for those who debug. It is attached where
    # that is logged when Rails boots, as being listened to costs each job some microseconds.
    class Jobs < ActiveSupport::LogSubscriber
      # @param event [ActiveSupport::Notifications::Event]
      def enqueue(event)
        debug { "Gearman has #{event.payload[:unique]} in #{event.payload[:function]} (#{event.payload[:handle]})" }
      end

      # @param event [ActiveSupport::Notifications::Event]
      def perform_job(event)
        debug do
          unique, *error = [event.payload[:unique], *event.payload[:exception]].map { |text| Logging.printable(text) }
          "Gearman job #{unique} of #{event.payload[:function]} took #{event.duration.round(1)} ms" \
            "#{" and raised #{error.join(": ")}" if error.any?}"
        end
      end
    end
  end
end
