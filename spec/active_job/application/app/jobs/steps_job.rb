# frozen_string_literal: true

# Goes from one to four, waiting at two until it is told to stop.
if Rails::VERSION::STRING >= "8.1"
  class StepsJob < ApplicationJob
    include ActiveJob::Continuable

    def perform
      step(:count, start: 1) do |step|
        step.cursor.upto(4) do |number|
          journal(number: number, resumptions: resumptions)
          sleep 0.01 until number != 2 || resumptions.positive? || queue_adapter.stopping?
          step.advance!
        end
      end
    end
  end
else
  class StepsJob < ApplicationJob; end
end
