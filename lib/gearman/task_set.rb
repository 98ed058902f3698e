# frozen_string_literal: true

module Gearman
  # Tasks that run at once. A background or scheduled task goes to a server in {#add_task}; the others go
  # together in {#wait}, to all servers, and their callbacks are called as the answers come.
  class TaskSet
    include Logging

    # Bytes that may wait to be sent before answers are read.
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
      @successful = true
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
    # @raise [ProtocolError] when the server refuses it
    # @raise [NetworkError] when the server was lost and nobody knows whether it has the task
    # @raise [SocketTimeoutError] when it did not answer within {Client#task_create_timeout_sec}
    def add_task(task, arg = nil, opts = nil)
      task, = Deprecated.task_of(:add_task, task, arg, opts) unless task.is_a?(Task)
      return true if task.background? && submitted_alone?(task)

      (@waiting ||= []) << task
      true
    end

    # Submits the tasks and waits until all have ended.
    #
    # @param timeout [Numeric, nil] seconds; nil waits for ever, 0 submits and takes what has come
    # @return [Boolean] false when a foreground task failed, or the time-out passed: the tasks stay in the
    #   set then, and the next call reads on
    # @raise [NoJobServersError] when no server can be reached; the tasks stay in the set
    # @raise [NetworkError] when a server was lost and nobody knows whether it has run its tasks: they have
    #   left the set, {NetworkError#tasks} are they, and those on other servers have ended
    # @raise [ProtocolError] when a server refuses a task, which has left the set
    def wait(timeout = 1)
      deadline = timeout && (now + timeout)
      dispatch
      until idle?
        submit_waiting(deadline)
        break if idle?
        return false if in_flight.zero? || !(@events = @loop.run(remaining(deadline)))

        @position = 0
        dispatch
        return false if deadline && now >= deadline && !idle?
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
      (@waiting ? @waiting.size : 0) + in_flight
    end

    # Gives the tasks that have not ended up. What servers still send about them disturbs nobody.
    #
    # @return [void]
    def give_up
      @loop&.release
      @loop = @waiting = @events = nil
    end

    private

    def now
      Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end

    def remaining(deadline)
      deadline && [deadline - now, 0].max
    end

    def idle?
      @events.nil? && size.zero?
    end

    def submitted_alone?(task)
      @client.submit_background(task)
      true
    rescue NoJobServersError => e
      logger.warn { "#{task.func} stays in its task set: #{e.message}" }
      false
    end

    def submit_waiting(deadline)
      while @waiting && (task = @waiting.first) && (@loop.nil? || @loop.unsent < WINDOW)
        begin
          submit(task, deadline)
          @waiting.shift
        rescue NoJobServersError
          raise if in_flight.zero?

          return # collect first what the others owe
        rescue SocketTimeoutError
          return # too little time left to connect
        rescue InvalidArgsError, ProtocolError, NetworkError
          @waiting.shift
          @loop.release if @loop && in_flight.zero?
          raise
        end
      end
    end

    def in_flight
      @loop ? @loop.open : 0
    end

    def submit(task, deadline)
      @client.with_connection_for(task) do |connection|
        unless connection.is_a?(Connection)
          return task.handle_created(@client.submit_by_request(connection, task, remaining(deadline)))
        end

        @loop ||= TaskLoop.new(PATIENCE, @client.task_create_timeout_sec)
        @loop.submit(connection, task, remaining(deadline))
      end
    end

    # An exception out of a callback leaves the events behind it for the next wait.
    def dispatch
      while @events && (position = @position) < @events.size
        @position += EVENT_SIZE
        receive(@events[position], @events[position + 1], @events[position + 2], @events[position + 3])
      end
      @events = nil
    end

    def receive(event, task, one, other)
      case event
      when :unsent
        other.lost
        (@waiting ||= []) << task
      when :lost
        @successful = false
        (@in_doubt ||= []) << task
        @reasons = (@reasons || []) | [one]
      when :error
        @successful = false
        raise ProtocolError, "Received error when we were expecting JOB_CREATED: #{one} #{other} (#{task.func})"
      else
        @last_result = one if event == :work_complete
        settle(task, task.receive(event, one, other))
      end
    end

    def settle(task, state)
      case state
      when :retry then (@waiting ||= []) << task
      when :ended then @successful = false unless task.background? || task.successful
      end
    end

    def finish
      @loop&.release
      @loop = nil
      successful = @successful
      @successful = true
      raise_doubt if @in_doubt
      logger.warn { "a task of the set has failed" } unless successful
      successful
    end

    def raise_doubt
      tasks = @in_doubt
      reasons = @reasons
      @in_doubt = @reasons = nil
      raise NetworkError.in_doubt(reasons, tasks)
    end
  end
end
