# frozen_string_literal: true

require "gearman/runner/signals"
require "gearman/runner/single"

module Gearman
  module Runner
    # Several processes of one kind, forked when everything is loaded. A child that ends is replaced, one that crashed
    # soon after it began ever later; signals are passed on.
    #
    # @api private
    class Cluster
      include Logging
      include Clock

      # Seconds between looks at everything.
      TICK = 1
      # Seconds after which a child that has crashed is replaced at once.
      SETTLED = 60
      # Seconds until a child that crashed is replaced, at most.
      MAX_DELAY = 30
      # Seconds without a word from a child after which it is stuck.
      STUCK = 30
      # Seconds that a child may take to end when its time is up.
      PATIENCE = 3
      # What a child says of itself, in a byte.
      STATES = { ready: "r", live: "l", stopping: "e", stuck: "s" }.freeze
      # A child: a process, or one that is to be.
      Child = Struct.new(:pid, :reports, :state, :heard_at, :started_at, :start_at, :crashes, keyword_init: true)
      private_constant :TICK, :SETTLED, :MAX_DELAY, :STUCK, :PATIENCE, :STATES, :Child

      # @param configuration [Configuration]
      # @param signals [Signals]
      # @param announce [Proc] is told each second how it goes, see {#state}
      # @yield in each child, which is to let go of what its parent has
      def initialize(configuration, signals:, announce:, &let_go)
        @configuration = configuration
        @signals = signals
        @announce = announce
        @let_go = let_go
        @children = Array.new(configuration.processes) { Child.new(start_at: now, crashes: 0) }
        @life, @life_writer = IO.pipe
        @status = OK
      end

      # @return [Integer] the status to end with
      def run
        Process.warmup if Process.respond_to?(:warmup)
        Process.setproctitle(["gearman-worker", VERSION, @configuration.tag,
                              "[#{@children.size} processes]"].compact.join(" "))
        until over?
          start_due
          IO.select([@signals.io, *@children.filter_map(&:reports)], nil, nil, TICK)
          @signals.read.each { |meaning| act(meaning) }
          @children.each { |child| look_after(child) }
          kill_hung if @deadline && now > @deadline
          @announce.call(state)
        end
        @status
      end

      # @return [Symbol] :stopping, :stuck when any child is, :ready when any is, or else :live
      def state
        return :stopping if @stopping

        running = @children.select(&:pid)
        return :stuck if running.any? { |child| child.state == :stuck || now - child.heard_at > STUCK }

        running.any? { |child| child.state == :ready } ? :ready : :live
      end

      private

      def over?
        @stopping && @children.none?(&:pid)
      end

      def start_due
        return if @stopping || @quiet

        @children.each { |child| start(child) if child.pid.nil? && child.start_at <= now }
      end

      def start(child)
        child.state = nil
        child.heard_at = child.started_at = now
        child.reports, writer = IO.pipe
        child.pid = fork { be_child(writer) }
      rescue SystemCallError => e # too many processes or descriptors, or no memory: that may pass
        forget(child)
        delay = put_off(child)
        logger.error("a process cannot be started: #{e.message}; the next try is in #{delay.round(1)} s")
      ensure
        writer&.close
      end

      def forget(child)
        child.reports&.close
        child.reports = child.pid = nil
      end

      def be_child(writer)
        signals = Signals.new(Signals::OF_CHILD)
        @signals.close
        [@life_writer, *@children.filter_map(&:reports)].each(&:close)
        @let_go&.call
        announce = lambda do |state|
          writer.write_nonblock(STATES.fetch(state), exception: false)
        rescue Errno::EPIPE
          nil # the parent is gone: its jobs are finished first
        end
        status = Single.new(@configuration, signals: signals, parent: @life, announce: announce).run
        exit!(status) if status == ABANDONED
        exit(status)
      end

      def look_after(child)
        hear(child)
        reap(child)
      end

      def hear(child)
        said = child.reports&.read_nonblock(512, exception: false)
        return unless said.is_a?(String)

        catch_up(child) unless child.state
        child.state = STATES.key(said[-1])
        child.heard_at = now
      end

      # Signals that came before it had handlers were lost.
      def catch_up(child)
        kill("TSTP", child) if @quiet
        kill("TERM", child) if @stopping
      end

      def reap(child)
        return unless child.pid && Process.wait(child.pid, Process::WNOHANG)

        status = $CHILD_STATUS || Process.last_status
        forget(child)
        ended(child, status)
      end

      def ended(child, status)
        if @stopping
          @status = status.exitstatus || ABANDONED unless status.success? || @status == FAILED
        elsif status.success? || status.exitstatus == ABANDONED
          child.start_at = now
          child.crashes = 0
        else
          crashed(child, status)
        end
      end

      def crashed(child, status)
        delay = put_off(child)
        place = "; another takes its place in #{delay.round(1)} s" unless @quiet
        logger.error("#{status} ended unexpectedly#{place}")
      end

      # Returns the seconds until the child is started.
      def put_off(child)
        child.crashes = now - child.started_at < SETTLED ? child.crashes + 1 : 1
        delay = child.crashes == 1 ? 0 : [2**(child.crashes - 2), MAX_DELAY].min * rand(0.75..1.25)
        child.start_at = now + delay
        delay
      end

      def act(meaning)
        case meaning
        when :stop then @stopping ? abandon : stop
        when :quiet
          @quiet = true
          signal_all("TSTP")
        when :dump then signal_all("TTIN")
        end
      end

      def stop
        logger.info("stopping #{@children.count(&:pid)} processes")
        @stopping = Runner.stopping = true
        @deadline = now + @configuration.shutdown_timeout + PATIENCE
        signal_all("TERM")
      end

      def abandon
        @deadline = now + PATIENCE
        signal_all("QUIT")
      end

      def kill_hung
        logger.error("#{@children.filter_map(&:pid).join(", ")} did not end in time and are killed")
        signal_all("KILL")
        @deadline = nil
      end

      def signal_all(name)
        @children.each { |child| kill(name, child) if child.pid }
      end

      def kill(name, child)
        Process.kill(name, child.pid)
      rescue Errno::ESRCH
        nil # it has just ended
      end
    end
  end
end
