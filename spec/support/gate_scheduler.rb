# frozen_string_literal: true

require "socket"

# A Fiber scheduler that says of every wait that it was asked for it, so that a server can hold its answer back until
# then: whoever waits past the scheduler gets none.
#
#   GateScheduler.run { |scheduler| Fiber.schedule { ... } }
class GateScheduler
  # The waits for an IO and for a time so far.
  attr_reader :waits

  # Runs the block and the fibers that it schedules, in a thread of their own. Raises what a fiber raised.
  def self.run(&block)
    Thread.new do
      Thread.current.report_on_exception = false
      scheduler = new
      Fiber.set_scheduler(scheduler)
      Fiber.schedule { block.call(scheduler) }
      scheduler.run
      scheduler.raise_error
    end.join(JobServers::PATIENCE) or raise "fibers do not end"
  end

  def initialize
    @waits = 0
    @readable = {}
    @writable = {}
    @timeouts = {}
    @ready = Queue.new
    @urgent = IO.pipe
    @blocked = 0
  end

  def raise_error
    raise @error if @error
  end

  def run
    turn until @readable.empty? && @writable.empty? && @timeouts.empty? && @ready.empty? && @blocked.zero?
  end
  alias close run

  # The hooks

  def fiber(&block)
    Fiber.new(blocking: false) do
      block.call
    rescue Exception => e # rubocop:disable Lint/RescueException -- it is raised by run
      @error ||= e
    end.tap(&:resume)
  end

  def io_wait(io, events, timeout = nil)
    @waits += 1
    current = Fiber.current
    @readable[current] = io unless events.nobits?(IO::READABLE)
    @writable[current] = io unless events.nobits?(IO::WRITABLE)
    @timeouts[current] = now + timeout if timeout
    Fiber.yield || false
  ensure
    [@readable, @writable, @timeouts].each { |waiting| waiting.delete(current) }
  end

  def kernel_sleep(duration = nil)
    block(:sleep, duration)
  end

  def block(_blocker, timeout = nil)
    current = Fiber.current
    @timeouts[current] = now + timeout if timeout
    @blocked += 1
    Fiber.yield
  ensure
    @blocked -= 1
    @timeouts.delete(current)
  end

  def unblock(_blocker, fiber)
    @ready << fiber
    @urgent[1].write_nonblock(".", exception: false)
  end

  private

  def now
    Process.clock_gettime(Process::CLOCK_MONOTONIC)
  end

  def turn
    soonest = @timeouts.values.min
    timeout = @ready.empty? ? soonest && [soonest - now, 0].max : 0
    readable, writable, = select([@urgent[0], *@readable.values], @writable.values, timeout)
    @urgent[0].read_nonblock(100, exception: false) if readable&.include?(@urgent[0])
    resume_ready
    resume(@readable, readable, IO::READABLE)
    resume(@writable, writable, IO::WRITABLE)
    @timeouts.select { |_, time| time <= now }.each_key { |fiber| fiber.resume(nil) if @timeouts.delete(fiber) }
  end

  # Beside the scheduler: this is the one place that blocks.
  def select(readers, writers, timeout)
    Fiber.new(blocking: true) { IO.select(readers.uniq, writers.uniq, nil, timeout) }.resume || []
  end

  def resume_ready
    Array.new(@ready.size) { @ready.pop }.each { |fiber| fiber.resume(true) if fiber.alive? }
  end

  def resume(waiting, ready, event)
    waiting.select { |_, io| ready&.include?(io) }.each_key { |fiber| fiber.resume(event) if waiting.key?(fiber) }
  end
end
