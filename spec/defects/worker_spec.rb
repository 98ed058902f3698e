# frozen_string_literal: true

require_relative "helpers"

RSpec.describe "defects of gearman-ruby's worker" do
  let(:server) { start_gearmand }

  def echo(worker)
    worker.add_ability("echo") { |data| data }
  end

  # Answers what a worker sends as a server without jobs does, until it asks for one.
  def until_grab(peer)
    loop do
      type, = peer.request
      return if %i[grab_job grab_job_uniq grab_job_all].include?(type)
    end
  end

  # Gives a worker that has just asked for a job one, and waits for the answer.
  def answer_of_worker(peer)
    peer.reply(:job_assign, "H:1", "echo", "done")
    loop do
      type, *parts = peer.request
      return parts if type == :work_complete
    end
  end

  it "needs servers to be built", defect: 1 do
    expect { Gearman::Worker.new }.not_to raise_error
  end

  it "cannot do a single job", defect: 23, new_api: true do
    worker = Gearman::Worker.new([server.address])
    echo(worker)
    new_client(server).do_task(Gearman::BackgroundTask.new("echo", "x"))

    expect(worker.work_once(DefectHelpers::SOON)).to be(true)
    eventually { jobs_of("echo", server).zero? }
  end

  it "loses a job that comes behind a NOOP", defect: 24 do
    answer = nil
    server = scripted_server do |peer|
      until_grab(peer)
      peer.reply(:noop)
      answer = answer_of_worker(peer)
      sleep
    end
    start_worker(server) { |worker| echo(worker) }

    eventually("the result") { answer }
    expect(answer).to eq(["H:1", "done"])
  end

  it "reads a server that is silent while another one has a job", defect: 25 do
    servers = [server, start_gearmand]
    asleep(start_worker(*servers) { |worker| echo(worker) })

    # gearman-ruby takes 10 seconds, which is its network_timeout_sec.
    expect(result_of(new_client(server), Gearman::Task.new("echo", "done"), seconds: 8)).to eq("done")
  end

  it "leaves the delay of small packets on", defect: 26 do
    connection = Gearman::Connection.new(server.host, server.port)
    remember(connection, :close_socket)

    expect(connection.socket.getsockopt(Socket::IPPROTO_TCP, Socket::TCP_NODELAY).int).not_to eq(0)
  end

  it "does not tell its id on the first connection", defect: 27 do
    start_worker(server, client_id: "the-worker") { |worker| echo(worker) }

    eventually("the id, not #{server.admin("workers")}") { server.admin("workers").include?(" the-worker : echo") }
  end

  it "never calls on_connect for the first connection", defect: 27 do
    connected = 0
    start_worker(server) do |worker|
      worker.on_connect { connected += 1 }
      echo(worker)
    end

    eventually("the callback") { connected == 1 }
  end

  it "cannot set a block that is called after a job", defect: 28 do
    called = nil
    start_worker(server) do |worker|
      worker.add_ability("f") { |data| "#{data}!" }
      worker.after_ability("f") { |result, data| called = [result, data] }
    end
    result_of(new_client(server), Gearman::Task.new("f", "data"))

    eventually("the block") { called }
    expect(called).to eq(%w[data! data])
  end

  it "takes exit for an error of the job", defect: 29 do
    worker = Gearman::Worker.new([server.address])
    worker.add_ability("stop") { exit }
    ended = Thread.new do
      worker.work
    rescue SystemExit => e
      e
    end
    remember(-> { ended.kill.join }, :call)
    new_client(server).do_task(Gearman::BackgroundTask.new("stop"))

    expect(ended.join(DefectHelpers::SOON)).not_to be_nil
    expect(ended.value).to be_a(SystemExit)
  end

  it "takes no Symbol for the name of a function", defect: 31 do
    start_worker(server) { |worker| worker.add_ability(:echo) { |data| data } }

    expect(result_of(new_client(server), Gearman::Task.new("echo", "done"))).to eq("done")
  end

  it "cannot add a function from inside a job", defect: 32 do
    start_worker(server) do |worker|
      worker.add_ability("teach") { echo(worker) && "taught" }
    end
    client = new_client(server)

    expect(result_of(client, Gearman::Task.new("teach"))).to eq("taught")
    expect(result_of(client, Gearman::Task.new("echo", "done"))).to eq("done")
  end

  it "does not notice for half a minute that it is to stop", defect: 33 do
    worker = Gearman::Worker.new([server.address])
    echo(worker)
    ended = Thread.new { worker.work }
    remember(-> { ended.kill.join }, :call)
    asleep(worker)
    worker.worker_enabled = false

    expect(ended.join(DefectHelpers::SOON)).not_to be_nil
    expect(ended.value).to be(false)
  end

  it "needs half a minute to find a server that was started again", defect: 34 do
    asleep(start_worker(server) { |worker| echo(worker) })
    server.restart

    expect(result_of(new_client(server), Gearman::Task.new("echo", "done"))).to eq("done")
  end

  it "forgets what it can do when a server is started again during a job", defect: 35 do
    submitted = restarted = nil
    start_worker(server) do |worker|
      echo(worker)
      worker.add_ability("restart") do |_data, job|
        eventually { submitted }
        restarted ||= server.restart
        5.times { job.report_status(1, 2) && sleep(0.1) }
        true
      end
    end
    new_client(server).do_task(Gearman::BackgroundTask.new("restart"))
    submitted = true
    eventually("the restart") { restarted }

    expect(result_of(new_client(server), Gearman::Task.new("echo", "done"))).to eq("done")
  end

  it "ends with an error when a server does not answer", defect: 36 do
    answer = nil
    server = scripted_server do |peer, number|
      until_grab(peer)
      answer = answer_of_worker(peer) if number.positive?
      sleep
    end
    start_worker(server, network_timeout_sec: 1) { |worker| echo(worker) }

    eventually("a second connection and its job") { answer }
    expect(answer).to eq(["H:1", "done"])
  end

  it "counts characters of a result instead of bytes", defect: 37 do
    start_worker(server) { |worker| worker.add_ability("spell") { "größer" } }

    expect(result_of(new_client(server), Gearman::Task.new("spell"), seconds: 5)).to eq("größer".b)
  end

  it "counts characters of an error's message instead of bytes", defect: 37 do
    start_worker(server) { |worker| worker.add_ability("spell") { raise "größer" } }
    client = new_client(server)
    client.set_options("exceptions")
    message = nil
    task = Gearman::Task.new("spell")
    task.on_exception { |text| message = text }
    result_of(client, task, seconds: 5)

    expect(message).to eq("größer".b)
  end

  it "has a job taken away after a second by its time-out in seconds", defect: 38 do
    runs = 0
    start_worker(server) do |worker|
      worker.add_ability("slow", 30) do |data|
        runs += 1
        sleep 2.5
        data
      end
    end

    expect(result_of(new_client(server), Gearman::Task.new("slow", "done"))).to eq("done")
    sleep 0.5
    expect(runs).to eq(1)
  end

  it "sleeps for half a minute when it is given a function while no server is up", defect: 39 do
    server.kill
    worker = Gearman::Worker.new([server.address])

    expect { soon { echo(worker) } }.not_to raise_error
  end

  it "does not sleep for the seconds that it is given", defect: 41 do
    start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    Gearman::Worker.new([server.address]).sleep(0.5)

    expect(Process.clock_gettime(Process::CLOCK_MONOTONIC) - start).to be >= 0.5
  end
end
