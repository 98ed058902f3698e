# frozen_string_literal: true

# Writes down what it finds.
class RecordJob < ApplicationJob
  def perform(*arguments)
    journal(arguments: arguments.map(&:to_s), locale: I18n.locale, zone: Time.zone.name,
            provider_job_id: provider_job_id, executor: Rails.application.executor.active?)
    nil
  end
end
