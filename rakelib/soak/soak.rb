# frozen_string_literal: true

require "English"
require "logger"
require "rbconfig"
require "socket"
require "tmpdir"

$LOAD_PATH.unshift(File.expand_path("../../lib", __dir__))
require "gearman"

# What a worker costs in the long run.
class Soak
  ROOT = File.expand_path("../..", __dir__)
  # Jobs until the memory has its size.
  WARM = 10_000
  # Jobs that are in the queue at least, and that a feeder submits at once.
  AHEAD = 20_000
  BATCH = 5_000
  # How much the memory may differ in the end: KiB, beside 5 %.
  ALLOWED = 4096
  # CPU seconds a minute.
  IDLE = 0.1
  DOWN = 0.5

  def initialize(out: $stdout)
    @out = out
    Gearman.logger = Logger.new(nil)
  end

  # @return [Boolean] whether the resident memory stays as it is behind the first jobs
  def flat?(jobs, seconds)
    with_gearmand do |address|
      feeder = fork { feed(address) }
      begin
        sizes = worker_sizes(address, jobs, seconds)
      ensure
        Process.kill("KILL", feeder)
        Process.wait(feeder)
      end
      first = sizes.first.last
      worst = sizes.map(&:last).max
      @out.puts "#{first} KiB behind #{sizes.first.first} jobs, #{sizes.last.last} KiB behind #{sizes.last.first}, " \
                "#{worst} KiB at most"
      worst <= (first * 1.05) + ALLOWED
    end
  end

  # @return [Boolean] whether waiting costs no more CPU time than allowed
  def idle?(seconds)
    with_gearmand do |address|
      idle = cpu_of_waiting([address], seconds)
      down = cpu_of_waiting(%w[127.77.2.1:4730 127.77.2.2:4730], seconds)
      @out.puts format("CPU in %<seconds>d s: %<idle>.3f s idle, %<down>.3f s with two servers down",
                       seconds: seconds, idle: idle, down: down)
      idle <= IDLE * seconds / 60 && down <= DOWN * seconds / 60
    end
  end

  private

  def with_gearmand
    port = Socket.tcp_server_sockets("127.0.0.1", 0) { |sockets| break sockets.first.local_address.ip_port }
    gearmand = spawn("gearmand", "--listen=127.0.0.1", "--port=#{port}", "--log-file=none",
                     %i[in out err] => File::NULL)
    begin
      sleep 0.05 until answers?(port)
      yield "127.0.0.1:#{port}"
    ensure
      Process.kill("KILL", gearmand)
      Process.wait(gearmand)
    end
  end

  def answers?(port)
    TCPSocket.new("127.0.0.1", port).close
    true
  rescue Errno::ECONNREFUSED
    false
  end

  # Keeps the queue filled, until it is killed.
  def feed(address)
    client = Gearman::Client.new(address)
    server = Gearman::Server.new(address)
    submitted = 0
    loop do
      queue = server.status.fetch("soak", { queue: "0" }).fetch(:queue).to_i
      next sleep(0.01) if queue > AHEAD

      tasks = Array.new(BATCH) { |i| Gearman::Task.new("soak", "x" * 64, background: true, uniq: (submitted + i).to_s) }
      client.submit_all(tasks)
      submitted += BATCH
    end
  end

  # [jobs, KiB] behind the first jobs and 50 times from then on, measured in a process of its own.
  def worker_sizes(address, jobs, seconds)
    reader, writer = IO.pipe
    pid = fork do
      reader.close
      measure_worker(address, jobs, seconds, writer)
      exit!(true)
    end
    writer.close
    sizes = reader.each_line.map { |line| line.split.map(&:to_i) }
    Process.wait(pid)
    raise "the worker ended behind #{sizes.last.inspect}" unless $CHILD_STATUS.success? && sizes.size > 1

    sizes
  end

  def measure_worker(address, jobs, seconds, writer)
    done = 0
    due = WARM
    finish = clock(:MONOTONIC) + seconds
    worker = Gearman::Worker.new(address, prefetch: 16)
    worker.add_ability("soak") do |data|
      if (done += 1) == due
        due = [due + (jobs / 50), jobs].min
        writer.puts "#{done} #{resident}"
        worker.stop if done >= jobs || clock(:MONOTONIC) > finish
      end
      data
    end
    worker.work
  end

  # CPU seconds of a gearman-worker process with five threads, from two seconds behind its start on.
  def cpu_of_waiting(servers, seconds)
    Dir.mktmpdir("gearman-soak") do |folder|
      report = File.join(folder, "report")
      worker = spawn({ "REPORT" => report, "SECONDS" => seconds.to_s }, RbConfig.ruby, "-I", File.join(ROOT, "lib"),
                     File.join(ROOT, "exe/gearman-worker"), "-r", File.join(__dir__, "waiting.rb"), "-c", "5",
                     *servers.flat_map { |server| ["-s", server] }, %i[in out err] => File::NULL)
      begin
        await_registration(servers.first) if servers.one?
        sleep 0.1 until File.exist?(report) || Process.wait(worker, Process::WNOHANG)
        Float(File.read(report))
      ensure
        Process.kill("TERM", worker)
        Process.wait(worker)
      end
    end
  end

  def await_registration(address)
    server = Gearman::Server.new(address)
    100.times do
      return if server.status.dig("soak", :workers).to_i == 5

      sleep 0.1
    end
    raise "five threads are to wait for jobs"
  end

  def clock(name) = Process.clock_gettime(Process.const_get("CLOCK_#{name}"))

  # KiB of memory that this process has resident.
  def resident = Integer(`ps -o rss= -p #{Process.pid}`)
end
