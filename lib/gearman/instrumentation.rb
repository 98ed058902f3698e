# frozen_string_literal: true

module Gearman
  # Tells ActiveSupport::Notifications of events, where it is loaded.
  #
  # @api private
  module Instrumentation
    # @param event [String] the name without ".gearman"
    # @param payload [Hash{Symbol => Object}]
    # @return [Object] what the block returns
    def self.instrument(event, payload = {}, &block)
      return ActiveSupport::Notifications.instrument("#{event}.gearman", payload, &block) if
        defined?(ActiveSupport::Notifications)

      yield if block
    end
  end
end
