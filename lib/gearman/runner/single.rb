# frozen_string_literal: true

require "etc"
require "gearman/runner/launcher"

module Gearman
  module Runner
    # A process with one {Launcher}: it acts on signals and ends when the worker has.
    #
    # @api private
    class Single
      include Logging
      include Clock

      # Seconds between looks at everything.
      TICK = 1
      # The same while it stops.
      STOPPING_TICK = 0.05
      # Seconds after which a loop that should go round is taken to be stuck.
      STUCK = 30
      private_constant :TICK, :STOPPING_TICK, :STUCK

      # @param configuration [Configuration]
      # @param signals [Signals]
      # @param parent [IO, nil] ends with the parent process
      # @param announce [Proc, nil] is told each second how it goes, see {#state}
      def initialize(configuration, signals:, parent: nil, announce: nil)
        @configuration = configuration
        @signals = signals
        @parent = parent
        @announce = announce
        @launcher = Launcher.new(configuration)
        # Processes that share the work evenly are not to be replaced all at once.
        @max_jobs = configuration.max_jobs&.then { |jobs| jobs + rand(0..(jobs / 10)) }
      end

      # @return [Launcher]
      attr_reader :launcher
      # @return [Integer, nil] jobs after which another process takes over
      attr_reader :max_jobs

      # @return [Integer] the status to end with
      def run
        @launcher.start
        until over?
          # A pipe whose other end is gone is always ready.
          watched = [@signals.io, (@parent unless @stopper)].compact
          ready, = IO.select(watched, nil, nil, @stopper ? STOPPING_TICK : TICK)
          @signals.read.each { |meaning| act(meaning) }
          stop("the parent process is gone") if ready&.include?(@parent) && !@stopper
          look
        end
        status
      end

      # @return [Symbol] :ready, :live (no server is connected, or it takes no more jobs), :stopping or :stuck
      def state
        return :stopping if @stopper
        return :live unless @launcher.worker
        return :stuck if now - @launcher.worker.last_turn > STUCK

        Runner.stopping? || @launcher.worker.connected_servers.empty? ? :live : :ready
      end

      private

      def over?
        @stopper ? !@stopper.alive? : !@launcher.running?
      end

      def status
        return FAILED unless @stopper

        @stopper.value ? OK : ABANDONED
      end

      def act(meaning)
        case meaning
        when :stop
          if @stopper.nil?
            stop("told to stop")
          elsif @parent.nil?
            abandon
          end
        when :abandon then abandon
        when :quiet
          @launcher.quiet
          logger.info("quiet: no more jobs are taken")
        when :dump then dump
        end
      end

      def stop(why)
        @launcher.quiet
        timeout = @configuration.shutdown_timeout
        jobs = @launcher.worker.running_jobs.size
        logger.info("#{why}: #{jobs} running #{jobs == 1 ? "job has" : "jobs have"} #{timeout} s")
        @stopper = Thread.new { @launcher.stop(timeout) }
      end

      def abandon
        logger.warn("told to stop again: running jobs are abandoned")
        @stopper = Thread.new { @launcher.stop(0) }
      end

      def look
        Process.setproctitle(title)
        @announce&.call(state)
        recycle unless @stopper
      end

      # Nobody waits for this process to end, so its jobs have all the time that they need.
      def recycle
        if @recycled
          idle = @launcher.worker.running_jobs.empty?
          stop("no job is left") if idle && @idle # twice: a server may have had one on its way
          @idle = idle
        elsif (reason = reason_to_recycle)
          @launcher.quiet
          @recycled = true
          logger.info("#{reason}: another process takes over when the running jobs are done")
        end
      end

      def title
        jobs = @launcher.worker.running_jobs.size
        ["gearman-worker", VERSION, @configuration.tag, "[#{jobs} of #{@configuration.concurrency} busy]",
         ("stopping" if Runner.stopping?)].compact.join(" ")
      end

      def reason_to_recycle
        jobs = @launcher.worker.jobs_done
        return "#{jobs} jobs done" if max_jobs&.<=(jobs)
        return unless @configuration.max_memory && (memory = memory_size) >= @configuration.max_memory

        "#{memory} MiB of memory used"
      end

      # Of this process, in MiB.
      def memory_size
        pages = File.read("/proc/self/statm").split[1].to_i
        pages * Etc.sysconf(Etc::SC_PAGESIZE) / 1_048_576
      rescue SystemCallError # where there is no /proc
        `ps -o rss= -p #{Process.pid}`.to_i / 1024
      end

      def dump
        Thread.list.each do |thread|
          logger.warn("thread #{thread.inspect}\n#{(thread.backtrace || ["no backtrace"]).join("\n")}")
        end
        @launcher.worker.running_jobs.each do |job, seconds|
          logger.warn("job #{job&.func_name} #{job&.handle} has run for #{seconds.round(1)} s")
        end
      end
    end
  end
end
