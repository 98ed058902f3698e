# frozen_string_literal: true

require_relative "../errors"
require_relative "../instrumentation"
require_relative "../logging"
require_relative "../packet"

module Gearman
  class Worker
    # One of the loops of a worker: a thread, its own connections, one running job at a time.
    #
    # @api private
    class Loop
      include Logging

      # Raised in the thread of a loop whose job is abandoned. No rescue of StandardError in the job swallows it.
      class Abandoned < Exception; end # rubocop:disable Lint/InheritException

      # Seconds between tries of a server, at most.
      RETRY_LIMIT = 2
      # The same for one that does not answer: a try takes seconds itself.
      SILENT_RETRY = (0.4..0.8)
      # Seconds between looks at answers that are held back.
      HELD_CHECK = 0.002
      # Seconds that a new connection may take to answer the first question.
      GREETING_TIMEOUT = 3
      # How many connections in a row have not told the version when a server is taken for one that cannot.
      MUTE = 2
      # Bytes of the answer, at most.
      VERSION_LIMIT = 256
      private_constant :RETRY_LIMIT, :SILENT_RETRY, :HELD_CHECK, :GREETING_TIMEOUT, :MUTE, :VERSION_LIMIT

      # @return [Exception, nil] what ended the thread of {#start}
      attr_reader :failure
      # @return [Hash{String => Ability}] functions that were removed, and of which a job may be under way
      attr_reader :retired
      # @return [ConnectionPool]
      attr_reader :pool

      # @param worker [Worker]
      # @param pool [ConnectionPool]
      def initialize(worker, pool)
        @worker = worker
        @pool = pool
        @pool.on_connection { |connection| register(connection) }
        @closing = @changed = false
        @retired = {}
        @connectors = {}.compare_by_identity
        @versions = {}.compare_by_identity
        @unanswered = {}.compare_by_identity
        @mutex = Mutex.new
        @thread = @failure = nil
        open_pipe
      end

      # @return [Symbol] :preparing, :working or :waiting
      def status
        @loop ? @loop.status : :preparing
      end

      # @param status [Symbol]
      def status=(status)
        native_loop.status = status
      end

      # Runs jobs in this thread.
      #
      # @return [Boolean, nil] see {Worker#work}, {Worker#work_once}
      def work(once: false, timeout: nil)
        Thread.handle_interrupt(Abandoned => :never) do
          @mutex.synchronize { @thread = Thread.current }
          Thread.handle_interrupt(Abandoned => :immediate) { run(once, timeout) }
        ensure
          @mutex.synchronize { @thread = nil }
        end
      rescue Abandoned
        false
      end

      # Runs jobs in a thread of its own and calls the block when that ends, whatever ended it.
      def start
        @failure = nil
        @worker_thread = Thread.new do
          Thread.current.report_on_exception = false
          settled = false
          work
          settled = true
        rescue Exception => e # rubocop:disable Lint/RescueException -- it is raised again out of Worker#work
          @failure = e
        ensure
          @failure ||= Error.new("a thread of the worker was killed") unless settled
          yield
        end
      end

      # Waits for the thread of {#start}.
      def join
        @worker_thread&.join
      end

      # Kills the thread of {#start}: its running job goes back to its server.
      def kill
        @worker_thread&.kill
      end

      # Lets it end behind the running job. Works in a trap, too.
      def finish
        @closing = true
        wake
      end

      # Takes back {#finish}.
      def reopen
        @closing = false
      end

      # Gives the running job back to its server and stops it.
      #
      # @return [Boolean] whether a job was running
      def abandon
        job, seconds = running
        @mutex.synchronize { @thread&.raise(Abandoned) }
        @pool.close
        return false unless seconds

        logger.warn { "abandoned #{job ? "#{job.func_name} #{job.handle}" : "a job"} after #{seconds.round(1)} s" }
        true
      end

      # @return [Array(Job, Float), nil] the running job, and the seconds since it began
      def running
        @loop&.running if @thread
      end

      # @return [Float, nil] when it last went round, by the monotonic clock; nil while it runs a job, or nothing
      def turned_at
        @loop.turned_at if @thread && @loop && !@loop.running
      end

      # @return [Integer]
      def jobs_done
        (@done_before || 0) + (@loop&.jobs_done || 0)
      end

      # Whether it runs in this thread.
      def current?
        @thread.equal?(Thread.current)
      end

      # Tells servers of a function that was added to a running worker. Those that cannot be told now are told by
      # the loop, which asks all for jobs. Works in a trap, too.
      #
      # @return [Array<Connection>] the servers that were told
      def add
        @pool.connections.select do |connection|
          channel = connection.connected_channel or next
          @worker.tell(channel)
          true
        rescue NetworkError, ThreadError => e # a socket that speaks TLS cannot be used in a trap
          logger.debug { e.message }
          false
        end
      end

      # Notes that servers do not know yet which functions were added or removed: the loop tells them when no job is
      # under way. Works in a trap, too.
      def change
        @changed = true
        wake
      end

      # Tells a server of functions that were added or removed. Called when no job is under way from it.
      def tell_changes(connection)
        @changed = false
        channel = connection.connected_channel
        @worker.tell(channel, removed: true) if channel
        @changed = true unless told?(@worker.abilities)
      rescue NetworkError => e
        @changed = true
        logger.warn { e.message }
      end

      # Called by the native loop to have a server that serves first what was registered last offer scheduled jobs
      # before the others, or behind them. Called when no job is under way from it.
      def order(connection, scheduled_first)
        channel = connection.connected_channel or return
        registered = channel.registered
        moved = @worker.abilities.each_value.select do |ability|
          ability.scheduled? == scheduled_first && registered.include?(ability.func_name)
        end
        channel.send_update(moved.map { |ability| @worker.register_again(ability) }.join)
      rescue NetworkError => e
        logger.warn { e.message }
      end

      # Tells all servers that are connected.
      def tell_all
        @pool.connections.each { |connection| tell_changes(connection) if connection.connected? }
      end

      # Closes all connections. Answers that were held back are sent, if the sockets take them.
      def close
        @connectors.each_value(&:kill)
        @connectors.clear
        @holder&.kill
        @loop&.close
      end

      # Has it ask a server for a job if it is asleep there.
      #
      # @param index [Integer] which of the servers
      def look(index)
        wake if @loop&.look(index)
      end

      # Has it try a server at once if it has no connection to it.
      #
      # @param server [String] "host:port"
      def try(server)
        index = @loop_connections&.index { |connection| connection.to_host_port == server }
        wake if index && @loop&.try(index)
      end

      # Works in a trap, too.
      def wake
        @loop&.attend
        @pipe_writer.write_nonblock(".", exception: false)
      end

      private

      # What ends the loop otherwise than behind one job leaves no connection open on which a server may believe
      # that the worker has a job.
      def run(once, timeout)
        settled = false
        result = @worker.configure(native_loop).run(once, timeout)
        settled = once && result != false
        result
      ensure
        close unless settled
      end

      def native_loop
        open_pipe if @pipe_pid != Process.pid
        connections = @pool.connections
        return @loop if @loop && @loop_connections == connections

        @loop&.close
        @done_before = jobs_done
        @loop_connections = connections
        @loop = WorkerLoop.new(self, @worker, connections)
      end

      # Everything a server must know of the worker, on each new connection.
      def register(connection)
        greet(connection)
        connection.send_update(Packet.encode(:set_client_id, @worker.client_id.to_s))
        @worker.tell(connection.channel)
        @worker.run_connect_callback
      end

      # A server that does not answer must not be asked for jobs: those of the others would wait for it. It is asked
      # for its version, or for an echo when it seems to know no text commands.
      def greet(connection)
        unanswered = @unanswered[connection].to_i
        if unanswered < MUTE
          @versions[connection] = version_of(connection.channel)
          @unanswered[connection] = 0
        else
          connection.channel.request(Packet.pack_request(:echo_req, "ping"), GREETING_TIMEOUT)
        end
      rescue SocketTimeoutError, NetworkError => e
        @unanswered[connection] = unanswered < MUTE ? unanswered + 1 : 0
        silent = e.is_a?(SocketTimeoutError)
        connection.failed(!silent)
        raise unless silent

        raise ServerDownException, "#{connection.to_host_port} does not answer"
      end

      def version_of(channel)
        channel.send_update("version\r\n", GREETING_TIMEOUT)
        line = String.new
        line << channel.read_bytes(1, GREETING_TIMEOUT) until line.end_with?("\n") || line.size == VERSION_LIMIT
        line[/\AOK (\d+)/, 1].to_i
      end

      # gearmand before 2.0 tells nobody when a scheduled job is due.
      def timed?(connection)
        @versions[connection].to_i < 2
      end

      # Whether no connection lacks a function, or has one that was removed.
      def told?(abilities)
        functions = @pool.connections.filter_map { |connection| connection.connected_channel&.registered }
        (@retired.keys - functions.flatten).each { |func| @retired.delete(func) }
        functions.all? { |list| list.size == abilities.size && (list - abilities.keys).empty? }
      end

      # The channel to a server for the loop. Connecting has a thread of its own, which wakes the loop: it must neither
      # stop the jobs of other servers nor keep the loop from noticing that it is to stop.
      #
      # @return [Channel, false, nil] false while it connects, nil when it could not
      def channel_to(connection)
        connector = @connectors[connection]
        return false if connector&.alive? && !connection.connected?

        @connectors.delete(connection)
        if connection.connected?
          change if connector # while it registered, functions may have been added or removed
          return connect(connection)
        end
        return if connector && retry_in(connection).positive?
        return if left_to_another(connection).positive?

        @connectors[connection] = Thread.new do
          connect(connection)
          wake
        end
        false
      end

      def connect(connection)
        channel = connection.channel
        @worker.reached(connection.to_host_port)
        channel
      rescue NetworkError, SocketTimeoutError, ProtocolError => e
        @worker.outages.refused(connection.to_host_port, self, own_retry_in(connection)) if connection.refused?
        logger.warn { e.message } if connection.failure_is_news?
        nil
      rescue StandardError => e
        connection.failed(true)
        logger.error { "cannot register with #{connection.to_host_port}: #{e.class}: #{e.message}" }
        nil
      end

      # Called by the native loop. Returns the seconds until a server may be tried again.
      def retry_in(connection)
        [own_retry_in(connection), left_to_another(connection)].max
      end

      def left_to_another(connection)
        @worker.outages.left_to_another(connection.to_host_port, self)
      end

      def own_retry_in(connection)
        limit = connection.refused? ? RETRY_LIMIT : rand(SILENT_RETRY)
        [connection.retry_in, @worker.reconnect_sec, limit].min
      end

      # Called by the native loop when it begins to hold answers of quick jobs back. A thread sends them when the
      # next job is not quick.
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

      # Called by the native loop when a connection was lost; without a reason, when the server did not answer.
      # Returns the seconds until it may be opened again.
      def lost(connection, reason)
        logger.warn { "lost a job server: #{reason || "#{connection.to_host_port} does not answer"}" }
        Instrumentation.instrument("connection_lost", server: connection.to_host_port, reason: reason || "no answer")
        reason ? connection.lost : connection.failed(false)
        retry_in(connection)
      end

      # Called by the native loop when answers that were held back cannot be sent.
      def dropped_held(count)
        logger.warn { "dropped the results of #{count} jobs at most: their job server was lost" }
      end

      # Called by the native loop for a job that it will not begin.
      def given_back(connection, func, handle)
        logger.info { "gave #{func} #{handle} back to #{connection.to_host_port}, not begun" }
      end

      def log_packet(connection, type, body)
        case type
        when :job_assign, :job_assign_uniq, :job_assign_all
          handle, func, = Packet.split(type, body)
          func = Worker.function_name(func)
          if @worker.abilities.key?(func) || @retired.key?(func)
            logger.debug { "Got #{func} #{handle} from #{connection.to_host_port}" }
          else
            logger.error { "Got #{func} #{handle} from #{connection.to_host_port}, which the worker cannot do" }
          end
        when :error
          logger.warn { "#{connection.to_host_port}: #{Logging.printable(body.tr("\0", " "))}" }
        else
          logger.warn { "Got unexpected #{type} from #{connection.to_host_port}" }
        end
      end

      def open_pipe
        @wake_io, @pipe_writer = IO.pipe
        @pipe_pid = Process.pid
      end

      def empty_pipe
        @wake_io.read_nonblock(512, exception: false)
      end
    end
  end
end
