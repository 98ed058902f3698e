# frozen_string_literal: true

require "json"

# Processes of workers with many jobs.
RSpec.describe Gearman::Worker, :process, :worker do
  let(:job_server) { start_gearmand }

  # A process that runs 20 jobs at once and says which; `patience` is what a job takes.
  def worker_process(patience)
    start_process do |out|
      worker = described_class.new(job_server.address, concurrency: 20)
      mutex = Mutex.new
      say = ->(*words) { mutex.synchronize { out.puts(JSON.dump(words)) } }
      worker.add_ability("f") do |data|
        say.call("begun", data)
        sleep patience
        say.call("done", data)
        data
      end
      trap("TERM") { worker.stop }
      worker.work
      say.call("stopped", worker.jobs_done)
    end
  end

  def said(process, count)
    Array.new(count) { JSON.parse(process.line) }
  end

  def queued
    job_server.admin("status").lines.first.split("\t")[1].to_i
  end

  it "told to stop finish all 20 running jobs, of which none is run again, and end well" do
    data = Array.new(25) { |i| "job #{i}" }
    client.submit_all("f", data)
    process = worker_process(1)
    begun = said(process, 20)
    expect(begun.map(&:first).uniq).to eq(["begun"])
    process.signal("TERM")
    rest = process.lines.map { |line| JSON.parse(line) }
    expect(rest.last).to eq(["stopped", 20])
    expect(rest[0...-1].map(&:first).uniq).to eq(["done"])
    expect(rest[0...-1].map(&:last)).to match_array(begun.map(&:last))
    expect(process.wait.exitstatus).to eq(0)
    expect(queued).to eq(5)
    left = said(worker_process(0), 10).filter_map { |what, job| job if what == "done" }
    expect(left).to match_array(data - begun.map(&:last))
  end

  it "killed have all 20 running jobs run again" do
    data = Array.new(20) { |i| "job #{i}" }
    client.submit_all("f", data)
    process = worker_process(60)
    expect(said(process, 20).map(&:last)).to match_array(data)
    process.signal("KILL")
    process.wait
    expect(said(worker_process(0), 40).filter_map { |what, job| job if what == "done" }).to match_array(data)
    eventually("an empty queue") { queued.zero? }
  end

  # How often each thread of this process has waited so far, where the system tells.
  def waits
    Dir["/proc/self/task/*/status"].to_h do |status|
      [status, File.read(status)[/^voluntary_ctxt_switches:\s+(\d+)/, 1].to_i]
    rescue SystemCallError
      [status, 0]
    end
  end

  # A loop that is busy has either: many waits, or all the time of a processor.
  it "that wait cost next to nothing: idle, and with all servers down" do
    { job_server.address => 60, %w[127.77.1.1:4730 127.77.1.2:4730] => 150 }.each do |servers, limit|
      process = start_process do |out|
        worker = described_class.new(servers, concurrency: 2)
        worker.add_ability("f") { true }
        thread = Thread.new { worker.work }
        sleep 1
        waited = waits
        spent = Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID)
        sleep 3
        more = waits.sum { |thread, count| [count - waited.fetch(thread, 0), 0].max }
        out.puts JSON.generate([more, Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID) - spent])
        worker.stop
        thread.join
      end
      waited, spent = JSON.parse(process.line)
      expect(waited).to be < limit
      expect(spent).to be < 0.2
    end
  end
end
