# frozen_string_literal: true

# Fails once, and then no more.
class FailingJob < ApplicationJob
  def perform(message)
    cured = Rails.root.join("cured").exist?
    journal(cured: cured)
    raise ArgumentError, message unless cured
  end
end
