# frozen_string_literal: true

# rubocop:disable Style/OneClassPerFile -- one program, which Sidekiq and gearman-worker load

# The job libraries behind one interface; the programs in this folder use one of them, by name.

require "logger"
require "rails"
require "active_job/railtie"

# The application that jobs run in, as in production. It logs warnings alone: what is compared is the libraries, not how
# much they log.
class Application < Rails::Application
  config.root = __dir__
  config.eager_load = false
  config.enable_reloading = false
  config.secret_key_base = "benchmark"
  config.logger = Logger.new($stderr)
  config.log_level = :warn
end

# ActiveJob with nothing behind it.
class DropAdapter
  def enqueue(_job); end
  def enqueue_at(_job, _timestamp); end
  def enqueue_all(jobs) = jobs.each { |job| job.successfully_enqueued = true }.size
  def enqueue_after_transaction_commit? = false
  def stopping? = false
end

module Contestants
  # No transport: the price of ActiveJob itself.
  module Floor
    module_function

    def load_library; end

    def version = "ActiveJob #{ActiveJob.version} alone"

    def set_up(_port, _queue)
      Application.initialize!
      ActiveJob::Base.queue_adapter = DropAdapter.new
    end
  end

  # Sidekiq and a Redis server.
  module Sidekiq
    module_function

    def version = "Sidekiq #{::Sidekiq::VERSION}, redis-client #{::RedisClient::VERSION}"

    def load_library
      require "sidekiq"
      require "sidekiq/rails"
    end

    def set_up(port, queue)
      load_library
      Application.initialize!
      redis = { url: "redis://127.0.0.1:#{port}/0" }
      %i[configure_client configure_server].each do |side|
        ::Sidekiq.public_send(side) do |config|
          config.redis = redis
          config.logger.level = Logger::WARN
        end
      end
      ActiveJob::Base.queue_adapter = :sidekiq
      @queue = queue
      Object.const_set(:PlainJob, Class.new do
        include ::Sidekiq::Job

        def perform(_text) = Measure.job_done
      end)
    end

    def push(text) = ::Sidekiq::Client.push("class" => PlainJob, "args" => [text], "queue" => @queue)

    def push_bulk(texts)
      ::Sidekiq::Client.push_bulk("class" => PlainJob, "args" => texts.map { |text| [text] }, "queue" => @queue)
    end
  end

  # This library and gearmand.
  module GearmanNative
    module_function

    def version = "gearman-native #{::Gearman::VERSION}"

    def load_library = require("gearman")

    def set_up(port, queue)
      load_library
      Application.initialize!
      ::Gearman.configure do |config|
        config.servers = "127.0.0.1:#{port}"
        config.log_level = :warn
      end
      ActiveJob::Base.queue_adapter = :gearman
      @queue = queue
    end

    def define(function)
      ::Gearman.worker { ability(function) { |_data, _job| Measure.job_done } }
    end

    def push(text) = ::Gearman.client.do_task(::Gearman::BackgroundTask.new(@queue, text))

    def push_bulk(texts)
      ::Gearman.client.submit_all(texts.map { |text| ::Gearman::BackgroundTask.new(@queue, text) })
    end
  end

  BY_NAME = { "no transport" => Floor, "sidekiq" => Sidekiq, "gearman-native" => GearmanNative }.freeze
end

# A job of ActiveJob that does nothing.
class EmptyJob < ActiveJob::Base
  def perform(_number, _text)
    Measure.job_done
  end
end

# Takes the time between the end of the warm-up and the last job.
module Measure
  @done = 0
  @lock = Mutex.new

  module_function

  def wall = Process.clock_gettime(Process::CLOCK_MONOTONIC)
  def cpu = Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID)
  def objects = GC.stat(:total_allocated_objects)

  # The file gets the line of results when the last job is done.
  def plan(warmup, jobs, file)
    @warmup = warmup
    @last = warmup + jobs
    @file = file
  end

  def begin
    @objects = objects
    @wall = wall
    @cpu = cpu
  end

  def result(jobs)
    values = { cpu: cpu - @cpu, seconds: wall - @wall, objects: objects - @objects, jobs: jobs }
    values.map { |name, value| "#{name}=#{value}" }.join(" ")
  end

  # Called in each job, which may be in any thread.
  def job_done
    @lock.synchronize do
      @done += 1
      self.begin if @done == @warmup
      if @done == @last
        line = result(@last - @warmup)
        File.write("#{@file}.part", line)
        File.rename("#{@file}.part", @file)
      end
    end
    ""
  end
end
# rubocop:enable Style/OneClassPerFile
