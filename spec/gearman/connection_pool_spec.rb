# frozen_string_literal: true

RSpec.describe Gearman::ConnectionPool, :quiet do
  # Servers that are up, as far as the pool can tell.
  def healthy_pool(*addresses)
    described_class.new(addresses).tap do |pool|
      pool.connections.each { |connection| allow(connection).to receive(:is_healthy?).and_return(true) }
    end
  end

  let(:echoing) { -> { scripted_server { |peer| loop { peer.reply(:echo_res, peer.request.last) } } } }

  describe "the list of servers" do
    it "keeps the order, and reads every form" do
      pool = described_class.new(["a", :"b:1", "c,[::1]:2"])
      expect(pool.connections.map(&:to_host_port)).to eq(["a:4730", "b:1", "c:4730", "[::1]:2"])
      expect(described_class.new.connections).to eq([])
      expect(described_class.new(nil).connections).to eq([])
      expect(described_class::DEFAULT_PORT).to eq(4730)
    end

    it "grows by add_servers, add_host_port and add_connection" do
      pool = described_class.new("a")
      pool.add_servers(%w[b c:1])
      expect(pool.add_host_port("d:2")).to be_a(Gearman::Connection)
      connection = Gearman::Connection.new("e", 3)
      expect(pool.add_connection(connection)).to equal(connection)
      expect(pool.connections.map(&:to_host_port)).to eq(%w[a:4730 b:4730 c:1 d:2 e:3])
    end

    it "refuses an address that makes no sense, and adds none then" do
      pool = described_class.new("a")
      expect { pool.add_servers(["b", "h:99999", "c"]) }
        .to raise_error(Gearman::InvalidArgsError,
                        /\A"h:99999" is no address of a job server: a port is a number from 1 to 65535/)
      expect { pool.add_host_port("h:name") }.to raise_error(Gearman::InvalidArgsError, /"h:name"/)
      expect(pool.connections.size).to eq(1)
    end

    it "is a copy: what is done to it changes nothing" do
      pool = described_class.new("a")
      pool.connections.clear
      expect(pool.connections.size).to eq(1)
    end
  end

  describe "#get_connection" do
    it "takes turns without a key, the second server first" do
      pool = healthy_pool("a", "b", "c")
      expect(Array.new(7) { pool.get_connection.hostname }).to eq(%w[b c a b c a b])
    end

    it "finds the same server for the same key, and all servers for many keys" do
      pool = healthy_pool("a", "b", "c")
      keys = Array.new(300, &:to_s)
      chosen = keys.map { |key| pool.get_connection(key).hostname }
      expect(keys.map { |key| pool.get_connection(key).hostname }).to eq(chosen)
      expect(chosen.tally.values).to all(be_between(60, 140)).and(have_attributes(size: 3))
    end

    it "moves only the keys of a server that dies, and in every process alike" do
      keys = Array.new(100, &:to_s)
      pool = healthy_pool("a", "b", "c")
      before = keys.to_h { |key| [key, pool.get_connection(key).hostname] }
      other = healthy_pool("c", "a", "b")
      expect(keys.to_h { |key| [key, other.get_connection(key).hostname] }).to eq(before)
      smaller = healthy_pool("a", "c")
      moved = keys.reject { |key| smaller.get_connection(key).hostname == before[key] }
      expect(moved).to match_array(before.select { |_, host| host == "b" }.keys)
    end

    it "asks a server whether it is healthy when it is first needed, and passes over one that is not" do
      pool = described_class.new(%w[a b])
      asked = []
      pool.connections.each do |connection|
        allow(connection).to receive(:is_healthy?) { (asked << connection.hostname) && connection.hostname == "a" }
      end
      expect(asked).to eq([])
      expect(pool.get_connection.hostname).to eq("a")
      expect(asked).to eq(%w[b a])
    end

    it "says that there is none, or none that can be reached" do
      expect do
        described_class.new.get_connection
      end.to raise_error(Gearman::NoJobServersError, "no job server is configured")
      ports = Array.new(2) { JobServers.free_port }
      pool = described_class.new(ports.map { |port| "127.0.0.1:#{port}" })
      reasons = ports.map { |port| "127\\.0\\.0\\.1:#{port} \\(.*refused.*\\)" }
      expect { pool.get_connection("key") }
        .to raise_error(Gearman::NoJobServersError, /\Ano job server can be reached: #{reasons.join(", ")}\z/)
    end

    it "refuses a key that is no String" do
      expect { healthy_pool("a", "b").get_connection(7) }.to raise_error(TypeError)
    end
  end

  describe "a server that is down" do
    it "is found again once it is up, without waiting for long" do
      port = JobServers.free_port
      pool = described_class.new("127.0.0.1:#{port}")
      10.times { expect { pool.get_connection }.to raise_error(Gearman::NoJobServersError) }
      scripted_server(port: port) { |peer| loop { peer.request } }
      expect(pool.get_connection.port).to eq(port)
      pool.close
    end

    it "is not asked each time while others are up" do
      live = echoing.call
      pool = remember(described_class.new(["127.0.0.1:#{JobServers.free_port}", live.address]), :close)
      dead = pool.connections.first
      asked = 0
      allow(dead).to(receive(:is_healthy?).and_wrap_original { |original| (asked += 1) && original.call })
      100.times { expect(pool.get_connection.to_host_port).to eq(live.address) }
      expect(asked).to be_between(1, 20)
    end
  end

  describe "#with_all_connections" do
    it "calls the block with each server that can be reached, in order, and returns them" do
      servers = Array.new(2) { echoing.call }
      pool = remember(
        described_class.new([servers[0].address, "127.0.0.1:#{JobServers.free_port}", servers[1].address]), :close
      )
      seen = []
      expect(pool.with_all_connections { |connection| seen << connection }).to eq(pool.connections.values_at(0, 2))
      expect(seen).to eq(pool.connections.values_at(0, 2))
    end

    it "goes on behind one whose connection is lost in the block, and not behind another error" do
      pool = remember(described_class.new(Array.new(2) { echoing.call.address }), :close)
      seen = 0
      pool.with_all_connections { (seen += 1) && raise(Gearman::NetworkError, "lost") }
      expect(seen).to eq(2)
      expect { pool.with_all_connections { raise Gearman::ProtocolError, "no" } }.to raise_error(Gearman::ProtocolError)
    end

    it "may be called from within, and from a thread meanwhile" do
      pool = remember(described_class.new(echoing.call.address), :close)
      inner = []
      pool.with_all_connections do
        Thread.new { pool.with_all_connections { inner << :thread } }.join
        pool.with_all_connections { inner << :nested }
      end
      expect(inner).to eq(%i[thread nested])
    end
  end

  describe "#on_connection" do
    it "is called with the connection each time its socket is opened" do
      pool = remember(described_class.new(echoing.call.address), :close)
      opened = []
      pool.on_connection { |connection| opened << connection }
      connection = pool.connections.first
      connection.socket
      connection.socket
      connection.close_socket
      connection.socket
      expect(opened).to eq([connection, connection])
    end
  end

  describe "#poll_connections" do
    it "returns what can be read, and nil when nothing comes" do
      server = scripted_server do |peer|
        peer.reply(:noop) if peer.request
        Thread.stop
      end
      pool = remember(described_class.new(server.address), :close)
      connection = pool.connections.first
      expect(pool.poll_connections(0.01)).to be_nil
      connection.send_update(Gearman::Packet.encode(:pre_sleep))
      expect(pool.poll_connections(20)).to eq([[connection.socket], [], []])
      expect(connection.read_response(20)).to eq([:noop, ""])
      expect(pool.poll_connections(0.01)).to be_nil
    end

    it "counts bytes that were read ahead" do
      server = scripted_server do |peer|
        peer.request
        peer.write([ScriptedServer::Peer.packet(:noop), ScriptedServer::Peer.packet(:no_job)].join)
        Thread.stop
      end
      pool = remember(described_class.new(server.address), :close)
      connection = pool.connections.first
      connection.send_update(Gearman::Packet.encode(:pre_sleep))
      expect(connection.read_response(20)).to eq([:noop, ""])
      expect(connection.socket.wait_readable(0)).to be_nil
      expect(pool.poll_connections(20)).to eq([[connection.socket], [], []])
      expect(connection.read_response(0)).to eq([:no_job, ""])
    end

    it "is nil when no server can be reached" do
      expect(described_class.new("127.0.0.1:#{JobServers.free_port}").poll_connections(0.01)).to be_nil
      expect(described_class.new.poll_connections(0.01)).to be_nil
    end
  end

  describe "#close" do
    it "closes every socket; the next use opens new ones" do
      pool = remember(described_class.new(Array.new(2) { echoing.call.address }), :close)
      sockets = pool.connections.map(&:socket)
      pool.close
      expect(sockets).to all(be_closed)
      expect(pool.get_connection.socket).not_to be_closed
    end
  end
end
