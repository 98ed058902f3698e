# frozen_string_literal: true

require "securerandom"
require_relative "held_tasks"
require_relative "task"
require_relative "task_set"

module Gearman
  # Many background tasks on their way to the servers, pipelined: see {Client#submit_all}.
  #
  # @api private
  class BulkSubmission
    # Tasks that a server may have in flight at once.
    WINDOW = 4096
    # Bytes that may wait to be sent to a server before its next task has to wait.
    UNSENT = 64 * 1024
    private_constant :WINDOW, :UNSENT

    # @param client [Client]
    # @param tasks [Array<Task>]
    def initialize(client, tasks)
      @client = client
      @tasks = tasks
      @waiting = tasks.dup
      @held = HeldTasks.new
      @number = 0
      @in_doubt = []
      @reasons = {}
      # Unique to the submission and counted on: a random unique for each task would cost more than sending it. With six
      # digits it is as long as a String may be that Ruby keeps in the object itself.
      @prefix = "#{SecureRandom.urlsafe_base64(12)}-"
    end

    # @yieldparam ended [Integer]
    # @yieldparam total [Integer]
    # @return [Array<String, nil>] the handles
    def run
      @waiting.each do |task|
        task.error = nil
        task.unique_or { @prefix + (@number += 1).to_s }
      end
      @loop = TaskLoop.new(TaskSet::PATIENCE, @client.task_create_timeout_sec, WINDOW)
      told = 0
      while ended < @tasks.size
        more = submit_some
        dispatch(@loop.run(more ? 0 : nil)) unless @loop.over?
        yield told = ended, @tasks.size if block_given? && ended > told
      end
      raise NetworkError.in_doubt(@reasons.keys, @in_doubt) if @in_doubt.any?

      @tasks.map { |task| task.handle unless task.error }
    ensure
      @loop&.release
    end

    private

    def ended
      @tasks.size - @waiting.size - @held.size - @loop.open
    end

    # Returns true when there may be more to submit at once.
    def submit_some
      @held.release(@waiting) { |connection, tasks| submit_to(connection, tasks, true) }
      held = 0
      until @waiting.empty?
        submitted = submit(@waiting.first)
        return unless submitted
        return true if submitted == :held && (held += 1) == HeldTasks::AT_ONCE
      end
    end

    # With the first task all the others that are to go to the same server for sure. Returns false when there is no room
    # for them, :held when the task is held back.
    def submit(task)
      one_server = @client.one_server?
      @client.with_connection_for(task) do |connection|
        next true if submit_to(connection, @waiting, one_server)
        next false if one_server

        @held.hold(connection, @waiting)
        :held
      end
    rescue InvalidArgsError, NoJobServersError => e
      @waiting.shift.error = e
    end

    def submit_to(connection, tasks, all)
      @loop.submit(connection, tasks, nil, UNSENT, all)
    rescue InvalidArgsError => e
      tasks.shift.error = e
    end

    def dispatch(events)
      position = 0
      while events && position < events.size
        task = events[position + 1]
        case events[position]
        when :job_created then task.handle_created(events[position + 2])
        when :error then task.error = RefusedError.of_task(events[position + 2], events[position + 3], task.func)
        when :unsent
          @waiting << task
          events[position + 3].lost
        when :lost
          events[position + 3]&.lost # nil: of this task alone the server knows nothing
          @reasons[events[position + 2]] = true
          @in_doubt << task
        end
        position += 4
      end
      events&.clear
    end
  end
end
