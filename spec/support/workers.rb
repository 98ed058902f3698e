# frozen_string_literal: true

# Workers for specs of the submitting side. What an example starts ends with it.
module Workers
  # Runs a Gearman::Worker in a thread: `start_worker(server, "reverse" => ->(data, job) { data.reverse })`.
  # Returns once its functions are known to the server.
  def start_worker(server, abilities)
    worker = Gearman::Worker.new(server.address)
    abilities.each { |function, block| worker.add_ability(function, &block) }
    thread = Thread.new { worker.work }
    remember(lambda do
      worker.worker_enabled = false
      thread.join(JobServers::PATIENCE) or raise "a worker does not end"
      worker.close
    end, :call)
    await_abilities(server, abilities.keys)
    worker
  end

  # A worker that answers packet for packet: the block gets the wire and what JOB_ASSIGN_UNIQ says of each job, one
  # after the other, and says what is to be sent.
  #
  #   wire_worker(server, "f") { |wire, handle, _function, _unique, data| wire.request(:work_fail, handle) }
  def wire_worker(server, *functions)
    wire = wire(server)
    functions.each { |function| wire.request(:can_do, function) }
    wire.settle
    thread = Thread.new do
      Thread.current.report_on_exception = false
      loop { yield wire, *next_job(wire) }
    end
    remember(-> { thread.kill.join }, :call)
    wire
  end

  private

  def next_job(wire)
    loop do
      wire.request(:grab_job_uniq)
      reply = wire.response(patience: 600)
      reply = wire.response while %i[noop error].include?(reply.first)
      return reply.drop(1) if reply.first == :job_assign_uniq

      wire.request(:pre_sleep)
      wire.response(patience: 600)
    end
  end

  def await_abilities(server, functions)
    eventually("a worker for #{functions.join(", ")}") do
      rows = server.admin("status").b.lines.map { |line| line.split("\t") }
      functions.all? { |function| rows.any? { |name, _, _, workers| name == function.b && workers.to_i.positive? } }
    end
  end
end

RSpec.configure { |config| config.include Workers }
