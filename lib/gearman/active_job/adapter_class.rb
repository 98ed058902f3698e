# frozen_string_literal: true

require "active_job"

module Gearman
  module ActiveJob
    # The class that an adapter descends from: Rails 7.2 is the first to have one.
    #
    # @return [Class]
    # @api private
    ADAPTER_CLASS =
      if ::ActiveJob::QueueAdapters.const_defined?(:AbstractAdapter, false)
        ::ActiveJob::QueueAdapters::AbstractAdapter
      else
        Object
      end
  end
end
