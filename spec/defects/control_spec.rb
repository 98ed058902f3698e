# frozen_string_literal: true

# `rake spec:defects` runs this folder against gearman-ruby 4.0.5 and requires each example to fail there. This one must
# pass there, or the failures of the others would prove nothing.
RSpec.describe "a job" do
  it "comes back from a worker", control: true do
    server = start_gearmand.address
    worker = Gearman::Worker.new([server])
    worker.add_ability("reverse") { |data, _job| data.reverse }
    loop_of_worker = Thread.new { loop { worker.work } }

    result = nil
    task = Gearman::Task.new("reverse", "control")
    task.on_complete { |data| result = data }
    tasks = Gearman::TaskSet.new(Gearman::Client.new(server))
    tasks.add_task(task)
    tasks.wait(20)

    expect(result).to eq("lortnoc")
  ensure
    loop_of_worker&.kill
  end
end
