# frozen_string_literal: true

require "timeout"

# What specs of defects call. It asks for nothing that gearman-ruby 4.0 does not have.
module DefectHelpers
  # Seconds within which something has to happen that gearman-ruby does much later or never.
  SOON = 15

  # Runs a Gearman::Worker in a thread; the block adds its abilities. Returns the worker.
  def start_worker(*servers, **options)
    worker = Gearman::Worker.new(servers.map(&:address), options)
    yield worker
    thread = Thread.new { loop { worker.work } }
    thread.report_on_exception = false
    remember(-> { thread.kill.join }, :call)
    worker
  end

  # Returns once a worker has nothing to do.
  def asleep(worker)
    eventually("a worker that sleeps") { worker.status == :waiting }
    worker
  end

  def new_client(*servers)
    Gearman::Client.new(servers.map(&:address))
  end

  # Waits for a task for `seconds`. Returns its result, nil when there is none.
  def result_of(client, task, seconds: SOON)
    result = nil
    task.on_complete { |data| result = data }
    tasks = Gearman::TaskSet.new(client)
    tasks.add_task(task)
    tasks.wait(seconds)
    result
  end

  # How many jobs of a function the servers hold.
  def jobs_of(function, *servers)
    servers.sum { |server| server.admin("status")[/^#{function}\t(\d+)/, 1].to_i }
  end

  # Lets what should be quick raise instead of hanging.
  def soon(&)
    Timeout.timeout(SOON, &)
  end
end

RSpec.configure { |config| config.include DefectHelpers, file_path: %r{/spec/defects/} }
