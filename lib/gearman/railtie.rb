# frozen_string_literal: true

require_relative "../gearman"
require "rails/railtie"
require "gearman/log_subscriber"

module Gearman
  # What Rails does with this library when it boots; nothing connects then.
  #
  # `config.gearman` is {Gearman.configuration}. What the application sets and then its initializers stands until
  # config/gearman.yml says something else, and behind that the environment.
  #
  # @api private
  class Railtie < ::Rails::Railtie
    # @return [Boolean] whether the application has been initialized
    def self.initialized?
      @initialized || false
    end

    config.gearman = Gearman.configuration
    config.after_initialize do
      LogSubscriber.attach_to :gearman
      LogSubscriber::Jobs.attach_to :gearman if ::Rails.logger&.debug?
      @initialized = true
    end

    initializer "gearman.logger", after: :initialize_logger do
      Gearman.default_logger = ::Rails.logger
    end

    initializer "gearman.file", after: :load_config_initializers do |app|
      path = ConfigurationFile.find(app.root.to_s)
      Gearman.configuration.update(ConfigurationFile.read(path, ::Rails.env.to_s)) if path
      Gearman.configuration.update_from_environment(ENV)
      Gearman.forget_client # an initializer may have used one that knows less
    end

    # ActiveJob does this for its own jobs.
    initializer "gearman.executor" do |app|
      Gearman.definitions.executor = app.reloader.method(:wrap)
    end

    rake_tasks do
      load "gearman/tasks.rb"
    end
  end
end
