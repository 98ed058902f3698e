# frozen_string_literal: true

require "async"

JobServers.describe "fibers that wait for several servers" do
  let(:servers) { Array.new(2) { start_job_server } }
  let(:client) { Gearman::Client.new(servers.map(&:address)) }

  after { client.close }

  def set_over_both
    set = Gearman::TaskSet.new(client)
    8.times { |number| set.add_task(Gearman::Task.new("nobody does it", number.to_s, coalesce: false)) }
    set
  end

  def submitted
    eventually("eight jobs") { servers.sum { |one| one.admin("status")[/^nobody does it\t(\d+)/, 1].to_i } == 8 }
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
