# frozen_string_literal: true

require_relative "helpers"

RSpec.describe "defects of gearman-ruby's connections" do
  let(:server) { start_gearmand }

  def new_connection
    Gearman::Connection.new(server.host, server.port).tap { |connection| remember(connection, :close_socket) }
  end

  it "takes an address that makes no sense", defect: 42 do
    expect { Gearman::Client.new("localhost:gearman") }.to raise_error(Gearman::InvalidArgsError, /localhost:gearman/)
  end

  it "takes no Symbol with a port in a list of addresses", defect: 42 do
    expect { Gearman::Client.new([server.address.to_sym]) }.not_to raise_error
  end

  it "passes a server over when the connection to the one before it is lost", defect: 45 do
    servers = [server, start_gearmand, start_gearmand]
    pool = Gearman::ConnectionPool.new(servers.map(&:address))
    seen = []
    pool.with_all_connections do |connection|
      seen << connection.port
      raise Gearman::NetworkError, "lost" if connection.port == server.port
    end

    expect(seen).to match_array(servers.map(&:port))
  end

  it "does not know whether a connection that is open is healthy", defect: 46 do
    connection = new_connection
    connection.socket

    expect(connection.is_healthy?).to be(true)
  end

  it "raises where a server takes connections but does not answer", defect: 46 do
    silent = scripted_server { sleep }
    client = nil

    expect { client = new_client(silent, server) }.not_to raise_error
    expect { soon { client.do_task(Gearman::BackgroundTask.new("f")) } }.not_to raise_error
  end

  it "waits as long as the system does for a host that does not answer", defect: 47 do
    # Linux and the BSDs do not answer connections beyond those that wait to be accepted.
    host = Socket.new(:INET, :STREAM)
    remember(host, :close)
    host.bind(Addrinfo.tcp("127.0.0.1", 0))
    host.listen(0)
    address = host.local_address
    4.times do
      waiting = Socket.new(:INET, :STREAM)
      remember(waiting, :close)
      waiting.connect_nonblock(address, exception: false)
    end
    client_thread = Thread.new do
      Gearman::Client.new(address.inspect_sockaddr).do_task(Gearman::Task.new("f"))
    rescue Exception => e # rubocop:disable Lint/RescueException -- gearman-ruby's are no StandardErrors
      e
    end
    remember(-> { client_thread.kill }, :call)

    expect(client_thread.join(DefectHelpers::SOON)).not_to be_nil
    expect(client_thread.value).to be_a(Gearman::NoJobServersError)
  end

  it "cannot close a client's connections", defect: 47, new_api: true do
    client = new_client(server)
    client.do_task(Gearman::BackgroundTask.new("f"))
    client.close

    # The connection of the command itself is the one that is left.
    eventually { server.admin("workers").lines.size == 2 }
    expect { client.do_task(Gearman::BackgroundTask.new("g")) }.not_to raise_error
  end
end
