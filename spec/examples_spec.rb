# frozen_string_literal: true

require "pty"
require "tmpdir"

RSpec.describe "examples", :process do
  folder = File.expand_path("../examples", __dir__)
  lib = File.expand_path("../lib", __dir__)
  # Bundler may warn of gems that are none of theirs.
  without_bundler = { "RUBYOPT" => ENV["RUBYOPT"]&.gsub(%r{-r\S*bundler/setup}, "") }

  around { |example| Dir.mktmpdir("examples") { |logs| (@logs = logs) && example.run } }
  after { @running&.each_key { |pid| Process.kill("KILL", pid) && Process.wait(pid) } }

  # A running example: its process and the file that it prints to.
  process = Struct.new(:pid, :log) do
    def output
      File.read(log).force_encoding(Encoding::UTF_8)
    end
  end

  define_method(:start_script) do |name, script, *arguments, err: nil|
    log = File.join(@logs, name.tr("/", "-"))
    FileUtils.touch("#{log}.err")
    pid = spawn(without_bundler, RbConfig.ruby, "-I", lib, script, *arguments, in: File::NULL, out: log,
                                                                               err: err || "#{log}.err")
    (@running ||= {})[pid] = name
    process.new(pid, log)
  end

  define_method(:start) do |path, *servers|
    start_script(path, File.join(folder, "#{path}.rb"), *servers.map(&:address))
  end

  # Has gearman-worker run the functions of an example.
  define_method(:serve) do |path, server|
    start_script(path, File.join(folder, "../exe/gearman-worker"), "-r", File.join(folder, "#{path}.rb"),
                 "-s", server.address)
  end

  # Waits for the end of an example, which must be a good one, and returns what it printed.
  def finish(process)
    path = @running.fetch(process.pid)
    status = eventually("the end of #{path}") { Process.wait2(process.pid, Process::WNOHANG)&.last }
    @running.delete(process.pid)
    expect(status).to be_success, "#{path}: #{status}\n#{File.read("#{process.log}.err")}"
    process.output
  end

  # Stops a worker once it has printed as many lines, and returns them.
  def stop(worker, lines = 0)
    eventually("#{lines} lines, not #{worker.output.inspect}") { worker.output.lines.size >= lines }
    Process.kill("TERM", worker.pid)
    finish(worker).lines(chomp: true)
  end

  def run(path, *servers)
    finish(start(path, *servers)).lines(chomp: true)
  end

  # Runs an example with a terminal for its standard error. Returns what the terminal got and what was printed.
  define_method(:run_with_terminal) do |path, *arguments|
    terminal, theirs = PTY.open
    client = start_script(path, File.join(folder, "#{path}.rb"), *arguments, err: theirs)
    theirs.close
    seen = Thread.new { read_terminal(terminal) }
    printed = finish(client).lines(chomp: true)
    [seen.value, printed]
  ensure
    [terminal, theirs].compact.each(&:close)
  end

  # Linux ends it by an error, others by the end of the file.
  def read_terminal(terminal)
    output = +""
    loop { output << terminal.readpartial(4096) }
  rescue Errno::EIO, EOFError
    output
  end

  def worker_known?(server, function)
    server.admin("status").match?(/^#{function}\t\d+\t\d+\t[1-9]/)
  end

  it "are all run by an example here, or by the specs of the packaged gem" do
    run_here = File.read(__FILE__).scan(%r{(?:start|run|serve)\("([a-z_]+/(?:client|worker))"}).flatten
    present = Dir.glob("**/*.rb", base: folder).map { |path| path.delete_suffix(".rb") }

    expect(present).to match_array(run_here.uniq + %w[demo progress_line])
  end

  each_job_server do
    let(:server) { job_server }

    it "plain: waits for a result" do
      worker = start("plain/worker", server)

      expect(run("plain/client", server)).to eq(["eßörG"])
      expect(stop(worker)).to eq([])
    end

    it "background: leaves jobs with the server" do
      output = run("background/client", server)
      worker = start("background/worker", server)

      expect(output).to match([/\Aalice: the server has it as H:/, /\Abob: .+ H:/, /\Acarol: .+ H:/])
      expect(stop(worker, 3)).to eq(["sent to alice", "sent to bob", "sent to carol"])
    end

    it "priority: has urgent jobs run before others" do
      output = run("priority/client", server)
      worker = start("priority/worker", server)

      expect(output).to eq(["queued"])
      expect(stop(worker, 3)).to eq(["high priority", "normal priority", "low priority"])
    end

    it "scheduled: has a job run at its time" do
      worker = start("scheduled/worker", server)
      eventually { worker_known?(server, "remind") }
      output = run("scheduled/client", server)

      expect(output).to eq(["scheduled"])
      late = stop(worker, 1)
      expect(late).to match([/\A\d+ seconds later\z/])
      expect(late.first.to_i).to be >= 3
    end

    it "progress: shows how far a job is" do
      worker = start("progress/worker", server)

      expect(run("progress/client", server)).to eq(["1/5", "2/5", "3/5", "4/5", "5/5", "counted to 5"])
      stop(worker)
    end

    it "data: takes a result in parts, and warnings" do
      worker = start("data/worker", server)

      expect(run("data/client", server)).to eq(["warning: an empty line", "one two three"])
      stop(worker)
    end

    it "exceptions: sees jobs fail" do
      worker = start("exceptions/worker", server)

      expect(run("exceptions/client", server)).to eq(
        [
          "16: 4.0", 'XVI: invalid value for Float(): "XVI"', "XVI: tried again",
          'XVI: invalid value for Float(): "XVI"', "XVI: failed", "-16: tried again", "-16: failed"
        ]
      )
      stop(worker)
    end

    it "several_servers: serves with all of them up and with one down" do
      other = start_job_server
      worker = start("several_servers/worker", server, other)
      answer = ["all completed", "1 4 9 16 25 36 49 64 81 100"]

      expect(run("several_servers/client", server, other)).to eq(answer)
      other.kill
      expect(run("several_servers/client", server, other)).to eq(answer)
      stop(worker)
    end

    it "bulk: leaves many jobs with the server" do
      output = run("bulk/client", server)
      worker = start("bulk/worker", server)

      expect(output).to eq(["10000 jobs submitted, 0 refused"])
      expect(File.size(File.join(@logs, "bulk-client.err"))).to eq(0) # is no terminal
      eventually("the end of the jobs") { server.admin("status").match?(/^index\t0\t/) }
      expect(stop(worker)).to eq(["10000 pages"])
    end

    it "bulk: shows on a terminal how far it is, and says what was refused" do
      server.admin("create function index")
      server.admin("maxqueue index 3")
      seen, printed = run_with_terminal("bulk/client", server.address, "5")

      expect(seen).to match(%r{\A(\r\e\[K\d/5 jobs, .+)*\r\e\[K5/5 jobs, \d+ a second, 2 errors\r\n\z})
      expect(printed).to match(["3 jobs submitted, 2 refused", /\Athe first of these: .*queue/i])
    end

    it "task_set: waits for many tasks" do
      worker = start("task_set/worker", server)
      client = start("task_set/client", server)

      failing = (99..999).step(100)
      sum = (0..999).sum { |number| number**2 } - failing.sum { |number| number**2 }
      expect(finish(client)).to eq("990 completed, 10 failed, the sum is #{sum}\n")
      expect(File.read("#{client.log}.err")).not_to include("\r")
      stop(worker)
    end

    it "task_set: shows on a terminal how far it is" do
      worker = start("task_set/worker", server)
      seen, printed = run_with_terminal("task_set/client", server.address, "200")

      expect(seen).to match(%r{\A(\r\e\[K\d+/200 jobs, .+)*\r\e\[K200/200 jobs, \d+ a second, 2 errors\r\n})
      expect(printed).to match([/\A198 completed, 2 failed, the sum is \d+\z/])
      stop(worker)
    end

    it "of the README: a client gets its result from a worker" do
      programs = File.read(File.expand_path("../README.md",
                                            __dir__)).scan(/^```ruby\n(require "gearman"\n.+?)^```$/m).flatten
      expect(programs.size).to eq(2)
      worker, client = %w[worker client].zip(programs).map do |name, program|
        script = File.join(@logs, "#{name}.rb")
        File.write(script, program.gsub("localhost:4730", server.address))
        start_script("README-#{name}", script)
      end

      expect(finish(client)).to eq("olleh\n")
      eventually("the background job") { server.admin("status").match?(/^reverse\t0\t/) }
      expect(File.size("#{worker.log}.err")).to eq(0)
    end

    it "worker_process: has gearman-worker run functions" do
      worker = serve("worker_process/worker", server)
      output = run("worker_process/client", server)
      eventually("the error") { worker.output.include?("sum H") && server.admin("status").match?(/^sum\t0\t/) }

      expect(output).to eq(["words: 6", "sum: 6"])
      expect(stop(worker)).to include("count_words begins", /INFO: 1 x 10 jobs at once/, /INFO: count_words H:\S+ done/)
      expect(File.read("#{worker.log}.err")).to end_with("sum was given something else: invalid value for " \
                                                         "Integer(): \"one\"\n")
    end

    it "dedupe: has one job serve all who ask for it" do
      worker = start("dedupe/worker", server)

      expect(run("dedupe/client", server)).to match_array((1..3).map { |reader| "reader #{reader}: the report of May" })
      expect(stop(worker)).to eq(["making the report of May"])
    end
  end
end
