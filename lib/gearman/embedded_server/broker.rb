# frozen_string_literal: true

require "gearman/embedded_server/function"
require "gearman/embedded_server/job"
require "gearman/embedded_server/schedule"

module Gearman
  class EmbeddedServer
    # The rules of the job server: what each packet does to jobs, functions and connections.
    # @private
    class Broker
      MAX_NAMES = 8 * 1024   # bytes before the data: more does not fit gearmand's buffer
      MAX_UNIQUE = 64        # bytes
      MAX_CLIENT_ID = 127    # bytes
      MAX_HOST_IN_HANDLE = 40
      MIN_TIMEOUT = 1.0      # s
      MAX_EPOCH = (2**63) - 1
      UINT32 = 0xffffffff
      private_constant :MAX_NAMES, :MAX_UNIQUE, :MAX_CLIENT_ID, :MAX_HOST_IN_HANDLE, :MIN_TIMEOUT, :MAX_EPOCH, :UINT32

      # One CAN_DO of a worker; timeout in seconds, or nil.
      Ability = Struct.new(:function, :timeout)

      # priority, background
      SUBMISSIONS = {
        submit_job: [Function::NORMAL, false], submit_job_bg: [Function::NORMAL, true],
        submit_job_high: [Function::HIGH, false], submit_job_high_bg: [Function::HIGH, true],
        submit_job_low: [Function::LOW, false], submit_job_low_bg: [Function::LOW, true]
      }.freeze
      private_constant :SUBMISSIONS

      attr_reader :functions, :jobs

      def initialize
        @functions = {} # {name => Function}
        @jobs = {}      # {handle => Job}
        @coalescing = {} # {Job.key => {Function => Job}}
        @schedule = Schedule.new
        @handle_prefix = "H:#{Socket.gethostname.byteslice(0, MAX_HOST_IN_HANDLE)}:"
        @handles = @order = 0
      end

      # Carries out a packet.
      #
      # @raise [ProtocolError] it cannot be understood
      def request(connection, type, body)
        case type
        when :submit_job, :submit_job_bg, :submit_job_high, :submit_job_high_bg, :submit_job_low, :submit_job_low_bg
          priority, background = SUBMISSIONS[type]
          submit(connection, *arguments(body, 3), priority: priority, background: background)
        when :submit_job_epoch then submit_epoch(connection, *arguments(body, 4))
        when :submit_reduce_job then submit_reduce(connection, *arguments(body, 5), background: false)
        when :submit_reduce_job_background then submit_reduce(connection, *arguments(body, 5), background: true)
        when :grab_job, :grab_job_uniq, :grab_job_all then grab(connection, type)
        when :pre_sleep then pre_sleep(connection)
        when :work_complete, :work_data, :work_warning, :work_exception, :work_fail, :work_status
          work(connection, type, body)
        when :can_do then can_do(connection, *arguments(body, 1))
        when :can_do_timeout then can_do(connection, *arguments(body, 2))
        when :cant_do then cant_do(connection, *arguments(body, 1))
        when :reset_abilities then forget_abilities(connection)
        when :set_client_id then connection.client_id = body.byteslice(0, MAX_CLIENT_ID)
        when :option_req then set_option(connection, body)
        when :echo_req then connection.respond(:echo_res, body)
        when :get_status then get_status(connection, body)
        when :get_status_unique then get_status_unique(connection, body)
        else connection.error("INVALID_COMMAND", "Command not expected")
        end
      end

      # Lets go of a connection that is gone: jobs that it ran run again, jobs that only it waits for do not.
      def release(connection)
        wake_no_more(connection)
        forget_abilities(connection)
        connection.waiting.each_key do |job|
          job.clients.delete(connection)
          job.ignored = true if job.clients.empty? && !job.background
        end
      end

      # @return [Function] the function of that name, which comes to be by it
      def function(name)
        @functions[name] ||= Function.new(name)
      end

      # Fails a job; it stays until a worker would get it.
      #
      # @return [Boolean] whether there is such a job
      def cancel(handle)
        job = @jobs[handle] or return false
        job.ignored = true
        coalesce_no_more(job)
        job.tell_failure
        true
      end

      # Forgets a function and the jobs in its queue.
      #
      # @return [Boolean] false when it has workers
      def drop_function(function)
        return false if function.workers.positive? || function.running.positive?

        @jobs.each_value.select { |job| job.function.equal?(function) }.each do |job|
          job.tell_failure
          @schedule.cancel(job.timer) if job.timer
          forget(job)
        end
        @functions.delete(function.name)
        true
      end

      # Runs what is due by now.
      def run_due
        @schedule.run_due
      end

      # @return [Float, nil] seconds until {#run_due} has something to do
      def idle_time
        @schedule.idle_time
      end

      private

      def arguments(body, count)
        parts = body.empty? ? [body] : body.split("\0", count)
        raise ProtocolError, "packet with #{parts.size} of #{count} arguments" unless parts.size == count
        raise ProtocolError, "names of more than #{MAX_NAMES} bytes" if body.bytesize - parts.last.bytesize > MAX_NAMES

        parts
      end

      # Clients

      def submit(connection, name, unique, data, priority: Function::NORMAL, background: false, reducer: "", due: 0)
        return connection.error("ARGUMENT_TOO_LARGE", "Unique value too large") if unique.bytesize > MAX_UNIQUE

        function = function(name)
        job = @coalescing.dig(Job.key(unique, data), function)
        unless job
          return connection.error("QUEUE_ERROR", "Job queue is full") if function.full?(priority)

          job = create(function, unique, data, priority, reducer)
          enqueue(job, due)
        end
        join(job, connection, background)
        connection.respond(:job_created, job.handle)
      end

      def submit_epoch(connection, name, unique, due, data)
        due = due.to_i
        raise ProtocolError, "#{due} is no time" if due > MAX_EPOCH

        submit(connection, name, unique, data, background: true, due: due)
      end

      def submit_reduce(connection, name, unique, reducer, _unused, data, background:)
        submit(connection, name, unique, data, reducer: reducer, background: background)
      end

      # gearmand leaves a job that its clients gave up to its fate, and whoever joins it waits for ever.
      def join(job, connection, background)
        job.ignored = false
        if background
          job.background = true
        else
          job.clients << connection
          connection.waiting[job] = true
        end
      end

      def set_option(connection, name)
        return connection.error("UNKNOWN_OPTION", "Server does not recognize given option") unless
          name.casecmp?("exceptions")

        connection.exceptions = true
        connection.respond(:option_res, name)
      end

      def get_status(connection, handle)
        handle = handle.delete_suffix("\0")
        connection.respond(:status_res, handle, *status(@jobs[handle]))
      end

      def get_status_unique(connection, unique)
        job = @coalescing.fetch(unique, {}).values.last
        connection.respond(:status_res_unique, unique, *status(job), job ? job.clients.size : 0)
      end

      # known, running, numerator, denominator
      def status(job)
        return [0, 0, 0, 0] unless job

        [1, job.worker ? 1 : 0, job.numerator, job.denominator]
      end

      # Workers

      def can_do(connection, name, milliseconds = "0")
        seconds = milliseconds.to_i / 1000.0
        function = function(name)
        function.workers += 1
        function.sleepers[connection] = true if connection.sleeping
        connection.abilities.unshift(Ability.new(function, ([seconds, MIN_TIMEOUT].max if seconds.positive?)))
      end

      def cant_do(connection, name)
        forget_abilities(connection) { |ability| ability.function.name == name }
      end

      def forget_abilities(connection, &which)
        lost, kept = which ? connection.abilities.partition(&which) : [connection.abilities, []]
        functions = lost.map(&:function).uniq
        connection.running.keys.reverse_each { |job| requeue(job) if functions.include?(job.function) }
        connection.abilities = kept
        lost.each { |ability| ability.function.workers -= 1 }
        functions.each { |function| function.sleepers.delete(connection) }
      end

      def grab(connection, type)
        wake_no_more(connection)
        connection.noop_sent = false
        job = take(connection) or return connection.respond(:no_job)

        if type == :grab_job
          connection.respond(:job_assign, job.handle, job.function.name, job.data)
        elsif type == :grab_job_uniq || job.reducer.empty?
          connection.respond(:job_assign_uniq, job.handle, job.function.name, job.unique, job.data)
        else
          connection.respond(:job_assign_all, job.handle, job.function.name, job.unique, job.reducer, job.data)
        end
      end

      def take(connection)
        ability = connection.abilities.find { |candidate| runnable?(candidate.function) } or return
        job = ability.function.shift
        ability.function.running += 1
        job.worker = connection
        connection.running[job] = true
        job.timer = @schedule.at(Time.now.to_f + ability.timeout) { requeue(job) } if ability.timeout
        job
      end

      # Whether a function has a job for a worker. Those that nobody wants any more are forgotten here.
      def runnable?(function)
        forget(function.shift) while function.first&.ignored
        !function.first.nil?
      end

      def pre_sleep(connection)
        return connection.respond(:noop) if connection.abilities.any? { |ability| runnable?(ability.function) }
        return if connection.noop_sent

        connection.sleeping = true
        connection.abilities.each { |ability| ability.function.sleepers[connection] = true }
      end

      # Sends a NOOP, the only one until the worker grabs.
      def wake(connection)
        wake_no_more(connection)
        connection.noop_sent = true
        connection.respond(:noop)
      end

      def wake_no_more(connection)
        return unless connection.sleeping

        connection.sleeping = false
        connection.abilities.each { |ability| ability.function.sleepers.delete(connection) }
      end

      NOT_FOUND = Hash.new("Job given in work result not found").update(
        work_data: "Job does not exist on server",
        work_warning: "Job does not exist on server",
        work_exception: "An exception was received for a job that does not exist"
      ).freeze
      private_constant :NOT_FOUND

      def work(connection, type, body)
        handle, numerator, denominator = work_arguments(type, body)
        job = @jobs[handle]
        return connection.error("JOB_NOT_FOUND", NOT_FOUND[type]) unless job && job.worker.equal?(connection)

        case type
        when :work_data, :work_warning then job.tell_clients(type, body)
        when :work_status
          job.numerator = numerator.to_i & UINT32
          job.denominator = denominator.byteslice(0, 10).to_i & UINT32
          job.tell_clients(type, body)
        when :work_exception
          job.tell_exception(body)
          finish(job)
        else
          job.tell_clients(type, body)
          finish(job)
        end
      end

      def work_arguments(type, body)
        case type
        when :work_fail then [body.delete_suffix("\0")]
        when :work_status then arguments(body, 3)
        else arguments(body, 2)
        end
      end

      # Jobs

      def create(function, unique, data, priority, reducer)
        job = Job.new("#{@handle_prefix}#{@handles += 1}", function, unique, data, priority: priority, reducer: reducer)
        @jobs[job.handle] = job
        (@coalescing[job.key] ||= {})[function] = job if job.key
        function.total += 1
        job
      end

      def enqueue(job, due = 0)
        job.order = (@order += 1)
        return delay(job, due) if due > Time.now.to_f

        job.function.push(job)
        wake_workers(job.function)
      end

      def delay(job, due)
        function = job.function
        function.delayed += 1
        job.timer = @schedule.at(due) do
          job.timer = nil
          function.delayed -= 1
          function.insert(job)
          wake_workers(function)
        end
      end

      def wake_workers(function)
        function.sleepers.each_key { |connection| wake(connection) }
      end

      # Gives a job that its worker lost to another one.
      def requeue(job)
        stop_running(job)
        job.retries += 1
        job.numerator = job.denominator = 0
        enqueue(job)
      end

      def finish(job)
        stop_running(job)
        forget(job)
      end

      def stop_running(job)
        @schedule.cancel(job.timer) if job.timer
        job.timer = nil
        job.worker.running.delete(job)
        job.worker = nil
        job.function.running -= 1
      end

      def forget(job)
        @jobs.delete(job.handle)
        coalesce_no_more(job)
        job.clients.each { |client| client.waiting.delete(job) }
        job.function.total -= 1
      end

      def coalesce_no_more(job)
        key = job.key
        jobs = @coalescing[key]
        return unless jobs && jobs[job.function].equal?(job)

        jobs.delete(job.function)
        @coalescing.delete(key) if jobs.empty?
      end
    end
  end
end
