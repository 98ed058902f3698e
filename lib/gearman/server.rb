# frozen_string_literal: true

require "socket"
require_relative "address"
require_relative "clock"
require_relative "connection/attempt"
require_relative "errors"
require_relative "tls"

module Gearman
  # The admin commands of a job server, which it answers in text.
  #
  # The connection is opened with the first command and kept. An object serves one thread at a time.
  class Server
    include Clock

    # Lists end with a line of one dot; every other answer is one line.
    LIST_COMMANDS = %w[status prioritystatus workers show].freeze
    private_constant :LIST_COMMANDS

    MAX_LIMIT = (2**31) - 1
    private_constant :MAX_LIMIT

    # The most bytes that one read takes.
    READ_SIZE = 64 * 1024
    private_constant :READ_SIZE

    # @return [String] the address it was given
    attr_reader :hostport

    # @param hostport [String] "host", "host:port" or "[IPv6]:port"; the port is 4730 where none is given
    # @param timeout [Numeric] seconds that an answer may take
    # @param connect_timeout [Numeric] seconds that connecting may take
    # @param tls [Hash, TLS, Boolean, nil] whether and how to speak TLS with it, see {TLS#initialize}
    # @raise [InvalidArgsError] no such address can be, or what is said of TLS makes no sense
    def initialize(hostport, timeout: 10, connect_timeout: 3, tls: nil)
      @hostport = hostport
      @address = Address.parse(hostport)
      @timeout = timeout
      @connect_timeout = connect_timeout
      @tls = TLS.for(tls)
    end

    # The connection, which is opened when there is none.
    #
    # @param _num_retries [Integer, nil] taken as gearman-ruby 4.0 takes it, and not used: one attempt is made
    # @return [Socket, OpenSSL::SSL::SSLSocket]
    # @raise [NetworkError] the server cannot be reached
    # @raise [SocketTimeoutError] it did not take the connection within `connect_timeout`
    def socket(_num_retries = nil)
      close if @socket && @pid != Process.pid
      @socket ||= connect
    end

    # Ends the connection; the next command opens another one.
    #
    # @return [nil]
    def close
      socket = @socket
      @socket = nil
      # A goodbye of TLS would end the parent's session.
      (@pid == Process.pid ? socket : socket.to_io).close if socket
      nil
    end

    # Sends a command as it is.
    #
    # @param name [String] the command, one line
    # @return [String] the answer with its line ends; of a list, with the dot that ends it
    # @raise [InvalidArgsError] the command has a line end or NUL in it
    # @raise [NetworkError] the server cannot be reached, or closed the connection
    # @raise [SocketTimeoutError] it did not answer within `timeout`; the next command opens another connection
    def send_command(name)
      command = name.to_s.chomp
      raise InvalidArgsError, "command #{name.inspect} has a line end or NUL in it" if command.b.match?(/[\r\n\0]/)

      exchange(command)
    end

    # The functions and how busy they are.
    #
    # @return [Hash{String => Hash}] `{"resize" => {queue: "3", active: "1", workers: "2"}}`: queue counts the
    #   jobs that wait or run, active those that run
    # @raise (see #send_command)
    def status
      rows("status", 4).to_h { |name, *counts| [name, %i[queue active workers].zip(counts).to_h] }
    end

    # The functions and how many of their jobs wait.
    #
    # @return [Hash{String => Hash}] `{"resize" => {high: "0", normal: "2", low: "0", workers: "2"}}`
    # @raise (see #send_command)
    def prioritystatus
      rows("prioritystatus", 5).to_h { |name, *counts| [name, %i[high normal low workers].zip(counts).to_h] }
    end

    # The workers: connections that told their abilities or an id. The server's own answer lists clients too.
    #
    # @return [Array<Hash>] `{host: "10.0.0.7", status: "worker 1", functions: ["resize"]}` each; status is the
    #   worker's id, "-" where it gave none
    # @raise (see #send_command)
    def workers
      lines("workers").filter_map do |line|
        _fd, host, id, names = line.match(/\A(\d+) (\S+) (.*) :(?: (.*))?\z/)&.captures
        next unless host && (names || id != "-")

        { host: host, status: id, functions: names.to_s.split }
      end
    end

    # @return [String] the server's version: "1.1.20"
    # @raise (see #send_command)
    def version
      value("version")
    end

    # @return [Integer] the server's process id
    # @raise (see #send_command)
    def pid
      Integer(value("getpid"), 10)
    end

    # @return [String] how much the server logs: "INFO"
    # @raise (see #send_command)
    def verbose
      value("verbose")
    end

    # The jobs that wait or run.
    #
    # @return [Array<Hash>] `{handle: "H:host:1", retries: 0, ignored: false, queued: true}` each; queued tells
    #   of a job that waits in the background
    # @raise (see #send_command)
    def show_jobs
      rows("show jobs", 4).map do |handle, retries, ignored, queued|
        { handle: handle, retries: retries.to_i, ignored: ignored == "1", queued: queued == "1" }
      end
    end

    # @return [Array<String>] the uniques of the jobs that wait or run, "" of a job without one
    # @raise (see #send_command)
    def show_unique_jobs
      lines("show unique jobs")
    end

    # Cancels a job; one that runs already is run to its end. Its clients are told that it failed.
    #
    # @param handle [String]
    # @return [Boolean] false when there is no such job
    # @raise [InvalidArgsError] the handle has white space or NUL in it, or is empty
    # @raise (see #send_command)
    def cancel_job(handle)
      accepted?("cancel job #{word("handle", handle)}", refusal: "ERR UNKNOWN_JOB")
    end

    # Limits how many jobs a function may hold; the server refuses more. A function that the server does not
    # know is not limited.
    #
    # @param function [String]
    # @param limit [Integer, nil] jobs of all priorities together that make the server refuse one more; 0 or nil: none
    # @param high [Integer, nil] the same for refusing one of high priority
    # @param normal [Integer, nil] the same for normal priority
    # @param low [Integer, nil] the same for low priority
    # @return [true]
    # @raise [InvalidArgsError] the name has white space or NUL in it or is empty, or a limit is no number from 0
    # @raise (see #send_command)
    def max_queue(function, limit = nil, high: limit, normal: limit, low: limit)
      limits = [high, normal, low].map { |number| count("limit", number || 0) }
      accepted?("maxqueue #{word("function", function)} #{limits.join(" ")}")
    end

    # @param function [String]
    # @return [true]
    # @raise [InvalidArgsError] the name has white space or NUL in it, or is empty
    # @raise (see #send_command)
    def create_function(function)
      accepted?("create function #{word("function", function)}")
    end

    # Removes a function.
    #
    # @param function [String]
    # @return [Boolean] false when the server does not know it
    # @raise [InvalidArgsError] the name has white space or NUL in it, or is empty
    # @raise [Error] the function has workers
    # @raise (see #send_command)
    def drop_function(function)
      accepted?("drop function #{word("function", function)}", refusal: "ERR function not found")
    end

    private

    def exchange(command)
      close if stale?
      deadline = now + @timeout
      write("#{command}\r\n", deadline)
      answer = read(LIST_COMMANDS.include?(command[/\A[a-z]+/i]&.downcase), deadline)
    rescue SystemCallError, IOError, *TLS.errors => e
      raise NetworkError, "#{@hostport}: #{e.message}"
    ensure
      # An answer that is still to come, of a command that was interrupted too, must not become that of the next one.
      close unless answer
    end

    def connect
      @pid = Process.pid
      attempt = Connection::Attempt.new(@address.host, @address.port, @connect_timeout)
      attempt.wait(attempt.deadline) do |socket|
        socket.setsockopt(Socket::IPPROTO_TCP, Socket::TCP_NODELAY, 1)
        @tls ? @tls.connect(socket, @address.host, attempt.deadline) : socket
      end
    rescue Errno::ETIMEDOUT => e
      raise SocketTimeoutError,
            "Unable to connect to job server #{@hostport} within #{@connect_timeout} s: #{e.message}"
    rescue SystemCallError, SocketError, IOError, TLS::HandshakeError => e
      raise NetworkError, "Unable to connect to job server #{@hostport}: #{e.message}"
    ensure
      attempt&.close
    end

    # Whether the kept connection has something to say before anything was asked: mostly its end.
    def stale?
      @socket && (@pid != Process.pid || @socket.read_nonblock(1, exception: false) != :wait_readable)
    rescue SystemCallError, IOError, *TLS.errors
      true
    end

    def write(bytes, deadline)
      until bytes.empty?
        sent = socket.write_nonblock(bytes, exception: false)
        sent.is_a?(Symbol) ? wait(sent, deadline) : bytes = bytes.byteslice(sent..)
      end
    end

    def read(list, deadline)
      answer = String.new
      until complete?(answer, list)
        case bytes = socket.read_nonblock(READ_SIZE, exception: false)
        when Symbol then wait(bytes, deadline)
        when nil then raise NetworkError, "#{@hostport}: the server closed the connection"
        else answer << bytes
        end
      end
      answer.force_encoding(answer.ascii_only? ? Encoding::UTF_8 : Encoding::BINARY)
    end

    def wait(event, deadline)
      left = deadline - now
      return if left.positive? && socket.to_io.public_send(event, left)

      raise SocketTimeoutError, "#{@hostport}: no answer within #{@timeout} s"
    end

    # A list can also be refused with a line, which then ends with CR LF as no line of a list does.
    def complete?(answer, list)
      return false unless answer.end_with?("\n")
      return true unless list

      answer.end_with?("\n.\n") || answer == ".\n" || answer.match?(/\AERR .*\r\n\z/)
    end

    def lines(command)
      answer = send_command(command)
      raise Error, "#{@hostport}: #{command}: #{answer.chomp}" unless answer.end_with?(".\n")

      answer.delete_suffix(".\n").split("\n", -1)[0...-1] || []
    end

    # The lines cut into columns, of which only the first may have tabs in it.
    def rows(command, columns)
      lines(command).map do |line|
        parts = line.split("\t", -1)
        [parts[0..-columns].join("\t"), *parts.last(columns - 1)]
      end
    end

    def value(command)
      answer = send_command(command).chomp
      return answer.delete_prefix("OK ") if answer.start_with?("OK ")

      raise Error, "#{@hostport}: #{command}: #{answer}"
    end

    def accepted?(command, refusal: nil)
      answer = send_command(command).chomp
      return true if answer == "OK"
      return false if answer == refusal

      raise Error, "#{@hostport}: #{command}: #{answer}"
    end

    def word(what, name)
      return name if name.is_a?(String) && name.b.match?(/\A[^\s\0]+\z/)

      raise InvalidArgsError, "#{what} must be a String without white space or NUL, not #{name.inspect}"
    end

    def count(what, number)
      return number if number.is_a?(Integer) && number.between?(0, MAX_LIMIT)

      raise InvalidArgsError, "#{what} must be an Integer from 0 to #{MAX_LIMIT}, not #{number.inspect}"
    end
  end
end
