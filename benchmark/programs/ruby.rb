# frozen_string_literal: true

# The contestants in Ruby: gearman-ruby and this gem have the same API, so they run the same program.
# Which of the two it is depends on the load path alone.
#
#   ruby -I LIB ruby.rb ROLE PORT FUNCTION WARMUP JOBS WINDOW SECONDS

require "gearman"
require "logger"

abort "usage: ruby.rb ROLE PORT FUNCTION WARMUP JOBS WINDOW SECONDS" unless ARGV.size == 7
ROLE, PORT, FUNCTION = ARGV
WARMUP, JOBS = ARGV[3, 2].map { |count| Integer(count) }
SECONDS = Float(ARGV[6])
UNIQUE = 40 # bytes, as in the C programs
SERVER = "127.0.0.1:#{PORT}".freeze

# 4.0 logs every packet to standard output unless told otherwise.
Gearman.logger = Logger.new($stderr, level: Logger::WARN)

def wall = Process.clock_gettime(Process::CLOCK_MONOTONIC)
def cpu = Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID)
def objects = GC.stat(:total_allocated_objects)
def payload(number) = number.to_s.rjust(64, "0")

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

# Objects that building one task takes, which no client can be blamed for.
def objects_a_task(count)
  before = objects
  number = 0
  yield number += 1 while number < count
  (objects - before).fdiv(count)
end

# The loop is plain, as those of the C programs are: what is measured is the library. The block builds a task.
def run_client(answered:)
  client = Gearman::Client.new(SERVER)
  payloads = Array.new(WARMUP + JOBS) { |number| payload(number) }
  uniques = payloads.map { |data| data[-UNIQUE, UNIQUE] }
  number = 0
  until @warmed && over?(number - @warmed)
    begin_measuring(number) if @warmed.nil? && number.positive? && warm?(number)
    result = client.do_task(yield(payloads[number], uniques[number]))
    abort "the result is not the payload" if answered && result != payloads[number]
    number += 1
  end
  report(number - @warmed) do
    { task_objects: objects_a_task([1000, payloads.size - 1].min) { |index| yield(payloads[index], uniques[index]) } }
  end
end

def run_worker(counted)
  worker = Gearman::Worker.new(SERVER)
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
when "submit"
  run_client(answered: false) { |data, unique| Gearman::BackgroundTask.new(FUNCTION, data, hash: unique) }
when "submit-default"
  run_client(answered: false) { |data, _unique| Gearman::BackgroundTask.new(FUNCTION, data) }
when "request"
  run_client(answered: true) { |data, unique| Gearman::Task.new(FUNCTION, data, hash: unique) }
when "drain" then run_worker(true)
when "work" then run_worker(false)
else abort "#{ROLE} is no role of this program"
end
