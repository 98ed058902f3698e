# frozen_string_literal: true

require_relative "address"
require_relative "connection"
require_relative "logging"
require_relative "tls"

module Gearman
  # The job servers of a client or worker.
  class ConnectionPool
    include Logging

    # @return [Integer]
    DEFAULT_PORT = Address::DEFAULT_PORT

    # @return [Array<String>] those that the environment variable GEARMAN_SERVERS names
    # @api private
    def self.default_servers
      [ENV["GEARMAN_SERVERS"]].reject { |list| list.to_s.empty? }
    end

    # @!method get_connection(coalesce_key = nil, timeout = nil)
    #   Chooses a server. Without a key they take turns; the same key finds the same live server. A server is
    #   connected and asked {Connection#is_healthy?} when it is first needed.
    #   @param coalesce_key [String, nil] the unique of a task
    #   @param timeout [Numeric, nil] seconds that asking servers may take; nil: as long as they may take to connect
    #   @return [Connection]
    #   @raise [NoJobServersError] when there is no server, or none can be reached
    #   @raise [SocketTimeoutError] when the time-out passed

    # Touches no network.
    #
    # @param servers [String, Symbol, Array<String, Symbol>, nil] see {Address.parse_list}
    # @param tls [Hash, TLS, Boolean, nil] whether and how to speak TLS with them, see {TLS#initialize}
    # @param connect_timeout [Numeric, nil] seconds that connecting may take, see {Connection#connect_timeout}
    # @raise [InvalidArgsError] when an address makes no sense, or what is said of TLS, or the time-out
    def initialize(servers = [], tls: nil, connect_timeout: nil)
      unless connect_timeout.nil? || (connect_timeout.is_a?(Numeric) && connect_timeout.positive?)
        raise InvalidArgsError, "connect_timeout is a number of seconds above 0, not #{connect_timeout.inspect}"
      end

      @connect_timeout = connect_timeout
      @tls = TLS.for(tls)
      @connection_handler = nil
      @options = []
      add_servers(servers)
    end

    # @param connection [Connection]
    # @return [Connection]
    def add_connection(connection)
      if connection.is_a?(Connection)
        connection.tls ||= @tls
        connection.connect_timeout = @connect_timeout if @connect_timeout
        connection.on_open { |opened| @connection_handler&.call(opened) }
        @options.each { |option| connection.remember_option(option) }
      end
      self.job_servers += [connection]
      connection
    end

    # @param host_port [String] see {Address.parse}
    # @return [Connection]
    # @raise [InvalidArgsError] when it makes no sense
    def add_host_port(host_port)
      address = Address.parse(host_port)
      add_connection(Connection.new(address.host, address.port))
    end

    # @param servers [String, Symbol, Array<String, Symbol>, nil] see {Address.parse_list}
    # @return [void]
    # @raise [InvalidArgsError] when an address makes no sense; none is added then
    def add_servers(servers)
      Address.parse_list(servers).each { |address| add_connection(Connection.new(address.host, address.port)) }
    end

    # Calls the block with the connection each time a {Connection#socket} is opened.
    #
    # @yieldparam connection [Connection]
    # @return [Proc]
    def on_connection(&block)
      @connection_handler = block
    end

    # Waits for bytes on the sockets of the servers that can be reached. Bytes that were read ahead count.
    #
    # @param timeout [Numeric, nil] seconds; nil waits for ever
    # @return [Array<Array<IO>>, nil] as IO.select, nil when nothing came or no server can be reached
    def poll_connections(timeout = nil)
      connections = reachable
      ahead = connections.select(&:buffered?)
      return [ahead.map(&:socket), [], []] if ahead.any?

      sockets = connections.map(&:socket)
      IO.select(sockets, nil, nil, timeout) if sockets.any?
    end

    # Calls the block with each server that can be reached. One whose connection is lost is passed over.
    #
    # @yieldparam connection [Connection]
    # @return [Array<Connection>] those that the block was called with
    def with_all_connections
      reachable.each do |connection|
        yield connection
      rescue NetworkError => e
        logger.warn { e.message }
      end
    end

    # The servers in the order they were given.
    #
    # @return [Array<Connection>]
    def connections
      job_servers.dup
    end

    # @return [Boolean]
    # @api private
    def one_server?
      job_servers.size == 1
    end

    # Closes all sockets; the next use opens new ones.
    #
    # @return [void]
    def close
      job_servers.each(&:close_socket)
    end

    # Sets an option on every server, now and on each new connection.
    #
    # @api private
    def remember_option(option)
      @options |= [option]
      job_servers.each { |connection| connection.remember_option(option) }
    end

    private

    def reachable
      job_servers.select { |connection| connection.is_healthy? if worth_asking?(connection) }
    end

    def worth_asking?(connection)
      connection.due? || connection.refused?
    end
  end
end
