# frozen_string_literal: true

require "gearman/server"

RSpec.describe Gearman::Server do
  each_job_server do
    subject(:server) { remember(described_class.new(job_server.address), :close) }

    let(:peer) { wire }

    it "knows its address" do
      expect(server.hostport).to eq(job_server.address)
      expect(server.socket).to be_a(Socket).and equal(server.socket)
    end

    it "gives the status of the functions" do
      expect(server.status).to eq({})
      peer.ask(:submit_job_bg, "resize", "", "data")
      peer.ask(:submit_job_bg, "resize", "", "data")
      peer.request(:can_do, "resize").request(:can_do, "Other-2").ask(:grab_job)
      expect(server.status).to eq(
        "resize" => { queue: "2", active: "1", workers: "1" },
        "Other-2" => { queue: "0", active: "0", workers: "1" }
      )
      expect(server.prioritystatus).to eq(
        "resize" => { high: "0", normal: "1", low: "0", workers: "1" },
        "Other-2" => { high: "0", normal: "0", low: "0", workers: "1" }
      )
    end

    it "takes names with tabs, and with bytes that are not ASCII" do
      peer.request(:can_do, "a\tb").request(:can_do, "\xC3\xA9").settle
      expect(server.status.keys).to contain_exactly("a\tb", "\xC3\xA9".b)
      expect(server.prioritystatus.keys).to contain_exactly("a\tb", "\xC3\xA9".b)
    end

    it "lists the workers, and no clients" do
      expect(server.workers).to eq([])
      peer.request(:can_do, "resize").request(:can_do, "Other-2").settle
      wire.request(:set_client_id, "an id : of mine").settle
      wire.request(:set_client_id, "both").request(:can_do, "x").settle
      wire.settle
      expect(server.workers).to contain_exactly(
        { host: "127.0.0.1", status: "-", functions: %w[Other-2 resize] },
        { host: "127.0.0.1", status: "an id : of mine", functions: [] },
        { host: "127.0.0.1", status: "both", functions: %w[x] }
      )
    end

    it "tells of the server itself" do
      expect(server.version).to match(/\A1\.1\.\d+/)
      expect(server.pid).to be_a(Integer).and be_positive
      expect(server.verbose).to match(/\A[A-Z]+\z/)
    end

    it "lists and cancels jobs" do
      _, waiting = peer.ask(:submit_job, "f", "u", "data")
      _, stored = peer.ask(:submit_job_bg, "f", "", "data")
      expect(server.show_jobs).to contain_exactly(
        { handle: waiting, retries: 0, ignored: false, queued: false },
        { handle: stored, retries: 0, ignored: false, queued: true }
      )
      expect(server.show_unique_jobs).to contain_exactly("u", "")
      expect(server.cancel_job(waiting)).to be(true)
      expect(peer.response).to eq([:work_fail, waiting])
      expect(server.show_jobs.find { |job| job[:handle] == waiting }[:ignored]).to be(true)
      expect(server.cancel_job("H:none:1")).to be(false)
    end

    it "creates, limits and drops functions" do
      expect(server.create_function("resize")).to be(true)
      expect(server.status.keys).to eq(["resize"])
      expect(server.max_queue("resize", 1)).to be(true)
      peer.ask(:submit_job_bg, "resize", "", "data")
      %i[submit_job submit_job_high submit_job_low].each do |type|
        expect(peer.ask(type, "resize", "", "data").first(2)).to eq([:error, "QUEUE_ERROR"])
      end
      server.max_queue("resize", high: 2)
      expect(peer.ask(:submit_job_bg, "resize", "", "data").first).to eq(:job_created)
      expect(peer.ask(:submit_job_high, "resize", "", "data").first).to eq(:error)
      server.max_queue("resize")
      expect(peer.ask(:submit_job_high_bg, "resize", "", "data").first).to eq(:job_created)

      peer.request(:can_do, "resize").settle
      expect { server.drop_function("resize") }
        .to raise_error(Gearman::Error, /#{job_server.address}: drop function resize: ERR there are still/)
      peer.request(:cant_do, "resize").settle
      expect(server.drop_function("resize")).to be(true)
      expect(server.drop_function("resize")).to be(false)
    end

    it "sends any command, and gives the answer as it came" do
      peer.request(:can_do, "f").settle
      expect(server.send_command("status")).to eq("f\t0\t0\t1\n.\n")
      expect(server.send_command("STATUS\n")).to eq("f\t0\t0\t1\n.\n")
      expect(server.send_command("getpid")).to match(/\AOK \d+\n\z/)
      expect(server.send_command("show what")).to eq("ERR UNKNOWN_SHOW_ARGUMENTS\r\n")
      expect(server.send_command("shutdown")).to eq("ERR UNKNOWN_COMMAND Unknown+server+commandshutdown\r\n")
      expect(server.send_command("version")).to start_with("OK ")
    end

    it "refuses names that would end the command or begin another word, before anything is sent" do
      server.socket
      [" ", "a b", "a\n", "a\r\nshow jobs", "a\0", "", nil, 1, "\xC3\t".b].each do |name|
        %i[create_function drop_function max_queue cancel_job].each do |method|
          expect { server.public_send(method, name) }
            .to raise_error(Gearman::InvalidArgsError, /white space or NUL, not #{Regexp.escape(name.inspect)}/)
        end
      end
      ["status\nversion", "status\rversion", "a\0b"].each do |command|
        expect { server.send_command(command) }.to raise_error(Gearman::InvalidArgsError, /line end or NUL/)
      end
      [-1, 1.5, "1", 2**31].each do |limit|
        expect { server.max_queue("f", limit) }
          .to raise_error(Gearman::InvalidArgsError, /from 0 to 2147483647, not #{Regexp.escape(limit.inspect)}/)
        expect { server.max_queue("f", low: limit) }.to raise_error(Gearman::InvalidArgsError, /2147483647/)
      end
      expect(server.socket.wait_readable(0)).to be_nil
      expect(server.status).to eq({})
    end

    it "connects anew after the server came back, and after close" do
      server.version
      job_server.restart
      expect(server.version).to start_with("1.1.")
      first = server.socket
      expect(server.close).to be_nil
      expect(server.close).to be_nil
      expect(server.version).to start_with("1.1.")
      expect(server.socket).not_to equal(first)
    end

    it "says which server it lost or does not reach" do
      server.version
      job_server.kill
      expect { server.version }.to raise_error(Gearman::NetworkError, /job server #{job_server.address}: .*refused/)
    end

    it "uses a connection of its own in a forked child", if: Process.respond_to?(:fork) do
      server.version
      own = server.socket.local_address.ip_port
      reader, writer = IO.pipe
      child = fork do
        server.version
        writer.write(server.socket.local_address.ip_port.to_s)
        writer.close
        Process.kill("KILL", Process.pid)
      end
      writer.close
      expect(reader.read.to_i).to be_positive.and(satisfy { |port| port != own })
      Process.wait(child)
      expect(server.version).to start_with("1.1.")
      expect(server.socket.local_address.ip_port).to eq(own)
    end
  end

  describe "with a server that" do
    subject(:server) { remember(described_class.new(address, timeout: timeout, connect_timeout: 0.5), :close) }

    let(:listener) { remember(TCPServer.new("127.0.0.1", 0), :close) }
    let(:address) { "127.0.0.1:#{listener.local_address.ip_port}" }
    let(:timeout) { 20 }

    # Answers the first line of each connection with the pieces.
    def serve(*pieces, &ending)
      listener
      thread = Thread.new do
        loop { answer(listener.accept, pieces, ending) }
      rescue IOError
        nil # the listener was closed
      end
      remember(thread, :kill)
    end

    def answer(connection, pieces, ending)
      remember(connection, :close)
      connection.gets
      pieces.each do |piece|
        connection.write(piece)
        sleep 0.01
      end
      ending&.call(connection)
    rescue SystemCallError
      nil # the client gave up
    end

    it "sends its list in pieces, the dot of a name among them" do
      serve("a", "\t1\t2\t3\n", ".", "x\t4\t5\t6", "\n.", "\t7\t8\t9\n", ".", "\n")
      expect(server.status).to eq(
        "a" => { queue: "1", active: "2", workers: "3" },
        ".x" => { queue: "4", active: "5", workers: "6" },
        "." => { queue: "7", active: "8", workers: "9" }
      )
    end

    it "sends names that end with a dot" do
      serve("a.\n", "b\n", ".\n")
      expect(server.show_unique_jobs).to eq(%w[a. b])
    end

    it "closes in the middle of a list" do
      serve("a\t1\t2\t3\n", &:close)
      expect { server.status }.to raise_error(Gearman::NetworkError, "#{address}: the server closed the connection")
    end

    it "refuses a list" do
      serve("ERR SOMETHING is+wrong\r\n")
      expect { server.status }.to raise_error(Gearman::Error, "#{address}: status: ERR SOMETHING is+wrong")
    end

    it "knows none of the commands that tell of it" do
      serve("ERR UNKNOWN_COMMAND x\r\n")
      expect { server.version }.to raise_error(Gearman::Error, "#{address}: version: ERR UNKNOWN_COMMAND x")
    end

    it "says more than it was asked" do
      serve("OK 1.0\n", "OK 2.0\n")
      2.times do
        expect(server.version).to start_with("1.0")
        server.socket.wait_readable(20)
      end
    end

    it "has not answered yet when its client is interrupted" do
      late = true
      serve do |connection|
        next connection.write("ERR function not found\r\n") unless late

        late = false
        connection.gets # whatever comes behind the command that was interrupted
        connection.write("OK\r\n")
      end
      server.socket
      expect { Timeout.timeout(0.2) { server.create_function("created") } }.to raise_error(Timeout::Error)
      expect(server.drop_function("dropped")).to be(false)
    end

    context "when it says nothing" do
      let(:timeout) { 0.5 }

      it "gives up after the time-out, without spinning, and connects anew" do
        serve
        first = server.socket
        cpu = Process.clock_gettime(Process::CLOCK_THREAD_CPUTIME_ID)
        expect { server.status }
          .to raise_error(Gearman::SocketTimeoutError, "#{address}: no answer within 0.5 s")
        expect(Process.clock_gettime(Process::CLOCK_THREAD_CPUTIME_ID) - cpu).to be < 0.1
        expect(first).to be_closed
        expect(server.socket).not_to equal(first)
      end

      it "gives up also when it goes on for ever" do
        serve(*(["a\t1\t1\t1\n"] * 500))
        expect { server.status }.to raise_error(Gearman::SocketTimeoutError, /within 0.5 s/)
      end

      it "gives up connecting" do
        address = silent_server
        expect { described_class.new(address, connect_timeout: 0.5).status }
          .to raise_error(Gearman::SocketTimeoutError, /#{address} within 0.5 s/)
      end

      it "connects no further when it is interrupted" do
        server = described_class.new(silent_server, connect_timeout: 60)
        expect { Timeout.timeout(0.2) { server.status } }.to raise_error(Timeout::Error)
      end

      it "gives up looking the name up" do
        allow(Addrinfo).to receive(:getaddrinfo) { sleep }
        expect { described_class.new("jobs.example", connect_timeout: 0.2).status }
          .to raise_error(Gearman::SocketTimeoutError, /jobs.example within 0.2 s: .*the name servers do not answer/)
      end
    end
  end

  it "takes IPv6 addresses, and 4730 where there is no port" do
    embedded = Gearman::EmbeddedServer.start(host: "::1", logger: Logger.new(nil))
    server = described_class.new("[::1]:#{embedded.port}")
    expect(server.version).to eq(Gearman::EmbeddedServer::FOLLOWS)
    expect(Addrinfo).to receive(:getaddrinfo).with("example.test", 4730, nil, :STREAM)
                                             .and_raise(SocketError, "no such name")
    expect { described_class.new("example.test").version }
      .to raise_error(Gearman::NetworkError, "Unable to connect to job server example.test: no such name")
  ensure
    server&.close
    embedded&.stop
  end

  it "refuses what is no address when it is given" do
    ["", ":4730", "host:", "host:name", "host:99999", "a b:1"].each do |address|
      expect { described_class.new(address) }
        .to raise_error(Gearman::InvalidArgsError, /#{Regexp.escape(address.inspect)}/)
    end
  end
end
