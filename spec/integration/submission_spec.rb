# frozen_string_literal: true

# Bulk submission, and questions after jobs and servers.
RSpec.describe Gearman::Client, :quiet do
  def client_of(*servers)
    remember(described_class.new(servers.map(&:address)), :close)
  end

  def job(argument = "", function: "f", **options)
    Gearman::BackgroundTask.new(function, argument, options)
  end

  # The jobs that a server has for functions: handle => argument. They are taken out of it.
  def jobs_of(server, function = "f")
    worker = wire(server).request(:can_do, function)
    jobs = {}
    while (packet = worker.ask(:grab_job_uniq)).first == :job_assign_uniq
      jobs[packet[1]] = packet.last
      worker.request(:work_complete, packet[1], "")
    end
    jobs
  end

  # The uniques of the jobs that a server has for a function.
  def uniques_of(server)
    worker = wire(server).request(:can_do, "f")
    uniques = []
    while (packet = worker.ask(:grab_job_uniq)).first == :job_assign_uniq
      uniques << packet[3]
    end
    uniques
  end

  each_job_server do
    it "goes through however little time each wait has" do
      start_worker(job_server, "f" => ->(data, _job) { data })
      set = Gearman::TaskSet.new(client_of(job_server))
      3.times { |number| set.add_task(Gearman::Task.new("f", number.to_s)) }
      eventually("the end of the set") { set.wait(0) }
    end

    describe "#submit_all" do
      let(:client) { client_of(job_server) }

      it "leaves all jobs with the server and returns their handles in order" do
        tasks = Array.new(10_000) { |number| job(number.to_s) }
        handles = client.submit_all(tasks)
        expect(handles).to eq(tasks.map(&:handle))
        expect(tasks.map(&:error)).to all(be_nil)
        expect(jobs_of(job_server)).to eq(handles.zip(tasks.map(&:arg)).to_h)
      end

      it "gives each task a unique of its own, and equal ones of the caller coalesce" do
        equal = Array.new(2) { |number| job(number.to_s, uniq: "u") }
        handles = client.submit_all(Array.new(3) { job("same") } + equal)
        expect(handles.uniq.size).to eq(4)
        expect(handles[3]).to eq(handles[4])
        uniques = uniques_of(job_server)
        expect(uniques.uniq.size).to eq(4)
        expect(uniques.map(&:bytesize)).to all(be_between(18, 63))
        expect(uniques.grep(/\A[\w-]{16}-[123]\z/).size).to eq(3)
      end

      it "takes any Enumerable, and none" do
        expect(client.submit_all([])).to eq([])
        expect(client.submit_all((1..3).lazy.map { |number| job(number.to_s) }).size).to eq(3)
        expect(jobs_of(job_server).values).to eq(%w[1 2 3])
      end

      it "tells the block how many have been answered" do
        told = []
        client.submit_all(Array.new(9_000) { |number| job(number.to_s) }) { |ended, total| told << [ended, total] }
        expect(told.map(&:last).uniq).to eq([9_000])
        expect(told.map(&:first)).to eq(told.map(&:first).sort)
        expect(told.size).to be > 3
        expect(told.last).to eq([9_000, 9_000])
      end

      it "submits nothing where somebody would wait for a task" do
        expect { client.submit_all([job, Gearman::Task.new("foreground")]) }
          .to raise_error(Gearman::InvalidArgsError, /foreground is neither/)
        expect(jobs_of(job_server)).to eq({})
      end

      it "says of each task that cannot be sent why, and the others are" do
        bad = [job("", function: ""), job("", function: "a\0b"), job("", hash: "u" * 64),
               job("", function: "f" * 9_000)]
        good = Array.new(100) { |number| job("good #{number}") }
        tasks = (bad + good).shuffle
        handles = client.submit_all(tasks)
        expect(handles.zip(tasks)).to all(satisfy { |handle, task| handle.nil? == bad.include?(task) })
        expect(bad.map(&:error)).to all(be_a(Gearman::InvalidArgsError))
        expect(bad[2].error.message).to include("64", "63")
        expect(jobs_of(job_server).values).to match_array(good.map(&:arg))
      end

      it "says of each task that the server has no room for so, and the others are there" do
        wire(job_server).admin("create function f")
        wire(job_server).admin("maxqueue f 5")
        tasks = Array.new(20) { |number| job(number.to_s) } + [job("other", function: "g")]
        handles = client.submit_all(tasks)
        expect(handles.map(&:nil?)).to eq(([false] * 5) + ([true] * 15) + [false])
        expect(tasks[5...20].map(&:error)).to all(be_a(Gearman::RefusedError).and(have_attributes(code: "QUEUE_ERROR")))
        jobs_of(job_server)
        expect(client.submit_all(tasks.last(2))).to all(be_a(String))
        expect(tasks.last(2).map(&:error)).to eq([nil, nil])
      end

      it "takes scheduled tasks" do
        task = Gearman::Task.new("f", "later")
        task.schedule(Time.now + 3600)
        expect(client.submit_all([task, job("now")])).to all(be_a(String))
        expect(jobs_of(job_server).values).to eq(["now"])
        expect(client.job_status(task.handle)).to be_known
      end
    end

    describe "the same task again, behind a time-out" do
      let(:client) { client_of(job_server) }
      let(:task) { -> { Gearman::Task.new("f", "same") } }

      it "gets the answer of the job that still runs" do
        gate = Queue.new
        runs = Queue.new
        start_worker(job_server, "f" => ->(data, _job) { (runs << data) && gate.pop && data })
        2.times { expect(client.do_task(task.call, 0.2)).to be_nil }
        set = Gearman::TaskSet.new(client)
        set.add_task(last = task.call)
        last.on_created { gate << true }
        expect(set.wait(JobServers::PATIENCE)).to be(true)
        expect(set.last_result).to eq("same")
        expect(runs.size).to eq(1)
      end

      it "gets its answer where there was no worker before" do
        2.times { expect(client.do_task(task.call, 0.1)).to be_nil }
        start_worker(job_server, "f" => ->(data, _job) { data })
        expect(client.do_task(task.call, JobServers::PATIENCE)).to eq("same")
        expect(client.do_task(task.call, JobServers::PATIENCE)).to eq("same")
      end
    end

    describe "#job_status" do
      let(:client) { client_of(job_server) }
      let(:worker) { wire(job_server).request(:can_do, "f") }

      def state_of(status)
        [status.known?, status.running?, status.numerator, status.denominator]
      end

      it "follows a job, by its handle and by its unique" do
        client.do_task(task = job("x", uniq: "u"))
        both = lambda do
          [client.job_status(task.handle), client.job_status_by_unique(task.get_uniq_hash)].map do |status|
            state_of(status)
          end
        end
        expect(both.call).to eq([[true, false, 0, 0]] * 2)
        expect(worker.ask(:grab_job)[1]).to eq(task.handle)
        expect(both.call).to eq([[true, true, 0, 0]] * 2)
        worker.request(:work_status, task.handle, 3, 7).settle
        expect(both.call).to eq([[true, true, 3, 7]] * 2)
        worker.request(:work_complete, task.handle, "").settle
        expect(both.call).to eq([[false, false, 0, 0]] * 2)
      end

      it "knows by its unique how many wait for a job" do
        tasks = Array.new(2) { Gearman::Task.new("f", "x", uniq: "u") }
        sets = tasks.map { |task| Gearman::TaskSet.new(client_of(job_server)).tap { |set| set.add_task(task) } }
        sets.each { |set| set.wait(0.1) }
        status = -> { client.job_status_by_unique(tasks[0].get_uniq_hash) }
        eventually("two clients") { status.call.clients == 2 }
        expect(client.job_status("H:nobody:1").clients).to be_nil
      end

      it "refuses what no server would answer" do
        expect { client.job_status("h" * 64) }.to raise_error(Gearman::InvalidArgsError, /63 bytes, not 64/)
        expect { client.job_status_by_unique("u" * 64) }.to raise_error(Gearman::InvalidArgsError, /63 bytes, not 64/)
        expect { client.job_status("a\0b") }.to raise_error(Gearman::InvalidArgsError, /NUL/)
      end
    end

    describe "over several servers" do
      let(:servers) { Array.new(3) { start_job_server } }
      let(:client) { client_of(*servers) }

      it "asks each after a job, and those that are dead not" do
        tasks = Array.new(30) { |number| job(number.to_s) }
        client.submit_all(tasks)
        expect(servers.map { |server| server.admin("status").size }).to all(be > 5)
        expect(tasks.map { |task| client.job_status_by_unique(task.get_uniq_hash) }).to all(be_known)
        servers.first.kill
        sleep 1.1 # a socket that was used just now is not looked at
        known = tasks.count { |task| client.job_status_by_unique(task.get_uniq_hash).known? }
        expect(known).to be_between(1, 29)
        servers.each(&:kill)
        expect { client.job_status_by_unique("u") }.to raise_error(Gearman::NoJobServersError, /u\z/)
      end

      it "pings each, in order" do
        expect(client.ping.keys).to eq(servers.map(&:address))
        expect(client.ping.values).to all(be_a(Float).and(be_between(0, 3)))
        servers[1].kill
        expect(client.ping.values.map(&:class)).to eq([Float, NilClass, Float])
        servers[1].start
        expect(client.ping.values).to all(be_a(Float))
      end

      it "submits many to all of them, and elsewhere what one has not been sent" do
        tasks = Array.new(3_000) { |number| job(number.to_s, uniq: number.to_s) }
        client.submit_all(tasks.first(300))
        sleep 1.1 # a socket that was used just now is not looked at
        servers.first.kill
        handles = client.submit_all(tasks)
        expect(handles).to all(be_a(String))
        jobs = servers.drop(1).flat_map { |server| jobs_of(server).values }
        expect(jobs).to match_array(tasks.map(&:arg))
      end

      {
        "reads nothing" => [lambda(&:request), 600, 50_000],
        "answers nothing" => [->(peer) { loop { peer.request } }, 12_000, 1]
      }.each do |how, (script, count, size)|
        it "goes on with the tasks of the others when one #{how}" do
          stub_const("Gearman::TaskSet::PATIENCE", 60)
          deaf = scripted_server { |peer| script.call(peer) && sleep }
          client = client_of(deaf, servers.first)
          client.task_create_timeout_sec = nil
          pool = client.instance_variable_get(:@connection_pool)
          tasks = Array.new(count) { |number| job(number.to_s.ljust(size), uniq: number.to_s) }
          named = tasks.map { |task| pool.get_connection(task.get_uniq_hash).to_host_port }
          expected = named.count(servers.first.address)
          told = []
          submitting = Thread.new { client.submit_all(tasks) { |ended, _| told << ended } }
          eventually("the jobs of the other server") { told.last == expected }
          expect(told).to eq(told.uniq)
        ensure
          submitting&.kill&.join
        end
      end

      it "gives a server that hangs no more tasks once that is known" do
        hangs = start_gearmand
        client = client_of(hangs, servers.first)
        client.task_create_timeout_sec = 1
        expect(client.ping.values).to all(be_a(Float))
        hangs.signal("STOP")
        tasks = Array.new(20_000) { |number| job(number.to_s, uniq: number.to_s) }
        expect { client.submit_all(tasks) }.to raise_error(Gearman::NetworkError, /#{hangs.address}/) { |error|
          expect(error.tasks.size).to be < 6_000 # of some 10 000 that are for it
        }
        expect(jobs_of(servers.first).size).to be > 14_000
      ensure
        hangs.signal("CONT")
      end

      it "names the tasks in doubt when one is lost, and has submitted all others" do
        lost = scripted_server { |peer| Array.new(50) { |number| peer.accept_job("H:#{number}") } && peer.reset }
        client = client_of(lost, *servers.first(2))
        tasks = Array.new(3_000) { |number| job(number.to_s) }
        expect { client.submit_all(tasks) }.to raise_error(Gearman::NetworkError, /#{lost.address}/) { |error|
          @in_doubt = error.tasks
        }
        jobs = servers.first(2).flat_map { |server| jobs_of(server).to_a }
        submitted = tasks - @in_doubt
        expect(submitted.map(&:handle)).to all(be_a(String))
        expect(submitted.map(&:error)).to all(be_nil)
        there, elsewhere = submitted.partition { |task| jobs.include?([task.handle, task.arg]) }
        expect(there.size).to be > 1_500
        expect(elsewhere.size).to be <= 50 # the server that was lost has answered for them
        expect(jobs.size).to eq(there.size)
      end
    end
  end

  it "has all tasks of a set on their way before the first ends, however long they are" do
    jobs = Queue.new
    server = scripted_server do |peer|
      10.times { |number| jobs << peer.accept_job("H:#{number}").last.bytesize }
      10.times { |number| peer.reply(:work_complete, "H:#{number}", "") }
    end
    set = Gearman::TaskSet.new(client_of(server))
    10.times { |number| set.add_task(Gearman::Task.new("f", number.to_s * 100_000, coalesce: false)) }
    expect(set.wait(5)).to be(true)
    expect(jobs.size).to eq(10)
  end

  it "keeps a bounded number of unanswered jobs on its way" do
    waiting = Queue.new
    answer = Queue.new
    server = scripted_server do |peer|
      (waiting << peer.request) while peer.socket.wait_readable(0.5) || waiting.empty?
      waiting.size.times { |number| peer.reply(:job_created, "H:#{number}") }
      answer << true
      (waiting.size...10_000).each { |number| peer.accept_job("H:#{number}") }
    end
    handles = client_of(server).submit_all(Array.new(10_000) { |number| job(number.to_s) })
    expect(answer.size).to eq(1)
    expect(waiting.size).to be_between(64, 4_096 + 64)
    expect(handles).to eq(Array.new(10_000) { |number| "H:#{number}" })
  end

  it "passes on what a server says of a task" do
    server = scripted_server do |peer|
      loop do
        function, = peer.request.drop(1)
        function == "good" ? peer.reply(:job_created, "H:1") : peer.reply(:error, function, "so it is")
      end
    end
    tasks = %w[good ARGUMENT_TOO_LARGE good QUEUE_ERROR good].map { |function| job(function: function) }
    expect(client_of(server).submit_all(tasks)).to eq(["H:1", nil, "H:1", nil, "H:1"])
    expect(tasks.map { |task| task.error&.code }).to eq([nil, "ARGUMENT_TOO_LARGE", nil, "QUEUE_ERROR", nil])
    expect(tasks[1].error.message).to include("so it is")
  end

  it "gives no handle of before to a task that could not be submitted again" do
    server = scripted_server do |peer|
      peer.accept_job("H:1")
      peer.reply(:error, "QUEUE_ERROR", "no more") if peer.request
    end
    client = client_of(server)
    tasks = [job]
    expect(client.submit_all(tasks)).to eq(["H:1"])
    expect(client.submit_all(tasks)).to eq([nil])
    expect(tasks.first.error).to be_a(Gearman::RefusedError)
  end

  it "says of each task that there is no server for it" do
    address = "127.0.0.1:#{JobServers.free_port}"
    tasks = Array.new(3) { job }
    expect(described_class.new(address).submit_all(tasks)).to eq([nil, nil, nil])
    expect(tasks.map(&:error)).to all(be_a(Gearman::NoJobServersError).and(have_attributes(message: /#{address}/)))
  end

  it "pings a server that answers nothing for three seconds, and the others as always" do
    silent = scripted_server { |peer| loop { peer.any_request } }
    client = client_of(silent, start_embedded_server)
    took = seconds { expect(client.ping.values.map(&:class)).to eq([NilClass, Float]) }
    expect(took).to be_between(2.9, 6)
  end

  it "refuses a background job whose class gives it no unique" do
    kind = Class.new(Gearman::BackgroundTask) { def get_uniq_hash = @unique || "" }
    client = client_of(scripted_server { |peer| loop { peer.accept_job("H:1") } })
    [client.method(:do_task), Gearman::TaskSet.new(client).method(:add_task)].each do |way|
      expect { way.call(kind.new("f")) }.to raise_error(Gearman::InvalidArgsError, "a background job needs a unique: f")
    end
    task = kind.new("f")
    task.instance_variable_set(:@unique, "-")
    expect { client.do_task(task) }.to raise_error(Gearman::InvalidArgsError, /needs a unique/)
    client.submit_all([task])
    expect(task.error).to be_a(Gearman::InvalidArgsError)
  end

  # What gearmand takes for no unique counts as none.
  it "never sends a background job without a unique, whichever way it goes" do
    uniques = Queue.new
    server = scripted_server { |peer| loop { uniques << peer.accept_job("H:1")[2] } }
    client = client_of(server)
    scheduled = -> { Gearman::Task.new("f", "a", hash: "-").tap { |task| task.schedule(Time.now + 60) } }
    tasks = [-> { job("a") }, -> { job("a", hash: "") }, -> { job("a", hash: "-") }, scheduled,
             -> { Gearman::Task.new("f", "a", background: true, hash: "") }]
    ways = [client.method(:do_task), client.method(:submit_job), Gearman::TaskSet.new(client).method(:add_task),
            ->(task) { client.submit_all([task]) }]
    ways.each do |way|
      (tasks + [-> { job("a", uniq: "") }, -> { job("a", coalesce: false) }]).each { |task| way.call(task.call) }
    end
    of_all, of_none = ["fa", ""].map { |text| Digest::SHA1.hexdigest(text) }
    alone = [*[of_all] * 5, of_none, /\A\h{8}(-\h{4}){3}-\h{12}\z/]
    together = /\A[\w-]{16}-1\z/
    expected = [*alone * 3, *[together] * 5, of_none, together]
    eventually("all of them") { uniques.size == expected.size }
    expect(Array.new(uniques.size) { uniques.pop }).to match(expected)
  end

  describe "of background tasks" do
    # In a process of its own: what other threads make counts, too.
    def objects_of_a_thousand(address, submit)
      Integer(run_ruby(<<~RUBY, address))
        client = Gearman::Client.new(ARGV.first)
        tasks = Array.new(1100) { |number| Gearman::BackgroundTask.new("f", "data \#{number}") }
        submit = #{submit}
        submit.call(client, tasks.shift(100))
        before = GC.stat(:total_allocated_objects)
        submit.call(client, tasks)
        puts GC.stat(:total_allocated_objects) - before
      RUBY
    end

    {
      "do_task" => "->(client, tasks) { tasks.each { |task| client.do_task(task) } }",
      "submit_all" => "->(client, tasks) { client.submit_all(tasks) }"
    }.each do |name, submit|
      each_job_server do
        it "#{name} makes at most 8 objects for each, beyond the task itself", :process do
          expect(objects_of_a_thousand(job_server.address, submit)).to be_between(1000, 8000)
          expect(jobs_of(job_server).size).to eq(1100)
        end
      end
    end
  end
end
