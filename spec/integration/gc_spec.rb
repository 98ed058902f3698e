# frozen_string_literal: true

require "objspace"

# The collector at work. What could end the process runs in a process of its own.
RSpec.describe "a client and the garbage collector", :quiet do
  let(:server) do
    scripted_server do |peer|
      (1..).each do |number|
        handle = "H:#{number}"
        job = peer.accept_job(handle)
        next if job.last == "hold"

        peer.reply(:work_data, handle, "part").reply(:work_complete, handle, job.last)
      end
    end
  end

  # A server that answers a task only when the next one comes.
  let(:late_server) do
    scripted_server do |peer|
      held = []
      (1..).each do |number|
        type, _function, _unique, data = peer.request
        peer.reply(:job_created, "H:#{number}")
        held << ["H:#{number}", data] unless type == :submit_job_bg
        next unless type == :submit_job_bg

        held.each { |handle, result| peer.reply(:work_data, handle, "part").reply(:work_complete, handle, result) }
        held.clear
      end
    end
  end

  prelude = <<~RUBY
    def self.move_everything
      room = RUBY_VERSION < "3.2" ? { double_heap: true } : { expand_heap: true }
      GC.verify_compaction_references(toward: :empty, **room)
    end

    def self.task(data, results)
      Gearman::Task.new("f", data, coalesce: false).tap do |task|
        task.on_data { |part| results << part }
        task.on_complete { |result| results << result }
      end
    end
  RUBY

  it "works while every object moves", :process do
    output = run_ruby(<<~RUBY, late_server.address)
      #{prelude}
      conversations = Array.new(100) do |number|
        client = Gearman::Client.new(ARGV[0])
        results = []
        set = Gearman::TaskSet.new(client)
        2.times { |index| set.add_task(task("data \#{number}-\#{index}", results)) }
        set.wait(0)
        connection = Gearman::Connection.new(*ARGV[0].split(":").then { |host, port| [host, port.to_i] })
        connection.send_request(Gearman::Packet.encode(:submit_job_bg, "f", "u", ""), 20)
        [client, set, results, connection]
      end
      conversations.each { |_, set, *| set.wait(0.001) }
      raise "early" if conversations.any? { |_, set, results, _| set.size != 2 || results.any? }
      move_everything
      right = conversations.each_with_index.count do |(client, set, results, connection), number|
        own = client.instance_variable_get(:@connection_pool).connections.first.__send__(:channels).first
        own.queue(Gearman::Packet.encode(:submit_job_bg, "f", "u", ""))
        own.send_update(Gearman::Packet.encode(:pre_sleep))
        ended = set.wait(20)
        moved = connection.send_request(Gearman::Packet.encode(:submit_job_bg, "f", "u", ""), 20)
        ended && moved == [:job_created, "H:2"] && results.sort == ["data \#{number}-0", "data \#{number}-1", "part", "part"]
      end
      puts right
    RUBY
    expect(output).to eq("100\n")
  end

  it "runs jobs while every object moves", :process do
    output = run_ruby(<<~RUBY, start_embedded_server.address)
      #{prelude}
      client = Gearman::Client.new(ARGV[0])
      20.times { |i| client.do_task(Gearman::BackgroundTask.new("moving", "data \#{i}", hash: "unique \#{i}")) }
      worker = Gearman::Worker.new(ARGV[0])
      jobs = []
      worker.add_ability("moving") do |_, job|
        jobs << job
        job.handle if jobs.size.odd?
        move_everything if jobs.size % 10 == 5
        job.report_status(1, 2).stopping? ? "stopping" : "done"
      end
      20.times { worker.work_once(20) }
      move_everything
      puts jobs.map { |job| [job.func_name, job.data, job.unique, job.handle[/\\AH:.*:\\d+\\z/] && "handle"].join(",") }
    RUBY
    expect(output.lines(chomp: true)).to eq(Array.new(20) { |index| "moving,data #{index},unique #{index},handle" })
  end

  it "works under GC.stress", :process do
    output = run_ruby(<<~RUBY, server.address)
      #{prelude}
      client = Gearman::Client.new(ARGV[0])
      results = []
      GC.stress = true
      3.times { |index| results << client.do_task(Gearman::Task.new("f", "data \#{index}"), 60) }
      set = Gearman::TaskSet.new(client)
      3.times { |index| set.add_task(task("set", results)) }
      set.wait(60)
      client.do_task(Gearman::BackgroundTask.new("f", "data"))
      begin
        client.do_task(Gearman::Task.new("f\\0", "data"))
      rescue Gearman::InvalidArgsError => e
        results << e.class.name
      end
      GC.stress = false
      puts results
    RUBY
    expect(output.lines(chomp: true)).to match_array(
      ["data 0", "data 1", "data 2", *%w[part set] * 3, "Gearman::InvalidArgsError"]
    )
  end

  it "frees what is dropped in the middle of something", :process do
    output = run_ruby(<<~RUBY, server.address)
      #{prelude}
      100.times do
        client = Gearman::Client.new(ARGV[0])
        set = Gearman::TaskSet.new(client)
        set.add_task(task("hold", []))
        set.wait(0.001)
      end
      GC.start
      GC.start
      alive = %w[Channel TaskLoop].map { |name| ObjectSpace.each_object(Gearman.const_get(name)).count }
      puts alive.all? { |count| count < 50 } ? "few" : alive.inspect
    RUBY
    expect(output).to eq("few\n")
  end

  it "gives the sockets of a dropped task set back" do
    client = remember(Gearman::Client.new(server.address), :close)
    drop = lambda do
      set = Gearman::TaskSet.new(client)
      set.add_task(Gearman::Task.new("f", "hold"))
      set.wait(0.001)
    end
    # More than the 64 that there may be.
    200.times do |number|
      drop.call
      GC.start if (number % 20).zero?
    end
    expect(client.do_task(Gearman::Task.new("f", "mine"), JobServers::PATIENCE)).to eq("mine")
    expect(server.connections.size).to be <= 64
  end

  it "keeps no memory of what is done" do
    client = remember(Gearman::Client.new(server.address), :close)
    connection = client.instance_variable_get(:@connection_pool).get_connection
    run = lambda do |size|
      set = Gearman::TaskSet.new(client)
      100.times { |index| set.add_task(Gearman::Task.new("f", "#{index}#{"x" * size}")) }
      set.wait(JobServers::PATIENCE)
    end
    held = -> { connection.__send__(:channels).sum { |channel| ObjectSpace.memsize_of(channel) } }
    100.times { run.call(10) }
    expect(held.call).to be < 1 << 18
    run.call(200_000)
    run.call(10)
    expect(held.call).to be < 1 << 20
    expect(server.connections.size).to eq(1)
  end
end
