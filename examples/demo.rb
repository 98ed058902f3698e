# frozen_string_literal: true

# Shows the library at work, with a job server, two workers and a client of its own. Ends by itself, with status 0 when
# everything went as expected.

require "gearman"

$stdout.sync = true
# What the log would say, this says itself.
Gearman.logger.level = Logger::FATAL

# Seconds after which something that must happen is taken not to happen.
PATIENCE = 10

def step(title)
  puts "", title
end

def say(line)
  puts "  #{line}"
end

def check(what, actual, expected)
  return if actual == expected

  say "NOT AS EXPECTED: #{what} is #{actual.inspect}, not #{expected.inspect}"
  exit 1
end

def run_worker(address, name)
  worker = Gearman::Worker.new(address, client_id: name)
  trap("TERM") { worker.worker_enabled = false }
  trap("INT") { worker.worker_enabled = false }

  worker.add_ability("reverse") do |data|
    sleep 0.2
    data.reverse
  end
  worker.add_ability("resize") do |data, job|
    (1..4).each do |quarter|
      job.report_status(quarter, 4)
      job.send_data("strip #{quarter}")
      sleep 0.1
    end
    job.report_warning("the colours may be off")
    "#{data} has its new size"
  end
  worker.add_ability("fail") { false }
  worker.add_ability("raise") { |data| raise ArgumentError, "#{data} is no number" }
  worker.add_ability("mail") do |data|
    sleep 0.3
    say "#{name}: sent the mail to #{data}"
    true
  end
  worker.work
end

def start_worker(address, name)
  Process.fork do
    run_worker(address, name)
    exit! 0
  end
end

def wait_until(what)
  (PATIENCE * 50).times do
    result = yield
    return result if result

    sleep 0.02
  end
  check(what, false, true)
end

def run_jobs(address)
  client = Gearman::Client.new(address)

  step "1. A job, and its result"
  result = client.do_task(Gearman::Task.new("reverse", "hello"), PATIENCE)
  say "client: reverse(\"hello\") gives #{result.inspect}"
  check("the result", result, "olleh")

  step "2. Six jobs of 0.2 seconds at once, for the two workers"
  results = {}
  tasks = Gearman::TaskSet.new(client)
  %w[one two three four five six].each do |word|
    task = Gearman::Task.new("reverse", word)
    task.on_complete do |text|
      results[word] = text
      say "client: reverse(#{word.inspect}) gives #{text.inspect}"
    end
    tasks.add_task(task)
  end
  start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
  check("whether all of them succeed", tasks.wait(PATIENCE), true)
  check("the results", results, %w[one two three four five six].to_h { |word| [word, word.reverse] })
  say format("together: %.1f seconds", Process.clock_gettime(Process::CLOCK_MONOTONIC) - start)

  step "3. Progress, parts of the result and a warning, while the job runs"
  seen = []
  note = lambda do |line|
    seen << line
    say "client: #{line}"
  end
  task = Gearman::Task.new("resize", "photo.jpg")
  task.on_status { |done, all| note.call("#{100 * done.to_i / all.to_i} % done") }
  task.on_data { |part| note.call("data: #{part}") }
  task.on_warning { |text| note.call("warning: #{text}") }
  task.on_complete { |result| note.call("result: #{result}") }
  client.do_task(task, PATIENCE)
  check("what came", seen, ["25 % done", "data: strip 1", "50 % done", "data: strip 2", "75 % done", "data: strip 3",
                            "100 % done", "data: strip 4", "warning: the colours may be off",
                            "result: photo.jpg has its new size"])

  step "4. A job that fails, and is tried again twice"
  seen = []
  task = Gearman::Task.new("fail", "", retry_count: 2)
  task.on_retry { |count| note.call("it failed: retry #{count}") }
  task.on_fail { note.call("it failed for good") }
  check("the result", client.do_task(task, PATIENCE), nil)
  check("what happened", seen, ["it failed: retry 1", "it failed: retry 2", "it failed for good"])

  step "5. A job whose worker raises an error"
  seen = []
  client.set_options("exceptions")
  task = Gearman::Task.new("raise", "XVI")
  task.on_exception { |message| note.call("the worker says: #{message}") }
  check("the result", client.do_task(task, PATIENCE), nil)
  check("what happened", seen, ["the worker says: XVI is no number"])

  step "6. A background job: the client does not wait for it"
  handle = nil
  task = Gearman::BackgroundTask.new("mail", "alice@example.com")
  task.on_created { |name| handle = name }
  check("the result", client.do_task(task), nil)
  say "client: the server has it as #{handle} and will have it run"
  server = Gearman::Server.new(address)
  wait_until("whether the mail is sent") { server.status["mail"][:queue] == "0" }
  say "server: all mail jobs have run"
  server.close
ensure
  client&.close
end

server = Gearman::EmbeddedServer.start
puts "A job server listens on #{server.address}. It is embedded in this process, for development;"
puts "in production it is gearmand."
workers = %w[worker-1 worker-2].to_h { |name| [start_worker(server.address, name), name] }
workers.each { |pid, name| puts "#{name} runs in process #{pid}." }

begin
  run_jobs(server.address)
ensure
  workers.each_key { |pid| Process.kill("TERM", pid) }
end
statuses = workers.map { |pid, name| wait_until("whether #{name} stops") { Process.wait2(pid, Process::WNOHANG) }.last }
check("whether the workers ended well", statuses.all?(&:success?), true)
server.stop
puts "", "Everything went as expected: the workers have stopped, and so does the server."
