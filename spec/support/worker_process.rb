# frozen_string_literal: true

require "logger"
require "stringio"

# For specs of the worker, tagged :worker. Workers in threads and in processes of their own, and a client that owes
# nothing to the codec under test.
#
#   run_worker(job_server, "reverse" => ->(data, _job) { data.reverse })
#   expect(client.run("reverse", "abc")).to eq([:work_complete, "cba"])
#
# What an example starts ends with it. What the library logs is in `log`, a StringIO.
module WorkerSide
  # A worker whose `work` runs in a thread.
  class Running
    attr_reader :worker, :thread

    def initialize(worker, &work)
      @worker = worker
      work ||= -> { worker.work }
      @thread = Thread.new do
        work.call
      rescue Exception => e # rubocop:disable Lint/RescueException
        e
      end
    end

    # What `work` returned or raised, once it has ended.
    def outcome(patience: JobServers::PATIENCE)
      raise "the worker has not ended within #{patience} s" unless thread.join(patience)

      thread.value
    end

    def ended?
      !thread.alive?
    end

    def waiting
      JobServers.eventually("a worker that waits") { worker.status == :waiting && thread.status == "sleep" }
      self
    end

    # Stops it as a program does, by force when that does not help.
    def stop
      worker.worker_enabled = false
      return if thread.join(5)

      thread.kill.join
      raise "the worker did not stop"
    end
  end

  # A process that runs a block, which says what it has to say in lines.
  class Child
    attr_reader :pid

    def initialize
      @reader, writer = IO.pipe
      @pid = fork do
        @reader.close
        writer.sync = true
        %w[INT TERM].each { |signal| trap(signal, "DEFAULT") }
        begin
          yield writer
          exit!(true)
        rescue Exception => e # rubocop:disable Lint/RescueException
          writer.puts "#{e.class}: #{e.message}"
          exit!
        end
      end
      writer.close
    end

    # The next line that it says; nil when it says no more.
    def line(patience: JobServers::PATIENCE)
      raise "the process said nothing for #{patience} s" unless @reader.wait_readable(patience)

      @reader.gets&.chomp
    end

    # All that it says until it ends.
    def lines
      said = []
      while (text = line)
        said << text
      end
      said
    end

    def signal(name)
      Process.kill(name, pid)
    end

    # How it ended: a Process::Status.
    def wait(patience: JobServers::PATIENCE)
      @status ||= JobServers.eventually("the end of a process", patience: patience) do
        Process.wait2(pid, Process::WNOHANG)&.last
      end
    end

    def stop
      return if @status

      signal("KILL")
      wait
    ensure
      @reader.close
    end
  end

  # A client on a wire.
  class WireClient
    LAST = %i[work_complete work_fail work_exception].freeze
    private_constant :LAST

    attr_reader :wire

    def initialize(wire)
      @wire = wire
      @packets = Hash.new { |packets, handle| packets[handle] = [] }
      wire.ask(:option_req, "exceptions")
    end

    # The handle of a new job.
    def submit(function, data = "", type: :submit_job, unique: "")
      wire.request(type, function, unique, data)
      created
    end

    # Queues many jobs, background unless told otherwise, without waiting for each; returns their handles.
    def submit_all(function, all_data, type: :submit_job_bg)
      all_data.each_slice(500).flat_map do |some|
        wire.write(*some.map { |data| JobServers::Wire.packet(type, function, "", data) })
        some.map { created }
      end
    end

    # A job that is due at a Time.
    def schedule(function, time, data = "")
      wire.request(:submit_job_epoch, function, "", time.to_i, data)
      created
    end

    # All packets of a job, the last of them [:work_complete, result], [:work_fail] or [:work_exception, message].
    def packets_of(handle)
      packets = @packets[handle]
      keep(wire.response) until LAST.include?(packets.last&.first)
      packets
    end

    # The next packet of a job.
    def packet_of(handle)
      keep(wire.response) while @packets[handle].empty?
      @packets[handle].shift
    end

    def outcome(handle)
      packets_of(handle).last
    end

    # Submits a job and waits for its end.
    def run(function, data = "", **options)
      outcome(submit(function, data, **options))
    end

    def close
      wire.close
    end

    private

    def created
      loop do
        type, *parts = wire.response
        return parts.first if type == :job_created
        raise "not created: #{parts}" if type == :error

        keep([type, *parts])
      end
    end

    def keep(packet)
      type, handle, *rest = packet
      @packets[handle] << (type == :work_fail ? [type] : [type, *rest])
    end
  end

  # What examples call.
  module Helpers
    # Calls `work` of a worker, or the block, in a thread.
    def run(worker, &work)
      remember(Running.new(worker, &work))
    end

    # A worker, built and running, with abilities: `run_worker(job_server, "reverse" => ->(data, _) { data.reverse })`.
    def run_worker(servers, abilities, options = {})
      run(new_worker(servers, abilities, options))
    end

    # Servers are what has an address, or addresses. The options are those of Gearman::Worker.new, and `kind:`, a
    # subclass.
    def new_worker(servers, abilities = {}, options = {})
      addresses = [servers].flatten.map { |server| server.is_a?(String) ? server : server.address }
      worker = options.fetch(:kind, Gearman::Worker).new(addresses, options.except(:kind))
      abilities.each { |function, block| worker.add_ability(function, &block) }
      remember(worker, :close)
    end

    # A process; the block is given an IO for what it has to say.
    def start_process(&block)
      remember(Child.new(&block))
    end

    # A client of a server.
    def client(server = job_server)
      (@wire_clients ||= {})[server] ||= WireClient.new(wire(server))
    end

    # Waits until a server has this many workers for a function.
    def registered(function, count = 1, server: job_server)
      eventually("#{count} workers for #{function}") { workers_for(function, server: server) == count }
    end

    # The number of workers that a server has for a function; nil when it does not know it.
    def workers_for(function, server: job_server)
      row = server.admin("status").lines.map { |line| line.b.chomp.split("\t") }.find { |name, *| name == function.b }
      row && Integer(row.last)
    end

    # What was logged on one level.
    def logged(level)
      log.string.split(/^(?=[DIWEF], \[)/).select { |entry| entry.include?(" #{level.to_s.upcase} -- ") }
    end
  end
end

RSpec.shared_context "for specs of the worker" do
  include WorkerSide::Helpers

  let(:log) { StringIO.new }

  around do |example|
    logger = Gearman.logger
    Gearman.logger = Logger.new(log, level: Logger::WARN)
    example.run
  ensure
    Gearman.logger = logger
  end
end

RSpec.configure { |config| config.include_context "for specs of the worker", :worker }
