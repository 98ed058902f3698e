# frozen_string_literal: true

# Fails whenever it is tried.
class ExhaustedJob < ApplicationJob
  class Exhausted < StandardError; end

  retry_on Exhausted, wait: 0, attempts: 2

  def perform(message)
    journal
    raise Exhausted, message
  end
end
