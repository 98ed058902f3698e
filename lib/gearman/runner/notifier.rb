# frozen_string_literal: true

module Gearman
  module Runner
    # Tells systemd how it goes, if the gem sd_notify is in the bundle.
    #
    # @api private
    class Notifier
      include Clock

      def initialize
        @alive_at = 0.0
        require "sd_notify"
        @loaded = true
      rescue LoadError
        @loaded = false
      end

      # @return [void]
      def ready
        SdNotify.ready if @loaded
      end

      # @return [void]
      def stopping
        SdNotify.stopping if @loaded
      end

      # To be called while all is well, every second or more often.
      #
      # @return [void]
      def alive
        return unless @loaded && SdNotify.watchdog? && now - @alive_at >= 1

        @alive_at = now
        SdNotify.watchdog
      end
    end
  end
end
