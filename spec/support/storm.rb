# frozen_string_literal: true

# Calls of all kinds from many threads or fibers that share a client, for examples that interrupt them. Each call
# has an answer of its own, so one that gets the answer of another is seen.
class Storm
  KINDS = %i[peaceful raise timeout kill].freeze
  PATIENCE = JobServers::PATIENCE

  # The calls, in turn. Those that only jobs on one server can be told by are left out where there are several.
  CALLS = %i[echo set submit status large ping submit_all options echo echo echo echo].freeze
  CALLS_TO_SEVERAL = %i[echo set large ping options echo echo].freeze

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

  # `running`: handles of jobs that run, and the numerators that their status has; nil when there are several servers.
  def initialize(client, running)
    @client = client
    @running = running.to_a
    @calls = running ? CALLS : CALLS_TO_SEVERAL
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
    case @calls[number % @calls.size]
    when :set then [texts = parts(nonce), echo_together(texts, client)]
    when :submit then [nonce, submit(nonce, client)]
    when :status then @running.sample.then { |handle, numerator| [numerator, client.job_status(handle).numerator] }
    when :large then [big = nonce * 5000, echo(big, client)]
    when :ping then [true, client.ping.values.all? || raise(Gearman::NetworkError, "no echo")]
    when :submit_all then [texts = parts(nonce), submit_all(texts, client)]
    when :options then [%w[exceptions], client.set_options("exceptions")]
    else [nonce, echo(nonce, client)]
    end
  end

  def parts(text) = %w[a b c].map { |part| "#{text} #{part}" }

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
    task = background_task(text)
    client.do_task(task)
    note(task.handle, text)
  end

  def submit_all(texts, client)
    tasks = texts.map { |text| background_task(text) }
    handles = client.submit_all(tasks)
    lost = tasks.find(&:error) and raise lost.error

    handles.zip(texts).map { |handle, text| note(handle, text) }
  end

  def background_task(text)
    Gearman::BackgroundTask.new("keep", text, coalesce: false)
  end

  # Returns the text, unless the handle is that of another.
  def note(handle, text)
    before = @submitted.delete(handle)
    return "#{handle} of #{before}" if before

    @submitted[handle] = text
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
