# frozen_string_literal: true

require "active_support/lazy_load_hooks"

ActiveSupport.on_load(:active_job) { require "active_job/queue_adapters/gearman_adapter" }
