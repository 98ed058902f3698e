# frozen_string_literal: true

# Fails, and is discarded.
class DiscardedJob < ApplicationJob
  class Unwanted < StandardError; end

  discard_on Unwanted

  def perform(message)
    journal
    raise Unwanted, message
  end
end
