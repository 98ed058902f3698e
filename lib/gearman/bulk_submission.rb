# frozen_string_literal: true

require "securerandom"
require_relative "task"
require_relative "task_set"

module Gearman
  # Many background tasks on their way to the servers, pipelined: see {Client#submit_all}.
  #
  # @api private
  class BulkSubmission
    # Tasks that may be in flight at once.
    WINDOW = 4096
    # Bytes that may wait to be sent before answers are read.
    UNSENT = 64 * 1024
    private_constant :WINDOW, :UNSENT

    # @param client [Client]
    # @param tasks [Array<Task>]
    def initialize(client, tasks)
      @client = client
      @tasks = tasks
      @waiting = tasks.dup
      @number = 0
      @in_doubt = []
      @reasons = []
      # Unique to the submission and counted on: a random unique for each task would cost more than sending it.
      @prefix = "#{SecureRandom.hex(12)}-"
    end

    # @yieldparam ended [Integer]
    # @yieldparam total [Integer]
    # @return [Array<String, nil>] the handles
    def run
      @waiting.each do |task|
        task.error = nil
        task.unique_or { @prefix + (@number += 1).to_s }
      end
      @loop = TaskLoop.new(TaskSet::PATIENCE, @client.task_create_timeout_sec, true)
      while ended < @tasks.size
        submit_some
        dispatch(@loop.run(nil)) if @loop.open.positive?
        yield ended, @tasks.size if block_given?
      end
      raise NetworkError.in_doubt(@reasons, @in_doubt) if @in_doubt.any?

      @tasks.map { |task| task.handle unless task.error }
    ensure
      @loop&.release
    end

    private

    def ended
      @tasks.size - @waiting.size - @loop.open
    end

    def submit_some
      submit(@waiting.first) until @waiting.empty? || @loop.open >= WINDOW || @loop.unsent >= UNSENT
    end

    # With the first task all the others that are to go to the same server for sure.
    def submit(task)
      @client.with_connection_for(task) do |connection|
        @loop.submit(connection, @waiting, nil, @client.one_server? ? UNSENT : 0)
      end
    rescue InvalidArgsError, NoJobServersError => e
      @waiting.shift.error = e
    end

    def dispatch(events)
      position = 0
      while position < events.size
        task = events[position + 1]
        case events[position]
        when :job_created then task.handle_created(events[position + 2])
        when :error then task.error = RefusedError.of_task(events[position + 2], events[position + 3], task.func)
        when :unsent
          @waiting << task
          events[position + 3].lost
        when :lost
          @reasons |= [events[position + 2]]
          @in_doubt << task
        end
        position += 4
      end
      events.clear
    end
  end
end
