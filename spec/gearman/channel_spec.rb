# frozen_string_literal: true

require "objspace"

# The conversation on one socket. What the client makes of it is in its own specs.
RSpec.describe Gearman::Channel do
  let(:pair) { UNIXSocket.pair }
  let(:channel) { described_class.new(pair[0], "peer") }
  let(:server) { ScriptedServer::Peer.new(pair[1]) }

  after { pair.each { |socket| socket.close unless socket.closed? } }

  def packet(...) = Gearman::Packet.encode(...)
  def response(...) = ScriptedServer::Peer.packet(...)

  # Fills what the system takes from our side, so that nothing more can be sent.
  def stuff
    loop { pair[0].write_nonblock("\0" * 65_536) }
  rescue IO::WaitWritable
    nil
  end

  it "is usable until it is closed, and closes the socket" do
    expect(channel).to be_usable
    expect(channel.io).to equal(pair[0])
    expect(channel.close).to be_nil
    expect(channel.close).to be_nil
    expect([channel.usable?, channel.io, pair[0].closed?]).to eq([false, nil, true])
    expect { channel.read_response(0) }.to raise_error(Gearman::NetworkError, /\Apeer: /)
    expect { channel.send_update(packet(:pre_sleep)) }.to raise_error(Gearman::NetworkError, /\Apeer: /)
    expect { channel.request(packet(:echo_req, "x")) }.to raise_error(Gearman::NetworkError, /\Apeer: /)
  end

  it "sends what was queued with the next packet" do
    channel.queue(packet(:option_req, "exceptions"))
    expect(pair[1].wait_readable(0)).to be_nil
    channel.send_update(packet(:pre_sleep))
    expect(pair[1].readpartial(100)).to eq(packet(:option_req, "exceptions") + packet(:pre_sleep))
  end

  it "drops the reply to what was queued, whatever it is" do
    [[:option_res, "exceptions"], [:error, "UNKNOWN_OPTION", "no"]].each do |reply|
      channel.queue(packet(:option_req, "exceptions"))
      pair[1].write(response(*reply) + response(:echo_res, "x"))
      expect(channel.request(packet(:echo_req, "x"), 20)).to eq([:echo_res, "x"])
    end
  end

  it "tells whether it has read ahead" do
    expect(channel).not_to be_buffered
    pair[1].write(response(:noop) + response(:no_job))
    expect(channel.read_response(20)).to eq([:noop, ""])
    expect(channel).to be_buffered
    expect(channel.read_response(20)).to eq([:no_job, ""])
    expect(channel).not_to be_buffered
  end

  it "keeps its place in the stream when a time-out falls into a packet" do
    bytes = response(:echo_res, "whole")
    (1...bytes.bytesize).each do |cut|
      pair[1].write(bytes.byteslice(0, cut))
      expect do
        channel.read_response(0)
      end.to raise_error(Gearman::SocketTimeoutError, "peer: no answer before the time-out")
      pair[1].write(bytes.byteslice(cut..))
      expect(channel.read_response(20)).to eq([:echo_res, "whole"])
    end
  end

  it "takes back a request of which nothing was sent when the time-out passes" do
    channel
    stuff
    expect { channel.request(packet(:echo_req, "lost"), 0.02) }.to raise_error(Gearman::SocketTimeoutError)
    expect { channel.send_update(packet(:echo_req, "lost"), 0.02) }.to raise_error(Gearman::SocketTimeoutError)
    expect(channel).to be_usable
    reading = Thread.new { pair[1].readpartial(1 << 20) until pair[0].wait_writable(0) && !pair[1].wait_readable(0.05) }
    reading.join
    pair[1].write(response(:echo_res, "x"))
    expect(channel.request(packet(:echo_req, "x"), 20)).to eq([:echo_res, "x"])
    expect(pair[1].readpartial(1 << 20)).to eq(packet(:echo_req, "x"))
  end

  it "is closed when a request was sent in part" do
    expect { channel.send_update(packet(:echo_req, "x" * 10_000_000), 0.02) }.to raise_error(Gearman::SocketTimeoutError)
    expect(channel).not_to be_usable
    expect(pair[0]).to be_closed
  end

  it "is closed by an interrupt in the middle of a request, and by none while it waits" do
    waiting = Thread.new { channel.request(packet(:echo_req, "x")) }
    waiting.report_on_exception = false
    eventually("a thread that waits") { waiting.status == "sleep" && pair[1].wait_readable(0) }
    waiting.raise("interrupt")
    expect { waiting.value }.to raise_error("interrupt")
    expect(channel).to be_usable
    expect(server.request).to eq([:echo_req, "x"])
    sending = Thread.new { channel.request(packet(:echo_req, "x" * 10_000_000)) }
    sending.report_on_exception = false
    eventually("a thread that waits") { sending.status == "sleep" && pair[1].wait_readable(0) }
    sending.raise("interrupt")
    expect { sending.value }.to raise_error("interrupt")
    expect(channel).not_to be_usable
  end

  it "raises NetworkError where somebody closes the socket under it, in whichever thread" do
    waiting = Thread.new { channel.read_response }
    waiting.report_on_exception = false
    eventually("a thread that waits") { waiting.status == "sleep" }
    pair[0].close
    expect { waiting.value }.to raise_error(Gearman::NetworkError, /\Apeer: /)
    expect(channel).not_to be_usable
  end

  it "is not usable in a child, which closes its own copy alone", :process do
    channel.send_update(packet(:pre_sleep))
    in_the_child = in_child do
      channel.read_response(0)
    rescue Gearman::Error => e
      [channel.usable?, e.class, e.message, channel.close]
    end
    expect(in_the_child).to eq([false, Gearman::NetworkError, "peer: connection of another process", nil])
    pair[1].write(response(:noop))
    expect(channel.read_response(20)).to eq([:noop, ""])
  end

  it "refuses time-outs that are no numbers, and names them" do
    expect { channel.read_response("1") }
      .to raise_error(Gearman::InvalidArgsError, "a time-out is a number of seconds or nil, not \"1\"")
    expect { channel.read_response(Float::NAN) }
      .to raise_error(Gearman::InvalidArgsError, "a time-out is a number of seconds or nil, not NaN")
    expect { channel.read_response(-1) }.to raise_error(Gearman::SocketTimeoutError)
    expect { channel.read_response(Rational(1, 100)) }.to raise_error(Gearman::SocketTimeoutError)
  end

  it "sends whole packets from many threads at once" do
    reading = Thread.new { Array.new(400) { server.any_request } }
    Array.new(8) do |thread|
      Thread.new do
        50.times do |index|
          channel.send_update(packet(:work_data, "H:#{thread}", "#{index}-" + ("x" * 20_000)))
        end
      end
    end.each(&:join)
    received = reading.value
    expect(received).to all(satisfy { |type, _, data| type == :work_data && data.bytesize > 20_000 })
    expect(received.map { |_, handle, data| [handle, data.to_i] })
      .to match_array((0...8).flat_map { |thread| (0...50).map { |index| ["H:#{thread}", index] } })
  end

  # From 64 KiB on, the data is read into the String that is handed out.
  shared_examples "large packets" do
    def data_of(size) = Random.new(size).bytes(size)

    # Writes the bytes in pieces of odd sizes, while somebody reads.
    def dribble(bytes)
      random = Random.new(bytes.bytesize)
      Thread.new do
        until bytes.empty?
          pair[1].write(bytes.slice!(0, random.rand(1..40_000)))
          Thread.pass
        end
      end
    end

    it "come in whole, whatever follows them, in whichever pieces" do
      sizes = [65_000, 65_516, 65_536, 65_537, 200_000, 1_000_000, 1, 70_000, 2_000_003]
      packets = sizes.flat_map do |size|
        [[:job_assign_uniq, "H:1", "f", "unique", data_of(size)], [:noop], [:echo_res, data_of(size)]]
      end
      writing = dribble(packets.map { |parts| response(*parts) }.join)
      packets.each do |type, *parts|
        expect(channel.read_response(JobServers::PATIENCE)).to eq([type, parts.join("\0").b])
      end
      writing.join
      expect(channel).not_to be_buffered
    end

    it "keep their place when time-outs fall into them" do
      data = data_of(150_000)
      bytes = response(:echo_res, data) + response(:noop)
      [5, 12, 13, 40_000, 65_600, 149_000, 150_011].each_cons(2) do |from, to|
        pair[1].write(bytes.byteslice(from == 5 ? 0...to : from...to))
        expect { channel.read_response(0.01) }.to raise_error(Gearman::SocketTimeoutError)
        expect(channel).to be_buffered
      end
      writing = Thread.new { pair[1].write(bytes.byteslice(150_011..)) }
      expect(channel.read_response(20)).to eq([:echo_res, data])
      expect(channel.read_response(20)).to eq([:noop, ""])
      writing.join
    end

    it "end with the connection" do
      pair[1].write(response(:echo_res, "x" * 100_000).byteslice(0, 70_000))
      pair[1].close
      expect { channel.read_response(20) }.to raise_error(Gearman::NetworkError, /closed by the server/)
    end

    it "are bytes for who reads bytes" do
      bytes = response(:job_assign, "H:1", "f", data_of(100_000))
      pair[1].write(bytes.byteslice(0, 70_000))
      expect { channel.read_response(0.01) }.to raise_error(Gearman::SocketTimeoutError)
      writing = dribble(bytes.byteslice(70_000..) + response(:noop))
      expect(channel.read_bytes(bytes.bytesize, 20)).to eq(bytes)
      expect(channel.read_response(20)).to eq([:noop, ""])
      writing.join
    end

    it "take no memory for what a header only announces" do
      channel
      GC.start
      before = ObjectSpace.memsize_of_all
      ["\0RES\0\0\0\x11\x3f\xff\xff\xff".b, "x" * 1000].each do |bytes|
        pair[1].write(bytes)
        expect { channel.read_response(0.01) }.to raise_error(Gearman::SocketTimeoutError)
      end
      expect(ObjectSpace.memsize_of_all - before).to be < 2 << 20
      expect(channel).to be_buffered
    end
  end

  it_behaves_like "large packets"

  describe "over an IO that is no plain socket" do
    # Takes and gives some bytes at a time, and sometimes has to wait, as TLS does.
    let(:io) do
      Class.new do
        attr_reader :waits

        def initialize(socket)
          @socket = socket
          @waits = 0
        end

        def to_io = @socket

        def write_nonblock(bytes, exception: true)
          return :wait_writable if (@waits += 1).odd?

          @socket.write_nonblock(bytes.byteslice(0, 1000), exception: exception)
        end

        def read_nonblock(_size, exception: true)
          return :wait_readable if (@waits += 1).odd?

          @socket.read_nonblock(1000, exception: exception)
        end

        def close = @socket.close
      end.new(pair[0])
    end
    let(:channel) { described_class.new(io, "peer") }

    it_behaves_like "large packets"

    it "speaks by its methods, in whatever pieces they take" do
      echoing = Thread.new { 3.times { server.reply(:echo_res, server.any_request.last) } }
      3.times do |index|
        data = "#{index}-" + ("x" * 9_000)
        expect(channel.request(packet(:echo_req, data), 20)).to eq([:echo_res, data])
      end
      echoing.join
      expect(io.waits).to be > 30
      expect { channel.read_response(0.01) }.to raise_error(Gearman::SocketTimeoutError)
      channel.close
      expect(pair[0]).to be_closed
    end

    it "takes more than it asked for, as what stands in for a socket may give it" do
      packets = [[:echo_res, "x" * 1_500_000], [:noop], [:echo_res, "y" * 70_000]]
      bytes = packets.map { |parts| response(*parts) }.join
      pieces = [bytes.byteslice(0, 1000), bytes.byteslice(1000..)]
      allow(io).to receive(:read_nonblock) { pieces.shift || :wait_readable }
      packets.each { |type, data| expect(channel.read_response(20)).to eq([type, data.to_s]) }
    end

    it "is not kept beyond a time-out by a server that talks all the time" do
      noise = response(:work_status, "H:0", "1", "2") * 100
      allow(io).to receive(:read_nonblock).and_return(noise)
      asking = Thread.new { channel.request(packet(:echo_req, "x"), 0.1) }
      asking.report_on_exception = false
      expect { asking.join(JobServers::PATIENCE) }.to raise_error(Gearman::SocketTimeoutError)
    ensure
      asking&.kill
    end

    it "turns what they raise into NetworkError" do
      { Errno::ECONNRESET.new => /reset/, EOFError.new => /closed by the server/,
        IOError.new("x") => /peer: / }.each do |error, message|
        broken = described_class.new(io, "peer")
        allow(io).to receive(:read_nonblock).and_raise(error)
        expect { broken.read_response(20) }.to raise_error(Gearman::NetworkError, message)
        expect(broken).not_to be_usable
      end
    end
  end
end
