# frozen_string_literal: true

# A task must not cost more because many others are open.
RSpec.describe "many foreground tasks over three servers", :quiet do
  let!(:servers) { Array.new(3) { start_gearmand } }
  let!(:workers) { servers.map { |server| start_echo_process(server) } }
  let(:client) { remember(Gearman::Client.new(servers.map(&:address)), :close) }

  # CPU time of a task at 100 000 open, as a multiple of that at 1 000.
  ratio = 1.3

  def start_echo_process(server)
    child = WorkerSide::Child.new do
      worker = Gearman::Worker.new(server.address)
      worker.add_ability("echo") { |data| data }
      worker.work
    end
    remember(child)
    eventually("a worker") { server.admin("status").start_with?("echo\t0\t0\t1\n") }
    child
  end

  # Runs a set of tasks, all of which are open before the first ends. Returns the seconds of CPU time that this
  # process takes for it, and the number of right answers.
  def run(count, name)
    created = right = 0
    set = Gearman::TaskSet.new(client)
    count.times do |number|
      argument = "#{name} #{number}"
      task = Gearman::Task.new("echo", argument, uniq: argument)
      task.on_created { created += 1 }
      task.on_complete { |data| right += 1 if data == argument }
      set.add_task(task)
    end
    workers.each { |worker| worker.signal(:STOP) }
    GC.start
    start = cpu_time
    set.wait(0.05) until created == count
    expect(set.size).to be_within(3).of(count) # a worker may be stopped with an answer on its way
    workers.each { |worker| worker.signal(:CONT) }
    expect(set.wait(300)).to be(true)
    [cpu_time - start, right]
  ensure
    workers.each { |worker| worker.signal(:CONT) }
  end

  def cpu_time
    Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID)
  end

  # Microseconds of CPU time a task, over sets of `count` tasks, `total` together, which have to be right.
  def microseconds(count, total = 100_000)
    sets = Array.new(total / count) { |number| run(count, "#{count} #{number}") }
    expect(sets.sum(&:last)).to eq(total)
    sets.sum(&:first) / total * 1_000_000
  end

  it "end with the right answers, and cost as much at 100 000 open as at 1 000, within #{ratio}" do
    run(1_000, "warm")
    # The better of two: what else the machine does costs time too.
    few, many = Array.new(2) { [microseconds(1_000), microseconds(100_000)] }.transpose.map(&:min)
    puts format("  %<few>.2f microseconds of CPU time a task at 1 000 open, %<many>.2f at 100 000: %<ratio>.2f times " \
                "that at 1 000\n  %<ten>.2f at 10 open, of which nothing is asked: 10 tasks bear what a set costs, " \
                "its waits for three servers and the stops of their workers",
                ten: microseconds(10, 10_000), few: few, many: many, ratio: many / few)
    expect(many / few).to be <= ratio
    servers.each { |server| expect(server.admin("status")).to start_with("echo\t0\t0\t1\n") }
  end
end
