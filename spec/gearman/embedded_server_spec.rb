# frozen_string_literal: true

require "logger"
require "stringio"
require "gearman/embedded_server"

# What the embedded server has of its own. What it shares with gearmand is in conformance/.
RSpec.describe Gearman::EmbeddedServer do
  let(:log) { StringIO.new }
  let(:logger) { Logger.new(log) }
  let(:job_server) { start_embedded_server(logger: logger) }
  let(:client) { wire }
  let(:worker) { wire }
  let(:broker) { job_server.server.instance_variable_get(:@broker) }

  def packet(...)
    JobServers::Wire.packet(...)
  end

  def submit(type = :submit_job, function = "f", unique = "", data = "data", on: client)
    on.ask(type, function, unique, data).last
  end

  def grab(*functions, on: worker)
    functions.each { |function| on.request(:can_do, function) }
    on.ask(:grab_job)
  end

  def hang_up(connection)
    count = client.admin("workers").lines.size
    connection.close
    eventually("one connection less") { client.admin("workers").lines.size < count }
  end

  describe "starting and stopping" do
    it "takes a free port on the loopback address, and gives it back" do
      server = described_class.new(logger: logger)
      expect([server.running?, server.port, server.address]).to eq([false, nil, nil])
      expect(server.start).to equal(server)
      expect(server.start).to equal(server)
      expect(server).to be_running
      expect(server.address).to eq("127.0.0.1:#{server.port}")
      connection = JobServers::Wire.new("127.0.0.1", server.port).settle

      expect(server.stop).to equal(server)
      expect(server.stop).to equal(server)
      expect(server).not_to be_running
      expect(connection).to be_closed_by_server
      expect { TCPServer.new("127.0.0.1", server.port).close }.not_to raise_error
    ensure
      connection&.close
      server&.stop
    end

    it "serves a block, and stops when it ends or raises" do
      inside = nil
      result = described_class.start(logger: logger) do |server|
        inside = server
        JobServers::Wire.new("127.0.0.1", server.port).tap(&:settle).close
        :result
      end
      expect(result).to eq(:result)
      expect(inside).not_to be_running
      expect do
        described_class.start(logger: logger) do |server|
          inside = server
          raise "boom"
        end
      end.to raise_error("boom")
      expect(inside).not_to be_running
    end

    it "leaves no thread behind" do
      threads = -> { Thread.list.count { |thread| thread.name == "gearman embedded server" } }
      described_class.start(logger: logger) { expect(threads.call).to eq(1) }
      expect(threads.call).to eq(0)
    end

    it "starts again on the same port, without jobs" do
      submit(:submit_job_bg)
      job_server.restart
      again = wire
      expect(again.admin("show jobs")).to eq(".\n")
    end

    it "stops out of a signal handler" do
      stopped = false
      handler = trap("USR2") do
        job_server.server.stop
        stopped = true
      end
      connection = client.settle
      Process.kill("USR2", Process.pid)
      expect(connection).to be_closed_by_server
      eventually("the handler's end") { stopped }
    ensure
      trap("USR2", handler || "DEFAULT")
    end

    it "says that it keeps nothing" do
      job_server
      expect(log.string).to match(/ WARN .*#{job_server.address} keeps its jobs in memory only/)
    end

    it "listens on ::1" do
      server = described_class.start(host: "::1", logger: logger)
      expect(server.address).to eq("[::1]:#{server.port}")
      connection = JobServers::Wire.new("::1", server.port).settle
      expect(connection.admin("workers")).to match(/^\d+ ::1 - :$/)
    ensure
      connection&.close
      server&.stop
    end

    it "listens where other machines reach it only when told so" do
      ["0.0.0.0", "::", "192.0.2.1"].each do |host|
        expect { described_class.new(host: host, logger: logger) }
          .to raise_error(Gearman::InvalidArgsError, /#{Regexp.escape(host.inspect)} is not a loopback address/)
      end
      described_class.start(host: "0.0.0.0", loopback_only: false, logger: logger) do |server|
        expect(server.address).to eq("0.0.0.0:#{server.port}")
      end
    end

    it "refuses what is no address or port" do
      [-1, 65_536, "4730", nil].each do |port|
        expect { described_class.new(port: port, logger: logger) }
          .to raise_error(Gearman::InvalidArgsError, /0 to 65535, not #{port.inspect}/)
      end
      expect { described_class.new(host: "no such host", logger: logger) }
        .to raise_error(Gearman::InvalidArgsError, /"no such host"/)
    end

    it "names the address that is taken" do
      expect { described_class.new(port: job_server.port, logger: logger).start }
        .to raise_error(Gearman::NetworkError, /\A#{job_server.address}: Address already in use/)
    end
  end

  describe "a process that forks", if: Process.respond_to?(:fork) do
    # What the block returns in a child, which stays until the example ends.
    def in_child
      reader, writer = IO.pipe
      @child = fork do
        writer.write(Marshal.dump(yield))
        writer.close
        sleep
      end
      writer.close
      Marshal.load(reader.read) # rubocop:disable Security/MarshalLoad
    end

    after do
      next unless @child

      Process.kill("KILL", @child)
      Process.wait(@child)
    end

    it "keeps its server, of which the child has no part" do
      server = job_server.server
      connection = client.settle
      port = server.port
      expect(in_child { [server.running?, server.stop.running?] }).to eq([false, false])
      connection.settle

      server.stop
      expect(connection).to be_closed_by_server
      expect { TCPServer.new("127.0.0.1", port).close }.not_to raise_error
    end

    it "can start another server in the child" do
      server = job_server.server
      port = in_child { server.start.port }
      expect(port).not_to eq(server.port)
      connection = remember(JobServers::Wire.new("127.0.0.1", port), :close)
      expect(connection.admin("getpid")).to eq("OK #{@child}\n")
      expect(client.admin("getpid")).to eq("OK #{Process.pid}\n")
    end
  end

  describe "bytes that are not the protocol" do
    {
      "a type that ends gearmand" => "\0REQ\x80\0\0\x10\0\0\0\0",
      "the highest type" => "\0REQ\xff\xff\xff\xff\0\0\0\0",
      "a length that fills gearmand's memory" => "\0REQ\0\0\0\x10\xff\xff\xff\xff",
      "the magic of a server" => "\0RES\0\0\0\x10\0\0\0\0",
      "a packet that only servers send" => "\0REQ\0\0\0\x06\0\0\0\0",
      "a result without the NUL behind its handle" => "\0REQ\0\0\0\x0d\0\0\0\x03H:1",
      "a submission that lacks an argument" => "\0REQ\0\0\0\x07\0\0\0\x03f\0u",
      "a SUBMIT_REDUCE_JOB that lacks an argument" => "\0REQ\0\0\0\x25\0\0\0\x0bf\0u\0red\0data",
      "a time that no clock reaches" => "\0REQ\0\0\0\x24\0\0\0\x18f\0\x0099999999999999999999\0",
      "a line without an end" => "x" * 20_000
    }.each do |what, bytes|
      it "closes the connection on #{what}, and no other" do
        other = wire.settle
        client.write(bytes.b)
        expect(client).to be_closed_by_server
        expect(log.string).to match(/ WARN .*127\.0\.0\.1/)
        other.settle
      end
    end

    it "survives thousands of them" do
      random = Random.new(20_261_125)
      valid = Gearman::Packet::NUMS.keys.map { |type| packet(type, "f", "u", "1", "data") }
      other = wire.settle
      300.times do
        connection = JobServers::Wire.new(job_server.host, job_server.port)
        10.times do
          bytes = valid.sample(random: random).dup
          random.rand(3).times { bytes.setbyte(random.rand(bytes.bytesize), random.rand(256)) }
          connection.write(bytes.byteslice(0, random.rand(4).zero? ? random.rand(bytes.bytesize) : bytes.bytesize))
        end
      rescue SystemCallError
        nil # it was closed before all was written
      ensure
        connection&.close
      end
      other.settle
      eventually("the last one is gone") { other.admin("workers").lines.size == 2 }
      expect(log.string.lines.grep(/ERROR/)).to be_empty
    end

    it "closes the connection of a packet that it fails on, and no other" do
      other = wire.settle
      allow_any_instance_of(described_class::Broker).to receive(:submit).and_raise("a defect")
      client.request(:submit_job, "f", "", "data")
      expect(client).to be_closed_by_server
      expect(log.string).to match(/ ERROR .*a defect/)
      other.settle
    end
  end

  it "serves others while one does not read" do
    size = 20_000_000
    client.request(:echo_req, "x" * size)
    other = wire
    20.times { other.settle }
    expect(client.response(patience: 60)).to eq([:echo_res, "x" * size])
  end

  it "sends what it owes before it closes a connection" do
    client.write(packet(:echo_req, "last"), packet(43))
    expect(client.response).to eq([:echo_res, "last"])
    expect(client).to be_closed_by_server
  end

  it "keeps a unique's foreground job for whoever joins after its client is lost" do
    first = wire
    handle = submit(:submit_job, "f", "u", on: first)
    hang_up(first)
    expect(submit(:submit_job, "f", "u")).to eq(handle)
    expect(grab("f")).to eq([:job_assign, handle, "f", "data"])
    worker.request(:work_complete, handle, "r")
    expect(client.response).to eq([:work_complete, handle, "r"])
  end

  it "keeps a background job when a foreground client that joined it is lost" do
    [%i[submit_job submit_job_bg], %i[submit_job_bg submit_job]].each_with_index do |types, i|
      other = wire
      types.each { |type| submit(type, "f", "u#{i}", on: other) }
      hang_up(other)
      expect(grab("f").first).to eq(:job_assign)
    end
  end

  it "gives a job of its own to whoever submits the unique of a cancelled one" do
    handle = submit(:submit_job, "f", "u")
    expect(wire.admin("cancel job #{handle}")).to eq("OK\r\n")
    expect(client.response).to eq([:work_fail, handle])
    again = submit(:submit_job, "f", "u")
    expect(again).not_to eq(handle)
    expect(grab("f")).to eq([:job_assign, again, "f", "data"])
  end

  it "coalesces uniques of 64 bytes, and leaves the data of their jobs alone" do
    unique = "u" * 64
    handle = submit(:submit_job, "f", unique)
    expect(submit(:submit_job, "f", unique)).to eq(handle)
    worker.request(:can_do, "f")
    expect(worker.ask(:grab_job_uniq)).to eq([:job_assign_uniq, handle, "f", unique, "data"])
  end

  it "wakes sleeping workers for a scheduled job when it is due, and not before" do
    worker.request(:can_do, "f").request(:pre_sleep).settle
    due = Time.now.to_i + 3
    handle = client.ask(:submit_job_epoch, "f", "", due.to_s, "data").last
    worker.settle
    expect(worker.response).to eq([:noop])
    expect(Time.now.to_f).to be >= due
    expect(grab).to eq([:job_assign, handle, "f", "data"])
  end

  it "hands out jobs of low priority while a scheduled one waits" do
    client.ask(:submit_job_epoch, "f", "", (Time.now.to_i + 3600).to_s, "data")
    handle = submit(:submit_job_low_bg)
    expect(grab("f")).to eq([:job_assign, handle, "f", "data"])
    worker.request(:pre_sleep).settle
  end

  it "times each job of a connection by itself" do
    handles = Array.new(2) { submit }
    worker.request(:can_do_timeout, "f", "2000")
    2.times { grab }
    worker.request(:work_complete, handles.last, "r")
    expect(client.response).to eq([:work_complete, handles.last, "r"])
    eventually("the first one's time-out") { client.admin("show jobs") == "#{handles.first}\t1\t0\t0\n.\n" }
    expect(client.admin("status")).to eq("f\t1\t0\t1\n.\n")
    expect(grab.first(2)).to eq([:job_assign, handles.first])
  end

  it "fails the jobs of a function that is dropped" do
    handles = [submit, client.ask(:submit_job_epoch, "f", "", (Time.now.to_i + 3600).to_s, "data").last]
    expect(wire.admin("drop function f")).to eq("OK\r\n")
    expect(client.response).to eq([:work_fail, handles.first])
    expect(client.admin("show jobs")).to eq(".\n")
    expect(broker.idle_time).to be_nil
    expect(grab("f")).to eq([:no_job])
  end

  it "creates the function that was named, also after a bare line feed" do
    client.admin("create function abc", line_end: "\n")
    expect(client.admin("status")).to eq("abc\t0\t0\t0\n.\n")
  end

  it "tells the level of its log" do
    { Logger::DEBUG => "DEBUG", Logger::INFO => "INFO", Logger::WARN => "WARNING", Logger::FATAL => "FATAL" }
      .each do |level, name|
        logger.level = level
        expect(client.admin("verbose")).to eq("OK #{name}\n")
      end
  end

  it "keeps no trace of jobs and connections that are gone" do
    handle = submit
    grab("f")
    worker.request(:work_complete, handle, "r").settle
    worker.close
    client.response
    20.times do |i|
      connection = wire
      handles = Array.new(5) { |n| submit(:submit_job, "f", "#{i} #{n}", on: connection) }
      connection.request(:can_do_timeout, "f", "60000")
      handles.each { |handle| connection.request(:grab_job).request(:work_complete, handle, "r") }
      connection.pending
      connection.request(:pre_sleep).settle
      connection.close
    end
    eventually("they are gone") { client.admin("workers").lines.size == 2 }
    connection = job_server.server.instance_variable_get(:@connections).keys.first
    expect([connection.waiting, connection.running]).to all(be_empty)
    function = broker.functions.fetch("f")
    expect([broker.jobs, broker.instance_variable_get(:@coalescing), function.sleepers]).to all(be_empty)
    expect([function.total, function.running, function.workers, function.delayed]).to all(be_zero)
    expect(broker.idle_time).to be_nil
  end
end
