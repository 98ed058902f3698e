# frozen_string_literal: true

require "active_support/lazy_load_hooks"

if defined?(Rails::Railtie)
  require "gearman/railtie"
else
  ActiveSupport.on_load(:before_configuration) { require "gearman/railtie" }
end
