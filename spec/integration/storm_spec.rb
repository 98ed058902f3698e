# frozen_string_literal: true

require "async"
require "timeout"

# Interrupts strike anywhere, all the time, in threads and fibers that share one client. No call gets the answer of
# another, no call fails that was not struck, and nothing is left over.
JobServers.describe "an interruption storm", :process, :quiet do
  interruption = Class.new(StandardError)

  # Seconds; a storm takes a few.
  let(:limit) { 120 }
  let(:client) { remember(Gearman::Client.new(job_server.address), :close) }
  let(:storm) { Storm.new(client, running_jobs) }

  before { start_echo_processes(4, job_server) }

  def start_echo_processes(count, server)
    count.times { start_echo_process(server) }
    eventually("#{count} workers") { server.admin("status").include?("echo\t0\t0\t#{count}\n") }
  end

  def start_echo_process(server)
    remember(WorkerSide::Child.new do
      worker = Gearman::Worker.new(server.address)
      worker.add_ability("echo") { |data| data }
      worker.work
    end)
  end

  # Jobs that run until the example ends, and how far each of them is.
  def running_jobs
    holder = wire.request(:can_do, "hold")
    submitter = wire
    (1..8).to_h do |numerator|
      submitter.ask(:submit_job_bg, "hold", "hold #{numerator}", "")
      handle = holder.ask(:grab_job)[1]
      holder.request(:work_status, handle, numerator, 100).settle
      [handle, numerator]
    end
  end

  # Makes calls in a thread. The mask is handed down: a thread can be struck before its first line.
  def raised_thread(interruption, &around)
    around ||= :call.to_proc
    Thread.handle_interrupt(interruption => :never) do
      Thread.new do
        storm.blow(:raise, interruption) do |call|
          Thread.handle_interrupt(interruption => :immediate) { around.call(call) }
        end
      end
    end
  end

  def timed_thread(seconds)
    Thread.new { storm.blow(:timeout, Timeout::Error) { |call| Timeout.timeout(rand * seconds) { call.call } } }
  end

  def join_all(threads)
    storm.stop
    threads.each { |thread| thread.join(JobServers::PATIENCE) or raise "a thread does not end\n#{Storm.dump}" }
  end

  # Every handle that was returned is that of the job of the call.
  def expect_handles_to_be_right
    keeper = wire.request(:can_do, "keep")
    arguments = {}
    while (job = keeper.ask(:grab_job_uniq)).first == :job_assign_uniq
      arguments[job[1]] = job.last
      keeper.request(:work_complete, job[1], "")
    end
    keeper.close
    expect(arguments).to include(storm.submitted)
  end

  def expect_nothing_left_over(descriptors)
    expect(storm.echo("behind")).to eq("behind")
    client.instance_variable_get(:@connection_pool).connections.each do |connection|
      # Who waits for longer gets a socket more.
      leases = Array.new(Gearman::Connection::MAX_CHANNELS) { connection.lease(Gearman::Connection::LINE_PATIENCE / 2) }
      expect(connection.__send__(:channels).size).to eq(Gearman::Connection::MAX_CHANNELS)
      leases.each { |lease| connection.release(lease) }
    end
    client.close
    eventually("no descriptor more than #{descriptors}") { Descriptors.count <= descriptors }
  end

  # Calls from 50 threads, a fifth of which nothing strikes.
  def storm_of_threads(interruption, raises:, timeouts:, kills:)
    storm
    Timeout.timeout(1) { nil } # its thread is there for good
    descriptors = Descriptors.count
    time = storm.seconds_a_call * 50 # of 50 at once
    Storm.within(limit) do
      peaceful = Array.new(10) { Thread.new { storm.blow(:peaceful) } }
      timed = Array.new(15) { timed_thread(2 * time) }
      raised = Array.new(15) { raised_thread(interruption) }
      killed = Array.new(10) { Thread.new { storm.blow(:kill) } }
      right = { peaceful: 100, raise: 50, timeout: 50, kill: 50 }
      until storm.enough?({ raise: raises, timeout: timeouts, kill: kills }, right)
        raised.sample.raise(interruption)
        victim = rand(killed.size)
        killed[victim].kill.join
        storm.struck!(:kill)
        killed[victim] = Thread.new { storm.blow(:kill) }
        sleep(rand * time / 10)
      end
      join_all(peaceful + timed + raised + killed)
    end
    expect(storm.wrong).to eq({})
    expect_nothing_left_over(descriptors)
  end

  it "of 1 000 raises, timeouts and kills over 50 threads harms no other call and leaves nothing behind" do
    storm_of_threads(interruption, raises: 340, timeouts: 340, kills: 340)
    expect_handles_to_be_right
  end

  describe "over two servers" do
    let(:other_server) { start_job_server }
    let(:client) { remember(Gearman::Client.new([job_server, other_server].map(&:address)), :close) }
    let(:storm) { Storm.new(client, nil) }

    before { start_echo_processes(4, other_server) }

    it "harms no other call and leaves nothing behind" do
      storm_of_threads(interruption, raises: 100, timeouts: 100, kills: 100)
    end
  end

  it "of 1 000 timeouts and stops over 300 fibers harms no other call and leaves nothing behind" do
    storm
    Sync { nil } # it opens descriptors for good
    descriptors = Descriptors.count
    time = storm.seconds_a_call * 300
    Storm.within(limit) do
      Sync do |top|
        fibers = Array.new(100) { top.async { storm.blow(:peaceful) } }
        fibers += Array.new(100) do
          top.async do |task|
            storm.blow(:timeout, Async::TimeoutError) { |call| task.with_timeout(rand * 2 * time) { call.call } }
          end
        end
        stopped = Array.new(100) { top.async { storm.blow(:kill) } }
        until storm.enough?({ timeout: 500, kill: 500 }, { peaceful: 100, timeout: 50, kill: 50 })
          sleep(rand * time / 50)
          5.times do
            victim = rand(stopped.size)
            stopped[victim].stop
            storm.struck!(:kill)
            stopped[victim] = top.async { storm.blow(:kill) }
          end
        end
        storm.stop
        (fibers + stopped).each(&:wait)
      end
    end
    expect(storm.wrong).to eq({})
    expect_handles_to_be_right
    expect_nothing_left_over(descriptors)
  end

  it "over clients that connect for each call leaves no descriptor behind" do
    storm
    descriptors = Descriptors.count
    address = job_server.address
    connecting = lambda do |call|
      own = Gearman::Client.new(address)
      call.call(own)
    ensure
      own&.close
    end
    time = storm.seconds_a_call * 20
    Storm.within(limit) do
      threads = Array.new(10) { raised_thread(interruption, &connecting) }
      until storm.enough?({ raise: 1000 }, { raise: 50 })
        threads.sample.raise(interruption)
        sleep(rand * time / 5)
      end
      join_all(threads)
    end
    expect(storm.wrong).to eq({})
    expect_nothing_left_over(descriptors)
  end

  # The calls that are on the socket fail; whoever connects is given the number of its descriptor.
  it "of sockets that are closed, and of clients, gives no call the answer of another" do
    failures = [Gearman::NetworkError, Gearman::NoJobServersError]
    storm
    descriptors = Descriptors.count
    connection = client.instance_variable_get(:@connection_pool).connections.first
    time = storm.seconds_a_call * 20
    Storm.within(limit) do
      threads = Array.new(20) { Thread.new { storm.blow(:raise, failures) } }
      closed = 0
      until closed >= 500 && storm.enough?({ raise: 101 }, { raise: 50 })
        sleep(rand * time / 5)
        if (closed += 1) % 20 == 0
          client.close
        else
          connection.__send__(:channels).sample&.io&.close
        end
      end
      join_all(threads)
    end
    expect(storm.wrong).to eq({})
    expect_handles_to_be_right
    expect_nothing_left_over(descriptors)
  end
end
