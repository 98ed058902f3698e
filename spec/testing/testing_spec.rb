# frozen_string_literal: true

# Whatever requires gearman/testing is changed by it, so these examples run in processes of their own.
RSpec.describe "Gearman.testing!" do
  include Commands

  # Runs Ruby code in a test with a client of a port that refuses. Returns what it printed.
  def tested(code, mode: :fake)
    port = JobServers.free_port
    prelude = <<~RUBY
      #{"Gearman.testing!(#{mode.inspect})" if mode}
      client = Gearman::Client.new("127.0.0.1:#{port}")
      Gearman.logger = Logger.new(nil)
      def job(func, arg = "", opts = {}) = Gearman::BackgroundTask.new(func, arg, opts)
      def task(...) = Gearman::Task.new(...)
      def error; yield; "nothing"; rescue Exception => e; "\#{e.class}: \#{e.message}"; end
    RUBY
    # A library that was built for a sanitizer needs its runtime there, too.
    run_command(RbConfig.ruby, "-I", File.join(Commands::PROJECT, "lib"), "-r", "gearman", "-e", prelude + code,
                env: { "LD_PRELOAD" => ENV["LD_PRELOAD"] }).lines(chomp: true)
  end

  it "keeps background tasks and sends nothing" do
    expect(tested(<<~'RUBY')).to eq(["nil", "resize cat.png high false", "mail  low true", "1", "2", "Array", "[]"])
      p client.do_task(job("resize", "cat.png", priority: :high))
      client.submit_job(task(:mail, "", schedule_at: Time.now + 60, priority: :low))
      Gearman::Testing.submitted.each { |s| puts "#{s.func} #{s.data} #{s.priority} #{!s.run_at.nil?}" }
      puts Gearman::Testing.submitted("resize").size
      puts Gearman::Testing.submitted.count(&:background?)
      puts client.submit_all([job("bulk")]).class
      Gearman::Testing.clear
      p Gearman::Testing.submitted
    RUBY
  end

  it "keeps what is submitted in the way of gearman-ruby 3.0" do
    expect(tested(<<~'RUBY')).to eq(["nil", "resize cat.png", "cba"])
      p client.do_task("resize", "cat.png", background: true)
      Gearman::Testing.submitted.each { |s| puts "#{s.func} #{s.data}" }
      Gearman::Testing.stub("reverse") { |data| data.reverse }
      puts client.do_task("reverse", "abc")
    RUBY
  end

  it "runs what was kept when it is drained, and what that submits" do
    expect(tested(<<~'RUBY')).to eq(["first a", "second ab", "2", "0", "[:completed, :completed]", "AB"])
      worker = Gearman::Worker.new
      worker.add_ability("second") { |data| puts "second #{data}"; data.upcase }
      worker.add_ability("first") do |data, _|
        puts "first #{data}"
        client.do_task(Gearman::BackgroundTask.new("second", data + "b"))
        ""
      end
      client.do_task(job("first", "a"))
      puts Gearman::Testing.drain, Gearman::Testing.drain
      p Gearman::Testing.submitted.map(&:state)
      puts Gearman::Testing.submitted.last.result
    RUBY
  end

  it "drains one function alone" do
    expect(tested(<<~RUBY)).to eq(["1", "[:queued, :completed]"])
      Gearman::Testing.stub("a") { "" }
      Gearman::Testing.stub("b") { "" }
      client.submit_all([job("a"), job("b")])
      puts Gearman::Testing.drain(:b)
      p Gearman::Testing.submitted.map(&:state)
    RUBY
  end

  it "raises what a drained job raises, and keeps those behind it" do
    expect(tested(<<~RUBY)).to eq(["KeyError: key not found: 1", "[:failed, :queued]"])
      Gearman::Testing.stub("a") { {}.fetch(1) }
      client.submit_all([job("a"), job("a")])
      puts error { Gearman::Testing.drain }
      p Gearman::Testing.submitted.map(&:state)
    RUBY
  end

  it "runs background tasks at once in :inline, in the caller's thread, and raises what they raise" do
    expect(tested(<<~RUBY)).to eq(["true", "nil", "ArgumentError: no", "[:completed, :failed]"])
      Gearman.testing!(:inline)
      Gearman::Testing.stub("a") { puts Thread.current == Thread.main; "" }
      Gearman::Testing.stub("b") { raise ArgumentError, "no" }
      p client.do_task(job("a"))
      puts error { client.do_task(job("b")) }
      p Gearman::Testing.submitted.map(&:state)
    RUBY
  end

  it "runs a task that somebody waits for, with its callbacks and retries" do
    expect(tested(<<~'RUBY')).to eq(["cba", "created", "1/2", "done cba", "retry 1", "failed", "nil", "false", "no"])
      Gearman::Testing.stub("reverse") { |data, job| job.report_status(1, 2); data.reverse }
      puts client.do_task(task("reverse", "abc"))
      both = task("reverse", "abc", on_status: ->(n, d) { puts "#{n}/#{d}" }, on_complete: ->(r) { puts "done #{r}" })
      both.on_created { |handle| puts "created" unless handle.empty? }
      set = Gearman::TaskSet.new(client)
      set.add_task(both)
      set.wait
      Gearman::Testing.stub("nil") { nil }
      p client.do_task(task("nil", "", retry_count: 1, on_retry: ->(n) { puts "retry #{n}" }, on_fail: -> { puts "failed" }))
      set = Gearman::TaskSet.new(client)
      set.add_task(task("nil"))
      p set.wait
      Gearman::Testing.stub("raises") { raise "no" }
      client.do_task(task("raises", "", on_exception: ->(message) { puts message }))
    RUBY
  end

  it "takes equal tasks for one job, as a server does" do
    expect(tested(<<~RUBY)).to eq(["[:queued, :coalesced, :queued]", "true", "2", "true", "false"])
      Gearman::Testing.stub("a") { "" }
      3.times { |i| client.do_task(job("a", "x", i == 2 ? { coalesce: false } : {})) }
      p Gearman::Testing.submitted.map(&:state)
      puts Gearman::Testing.submitted.first.handle == Gearman::Testing.submitted[1].handle
      client.do_task(job("b"))
      puts Gearman::Testing.drain("a")
      p client.job_status(Gearman::Testing.submitted.last.handle).known?, client.job_status("H:1").known?
    RUBY
  end

  it "refuses what a client would refuse" do
    output = tested(<<~'RUBY')
      puts error { client.do_task(job("a\0")) }
      puts error { client.do_task(job("")) }
      puts error { client.do_task(job("a", "", hash: "x" * 64)) }
      puts error { client.submit_all([task("a")]) }
      p client.submit_all([job("a\0", ""), job("a")]).map(&:nil?)
      puts error { Gearman.testing!(:on) }
      puts error { Gearman::Testing.stub("a") }
      p Gearman::Testing.submitted.size
    RUBY

    refused = %w[NUL empty 64 submit_all testing! stub].map { |word| /^Gearman::InvalidArgsError: .*#{word}/ }
    expect(output).to match([*refused.first(4), "[true, false]", *refused.last(2), "1"])
  end

  it "says what cannot be run, and what there is no server for" do
    output = tested(<<~RUBY)
      puts error { client.do_task(task("a")) }
      puts error { Gearman::Worker.new.work }
      puts error { Gearman::ConnectionPool.new("localhost").get_connection }
      p client.set_options("exceptions"), client.ping.values
    RUBY

    expect(output).to match([/^Gearman::Error: nothing can do the function "a" .*stub\("a"\)/,
                             /^Gearman::Error: .*drain/, /^Gearman::Error: .*:fake/, '["exceptions"]', "[0.0]"])
  end

  it "forgets stubs, and not the functions of workers, when it is cleared" do
    expect(tested(<<~RUBY)).to eq(%w[stub worker])
      Gearman::Worker.new.add_ability("a") { "worker" }
      Gearman::Testing.stub("a") { "stub" }
      puts client.do_task(task("a"))
      Gearman::Testing.clear
      puts client.do_task(task("a"))
    RUBY
  end

  it "serves the functions of Gearman.worker" do
    expect(tested(<<~RUBY)).to eq(["OLLEH"])
      Gearman.worker { ability("shout") { |data, _| data.reverse.upcase } }
      puts client.do_task(task("shout", "hello"))
    RUBY
  end

  it "has a mode for a block that other threads do not see" do
    expect(tested(<<~RUBY)).to eq([":inline", ":fake", ":disabled", ":inline", "7", ":fake", ":disabled"])
      result = Gearman.testing!(:inline) do
        p Gearman::Testing.mode, Thread.new { Gearman::Testing.mode }.value
        Gearman.testing!(:disabled) { p Gearman::Testing.mode }
        p Gearman::Testing.mode
        7
      end
      p result
      begin
        Gearman.testing!(:inline) { raise "no" }
      rescue RuntimeError
        p Gearman::Testing.mode
      end
      Gearman.testing!(:disabled)
      p Thread.new { Gearman::Testing.mode }.value
    RUBY
  end

  it "keeps what many threads submit" do
    expect(tested(<<~'RUBY')).to eq(%w[800 800 800])
      ran = Queue.new
      Gearman::Testing.stub("a") { |data| ran << data; "" }
      8.times.map { |t| Thread.new { 100.times { |i| client.do_task(job("a", "#{t} #{i}")) } } }.each(&:join)
      puts Gearman::Testing.submitted.map(&:handle).uniq.size
      puts 4.times.map { Thread.new { Gearman::Testing.drain } }.sum(&:value)
      puts ran.size
    RUBY
  end

  it "sends to a server when it is disabled" do
    server = start_gearmand
    output = tested(<<~RUBY)
      Gearman.testing!(:disabled)
      real = Gearman::Client.new("#{server.address}")
      real.do_task(job("real", "data"))
      Gearman.testing!(:fake) { real.do_task(job("faked")) }
      p Gearman::Testing.submitted.map(&:func)
    RUBY

    expect(output).to eq(["[\"faked\"]"])
    expect(server.admin("status")).to start_with("real\t1\t")
    expect(server.admin("status")).not_to include("faked")
  end

  it "changes nothing until it is called" do
    output = tested(<<~RUBY, mode: nil)
      p $LOADED_FEATURES.grep(%r{gearman/(testing|rspec)})
      Gearman::Testing
      Gearman.testing!(:disabled)
      classes = [Gearman::Client, Gearman::TaskSet, Gearman::Worker, Gearman::Worker::Ability, Gearman::ConnectionPool]
      p classes.all? { |klass| klass.ancestors.first == klass }
      Gearman.testing!(:fake) { p classes.none? { |klass| klass.ancestors.first == klass } }
    RUBY

    expect(output).to eq(["[]", "true", "true"])
  end
end
