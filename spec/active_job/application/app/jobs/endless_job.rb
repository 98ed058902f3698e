# frozen_string_literal: true

# Never ends by itself the first time that it runs.
class EndlessJob < ApplicationJob
  def perform
    marker = Rails.root.join("endless-#{job_id}")
    again = marker.exist?
    marker.write("")
    journal(again: again)
    sleep unless again
  end
end
