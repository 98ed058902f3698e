# frozen_string_literal: true

require_relative "helpers"

# See control_spec.rb for how these are run against gearman-ruby, and helpers.rb.
RSpec.describe "defects of gearman-ruby's client" do
  let(:server) { start_gearmand }

  it "needs servers to be built", defect: 1 do
    expect { Gearman::Client.new.do_task(Gearman::Task.new("f")) }.to raise_error(Gearman::NoJobServersError)
  end

  it "does not try again what failed", defect: 2 do
    runs = 0
    start_worker(server) { |worker| worker.add_ability("f") { (runs += 1) > 1 && "done" } }

    expect(result_of(new_client(server), Gearman::Task.new("f", "", retry_count: 1))).to eq("done")
    expect(runs).to eq(2)
  end

  it "takes the late answer of a task that timed out for that of the next", defect: 3 do
    start_worker(server) { |worker| worker.add_ability("f") { |data| sleep(data.to_f) && data } }
    client = new_client(server)
    result_of(client, Gearman::Task.new("f", "0.6"), seconds: 0.2)
    eventually { jobs_of("f", server).zero? }

    expect(result_of(client, Gearman::Task.new("f", "0.01"))).to eq("0.01")
  end

  it "is out of step after an interruption", defect: 4 do
    start_worker(server) { |worker| worker.add_ability("f") { |data| sleep(data.to_f) && data } }
    client = new_client(server)
    task = Gearman::Task.new("f", "0.6")
    expect { Timeout.timeout(0.2) { client.do_task(task) } }.to raise_error(Timeout::Error)
    eventually { jobs_of("f", server).zero? }

    expect(result_of(client, Gearman::Task.new("f", "0.01"))).to eq("0.01")
  end

  it "is out of step after a callback that raises", defect: 4 do
    start_worker(server) do |worker|
      worker.add_ability("f") { |data, job| job.report_status(1, 2) && data }
    end
    client = new_client(server)
    task = Gearman::Task.new("f", "one")
    task.on_status { raise "out of the callback" }
    expect { client.do_task(task) }.to raise_error("out of the callback")

    expect(result_of(client, Gearman::Task.new("f", "two"))).to eq("two")
  end

  it "is out of step after a failure behind an exception", defect: 5 do
    server = scripted_server do |peer|
      loop do
        _, _, _, data = peer.accept_job(handle = "H:#{peer.object_id}:#{rand(1 << 32)}")
        next peer.reply(:work_complete, handle, data) unless data == "raise"

        peer.reply(:work_exception, handle, "an error").reply(:work_fail, handle)
      end
    end
    client = new_client(server)
    result_of(client, Gearman::Task.new("f", "raise"))

    expect(result_of(client, Gearman::Task.new("f", "one"))).to eq("one")
  end

  it "says nothing of the failure of a task whose worker raised", defect: 6 do
    start_worker(server) { |worker| worker.add_ability("f") { raise "an error" } }
    client = new_client(server)
    client.set_options("exceptions")
    called = []
    task = Gearman::Task.new("f")
    task.on_exception { |message| called << message }
    task.on_fail { called << :failed }
    result_of(client, task)

    expect(called).to eq(["an error", :failed])
  end

  it "raises a NameError for a packet that is not expected", defect: 7 do
    task = Gearman::Task.new("f")

    expect { new_client(server).handle_response(task, :noop, "") }.to raise_error(Gearman::ProtocolError)
  end

  it "counts characters of an argument instead of bytes", defect: 8 do
    start_worker(server) { |worker| worker.add_ability("f") { |data| data.bytesize.to_s } }

    expect(result_of(new_client(server), Gearman::Task.new("f", "é"))).to eq("2")
  end

  it "cannot send a longer argument that is not ASCII", defect: 9 do
    start_worker(server) { |worker| worker.add_ability("f") { |data| data.bytesize.to_s } }

    expect(result_of(new_client(server), Gearman::Task.new("f", "é" * 200))).to eq("400")
  end

  it "spreads tasks with one unique over all servers", defect: 10 do
    servers = [server, start_gearmand]
    client = new_client(*servers)
    4.times { result_of(client, Gearman::BackgroundTask.new("f", "", uniq: "one")) }

    expect(jobs_of("f", *servers)).to eq(1)
  end

  it "goes on choosing a server that is down", defect: 11 do
    servers = [server, start_gearmand]
    client = new_client(*servers)
    4.times { |i| client.do_task(Gearman::BackgroundTask.new("f", "before #{i}")) }
    servers.last.kill
    before = jobs_of("f", server)
    # Of the first one nobody can know whether the server has read it.
    lost = Array.new(10) do |i|
      client.do_task(Gearman::BackgroundTask.new("f", "after #{i}"))
    rescue Gearman::NetworkError => e
      e
    end.compact

    expect(lost.size).to be <= 1
    expect(jobs_of("f", server)).to eq(before + 10 - lost.size)
  end

  it "never finds a server that was down at first", defect: 12 do
    port = server.port
    server.kill
    client = Gearman::Client.new("127.0.0.1:#{port}")
    server.start

    expect { client.do_task(Gearman::BackgroundTask.new("f")) }.not_to raise_error
    expect(jobs_of("f", server)).to eq(1)
  end

  it "sleeps where no server can be reached to set an option, and says nothing", defect: 13 do
    server.kill
    client = new_client(server)

    expect { soon { client.set_options("exceptions") } }.to raise_error(Gearman::NoJobServersError)
  end

  it "forgets options when it connects again", defect: 14 do
    client = new_client(server)
    client.set_options("exceptions")
    server.restart
    start_worker(server) { |worker| worker.add_ability("f") { raise "an error" } }
    message = nil
    # gearman-ruby fails at first, as the old connection is dead.
    eventually do
      task = Gearman::Task.new("f")
      task.on_exception { |text| message = text }
      result_of(client, task) || true
    rescue Exception # rubocop:disable Lint/RescueException -- gearman-ruby's are no StandardErrors
      false
    end

    expect(message).to eq("an error")
  end

  it "does not say why a server refuses a task", defect: 15 do
    server = scripted_server do |peer|
      peer.request
      peer.reply(:error, "QUEUE_ERROR", "Job queue is full")
    end

    expect { new_client(server).do_task(Gearman::Task.new("f")) }
      .to raise_error(Gearman::ProtocolError, /QUEUE_ERROR.Job queue is full/)
  end

  it "replaces the callbacks of a task", defect: 16 do
    start_worker(server) do |worker|
      worker.add_ability("echo") { |data| data }
      worker.add_ability("fail") { false }
    end
    client = new_client(server)
    called = []
    complete = Gearman::Task.new("echo", "result")
    complete.on_complete { |data| called << data }
    failing = Gearman::Task.new("fail")
    failing.on_fail { called << :failed }
    [complete, failing].each { |task| client.do_task(task) }

    expect(called).to eq(["result", :failed])
  end

  it "waits for ever for a task that is scheduled", defect: 17 do
    task = Gearman::Task.new("f")
    task.schedule(Time.now + 1)

    expect(soon { new_client(server).do_task(task) }).to be_nil
    expect(jobs_of("f", server)).to eq(1)
  end

  it "submits a task whose time is up", defect: 18 do
    client = new_client(server)
    task = Gearman::Task.new("f")

    expect { client.submit_job(task, false, 0) }.to raise_error(Gearman::SocketTimeoutError)
    expect(jobs_of("f", server)).to eq(0)
  end

  it "has no limit on the time in which a server may take a task", defect: 19 do
    server = scripted_server { |peer| peer.request && sleep }
    client = new_client(server)
    client.task_create_timeout_sec = 0.5

    expect { soon { client.do_task(Gearman::BackgroundTask.new("f")) } }.to raise_error(Gearman::NetworkError)
  end

  it "has no limit on the time in which a server may take a task that is waited for", defect: 19 do
    server = scripted_server { |peer| peer.request && sleep }
    client = new_client(server)
    client.task_create_timeout_sec = 0.5

    expect { soon { client.do_task(Gearman::Task.new("f")) } }.to raise_error(Exception) { |error|
      expect([Gearman::SocketTimeoutError, Gearman::NetworkError]).to include(error.class)
    }
  end

  it "runs the tasks of a set one behind the other", defect: 20 do
    met = Queue.new
    2.times do
      start_worker(server) do |worker|
        worker.add_ability("meet") do
          met << true
          eventually("the other job", patience: 10) { met.size == 2 }
          "met"
        end
      end
    end
    tasks = Gearman::TaskSet.new(new_client(server))
    2.times { |i| tasks.add_task(Gearman::Task.new("meet", i.to_s)) }

    expect(tasks.wait(DefectHelpers::SOON)).to be(true)
  end

  it "does not submit a background task when it is added", defect: 21 do
    Gearman::TaskSet.new(new_client(server)).add_task(Gearman::BackgroundTask.new("f"))

    expect(jobs_of("f", server)).to eq(1)
  end

  it "forgets a task when the time is up", defect: 22 do
    client = new_client(server)
    result = nil
    task = Gearman::Task.new("f", "late")
    task.on_complete { |data| result = data }
    tasks = Gearman::TaskSet.new(client)
    tasks.add_task(task)
    expect(tasks.wait(0.2)).to be(false)
    start_worker(server) { |worker| worker.add_ability("f") { |data| data } }

    expect(tasks.wait(DefectHelpers::SOON)).to be(true)
    expect(result).to eq("late")
  end

  it "mixes the answers of threads up", defect: 43 do
    start_worker(server) { |worker| worker.add_ability("f") { |data| data } }
    client = new_client(server)
    threads = Array.new(2) do |thread|
      Thread.new { Array.new(15) { |i| client.do_task(Gearman::Task.new("f", "#{thread} #{i}")) } }
    end
    threads.each { |thread| thread.report_on_exception = false }

    expect(threads.map { |thread| soon { thread.value } })
      .to eq(Array.new(2) { |thread| Array.new(15) { |i| "#{thread} #{i}" } })
  end

  it "shares the connection of a parent with its children", :process, defect: 44 do
    start_worker(server) { |worker| worker.add_ability("f") { |data| data } }
    client = new_client(server)
    result_of(client, Gearman::Task.new("f", "before"))
    reader, writer = IO.pipe
    child = fork do
      writer.write(Marshal.dump(Array.new(50) { |i| client.do_task(Gearman::Task.new("f", "child #{i}")) }))
    ensure
      exit!
    end
    writer.close
    remember(-> { Process.kill("KILL", child) && Process.wait(child) }, :call)

    expect(soon { Array.new(50) { |i| client.do_task(Gearman::Task.new("f", "parent #{i}")) } })
      .to eq(Array.new(50) { |i| "parent #{i}" })
    expect(Marshal.load(soon { reader.read })).to eq(Array.new(50) { |i| "child #{i}" }) # rubocop:disable Security/MarshalLoad
  end
end
