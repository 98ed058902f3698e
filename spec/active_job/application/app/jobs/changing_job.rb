# frozen_string_literal: true

# The spec changes this file.
class ChangingJob < ApplicationJob
  VERSION = 1

  def perform
    journal(version: VERSION)
  end
end
