# frozen_string_literal: true

require_relative "../clock"
require_relative "../errors"
require_relative "../held_tasks"
require_relative "../logging"

module Gearman
  class TaskSet
    # Runs the tasks of a set over all servers.
    #
    # @api private
    class Engine
      include Logging
      include Clock

      # Bytes that may wait to be sent to a server before its next task has to wait.
      WINDOW = 64 * 1024
      # Elements of an event of {TaskLoop#run}.
      EVENT_SIZE = 4
      private_constant :WINDOW, :EVENT_SIZE

      # @return [String, nil] the result of the task that completed last
      attr_reader :last_result

      # @param client [Client]
      # @param waiting [Array<Task>] to be submitted; the set adds to them
      def initialize(client, waiting)
        @client = client
        @waiting = waiting
        @loop = @held = @events = @failed = @in_doubt = @last_result = nil
      end

      # Takes over what has become of a task that ran alone.
      #
      # @param loop [TaskLoop, nil] that goes on with it
      # @param failed [Boolean] whether it has failed
      # @return [Boolean] false when the engine has a loop that is to end first
      def adopt(loop, failed)
        @failed ||= failed
        return false unless loop.nil? || @loop.nil? || @loop.equal?(loop)

        @loop ||= loop
        true
      end

      # Submits and waits until all tasks have ended.
      #
      # @param deadline [Float, nil] by the monotonic clock
      # @return [Boolean]
      # @raise (see TaskSet#wait)
      def wait_until(deadline)
        dispatch if @events
        while pending?
          more = submit_waiting(deadline)
          return false unless something_happened?(more ? now : deadline) || more

          dispatch
          return false if deadline && now >= deadline && pending?
        end
        finish
      end

      # @return [Integer] how many tasks have not ended
      def size
        @waiting.size + (@held ? @held.size : 0) + in_flight
      end

      # Gives the tasks that have not ended up.
      #
      # @return [void]
      def give_up
        release_loop if @loop
        @waiting.clear
        @held = @events = nil
      end

      private

      def pending?
        !@waiting.empty? || (@loop && !@loop.over?) || @held&.size&.positive?
      end

      # Returns true when there may be more to submit at once.
      def submit_waiting(deadline)
        submit_held(deadline) if @held
        held = 0
        until @waiting.empty?
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
        @held.release(@waiting) do |connection, tasks|
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
          @waiting << task
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
        when :retry then @waiting << task
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
end
