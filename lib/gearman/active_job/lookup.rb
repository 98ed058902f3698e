# frozen_string_literal: true

# Loaded when somebody asks for a constant GearmanAdapter. Without ActiveJob it is none of ours.
if defined?(ActiveJob::QueueAdapters)
  require "active_job/queue_adapters/gearman_adapter"
  # What ActiveJob finds for `queue_adapter = :gearman` when it has been loaded behind this library.
  #
  # @api private
  GearmanAdapter = ActiveJob::QueueAdapters::GearmanAdapter
end
