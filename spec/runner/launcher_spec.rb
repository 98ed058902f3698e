# frozen_string_literal: true

require "gearman/runner"
require_relative "../support/quiet"

RSpec.describe Gearman::Runner::Launcher do
  let(:server) { start_gearmand }
  let(:configuration) { Gearman::Configuration.new.update(servers: server.address, concurrency: 2) }
  let(:client) { Gearman::Client.new(server.address) }
  let(:definitions) do
    Gearman::Definitions.new.tap do |definitions|
      definitions.ability("reverse") { |data, _job| data.reverse }
      definitions.ability("stopping") { |_data, _job| Gearman::Runner.stopping?.to_s }
      definitions.ability("slow") { |data, _job| sleep(Float(data)) && "slept" }
      definitions.ability("leave") { |_data, _job| exit }
    end
  end

  before do
    allow(Gearman).to receive(:definitions).and_return(definitions)
    allow(Gearman).to receive(:logger).and_return(Logger.new(@log = StringIO.new))
  end

  after do
    @launcher&.stop(0)
    client.close
  end

  def launcher
    @launcher ||= described_class.new(configuration)
  end

  def call(func, data = "")
    client.do_task(Gearman::Task.new(func, data, coalesce: false), JobServers::PATIENCE)
  end

  def counts(func)
    server.admin("status").lines.map(&:split).find { |name, *| name == func }&.last(3)&.map(&:to_i)
  end

  def handlers
    %w[TERM INT TSTP TTIN].to_h { |name| [name, Signal.trap(name, "DEFAULT").tap { |old| Signal.trap(name, old) }] }
  end

  it "serves in a process that has other things to do, and leaves its signals and threads alone" do
    before = handlers
    threads = Thread.list
    expect(launcher.start).to equal(launcher)
    expect([call("reverse", "abc"), call("stopping"), launcher.running?]).to eq(["cba", "false", true])
    expect(handlers).to eq(before)
    expect(launcher.stop(5)).to be(true)
    expect([launcher.running?, Gearman::Runner.stopping?]).to eq([false, true])
    eventually("no thread left") { (Thread.list - threads).empty? }
    eventually("no worker left") { counts("reverse").last.zero? }
  end

  it "logs each job, unless nobody wants to know" do
    launcher.start
    call("reverse", "abc")
    launcher.stop(5)
    expect(@log.string).to match(/INFO -- : reverse H:\S+ done in/)
    Gearman.logger.level = Logger::WARN
    expect(Gearman::Runner::JobLog).not_to receive(:new)
    launcher.start
    expect(call("reverse", "abc")).to eq("cba")
  end

  it "logs what became of a job, whatever happens around it" do
    configuration.around_job do |job, run|
      run.call
      raise "around it" if job.data == "raise"
    end
    definitions.ability("nothing") { |data, _job| data == "false" ? false : nil }
    launcher.start
    call("reverse", "abc")
    ["", "false"].each { |data| call("nothing", data) }
    call("reverse", "raise")
    launcher.stop(5)
    expect(@log.string.scan(/INFO -- : (\w+) H:\S+ (\w+) in/))
      .to eq([%w[reverse done], %w[nothing failed], %w[nothing failed], %w[reverse failed]])
  end

  it "may be started again" do
    2.times do
      launcher.start
      expect([call("reverse", "abc"), call("stopping")]).to eq(%w[cba false])
      expect(launcher.stop(5)).to be(true)
    end
  end

  it "is started once, however often it is told" do
    worker = launcher.start.worker
    call("reverse")
    expect(launcher.start.worker).to equal(worker)
    eventually("two loops") { counts("reverse").last == 2 }
    expect(launcher.stop(5)).to be(true)
    eventually("no worker left") { counts("reverse").last.zero? }
  end

  it "may be stopped before it is started" do
    launcher.quiet
    expect(launcher.stop(5)).to be(true)
  end

  it "gives running jobs back when their time is up" do
    launcher.start
    client.submit_background(Gearman::BackgroundTask.new("slow", "60"))
    eventually("a running job") { launcher.worker.running_jobs.size == 1 } # which the server says a moment before
    expect(launcher.stop(0.1)).to be(false)
    eventually("the job is back") { counts("slow") == [1, 0, 0] }
    expect(launcher.running?).to be(false)
  end

  it "takes no more jobs when it is to be quiet" do
    launcher.start
    call("reverse")
    sleep 0.2 # what it has asked for already is answered then
    launcher.quiet
    client.submit_background(Gearman::BackgroundTask.new("slow", "0"))
    sleep 0.3
    expect([counts("slow").first(2), Gearman::Runner.stopping?, launcher.running?]).to eq([[1, 0], true, true])
  end

  it "tells what ended it" do
    launcher.start
    client.submit_background(Gearman::BackgroundTask.new("leave", ""))
    eventually("its end") { !launcher.running? }
    expect(launcher.error).to be_a(SystemExit)
    expect(@log.string).to include("ERROR -- : the worker has ended: ")
  end

  it "does not wait for servers that swallow packets, and says at once that they do not answer" do
    silent = Array.new(2) { silent_server }
    configuration.servers = [*silent, server.address]
    start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    launcher.start
    expect(call("reverse", "abc")).to eq("cba")
    expect(Process.clock_gettime(Process::CLOCK_MONOTONIC) - start).to be < 2
    silent.each { |address| eventually("a word", patience: 6) { @log.string.include?("job server #{address}") } }
    expect(Process.clock_gettime(Process::CLOCK_MONOTONIC) - start).to be < 6
  end

  it "starts at once when a server takes connections and says nothing" do
    silent = TCPServer.new("127.0.0.1", 0)
    configuration.servers = ["127.0.0.1:#{silent.addr[1]}"]
    start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    launcher.start
    expect(launcher.stop(5)).to be(true)
    expect(Process.clock_gettime(Process::CLOCK_MONOTONIC) - start).to be < 2
    configuration.servers = [server.address]
    launcher.start
    expect(call("reverse", "abc")).to eq("cba")
    silent.close
    sleep 0.1
    expect([launcher.running?, launcher.error]).to eq([true, nil])
  ensure
    silent.close
  end
end
