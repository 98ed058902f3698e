# frozen_string_literal: true

# Debian's gearman and gearadmin at the other end of gearmand.
RSpec.describe "gearman's own command line", :process, :worker do
  include Commands

  let(:job_server) { start_gearmand }
  let(:at_server) { ["-h", job_server.host, "-p", job_server.port.to_s] }

  before do
    %w[gearman gearadmin].each do |command|
      found = ENV.fetch("PATH").split(":").any? { |folder| File.executable?(File.join(folder, command)) }
      raise "#{command} is not installed (Debian: apt-get install gearman-tools)" unless found
    end
  end

  # What the command prints, without error output, given this input.
  def gearman(*arguments, input: "")
    output, error, status = nil
    outside_bundle do
      command = ["timeout", "20", "gearman", *at_server, *arguments]
      output, error, status = Open3.capture3({ "LD_PRELOAD" => nil }, *command, stdin_data: input, binmode: true)
    end
    [output, status.exitstatus, error]
  end

  def gearadmin(*arguments)
    run_command("timeout", "20", "gearadmin", *at_server, *arguments)
  end

  # gearman as a worker.
  def start_gearman_worker(*arguments)
    pid = outside_bundle do
      spawn({ "LD_PRELOAD" => nil }, "gearman", *at_server, "-w", *arguments, in: File::NULL, out: File::NULL, err: File::NULL)
    end
    remember(lambda do
      Process.kill("KILL", pid)
      Process.wait(pid)
    end, :call)
  end

  it "gets results from our worker" do
    run_worker(job_server, "reverse" => ->(data, _) { data.reverse }, "nothing" => ->(*) { "" })
    registered("nothing")
    expect(gearman("-f", "reverse", input: "abc")).to eq(["cba", 0, ""])
    data = "\0ab\xff".b * 100_000
    expect(gearman("-f", "reverse", input: data).first).to eq(data.reverse)
    expect(gearman("-f", "nothing", input: "x").first(2)).to eq(["", 0])
  end

  it "gets data, status and a failure from our worker" do
    run_worker(job_server, "fail" => ->(*) {}, "parts" => lambda { |_, job|
      job.report_status(1, 2).send_data("one ").send_data("two ")
      "three"
    })
    registered("fail")
    expect(gearman("-f", "parts", input: "x").first).to include("one ", "two ", "three")
    output, status, error = gearman("-f", "fail", input: "x")
    expect(output).to eq("")
    expect([status, error]).not_to eq([0, ""])
  end

  it "queues background jobs for our worker" do
    seen = Queue.new
    run_worker(job_server, "later" => ->(data, _) { seen << data })
    registered("later")
    %w[a b c].each { |data| gearman("-b", "-f", "later", input: data) }
    expect(Array.new(3) { eventually("a job") { seen.pop unless seen.empty? } }).to eq(%w[a b c])
  end

  it "runs jobs of our client" do
    start_gearman_worker("-f", "cat", "--", "cat")
    registered("cat")
    ours = Gearman::Client.new(job_server.address)
    expect(ours.do_task(Gearman::Task.new("cat", "from our client"), 20)).to eq("from our client")
    data = "\0ab\xff".b * 10_000 # gearman writes all to cat before it reads
    expect(ours.do_task(Gearman::Task.new("cat", data), 20)).to eq(data)

    results = []
    tasks = Gearman::TaskSet.new(ours)
    10.times do |number|
      task = Gearman::Task.new("cat", "task #{number}")
      task.on_complete { |result| results << result }
      tasks.add_task(task)
    end
    expect(tasks.wait(20)).to be(true)
    expect(results).to match_array(Array.new(10) { |number| "task #{number}" })
  ensure
    ours&.close
  end

  it "lists our worker and its jobs" do
    go_on = Queue.new
    run_worker(job_server, { "wait" => ->(*) { go_on.pop } }, client_id: "our-worker")
    registered("wait")
    expect(gearadmin("--workers")).to match(/^\d+ 127\.0\.0\.1 our-worker : wait$/)
    expect(gearadmin("--status")).to match(/^wait\t0\t0\t1$/)
    2.times { client.submit("wait") }
    eventually("a running job") { gearadmin("--status").match?(/^wait\t2\t1\t1$/) }
  ensure
    2.times { go_on << "done" }
  end
end
