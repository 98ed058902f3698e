# frozen_string_literal: true

# gearman-worker in the folder of a Rails application.
RSpec.describe "gearman-worker in Rails", :rails_application, :process do
  it "looks for dead letters at the servers of the application" do
    server = start_gearmand
    write "config/gearman.yml", "servers: <%= Rails.application.config.x.server %>\n"
    write_application "config.x.server = #{server.address.inspect}"
    expect(gearman_worker("dead", "list", "mail")).to eq(["servers: #{server.address}\nmail: 0 jobs dead\n", 0])
  end

  it "serves the queues of Rails where it is told no others" do
    write_application
    expect(gearman_worker("--check", "-s", "127.0.0.1:1").first).to start_with("queue default\nqueue mailers\nserver ")
    write_application "config.active_job.queue_name_prefix = 'app'"
    expect(gearman_worker("--check", "-s", "127.0.0.1:1").first)
      .to start_with("queue app_default\nqueue app_mailers\nserver ")
    write_application <<~RUBY
      require "action_mailer/railtie"
      config.action_mailer.deliver_later_queue_name = :letters
      config.active_job.default_queue_name = :usual
    RUBY
    expect(gearman_worker("--check", "-s", "127.0.0.1:1").first)
      .to start_with("queue usual\nqueue letters\nqueue mailers\nserver ")
  end

  it "is generated as bin/gearman-worker, which works in any folder" do
    server = start_gearmand
    write "config/boot.rb", 'require "bundler/setup"'
    expect(run_ruby("-e", <<~RUBY).last).to eq(0)
      require "./config/environment"
      require "rails/generators"
      Rails::Generators.invoke("gearman:install", ["--quiet"], destination_root: Dir.pwd)
    RUBY
    write "config/gearman.yml", "servers: #{server.address}\nqueues: [critical]\n"
    checked = [/\Aqueue critical\nserver #{server.address}: version \S+\n\z/, 0]
    expect(run_ruby("bin/gearman-worker", "--check")).to match(checked)
    expect(run_ruby("#{root}/bin/gearman-worker", "--check", directory: "/")).to match(checked)
  end

  it "logs to its standard output, and not to the logger of Rails" do
    worker_says(/INFO: servers: /, "-s", "127.0.0.1:1") { |said, _| expect(said).to be_truthy }
    expect(File.read(File.join(root, "log"))).not_to include("servers: ")
  end

  it "logs to the logger that the application chose, and to no other" do
    write_application <<~RUBY
      config.gearman.logger = config.logger = Logger.new($stdout, formatter: ->(*, text) { "mine: \#{text}\\n" })
    RUBY
    worker_says(/^mine: servers: 127.0.0.1:1$/, "-s", "127.0.0.1:1") do |_, output|
      expect(output.lines).to all(start_with("mine: "))
    end
    code = "require './config/environment'; Gearman.logger.info('servers')"
    expect(run_ruby("-e", code)).to eq(["mine: servers\n", 0])
  end

  it "ends with status 64 when the settings of the application make no sense, and says where they stand" do
    write "config/gearman.yml", "concurency: 1\n"
    expect(gearman_worker).to match([%r{^gearman-worker: \S+config/\S+: \S+config/gearman.yml: .*"concurency"}, 64])
    FileUtils.rm(File.join(root, "config/gearman.yml"))
    write_application "config.gearman.concurrency = 0"
    expect(gearman_worker)
      .to match([%r{^gearman-worker: \S+config/application.rb:\d+: concurrency is a whole .*, not 0$}, 64])
  end

  it "leaves a logger that the application chose before it was initialized" do
    write_application "Gearman.logger = LOGGER = Logger.new(nil)"
    code = "require './config/environment'; p Gearman.logger.equal?(App::LOGGER)"
    expect(run_ruby("-e", code)).to eq(["true\n", 0])
  end

  it "reads the section of the file that the application reads, and says so in its first line" do
    write "config/gearman.yml", <<~YAML
      servers: 127.0.0.1:1
      staging: { servers: "127.0.0.1:2" }
      production: { servers: "127.0.0.1:3" }
    YAML
    both = { "APP_ENV" => "staging", "RAILS_ENV" => "production" }
    expect(servers_of_application(both)).to eq("127.0.0.1:3")
    expect(servers_of_worker(both)).to eq(["127.0.0.1:3", "production"])
    app_env = { "APP_ENV" => "staging", "RAILS_ENV" => nil }
    expect(servers_of_application(app_env)).to eq("127.0.0.1:1")
    expect(servers_of_worker(app_env)).to eq(["127.0.0.1:1", "development"])
    expect(servers_of_worker(both, "-e", "staging")).to eq(["127.0.0.1:2", "staging"])
  end

  def servers_of_application(environment)
    code = "require './config/environment'; print(*Gearman.configuration.servers)"
    run_ruby("-e", code, env: environment).first
  end

  # The servers, and the name of the environment.
  def servers_of_worker(environment, *arguments)
    worker_says(/servers: (\S+)/, *arguments, env: environment) do |said, output|
      [said[1], output[/, (\w+)$/, 1]]
    end
  end
end
