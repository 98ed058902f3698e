# frozen_string_literal: true

# Workers and fork.
RSpec.describe Gearman::Worker, :process, :worker do
  let!(:job_server) { start_gearmand }

  it "built in a process that forks and ends works in the child, registered again" do
    parent = start_process do |out|
      worker = described_class.new(job_server.address, client_id: "daemon")
      worker.add_ability("f") { |data| "#{data} by #{Process.pid}" }
      pid = fork do
        worker.work
      ensure
        exit!
      end
      out.puts pid
      registered("f", 2)
      out.puts "ends"
    end
    child_pid = Integer(parent.line)
    remember(-> { Process.kill("KILL", child_pid) }, :call)
    expect(parent.line).to eq("ends")
    expect(parent.wait).to be_success
    registered("f")
    expect(client.run("f", "done")).to eq([:work_complete, "done by #{child_pid}"])
    expect(job_server.admin("workers").scan(/ daemon : f$/).size).to eq(1)
  end

  it "works behind Process.daemon" do
    reader, writer = IO.pipe
    start_process do
      reader.close
      worker = described_class.new(job_server.address)
      worker.add_ability("f") { |data| data }
      Process.daemon(true, true)
      writer.puts Process.pid
      worker.work
    end
    writer.close
    pid = Integer(reader.wait_readable(JobServers::PATIENCE)&.gets)
    remember(-> { Process.kill("KILL", pid) }, :call)
    registered("f")
    expect(client.run("f", "from a daemon")).to eq([:work_complete, "from a daemon"])
  ensure
    reader&.close
  end

  it "works on while children that a job forked come and go" do
    run_worker(job_server, "f" => lambda { |data, _|
      Process.wait(fork { exit!(true) })
      data
    })
    outcomes = Array.new(5) { |number| client.run("f", number) }
    expect(outcomes).to eq(Array.new(5) { |number| [:work_complete, number.to_s] })
  end

  it "lets no child of a job report or answer on its connection" do
    reader, writer = IO.pipe
    run_worker(job_server, "f" => lambda { |data, job|
      pid = fork do
        reports = [[:send_data, "child"], [:report_status, 1, 2], [:report_warning, "child"]]
        writer.puts(reports.map { |report| report_error(job, *report) }.join(" "))
        exit!
      end
      Process.wait(pid)
      job.send_data("parent")
      data
    })
    expect(client.packets_of(client.submit("f", "x"))).to eq([[:work_data, "parent"], [:work_complete, "x"]])
    expect(reader.wait_readable(JobServers::PATIENCE)&.gets&.split).to eq(["Gearman::NetworkError"] * 3)
    expect(client.run("f", "y")).to eq([:work_complete, "y"])
  ensure
    [reader, writer].each(&:close)
  end

  def report_error(job, name, *arguments)
    job.public_send(name, *arguments)
    "none"
  rescue StandardError => e
    e.class.name
  end

  it "answers a job once when its block ends in parent and child" do
    pids = Queue.new
    run_worker(job_server, "f" => lambda { |data, _|
      pid = fork
      pids << pid if pid
      sleep 0.1 if pid # the child is the first to come to the end of the block
      pid ? "parent had #{data}" : "child had #{data}"
    })
    handle = client.submit("f", "x")
    child = eventually("the child") { pids.pop unless pids.empty? }
    expect(client.packets_of(handle)).to eq([[:work_complete, "parent had x"]])
    expect(client.wire.pending).to eq([])
    registered("f", 2) # on a connection of its own, the child is a worker, too
  ensure
    Process.kill("KILL", child) if child
    Process.wait(child) if child
  end

  it "shares nothing with a worker that the child builds for itself" do
    run_worker(job_server, "f" => ->(data, _) { "parent #{data}" }).waiting
    child = start_process do |out|
      worker = described_class.new(job_server.address)
      worker.add_ability("g") { |data| "child #{data}" }
      out.puts "ready"
      worker.work
    end
    expect(child.line).to eq("ready")
    10.times do |number|
      expect(client.run("f", number)).to eq([:work_complete, "parent #{number}"])
      expect(client.run("g", number)).to eq([:work_complete, "child #{number}"])
    end
    child.signal("KILL")
    child.wait
    expect(client.run("f", "last")).to eq([:work_complete, "parent last"])
  end
end
