# frozen_string_literal: true

require_relative "deprecated"
require_relative "errors"
require_relative "logging"
require_relative "task"
require_relative "task_set/engine"

module Gearman
  # Tasks that run at once. A background or scheduled task goes to a server in {#add_task}; the others go
  # together in {#wait}, to all servers, and their callbacks are called as the answers come; those of quick jobs are
  # collected for some milliseconds, as each wake costs more than an answer.
  class TaskSet
    include Logging

    # Seconds that a server may be silent until it is asked after a task.
    #
    # @api private
    PATIENCE = 10
    private_constant :Engine

    # @!method initialize(client)
    #   @param client [Client]

    # @!method add_task(task, arg = nil, opts = nil)
    #   Adds a task. One that nobody waits for is submitted now, unless no server can be reached: then it stays
    #   in the set and {#wait} submits it.
    #   @overload add_task(task)
    #     @param task [Task]
    #   @overload add_task(func, arg = "", opts = {})
    #     @deprecated As in gearman-ruby 3.0, with a warning; use a {Task}.
    #     @param func [String, Symbol]
    #     @param arg [Object]
    #     @param opts [Hash] see {Task#initialize}
    #   @return [true]
    #   @raise [InvalidArgsError] when the task cannot be sent
    #   @raise [RefusedError] when the server refuses it
    #   @raise [NetworkError] when nobody knows whether the server has the task: it was lost, talked nonsense, or did
    #     not answer within {Client#task_create_timeout_sec}; {NetworkError#tasks} is the task
    #   @raise [SocketTimeoutError] when it was not sent within that time

    # @!method wait(timeout = 1)
    #   Submits the tasks and waits until all have ended.
    #   @param timeout [Numeric, nil] seconds; nil waits for ever, 0 submits what the sockets take, and
    #     takes what has come
    #   @note An exception that another thread or a trap raises (Timeout, Thread#raise) may come in the place of a
    #     callback. No task is submitted twice for that.
    #   @return [Boolean] false when a foreground task failed, or the time-out passed: the tasks stay in the
    #     set then, and the next call reads on
    #   @raise [NoJobServersError] when no server can be reached; the tasks stay in the set
    #   @raise [NetworkError] when a server was lost and nobody knows whether it has run its tasks: they have
    #     left the set, {NetworkError#tasks} are they, and those on other servers have ended
    #   @raise [RefusedError] when a server refuses a task, which has left the set

    # Waits without a time-out.
    #
    # @return (see #wait)
    # @raise (see #wait)
    def wait_forever
      wait(nil)
    end

    # @!method size
    #   @return [Integer] how many tasks have not ended

    # @!method give_up
    #   Gives the tasks that have not ended up. What servers still send about them disturbs nobody.
    #   @return [void]

    # @!attribute [r] last_result
    #   @return [String, nil] the result of the task that completed last
    #   @api private

    private

    def submitted_alone?(client, task)
      client.submit_background(task)
      true
    rescue NoJobServersError => e
      logger.warn { "#{task.func} stays in its task set: #{e.message}" }
      false
    end
  end
end
