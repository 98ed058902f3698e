# frozen_string_literal: true

require "timeout"
require "gearman/worker/ability"
require "gearman/worker/callbacks"
require "gearman/worker/job"

module Gearman
  # Runs jobs, one at a time.
  #
  #   worker = Gearman::Worker.new("localhost:4730")
  #   worker.add_ability("reverse") { |data, job| data.reverse }
  #   worker.work
  class Worker
    include Logging
    include Callbacks

    # What a job's error is answered with.
    #
    # @api private
    class Failure
      # @return [String] the message
      attr_reader :payload
      # @return [SystemExit, nil] what ends the worker behind the answer
      attr_reader :reraise

      # @param payload [String]
      # @param reraise [SystemExit, nil]
      def initialize(payload, reraise = nil)
        @payload = payload
        @reraise = reraise
      end
    end

    # Seconds between tries of a server, at most.
    RETRY_LIMIT = 2
    # Jobs that one worker may hold, at most.
    MAX_PREFETCH = 1000
    # Seconds between looks at answers that are held back.
    HELD_CHECK = 0.002
    private_constant :RETRY_LIMIT, :MAX_PREFETCH, :HELD_CHECK

    # @return [String] what the servers list the worker as
    attr_accessor :client_id
    # @return [Numeric] seconds between tries of a server that cannot be reached, at most
    attr_accessor :reconnect_sec
    # @return [Numeric] seconds that a server may take to answer
    attr_accessor :network_timeout_sec
    # @return [Integer] how many jobs {#work} holds at most: the running one, and those it has asked for ahead
    attr_reader :prefetch
    # @return [Boolean] whether {#work} goes on
    attr_reader :worker_enabled
    # @return [Symbol] :preparing, :working or :waiting
    attr_accessor :status

    # Touches no network.
    #
    # @param job_servers [String, Symbol, Array<String, Symbol>, nil] "host", "host:port", "[IPv6]:port"; nil: those
    #   in the environment variable GEARMAN_SERVERS
    # @param opts [Hash] `client_id:` (default: 30 random letters), `reconnect_sec:` (30),
    #   `network_timeout_sec:` (10), `prefetch:` (1): see the attributes. With a prefetch of more than 1, small
    #   jobs go several times as fast, and jobs wait behind a long one that another worker could have. `tls:`
    #   (nil): whether and how to speak TLS with the servers, see {TLS#initialize}
    # @raise [InvalidArgsError] when an address, the prefetch or what is said of TLS makes no sense
    def initialize(job_servers = nil, opts = {})
      @abilities = {}
      @retired = {}
      @withdrawals = nil
      @client_id = opts[:client_id] || generate_id
      @network_timeout_sec = opts[:network_timeout_sec] || 10
      @reconnect_sec = opts[:reconnect_sec] || 30
      @prefetch = prefetch_of(opts[:prefetch] || 1)
      @status = :preparing
      @worker_enabled = true
      @working = @closing = false
      @regrab = false
      @connectors = {}.compare_by_identity
      @connection_pool = ConnectionPool.new(job_servers || ConnectionPool.default_servers, tls: opts[:tls])
      @connection_pool.on_connection { |connection| register(connection) }
      open_wake_pipe
    end

    # Whether {#work} goes on. Set to false, from any thread or a trap, it makes {#work} return as soon as the
    # running job is answered.
    #
    # @param enabled [Boolean]
    def worker_enabled=(enabled)
      @worker_enabled = enabled
      wake
    end

    # @return [String] 30 random letters
    def generate_id
      Array.new(30) { rand(97..122).chr }.join
    end

    # Adds a function. Servers that can be reached are told now, the others when they can.
    #
    # @param func_name [#to_s]
    # @param timeout [Numeric, nil] seconds that a job may take. Ruby's Timeout ends it, at any point of the
    #   block, and the job fails with an exception
    # @param server_timeout [Boolean] whether the servers are told of the time-out, too. gearmand 1.1 loses jobs
    #   over it: see the README
    # @yieldparam data [String] the argument of the job
    # @yieldparam job [Job]
    # @yieldreturn [#to_s, nil, false] the result; nil and false fail the job
    # @return [Array<Connection>] the servers that were told
    # @raise [InvalidArgsError] when the name cannot be sent
    def add_ability(func_name, timeout = nil, server_timeout: false, &block)
      func = function_name(func_name)
      ability = Ability.new(func, block, timeout, server_timeout: server_timeout)
      announcement(func, ability.server_timeout)
      @retired = @retired.except(func)
      @abilities = @abilities.merge(func => ability)
      told = @connection_pool.with_all_connections do |connection|
        connection.channel # registers when it is new
        announce_ability(func, ability.server_timeout, connection) unless connection.registered.include?(func)
      end
      @regrab = true
      wake
      told
    end

    # Tells one server of a function.
    #
    # @param func_name [String]
    # @param timeout [Numeric, nil] seconds, sent as the milliseconds of CAN_DO_TIMEOUT
    # @param connection [Connection]
    # @return [void]
    # @raise [InvalidArgsError] when the name cannot be sent
    # @raise [NetworkError] when the connection is lost
    def announce_ability(func_name, timeout, connection)
      packet = announcement(func_name, timeout)
      connection.registered << func_name if connection.is_a?(Connection)
      connection.send_update(packet)
      logger.debug { "announced #{func_name} to #{connection.to_host_port}" }
    end

    # Sets the block that is called behind the answer to each job of a function that completed. What it raises
    # is logged.
    #
    # @param func [#to_s]
    # @yieldparam result [String]
    # @yieldparam data [String] the argument of the job
    # @return [Proc]
    # @raise [InvalidArgsError] when there is no such ability
    def after_ability(func, &block)
      ability = @abilities[function_name(func)]
      raise InvalidArgsError, "there is no ability #{func.to_s.inspect}" unless ability

      ability.after_complete(&block)
    end

    # Removes a function. A job of it that a server has handed out already is still run; the server is told
    # when none can be under way.
    #
    # @param func [#to_s]
    # @return [Ability, nil]
    def remove_ability(func)
      func = function_name(func)
      ability = @abilities[func] or return
      @retired = @retired.merge(func => ability)
      @abilities = @abilities.except(func)
      @withdrawals = (@withdrawals || []) | [func]
      @regrab = true
      if @working
        wake
      else
        @connection_pool.connections.each { |connection| withdraw(connection) if connection.connected? }
      end
      ability
    end

    # Runs jobs until {#worker_enabled} is set to false.
    #
    # @return [false]
    # @raise [NoJobServersError] when no server is configured
    # @raise [SystemExit] when a job calls exit: it is answered with an exception first
    def work
      run_loop(once: false, timeout: nil)
    end

    # Runs one job.
    #
    # @param timeout [Numeric, nil] seconds to wait for it; nil waits for ever
    # @return [Boolean, nil] true behind a job, nil when none came, false when {#worker_enabled} is false
    # @raise (see #work)
    def work_once(timeout = nil)
      run_loop(once: true, timeout: timeout)
    end

    # Closes all connections. A running {#work} returns false behind the job that it runs, as when
    # {#worker_enabled} is set to false, and closes them then.
    #
    # @return [void]
    def close
      if @working
        @closing = true
        wake
      else
        close_loop
        @connection_pool.close
      end
    end

    # Sleeps.
    #
    # @param time [Numeric, Time] seconds, or when to wake up
    # @return [Integer] seconds
    def sleep(time)
      Kernel.sleep(time.is_a?(Time) ? [time - Time.now, 0].max : time)
    end

    # Runs the job of a JOB_ASSIGN packet and answers it.
    #
    # @param data [String] the body of the packet
    # @param connection [Connection, #send_update] where it came from
    # @return [Boolean] whether there was something to run
    def handle_job_assign(data, connection)
      handle, func, argument = data.split("\0", 3)
      unless handle && func
        logger.error("Ignoring JOB_ASSIGN without handle or function from #{connection}")
        return false
      end
      unless (ability = @abilities[function_name(func)] || @retired[function_name(func)])
        logger.error("Ignoring JOB_ASSIGN for unsupported function #{func} with handle #{handle} from #{connection}")
        connection.send_update(Packet.encode(:work_fail, handle))
        return false
      end
      run_assigned(ability, handle, argument || "", connection)
      true
    end

    # Takes a packet that came for the worker.
    #
    # @param type [Symbol]
    # @param data [String] its body
    # @param connection [Connection]
    # @return [Boolean, nil] {#worker_enabled} behind a job
    def handle_work_message(type, data, connection)
      case type
      when :no_job, :noop then logger.debug { "Got #{type} from #{connection}" }
      when :job_assign then worker_enabled if handle_job_assign(data, connection)
      else logger.error("Got unexpected #{type} from #{connection}")
      end
    end

    private

    def prefetch_of(jobs)
      return jobs if jobs.is_a?(Integer) && jobs.between?(1, MAX_PREFETCH)

      raise InvalidArgsError, "prefetch is a number of jobs from 1 to #{MAX_PREFETCH}, not #{jobs.inspect}"
    end

    def announcement(func, timeout)
      raise InvalidArgsError, "the function name is empty" if func.empty?

      return Packet.encode(:can_do, func) unless timeout

      Packet.encode(:can_do_timeout, func, (timeout * 1000).ceil.to_s)
    end

    def function_name(func)
      name = func.to_s
      name.ascii_only? ? name : name.dup.force_encoding(Encoding::UTF_8)
    end

    # What ends the loop otherwise than behind one job leaves no connection open on which a server may believe
    # that the worker has a job.
    def run_loop(once:, timeout:)
      raise Error, "the worker is working already" if @working

      @working = true
      begin
        settled = false
        result = worker_loop.run(once, timeout, network_timeout_sec, prefetch, handlers_ours?, verbose?)
        settled = once
        result
      ensure
        @working = false
        close_loop unless settled
        close if @closing
        @closing = false
      end
    end

    def worker_loop
      open_wake_pipe if @wake_pid != Process.pid
      connections = @connection_pool.connections
      return @loop if @loop && @loop_connections == connections

      @loop&.close
      @loop_connections = connections
      @loop = WorkerLoop.new(self, connections)
    end

    def close_loop
      @connectors.each_value(&:kill)
      @connectors.clear
      @holder&.kill
      @loop&.close
    end

    def handlers_ours?
      %i[handle_job_assign handle_work_message].all? { |name| method(name).owner == Worker }
    end

    def verbose?
      logger.respond_to?(:info?) ? logger.info? : true
    end

    # Runs a job. Called by the loop.
    #
    # @return [String, nil, Failure] a result, a failure, an error
    def perform(ability, data, job)
      result = ability.run(data, job)
      result ? String(result) : nil
    rescue SystemExit => e
      Failure.new(failed_message(ability, job, e), e)
    rescue StandardError, ScriptError, SystemStackError => e
      Failure.new(failed_message(ability, job, e))
    end

    def failed_message(ability, job, error)
      message = message_of(error)
      logger.error do
        "#{ability.func_name} #{job.handle} failed: #{error.class}: #{message} (#{error.backtrace&.first})"
      end
      message
    end

    # Even an error that cannot say what it is must not end every worker in turn.
    def message_of(error)
      String(error.message)
    rescue StandardError
      error.class.name.to_s
    end

    def run_assigned(ability, handle, argument, connection)
      job = Job.new(connection, handle)
      result = perform(ability, argument, job)
      case result
      when String
        run_work_complete_callback
        job.answer(:work_complete, result)
        completed(ability, result, argument)
      when nil
        run_work_fail_callback
        job.answer(:work_fail)
      else
        run_work_exception_callback
        job.answer(:work_exception, result.payload)
        raise result.reraise if result.reraise
      end
    end

    def completed(ability, result, data)
      ability.completed(result, data)
    rescue StandardError => e
      logger.error { "the block of after_ability for #{ability.func_name} failed: #{e.inspect}" }
    end

    # Everything a server must know of the worker, on each new connection.
    def register(connection)
      connection.send_update(Packet.encode(:set_client_id, client_id.to_s))
      @abilities.each_value { |ability| announce_ability(ability.func_name, ability.server_timeout, connection) }
      run_connect_callback
    end

    # Called by the loop when nothing of the worker's is under way on a connection.
    def withdraw(connection)
      (connection.registered - @abilities.keys).each do |func|
        connection.registered.delete(func)
        connection.send_update(Packet.encode(:cant_do, func))
      end
      return if @connection_pool.connections.any? { |other| (other.registered - @abilities.keys).any? }

      @withdrawals = nil
      @retired = {}
    rescue NetworkError => e
      logger.warn { e.message }
    end

    # The channel to a server for the loop; nil when there is none yet. Connecting must not stop the jobs of
    # other servers, so it has a thread of its own while there are any.
    def channel_to(connection)
      return connect(connection) unless @loop.connected?
      return if @connectors[connection]&.alive?
      return connection.channel if connection.connected?

      @connectors[connection] = Thread.new do
        connect(connection)
        wake
      end
      nil
    end

    def connect(connection)
      connection.channel
    rescue NetworkError, SocketTimeoutError, ProtocolError => e
      logger.warn { e.message } if connection.failure_is_news?
      nil
    rescue StandardError => e
      connection.failed(true)
      logger.error { "cannot register with #{connection.to_host_port}: #{e.class}: #{e.message}" }
      nil
    end

    # Called by the loop. Returns the seconds until a server may be tried again.
    def retry_in(connection)
      [connection.retry_in, reconnect_sec, RETRY_LIMIT].min
    end

    # Called by the loop when it begins to hold answers of quick jobs back. A thread sends them when the next
    # job is not quick.
    def watch_held
      return @held << true if @holder&.alive?

      @held = Queue.new
      @holder = Thread.new do
        loop do
          Kernel.sleep(HELD_CHECK) while @loop.send_held
          @held.pop
        end
      end
    end

    # Called by the loop when a connection was lost; without a reason, when the server did not answer.
    # Returns the seconds until it may be opened again.
    def lost(connection, reason)
      logger.warn { "lost a job server: #{reason || "#{connection.to_host_port} does not answer"}" }
      reason ? connection.lost : connection.failed(false)
      retry_in(connection)
    end

    def log_packet(connection, type, body)
      case type
      when :job_assign, :job_assign_uniq, :job_assign_all
        handle, func, = Packet.split(type, body)
        func = function_name(func)
        if @abilities.key?(func) || @retired.key?(func)
          logger.info { "Got #{func} #{handle} from #{connection.to_host_port}" }
        else
          logger.error { "Got #{func} #{handle} from #{connection.to_host_port}, which the worker cannot do" }
        end
      when :error
        logger.warn { "#{connection.to_host_port}: #{body.tr("\0", " ")}" }
      else
        logger.warn { "Got unexpected #{type} from #{connection.to_host_port}" }
      end
    end

    def open_wake_pipe
      @wake_io, @wake_writer = IO.pipe
      @wake_pid = Process.pid
    end

    # Works in a trap, too.
    def wake
      @wake_writer.write_nonblock(".", exception: false)
    end

    # Empties the pipe. Returns whether sleeping servers are to be asked again.
    def wakeups
      @wake_io.read_nonblock(512, exception: false)
      regrab = @regrab
      @regrab = false
      regrab
    end
  end
end
