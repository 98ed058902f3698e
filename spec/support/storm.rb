# frozen_string_literal: true

# Calls of all kinds from many threads or fibers that share a client, for examples that interrupt them. Each call
# has an answer of its own, so one that gets the answer of another is seen.
class Storm
  KINDS = %i[peaceful raise timeout kill].freeze
  PATIENCE = JobServers::PATIENCE

  # Runs the block; raises with what every thread and fiber is doing when that takes longer.
  def self.within(seconds)
    caller = Thread.current
    watchdog = Thread.new do
      sleep seconds
      caller.raise("not within #{seconds} s\n#{dump}")
    end
    yield
  ensure
    watchdog&.kill
  end

  def self.dump
    threads = Thread.list.map { |thread| "#{thread.inspect}\n  #{thread.backtrace&.join("\n  ")}" }
    fibers = ObjectSpace.each_object(Fiber).select(&:alive?).map do |fiber|
      "#{fiber.inspect}\n  #{fiber.backtrace&.first(12)&.join("\n  ")}"
    end
    (threads + fibers).join("\n")
  end

  # Handles of the background jobs whose submission was answered, and their arguments.
  attr_reader :submitted

  # `running`: handles of jobs that run, and the numerators that their status has.
  def initialize(client, running)
    @client = client
    @running = running.to_a
    @right = KINDS.to_h { |kind| [kind, 0] }
    @struck = KINDS.to_h { |kind| [kind, 0] }
    @submitted = {}
    @wrong = []
    @number = 0
    @mutex = Mutex.new
    @stopped = false
  end

  # Makes calls until the storm is over: somebody stops it, or something is wrong. The block is given each call and
  # makes it, with another client if it likes. What `strike` names may be raised: it strikes a call.
  def blow(kind, strike = nil, &around)
    around ||= :call.to_proc
    until @stopped
      number = @number += 1
      nonce = "#{kind} #{number}"
      begin
        expected, answer = around.call(->(client = @client) { call(client, number, nonce) })
        answer == expected ? count(@right, kind) : wrong!("#{nonce}: #{short(answer)} instead of #{short(expected)}")
      rescue *strike
        count(@struck, kind)
      rescue StandardError => e
        wrong!("#{nonce}: #{e.class}: #{e.message} (#{e.backtrace.first(4).join(", ")})")
      end
    end
  end

  def stop
    @stopped = true
  end

  # A call of this kind was struck; for those that cannot tell, because they were killed.
  def struck!(kind)
    count(@struck, kind)
  end

  # Whether so many calls of each kind were struck, and so many right; or something is wrong.
  def enough?(struck, right)
    @stopped || [[@struck, struck], [@right, right]].all? do |counts, least|
      least.all? { |kind, count| counts[kind] >= count }
    end
  end

  # What was wrong, and how often.
  def wrong = @wrong.tally

  def echo(text, client = @client)
    client.do_task(echo_task(text), PATIENCE)
  end

  # Seconds that a call takes by itself.
  def seconds_a_call
    echo("warm")
    start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    50.times { echo("time") }
    (Process.clock_gettime(Process::CLOCK_MONOTONIC) - start) / 50
  end

  private

  # Makes one call: what it should answer, and what it does.
  def call(client, number, nonce)
    case number % 10
    when 3 then [texts = %w[a b c].map { |part| "#{nonce} #{part}" }, echo_together(texts, client)]
    when 4 then [nonce, submit(nonce, client)]
    when 5 then @running.sample.then { |handle, numerator| [numerator, client.job_status(handle).numerator] }
    when 6 then [big = nonce * 5000, echo(big, client)]
    when 7 then [true, client.ping.values.all? || raise(Gearman::NetworkError, "no echo")]
    else [nonce, echo(nonce, client)]
    end
  end

  def echo_task(text)
    Gearman::Task.new("echo", text, coalesce: false)
  end

  # A set that times out at once, and goes on.
  def echo_together(texts, client)
    answers = {}
    set = Gearman::TaskSet.new(client)
    texts.each { |text| set.add_task(echo_task(text).tap { |task| task.on_complete { |data| answers[text] = data } }) }
    set.wait(0) || set.wait(PATIENCE)
    answers.values_at(*texts)
  ensure
    set&.give_up
  end

  def submit(text, client)
    task = Gearman::BackgroundTask.new("keep", text, coalesce: false)
    client.do_task(task)
    before = @submitted.delete(task.handle)
    return "#{task.handle} of #{before}" if before

    @submitted[task.handle] = text
  end

  # A count that an interrupt cannot spoil.
  def count(counts, kind)
    Thread.handle_interrupt(Object => :never) { @mutex.synchronize { counts[kind] += 1 } }
  end

  def wrong!(what)
    stop
    @wrong << what
  end

  def short(value) = value.inspect[0, 80]
end
