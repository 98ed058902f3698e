# frozen_string_literal: true

JobServers.describe "a client in a forked child", :process, :quiet do
  let(:server) { job_server }
  let(:client) { remember(Gearman::Client.new(server.address), :close) }

  def reverse(text, by: client)
    by.do_task(Gearman::Task.new("reverse", text), JobServers::PATIENCE)
  end

  def texts(name)
    Array.new(50) { |index| "#{name}#{index}" }
  end

  # The sockets that the server has open, but the one that asks.
  def sockets
    server.admin("workers").lines.size - 2
  end

  def start_reversing
    start_worker(server, "reverse" => ->(data, _job) { data.reverse })
  end

  it "opens sockets of its own, and the parent's live on" do
    start_reversing
    expect(reverse("abc")).to eq("cba")
    before = sockets
    answers = in_child do
      GC.start
      first = reverse("child")
      more = sockets - before
      client.close
      [first, more, reverse("again")]
    end
    expect(answers).to eq(["dlihc", 1, "niaga"])
    expect(reverse("parent")).to eq("tnerap")
    eventually("the child's socket is closed") { sockets == before }
  end

  it "works beside the parent, each with its own answers" do
    start_reversing
    reverse("abc")
    nil
    child = in_child { texts("child").map { |text| reverse(text) } }
    children = Array.new(3) { |number| Thread.new { in_child { texts("c#{number}").map { |text| reverse(text) } } } }
    parent = texts("parent").map { |text| reverse(text) }
    expect(parent).to eq(texts("parent").map(&:reverse))
    expect(child).to eq(texts("child").map(&:reverse))
    expect(children.map(&:value)).to eq(Array.new(3) { |number| texts("c#{number}").map(&:reverse) })
  end

  it "may fork again" do
    start_reversing
    reverse("abc")
    expect(in_child { [reverse("one"), in_child { reverse("two") }, reverse("three")] }).to eq(%w[eno owt eerht])
    expect(reverse("four")).to eq("ruof")
  end

  it "never reads the answers of a set that the parent waits for" do
    gate = Queue.new
    start_worker(server, "gate" => ->(data, _job) { gate.pop && data })
    set = Gearman::TaskSet.new(client)
    results = []
    task = Gearman::Task.new("gate", "result")
    task.on_complete { |data| results << data }
    set.add_task(task)
    expect(set.wait(0.2)).to be(false)
    in_the_child = in_child do
      set.wait(5)
    rescue Gearman::NetworkError => e
      [e.message, set.size]
    end
    expect(in_the_child).to match([/connection of another process/, 0])
    gate << true
    expect(set.wait(JobServers::PATIENCE)).to be(true)
    expect(results).to eq(["result"])
  end

  it "may be forked in a callback" do
    gate = Queue.new
    start_worker(server, "gate" => ->(data, _job) { gate.pop && data }, "reverse" => ->(data, _job) { data.reverse })
    reader, writer = IO.pipe
    child = nil
    task = Gearman::Task.new("gate", "result")
    task.on_created { (child = fork) || throw(:child) }
    result = catch(:child) do
      gate << true
      client.do_task(task, JobServers::PATIENCE)
    end
    unless child
      writer.write(reverse("child"))
      exit!(true)
    end
    writer.close
    expect(result).to eq("result")
    expect(reader.read).to eq("dlihc")
    expect(Process.wait2(child).last).to be_success
  end

  it "fails a call that goes on behind a fork in its callback, for the child alone" do
    gate = Queue.new
    start_worker(server, "gate" => ->(data, _job) { gate.pop && data }, "reverse" => ->(data, _job) { data.reverse })
    reader, writer = IO.pipe(binmode: true)
    child = nil
    task = Gearman::Task.new("gate", "result")
    task.on_created { (child = fork) && (gate << true) }
    result = begin
      client.do_task(task, JobServers::PATIENCE)
    rescue Gearman::NetworkError => e
      e
    end
    unless child
      writer.write(Marshal.dump([result.class.name, result.to_s, reverse("next")]))
      exit!(true)
    end
    writer.close
    expect(result).to eq("result")
    expect(Marshal.load(reader.read)) # rubocop:disable Security/MarshalLoad -- our own child's
      .to match(["Gearman::NetworkError", /connection of another process/, "txen"])
    Process.wait(child)
  end

  it "works in a daemon that was built before its parent ended" do
    start_worker(server, "reverse" => ->(data, _job) { data.reverse })
    output = run_ruby(<<~RUBY, server.address)
      client = Gearman::Client.new(ARGV[0])
      reverse = ->(text) { client.do_task(Gearman::Task.new("reverse", text), 20) }
      puts reverse.call("before")
      $stdout.flush
      Process.daemon(true, true)
      puts reverse.call("behind")
    RUBY
    expect(output).to eq("erofeb\ndniheb\n")
  end
end
