# frozen_string_literal: true

# Servers that say nothing: nobody waits for ever.
RSpec.describe "a client of a quiet server", :quiet do
  patience = 0.3

  before { stub_const("Gearman::TaskSet::PATIENCE", patience) }

  def client_of(*servers)
    remember(Gearman::Client.new(servers.map(&:address)), :close)
  end

  def doubt_about(*tasks)
    raise_error(Gearman::NetworkError) { |error| expect(error.tasks).to eq(tasks) }
  end

  # A task whose unique is on the first of the addresses.
  def task_for(address, addresses, function = "f")
    pool = Gearman::ConnectionPool.new(addresses)
    pool.connections.each { |connection| allow(connection).to receive(:is_healthy?).and_return(true) }
    (0..).each do |index|
      task = Gearman::Task.new(function, "#{address} #{index}")
      return task if pool.get_connection(task.get_uniq_hash).to_host_port == address
    end
  end

  each_job_server do
    describe "whose connection is half open" do
      it "is found within twice the patience, and the next call is right" do
        proxy = tcp_proxy(job_server)
        client = client_of(proxy)
        task = Gearman::Task.new("f", "first")
        task.on_created { proxy.silence }
        took = seconds do
          expect { client.do_task(task, JobServers::PATIENCE) }.to doubt_about(task).with_message(
            /\A#{proxy.address}: .*; outcome unknown of f \(\h{40}\)\z/
          )
        end
        expect(took).to be_between(2 * patience, 10 * patience)
        start_worker(job_server, "f" => ->(data, _job) { data })
        expect(client.do_task(Gearman::Task.new("f", "second"), JobServers::PATIENCE)).to eq("second")
      end

      it "is found before JOB_CREATED too: the time for that is bounded" do
        proxy = tcp_proxy(job_server) { |number| TCPProxy::Cut.new(:response, 16, :silence) if number.zero? }
        client = client_of(proxy)
        client.task_create_timeout_sec = 0.2
        task = Gearman::Task.new("f")
        expect { client.do_task(task, JobServers::PATIENCE) }.to doubt_about(task)
        start_worker(job_server, "f" => ->(data, _job) { data })
        expect(client.do_task(Gearman::Task.new("f", "next"), JobServers::PATIENCE)).to eq("next")
      end

      it "costs the tasks on other servers nothing" do
        other = start_gearmand
        proxy = tcp_proxy(job_server)
        addresses = [proxy.address, other.address]
        lost, kept = addresses.map { |address| task_for(address, addresses) }
        start_worker(other, "f" => ->(data, _job) { sleep(4 * patience) && data })
        results = []
        kept.on_complete { |data| results << data }
        set = Gearman::TaskSet.new(client_of(proxy, other))
        [lost, kept].each { |task| set.add_task(task) }
        lost.on_created { proxy.silence }
        expect { set.wait(JobServers::PATIENCE) }.to doubt_about(lost)
        expect(results).to eq([kept.arg])
      end
    end

    describe "that is not quiet, while its client is busy elsewhere" do
      let(:client) { client_of(job_server).tap { |client| client.task_create_timeout_sec = patience } }

      it "is believed what it said meanwhile" do
        start_worker(job_server, "f" => ->(data, _job) { data })
        results = []
        tasks = Array.new(26) { |number| Gearman::Task.new("f", number.to_s, on_complete: results.method(:push).to_proc) }
        set = Gearman::TaskSet.new(client)
        tasks.each { |task| set.add_task(task) }
        expect(set.wait(0)).to be(false)
        sleep(2 * patience)
        expect(set.wait(JobServers::PATIENCE)).to be(true)
        expect(results).to match_array(tasks.map(&:arg))
      end

      it "has taken what a bulk submission sent" do
        client.task_create_timeout_sec = 1
        times = 0
        tasks = Array.new(9_000) { |number| Gearman::BackgroundTask.new("f", number.to_s) }
        handles = client.submit_all(tasks) { sleep(1.2) if (times += 1) < 3 }
        expect(handles).to all(be_a(String))
      end
    end

    it "leaves a job that runs for long in peace" do
      start_worker(job_server, "f" => ->(data, _job) { sleep(5 * patience) && data })
      expect(client_of(job_server).do_task(Gearman::Task.new("f", "slow"), JobServers::PATIENCE)).to eq("slow")
    end

    it "leaves a job that waits for a worker in peace" do
      waiting = Thread.new { client_of(job_server).do_task(Gearman::Task.new("f", "late"), JobServers::PATIENCE) }
      sleep(5 * patience)
      start_worker(job_server, "f" => ->(data, _job) { data })
      expect(waiting.value).to eq("late")
    end
  end

  it "reads what came while it was busy elsewhere before it takes a server for dead" do
    server = scripted_server do |peer|
      peer.accept_job("H:1")
      peer.request # GET_STATUS
      sleep(patience)
      peer.reply(:status_res, "H:1", "1", "1", "0", "0")
      sleep(patience)
      peer.reply(:work_complete, "H:1", "late")
      peer.request
    end
    set = Gearman::TaskSet.new(client_of(server))
    set.add_task(task = Gearman::Task.new("f", "slow"))
    expect(set.wait(1.5 * patience)).to be(false) # it has been asked, and has not answered yet
    sleep(1.5 * patience)
    expect(set.wait(JobServers::PATIENCE)).to be(true)
    expect(task.successful).to be(true)
  end

  # Somebody submits a job and goes; a client submits the same before a worker comes. Returns what it comes to, and its
  # task.
  def join_abandoned_job(server, client)
    task = Gearman::Task.new("f", "x")
    wire = wire(server)
    wire.ask(:submit_job, "f", task.get_uniq_hash, "x")
    wire.close
    eventually("the end of that client") { server.admin("workers").lines.size == 2 }
    created = Queue.new
    task.on_created { |handle| created << handle }
    waiting = Thread.new do
      client.do_task(task, JobServers::PATIENCE)
    rescue Gearman::Error => e
      e
    end
    pop(created)
    start_worker(server, "f" => ->(data, _job) { data })
    [waiting.value, task]
  end

  it "learns that gearmand has dropped the job of an abandoned unique: the outcome is unknown" do
    client = client_of(server = start_gearmand)
    outcome, task = join_abandoned_job(server, client)
    expect(outcome).to be_a(Gearman::NetworkError)
    expect(outcome.message).to match(/\A#{server.address} does not know the job H:\S+ any more; outcome unknown of f /)
    expect(outcome.tasks).to eq([task])
    expect(client.do_task(Gearman::Task.new("f", "x"), JobServers::PATIENCE)).to eq("x")
  end

  it "finds all that a server has lost, whatever comes of others, also where one was submitted and given up before" do
    known = { "H:late" => true }
    asked = Queue.new
    server = scripted_server do |peer|
      loop do
        type, name, unique = peer.request
        if type == :get_status
          asked << name
          peer.reply(:status_res, name, *Array.new(2, known[name] ? "1" : "0"), "0", "0")
        else
          peer.reply(:job_created, "H:#{unique}")
          Thread.new { loop { sleep(patience / 4) && peer.reply(:work_data, "H:loud", "on") } } if unique == "loud"
        end
      end
    end
    client = client_of(server)
    client.do_task(Gearman::Task.new("f", "x", hash: "twice"), patience / 2)
    tasks = %w[twice late loud].map { |name| Gearman::Task.new("f", "x", hash: name) }
    set = Gearman::TaskSet.new(client)
    tasks.each { |task| set.add_task(task) }
    waiting = Thread.new { set.wait(JobServers::PATIENCE) }
    waiting.report_on_exception = false
    eventually("the question after one that is there") { !asked.empty? && asked.pop == "H:late" }
    known.clear
    expect { waiting.value }.to raise_error(Gearman::NetworkError) { |error| expect(error.tasks).to match_array(tasks) }
  end

  it "gets the result of such a job from the embedded server, which keeps it for whoever is left" do
    client = client_of(server = start_embedded_server)
    expect(join_abandoned_job(server, client).first).to eq("x")
  end

  describe "that keeps a result back until it hears something" do
    it "is made to let go of it" do
      asked = []
      server = scripted_server do |peer|
        peer.accept_job("H:1")
        asked << peer.request
        peer.reply(:work_complete, "H:1", "kept back").reply(:status_res, "H:1", "0", "0", "0", "0")
      end
      expect(client_of(server).do_task(Gearman::Task.new("f"), JobServers::PATIENCE)).to eq("kept back")
      expect(asked).to eq([[:get_status, "H:1"]])
    end

    it "may say first that it does not know the job any more" do
      server = scripted_server do |peer|
        peer.accept_job("H:1")
        peer.request
        peer.reply(:status_res, "H:1", "0", "0", "0", "0").reply(:work_complete, "H:1", "kept back")
        peer.request
      end
      expect(client_of(server).do_task(Gearman::Task.new("f"), JobServers::PATIENCE)).to eq("kept back")
    end
  end

  # A server whose jobs are not there for those asked after of which the block does not say that they are. It notes
  # whom it was asked after.
  def forgetful_server(asked)
    scripted_server do |peer|
      count = 0
      loop do
        type, name, = peer.request
        next peer.reply(:job_created, "H:#{count += 1}") unless type == :get_status

        asked << name
        peer.reply(:status_res, name, yield(peer, name) ? "1" : "0", "0", "0", "0")
      end
    end
  end

  def set_of(count, server)
    tasks = Array.new(count) { |index| Gearman::Task.new("f", index.to_s) }
    set = Gearman::TaskSet.new(client_of(server))
    tasks.each { |task| set.add_task(task) }
    [set, tasks]
  end

  it "asks after a job of which it hears nothing, however much comes of another" do
    asked = []
    server = forgetful_server(asked) do |peer, _name|
      peer.reply(:work_complete, "H:2", "") if asked.size == 2
      false
    end
    set, tasks = set_of(2, server)
    tasks.last.on_created do
      peer = server.connections.last
      @talking = Thread.new { peer.reply(:work_status, "H:2", "1", "2") && sleep(0.02) until asked.size == 2 }
    end
    expect { set.wait(JobServers::PATIENCE) }.to doubt_about(tasks.first)
    expect(asked).to eq(%w[H:1 H:1])
  ensure
    @talking&.kill&.join
  end

  it "asks after the next at once when a job was found lost" do
    asked = []
    set, tasks = set_of(40, forgetful_server(asked) { false })
    expect(seconds { expect { set.wait(JobServers::PATIENCE) }.to doubt_about(*tasks) }).to be < 20 * patience
    expect(asked).to eq((1..40).flat_map { |number| ["H:#{number}"] * 2 })
  end

  it "asks after one job at a time, that first of which it has heard nothing for the longest time" do
    asked = []
    set, tasks = set_of(20, server = forgetful_server(asked) { true })
    tasks.last.on_created { server.connections.last.reply(:work_data, "H:1", "") }
    time = seconds { expect(set.wait(5.5 * patience)).to be(false) }
    expect(asked).to eq((2..(asked.size + 1)).map { |number| "H:#{number}" })
    expect(asked.size).to be_between(1, time / patience)
    set.give_up
  end

  describe "that does not know a job any more" do
    # Knows no job H:1; of the others it says that they run.
    let(:server) do
      scripted_server do |peer|
        count = 0
        loop do
          type, name, = peer.request
          if type == :get_status
            asked << name
            peer.reply(:status_res, name, name == "H:1" ? "0" : "1", "1", "0", "0")
            go_on(peer)
          else
            peer.reply(:job_created, "H:#{count += 1}")
          end
        end
      end
    end
    let(:asked) { [] }

    # Lets the callback of the second task add a third one when the first was lost, and ends both when the server was
    # asked often enough after the third.
    def go_on(peer)
      peer.reply(:work_data, "H:2", "lost") if asked.last == "H:1" && asked.count("H:1") == 2
      return unless asked.count("H:3") == 3 || asked.count("H:1") > 3

      [3, 2].each { |number| peer.reply(:work_complete, "H:#{number}", number.to_s) }
    end

    it "names that task alone, and the one that takes its place lives" do
      results = []
      set = Gearman::TaskSet.new(client_of(server))
      tasks = Array.new(3) do |index|
        Gearman::Task.new("f", index.to_s).tap { |task| task.on_complete { |data| results << data } }
      end
      tasks[1].on_data { set.add_task(tasks[2]) }
      tasks.first(2).each { |task| set.add_task(task) }
      expect { set.wait(JobServers::PATIENCE) }.to doubt_about(tasks[0])
      expect(results).to eq(%w[3 2])
      expect(asked.count("H:3")).to be >= 3
    end
  end
end
