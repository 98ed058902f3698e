# frozen_string_literal: true

require "English"
require "json"
require "open3"
require "socket"

# Each example has an application of its own, which boots in a process of its own.
RSpec.describe "Gearman in Rails", :rails_application, :process do
  # Runs Ruby code behind the boot. Returns what it printed, its errors, and its status.
  def try_in_application(code, env: {}, boot: 'require "./config/environment"')
    env = { "RAILS_ENV" => "test", "GEARMAN_SERVERS" => nil, **env }
    Open3.capture3(env, RbConfig.ruby, "-rbundler/setup", "-e", "#{boot}\n#{code}", chdir: root, stdin_data: "")
  end

  def in_application(...)
    output, errors, status = try_in_application(...)
    raise output + errors unless status.success?

    output.lines(chomp: true)
  end

  it "takes each setting from the last of application, initializer, file and environment that has it" do
    write_application "config.gearman.concurrency = 1; config.gearman.tag = 'application'; config.gearman.processes = 1"
    write "config/initializers/gearman.rb", <<~RUBY
      Gearman.configure { |c| c.concurrency = c.processes = c.prefetch = 2 }
    RUBY
    write "config/gearman.yml", <<~YAML
      concurrency: <%= 1 + 2 %>
      prefetch: 3
      test:
        prefetch: 4
      production:
        prefetch: 5
    YAML

    expect(in_application("c = Gearman.configuration; p [c.tag, c.processes, c.concurrency, c.prefetch, c.servers]",
                          env: { "RAILS_MAX_THREADS" => "7", "GEARMAN_SERVERS" => "127.0.0.1:1" }))
      .to eq(['["application", 2, 7, 4, ["127.0.0.1:1"]]'])
  end

  it "takes settings from the application's configuration at once, wherever they are written" do
    write_application <<~RUBY
      config.gearman.tag = "application"
      puts Gearman.configuration.tag
    RUBY
    write "config/environments/test.rb", "Rails.application.configure { config.gearman.prefetch = 3 }\n"
    write "config/initializers/gearman.rb", "Rails.application.config.gearman.tag = 'initializer'\n"

    expect(in_application("p [Gearman.configuration.tag, Gearman.configuration.prefetch]"))
      .to eq(["application", '["initializer", 3]'])
  end

  it "calls the blocks of the application's configuration around jobs and for errors" do
    server = start_gearmand
    write_application <<~RUBY
      config.gearman.around_job { |job, run| puts "around \#{job.func_name}"; run.call }
      config.gearman.on_error { |error, context| puts "\#{error.message} in \#{context[:function]}" }
    RUBY
    output = in_application(<<~RUBY, env: { "GEARMAN_SERVERS" => server.address })
      Gearman.worker { ability("bad") { raise "no good" } }
      launcher = Gearman::Runner::Launcher.new.start
      Gearman.client.do_task(Gearman::Task.new("bad", ""), 20)
      launcher.stop(10)
    RUBY

    expect(output).to eq(["around bad", "no good in bad"])
  end

  it "refuses to boot with settings that make no sense, or that there are not, and tells where" do
    write_application "config.gearman.concurrency = 0"
    expect(try_in_application("")[1])
      .to match(%r{concurrency is a whole number from 1 to 1000, not 0.*config/application\.rb:\d+}m)
    write_application "config.gearman.concurency = 1"
    expect(try_in_application("")[1]).to match(%r{config/application\.rb:\d+.*undefined method .concurency=.}m)
  end

  it "makes the client of the file's settings, also when an initializer has used it before" do
    write "config/initializers/gearman.rb", "Gearman.client\n"
    write "config/gearman.yml", "servers: 127.0.0.1:1\n"
    expect(in_application("p Gearman.client.job_servers")).to eq(['["127.0.0.1:1"]'])
  end

  it "leaves a client that an initializer has set" do
    write "config/initializers/gearman.rb", "Gearman.client = Gearman::Client.new('127.0.0.1:2')\n"
    write "config/gearman.yml", "servers: 127.0.0.1:1\n"
    expect(in_application("p Gearman.client.job_servers")).to eq(['["127.0.0.1:2"]'])
  end

  it "reads config/gearman.yml.erb where there is no config/gearman.yml" do
    write "config/gearman.yml.erb", "tag: <%= 'with' %>-erb\n"
    expect(in_application("puts Gearman.configuration.tag")).to eq(["with-erb"])
    write "config/gearman.yml", "tag: without\n"
    expect(in_application("puts Gearman.configuration.tag")).to eq(["without"])
  end

  it "refuses to boot with a file that makes no sense" do
    write "config/gearman.yml", "concurency: 1\n"
    _, errors, status = try_in_application("")

    expect(errors).to include("config/gearman.yml: there is no setting \"concurency\"")
    expect(status).not_to be_success
  end

  it "connects to nothing until the first job is enqueued" do
    listener = TCPServer.new("127.0.0.1", 0)
    address = "127.0.0.1:#{listener.addr[1]}"
    in_application("Gearman.client; App.config.active_job; ActiveJob::Base.queue_adapter",
                   env: { "GEARMAN_SERVERS" => address })

    expect { listener.accept_nonblock }.to raise_error(IO::WaitReadable)
    output, = try_in_application(<<~RUBY, env: { "GEARMAN_SERVERS" => address })
      class J < ActiveJob::Base; def perform; end; end
      made = Gearman::Client.method(:new)
      Gearman::Client.define_singleton_method(:new) { |*arguments, **options| puts "made"; made.call(*arguments, **options) }
      puts "booted"
      Timeout.timeout(1) { J.perform_later }
    RUBY
    expect(output.lines(chomp: true)).to eq(%w[booted made])
    expect(listener.accept_nonblock).to be_a(TCPSocket)
  ensure
    listener.close
  end

  it "does not mind which of the two is loaded first" do
    write_application "config.gearman.tag = 'found'"
    code = "puts Gearman.configuration.tag, ActiveJob::Base.queue_adapter.class"
    found = ["found", "ActiveJob::QueueAdapters::GearmanAdapter"]

    expect(in_application(code)).to eq(found)
    expect(in_application(code, boot: 'require "gearman"; require "./config/environment"')).to eq(found)
    expect(in_application(code, boot: 'require "gearman-native"; require "active_job"; require "./config/environment"'))
      .to eq(found)
  end

  it "logs to Rails.logger, and what its events say" do
    in_application(<<~RUBY)
      raise "not the logger" unless Gearman.logger.equal?(Rails.logger)
      notify = ActiveSupport::Notifications.method(:instrument)
      notify.call("enqueue.gearman", unique: "u1", function: "default", handle: "H:1")
      notify.call("perform_job.gearman", unique: "u2", function: "gr\\u00F6\\u00DFe", exception: ["KeyError", "\\xFF".b])
      notify.call("shutdown.gearman", finished: false)
    RUBY

    expect(log).to match(/DEBUG -- : Gearman has u1 in default \(H:1\)/)
    expect(log).to match(/DEBUG -- : Gearman job u2 of größe took [\d.]+ ms and raised KeyError: \\xFF$/)
    expect(log).to match(/INFO -- : Gearman worker stopped in [\d.]+ s, with jobs that will be run again/)
  end

  it "listens to no job where nothing would be logged of it" do
    write_application "config.log_level = :info"
    names = %w[perform_job enqueue shutdown].map { |event| "#{event}.gearman" }

    expect(in_application("puts #{names}.map { |name| ActiveSupport::Notifications.notifier.listening?(name) }"))
      .to eq(%w[false false true])
  end

  it "runs functions and jobs within Rails' executor and reloader, each once, and tells of lost servers and the end" do
    server = start_gearmand
    output = in_application(<<~RUBY, env: { "GEARMAN_SERVERS" => server.address })
      runs = Hash.new(0)
      Rails.application.executor.to_run { runs[:executor] += 1 }
      Rails.application.reloader.check = -> { true } # as if a file changed before each job
      Rails.application.reloader.to_run { runs[:reloader] += 1 }
      Rails.application.executor.singleton_class.prepend(Module.new do # which the reloader calls
        define_method(:wrap) { |*arguments, **options, &block| (runs[:wrap] += 1) && super(*arguments, **options, &block) }
      end)
      class J < ActiveJob::Base; def perform(runs = nil) = $jobs << :job; end
      $jobs = Queue.new
      Gearman.worker { ability("plain") { |data, _| $jobs << :plain; data } }
      %w[shutdown connection_lost].each do |event|
        ActiveSupport::Notifications.subscribe("\#{event}.gearman") { |*, payload| puts "\#{event} \#{payload.keys.sort}" }
      end
      launcher = Gearman::Runner::Launcher.new.start
      Gearman.client.do_task(Gearman::Task.new("plain", "x"), 20)
      puts $jobs.pop, runs
      J.perform_later
      puts $jobs.pop, runs
      Process.kill("KILL", #{server.pid})
      Timeout.timeout(20) { sleep 0.01 until launcher.worker.connected_servers.empty? }
      sleep 0.2
      p launcher.stop(10)
    RUBY

    once, twice = [1, 2].map { |times| { wrap: times, executor: times, reloader: times }.to_s }
    expect(output.first(4)).to eq(["plain", once, "job", twice])
    expect(output.grep(/connection_lost/).uniq).to eq(["connection_lost [:reason, :server]"])
    expect(log).to include("lost a job server")
    expect(output.last(2)).to eq(["shutdown [:finished]", "true"])
  end

  it "has a rake task that is gearman-worker" do
    server = start_gearmand
    write "Rakefile", "require_relative 'config/application'\nApp.load_tasks\n"
    pid = spawn({ "RAILS_ENV" => "test", "GEARMAN_SERVERS" => server.address, "GEARMAN_WORKER_OPTIONS" => "-q rare" },
                RbConfig.ruby, "-rbundler/setup", "-S", "rake", "gearman:work",
                chdir: root, in: File::NULL, %i[out err] => File.join(root, "out"))

    eventually("a worker") { server.admin("status").match?(/^rare\t0\t0\t[1-9]/) }
    Process.kill("TERM", pid)
    expect(Process.wait2(pid).last.exitstatus).to eq(0)
  end

  it "is installed by a generator, which may run twice" do
    write "Procfile.dev", "web: bin/rails server\n"
    write "config/environments/production.rb", <<~RUBY
      Rails.application.configure do
        # config.active_job.queue_adapter = :resque
      end
    RUBY
    write "config/environments/development.rb", "Rails.application.configure do\nend\n"
    generate = <<~RUBY
      require "rails/generators"
      Rails::Generators.invoke("gearman:install", ["--force"], destination_root: Dir.pwd)
    RUBY
    2.times { in_application(generate) }

    line = "  config.active_job.queue_adapter = :gearman\n"
    %w[production development].each do |name|
      expect(File.read(File.join(root, "config/environments/#{name}.rb")))
        .to eq("Rails.application.configure do\n#{line}end\n").or eq("Rails.application.configure do\n#{line}\nend\n")
    end
    expect(File.read(File.join(root, "Procfile.dev"))).to eq("web: bin/rails server\ngearman: bin/gearman-worker\n")
    expect(File.executable?(File.join(root, "bin/gearman-worker"))).to be(true)
    expect(in_application("p Gearman.configuration.concurrency")).to eq(["5"]) # the file and the initializer make sense
  end
end
