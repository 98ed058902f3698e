# frozen_string_literal: true

require_relative "clock"
require_relative "deprecated"
require_relative "errors"
require_relative "held_tasks"
require_relative "logging"
require_relative "task"

module Gearman
  # Tasks that run at once. A background or scheduled task goes to a server in {#add_task}; the others go
  # together in {#wait}, to all servers, and their callbacks are called as the answers come; those of quick jobs are
  # collected for some milliseconds, as each wake costs more than an answer.
  class TaskSet
    include Logging
    include Clock

    # Bytes that may wait to be sent to a server before its next task has to wait.
    WINDOW = 64 * 1024
    # Seconds that a server may be silent until it is asked after a task.
    #
    # @api private
    PATIENCE = 10
    # Elements of an event of {TaskLoop#run}.
    EVENT_SIZE = 4
    private_constant :WINDOW, :EVENT_SIZE

    # @return [String, nil] the result of the task that completed last
    # @api private
    attr_reader :last_result

    # @param client [Client]
    def initialize(client)
      @client = client
      @waiting = @last_result = nil # a single task that completes needs no other variable, and none is made
    end

    # Adds a task. One that nobody waits for is submitted now, unless no server can be reached: then it stays
    # in the set and {#wait} submits it.
    #
    # @overload add_task(task)
    #   @param task [Task]
    # @overload add_task(func, arg = "", opts = {})
    #   @deprecated As in gearman-ruby 3.0, with a warning; use a {Task}.
    #   @param func [String, Symbol]
    #   @param arg [Object]
    #   @param opts [Hash] see {Task#initialize}
    # @return [true]
    # @raise [InvalidArgsError] when the task cannot be sent
    # @raise [RefusedError] when the server refuses it
    # @raise [NetworkError] when nobody knows whether the server has the task: it was lost, talked nonsense, or did not
    #   answer within {Client#task_create_timeout_sec}; {NetworkError#tasks} is the task
    # @raise [SocketTimeoutError] when it was not sent within that time
    def add_task(task, arg = nil, opts = nil)
      task, = Deprecated.task_of(:add_task, task, arg, opts) unless task.is_a?(Task)
      return true if task.background? && submitted_alone?(task)

      (@waiting ||= []) << task
      true
    end

    # Submits the tasks and waits until all have ended.
    #
    # @param timeout [Numeric, nil] seconds; nil waits for ever, 0 submits what the sockets take, and
    #   takes what has come
    # @note An exception that another thread or a trap raises (Timeout, Thread#raise) may come in the place of a
    #   callback. No task is submitted twice for that.
    # @return [Boolean] false when a foreground task failed, or the time-out passed: the tasks stay in the
    #   set then, and the next call reads on
    # @raise [NoJobServersError] when no server can be reached; the tasks stay in the set
    # @raise [NetworkError] when a server was lost and nobody knows whether it has run its tasks: they have
    #   left the set, {NetworkError#tasks} are they, and those on other servers have ended
    # @raise [RefusedError] when a server refuses a task, which has left the set
    def wait(timeout = 1)
      deadline = timeout && (now + timeout)
      dispatch if @events
      run_alone(deadline) if @loop.nil? && @waiting&.size == 1
      while pending?
        more = submit_waiting(deadline)
        return false unless something_happened?(more ? now : deadline) || more

        dispatch
        return false if deadline && now >= deadline && pending?
      end
      finish
    end

    # Waits without a time-out.
    #
    # @return (see #wait)
    # @raise (see #wait)
    def wait_forever
      wait(nil)
    end

    # @return [Integer] how many tasks have not ended
    def size
      (@waiting ? @waiting.size : 0) + (@held ? @held.size : 0) + in_flight
    end

    # Gives the tasks that have not ended up. What servers still send about them disturbs nobody.
    #
    # @return [void]
    def give_up
      release_loop if @loop
      @waiting = nil
      @held = nil if @held
      @events = nil if @events
    end

    private

    def pending?
      waiting? || (@loop && !@loop.over?) || @held&.size&.positive?
    end

    def submitted_alone?(task)
      @client.submit_background(task)
      true
    rescue NoJobServersError => e
      logger.warn { "#{task.func} stays in its task set: #{e.message}" }
      false
    end

    # A set of one needs no loop if its task just completes. One that could not be submitted is left to those who look
    # for another server.
    def run_alone(deadline)
      task = @waiting.first
      connection = @client.connection_for(task, deadline)
      return unless connection.is_a?(Connection)

      limit = @client.task_create_timeout_sec
      result = TaskLoop.call(connection, @waiting, PATIENCE, limit, remaining(deadline)) { |loop| @loop = loop }
    rescue NoJobServersError
      raise
    rescue Error
      raise unless @waiting.first.equal?(task) # what interrupts the wait may be of any class
    else
      completed(task, result) if result
    end

    # Returns true when there may be more to submit at once.
    def submit_waiting(deadline)
      submit_held(deadline) if @held
      held = 0
      while waiting?
        task = @waiting.first
        submitted = with_connection_for(task, deadline) do |connection|
          connection.is_a?(Connection) ? submit(connection, deadline) : submit_by_request(connection, task, deadline)
        end
        return unless submitted
        return true if submitted == :held && (held += 1) == HeldTasks::AT_ONCE

        task.handle_created(submitted) if submitted.is_a?(String)
      end
    end

    def submit_held(deadline)
      @held.release(@waiting ||= []) do |connection, tasks|
        @loop.submit(connection, tasks, remaining(deadline), WINDOW, true)
      rescue InvalidArgsError
        tasks.shift
        raise
      rescue SocketTimeoutError
        nil # there may be time for those of others
      end
    end

    # Returns what the block does; nil when there is no server now, or too little time left to connect.
    def with_connection_for(task, deadline, &block)
      @client.with_connection_for(task, deadline, &block)
    rescue NoJobServersError
      raise if @loop.nil? || @loop.over? # otherwise what the others owe is collected first
    rescue SocketTimeoutError
      nil
    rescue InvalidArgsError, ProtocolError, NetworkError
      @waiting.shift
      @loop.release if @loop && in_flight.zero?
      raise
    end

    def waiting?
      @waiting && !@waiting.empty?
    end

    def in_flight
      @loop ? @loop.open : 0
    end

    # Submits the first task that waits, and with it all the others that are to go to the same server for sure.
    def submit(connection, deadline)
      @loop ||= TaskLoop.new(PATIENCE, @client.task_create_timeout_sec)
      one_server = @client.one_server?
      return true if @loop.submit(connection, @waiting, remaining(deadline), WINDOW, one_server)
      return if one_server

      (@held ||= HeldTasks.new).hold(connection, @waiting)
      :held
    end

    def submit_by_request(connection, task, deadline)
      handle = @client.submit_by_request(connection, task, remaining(deadline))
      @waiting.shift
      handle
    end

    # Also when there is room to submit more.
    def something_happened?(deadline)
      return false unless @loop

      @position = 0
      @events = @loop.run(remaining(deadline), true)
      @events && (!@events.empty? || in_flight.positive?)
    end

    # An exception out of a callback leaves the events behind it for the next wait.
    def dispatch
      while @events && (position = @position) < @events.size
        @position += EVENT_SIZE
        receive(@events[position], @events[position + 1], @events[position + 2], @events[position + 3])
      end
      @events&.clear # the loop returns it until then
      @events = nil
    end

    def receive(event, task, one, other)
      case event
      when :work_complete then completed(task, one)
      when :unsent
        (@waiting ||= []) << task
        other.lost
      when :lost
        other&.lost # nil: of this task alone the server knows nothing
        @failed = true
        (@in_doubt ||= []) << task
        (@reasons ||= {})[one] = true # there may be as many as tasks
      when :error
        @failed = true
        raise RefusedError.of_task(one, other, task.func)
      else
        settle(task, task.receive(event, one, other))
      end
    end

    def completed(task, result)
      task.handle_completion(result)
      @last_result = result
      @failed = true unless task.successful
    end

    def settle(task, state)
      case state
      when :retry then (@waiting ||= []) << task
      when :ended then @failed = true unless task.successful || task.background?
      end
    end

    def finish
      release_loop if @loop
      failed = @failed
      @failed = false if failed
      raise_doubt if @in_doubt
      logger.warn { "a task of the set has failed" } if failed
      !failed
    end

    def release_loop
      @loop.release
      @loop = nil
    end

    def raise_doubt
      tasks = @in_doubt
      reasons = @reasons
      @in_doubt = @reasons = nil
      raise NetworkError.in_doubt(reasons.keys, tasks)
    end
  end
end
