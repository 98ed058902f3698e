# frozen_string_literal: true

require "active_job"
require "logger"
require "active_job/queue_adapters/gearman_adapter"

RSpec.describe ActiveJob::QueueAdapters::GearmanAdapter do
  # Rails' railtie adds to what a job does; here is ActiveJob alone, as far as that is possible.
  let(:job_class) { stub_const("EmptyJob", Class.new(ActiveJob::Base) { def perform(*) = nil }) }

  around do |example|
    Gearman.client = nil
    adapter = ActiveJob::Base.queue_adapter
    logger = ActiveJob::Base.logger
    ActiveJob::Base.queue_adapter = :gearman
    ActiveJob::Base.logger = Logger.new(nil)
    example.run
  ensure
    ActiveJob::Base.queue_adapter = adapter
    ActiveJob::Base.logger = logger
    Gearman.client&.close
    Gearman.client = nil
  end

  def use(server)
    Gearman.client = Gearman::Client.new(server.address)
  end

  # Takes a job of a function and completes it: [unique, payload].
  def take(function)
    @takers ||= Hash.new { |takers, name| takers[name] = wire.request(:can_do, name) }
    type, handle, _function, unique, data = @takers[function].ask(:grab_job_uniq)
    return unless type == :job_assign_uniq

    @takers[function].request(:work_complete, handle, "")
    [unique, JSON.parse(data)]
  end

  # An instance's set came with Rails 7.1.
  def job_in(queue)
    job_class.new.tap { |job| job.queue_name = queue }
  end

  def bulk?
    ActiveJob.respond_to?(:perform_all_later)
  end

  it "is found by its name, and has it" do
    expect(ActiveJob::Base.queue_adapter).to be_a(described_class)
    expect(ActiveJob::Base.queue_adapter_name).to eq("gearman")
  end

  each_job_server do
    before { use(job_server) }

    it "submits a job to the function of its queue, with a unique that the job has as its provider_job_id" do
      job = job_class.set(queue: "urgent").perform_later("one")
      unique, payload = take("urgent")
      expect(unique).to eq(job.provider_job_id).and match(/\A#{job.job_id}:0:[0-9a-z]+\.1\z/)
      expect(payload).to include("job_class" => "EmptyJob", "job_id" => job.job_id, "arguments" => ["one"])
    end

    it "gives each submission of a job a unique of its own, whatever rand says" do
      allow(Kernel).to receive(:rand).and_return(0)
      job = job_class.new
      uniques = Array.new(3) { job.enqueue.provider_job_id }
      expect(uniques.uniq.size).to eq(3)
      expect(Array.new(4) { take("default")&.first }).to match_array([*uniques, nil])
    end

    it "takes a job_id of any size" do
      job = job_class.new
      job.job_id = "x" * 100
      job.enqueue
      expect(take("default")).to match([job.provider_job_id, include("job_id" => "x" * 100)])
    end

    it "submits a negative priority as high and a positive one as low" do
      [3, nil, -1, 0].each { |priority| job_class.set(priority: priority).perform_later(priority) }
      expect(Array.new(4) { take("default").last["arguments"] }).to eq([[-1], [nil], [0], [3]])
    end

    it "asks the configuration for the priority" do
      Gearman.configuration.priority = ->(job) { :high if job.arguments == ["vip"] }
      job_class.set(priority: -1).perform_later("other")
      job_class.perform_later("vip")
      expect(Array.new(2) { take("default").last["arguments"] }).to eq([["vip"], ["other"]])
    ensure
      Gearman.configuration.priority = nil
    end

    it "submits what is to run later to a function of its own, for the full second behind its time" do
      job = job_class.set(wait: 2.5).perform_later
      expect(take("default")).to be_nil
      expect(take("default.scheduled")).to be_nil
      unique, = eventually("the job") { take("default.scheduled") }
      expect(Time.now).to be >= Time.at(job.scheduled_at.to_f)
      expect(unique).to eq(job.provider_job_id)
    end

    it "submits what should have run already as a job of now, also where a test has stopped the clock" do
      job_class.set(wait_until: Time.now - 10).perform_later("past")
      allow(Time).to receive(:now).and_return(Time.at(1_000_000_000))
      job_class.set(wait_until: Time.at(1_000_000_005)).perform_later("stopped")
      expect(Array.new(2) { take("default").last["arguments"] }).to eq([["past"], ["stopped"]])
    end

    it "submits many jobs" do
      skip "perform_all_later came with Rails 7.1" unless bulk?
      jobs = Array.new(500) { |number| job_class.new(number) }
      jobs << job_class.new("high").set(priority: -1) << job_class.new("later").set(wait: 1000)
      jobs[3].enqueue_error = StandardError.new("an earlier try")
      expect(ActiveJob::Base.queue_adapter.enqueue_all(jobs)).to eq(502)
      expect(jobs).to all(be_successfully_enqueued)
      expect(jobs.map(&:enqueue_error).compact).to be_empty
      expect(take("default")).to match([jobs[500].provider_job_id, include("arguments" => ["high"])])
      taken = Array.new(500) { take("default") }
      expect(taken.map(&:first)).to eq(jobs.first(500).map(&:provider_job_id))
      expect(taken.map { |_, payload| payload["arguments"] }).to eq(Array.new(500) { |number| [number] })
      expect(take("default")).to be_nil
      expect(job_server.admin("status")).to match(/^default\.scheduled\t1\t/)
    end

    it "submits a job twice that is there twice" do
      skip "perform_all_later came with Rails 7.1" unless bulk?
      job = job_class.new("twice")
      expect(described_class.new.enqueue_all([job, job])).to eq(2)
      expect(Array.new(3) { take("default")&.first }.compact.uniq.size).to eq(2)
    end

    [
      "", " ", "a b", "a\tb", "a\nb", "a\0b", "a\eb", "a\u00a0b", "\xff", "a.scheduled", "a.dead", "a" * 401,
      "a".encode("UTF-16LE")
    ].each do |name|
      it "refuses the queue #{name[0, 20].inspect}, and sends nothing" do
        expect { job_class.set(queue: name).perform_later }
          .to raise_error(Gearman::InvalidArgsError, /#{Regexp.escape(name.inspect)} cannot be the name of a queue: /)
        expect { described_class.new.enqueue_all([job_in("default"), job_in(name)]) }
          .to raise_error(Gearman::InvalidArgsError)
        expect(job_server.admin("status")).to eq(".\n")
      end
    end

    it "takes other names, which the server's lists can carry" do
      names = %w[low_priority -dash a.b a,b über a/b *]
      names.each { |name| job_class.set(queue: name).perform_later }
      rows = Gearman::Server.new(job_server.address).status
      expect(rows.to_h { |name, row| [name.dup.force_encoding("UTF-8"), row[:queue]] })
        .to eq(names.to_h { |name| [name, "1"] })
    end

    it "submits all jobs but those that cannot be serialized, and raises why" do
      skip "perform_all_later came with Rails 7.1" unless bulk?
      jobs = [1, Object.new, 3].map { |argument| job_class.new(argument) }
      expect { described_class.new.enqueue_all(jobs) }.to raise_error(ActiveJob::SerializationError, /Object/)
      expect(jobs.map(&:successfully_enqueued?)).to eq([true, false, true])
      expect(jobs.map(&:enqueue_error)).to match([nil, be_a(ActiveJob::SerializationError), nil])
      expect(Array.new(3) { take("default")&.last&.fetch("arguments") }).to eq([[1], [3], nil])
    end

    it "tells subscribers of enqueue.gearman" do
      events = []
      subscriber = ActiveSupport::Notifications.subscribe("enqueue.gearman") { |*, payload| events << payload }
      job = job_class.perform_later
      job_class.new.tap { |other| described_class.new.enqueue_all([other]) } if bulk?
      expect(events.first).to include(job: job, function: "default", unique: job.provider_job_id, handle: /\AH:/)
      expect(events.size).to eq(bulk? ? 2 : 1)
    ensure
      ActiveSupport::Notifications.unsubscribe(subscriber)
    end

    it "shares a client with forked children", :process do
      job_class.perform_later
      uniques = in_child { Array.new(20) { job_class.perform_later.provider_job_id } }
      uniques.concat(Array.new(20) { job_class.perform_later.provider_job_id })
      expect(Array.new(41) { take("default").first }.drop(1)).to match_array(uniques)
    end

    it "can be used by many threads at once" do
      job_class
      threads = Array.new(5) { Thread.new { Array.new(40) { job_class.perform_later.provider_job_id } } }
      uniques = threads.flat_map(&:value)
      expect(Array.new(200) { take("default").first }).to match_array(uniques)
    end
  end

  describe "a server that refuses jobs" do
    let(:server) { start_gearmand }

    before do
      use(server)
      job_class.perform_later
      server.admin("maxqueue default 1")
    end

    it "makes perform_later return false, and tells why" do
      if defined?(ActiveJob::EnqueueError)
        job = job_class.new
        expect(job.enqueue).to be(false)
        expect(job.enqueue_error).to be_a(ActiveJob::EnqueueError).and have_attributes(message: /QUEUE_ERROR/)
        expect(job.provider_job_id).to be_nil
        expect(job_class.perform_later).to be(false)
      else
        expect { job_class.perform_later }.to raise_error(Gearman::RefusedError, /QUEUE_ERROR/)
      end
    end

    it "is told apart for each of many jobs" do
      skip "perform_all_later came with Rails 7.1" unless bulk?
      jobs = %w[default roomy default].map { |queue| job_in(queue) }
      expect(described_class.new.enqueue_all(jobs)).to eq(1)
      expect(jobs.map(&:successfully_enqueued?)).to eq([false, true, false])
      expect(jobs.map(&:enqueue_error)).to match([be_a(ActiveJob::EnqueueError), nil, be_a(ActiveJob::EnqueueError)])
      server.admin("maxqueue default 0")
      jobs.each { |job| job.successfully_enqueued = false }
      expect(described_class.new.enqueue_all(jobs)).to eq(3)
      expect(jobs.map(&:enqueue_error)).to eq([nil, nil, nil])
    end
  end

  describe "a server that cannot be reached", :quiet do
    before { Gearman.client = Gearman::Client.new("127.0.0.1:#{JobServers.free_port}") }

    it "makes perform_later raise" do
      expect { job_class.perform_later }.to raise_error(Gearman::NoJobServersError)
    end

    it "makes perform_all_later raise, with what is known of each job" do
      skip "perform_all_later came with Rails 7.1" unless bulk?
      jobs = Array.new(2) { job_class.new }
      expect { described_class.new.enqueue_all(jobs) }.to raise_error(Gearman::NoJobServersError)
      expect(jobs.map(&:successfully_enqueued?)).to eq([false, false])
      expect(jobs.map(&:enqueue_error)).to all(be_a(Gearman::NoJobServersError))
    end
  end

  it "raises when a server is lost before it has answered, and tells of which jobs nobody knows", :quiet do
    use(scripted_server { |peer| peer.request && peer.close })
    expect { job_class.perform_later }.to raise_error(Gearman::NetworkError)
    if bulk?
      job = job_class.new
      expect { described_class.new.enqueue_all([job]) }.to raise_error(Gearman::NetworkError, /outcome unknown/)
      expect(job).to have_attributes(successfully_enqueued?: false, enqueue_error: be_a(Gearman::NetworkError))
    end
  end

  it "makes jobs wait for the end of a transaction" do
    expect(described_class.new.enqueue_after_transaction_commit?).to be(true)
  end

  it "is not stopping in a process that runs no jobs" do
    expect(described_class.new.stopping?).to be(false)
    expect(described_class.new.stopping?(job_class.new)).to be(false)
  end

  describe "loading", :process do
    # Runs a script in a Ruby that has nothing but this bundle.
    def script(text, *options, env: {})
      output, status = Open3.capture2e({ "GEARMAN_SERVERS" => nil, **env },
                                       RbConfig.ruby, "-W0", "-rlogger", "-rcgi", *options, "-e", text)
      raise output unless status.success?

      output.lines.last.to_s.chomp
    end

    adapter = "p ActiveJob::Base.tap { |base| base.queue_adapter = :gearman }.queue_adapter.class"

    {
      "before ActiveJob" => 'require "gearman"; require "active_job"',
      "behind ActiveJob" => 'require "active_job"; require "gearman"',
      "behind ActiveJob::Base" => 'require "active_job"; ActiveJob::Base; require "gearman"',
      "by itself" => 'require "active_job/queue_adapters/gearman_adapter"',
      "before Rails" => 'require "gearman"; require "rails"; require "active_job/railtie"',
      "behind Rails" => 'require "rails"; require "active_job/railtie"; require "gearman"'
    }.each do |order, requires|
      it "works #{order}" do
        expect(script("#{requires}; #{adapter}")).to eq(described_class.name)
      end
    end

    describe "without Bundler", :newest do
      def script(text)
        lib = File.expand_path("../../lib", __dir__)
        gems = { "GEM_HOME" => Bundler.bundle_path.to_s }
        Bundler.with_unbundled_env { super("abort 'Bundler' if defined?(Bundler); #{text}", "-I", lib, env: gems) }
      end

      {
        "before ActiveJob" => 'require "gearman"; require "active_job"',
        "behind ActiveJob" => 'require "active_job"; require "gearman"',
        "before Rails" => 'require "gearman"; require "rails"; require "active_job/railtie"'
      }.each do |order, requires|
        it "works #{order}" do
          expect(script("#{requires}; #{adapter}")).to eq(described_class.name)
        end
      end

      it "leaves the adapter's name to those who have no ActiveJob" do
        expect(script('require "gearman"; class GearmanAdapter; end; p [GearmanAdapter.name, defined?(ActiveJob)]'))
          .to eq('["GearmanAdapter", nil]')
      end
    end

    it "needs no Rails" do
      expect(script('require "active_job/queue_adapters/gearman_adapter"; p [defined?(Rails::Railtie), ' \
                    "ActiveJob::QueueAdapters::GearmanAdapter.new.class]")).to eq("[nil, #{described_class.name}]")
    end

    it "connects to nothing" do
      expect(script('require "socket"; TCPSocket.define_method(:initialize) { |*| abort "connected" }; ' \
                    "require \"active_job\"; require \"gearman\"; #{adapter}")).to eq(described_class.name)
    end
  end
end
