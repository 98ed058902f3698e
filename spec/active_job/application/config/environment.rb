# frozen_string_literal: true

# The application of the conformance spec: it submits jobs in the specs' process, and gearman-worker boots it to run
# them. Everything it writes is below its root, which is a copy of this folder.

require "logger" # ActiveSupport below 7.1 uses it without
require "rails"
require "active_record/railtie"
require "action_mailer/railtie"
require "active_job/railtie"
require "active_storage/engine"
require "gearman"

class Conformance < Rails::Application
  # What happened, one JSON object a line.
  module Journal
    PATH = File.expand_path("../journal", __dir__)

    def self.write(entry)
      line = JSON.generate(entry.merge(pid: Process.pid, at: Process.clock_gettime(Process::CLOCK_REALTIME)))
      File.open(PATH, "a") { |file| file.syswrite("#{line}\n") }
    end
  end

  # Subscribes to Rails.error.
  class ErrorSubscriber
    def report(error, handled:, **)
      Journal.write(report: error.message, handled: handled)
    end
  end

  config.root = File.expand_path("..", __dir__)
  config.load_defaults Rails::VERSION::STRING.to_f
  config.eager_load = Rails.env.production?
  config.cache_classes = !Rails.env.development?
  config.logger = Logger.new(config.root.join("#{Rails.env}.log"))
  config.secret_key_base = "a" * 64
  config.active_support.deprecation = :silence
  config.i18n.available_locales = %i[en de]
  config.time_zone = "UTC"
  config.active_job.queue_adapter = :gearman
  config.action_mailer.delivery_method = :file
  config.action_mailer.file_settings = { location: config.root.join("mails").to_s }
  config.active_storage.service = :local
  config.active_storage.service_configurations = {
    "local" => { "service" => "Disk", "root" => config.root.join("storage").to_s }
  }
end

Gearman.configure do |config|
  config.on_error { |error, context| Conformance::Journal.write(hook: error.message, function: context[:function]) }
end

ActiveRecord.legacy_connection_handling = false if Rails::VERSION::STRING.start_with?("7.0")
ENV["DATABASE_URL"] ||= "sqlite3:#{File.expand_path("../database.sqlite3", __dir__)}?timeout=10000"

Rails.application.initialize!
Rails.error.subscribe(Conformance::ErrorSubscriber.new) if Rails.respond_to?(:error)
