# frozen_string_literal: true

require "English"
require "fileutils"
require "tmpdir"
require "timeout"

# A Rails application in a folder of its own, booted by processes that are started here, for specs tagged
# :rails_application.
module RailsApplication
  PROJECT = File.expand_path("../..", __dir__)
  # Seconds that a program may take.
  LIMIT = 60
  COMMAND = File.join(PROJECT, "exe/gearman-worker")
  ENVIRONMENT = %w[APP_ENV RACK_ENV GEARMAN_SERVERS].to_h { |name| [name, nil] }.merge("RAILS_ENV" => "test").freeze

  def root
    @root ||= File.realpath(Dir.mktmpdir("application"))
  end

  def write(path, text)
    path = File.join(root, path)
    FileUtils.mkdir_p(File.dirname(path))
    File.write(path, text)
  end

  # @param settings [String] for the class of the application
  def write_application(settings = "")
    write "config/application.rb", <<~RUBY
      require "logger"
      require "rails"
      require "action_controller/railtie"
      require "active_job/railtie"
      require "gearman-native"

      class App < Rails::Application
        config.root = File.expand_path("..", __dir__)
        config.eager_load = true
        config.secret_key_base = "secret"
        config.active_job.queue_adapter = :gearman
        config.logger = Logger.new(File.join(config.root, "log"))
        #{settings}
      end
    RUBY
    write "config/environment.rb", "require_relative 'application'\nApp.initialize!\n"
  end

  # What the application has logged.
  def log
    File.read(File.join(root, "log"))
  end

  # Runs a Ruby program of the bundle to its end. Returns what it printed, with its standard error if it failed, and
  # its status.
  def run_ruby(*arguments, env: {}, directory: root)
    command = [ENVIRONMENT.merge(env), RbConfig.ruby, "-rbundler/setup", *arguments]
    output = IO.popen([*command, { chdir: directory, in: File::NULL, err: errors, pgroup: true }]) do |io|
      Timeout.timeout(LIMIT) { io.read }
    rescue Timeout::Error
      Process.kill("KILL", -io.pid)
      raise
    end
    output << File.read(errors) unless $CHILD_STATUS.success?
    [output, $CHILD_STATUS.exitstatus]
  end

  def gearman_worker(*arguments, **options)
    run_ruby(COMMAND, *arguments, **options)
  end

  # Runs gearman-worker until it has said something. Yields the match and all that it said so far.
  def worker_says(pattern, *arguments, env: {})
    IO.popen([ENVIRONMENT.merge(env), RbConfig.ruby, "-rbundler/setup", COMMAND, *arguments,
              { chdir: root, in: File::NULL, err: errors }]) do |io|
      output = +""
      output << (io.gets || raise("no #{pattern.inspect}:\n#{output}#{File.read(errors)}")) until pattern.match?(output)
      yield pattern.match(output), output
    ensure
      Process.kill("TERM", io.pid)
      io.read
    end
  end

  # Where their standard error goes: RubyGems may warn there.
  def errors
    File.join(root, "errors")
  end
end

RSpec.configure do |config|
  config.include RailsApplication, :rails_application
  config.before(:each, :rails_application) { write_application }
  config.after(:each, :rails_application) { FileUtils.rm_rf(root) }
end
