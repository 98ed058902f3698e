# frozen_string_literal: true

class ApplicationJob < ActiveJob::Base
  private

  def journal(**entry)
    Conformance::Journal.write(job: self.class.name, id: job_id, executions: executions, **entry)
  end
end
