# frozen_string_literal: true

RSpec.describe Gearman::TaskSet, :quiet do
  let(:calls) { [] }

  def client_of(*servers)
    remember(Gearman::Client.new(servers.map(&:address)), :close)
  end

  def linux?
    RUBY_PLATFORM.include?("linux")
  end

  def waits_of_thread
    File.read("/proc/thread-self/status")[/^voluntary_ctxt_switches:\s*(\d+)/, 1].to_i
  end

  # What a job of `function` is answered with, behind its JOB_CREATED.
  def outcome(peer, handle, function, data)
    case function
    when "fail" then peer.reply(:work_fail, handle)
    when "raise" then peer.reply(:work_exception, handle, data)
    when "report"
      peer.reply(:work_status, handle, "1", "2").reply(:work_data, handle, data).reply(:work_warning, handle, data)
      peer.reply(:work_complete, handle, data)
    when "hold" then nil
    else peer.reply(:work_complete, handle, data)
    end
  end

  # A server that answers jobs by the names of their functions: fail, raise, report, hold (not at all), any other
  # by its argument.
  def answering_server
    scripted_server do |peer, number|
      (1..).each do |count|
        type, function, _unique, data = peer.request
        handle = "H:#{number}:#{count}"
        peer.reply(:job_created, handle)
        outcome(peer, handle, function, data) unless type.end_with?("_bg")
      end
    end
  end

  def recording(function, argument = "", opts = {})
    Gearman::Task.new(function, argument, opts).tap do |task|
      %i[on_complete on_fail on_retry on_exception on_status on_warning on_data].each do |callback|
        task.public_send(callback) { |*arguments| calls << [callback, *arguments] }
      end
    end
  end

  # An argument for each of the servers, so that the task of it goes there.
  def arguments_for(servers)
    pool = Gearman::ConnectionPool.new(servers.map(&:address))
    pool.connections.each { |connection| allow(connection).to receive(:is_healthy?).and_return(true) }
    servers.map do |server|
      (0..).find do |index|
        pool.get_connection(Gearman::Task.new("f", index.to_s).get_uniq_hash).port == server.port
      end.to_s
    end
  end

  describe "#add_task" do
    it "submits a background or scheduled task at once, and a foreground task not" do
      requests = Queue.new
      server = scripted_server { |peer| loop { (requests << peer.request) && peer.reply(:job_created, "H:1") } }
      set = described_class.new(client_of(server))
      created = []
      tasks = [Gearman::Task.new("fg"), Gearman::BackgroundTask.new("bg"),
               Gearman::Task.new("epoch", "", schedule_at: 5)]
      tasks.each { |task| task.on_created { |handle| created << [task.func, handle] } }
      expect(tasks.map { |task| set.add_task(task) }).to eq([true, true, true])
      expect(Array.new(2) { pop(requests)[0, 2] }).to eq([[:submit_job_bg, "bg"], [:submit_job_epoch, "epoch"]])
      expect(requests).to be_empty
      expect(created).to eq([["bg", "H:1"], ["epoch", "H:1"]])
      expect(set.size).to eq(1)
    end

    it "keeps a background task that no server takes, for wait to submit" do
      port = JobServers.free_port
      client = Gearman::Client.new("127.0.0.1:#{port}")
      set = described_class.new(client)
      expect(set.add_task(Gearman::BackgroundTask.new("f", "kept"))).to be(true)
      expect { set.wait }
        .to raise_error(Gearman::NoJobServersError, /\Ano job server can be reached: 127\.0\.0\.1:#{port} \(/)
      expect(set.size).to eq(1)
      server = remember(JobServers::Embedded.start(port: port))
      expect(eventually do
        set.wait(5)
      rescue Gearman::NoJobServersError
        nil
      end).to be(true)
      expect(set.size).to eq(0)
      expect(server.admin("status")).to eq("f\t1\t0\t0\n.\n")
      client.close
    end
  end

  describe "#wait" do
    it "is true for a set without tasks, and of background tasks" do
      set = described_class.new(client_of(answering_server))
      expect([set.wait, set.wait(0), set.wait_forever]).to eq([true, true, true])
      set.add_task(Gearman::BackgroundTask.new("f"))
      expect([set.wait(0), set.wait]).to eq([true, true])
    end

    it "submits all tasks before it waits for the first" do
      server = scripted_server do |peer|
        jobs = Array.new(50) { |index| peer.accept_job("H:#{index}").last }
        jobs.each_with_index.reverse_each { |data, index| peer.reply(:work_complete, "H:#{index}", data) }
      end
      set = described_class.new(client_of(server))
      50.times { |index| set.add_task(recording("f", index.to_s)) }
      expect(set.wait(20)).to be(true)
      expect(calls).to eq((0...50).map { |index| [:on_complete, index.to_s] }.reverse)
      expect(server.connections.size).to eq(1)
    end

    it "tells of each answer when it comes, however short it is and however many are to come" do
      told = Queue.new
      server = scripted_server do |peer|
        10.times { |index| peer.accept_job("H:#{index}") }
        10.times do |index|
          sleep 0.03 # longer than answers are collected
          peer.reply(:work_fail, "H:#{index}")
          pop(told)
        end
      end
      set = described_class.new(client_of(server))
      tasks = Array.new(10) { |index| Gearman::Task.new("f", index.to_s) }
      tasks.each { |task| task.on_fail { told << task } && set.add_task(task) }
      expect(set.wait(10)).to be(false)
      expect(set.size).to eq(0)
    end

    # Seconds with no rest for the machine: one that sleeps so shortly would be late.
    def spend(time)
      start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      nil while Process.clock_gettime(Process::CLOCK_MONOTONIC) - start < time
    end

    it "is not woken for each answer where many come one behind the other", :process do
      skip "only Linux tells how often a thread has waited, and wakes it for several answers" unless linux?
      server = scripted_server do |peer|
        loop do
          200.times { |index| peer.accept_job("H:#{index}") }
          200.times do |index|
            peer.reply(:work_complete, "H:#{index}", "x")
            spend(0.00003)
          end
        end
      end
      fewest = in_child do
        client = Gearman::Client.new(server.address)
        waits = []
        until waits.size == 15 || waits.any? { |count| count < 80 } # what keeps the machine busy keeps results apart
          set = described_class.new(client)
          200.times { |index| set.add_task(Gearman::Task.new("f", index.to_s)) }
          before = waits_of_thread
          waits << (set.wait(20) ? waits_of_thread - before : raise("a task has failed"))
        end
        waits.min
      end
      expect(fewest).to be < 80
    end

    it "does not collect answers for long that come one by one while others take their time" do
      set = described_class.new(client_of(answering_server))
      9.times { |index| set.add_task(recording("hold", index.to_s)) }
      quick = lambda do |number|
        task = recording("f", number.to_s)
        task.on_complete { (calls << number) && number < 600 && quick.call(number + 1) }
        set.add_task(task)
      end
      quick.call(1)
      expect(set.wait(3)).to be(false) # each would take some milliseconds
      expect(calls).to eq((1..600).to_a)
      set.give_up
    end

    it "leaves no socket that wakes for several answers only to who asks for it" do
      client = client_of(answering_server)
      connection = client.instance_variable_get(:@connection_pool).connections.first
      2.times { |index| expect(client.do_task(Gearman::Task.new("f", index.to_s), 20)).to eq(index.to_s) }
      expect(connection.socket.getsockopt(:SOCKET, :RCVLOWAT).int).to eq(1)
    end

    it "reads while it writes: more than any buffer holds, both ways" do
      set = described_class.new(client_of(answering_server))
      40.times { |index| set.add_task(recording("echo", "#{index}-" + ("x" * 500_000))) }
      expect(set.wait(60)).to be(true)
      expect(calls.map { |_, data| data.to_i }).to match_array(0...40)
      expect(calls.map { |_, data| data.bytesize }).to all(be > 500_000)
    end

    it "goes to all servers at once" do
      held = Queue.new
      servers = Array.new(3) do
        scripted_server do |peer|
          loop do
            peer.accept_job("H:1")
            held << peer
          end
        end
      end
      set = described_class.new(client_of(*servers))
      arguments_for(servers).each { |argument| set.add_task(recording("f", argument)) }
      answers = Thread.new do
        Array.new(3) { pop(held) }.each { |peer| peer.reply(:work_complete, "H:1", "done") }
      end
      expect(set.wait(20)).to be(true)
      answers.join
      expect(calls).to eq([[:on_complete, "done"]] * 3)
    end

    it "goes on with the tasks of the others, in their order, when a server reads nothing" do
      stub_const("Gearman::TaskSet::PATIENCE", 60)
      deaf = scripted_server { |peer| peer.request && sleep }
      client = client_of(deaf, live = answering_server)
      client.task_create_timeout_sec = nil
      home = lambda do |task|
        client.instance_variable_get(:@connection_pool).get_connection(task.get_uniq_hash).port
      end
      set = described_class.new(client)
      tasks = Array.new(500) { |number| recording("f", number.to_s.ljust(50_000), uniq: number.to_s) }
      expected = tasks.select { |task| home.call(task) == live.port }.map { |task| [:on_complete, task.arg] }
      tasks.each { |task| set.add_task(task) }
      eventually("all results of the other server") { set.wait(0.1) || calls.size == expected.size }
      expect(calls).to eq(expected)
      expect(set.size).to eq(tasks.size - expected.size)
      set.give_up
      expect(set.wait).to be(true)
    end

    it "is false when a foreground task failed, and the next use of the set is a new one" do
      set = described_class.new(client_of(answering_server))
      set.add_task(recording("fail"))
      set.add_task(recording("f", "ok"))
      expect(set.wait(20)).to be(false)
      set.add_task(recording("f", "again"))
      expect(set.wait(20)).to be(true)
      expect(calls).to contain_exactly([:on_fail], [:on_complete, "ok"], [:on_complete, "again"])
    end

    it "takes tasks that callbacks add, and jobs that they run" do
      client = client_of(answering_server)
      set = described_class.new(client)
      first = recording("f", "first")
      first.on_complete do |data|
        calls << data << client.do_task(Gearman::Task.new("f", "inner"), 20)
        set.add_task(recording("f", "added"))
      end
      set.add_task(first)
      expect(set.wait(20)).to be(true)
      expect(calls).to eq(["first", "inner", [:on_complete, "added"]])
    end

    it "retries on the same set" do
      set = described_class.new(client_of(answering_server))
      set.add_task(recording("raise", "boom", retry_count: 2))
      expect(set.wait(20)).to be(false)
      exception = [:on_exception, "boom"]
      expect(calls).to eq([exception, [:on_retry, 1], exception, [:on_retry, 2], exception, [:on_fail]])
    end

    it "refuses a time-out that is no number" do
      set = described_class.new(client_of(answering_server))
      set.add_task(recording("f"))
      expect { set.wait("1") }.to raise_error(StandardError)
      expect(set.wait(20)).to be(true)
    end
  end

  describe "a time-out" do
    it "leaves the tasks in the set, and the next wait reads on" do
      gate = Queue.new
      server = scripted_server do |peer|
        peer.accept_job("H:1")
        peer.accept_job("H:2")
        peer.reply(:work_complete, "H:2", "quick").write("\0RES\0\0\0\x0D\0\0\0\x08H:")
        gate.pop
        peer.write("1\0slow").reply(:noop)
      end
      set = described_class.new(client_of(server))
      set.add_task(recording("f", "slow"))
      set.add_task(recording("f", "quick"))
      expect(set.wait(0.2)).to be(false)
      expect([set.size, calls]).to eq([1, [[:on_complete, "quick"]]])
      gate << true
      expect(set.wait_forever).to be(true)
      expect(calls.last).to eq([:on_complete, "slow"])
      expect(server.connections.size).to eq(1)
    end

    it "is 1 second unless told otherwise" do
      set = described_class.new(client_of(answering_server))
      set.add_task(recording("hold"))
      start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      expect(set.wait).to be(false)
      expect(Process.clock_gettime(Process::CLOCK_MONOTONIC) - start).to be_between(0.9, 4.5)
    end

    it "does not blame a server whose answers came in time, and were not read" do
      handles = Array.new(1000) { |number| "H:#{"long" * 12}:#{number}" } # more than one read takes
      submitted = Queue.new
      server = scripted_server do |peer|
        handles.each { peer.request }
        submitted << true
        sleep 0.2
        peer.write(handles.map { |handle| ScriptedServer::Peer.packet(:job_created, handle) }.join)
        sleep 2.2
        handles.each { |handle| peer.reply(:work_complete, handle, "done") }
        peer.closed_by_client?
      end
      client = client_of(server)
      client.task_create_timeout_sec = 2
      set = described_class.new(client)
      handles.each { |handle| set.add_task(Gearman::Task.new("f", handle)) }
      set.wait(0.01) while submitted.empty?
      sleep 2.1
      expect(set.wait(JobServers::PATIENCE)).to be(true)
    end

    it "is kept in the face of a server that talks all the time", :process do
      client = remember(Gearman::Client.new("127.0.0.1:#{talking_server(:work_status, "H:1", "1", "2")}"), :close)
      set = described_class.new(client)
      set.add_task(recording("f"))
      waiting = Thread.new { set.wait(0.3) }
      expect(waiting.join(JobServers::PATIENCE)&.value).to be(false)
      expect(calls.size).to be > 1000
    ensure
      waiting&.kill&.join
      set&.give_up
    end
  end

  describe "an exception of another thread" do
    it "leaves a completion to the next wait when it comes as the channel is given back" do
      client = client_of(answering_server)
      connection = client.instance_variable_get(:@connection_pool).get_connection
      leased = Array.new(2) { connection.lease }
      connection.release(leased.pop)
      connection.__send__(:waiting=, [:somebody])
      allow(connection).to receive(:open_channel).and_return(nil)
      allow(connection).to receive(:channel_released).and_raise(Interrupt)
      set = described_class.new(client)
      set.add_task(recording("f", "result"))
      expect { set.wait_forever }.to raise_error(Interrupt)
      expect(calls).to eq([])
      expect(set.wait_forever).to be(true)
      expect(calls).to eq([[:on_complete, "result"]])
    end
  end

  describe "#give_up" do
    it "leaves late replies to nobody" do
      gate = Queue.new
      server = scripted_server do |peer|
        2.times { |index| peer.accept_job("H:#{index}") }
        gate.pop
        2.times { |index| peer.reply(:work_data, "H:#{index}", "late").reply(:work_complete, "H:#{index}", "late") }
        peer.accept_job("H:9")
        peer.reply(:work_complete, "H:9", "mine")
      end
      client = client_of(server)
      set = described_class.new(client)
      2.times { |index| set.add_task(recording("f", index.to_s)) }
      expect(set.wait(0.1)).to be(false)
      set.give_up
      expect(set.size).to eq(0)
      gate << true
      expect(client.do_task(Gearman::Task.new("f"), 20)).to eq("mine")
      expect(calls).to eq([])
      expect(server.connections.size).to eq(1)
    end
  end

  describe "the loss of a server" do
    it "names the tasks in doubt behind what the others owe, and those have left the set" do
      lost = Queue.new
      dying = scripted_server do |peer|
        peer.accept_job("H:1")
        peer.close
        lost << true
      end
      live = scripted_server do |peer|
        peer.accept_job("H:1")
        lost.pop
        peer.reply(:work_complete, "H:1", "late")
      end
      tasks = arguments_for([dying, live]).map { |argument| recording("f", argument) }
      set = described_class.new(client_of(dying, live))
      tasks.each { |task| set.add_task(task) }
      expect { set.wait(20) }.to raise_error(Gearman::NetworkError) { |error|
        expect(error.tasks).to eq([tasks.first])
        expect(error.message).to eq("#{dying.address}: connection closed by the server; " \
                                    "outcome unknown of f (#{tasks.first.get_uniq_hash})")
      }
      expect(calls).to eq([[:on_complete, "late"]])
      expect(set.size).to eq(0)
    end

    it "that can be seen before a task is sent costs those alone that were sent before" do
      gate = Queue.new
      server = scripted_server do |peer, number|
        peer.accept_job("H:1")
        next peer.reply(:work_complete, "H:1", "third").closed_by_client? if number.positive?

        peer.accept_job("H:2")
        gate.pop
        peer.reply(:work_complete, "H:2", "second").close
      end
      tasks = Array.new(3) { |index| recording("f", index.to_s) }
      set = described_class.new(client_of(server))
      tasks.first(2).each { |task| set.add_task(task) }
      expect(set.wait(0.2)).to be(false)
      gate << true
      sleep 1.1 # a socket that was used just now is not looked at
      set.add_task(tasks[2])
      expect { set.wait(20) }.to raise_error(Gearman::NetworkError) { |error| expect(error.tasks).to eq([tasks[0]]) }
      expect(calls).to eq([[:on_complete, "second"], [:on_complete, "third"]])
    end

    it "names ten of many tasks" do
      server = scripted_server do |peer|
        12.times { |index| peer.accept_job("H:#{index}") }
        peer.close
      end
      set = described_class.new(client_of(server))
      12.times { |index| set.add_task(recording("f", index.to_s)) }
      expect { set.wait(20) }.to raise_error(Gearman::NetworkError, / f \(\h+\)(, f \(\h+\)){9}, (and )?2 more\z/)
    end
  end

  describe "a task that a server refuses" do
    it "leaves the set and harms no other" do
      server = scripted_server do |peer|
        peer.accept_job("H:1")
        peer.request && peer.reply(:error, "QUEUE_ERROR", "Job queue is full")
        peer.accept_job("H:3")
        peer.reply(:work_complete, "H:1", "one").reply(:work_complete, "H:3", "three")
      end
      set = described_class.new(client_of(server))
      %w[1 2 3].each { |data| set.add_task(recording("f", data)) }
      expect { set.wait(20) }
        .to raise_error(Gearman::ProtocolError,
                        "Received error when we were expecting JOB_CREATED: QUEUE_ERROR Job queue is full (f)")
      expect(set.wait(20)).to be(false)
      expect(calls).to eq([[:on_complete, "one"], [:on_complete, "three"]])
    end

    it "is also one that cannot be sent" do
      set = described_class.new(client_of(answering_server))
      set.add_task(recording("f", "one"))
      set.add_task(recording("f\0", "two"))
      set.add_task(recording("f", "three"))
      expect { set.wait(20) }.to raise_error(Gearman::InvalidArgsError, /NUL byte/)
      set.wait(20)
      expect(calls).to eq([[:on_complete, "one"], [:on_complete, "three"]])
    end
  end

  describe "a task that runs alone" do
    let(:set) { described_class.new(client_of(server)) }
    # Holds "held" back until it is told to go on, and tells when it has it.
    let(:server) do
      scripted_server do |peer|
        (1..).each do |count|
          _type, _function, _unique, data = peer.request
          peer.reply(:job_created, "H:#{count}")
          arrived << data
          go_on.pop if data == "held"
          peer.reply(:work_complete, "H:#{count}", data)
        end
      end
    end
    let(:arrived) { Queue.new }
    let(:go_on) { Queue.new }

    # A thread that waits for a task which is held back, while another is added behind it.
    def wait_and_add(timeout)
      set.add_task(recording("f", "held"))
      waiting = Thread.new { set.wait(timeout) }
      waiting.report_on_exception = false
      pop(arrived)
      set.add_task(recording("f", "other"))
      waiting
    end

    it "is submitted once, though one is added and the set is asked for its size while a server is looked for" do
      added = false
      allow_any_instance_of(Gearman::ConnectionPool).to receive(:get_connection).and_wrap_original do |get, *arguments|
        set.add_task(recording("f", "two")) unless added
        added = true
        expect(set.size).to be > 0
        get.call(*arguments)
      end
      set.add_task(recording("f", "one"))
      expect(set.wait(JobServers::PATIENCE)).to be(true)
      expect(calls).to eq([[:on_complete, "one"], [:on_complete, "two"]])
      expect(set.size).to eq(0)
    end

    it "is not forgotten when others were added and asked after until the time-out passed" do
      waiting = wait_and_add(0.5)
      expect(set.size).to eq(2)
      expect(waiting.value).to be(false)
      expect(set.size).to eq(2)
      go_on << true
      expect(set.wait(JobServers::PATIENCE)).to be(true)
      expect(calls).to match_array([[:on_complete, "held"], [:on_complete, "other"]])
    end

    it "is gone on with behind the tasks that another thread waits for meanwhile" do
      waiting = wait_and_add(3)
      expect(set.wait(JobServers::PATIENCE)).to be(true)
      expect(calls).to eq([[:on_complete, "other"]])
      expect(waiting.value).to be(false)
      go_on << true
      expect(set.wait(JobServers::PATIENCE)).to be(true)
      expect(calls).to match_array([[:on_complete, "held"], [:on_complete, "other"]])
    end

    it "ends with an interrupt that is one of the library's errors, though another was added meanwhile" do
      waiting = wait_and_add(JobServers::PATIENCE)
      waiting.raise(Gearman::NetworkError, "mine")
      expect { waiting.value }.to raise_error(Gearman::NetworkError, "mine")
      go_on << true
      expect(set.wait(JobServers::PATIENCE)).to be(true)
      expect(calls.size).to eq(2)
    end

    it "has failed when it says so, also if the set has waited for others in its callback" do
      task = Gearman::Task.new("f", "one")
      task.on_complete do
        2.times { |index| set.add_task(recording("f", index.to_s)) }
        set.wait(JobServers::PATIENCE)
        task.reset_state
      end
      set.add_task(task)
      expect(set.wait(JobServers::PATIENCE)).to be(false)
      expect(calls.size).to eq(2)
      expect(set.wait(JobServers::PATIENCE)).to be(true)
    end

    it "is given up" do
      set.add_task(recording("f", "held"))
      expect(set.wait(0.2)).to be(false)
      set.give_up
      expect([set.size, set.wait(0.1)]).to eq([0, true])
      go_on << true
      set.add_task(recording("f", "next"))
      expect(set.wait(JobServers::PATIENCE)).to be(true)
      expect(calls).to eq([[:on_complete, "next"]])
    end
  end

  describe "a non-local exit out of a callback" do
    def leave(how)
      case how
      when :raise then raise "out"
      when :throw then throw :out
      when :break then proc { break }.call
      when :exit then exit(3)
      else Thread.current.kill
      end
    end

    # Waits; the block of the callback may return out of this method.
    def wait_or_return(set, task, callback, how)
      left = false
      task.public_send(callback) do |*|
        next if left

        left = true
        return :left if how == :return

        leave(how)
      end
      set.wait(20)
    end

    def leave_by(how, set, task, callback)
      case how
      when :raise then expect { wait_or_return(set, task, callback, how) }.to raise_error(RuntimeError, "out")
      when :throw then expect { wait_or_return(set, task, callback, how) }.to throw_symbol(:out)
      when :break then expect { wait_or_return(set, task, callback, how) }.to raise_error(LocalJumpError)
      when :exit then expect { wait_or_return(set, task, callback, how) }.to raise_error(SystemExit)
      when :return then expect(wait_or_return(set, task, callback, how)).to eq(:left)
      else Thread.new { wait_or_return(set, task, callback, how) }.join
      end
    end

    let(:server) { answering_server }
    let(:client) { client_of(server) }

    %i[raise throw break exit return kill].each do |how|
      {
        on_created: "report", on_status: "report", on_data: "report", on_warning: "report", on_complete: "report",
        on_fail: "fail", on_exception: "raise", on_retry: "raise"
      }.each do |callback, function|
        it "(#{how} out of #{callback}) leaves client and set usable" do
          set = described_class.new(client)
          task = recording(function, "data", retry_count: callback == :on_retry ? 1 : 0)
          set.add_task(recording("f", "before"))
          set.add_task(task)
          set.add_task(recording("f", "behind"))
          leave_by(how, set, task, callback)
          expect(client.do_task(Gearman::Task.new("f", "mine"), 20)).to eq("mine")
          expect([true, false]).to include(set.wait(20))
          expect(set.size).to eq(0)
          expect(calls).to include([:on_complete, "before"], [:on_complete, "behind"])
          expect(calls.count([:on_complete, "behind"])).to eq(1)
          expect(client.do_task(Gearman::Task.new("f", "last"), 20)).to eq("last")
          expect(server.connections.size).to be <= 2
        end
      end
    end

    it "loses none of the events behind it" do
      set = described_class.new(client)
      task = recording("report", "data")
      task.on_status { |*| raise "out" }
      set.add_task(task)
      expect { set.wait(20) }.to raise_error("out")
      expect(set.wait(20)).to be(true)
      expect(calls).to eq([[:on_data, "data"], [:on_warning, "data"], [:on_complete, "data"]])
    end

    it "comes out of do_task as it is, even if it is one of the library's: the job runs once" do
      ran = []
      server = scripted_server do |peer|
        loop do
          ran << peer.accept_job("H:1").last
          peer.reply(:work_complete, "H:1", "done")
        end
      end
      [Gearman::ServerDownException, Gearman::SocketTimeoutError, Gearman::NoJobServersError].each do |error|
        task = Gearman::Task.new("f", error.name, coalesce: false)
        task.on_complete { raise error, "another call failed" }
        expect { client_of(server).do_task(task, 20) }.to raise_error(error, "another call failed")
      end
      expect(ran.size).to eq(3)
    end

    it "out of do_task ends the task; the next call is right" do
      task = recording("report", "data")
      task.on_data { |*| raise "out" }
      expect { client.do_task(task, 20) }.to raise_error("out")
      20.times { |index| expect(client.do_task(Gearman::Task.new("f", index.to_s), 20)).to eq(index.to_s) }
      expect(server.connections.size).to eq(1)
    end
  end

  # spec/integration/quiet_server_spec.rb shows what it means, and has less of it.
  it "has 10 seconds of patience with a silent server, for several tasks and a bulk submission" do
    given = []
    allow(Gearman::TaskLoop).to receive(:new).and_wrap_original do |original, *arguments|
      given << arguments.first
      original.call(*arguments)
    end
    client = client_of(answering_server)
    client.task_create_timeout_sec = 5.0
    set = described_class.new(client)
    2.times { |index| set.add_task(Gearman::Task.new("f", index.to_s)) }
    set.wait(JobServers::PATIENCE)
    client.submit_all([Gearman::BackgroundTask.new("f")])
    expect(given).to eq([10, 10])
  end
end
