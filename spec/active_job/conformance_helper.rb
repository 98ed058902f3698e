# frozen_string_literal: true

require "fileutils"
require "json"
require "tmpdir"

# The application of the conformance spec, in this process, with gearmand and gearman-worker processes beside it.
module ApplicationSide
  PROJECT = File.expand_path("../..", __dir__)
  # Seconds that booting Rails may take.
  BOOT = 60

  class << self
    attr_reader :root, :server

    # Once a process: Rails has one application.
    def boot
      return if @root

      @root = Dir.mktmpdir("conformance")
      owner = Process.pid
      at_exit { FileUtils.rm_rf(@root) if Process.pid == owner }
      FileUtils.cp_r(File.join(__dir__, "application/."), @root)
      @server = JobServers::Gearmand.start
      ENV.update("RAILS_ENV" => "test", "GEARMAN_SERVERS" => @server.address)
      require File.join(@root, "config/environment")
      create_tables
    end

    # The entries of the journal with these values.
    def journal(**wanted)
      path = File.join(root, "journal")
      return [] unless File.exist?(path)

      lines = File.readlines(path).select { |line| line.end_with?("\n") }
      lines.map { |line| JSON.parse(line, symbolize_names: true) }.select { |entry| wanted <= entry }
    end

    private

    def create_tables
      ActiveRecord::Migration.verbose = false
      ActiveRecord::Schema.define do
        create_table :active_storage_blobs do |t|
          t.string :key, :filename, null: false
          t.string :content_type, :service_name, :checksum
          t.text :metadata
          t.bigint :byte_size, null: false
          t.datetime :created_at, null: false
        end
        create_table :active_storage_attachments do |t|
          t.string :name, :record_type, null: false
          t.bigint :record_id, :blob_id, null: false
          t.datetime :created_at, null: false
        end
        create_table :active_storage_variant_records do |t|
          t.bigint :blob_id, null: false
          t.string :variation_digest, null: false
        end
      end
    end
  end

  # A gearman-worker process.
  class Runner
    attr_reader :pid

    def initialize(root, server, queues, concurrency:, environment:)
      @queues = queues
      @server = server
      @log = File.join(root, "runner-#{queues.first}-#{rand(1 << 32)}.log")
      command = [RbConfig.ruby, *WORKER, "-r", "config/environment.rb", "-s", server.address, "-c", concurrency.to_s,
                 "-t", "10", "-e", environment, *queues.flat_map { |queue| ["-q", queue] }]
      @pid = spawn({ "RAILS_ENV" => nil, "GEARMAN_SERVERS" => nil }, *command, chdir: root, in: File::NULL,
                                                                               %i[out err] => @log)
    end

    WORKER = [File.join(PROJECT, "exe/gearman-worker")].freeze

    # Waits until it serves its queues.
    def ready
      JobServers.eventually("a worker for #{@queues.join(", ")}", patience: BOOT) do
        raise "gearman-worker has ended:\n#{output}" if ended?

        @queues.all? { |queue| serving?(queue) }
      end
      self
    end

    def output
      File.read(@log)
    end

    def signal(name)
      Process.kill(name, pid)
    end

    # How it ended: a Process::Status.
    def wait
      JobServers.eventually("the end of gearman-worker") { ended? }
      @status
    end

    # Its exit status after SIGTERM.
    def stop
      signal("TERM") unless ended?
      wait.exitstatus
    rescue RuntimeError
      signal("KILL")
      raise
    end

    def kill
      signal("KILL") unless ended?
      wait
    end

    private

    def ended?
      @status ||= Process.wait2(pid, Process::WNOHANG)&.last
    end

    def serving?(queue)
      line = @server.admin("status").lines.find { |row| row.start_with?("#{queue}\t") }
      line && Integer(line.split("\t").last).positive?
    end
  end

  # What examples call.
  module Helpers
    def server
      ApplicationSide.server
    end

    def root
      ApplicationSide.root
    end

    def journal(...)
      ApplicationSide.journal(...)
    end

    # The entry of the journal with these values, once it is there.
    def recorded(**wanted)
      JobServers.eventually("#{wanted} in the journal") { journal(**wanted).first }
    end

    def boot_runner(*queues, concurrency: 1, environment: "production")
      Runner.new(root, server, queues, concurrency: concurrency, environment: environment)
    end

    # How many jobs a function has, those that run included.
    def jobs_in(function)
      line = server.admin("status").lines.find { |row| row.start_with?("#{function}\t") }
      line ? Integer(line.split("\t")[1]) : 0
    end

    # Whether this is Rails of that version, or newer.
    def rails?(version)
      Gem::Version.new(Rails::VERSION::STRING) >= Gem::Version.new(version)
    end
  end
end

RSpec.configure do |config|
  config.before(:context, :application) { ApplicationSide.boot }
  config.include ApplicationSide::Helpers, :application
  config.after(:suite) { ApplicationSide.server&.stop }
end
