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

  after { spring("stop") }

  def spring(*arguments)
    run_ruby(Gem.bin_path("spring", "spring"), *arguments, env: environment)
  end

  it "forks what submits jobs, each process on a connection of its own" do
    code = <<~RUBY
      jobs = Array.new(50) { |number| SpringJob.perform_later(number) }
      known = jobs.count { |job| Gearman.client.job_status_by_unique(job.provider_job_id).known? }
      puts [$ancestor, Process.pid, known].join(" ")
    RUBY
    output, status = spring("rails", "runner", code)
    expect(status).to eq(0), output
    outputs = Array.new(3) { Thread.new { spring("rails", "runner", code).first } }.map(&:value)
    found = [output, *outputs].map { |text| text[/^\d+ \d+ \d+$/].split.map(&:to_i) }
    ancestors, pids, known = found.transpose
    expect(ancestors.uniq.size).to eq(1)
    expect([*pids, ancestors.first].uniq.size).to eq(5)
    expect(known).to eq([50] * 4)
    expect(server.admin("status")).to start_with("default\t200\t")
  end
end
