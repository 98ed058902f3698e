# frozen_string_literal: true

RSpec.describe "Spring", :newest, :rails_application, :process do
  let(:server) { start_gearmand }
  # Its processes must find the bundle, and leave no socket where others look for theirs.
  let(:environment) do
    { "GEARMAN_SERVERS" => server.address, "RUBYOPT" => "-rbundler/setup", "SPRING_TMP_PATH" => root }
  end

  before do
    write_application "config.cache_classes = false"
    write "bin/rails", "APP_PATH = File.expand_path('../config/application', __dir__)\nrequire 'rails/commands'\n"
    # Who forks has a connection of its own, and has talked on it.
    write "config/environment.rb", <<~RUBY
      require_relative "application"
      App.initialize!
      Gearman.client.ping
      $ancestor = Process.pid
      class SpringJob < ActiveJob::Base; end
    RUBY
  end

  after do
    write "go", "" # for processes that an example left behind
    spring("stop")
  end

  def spring(*arguments)
    run_ruby(Gem.bin_path("spring", "spring"), *arguments, env: environment)
  end

  # The connections that the server has, but the one that asks.
  def connections
    server.admin("workers").lines.size - 2
  end

  it "forks what submits jobs, each process on a connection of its own" do
    code = <<~RUBY
      jobs = [SpringJob.perform_later]
      File.write("ready-\#{Process.pid}", "")
      sleep 0.01 until File.exist?("go")
      jobs += Array.new(49) { SpringJob.perform_later }
      known = jobs.count { |job| Gearman.client.job_status_by_unique(job.provider_job_id).known? }
      puts "found " + [$ancestor, Process.pid, known].join(" ")
    RUBY
    spring("rails", "runner", "true") # commands that start its server at the same time may wait for ever
    commands = Array.new(3) { Thread.new { spring("rails", "runner", code) } }
    eventually("three processes", patience: 60) { Dir.glob("ready-*", base: root).size == 3 }
    expect(connections).to eq(4) # with that of the process which they are forked from
    write "go", ""

    outputs = commands.map(&:value)
    expect(outputs.map(&:last)).to eq([0, 0, 0]), outputs.join("\n")
    ancestors, pids, known = outputs.map { |text, _| text[/^found (.*)$/, 1].split.map(&:to_i) }.transpose
    expect([*pids, *ancestors].uniq.size).to eq(4)
    expect(known).to eq([50, 50, 50])
  end
end
