# frozen_string_literal: true

require "securerandom"

module Gearman
  # Many background tasks on their way to the servers, pipelined: see {Client#submit_all}.
  #
  # @api private
  class BulkSubmission
    # Tasks that may be in flight at once.
    WINDOW = 4096
    # Bytes that may wait to be sent before answers are read.
    UNSENT = 64 * 1024
    # Tasks that are queued before the bytes are counted.
    STEP = 64
    private_constant :WINDOW, :UNSENT, :STEP

    # @param client [Client]
    # @param tasks [Array<Task>]
    def initialize(client, tasks)
      @client = client
      @tasks = tasks
      @waiting = tasks.dup
      @next = 0
      @ended = 0
      @in_doubt = []
      @reasons = []
      # Unique to the submission and counted on: a random unique for each task would cost more than sending it.
      @prefix = "#{SecureRandom.hex(12)}-"
    end

    # @yieldparam ended [Integer]
    # @yieldparam total [Integer]
    # @return [Array<String, nil>] the handles
    def run
      @loop = TaskLoop.new(TaskSet::PATIENCE, @client.task_create_timeout_sec)
      while @ended < @tasks.size
        submit_some
        dispatch(@loop.run(nil)) if @loop.open.positive?
        yield @ended, @tasks.size if block_given?
      end
      raise NetworkError.in_doubt(@reasons, @in_doubt) if @in_doubt.any?

      @tasks.map(&:handle)
    ensure
      @loop&.release
    end

    private

    def submit_some
      while @next < @waiting.size && @loop.open < WINDOW && @loop.unsent < UNSENT
        limit = [@next + STEP, @waiting.size].min
        while @next < limit
          submit(@waiting[@next], @next)
          @next += 1
        end
      end
    end

    def submit(task, number)
      task.error = nil
      task.unique_or { @prefix + number.to_s }
      @client.with_connection_for(task) { |connection| @loop.submit(connection, task, nil) }
    rescue InvalidArgsError, NoJobServersError => e
      ended_with(task, e)
    end

    def ended_with(task, error)
      task.error = error
      @ended += 1
    end

    def dispatch(events)
      position = 0
      while position < events.size
        task = events[position + 1]
        case events[position]
        when :job_created
          @ended += 1
          task.handle_created(events[position + 2])
        when :error
          ended_with(task, ProtocolError.new("#{events[position + 2]} #{events[position + 3]} (#{task.func})"))
        when :unsent
          events[position + 3].lost
          @waiting << task
        when :lost
          @ended += 1
          @reasons |= [events[position + 2]]
          @in_doubt << task
        end
        position += 4
      end
    end
  end
end
