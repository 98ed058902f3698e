# frozen_string_literal: true

require "net/http"

RSpec.describe "the Puma plugin", :newest, :rails_application, :process do
  let(:server) { start_gearmand }
  let(:port) { JobServers.free_port }
  let(:output) { File.join(root, "output") }

  before do
    write_application <<~RUBY
      routes.append do
        root to: (lambda do |env|
          NoteJob.perform_later(Process.pid, env["QUERY_STRING"].to_f)
          [200, {}, [Process.pid.to_s]]
        end)
      end
    RUBY
    write "config/environment.rb", <<~RUBY
      require_relative "application"

      class NoteJob < ActiveJob::Base
        def perform(pid, seconds)
          File.write(Rails.root.join("begun"), "x", mode: "a")
          sleep seconds
          File.write(Rails.root.join(job_id), "\#{pid} \#{Process.pid}")
          File.rename(Rails.root.join(job_id), Rails.root.join("note"))
        end
      end
      App.initialize!
    RUBY
    write "config.ru", "require_relative 'config/environment'\nrun Rails.application\n"
  end

  after do
    if @puma
      Process.kill("KILL", -@puma)
      Process.wait(@puma)
    end
  rescue Errno::ESRCH, Errno::ECHILD
    nil
  end

  # With this plugin or without, Puma at times hangs under Ruby 3.3 when it is to end or to restart: IO#close waits for
  # ever for the signal handler's write to Puma's own pipe (puma/puma#3677; puma/puma#3940 with its syswrite makes that
  # rarer). IO#close does not wait for write_nonblock.
  write_at_once = <<~RUBY
    require "puma/server"
    class Puma::Server
      private

      def notify_safely(message)
        @notify&.write_nonblock(message)
      rescue IOError, SystemCallError
        nil
      end
    end
  RUBY

  define_method(:start_puma) do |settings = ""|
    write "config/puma.rb", <<~RUBY
      plugin :gearman
      bind "tcp://127.0.0.1:#{port}"
      threads 1, 1
      #{settings}
      #{write_at_once if RUBY_VERSION >= "3.3"}
    RUBY
    @puma = spawn({ "RAILS_ENV" => "production", "GEARMAN_SERVERS" => server.address, "RAILS_MAX_THREADS" => "2" },
                  RbConfig.ruby, "-rbundler/setup", "-S", "puma", "-C", "config/puma.rb",
                  chdir: root, pgroup: true, in: File::NULL, %i[out err] => output)
  end

  # How many loops are registered for the queue: two for each process with a worker.
  def workers
    server.admin("status")[/^default\t\d+\t\d+\t(\d+)$/, 1].to_i
  end

  # How many connections are those of clients, without that which asks.
  def clients
    server.admin("workers").lines.grep(/^\d+ \S+ - :/).size - 1
  end

  # With what Puma says when it does not happen.
  def await(what, &condition)
    eventually(what, &condition)
  rescue RuntimeError => e
    raise "#{e.message}; Puma says:\n#{File.read(output)}\n#{log}"
  end

  def wait_for_workers(number)
    await("#{number} workers") { workers == number }
  end

  # Returns the process that enqueued it.
  def enqueue_job(seconds = 0)
    await("Puma to answer") do
      response = Net::HTTP.get_response("127.0.0.1", "/?#{seconds}", port)
      response.body.to_i if response.is_a?(Net::HTTPOK)
    rescue SystemCallError
      nil
    end
  end

  # The processes that enqueued and ran a job.
  def run_job
    FileUtils.rm_f(File.join(root, "note"))
    enqueue_job
    await("a job") { File.exist?(File.join(root, "note")) }
    File.read(File.join(root, "note")).split.map(&:to_i)
  end

  def stop_puma
    Process.kill("TERM", @puma)
    await("Puma to end") { Process.wait(@puma, Process::WNOHANG) }
    @puma = nil
  end

  it "runs jobs in a single Puma, and ends with it" do
    start_puma
    wait_for_workers(2)
    expect(run_job).to eq([@puma, @puma])
    stop_puma
    wait_for_workers(0)
    expect(File.read(output)).not_to match(/^warning|deprecat/i)
  end

  ["", "workers 1"].each do |setting|
    it "lets running jobs end #{setting.empty? ? "in a single Puma" : "in a cluster"}" do
      start_puma(setting)
      wait_for_workers(2)
      enqueue_job(1)
      await("the job to begin") { File.exist?(File.join(root, "begun")) }
      stop_puma

      expect(File.exist?(File.join(root, "note"))).to be(true)
      expect(server.admin("status")).to match(/^default\t0\t0\t0$/)
    end
  end

  it "lets running jobs end when Puma restarts itself, and runs others then" do
    start_puma
    wait_for_workers(2)
    enqueue_job(1)
    await("the job to begin") { File.exist?(File.join(root, "begun")) }
    Process.kill("USR2", @puma)
    await("the restart") { File.read(output).scan("Puma starting").size == 2 }
    expect(File.read(File.join(root, "begun"))).to eq("x")
    expect(File.exist?(File.join(root, "note"))).to be(true)
    wait_for_workers(2)
    expect(run_job).to eq([@puma, @puma])
  end

  # A preloaded application may have a connection when Puma forks.
  { "with preload_app!" => "preload_app!\nbefore_fork { Gearman.client.ping.compact.any? or raise 'no server' }",
    "without" => "preload_app! false" }.each do |name, setting|
    it "runs jobs in each worker of a cluster #{name}, and ends with them" do
      start_puma("workers 2\n#{setting}")
      wait_for_workers(4)
      enqueuers = Array.new(4) { Thread.new { Array.new(10) { enqueue_job } } }.flat_map(&:value).uniq
      expect(enqueuers.size).to eq(2)
      await("the jobs") { server.admin("status").match?(/^default\t0\t0\t/) }
      expect(File.read(File.join(root, "begun")).size).to eq(40)
      expect(clients).to be >= (name.include?("preload") ? 3 : 2) # the first process has one, too
      expect(run_job).to all(satisfy { |pid| pid != @puma })

      victim = run_job.last
      Process.kill("TERM", victim) # Puma starts another
      await("the worker to be replaced") { !File.exist?("/proc/#{victim}") }
      wait_for_workers(4)
      stop_puma
      wait_for_workers(0)
      expect(File.read(output)).not_to match(/^warning|deprecat/i)
    end
  end

  it "says why there is no worker, and serves requests" do
    write "config/gearman.yml", "queues: ['no such name']\n"
    start_puma
    enqueue_job
    await("a reason") { log.include?("the Puma plugin cannot start the worker") }
  end
end
