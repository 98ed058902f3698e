# frozen_string_literal: true

require "json"
require "net/http"
require_relative "../support/worker_program"

RSpec.describe "gearman-worker", :runner, :process do
  let(:server) { start_gearmand }
  let(:client) { Gearman::Client.new(server.address).tap { |client| (@clients ||= []) << client } }
  let(:definitions) { file("jobs.rb", <<~RUBY) }
    Gearman.worker do
      ability("reverse") { |data, _job| data.reverse }
      ability("slow") { |data, job| puts "slow begins"; job.report_status(1, 2); sleep(Float(data)); "slept" }
      ability("boom") { |_data, _job| raise ArgumentError, "no good" }
      ability("gate") { |data, _job| puts "gate begins"; sleep 0.02 until File.exist?(data); "open" }
      ability("leave") { |_data, _job| exit }
      ability("pid") { |data, _job| sleep(data.to_f); Process.pid.to_s }
      ability("nothing") { |_data, _job| nil }
      ability("grow") { |data, _job| ($memory = "x" * Integer(data)).size }
      ability("größe") { |_data, _job| "1" }
      ability("late", timeout: 0.2) { |_data, _job| sleep }
      ability("cpu") do |data, _job|
        puts "cpu begins"
        before = Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID)
        sleep(Float(data))
        (Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID) - before).to_s
      end
    end
  RUBY

  after { @clients&.each(&:close) }

  def call(func, data = "", patience = JobServers::PATIENCE)
    client.do_task(Gearman::Task.new(func, data, coalesce: false), patience)
  end

  def submit(func, data = "")
    client.submit_background(Gearman::BackgroundTask.new(func, data, coalesce: false))
  end

  def counts(func)
    server.admin("status").lines.map(&:split).find { |name, *| name == func }&.last(3)&.map(&:to_i)
  end

  def started(*arguments, **options)
    program = start_gearman_worker("-r", definitions, "-s", server.address, *arguments, **options)
    program.says(/jobs at once/)
    eventually("a registered worker") { counts("reverse")&.last.to_i.positive? }
    program
  end

  # A server says that a job runs when it has handed it out.
  def running(func, count = 1)
    begun = ->(program) { program.output.scan("#{func} begins").size }
    eventually("#{count} running #{func}") { @programs.sum(&begun) == count }
  end

  # What jobs of "gate" wait for.
  def gate = File.join(directory, "open")

  it "serves what a file defines, says what it does in one line a job, and ends with status 0" do
    program = started("-c", "3", "-g", "blue")
    expect(call("reverse", "abc")).to eq("cba")
    expect(server.admin("workers")).to match(/ \S+:\d+:blue : .*reverse/)
    expect(program.stop).to eq(0)
    expect(program.output).to include("servers: #{server.address}", "1 x 3 jobs at once",
                                      "queues: reverse, slow, boom, gate, leave, pid, nothing, grow, größe, late, cpu",
                                      "gearman-worker #{Gearman::VERSION}, Ruby #{RUBY_VERSION}, pid #{program.pid}, ")
    expect(program.output.lines.grep(/reverse H:/)).to contain_exactly(/INFO: reverse H:\S+ done in 0\.\d+ s \(\S+\)$/)
    eventually("no worker left") { counts("reverse").last.zero? }
  end

  it "logs a failed job with its error and where it came from" do
    program = started
    expect(call("boom")).to be_nil
    program.says(/INFO: boom H:\S+ failed in/)
    program.says(/ERROR: boom H:\S+ failed: ArgumentError: no good \(.*jobs\.rb:4:/)
    expect(call("reverse", "on")).to eq("no")
  end

  it "fails a job that takes longer than its function may, and goes on" do
    program = started
    expect(call("late")).to be_nil
    program.says(/ERROR: late H:\S+ failed: .*late took longer than 0\.2 seconds/)
    expect(call("reverse", "on")).to eq("no")
  end

  describe "signals" do
    %w[TERM INT].each do |name|
      it "#{name} lets running jobs finish and takes no others" do
        program = started("-c", "2")
        submit("gate", gate)
        running("gate")
        program.signal(name)
        program.says(/told to stop: 1 running job has 25 s/)
        submit("reverse", "later")
        File.write(gate, "")
        expect(program.status).to eq(0)
        expect(program.output).to match(/gate H:\S+ done/)
        expect(counts("gate").first).to eq(0)
        expect(counts("reverse").first(2)).to eq([1, 0])
      end
    end

    it "TERM lets as many jobs finish as there are, each of them once" do
      program = started("-c", "20")
      20.times { submit("gate", gate) }
      running("gate", 20)
      program.signal("TERM").says(/told to stop: 20 running jobs have 25 s/)
      File.write(gate, "")
      expect(program.status).to eq(0)
      handles = program.output.scan(/gate (H:\S+) done/)
      expect([handles.size, handles.uniq.size]).to eq([20, 20])
      expect(counts("gate")).to eq([0, 0, 0])
    end

    [%w[-w 1], %w[-w 2]].each do |processes|
      it "TERM ends it when the time is up, whatever a job does about it, with nothing at exit #{processes}" do
        code = file("code.rb", <<~RUBY)
          Gearman::Runner::Cluster.__send__(:remove_const, :PATIENCE)
          Gearman::Runner::Cluster.const_set(:PATIENCE, 15) # for a busy machine
          at_exit { puts "at exit of \#{Process.pid}" }
          Gearman.worker do
            ability("stubborn") do
              puts "stubborn begins"
              sleep
            rescue Exception
              puts "\#{Process.pid} goes on"
              sleep
            end
          end
        RUBY
        program = start_gearman_worker("-r", code, "-s", server.address, "-t", "0.3", *processes)
        submit("stubborn")
        running("stubborn")
        expect(program.stop).to eq(75)
        worker = program.says(/^(\d+) goes on$/)[1]
        expect(program.output).not_to match(/at exit of (?:#{worker}|#{program.pid})$|did not end in time/)
        eventually("the job is back") { counts("stubborn") == [1, 0, 0] }
      end
    end

    it "TERM gives jobs the time that -t says; then the broker has them back, and the status is 75" do
      program = started("-t", "0.3")
      submit("slow", "60")
      running("slow")
      expect(program.stop).to eq(75)
      expect(program.output).to match(/slow H:\S+/)
      eventually("the job is back") { counts("slow") == [1, 0, 0] }
    end

    it "a second TERM abandons running jobs at once" do
      program = started
      submit("slow", "60")
      running("slow")
      program.signal("TERM").says(/told to stop/)
      expect([program.stop, program.output]).to match([75, /told to stop again/])
      eventually("the job is back") { counts("slow") == [1, 0, 0] }
    end

    it "TSTP takes no more jobs, finishes those it has, and goes on until TERM" do
      program = started
      submit("gate", gate)
      running("gate")
      program.signal("TSTP").says(/quiet/)
      submit("reverse", "waits")
      File.write(gate, "")
      program.says(/gate H:\S+ done/)
      sleep 0.3
      expect(counts("reverse").first(2)).to eq([1, 0])
      expect(program.stop).to eq(0)
    end

    it "TTIN tells where its threads are and what runs" do
      program = started
      submit("slow", "60")
      running("slow")
      program.signal("TTIN").says(/jobs\.rb:3:in `sleep'|jobs\.rb:3:in 'Kernel#sleep'/)
      program.says(/job slow H:\S+ has run for/)
      program.signal("TERM").says(/told to stop/)
      program.signal("TERM")
      program.status
    end
  end

  describe "name servers that do not answer" do
    # Like the C library, which Ruby 3.1 cannot interrupt.
    let(:definitions) { file("jobs.rb", <<~RUBY) }
      require "fiddle"
      SLEEP = Fiddle::Function.new(Fiddle.dlopen(nil)["sleep"], [Fiddle::TYPE_INT], Fiddle::TYPE_INT)
      def Addrinfo.getaddrinfo(*) = SLEEP.call(60)
      at_exit { puts "the application has ended" }
      Gearman.worker { ability("f") { true } }
    RUBY

    [[], ["-w", "2"]].each do |arguments|
      it "do not keep it from ending #{arguments.join(" ")}" do
        program = start_gearman_worker("-r", definitions, "-s", "gearmand.example", *arguments)
        program.says(/jobs at once/)
        sleep 2
        expect(program.stop).to eq(0)
        expect(program.output).to include("ended with status 0", "the application has ended")
      end
    end
  end

  it "ends with status 1 when a job calls exit, which fails" do
    program = started
    submit("leave")
    expect(program.status).to eq(1)
    expect(program.output).to include("the worker has ended: ")
    expect(counts("leave").first).to eq(0)
  end

  it "runs as many jobs at once as -c says" do
    started("-c", "2")
    3.times { submit("slow", "1") }
    eventually("two running, one waiting") { counts("slow")&.first(2) == [3, 2] }
  end

  it "serves the queue that is given first before the others" do
    %w[boom reverse slow].each { |func| 2.times { submit(func, "0") } }
    program = start_gearman_worker("-r", definitions, "-s", server.address, "-c", "1", "-q", "slow", "-q", "boom")
    program.says(/(INFO: \w+ H:.*\n[^I]*){4}/)
    expect(program.output.scan(/INFO: (\w+) H:/).flatten).to eq(%w[slow slow boom boom])
    expect(program.stop).to eq(0)
    expect(counts("reverse").first).to eq(2)
  end

  describe "settings" do
    it "takes the command line before the environment, that before the file, and that before the code" do
      code = file("code.rb", <<~RUBY)
        Gearman.configure do |config|
          config.concurrency = 2
          config.shutdown_timeout = 2
          config.tag = "code"
          config.prefetch = 2
        end
        Gearman.worker do
          ability("show") { |*| Marshal.dump(Gearman.configuration.instance_variable_get(:@settings)) }
        end
      RUBY
      config = file("gearman.yml", <<~YAML)
        concurrency: 3
        shutdown_timeout: <%= 1 + 2 %>
        tag: file
        queues: [show]
        staging:
          tag: staging
        production:
          tag: production
      YAML
      start_gearman_worker("-r", code, "-C", config, "-e", "staging", "-c", "5",
                           env: { "GEARMAN_SERVERS" => server.address, "RAILS_MAX_THREADS" => "4",
                                  "GEARMAN_SHUTDOWN_TIMEOUT" => "4" })
      settings = Marshal.load(call("show")) # rubocop:disable Security/MarshalLoad -- our own child's
      expect(settings).to include(concurrency: 5, shutdown_timeout: 4.0, tag: "staging", prefetch: 2, queues: ["show"],
                                  servers: [server.address])
    end

    it "reads config/gearman.yml where it is started" do
      file("config/gearman.yml", "require: jobs.rb\nservers: #{server.address}\nconcurrency: 7\n")
      definitions
      program = start_gearman_worker(directory: directory)
      program.says(/1 x 7 jobs at once/)
      expect(program.stop).to eq(0)
    end

    it "gives Gearman.client the servers of the command line, also when it was used before" do
      code = file("code.rb", <<~RUBY)
        Gearman.client
        Gearman.worker { ability("ask") { Gearman.client.do_task(Gearman::Task.new("reverse", "abc")) } }
      RUBY
      start_gearman_worker("-r", code, "-s", server.address)
      started
      expect(call("ask")).to eq("cba")
    end

    it "ends with status 64 when they make no sense, and 1 when the code cannot be loaded" do
      expect(refusal_of("-r", definitions, "-c", "0")).to match([64, /^gearman-worker: concurrency is .*not "0"\n\z/])
      broken = file("broken.rb", "raise 'not today'")
      expect(refusal_of("-r", broken)).to match([1, /^gearman-worker: .*broken\.rb cannot be loaded: .*not today/])
    end
  end

  it "--check looks at the settings and the servers" do
    check = ["-r", definitions, "-s", server.address, "--check"]
    expect(run_gearman_worker(*check)).to match([0, /queue reverse\n.*server #{server.address}: version \d/m])
    server.kill
    expect(run_gearman_worker(*check)).to match([1, /server #{server.address}: .*refused/m])
  end

  it "logs JSON" do
    program = started("--log-format", "json", "-v")
    call("reverse", "abc")
    program.says(/"outcome":"done"/)
    call("nothing")
    program.says(/nothing H:\S+ failed in .*"outcome":"failed"/)
    program.stop
    lines = program.output.lines.map { |line| JSON.parse(line) }
    expect(lines.find { |line| line["outcome"] })
      .to include("queue" => "reverse", "handle" => /\AH:/, "unique" => /\A\S+\z/, "elapsed" => be_a(Float),
                  "severity" => "INFO", "pid" => program.pid, "message" => /reverse H:/)
    expect(lines).to include(include("severity" => "DEBUG"))
  end

  it "logs what is no text, and the job goes on" do
    started("--log-format", "json").then do |program|
      connection = wire(server).request(:submit_job, "größe", "\xFF\n", "abc")
      expect([connection.response.first, connection.response.first]).to eq(%i[job_created work_complete])
      said = JSON.parse(program.says(/^\{.*"outcome".*\}$/)[0])
      expect(said).to include("queue" => "größe", "unique" => "\\xFF?")
    end
  end

  it "answers those who ask at the same time, in pieces, or with HEAD" do
    port = JobServers.free_port
    started("--probe-port", port.to_s)
    silent = Array.new(3) { TCPSocket.new("127.0.0.1", port) }
    sockets = Array.new(2) { TCPSocket.new("127.0.0.1", port) }
    sockets.first.write("HEAD /live HTTP/1.1\r\n\r\n")
    sockets.last.write("GET /li")
    sleep 0.1
    sockets.last.write("ve HTTP/1.1\r\nHost: x\r\n\r\n")
    start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    expect(sockets.map(&:read)).to match([/\AHTTP.1.1 200 OK\r\n.*\r\n\r\n\z/m, /\AHTTP.1.1 200 .*\r\n\r\nOK\n\z/m])
    expect(Process.clock_gettime(Process::CLOCK_MONOTONIC) - start).to be < 1.9
  ensure
    [*silent, *sockets].each(&:close)
  end

  { [] => [], %w[-w 2] => [:fork_among_threads] }.each do |processes, tags|
    it "answers probes; a worker whose server is away is alive, but not ready: #{processes}", *tags do
      port = JobServers.free_port
      started("--probe-port", port.to_s, *processes)
      ask = ->(path) { Net::HTTP.get_response("127.0.0.1", path, port).code }
      eventually("ready") { ask.call("/ready") == "200" }
      expect([ask.call("/live"), ask.call("/else")]).to eq(%w[200 404])
      server.kill
      eventually("not ready") { ask.call("/ready") == "503" }
      expect(ask.call("/live")).to eq("200")
      server.start
      eventually("ready again") { ask.call("/ready") == "200" }
    end
  end

  describe "that is stuck" do
    let(:port) { JobServers.free_port }
    let(:hang) { File.join(directory, "hang") }
    let(:code) { file("code.rb", <<~RUBY) }
      require #{definitions.inspect}
      [Gearman::Runner::Single, Gearman::Runner::Cluster].each do |part|
        part.__send__(:remove_const, :STUCK)
        part.const_set(:STUCK, 4)
      end
      Gearman::Worker.prepend(Module.new do
        def initialize(*)
          super
          self.network_timeout_sec = 1 # its loops go round as often
          on_grab_job { Kernel.sleep if File.exist?(#{hang.inspect}) }
        end
      end)
    RUBY

    def live
      Net::HTTP.get_response("127.0.0.1", "/live", port).code
    end

    def start_program(*arguments)
      program = start_gearman_worker("-r", code, "-s", server.address, "-c", "1", "--probe-port", port.to_s, *arguments)
      program.says(/jobs at once/)
      eventually("a registered worker") { counts("reverse")&.last.to_i.positive? }
      program
    end

    it "answers 503 when a loop hangs" do
      start_program
      expect([call("reverse", "abc"), live]).to eq(%w[cba 200])
      file("hang", "")
      submit("reverse")
      eventually("a failed probe") { live == "503" }
    end

    it "is never one whose server is away" do
      start_program
      server.kill
      12.times do
        sleep 0.5
        expect(live).to eq("200")
      end
      server.start
      expect(call("reverse", "abc")).to eq("cba")
    end

    it "answers 503 when one of its processes does nothing, until it does", :fork_among_threads do
      start_program("-w", "2")
      Process.kill("STOP", pid = call("pid").to_i)
      expect(live).to eq("200")
      eventually("a failed probe") { live == "503" }
      Process.kill("CONT", pid)
      eventually("a probe that does not fail") { live == "200" }
    end
  end

  describe "several processes" do
    # Those of two jobs that run at once.
    def pids
      found = []
      set = Gearman::TaskSet.new(client)
      2.times do
        task = Gearman::Task.new("pid", "0.2", coalesce: false)
        task.on_complete { |pid| found << pid.to_i }
        set.add_task(task)
      end
      set.wait(JobServers::PATIENCE)
      found.uniq
    end

    it "share the jobs; one that is killed is replaced, and all end with a TERM" do
      File.write(definitions, "puts \"loaded by \#{Process.pid}\"\n", mode: "a")
      program = started("-w", "2", "-c", "1")
      eventually("two workers") { counts("reverse").last == 2 }
      submit("slow", "1")
      victim = call("pid").to_i
      expect(victim).not_to eq(program.pid)
      Process.kill("KILL", victim)
      program.says(/pid #{victim} SIGKILL.*another takes its place/)
      eventually("two workers") { counts("reverse").last == 2 && (all = pids).size == 2 && !all.include?(victim) }
      program.signal("TTIN").says(/thread #<Thread/)
      expect(program.stop("INT")).to eq(0)
      expect(program.output).to match(/slow H:\S+ done/)
      expect(program.output.scan(/loaded by \d+/)).to eq(["loaded by #{program.pid}"])
      eventually("no worker left") { counts("reverse").last.zero? }
    end

    it "are replaced behind a number of jobs" do
      program = started("--max-jobs", "2", "-c", "1")
      first = call("pid")
      call("pid")
      program.says(/2 jobs done: another process takes over/)
      eventually("another process") { ![nil, first].include?(call("pid")) }
      expect(program.stop).to eq(0)
    end

    it "finish long jobs before they are replaced" do
      program = started("--max-jobs", "1", "-c", "2", "-t", "0.1")
      submit("gate", gate)
      running("gate")
      call("reverse")
      program.says(/1 jobs done/)
      sleep 0.5 # longer than -t
      File.write(gate, "")
      program.says(/gate H:\S+ (\w+)/).then { |said| expect(said[1]).to eq("done") }
      eventually("another process") { counts("reverse").last.positive? }
      expect(program.stop).to eq(0)
    end

    it "are replaced when they have too much memory" do
      program = started("--max-memory", "64", "-c", "1")
      first = call("pid")
      submit("grow", 64 << 20)
      program.says(/\d+ MiB of memory used: another process takes over/)
      eventually("another process") { ![nil, first].include?(call("pid")) }
      expect(program.stop).to eq(0)
    end

    it "end when their parent is killed, with their jobs finished, and wait for that without work" do
      program = started("-w", "2", "-c", "1")
      eventually("two workers") { counts("reverse").last == 2 }
      cpu_time = Thread.new { call("cpu", "1") }
      running("cpu")
      program.kill
      expect(cpu_time.value.to_f).to be < 0.3
      eventually("no worker left") { counts("reverse").last.zero? }
      expect(counts("cpu").first).to eq(0)
    end

    %w[TERM INT].each do |name|
      it "take the #{name} of a whole process group for one" do
        program = started("-w", "2", "-c", "1")
        eventually("two workers") { counts("reverse").last == 2 }
        2.times { submit("gate", gate) }
        running("gate", 2)
        Process.kill(name, -program.pid)
        program.says(/(?:told to stop: 1 running job .*){2}/m)
        File.write(gate, "")
        expect(program.status).to eq(0)
        expect(program.output.scan(/gate H:\S+ done/).size).to eq(2)
      end
    end

    it "take a TERM that comes before they can hear it" do
      code = file("code.rb", <<~RUBY)
        require #{definitions.inspect}
        Process.singleton_class.prepend(Module.new do
          def _fork
            super.tap { |pid| sleep 0.5 if pid.zero? }
          end
        end)
      RUBY
      program = start_gearman_worker("-r", code, "-s", server.address, "-w", "2")
      program.says(/jobs at once/)
      sleep 0.2
      Process.kill("TERM", -program.pid)
      expect(program.status).to eq(0)
      expect(program.output).not_to include("told to stop again")
    end

    it "give their jobs back at a second TERM" do
      program = started("-w", "2", "-c", "1")
      eventually("two workers") { counts("reverse").last == 2 }
      submit("slow", "60")
      running("slow")
      program.signal("TERM").says(/told to stop: 1 running job/)
      expect(program.stop).to eq(75)
      expect(program.output).to match(/told to stop again: .*abandoned slow H:/m)
      eventually("the job is back") { counts("slow") == [1, 0, 0] }
    end

    it "are killed when they do not end" do
      program = started("-w", "2", "-c", "1", "-t", "0")
      Process.kill("STOP", victim = call("pid").to_i)
      expect(program.stop).to eq(75)
      expect(program.output).to match(/ERROR: #{victim} did not end in time/)
    end

    it "take no more jobs behind a TSTP, and are not replaced then" do
      program = started("-w", "2", "-c", "1")
      both = eventually("two workers") { pids.then { |all| all if all.size == 2 } }
      victim = both.first
      program.signal("TSTP")
      both.each { |pid| program.says(/ #{pid} INFO: quiet: /) }
      submit("reverse", "waits")
      Process.kill("KILL", victim)
      program.says(/pid #{victim} SIGKILL.*ended unexpectedly$/)
      sleep 0.5
      expect(counts("reverse").first(2)).to eq([1, 0])
      expect(program.stop).to eq(0)
    end

    it "are replaced ever later when they crash again and again" do
      program = started("-w", "1", "--max-jobs", "100", "-c", "1")
      Process.kill("KILL", call("pid").to_i)
      program.says(/another takes its place in 0\S* s/)
      Process.kill("KILL", call("pid").to_i)
      killed = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      program.says(/another takes its place in (?:0\.[7-9]|1\.[0-3]) s/)
      expect(call("reverse", "abc")).to eq("cba")
      expect(Process.clock_gettime(Process::CLOCK_MONOTONIC) - killed).to be > 0.7
    end

    it "are started later when they cannot be forked now" do
      code = file("code.rb", <<~RUBY)
        require #{definitions.inspect}
        Process.singleton_class.prepend(Module.new do
          def _fork
            @tries = @tries.to_i + 1
            raise [Errno::EAGAIN, Errno::ENOMEM][@tries - 1] if @tries < 3

            super
          end
        end)
      RUBY
      program = start_gearman_worker("-r", code, "-s", server.address, "-w", "1", "--max-jobs", "100")
      refused = "ERROR: a process cannot be started: "
      program.says(/#{refused}#{Errno::EAGAIN.new.message}; the next try is in 0 s$/)
      program.says(/#{refused}#{Errno::ENOMEM.new.message}; the next try is in (?:0\.[7-9]|1\.[0-3]) s$/)
      expect(call("reverse", "abc")).to eq("cba")
      expect(program.stop).to eq(0)
      expect(program.errors).not_to include("Errno")
    end

    it "tells of a TERM that ran out of time" do
      program = started("-w", "2", "-c", "1", "-t", "0.3")
      submit("slow", "60")
      running("slow")
      expect(program.stop).to eq(75)
      eventually("the job is back") { counts("slow") == [1, 0, 0] }
    end
  end

  it "starts a job server, too, if told to" do
    port = JobServers.free_port
    program = start_gearman_worker("-r", definitions, "--embedded", "-s", "127.0.0.1:#{port}")
    program.says(/jobs at once/)
    other = Gearman::Client.new("127.0.0.1:#{port}")
    expect(other.do_task(Gearman::Task.new("reverse", "abc"), JobServers::PATIENCE)).to eq("cba")
    other.close
    expect(program.stop).to eq(0)
  end

  it "warns of queues with jobs and no worker" do
    2.times { submit("forgotten") }
    submit("forgotten.dead")
    program = started("-C", file("gearman.yml", "queue_check: 1\n"))
    program.says(/WARN: queue forgotten has 2 jobs and no worker at #{server.address}; gearman-worker -q forgotten/)
    expect(program.stop).to eq(0)
  end

  it "calls what the configuration says around jobs and for errors" do
    code = file("code.rb", <<~RUBY)
      Gearman.configure do |config|
        config.around_job { |job, run| print("[a \#{job.func_name}"); run.call; print(" a]") }
        config.on_error { |error, context| puts("E: \#{error.message} \#{context.keys} \#{context[:handle]}") }
      end
      Gearman.worker do
        ability("fine") { |data, job| print(" \#{data}"); data }
        ability("boom") { |*| raise "bad" }
        around_job { |job, run| print(" [b"); run.call; print(" b]") }
        after_ability("fine") { |result, data| puts(" after \#{result}") }
      end
    RUBY
    program = start_gearman_worker("-r", code, "-s", server.address)
    expect(call("fine", "now")).to eq("now")
    program.says(/\[a fine \[b now b\] a\]/)
    program.says(/after now/)
    call("boom")
    program.says(/E: bad \[:job, :function, :handle, :unique\] H:/)
  end

  describe "systemd" do
    let(:path) { File.join(directory, "notify") }
    let(:environment) { { "NOTIFY_SOCKET" => path, "WATCHDOG_USEC" => "5000000" } }

    before do
      @socket = Socket.new(:UNIX, :DGRAM)
      @socket.bind(Addrinfo.unix(path, :DGRAM))
      @messages = Queue.new
      # As systemd does: who tells it something waits when nobody reads.
      @systemd = Thread.new { loop { @messages << @socket.recv(100) } }
    end

    after do
      @systemd.kill.join
      @socket.close
    end

    def message
      eventually("a message") { !@messages.empty? }
      @messages.pop
    end

    it "is told when the worker is ready, that it is alive, and when it begins to stop" do
      program = started(env: environment)
      expect(Array.new(2) { message }).to contain_exactly("READY=1", "WATCHDOG=1")
      submit("slow", "60")
      running("slow")
      program.signal("TERM")
      eventually("STOPPING=1") { message == "STOPPING=1" }
      expect(program.stop).to eq(75)
    end

    it "is told again and again that the worker is alive" do
      started(env: environment.merge("WATCHDOG_USEC" => "1000000"))
      expect(Array.new(4) { message }).to contain_exactly("READY=1", *["WATCHDOG=1"] * 3)
    end

    [%w[-w 1], %w[-w 2]].each do |arguments|
      it "is told that the worker is ready although no server is there (#{arguments.join(" ")})" do
        program = start_gearman_worker("-r", definitions, "-s", "127.0.0.1:#{JobServers.free_port}", *arguments,
                                       env: environment)
        expect(Array.new(2) { message }).to contain_exactly("READY=1", "WATCHDOG=1")
        expect(program.stop).to eq(0)
      end
    end
  end

  it "looks through dead letters" do
    letters = %w[dead list mail]
    expect(run_gearman_worker("-s", server.address, *letters))
      .to eq([0, "servers: #{server.address}\nmail: 0 jobs dead\n"])
  end
end
