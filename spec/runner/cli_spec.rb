# frozen_string_literal: true

require "fileutils"
require "net/http"
require "gearman/runner"
require "gearman/runner/queue_check"
require "tmpdir"

# What needs no process of its own; see gearman_worker_spec.rb for the rest.
RSpec.describe Gearman::Runner::CLI do
  let(:folder) { Dir.mktmpdir }
  let(:configuration) { Gearman::Configuration.new }
  let(:definitions) { Gearman::Definitions.new }
  let(:code) { file("jobs.rb", 'Gearman.worker { ability("reverse") { |data, _job| data.reverse } }') }

  before do
    loggers = %i[@logger @default_logger].to_h { |name| [name, Gearman.instance_variable_get(name)] }
    @restore = -> { loggers.each { |name, logger| Gearman.instance_variable_set(name, logger) } }
    Gearman.logger = nil
    allow(Gearman).to receive_messages(configuration: configuration, definitions: definitions)
  end

  after do
    @restore.call
    FileUtils.remove_entry(folder)
  end

  def file(name, content)
    File.join(folder, name).tap { |path| File.write(path, content) }
  end

  # The status, and what it wrote.
  def run(*arguments, env: {})
    output = StringIO.new
    [described_class.new(arguments, env: env, out: output, err: output).run, output.string]
  end

  def check(*arguments, **options)
    run("--check", "-s", "127.0.0.1:1", *arguments, **options)
  end

  it "tells its version and its options" do
    expect(run("-V")).to eq([0, "gearman-worker #{Gearman::VERSION}\n"])
    expect(run("--help")).to match([0, /\AUsage: gearman-worker/])
  end

  it "has a stuck worker fail its probes, and no longer call systemd's watchdog off" do
    state = :live
    process = instance_double(Gearman::Runner::Single)
    allow(process).to receive(:state) { state }
    notifier = instance_double(Gearman::Runner::Notifier, ready: nil, alive: nil)
    cli = described_class.new([])
    cli.instance_variable_set(:@notifier, notifier)
    configuration.update(probe_port: JobServers.free_port)
    probe = cli.__send__(:start_probe, process)
    ask = ->(path) { Net::HTTP.get_response("127.0.0.1", path, probe.port).code }
    expect([ask.call("/live"), ask.call("/ready")]).to eq(%w[200 503])
    cli.__send__(:announce, state)
    state = :stuck
    expect([ask.call("/live"), ask.call("/ready")]).to eq(%w[503 503])
    cli.__send__(:announce, state)
    expect(notifier).to have_received(:alive).once
  ensure
    probe&.stop
  end

  it "--check looks at the settings and the servers" do
    server = start_gearmand
    expect(run("--check", "-r", code, "-s", server.address))
      .to match([0, /\Aqueue reverse\nserver #{server.address}: version \d.*\n\z/])
    expect(check("-r", code)).to match([1, /\Aqueue reverse\nserver 127.0.0.1:1: .*refused/])
  end

  {
    %w[-c 0] => /concurrency is a whole number from 1 to 1000, not "0"/,
    %w[-c many] => /concurrency is a whole number from 1 to 1000, not "many"/,
    %w[-w 1001] => /processes is a whole number from 1 to 1000, not "1001"/,
    %w[-s host:99999] => /"host:99999" is no address/,
    %w[-q critical,2] => /queues have no weights/,
    %w[-q nowhere] => /there is no ability "nowhere"/,
    %w[--nonsense] => /invalid option: --nonsense/,
    %w[-C /nowhere.yml] => %r{cannot be read: .*/nowhere.yml},
    %w[-t -1] => /shutdown_timeout is a number from 0.0/,
    %w[-t 1e9] => /shutdown_timeout is a number from 0.0 to 86400.0/,
    %w[--probe-port 0] => /probe_port is a whole number from 1 to 65535/,
    %w[--max-memory 1] => /max_memory is a whole number from 16/,
    %w[--log-format xml] => /log_format is one of text, json, not "xml"/,
    ["-g", "two words"] => /a tag has .* no white space, unlike "two words"/,
    %w[dead] => /the commands are: dead list/,
    %w[dead burn mail] => /the commands are: dead list/,
    %w[start] => /the commands are: dead list/
  }.each do |arguments, message|
    it "refuses #{arguments.join(" ")} with status 64" do
      expect(check("-r", code, *arguments)).to match([64, /\Agearman-worker: .*#{message}/])
    end
  end

  describe "environment variables" do
    # The configuration with these; no server answers.
    def configured(env, *arguments)
      fresh = Gearman::Configuration.new
      allow(Gearman).to receive(:configuration).and_return(fresh)
      run("--check", "-r", code, *arguments, env: { "GEARMAN_SERVERS" => "127.0.0.1:1", **env })
      fresh
    end

    # What it says, what the setting is then; an option with what it sets; what makes no sense.
    {
      "GEARMAN_SERVERS" => [:servers, "127.0.0.1:3, [::1]", %w[127.0.0.1:3 [::1]:4730],
                            %w[-s 127.0.0.1:2], ["127.0.0.1:2"], "host:99999"],
      "GEARMAN_QUEUES" => [:queues, "critical, default", %w[critical default], %w[-q reverse], ["reverse"], "a,,b"],
      "RAILS_MAX_THREADS" => [:concurrency, "7", 7, %w[-c 2], 2, "0"],
      "JOB_CONCURRENCY" => [:processes, "3", 3, %w[-w 2], 2, "auto"],
      "GEARMAN_SHUTDOWN_TIMEOUT" => [:shutdown_timeout, "2.5", 2.5, %w[-t 3.5], 3.5, "soon"],
      "GEARMAN_PROBE_PORT" => [:probe_port, "7433", 7433, %w[--probe-port 80], 80, "seven"]
    }.each do |name, (setting, text, value, option, other, rubbish)|
      it "takes #{setting} from #{name}, which goes before the file and behind the command line" do
        config = ["-C", file("gearman.yml", "#{setting}: #{other}\n")]
        expect(configured({ name => text }, *config).public_send(setting)).to eq(value)
        expect(configured({ name => text }, *option).public_send(setting)).to eq(other)
        expect(configured({ name => "" }, *config).public_send(setting)).to eq(other)
      end

      it "refuses #{name}=#{rubbish}, and names it" do
        expect(run("--check", "-r", code, env: { name => rubbish }))
          .to match([64, /\Agearman-worker: \$#{name}: .*"#{rubbish}"/])
      end
    end

    it "log more when systemd sets DEBUG_INVOCATION to 1" do
      levels = ["1", "0", "", nil].map { |text| configured({ "DEBUG_INVOCATION" => text }).log_level }
      expect(levels).to eq(%i[debug info info info])
    end
  end

  {
    "concurency: 3\n" => /gearman\.yml: there is no setting "concurency"/,
    "staging:\n  concurency: 3\n" => /gearman\.yml: staging: there is no setting "concurency"/,
    "tsl:\n  ca_file: /nowhere\n" => /gearman\.yml: tsl: there is no setting "ca_file"/,
    "concurency:\n" => /gearman\.yml: there is no setting "concurency"/,
    "tls:\n  ca_file: /nowhere\n" => %r{tls: ca_file /nowhere cannot be used},
    "concurrency: <%= ENV.fetch('NOWHERE') %>\n" => /gearman\.yml:1: key not found: "NOWHERE"/,
    "concurrency: <%= 1 + %>\n" => /gearman\.yml: .*syntax error/m,
    "concurrency: [\n" => /gearman\.yml is no YAML/,
    "- 5\n" => /gearman\.yml is no list of settings/
  }.each do |content, message|
    it "refuses a file that says #{content.inspect}" do
      expect(check("-r", code, "-C", file("gearman.yml", content))).to match([64, message])
    end
  end

  it "takes sections with nothing in them" do
    config = file("gearman.yml", "tag: all\ntest:\nproduction:\ndevelopment: {}\nstaging:\n")
    expect(check("-r", code, "-C", config, "-e", "staging")).to match([1, /refused/])
    expect(configuration.tag).to eq("all")
    expect(check("-r", code, "-C", config)).to match([64, /there is no setting "staging"/])
  end

  {
    'ability("") {}' => /an ability needs a name/,
    'ability("a\0b") {}' => /NUL byte/,
    'ability("a")' => /the ability a has no block/,
    'ability("a", timeout: -5) {}' => /the timeout of a is a number of seconds above 0, not -5/,
    '2.times { ability("a") {} }' => /the ability a is defined twice/,
    'after_ability("a") {}' => /there is no ability "a"/
  }.each do |definition, message|
    it "refuses to load #{definition} with status 64, and tells where it stands" do
      code = file("jobs.rb", "\nGearman.worker { #{definition} }")
      expect(check("-r", code)).to match([64, /\Agearman-worker: #{code}:2: .*#{message}/])
    end
  end

  it "refuses to start with nothing to serve, and to load what is not there" do
    expect(check).to match([64, /there is nothing to serve/])
    expect(check("-r", "/nowhere")).to match([1, %r{there is no /nowhere}])
  end

  it "takes the environment's name from the command line, APP_ENV, RAILS_ENV or RACK_ENV, whichever says something" do
    config = file("gearman.yml", "tag: no\nstaging: { tag: staging }\nproduction: { tag: production }\n")
    env = { "APP_ENV" => "", "RAILS_ENV" => "staging", "RACK_ENV" => "production" }
    check("-r", code, "-C", config, env: env)
    expect(configuration.tag).to eq("staging")
    check("-r", code, "-C", config, "-e", "production", env: env)
    expect([configuration.tag, env.values.uniq]).to eq(["production", ["production"]])
  end

  describe "dead" do
    let(:server) { start_gearmand }

    it "asks the servers that the code names, and says which" do
      code = file("jobs.rb", "Gearman.configure { |config| config.servers = #{server.address.inspect} }")
      expect(run("-r", code, "dead", "list", "mail")).to eq([0, "servers: #{server.address}\nmail: 0 jobs dead\n"])
      expect(run("-r", code, "-s", "127.0.0.1:1", "dead", "list", "mail"))
        .to match([1, /\Aservers: 127.0.0.1:1\n.*refused/m])
    end

    it "takes a file that asks what only the code knows" do
      code = file("jobs.rb", "module CLISpecShop; SERVERS = #{server.address.inspect}; end")
      config = file("gearman.yml", "servers: <%= CLISpecShop::SERVERS %>\n")
      expect(run("-r", code, "-C", config, "dead", "purge", "mail"))
        .to eq([0, "servers: #{server.address}\nmail: 0 jobs purged\n"])
    end
  end

  it "logs what it says, unless the code has a logger of its own" do
    output = StringIO.new
    described_class.new(["--check", "-r", code, "-s", "127.0.0.1:1"], env: {}, out: output, err: output).run
    Gearman.logger.info("on its standard output")
    expect(output.string).to match(/INFO: on its standard output$/)
    code = file("logger.rb", "Gearman.configure { |config| config.logger = Logger.new(nil, progname: 'own') }")
    check("-r", code, "-v")
    expect([Gearman.logger.progname, Gearman.logger.level]).to eq(["own", Logger::DEBUG])
  end

  it "looks for such jobs in a thread that lasts no longer than a look" do
    configuration.servers = ["127.0.0.1:1"]
    configuration.queue_check = 1
    check = Gearman::Runner::QueueCheck.new(configuration)
    allow(check).to receive(:look) { Thread.stop }
    before = Thread.list
    threads = -> { Thread.list - before }
    3.times { check.tick }
    expect(threads.call).to eq([])
    sleep 1.1
    allow(Thread).to receive(:new).and_raise(ThreadError).once
    check.tick
    allow(Thread).to receive(:new).and_call_original
    sleep 1.1
    3.times { check.tick }
    eventually("a look") { threads.call.map(&:status) == ["sleep"] }
    sleep 1.1
    check.tick
    expect(threads.call.size).to eq(1)
    threads.call.each(&:wakeup).each(&:join)
    expect(check).to have_received(:look).once
  end

  it "looks for jobs that nobody serves, and warns once until that was different" do
    server = start_gearmand
    client = Gearman::Client.new(server.address)
    client.do_task(Gearman::BackgroundTask.new("forgotten", ""))
    client.do_task(Gearman::BackgroundTask.new("forgotten.dead", ""))
    configuration.servers = [server.address, "127.0.0.1:1"]
    Gearman.logger = Logger.new(log = StringIO.new)
    look = Gearman::Runner::QueueCheck.new(configuration)
    2.times { look.look }
    expect(log.string.scan(/WARN .*/))
      .to contain_exactly(/queue forgotten has 1 jobs and no worker at #{server.address};/)
    worker = wire(server).request(:can_do, "forgotten").settle
    look.look
    worker.close
    eventually("no worker") { server.admin("status").include?("forgotten\t1\t0\t0") }
    look.look
    expect(log.string.scan("no worker at").size).to eq(2)
  ensure
    client.close
  end
end
