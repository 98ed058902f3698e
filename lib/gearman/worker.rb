# frozen_string_literal: true

require_relative "clock"
require_relative "connection_pool"
require_relative "deprecated"
require_relative "logging"
require_relative "packet"
require_relative "worker/ability"
require_relative "worker/callbacks"
require_relative "worker/interruption"
require_relative "worker/job"
require_relative "worker/loop"
require_relative "worker/outages"

module Gearman
  # Runs jobs: one at a time, or as many as it has loops.
  #
  #   worker = Gearman::Worker.new("localhost:4730", concurrency: 5)
  #   worker.add_ability("reverse") { |data, job| data.reverse }
  #   worker.work
  class Worker
    include Logging
    include Clock
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

    # Jobs that one loop may hold, at most.
    MAX_PREFETCH = 1000
    # Loops of one worker, at most.
    MAX_CONCURRENCY = 1000
    # Seconds that {#stop} waits for jobs that it has abandoned.
    ABANDONED_WAIT = 1
    private_constant :MAX_PREFETCH, :MAX_CONCURRENCY, :ABANDONED_WAIT

    # @return [String] what the servers list the worker as
    attr_reader :client_id
    # @return [Numeric] seconds between tries of a server that cannot be reached, at most
    attr_accessor :reconnect_sec
    # @return [Numeric] seconds that a server may take to answer
    attr_accessor :network_timeout_sec
    # @return [Integer] how many jobs {#work} runs at once, each in a thread with connections of its own
    attr_reader :concurrency
    # @return [Integer] how many jobs each loop of {#work} holds at most: the running one, and those it has asked for
    #   ahead
    attr_reader :prefetch
    # @return [Boolean] whether {#work} goes on
    attr_reader :worker_enabled

    # @return [Outages]
    # @api private
    attr_reader :outages

    # The name of a function, which is UTF-8.
    #
    # @api private
    def self.function_name(func)
      name = func.to_s
      name.ascii_only? ? name : name.dup.force_encoding(Encoding::UTF_8)
    end

    # Touches no network.
    #
    # @param job_servers [String, Symbol, Array<String, Symbol>, nil] "host", "host:port", "[IPv6]:port"; nil: those
    #   in the environment variable GEARMAN_SERVERS
    # @param opts [Hash] `client_id:` (default: 30 random letters), `reconnect_sec:` (30),
    #   `network_timeout_sec:` (10), `concurrency:` (1), `prefetch:` (1): see the attributes. With a prefetch of more
    #   than 1, small jobs go several times as fast, and jobs wait behind a long one that another worker could have.
    #   `exceptions:` (true): whether what a job raises is sent as an exception; false: as a warning and a failure,
    #   for clients that do not ask for exceptions. `tls:` (nil): whether and how to speak TLS with the servers, see
    #   {TLS#initialize}. `connect_timeout:` (3): seconds that connecting to a server may take
    # @raise [InvalidArgsError] when an address, a number or what is said of TLS makes no sense
    def initialize(job_servers = nil, opts = {})
      @abilities = {}
      self.client_id = opts[:client_id] || generate_id
      @network_timeout_sec = opts[:network_timeout_sec] || 10
      @reconnect_sec = opts[:reconnect_sec] || 30
      @concurrency = number_of("concurrency", "jobs", opts[:concurrency] || 1, MAX_CONCURRENCY)
      @prefetch = number_of("prefetch", "jobs", opts[:prefetch] || 1, MAX_PREFETCH)
      @exceptions = opts.fetch(:exceptions, true)
      @worker_enabled = true
      @working = @closing = @quiet = @scheduled = false
      @runs = 0
      @wrappers = []
      @error_handlers = []
      @__looks = []
      @outages = Outages.new
      @mutex = Mutex.new
      @ended = ConditionVariable.new
      servers = job_servers || ConnectionPool.default_servers
      pools = Array.new(@concurrency) do
        ConnectionPool.new(servers, tls: opts[:tls], connect_timeout: opts[:connect_timeout])
      end
      @connection_pool = pools.first
      @loops = pools.map { |pool| Loop.new(self, pool) }.freeze
    end

    # @param client_id [#to_s] what servers that are still to be connected list the worker as
    # @raise [InvalidArgsError] when it cannot be sent
    def client_id=(client_id)
      Packet.encode(:set_client_id, client_id.to_s)
      @client_id = client_id
    end

    # @return [Hash{String => Ability}] those of now: other threads may add and remove some meanwhile
    # @api private
    def abilities
      @abilities.dup
    end

    # @return [Symbol] :preparing, :working (any loop is) or :waiting
    def status
      states = @loops.map(&:status)
      states.include?(:working) ? :working : states.first
    end

    # @param status [Symbol]
    def status=(status)
      @loops.each { |loop| loop.status = status }
    end

    # Whether {#work} goes on. Set to false, from any thread or a trap, it makes {#work} return as soon as the
    # running jobs are answered. Set to true, it ends {#quiet}, too.
    #
    # @param enabled [Boolean]
    def worker_enabled=(enabled)
      @quiet = false if enabled
      @worker_enabled = enabled
      wake
    end

    # Makes {#work} return as soon as the running jobs are answered. Jobs that were fetched ahead go back to their
    # servers. Without a time-out it returns at once, and may be called from any thread, job or trap. Set
    # {#worker_enabled} to true before {#work} is called again.
    #
    # @param timeout [Numeric, nil] seconds to wait for {#work} to return. Then running jobs are abandoned: their
    #   connections are closed, so that the servers hand them out again, and an exception that is no StandardError is
    #   raised in their threads
    # @return [Boolean, nil] whether all jobs were finished; nil without a time-out
    # @raise [Error] when it is to wait for the job that calls it
    def stop(timeout = nil)
      self.worker_enabled = false
      return unless timeout
      raise Error, "a job cannot wait for the end of its own worker" if @loops.any?(&:current?)
      return true if wait_for_end(timeout)

      abandoned = @loops.select(&:abandon)
      wait_for_end(ABANDONED_WAIT)
      abandoned.empty?
    end

    # Asks for no more jobs. Those that it holds are run, the connections stay, and {#work} goes on until it is
    # stopped. Works in a trap, too.
    #
    # @return [void]
    def quiet
      @quiet = true
      wake
    end

    # @return [Boolean] whether {#work} was told to return, or may not begin
    def stopping?
      !@worker_enabled || @closing
    end

    # @return [Boolean] whether it asks for no more jobs
    def quiet?
      @quiet || stopping?
    end

    # @return [Array<Array(Job, Float)>] the running jobs, and the seconds since each began. A job whose worker has a
    #   `handle_job_assign` or `handle_work_message` of its own is nil
    def running_jobs
      @loops.filter_map(&:running).freeze
    end

    # @return [Array<String>] the servers that are connected now, as "host:port"
    def connected_servers
      @loops.flat_map { |loop| loop.pool.connections.select(&:connected?) }.map(&:to_host_port).uniq
    end

    # When the slowest loop last went round. A loop that waits does so at least every 10 seconds; one that runs a job
    # does not count. So this tells whether {#work} is alive.
    #
    # @return [Float] seconds of the monotonic clock; now when no loop waits
    def last_turn
      @loops.filter_map(&:turned_at).min || Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end

    # @return [Integer] how many jobs were answered so far
    def jobs_done
      @loops.sum(&:jobs_done)
    end

    # @return [String] 30 random letters
    def generate_id
      Array.new(30) { rand(97..122).chr }.join
    end

    # Adds a function. Servers that can be reached are told now, the others when they can; while {#work} runs, those
    # that it is connected with are told now. Without `announce` nothing is sent: {#work} tells the servers. Works in a
    # job and in a trap, too.
    #
    # @param func_name [#to_s]
    # @param timeout [Numeric, nil] seconds that a job may take. Ruby's Timeout ends it, at any point of the
    #   block, and the job fails with an exception
    # @param server_timeout [Boolean] whether the servers are told of the time-out, too. gearmand 1.1 loses jobs
    #   over it: see the README
    # @param scheduled [Boolean] whether its jobs are scheduled ones. Servers that drain one function after the other
    #   would not come to them as long as there are jobs of functions that were added later: so each second they have
    #   a turn before all others, of one job or 0.1 seconds in each thread, and never as long as the others had
    # @param announce [Boolean] whether servers are told now
    # @yieldparam data [String] the argument of the job
    # @yieldparam job [Job]
    # @yieldreturn [#to_s, nil, false] the result; nil and false fail the job
    # @return [Array<Connection>] the servers that were told
    # @raise [InvalidArgsError] when the name cannot be sent, or the time-out is no number of seconds
    def add_ability(func_name, timeout = nil, server_timeout: false, scheduled: false, announce: true, &block)
      func = function_name(func_name)
      ability = Ability.new(func, block, timeout, server_timeout: server_timeout, scheduled: scheduled)
      announcement(func, ability.server_timeout)
      @scheduled = true if ability.scheduled?
      @abilities[func] = ability
      @loops.each { |loop| loop.retired.delete(func) }
      @loops.each(&:change) if @working || !announce
      announce ? tell_servers : []
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
      return connection.send_update(packet) unless connection.is_a?(Connection)

      channel = connection.channel
      channel.announce(func_name, packet)
      channel.flush
    end

    # Tells a server what it does not know yet of functions that were added, and with `removed` of others.
    #
    # @param channel [Channel] to it
    # @param removed [Boolean] not while a job is under way on it
    # @return [void]
    # @raise [NetworkError] when the connection is lost
    # @api private
    def tell(channel, removed: false)
      known = channel.registered.to_h { |name| [name, true] }
      known.each_key { |name| channel.retract(name, Packet.encode(:cant_do, name), @abilities) } if removed
      abilities.each do |name, ability|
        channel.announce(name, announcement(name, ability.server_timeout), @abilities) unless known[name]
      end
      channel.flush
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
      retire = -> { @loops.each { |loop| loop.retired[func] = ability } }
      retire.call # whoever does not find it in one place any more finds it in the other
      ability = @abilities.delete(func) || ability
      retire.call
      @working ? @loops.each(&:change) : tell_all(@loops)
      ability
    end

    # Calls the block around each job, with the job and what runs it; the block has to call that once. Blocks nest:
    # the first added is the outermost. What they return counts for nothing. An error in a block fails the job, and
    # so does an error of the job that a block does not let through.
    #
    #   worker.around_job { |job, run| Rails.application.executor.wrap { run.call } }
    #
    # @yieldparam job [Job]
    # @yieldparam run [#call] runs the job, returns what it returned
    # @return [Proc]
    def around_job(&block)
      raise InvalidArgsError, "around_job needs a block" unless block

      @wrappers << block
      block
    end

    # Calls the block with each exception that failed a job. Several are called in the order in which they were added;
    # what they raise is logged.
    #
    # @yieldparam error [Exception]
    # @yieldparam job [Job]
    # @return [Proc]
    def on_error(&block)
      raise InvalidArgsError, "on_error needs a block" unless block

      @error_handlers << block
      block
    end

    # Runs jobs until {#worker_enabled} is set to false. The first loop runs in the thread that calls, each other in
    # one of its own. What ends one ends all: the others finish the jobs that they run.
    #
    # @return [false]
    # @raise [NoJobServersError] when no server is configured
    # @raise [SystemExit] when a job calls exit: it is answered with an exception first
    def work
      working { @loops.size == 1 ? @loops.first.work : work_together }
    end

    # Runs one job, whatever the {#concurrency}.
    #
    # @param timeout [Numeric, nil] seconds to wait for it; nil waits for ever
    # @return [Boolean, nil] true behind a job, nil when none came, false when {#worker_enabled} is false
    # @raise (see #work)
    def work_once(timeout = nil)
      working { @loops.first.work(once: true, timeout: timeout) }
    end

    # Closes all connections. A running {#work} returns false behind the jobs that it runs, as when
    # {#worker_enabled} is set to false, and closes them then.
    #
    # @return [void]
    def close
      @closing = true
      finish
      close_all unless @working
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
      func = function_name(func)
      unless (ability = ability_of(func))
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

    # What makes a server take a function for the last that was registered.
    #
    # @param ability [Ability]
    # @return [String] packets
    # @api private
    def register_again(ability)
      Packet.encode(:cant_do, ability.func_name) + announcement(ability.func_name, ability.server_timeout)
    end

    # Called by a loop that has reached a server: the others try it at once if it was down.
    #
    # @param server [String] "host:port"
    # @api private
    def reached(server)
      @loops.each { |loop| loop.try(server) } if @outages.over(server)
    end

    # Logs that a job has ended whose server is gone.
    #
    # @param job [Job]
    # @api private
    def job_dropped(job)
      logger.warn { "dropped the result of #{job.func_name} #{job.handle}: its job server was lost" }
    end

    # Logs that a server was lost which has said nothing since the result of a job was sent to it.
    #
    # @param job [Job]
    # @api private
    def job_in_doubt(job)
      logger.warn { "the result of #{job.func_name} #{job.handle} may be lost: its job server was lost behind it" }
    end

    # Tells a loop what it goes by.
    #
    # @api private
    def configure(native_loop)
      native_loop.configure(network_timeout_sec, prefetch, @exceptions, handlers_ours?, verbose?)
    end

    private

    def number_of(name, things, value, limit)
      return value if value.is_a?(Integer) && value.between?(1, limit)

      raise InvalidArgsError, "#{name} is a number of #{things} from 1 to #{limit}, not #{value.inspect}"
    end

    def tell_servers
      return @loops.map(&:add).first if @working

      tell_all(@loops.drop(1))
      @connection_pool.with_all_connections { |connection| tell(connection.channel) }
    rescue ThreadError # a trap cannot wait for a lock
      @loops.first.change
      []
    end

    # Tells all servers of functions that were added or removed, if no job is under way.
    def tell_all(loops)
      return if loops.empty?

      @mutex.synchronize { loops.each(&(@working ? :change : :tell_all)) }
    rescue ThreadError # a trap cannot wait for a lock
      loops.each(&:change)
    end

    def announcement(func, timeout)
      raise InvalidArgsError, "the function name is empty" if func.empty?

      return Packet.encode(:can_do, func) unless timeout

      Packet.encode(:can_do_timeout, func, (timeout * 1000).ceil.to_s)
    end

    def function_name(func)
      Worker.function_name(func)
    end

    # A job assigned before its function was removed runs with its old block.
    def ability_of(func)
      @abilities[func] || @loops.filter_map { |loop| loop.retired[func] }.first
    end

    def working
      mine = false
      @mutex.synchronize do
        raise Error, "the worker is working already" if @working

        @runs += 1
        mine = @working = true
      end
      yield
    ensure
      worked if mine
    end

    def worked
      @working = false
      @closing ? close_all : @loops.each(&:reopen)
    ensure
      @mutex.synchronize { @ended.broadcast }
    end

    def close_all
      @closing = false
      @loops.each do |loop|
        loop.reopen
        loop.close
        loop.pool.close
      end
    end

    def work_together
      first, *others = @loops
      begin
        others.each { |other| other.start { finish } }
        first.work
      ensure
        finish
        join(others)
      end
      failure = others.filter_map(&:failure).first
      raise failure if failure

      false
    end

    # Lets each loop end behind the job that it runs.
    def finish
      @loops.each(&:finish)
    end

    # An interrupt while they finish their jobs ends them.
    def join(loops)
      loops.each(&:join)
    ensure
      loops.each(&:kill).each(&:join)
    end

    # @return [Boolean] whether {#work} has returned within the time
    def wait_for_end(timeout)
      deadline = now + timeout
      @mutex.synchronize do
        run = @runs
        @ended.wait(@mutex, [deadline - now, 0.001].max) while @working && @runs == run && now < deadline
        !@working || @runs != run
      end
    end

    def wake
      @loops&.each(&:wake) # nil: a subclass has more to do before it is initialized
    end

    # Called by a loop that has found a job when it looked for scheduled ones.
    def look_with_all(index)
      @loops.each { |loop| loop.look(index) }
    end

    def handlers_ours?
      %i[handle_job_assign handle_work_message].all? { |name| method(name).owner == Worker }
    end

    def verbose?
      logger.respond_to?(:debug?) ? logger.debug? : true
    end

    # Runs a job. Called by the loop.
    #
    # @return [String, nil, Failure] a result, a failure, an error
    def perform(ability, data, job)
      result = @wrappers.empty? ? ability.run(data, job) : wrapped(job) { ability.run(data, job) }
      return result if result.is_a?(String)

      String(result) if result
    rescue Interruption
      raise
    rescue Exception => e # rubocop:disable Lint/RescueException -- it would end every worker in turn
      Failure.new(failed_message(ability, job, e), (e if e.is_a?(SystemExit)))
    end

    # Runs a job inside the blocks of {#around_job}, which do not change what comes of it.
    def wrapped(job)
      state = :waiting
      result = error = nil
      innermost = lambda do
        raise Error, "a block of around_job called run twice" unless state == :waiting

        state = :begun
        result = yield
      rescue Exception => e # rubocop:disable Lint/RescueException -- a block may have swallowed it
        error ||= e
        raise
      end
      chain = @wrappers.reverse.inject(innermost) do |run, wrapper|
        lambda do
          wrapper.call(job, run)
          result
        end
      end
      begin
        chain.call
      rescue Exception # rubocop:disable Lint/RescueException
        raise error if error.is_a?(Loop::Abandoned) # whatever a block made of it: the server has the job back

        raise
      end
      raise error if error
      raise Error, "a block of around_job did not call run" if state == :waiting

      result
    end

    def failed_message(ability, job, error)
      message = message_of(error)
      logger.error do
        "#{ability.func_name} #{job.handle} failed: #{error.class}: #{Logging.printable(message)} " \
          "(#{error.backtrace&.first})"
      end
      tell_error_handlers(error, job)
      message
    end

    def tell_error_handlers(error, job)
      @error_handlers.each do |handler|
        handler.call(error, job)
      rescue Interruption, SystemExit
        raise
      rescue Exception => e # rubocop:disable Lint/RescueException -- it would end every worker in turn
        logger.error { "a block of on_error failed: #{Logging.printable(e.inspect)}" }
      end
    end

    # Even an error that cannot say what it is must not end every worker in turn.
    def message_of(error)
      String(error.message)
    rescue StandardError
      error.class.name.to_s
    end

    def run_assigned(ability, handle, argument, connection)
      job = Job.new(connection, handle, func_name: ability.func_name, data: argument, worker: self)
      result = perform(ability, argument, job)
      case result
      when String
        run_work_complete_callback
        completed(ability, result, argument) if answer(job, :work_complete, result)
      when nil
        run_work_fail_callback
        answer(job, :work_fail)
      else
        answer_failure(job, result)
      end
    end

    def answer_failure(job, failure)
      if @exceptions
        run_work_exception_callback
        answer(job, :work_exception, failure.payload)
      else
        run_work_fail_callback
        answer(job, :work_warning, failure.payload) && answer(job, :work_fail)
      end
      raise failure.reraise if failure.reraise
    end

    # @return [Boolean] false when the server was lost: no other wants to know
    def answer(job, type, *parts)
      job.answer(type, *parts)
      true
    rescue NetworkError
      job_dropped(job)
      false
    end

    def completed(ability, result, data)
      ability.completed(result, data)
    rescue StandardError => e
      logger.error { "the block of after_ability for #{ability.func_name} failed: #{Logging.printable(e.inspect)}" }
    end
  end
end
