# frozen_string_literal: true

require_relative "../gearman"
require "rails/railtie"
require "gearman/log_subscriber"

module Gearman
  # What Rails does with this library when it boots; nothing connects then.
  #
  # Settings come from `config.gearman`, from `Gearman.configure` in an initializer, from config/gearman.yml and from
  # the environment; each goes before those named before it. See {Configuration} for what there is to set.
  #
  # @api private
  class Railtie < ::Rails::Railtie
    # @return [Boolean] whether the application has been initialized
    def self.initialized?
      @initialized || false
    end

    config.gearman = ActiveSupport::OrderedOptions.new
    config.after_initialize do
      LogSubscriber.attach_to :gearman
      LogSubscriber::Jobs.attach_to :gearman if ::Rails.logger&.debug?
      @initialized = true
    end

    initializer "gearman.logger", after: :initialize_logger do
      Gearman.default_logger = ::Rails.logger
    end

    initializer "gearman.config", before: :load_config_initializers do |app|
      Gearman.logger = app.config.gearman.logger if app.config.gearman.logger
      Gearman.configuration.update(app.config.gearman.except(:logger))
    end

    initializer "gearman.file", after: :load_config_initializers do |app|
      path = app.root.join(ConfigurationFile::DEFAULT).to_s
      Gearman.configuration.update(ConfigurationFile.read(path, ::Rails.env.to_s)) if File.exist?(path)
      Gearman.configuration.update_from_environment(ENV)
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
