# frozen_string_literal: true

require "logger"
require "socket"

# Job servers for specs: a real gearmand, the embedded server, and one group of examples for both.
#
#   each_job_server do
#     it("answers") { expect(wire.admin("version")).to start_with("OK") }
#   end
#
# Inside an example: `job_server` and `start_job_server` (each_job_server only), `wire(server)`,
# `start_gearmand("-j", "2")`, `start_embedded_server`, `eventually { condition }`. What an example starts ends with it.
module JobServers
  # Below the ephemeral ports: nobody is given the port of a server that is down for a moment, and
  # nobody who retries it connects to himself. Each Ruby has its own, as the specs may run under several at once.
  FIRST_PORT = 20_000 + (RUBY_VERSION[/\.(\d+)/, 1].to_i % 6 * 2000)
  PORTS = (FIRST_PORT...(FIRST_PORT + 2000))

  # Seconds after which something that must happen is taken not to happen.
  PATIENCE = 20

  def self.free_port
    listener = listen
    listener.local_address.ip_port
  ensure
    listener&.close
  end

  # Listens on a port that nobody has.
  def self.listen(host = "127.0.0.1")
    TCPServer.new(host, rand(PORTS))
  rescue Errno::EADDRINUSE
    retry
  end

  def self.eventually(what = "condition", patience: PATIENCE)
    deadline = Process.clock_gettime(Process::CLOCK_MONOTONIC) + patience
    until (result = yield)
      raise "#{what}: not within #{patience} s" if Process.clock_gettime(Process::CLOCK_MONOTONIC) > deadline

      sleep 0.005
    end
    result
  end

  # What the two kinds of servers have in common.
  class JobServer
    attr_reader :host, :port

    def self.start(...)
      new(...).start
    end

    def initialize
      @host = "127.0.0.1"
    end

    def address
      "#{host}:#{port}"
    end

    # Ends as if the machine went down, and starts again on the same port.
    def restart
      kill
      start
    end

    # Lines of an admin command's answer, asked on a connection of its own.
    def admin(command)
      wire = Wire.new(host, port)
      wire.admin(command)
    ensure
      wire&.close
    end
  end

  # A gearmand process.
  class Gearmand < JobServer
    attr_reader :pid

    @running = {}

    class << self
      attr_reader :running

      def executable
        @executable ||= [*ENV.fetch("PATH", "").split(File::PATH_SEPARATOR), "/usr/sbin", "/usr/local/sbin"]
                        .map { |folder| File.join(folder, "gearmand") }
                        .find { |path| File.executable?(path) && File.file?(path) } ||
                        raise("gearmand is not installed (Debian: apt-get install gearman-job-server)")
      end
    end

    def initialize(*arguments, port: nil)
      super()
      @arguments = arguments
      @fixed_port = port
    end

    def start
      5.times do
        @port ||= @fixed_port || JobServers.free_port
        return self if launch

        @port = nil unless @started
      end
      raise "gearmand #{@arguments.join(" ")} does not start: run it by hand to see why"
    end

    # Ends by SIGTERM, and by force when that does not help.
    def stop
      finish("TERM", patience: 3)
    rescue RuntimeError
      kill
    end

    # Sends a signal, if it runs.
    def signal(name)
      Process.kill(name, @pid) if running?
    end

    # Ends by SIGKILL.
    def kill
      finish("KILL", patience: PATIENCE)
    end

    def running?
      return false unless @pid
      return true unless Process.wait(@pid, Process::WNOHANG)

      forget
      false
    rescue Errno::ECHILD
      forget
      false
    end

    private

    def launch
      # A sanitizer that is preloaded into this process would end gearmand for its own errors.
      @pid = spawn({ "LD_PRELOAD" => nil }, self.class.executable, "--listen=#{host}", "--port=#{port}",
                   "--log-file=none", *@arguments, in: File::NULL, out: File::NULL, err: File::NULL)
      self.class.running[@pid] = Process.pid
      JobServers.eventually("gearmand on port #{port}") { !running? || answers? }
      @started = running?
    end

    def answers?
      admin("version").start_with?("OK")
    rescue SystemCallError, EOFError
      false
    end

    def finish(signal, patience:)
      return unless running?

      Process.kill(signal, @pid)
      JobServers.eventually("SIG#{signal}", patience: patience) { !running? }
      nil
    end

    def forget
      self.class.running.delete(@pid)
      @pid = nil
    end
  end

  # The embedded server, in a thread of this process.
  class Embedded < JobServer
    attr_reader :server

    def initialize(**options)
      super()
      @options = { logger: Logger.new(nil) }.merge(options)
    end

    def start
      require "gearman/embedded_server"
      @server = Gearman::EmbeddedServer.new(**@options, host: host, port: port || @options[:port] || 0).start
      @port = @server.port
      self
    end

    def stop
      @server&.stop
      @server = nil
    end
    alias kill stop

    def running?
      !@server.nil?
    end
  end

  KINDS = { "gearmand" => Gearmand, "the embedded server" => Embedded }.freeze

  # A connection that speaks the protocol byte for byte, without the codec that is under test.
  class Wire
    attr_reader :socket

    def initialize(host, port)
      @socket = Socket.tcp(host, port, connect_timeout: PATIENCE)
      @socket.setsockopt(Socket::IPPROTO_TCP, Socket::TCP_NODELAY, 1)
      @buffer = String.new
    end

    # The bytes of a request packet.
    def self.packet(type, *parts, magic: "\0REQ")
      body = parts.map { |part| part.to_s.b }.join("\0")
      number = type.is_a?(Integer) ? type : Gearman::Packet::NUMS.fetch(type)
      [magic, number, body.bytesize].pack("a4NN") + body
    end

    def write(*bytes)
      @socket.write(bytes.join)
      self
    end

    # Sends one packet: `request(:submit_job, "func", "unique", "data")`.
    def request(type, *parts)
      write(Wire.packet(type, *parts))
    end

    # The next packet: [type, part, ...], cut at every NUL but those in its data.
    def response(patience: PATIENCE)
      magic, number, length = read(12, patience).unpack("a4NN")
      raise "not a response: #{magic.inspect}" unless magic == "\0RES"

      type = Gearman::Packet::COMMANDS.fetch(number)
      [type, *cut(type, read(length, patience))]
    end

    # Sends a packet and reads one.
    def ask(type, *parts)
      request(type, *parts).response
    end

    # Every packet that has come by the time the server has answered an echo.
    def pending
      mark = "mark #{object_id} #{rand(1 << 32)}"
      request(:echo_req, mark)
      packets = []
      packets << response until packets.last == [:echo_res, mark]
      packets[0...-1]
    end

    # Returns once the server has done all that was asked for on this connection.
    def settle
      packets = pending
      raise "unexpected: #{packets.inspect}" unless packets.empty?

      self
    end

    # The whole answer to an admin command, line ends and all.
    def admin(command, line_end: "\r\n")
      write(command, line_end)
      answer = line
      return answer unless command.match?(/\A\s*(status|prioritystatus|workers|show)\b/i) && !answer.end_with?("\r\n")

      answer << line until answer == ".\n" || answer.end_with?("\n.\n")
      answer
    end

    def line(patience: PATIENCE)
      fill(patience) until @buffer.include?("\n")
      @buffer.slice!(0..@buffer.index("\n"))
    end

    # Whether the server ends the connection; what it sends before that is left in #rest.
    def closed_by_server?(patience: PATIENCE)
      loop { fill(patience) }
    rescue EOFError, Errno::ECONNRESET
      true
    end

    def rest
      @buffer
    end

    def close
      @socket.close
    end

    private

    # The number of parts of the packets whose last part may have NULs in it.
    PARTS = {
      echo_res: 1, work_complete: 2, work_data: 2, work_warning: 2, work_exception: 2,
      job_assign: 3, job_assign_uniq: 4, job_assign_all: 5
    }.freeze
    private_constant :PARTS

    def cut(type, body)
      return [body] if type == :echo_res

      body.split("\0", PARTS.fetch(type, -1))
    end

    def read(length, patience)
      fill(patience) until @buffer.bytesize >= length
      @buffer.slice!(0, length)
    end

    def fill(patience)
      raise "the server sent nothing for #{patience} s" unless @socket.wait_readable(patience)

      @buffer << @socket.readpartial(1 << 20)
    end
  end

  # What examples call.
  module Helpers
    def start_gearmand(*arguments, **options)
      remember(Gearmand.start(*arguments, **options))
    end

    def start_embedded_server(**options)
      remember(Embedded.start(**options))
    end

    # Another one like `job_server`.
    def start_job_server(**options)
      remember(kind_of_job_server.start(**options))
    end

    # A new connection to a server, closed when the example ends.
    def wire(server = job_server)
      remember(Wire.new(server.host, server.port), :close)
    end

    # The address of a listener that accepts nothing: connecting to it takes until somebody gives up.
    def silent_server
      full = remember(Socket.new(:INET, :STREAM), :close)
      full.bind(Addrinfo.tcp("127.0.0.1", 0))
      full.listen(0)
      8.times { remember(Socket.new(:INET, :STREAM), :close).connect_nonblock(full.local_address, exception: false) }
      "127.0.0.1:#{full.local_address.ip_port}"
    end

    # The seconds that the block takes.
    def seconds
      start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      yield
      Process.clock_gettime(Process::CLOCK_MONOTONIC) - start
    end

    def eventually(...)
      JobServers.eventually(...)
    end

    private

    def remember(thing, ending = :stop)
      (@started_things ||= []) << thing.method(ending)
      thing
    end
  end

  # A file of examples, all of them for each kind of job server.
  def self.describe(title, *tags, &examples)
    RSpec.describe(title, *tags) { each_job_server(&examples) }
  end

  # What example groups call.
  module Groups
    # Defines the examples of the block once for each kind of job server, each with a fresh one.
    def each_job_server(&examples)
      KINDS.each do |name, kind|
        context "with #{name}" do
          let(:kind_of_job_server) { kind }
          let(:job_server) { start_job_server }
          before { job_server }
          class_exec(&examples)
        end
      end
    end
  end

  at_exit do
    Gearmand.running.each { |pid, owner| Process.kill("KILL", pid) if owner == Process.pid }
  end
end

RSpec.configure do |config|
  config.extend JobServers::Groups
  config.include JobServers::Helpers
  config.after { @started_things&.reverse_each(&:call) }
end
