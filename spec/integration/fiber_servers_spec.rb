# frozen_string_literal: true

require "async"

JobServers.describe "fibers that wait for several servers", :worker do
  let(:servers) { Array.new(2) { start_job_server } }
  let(:client) { Gearman::Client.new(servers.map(&:address)) }

  after { client.close }

  def set_over_both(function = "nobody does it", &answer)
    set = Gearman::TaskSet.new(client)
    8.times do |number|
      set.add_task(Gearman::Task.new(function, number.to_s, coalesce: false, on_complete: answer))
    end
    set
  end

  def queued
    servers.sum { |one| one.admin("status")[/^nobody does it\t(\d+)/, 1].to_i }
  end

  def submitted
    eventually("eight jobs") { queued == 8 }
  end

  def submitted_set
    set = set_over_both
    eventually("eight jobs") { set.wait(0.1) || queued == 8 }
    set
  end

  it "leave the others their turn" do
    turns = 0
    Sync do |top|
      waiting = top.async { set_over_both.wait(0.5) }
      top.async { (turns += 1) && sleep(0.01) until waiting.finished? }
      expect(waiting.wait).to be(false)
    end
    expect(turns).to be > 5
  end

  # That any fiber can wait for several sockets takes Linux' epoll. In turns it would wait fifty times.
  it "wait, and do not look again and again", if: RUBY_PLATFORM.include?("linux") do
    waits = nil
    GateScheduler.run do |scheduler|
      set = submitted_set
      before = scheduler.waits
      expect(set.wait(0.5)).to be(false)
      waits = scheduler.waits - before
    end
    expect(waits).to be_between(1, 20)
  end

  # Long before they would look for themselves. Which of the sockets comes first is a matter of the tasks.
  it "hear each of the servers while the others have nothing to say" do
    (servers * 3).each_with_index do |server, number|
      answers = Queue.new
      Sync do |top|
        set = set_over_both("f#{number}") { |data| answers << data }
        waiting = top.async { set.wait(JobServers::PATIENCE) }
        run_worker(server, "f#{number}" => ->(data, _job) { data })
        expect(seconds { top.with_timeout(9) { sleep(0.01) while answers.empty? } }).to be < 5
        waiting.stop
      end
    end
  end

  it "leave no descriptor behind, not even when they are stopped" do
    Sync do |top|
      set = submitted_set
      before = Descriptors.count
      expect(set.wait(0.1)).to be(false)
      waiting = top.async { set.wait(JobServers::PATIENCE) }
      waiting.stop
      expect(waiting).to be_stopped
      expect(Descriptors.count).to be <= before
    end
  end

  it "hear at once when the client is closed" do
    start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    Sync do |top|
      waiting = top.async { expect { set_over_both.wait(JobServers::PATIENCE) }.to raise_error(Gearman::NetworkError) }
      submitted
      client.close
      waiting.wait
    end
    expect(Process.clock_gettime(Process::CLOCK_MONOTONIC) - start).to be < 9
  end

  it "and threads, too" do
    waiting = Thread.new { set_over_both.wait(JobServers::PATIENCE) }
    waiting.report_on_exception = false
    submitted
    client.close
    expect { waiting.join(9) }.to raise_error(Gearman::NetworkError)
  end
end
