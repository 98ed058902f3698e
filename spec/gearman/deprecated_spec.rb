# frozen_string_literal: true

require "logger"

# The names of gearman-ruby 3.0 that are still there.
JobServers.describe "deprecated names", :quiet do
  around do |example|
    before = Warning[:deprecated]
    Warning[:deprecated] = true
    example.run
  ensure
    Warning[:deprecated] = before
  end

  # What the block returns, which must warn once: where the name is used, that it is deprecated, and what replaces it.
  def deprecated(name, replacement)
    line = caller_locations(1, 1).first.lineno # the block stands there or on the next line
    text = "warning: Gearman::#{name} is deprecated; use #{replacement}"
    result = nil
    expect { result = yield }
      .to output(/\A#{Regexp.escape(__FILE__)}:(#{line}|#{line + 1}): #{Regexp.escape(text)}\n\z/).to_stderr
    result
  end

  # What the block returns, whether it warns or not.
  def silently
    Warning[:deprecated] = false
    yield
  ensure
    Warning[:deprecated] = true
  end

  def dead_address
    "127.0.0.1:#{JobServers.free_port}"
  end

  it "say nothing unless Warning[:deprecated] is on" do
    Warning[:deprecated] = false
    expect do
      Gearman::Client.new("a").job_servers
      Gearman::Util::NUMS # rubocop:disable Lint/Void
      Gearman::Util.logger
    end.not_to output.to_stderr
  end

  { "gearman/util" => "Util", "gearman/taskset" => "TaskSet" }.each do |file, name|
    it "are loaded by #{file}, once" do
      output = run_ruby(<<~RUBY)
        Warning[:deprecated] = true
        2.times { require "#{file}" }
        p Gearman::#{name}
      RUBY
      warning = /\A-:2:(in [^:]+:)? warning: #{file} is deprecated; require "gearman"\n\z/
      expect(output.lines).to contain_exactly(warning, "Gearman::#{name}\n")
    end
  end

  describe "Gearman::Client" do
    let(:server) { job_server }
    let(:client) { remember(Gearman::Client.new(server.address), :close) }

    it "#option_request sets an option" do
      wire_worker(server, "f") { |wire, handle| wire.request(:work_exception, handle, "it broke") }
      expect(deprecated("Client#option_request", "Gearman::Client#set_options") do
        client.option_request("exceptions")
      end).to be_nil

      message = nil
      task = Gearman::Task.new("f", "x", on_exception: ->(text) { message = text })
      expect(client.do_task(task, JobServers::PATIENCE)).to be_nil
      expect(message).to eq("it broke")
    end

    it "#option_request raises what #set_options raises" do
      expect { silently { client.option_request("no such option") } }.to raise_error(Gearman::ProtocolError)
      nobody = Gearman::Client.new
      expect { silently { nobody.option_request("exceptions") } }.to raise_error(Gearman::NoJobServersError)
    end

    it "#job_servers are all servers" do
      client = Gearman::Client.new(%w[a b:1 [::1]])
      expect(deprecated("Client#job_servers", "the list given to Gearman::Client.new") { client.job_servers })
        .to eq(%w[a:4730 b:1 [::1]:4730])
    end

    it "#job_servers= changes them" do
      other = start_job_server
      client = remember(Gearman::Client.new, :close)
      deprecated("Client#job_servers=", "Gearman::Client.new") { client.job_servers = server.address }
      client.do_task(Gearman::BackgroundTask.new("f", "1"))
      silently { client.job_servers = [other.address] }
      2.times { |number| client.do_task(Gearman::BackgroundTask.new("f", number)) }

      expect(silently { client.job_servers }).to eq([other.address])
      expect(server.admin("status")).to include("f\t1\t")
      expect(other.admin("status")).to include("f\t2\t")
    end

    it "#job_servers= keeps the sockets of a server that stays, and the options" do
      connections = 0
      peer = scripted_server do |wire|
        connections += 1
        loop do
          case wire.request.first
          when :option_req then wire.reply(:option_res, "exceptions")
          when :echo_req then wire.reply(:echo_res, "ping")
          else wire.reply(:job_created, "H:1")
          end
        end
      end
      client = remember(Gearman::Client.new(peer.address), :close)
      client.set_options("exceptions")
      silently { client.job_servers = [server.address, peer.address] }
      silently { client.job_servers = [peer.address] }
      client.do_task(Gearman::BackgroundTask.new("f"))
      expect(connections).to eq(1)

      wire_worker(server, "f") { |wire, handle| wire.request(:work_exception, handle, "it broke") }
      silently { client.job_servers = server.address }
      message = nil
      client.do_task(Gearman::Task.new("f", "x", on_exception: ->(text) { message = text }), JobServers::PATIENCE)
      expect(message).to eq("it broke")
    end

    it "#job_servers= changes nothing when an address makes no sense" do
      client = Gearman::Client.new("a")
      expect { silently { client.job_servers = ["b", "c:d"] } }.to raise_error(Gearman::InvalidArgsError, /"c:d"/)
      expect(silently { client.job_servers }).to eq(["a:4730"])
    end

    it "#bad_servers are those that cannot be reached" do
      dead = dead_address
      client = remember(Gearman::Client.new([dead, server.address]), :close)
      expect(deprecated("Client#bad_servers", "Gearman::Client#ping") { client.bad_servers }).to eq([])
      client.ping
      expect(silently { client.bad_servers }).to eq([dead])
    end

    it "#do_task takes a function, an argument and options" do
      start_worker(server, "reverse" => ->(data, _job) { data.reverse }, "empty" => ->(data, _job) { data.empty? })
      statuses = []
      expect(deprecated("Client#do_task with the name of a function", "a Gearman::Task") do
        client.do_task("reverse", "abc", uniq: "u", on_complete: ->(result) { statuses << result })
      end).to eq("cba")
      expect(statuses).to eq(["cba"])
      expect(silently { client.do_task(:reverse, 12) }).to eq("21")
      expect(silently { client.do_task("empty") }).to eq("true")
      expect(silently { client.do_task("reverse", "abc", { background: true }) }).to be_nil
      expect { silently { client.do_task("reverse", "abc", on_whatever: 1) } }
        .to raise_error(Gearman::InvalidArgsError, "Invalid task args: on_whatever")
    end

    it "#do_task does not warn of a task" do
      start_worker(server, "reverse" => ->(data, _job) { data.reverse })
      expect { expect(client.do_task(Gearman::Task.new("reverse", "abc"), 10)).to eq("cba") }.not_to output.to_stderr
    end
  end

  describe "Gearman::TaskSet" do
    let(:server) { job_server }
    let(:task_set) { Gearman::TaskSet.new(remember(Gearman::Client.new(server.address), :close)) }

    it "#add_task takes a function, an argument and options" do
      start_worker(server, "reverse" => ->(data, _job) { data.reverse })
      results = []
      expect(deprecated("TaskSet#add_task with the name of a function", "a Gearman::Task") do
        task_set.add_task("reverse", "abc", on_complete: ->(result) { results << result })
      end).to be(true)
      silently { task_set.add_task(:reverse, 12, { on_complete: ->(result) { results << result } }) }
      silently { task_set.add_task("reverse") }

      expect(task_set.wait(JobServers::PATIENCE)).to be(true)
      expect(results).to match_array(%w[cba 21])
    end

    it "#add_task does not warn of a task" do
      expect { task_set.add_task(Gearman::BackgroundTask.new("f")) }.not_to output.to_stderr
    end
  end

  describe "Gearman::Worker" do
    let(:server) { job_server }
    let(:worker) { remember(Gearman::Worker.new, :close) }

    def workers_of(server)
      server.admin("status")[/^f\t\d+\t\d+\t(\d+)/, 1].to_i
    end

    it "#job_servers= connects it to servers, and to no others any more" do
      other = start_job_server
      worker.add_ability("f", &:reverse)
      deprecated("Worker#job_servers=", "Gearman::Worker.new") { worker.job_servers = server.address }
      client = remember(Gearman::Client.new([server.address]), :close)
      client.do_task(Gearman::BackgroundTask.new("f", "1"))
      expect(worker.work_once(JobServers::PATIENCE)).to be(true)
      eventually { workers_of(server) == 1 }

      silently { worker.job_servers = other.address }
      eventually { workers_of(server).zero? }
      expect(server.admin("status")).to start_with("f\t0\t").or eq(".\n")
      remember(Gearman::Client.new(other.address), :close).do_task(Gearman::BackgroundTask.new("f", "2"))
      expect(worker.work_once(JobServers::PATIENCE)).to be(true)
      expect(deprecated("Worker#job_servers", "the list given to Gearman::Worker.new") { worker.job_servers })
        .to eq([other.address])
    end

    it "#job_servers= lets go of servers that it has only told its functions" do
      silently { worker.job_servers = server.address }
      worker.add_ability("f", &:reverse)
      eventually { workers_of(server) == 1 }
      silently { worker.job_servers = [] }
      eventually { workers_of(server).zero? }
    end

    it "#job_servers= leaves a running #work its servers" do
      worker.add_ability("f") do |data|
        silently { worker.job_servers = [] }
        data.reverse
      end
      silently { worker.job_servers = server.address }
      thread = Thread.new { worker.work }
      client = remember(Gearman::Client.new(server.address), :close)
      %w[ab cd].each do |text|
        expect(client.do_task(Gearman::Task.new("f", text), JobServers::PATIENCE)).to eq(text.reverse)
      end
      worker.worker_enabled = false
      expect(thread.value).to be(false)
      expect { worker.work }.to raise_error(Gearman::NoJobServersError)
    end

    it "#bad_servers are those that cannot be reached" do
      dead = dead_address
      worker = remember(Gearman::Worker.new([dead, server.address]), :close)
      expect(deprecated("Worker#bad_servers", "Gearman.logger=") { worker.bad_servers }).to eq([])
      worker.add_ability("f", &:reverse)
      expect(silently { worker.bad_servers }).to eq([dead])
    end
  end

  describe "Gearman::Util" do
    around do |example|
      before = Gearman.logger
      example.run
    ensure
      Gearman.logger = before
    end

    it ".logger and .logger= are the library's" do
      logger = Logger.new(nil)
      deprecated("Util.logger=", "Gearman.logger=") { Gearman::Util.logger = logger }
      expect(Gearman.logger).to be(logger)
      expect(deprecated("Util.logger", "Gearman.logger") { Gearman::Util.logger }).to be(logger)
    end

    it ".debug= sets the level of the logger" do
      Gearman.logger = Logger.new(nil, level: Logger::ERROR)
      deprecated("Util.debug=", "Gearman.logger.level=") { Gearman::Util.debug = true }
      expect(Gearman.logger.level).to eq(Logger::DEBUG)
      silently { Gearman::Util.debug = false }
      expect(Gearman.logger.level).to eq(Logger::WARN)
    end

    it ".debug= leaves a logger without a level alone" do
      Gearman.logger = Object.new
      expect { silently { Gearman::Util.debug = true } }.not_to raise_error
    end

    it ".pack_request packs a request" do
      packet = deprecated("Util.pack_request", "Gearman::Packet.pack_request") do
        Gearman::Util.pack_request("can_do", "é")
      end
      expect(packet).to eq("\0REQ\0\0\0\1\0\0\0\2é".b)
      expect { silently { Gearman::Util.pack_request(:nothing) } }.to raise_error(Gearman::InvalidArgsError)
    end

    it ".normalize_job_servers gives each its port" do
      expect(deprecated("Util.normalize_job_servers", "Gearman::Address.parse_list") do
        Gearman::Util.normalize_job_servers(["a", "b:1"])
      end).to eq(%w[a:4730 b:1])
      expect(silently { Gearman::Util.normalize_job_servers(:a) }).to eq(["a:4730"])
    end

    it ".get_task_from_args gives the task back, or makes one" do
      task = Gearman::BackgroundTask.new("f")
      expect(deprecated("Util.get_task_from_args", "Gearman::Task.new") { Gearman::Util.get_task_from_args(task) })
        .to be(task)
      made = silently { Gearman::Util.get_task_from_args("f", "x", priority: :high) }
      expect([made.func, made.arg, made.priority]).to eq(["f", "x", :high])
      [[], ["f", "x", {}, 1]].each do |args|
        expect { silently { Gearman::Util.get_task_from_args(*args) } }
          .to raise_error(Gearman::InvalidArgsError, /not of #{args.size} values/)
      end
    end

    %w[ability_name_with_prefix ability_name_for_perl].each do |name|
      it ".#{name} puts a tabulator between the two" do
        expect(deprecated("Util.#{name}", '"#{prefix}\t#{name}"') do # rubocop:disable Lint/InterpolationCheck
          Gearman::Util.public_send(name, "application", "resize")
        end).to eq("application\tresize")
      end
    end

    { "COMMANDS" => Gearman::Packet, "NUMS" => Gearman::Packet, "DEFAULT_PORT" => Gearman::Address }
      .each do |name, owner|
      it "::#{name} is that of #{owner}" do
        expect(deprecated("Util::#{name}", "#{owner}::#{name}") { Gearman::Util.const_get(name) })
          .to be(owner.const_get(name))
      end
    end

    it "has no other constants" do
      expect { Gearman::Util::NOTHING }.to raise_error(NameError, /uninitialized constant Gearman::Util::NOTHING/)
    end
  end
end
