# frozen_string_literal: true

# The contestants in Ruby: gearman-ruby and this gem have the same API, so they run the same program.
# Which of the two it is depends on the load path alone.
#
#   ruby -I LIB ruby.rb ROLE PORT FUNCTION WARMUP JOBS WINDOW SECONDS

require "gearman"
require "logger"

abort "usage: ruby.rb ROLE PORT FUNCTION WARMUP JOBS WINDOW SECONDS" unless ARGV.size == 7
ROLE, PORT, FUNCTION = ARGV
WARMUP, JOBS, WINDOW = ARGV[3, 3].map { |count| Integer(count) }
SECONDS = Float(ARGV[6])
UNIQUE = 40 # bytes, as in the C programs
PAYLOAD = 64
BULK = 100_000 # tasks that are submitted at once, at most
BATCH = (16.0 / WINDOW).ceil * WINDOW # jobs between two looks at the count and the clock
SERVER = "127.0.0.1:#{PORT}".freeze

# 4.0 logs every packet to standard output unless told otherwise.
Gearman.logger = Logger.new($stderr, level: Logger::WARN)

def wall = Process.clock_gettime(Process::CLOCK_MONOTONIC)
def cpu = Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID)
def objects = GC.stat(:total_allocated_objects)

# Looks at the clock only now and then, so that looking costs nothing.
def late?(since, limit, done) = (done % 16).zero? && wall - since > limit

# To be asked after each job of the warm-up, with how many there were.
def warm?(done)
  @since ||= wall
  done >= WARMUP || late?(@since, SECONDS / 4, done)
end

def begin_measuring(warmed)
  @warmed = warmed
  @objects = objects
  @wall = wall
  @cpu = cpu
end

# To be asked after each measured job.
def over?(done) = done >= JOBS || late?(@wall, SECONDS, done)

# The block, if any, says what else is to be reported; it runs when all has been measured.
def report(jobs)
  values = { cpu: cpu - @cpu, seconds: wall - @wall, objects: objects - @objects, jobs: jobs, warmed: @warmed }
  values.update(yield) if block_given?
  values[:loaded] = $LOADED_FEATURES.grep(%r{/gearman\.rb\z}).join(",")
  puts values.map { |name, value| "#{name}=#{value}" }.join(" ")
  $stdout.flush
end

# What the jobs are made of, made before anything is measured, and so old that the collector leaves it alone then.
# The block, if any, builds the task of each number.
def prepare(&build)
  count = [WARMUP, JOBS].sum { |jobs| (jobs.to_f / BATCH).ceil * BATCH }
  @payloads = Array.new(count) { |number| number.to_s.rjust(PAYLOAD, "0") }
  @uniques = @payloads.map { |data| data[-UNIQUE, UNIQUE] }
  @tasks = Array.new(count, &build) if build
  4.times { GC.start }
end

def background(number) = Gearman::BackgroundTask.new(FUNCTION, @payloads[number], hash: @uniques[number])
def background_default(number) = Gearman::BackgroundTask.new(FUNCTION, @payloads[number])
def foreground(number) = Gearman::Task.new(FUNCTION, @payloads[number], hash: @uniques[number])

# A task of a set is checked and counted as it completes.
def foreground_of_set(number)
  data = @payloads[number]
  task = foreground(number)
  task.on_complete do |result|
    check(result, data)
    @completed += 1
  end
  task
end

def check(result, data) = result == data || abort("the result is not the payload")

# Objects that building one task takes, which no client can be blamed for.
def objects_a_task(builder)
  count = [1000, @payloads.size].min
  before = objects
  number = 0
  while number < count
    send(builder, number)
    number += 1
  end
  (objects - before).fdiv(count)
end

# The loop is plain, as those of the C programs are: what is measured is the library. The block does a step: as many
# jobs, with numbers from the one it is given.
def run_client(builder, step = 1, build: nil)
  prepare(&build)
  client = Gearman::Client.new(SERVER)
  number = 0
  until @warmed && over?(number - @warmed)
    begin_measuring(number) if @warmed.nil? && number.positive? && warm?(number)
    batch = number + BATCH
    while number < batch
      yield client, number
      number += step
    end
  end
  report(number - @warmed) { { task_objects: build ? 0 : objects_a_task(builder) } }
end

def request(client, number) = check(client.do_task(foreground(number)), @payloads[number])

# As a program with many tasks does: it hands over all of them. gearman-ruby has only sets.
def run_bulk
  unless Gearman::Client.method_defined?(:submit_all)
    return run_client(:background, WINDOW) do |client, number|
      run_set(client, Array.new(WINDOW) { |index| background(number + index) })
    end
  end

  prepare
  client = Gearman::Client.new(SERVER)
  submit_all(client, 0, WARMUP)
  begin_measuring(WARMUP)
  done = 0
  done += submit_all(client, WARMUP + done, [JOBS - done, BULK].min) until over?(done)
  report(done) { { task_objects: objects_a_task(:background) } }
end

def submit_all(client, number, count)
  tasks = Array.new(count) { |index| background(number + index) }
  client.submit_all(tasks).all? || abort("a task was not submitted: #{tasks.find(&:error).error.message}")
  count
end

def run_set(client, tasks)
  set = Gearman::TaskSet.new(client)
  tasks.each { |task| set.add_task(task) }
  set.wait_forever || abort("a task has failed")
end

# As many threads as the window says share a client. One of gearman-ruby cannot be shared, so there each has its own.
def run_threads
  prepare
  clients = Array.new(WINDOW) { Gearman::Client.new(SERVER) }
  clients.fill(clients.first) if clients.first.respond_to?(:submit_all)
  warmed = Queue.new
  begun = Queue.new
  threads = clients.each_with_index.map { |client, index| Thread.new { run_thread(client, index, warmed, begun) } }
  begin_measuring(Array.new(WINDOW) { warmed.pop }.sum)
  WINDOW.times { begun << true }
  report(threads.sum(&:value)) { { task_objects: objects_a_task(:foreground) } }
end

# Its share of the warm-up; then, when all are through with theirs, its share of the jobs.
def run_thread(client, index, warmed, begun)
  warmup, jobs = [WARMUP, JOBS].map { |count| (count.to_f / WINDOW).ceil } # as many as prepare made
  number = index * (warmup + jobs)
  warmup.times { |step| request(client, number + step) }
  warmed << warmup
  begun.pop
  number += warmup
  done = 0
  until done >= jobs || late?(@wall, SECONDS, done)
    request(client, number + done)
    done += 1
  end
  done
end

def run_worker(counted)
  worker = Gearman::Worker.new(SERVER, prefetch: WINDOW) # gearman-ruby knows no such option
  arrived = 0
  worker.add_ability(FUNCTION) do |data, _job|
    count_job(arrived += 1) if counted
    data
  end
  worker.work
end

# Called as each job arrives; ends the process when all are there.
def count_job(arrived)
  if @wall.nil?
    begin_measuring(arrived) if warm?(arrived)
  elsif over?(arrived - @warmed)
    report(arrived - @warmed)
    exit!(0)
  end
end

case ROLE
when "submit" then run_client(:background) { |client, number| client.do_task(background(number)) }
when "submit-built"
  run_client(:background, build: method(:background)) { |client, number| client.do_task(@tasks[number]) }
when "submit-default"
  run_client(:background_default) { |client, number| client.do_task(background_default(number)) }
when "submit-set" then run_bulk
when "request" then run_client(:foreground) { |client, number| request(client, number) }
when "request-set"
  run_client(:foreground_of_set, WINDOW) do |client, number|
    @completed = 0
    run_set(client, Array.new(WINDOW) { |index| foreground_of_set(number + index) })
    @completed == WINDOW || abort("#{@completed} of #{WINDOW} tasks have completed")
  end
when "request-threads" then run_threads
when "drain" then run_worker(true)
when "work" then run_worker(false)
else abort "#{ROLE} is no role of this program"
end
