# frozen_string_literal: true

require_relative "bulk_submission"
require_relative "connection_pool"
require_relative "deprecated"
require_relative "job_status"
require_relative "logging"
require_relative "task"
require_relative "task_set"

module Gearman
  # Submits tasks to job servers. One client may be used by many threads, and by a forked child.
  #
  #   client = Gearman::Client.new(["10.0.0.1", "10.0.0.2:4730"])
  #   client.do_task(Gearman::Task.new("resize", image))            # => the result
  #   client.do_task(Gearman::BackgroundTask.new("mail", message))  # => nil, the server has it
  class Client
    include Clock
    include Logging

    # How many servers a task may find lost before it gives up.
    MAX_LOST = 16
    # Bytes of a handle or unique: gearmand does not answer what is longer.
    MAX_KEY_SIZE = 63
    private_constant :MAX_LOST, :MAX_KEY_SIZE

    # @return [Numeric, nil] seconds that a server may take to accept a task; then a {NetworkError} tells that nobody
    #   knows whether it has it
    attr_accessor :task_create_timeout_sec

    # Touches no network.
    #
    # @param job_servers [String, Symbol, Array<String, Symbol>, nil] "host", "host:port", "[IPv6]:port"; nil: those
    #   in the environment variable GEARMAN_SERVERS
    # @param tls [Hash, TLS, Boolean, nil] whether and how to speak TLS with them, see {TLS#initialize}
    # @param connect_timeout [Numeric] seconds that connecting to one of them may take
    # @raise [InvalidArgsError] when an address makes no sense, or what is said of TLS, or the time-out
    def initialize(job_servers = nil, tls: nil, connect_timeout: Connection::CONNECT_TIMEOUT)
      @connection_pool = ConnectionPool.new(job_servers || ConnectionPool.default_servers,
                                            tls: tls, connect_timeout: connect_timeout)
      @task_create_timeout_sec = 10
    end

    # Sets options on all servers, now and on every new connection.
    #
    # @param opts [String, Symbol, Array<String, Symbol>] "exceptions" is the only one that gearmand has
    # @return [Array<String>] the options
    # @raise [RefusedError] when a server does not have it
    # @raise [NoJobServersError] when no server can be reached
    def set_options(opts)
      Array(opts).map(&:to_s).each { |option| set_option(option) }
    end

    # Sets one option, see {#set_options}.
    #
    # @param option [String, Symbol]
    # @return [Array<Connection>] the servers that have it
    # @raise (see #set_options)
    def set_option(option)
      request = Packet.encode(:option_req, option.to_s)
      set = @connection_pool.with_all_connections do |connection|
        type, text = ask(connection, request)
        raise RefusedError.of_request(text) if type == :error
      end
      raise NoJobServersError, "no job server can be reached to set the option #{option}" if set.empty?

      @connection_pool.remember_option(option.to_s)
      set
    end

    # @!method do_task(task, timeout = nil, opts = nil)
    #   Runs a task and waits for it, unless it is a background or scheduled task.
    #   @overload do_task(task, timeout = nil)
    #     @param task [Task] its callbacks are called
    #     @param timeout [Numeric, nil] seconds; nil waits for ever
    #   @overload do_task(func, arg = "", opts = {})
    #     @deprecated As in gearman-ruby 3.0, with a warning; use a {Task}.
    #     @param func [String, Symbol]
    #     @param arg [Object]
    #     @param opts [Hash] see {Task#initialize}
    #   @return [String, nil] the result; nil when the task failed, the time-out passed, or nobody waits for it
    #   @raise [NoJobServersError, NetworkError, ProtocolError, InvalidArgsError] see {TaskSet#wait}

    # @!method submit_background(task)
    #   Submits one task that nobody waits for.
    #   @param task [Task]
    #   @return [void]
    #   @raise (see #do_task)
    #   @api private

    # Submits a task and waits for it, unless it is a background or scheduled task.
    #
    # @param task [Task]
    # @param reset_state [Boolean] whether to make the task as good as new
    # @param timeout [Numeric, nil] seconds; nil waits for ever
    # @return [true] also when the task failed
    # @raise [SocketTimeoutError] when the time-out passed
    # @raise [NoJobServersError, NetworkError, ProtocolError, InvalidArgsError] see {TaskSet#wait}
    def submit_job(task, reset_state = false, timeout = nil) # rubocop:disable Style/OptionalBooleanParameter
      task.reset_state if reset_state
      task_set = TaskSet.new(self)
      if timeout.nil? || timeout.positive? || task.background?
        task_set.add_task(task)
        task_set.wait(timeout)
        return true unless task_set.size.positive?
      end
      raise SocketTimeoutError, "#{task.func}: no result in #{timeout} seconds"
    ensure
      task_set&.give_up
    end

    # Submits many background or scheduled tasks, pipelined. A task without a unique gets one of its own, so
    # that equal tasks are several jobs.
    #
    # @param tasks [Enumerable<Task>]
    # @yieldparam ended [Integer] how many tasks have been answered, each time that some were
    # @yieldparam total [Integer]
    # @return [Array<String, nil>] the handles in the order of the tasks; nil where {Task#error} tells why not
    # @raise [InvalidArgsError] when somebody would wait for one of the tasks; none is submitted then
    # @raise [NetworkError] when a server was lost and nobody knows whether it has the {NetworkError#tasks};
    #   all others have been submitted
    def submit_all(tasks, &block)
      tasks = tasks.to_a
      tasks.each do |task|
        raise InvalidArgsError, "submit_all takes tasks, not #{task.inspect}" unless task.is_a?(Task)
        next if task.background?

        raise InvalidArgsError, "submit_all takes background and scheduled tasks; #{task.func} is neither"
      end
      BulkSubmission.new(self, tasks).run(&block)
    end

    # Asks the servers after a job.
    #
    # @param handle [String] of at most 63 bytes
    # @return [JobStatus]
    # @raise [InvalidArgsError] when the handle is too long
    # @raise [NoJobServersError] when no server can be reached
    def job_status(handle)
      find_status(:get_status, "handle", handle)
    end

    # Asks the servers after a job.
    #
    # @param unique [String] see {Task#get_uniq_hash}, of at most 63 bytes
    # @return [JobStatus]
    # @raise [InvalidArgsError] when the unique is too long
    # @raise [NoJobServersError] when no server can be reached
    def job_status_by_unique(unique)
      find_status(:get_status_unique, "unique", unique)
    end

    # Asks each server for an echo, which takes 3 seconds at most.
    #
    # @return [Hash{String => Float, nil}] how many seconds it took, by "host:port"; nil: no answer
    def ping
      @connection_pool.connections.to_h do |connection|
        start = now
        healthy = connection.is_healthy?
        [connection.to_host_port, healthy ? now - start : nil]
      end
    end

    # Tells a task what a packet says of it.
    #
    # @param task [Task]
    # @param type [Symbol] a work packet of {Packet::COMMANDS}
    # @param data [String] its body
    # @return [void]
    # @raise [ProtocolError] for any other packet
    def handle_response(task, type, data)
      _handle, one, other = Packet.split(type, data)
      submit_job(task) if task.receive(type, one, other) == :retry
    end

    # Closes all connections; the next call opens new ones.
    #
    # @return [void]
    def close
      @connection_pool.close
    end

    # Calls the block with the server for a task, and with the next when that one is lost before anything was
    # sent.
    #
    # @param task [Task]
    # @param deadline [Float, nil] until when a server is to be found, by the monotonic clock
    # @yieldparam connection [Connection]
    # @return what the block returns
    # @raise [NoJobServersError] when no server can be reached
    # @raise [ServerDownException] when one after the other is lost
    # @raise [SocketTimeoutError] when the deadline passed
    # @api private
    def with_connection_for(task, deadline = nil)
      lost = 0
      begin
        yield @connection_pool.get_connection(task.get_uniq_hash, remaining(deadline))
      rescue ServerDownException => e
        count_lost(lost += 1, task, e)
        retry
      end
    end

    # @return [Boolean] whether all tasks go to the same server
    # @api private
    def one_server?
      @connection_pool.one_server?
    end

    # Anything that stands in for a connection is asked this one thing.
    #
    # @return [String] the handle
    # @api private
    def submit_by_request(connection, task, timeout)
      type, body = connection.send_request(task.get_submit_packet, timeout)
      return body if type == :job_created

      if type == :error
        code, text = body.to_s.split("\0", 2)
        raise RefusedError.of_task(code, text, task.func)
      end

      raise ProtocolError, "Received #{type} when we were expecting JOB_CREATED: #{body.to_s.tr("\0", " ")}"
    end

    private

    # Returns when a task that was not sent is to go to another connection.
    def submission_failed(task, error, lost)
      raise NetworkError.in_doubt([error.message], [task]) unless error.is_a?(ServerDownException)

      count_lost(lost, task, error)
    end

    def count_lost(lost, task, error)
      raise error if lost > MAX_LOST

      logger.info { "#{task.func} goes to another connection: #{error.message}" }
    end

    def find_status(command, name, key)
      raise InvalidArgsError, "a #{name} is a String, not #{key.inspect}" unless key.is_a?(String)
      if key.bytesize > MAX_KEY_SIZE
        raise InvalidArgsError, "a #{name} has at most #{MAX_KEY_SIZE} bytes, not #{key.bytesize}: #{key.inspect}"
      end

      request = Packet.encode(command, key)
      status = nil
      asked = @connection_pool.with_all_connections do |connection|
        next if status&.known?

        type, body = connection.exchange(request, task_create_timeout_sec)
        raise ProtocolError, "#{connection.to_host_port}: #{body.tr("\0", " ")}" if type == :error

        status = JobStatus.new(*Packet.split(type, body).drop(1))
      end
      raise NoJobServersError, "no job server can be reached to ask after #{key}" if asked.empty? || status.nil?

      status
    end

    def ask(connection, request)
      return connection.exchange(request, task_create_timeout_sec) if connection.respond_to?(:exchange)

      connection.send_request(request)
    end
  end
end
