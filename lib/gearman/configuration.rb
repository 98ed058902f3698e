# frozen_string_literal: true

module Gearman
  # What gearman-worker, the Rails integration and {Gearman.client} go by.
  #
  #   Gearman.configure do |config|
  #     config.servers = %w[10.0.0.1:4730 10.0.0.2:4730]
  #     config.queues = %w[critical default mailers]
  #     config.on_error { |error, context| Sentry.capture_exception(error, extra: context) }
  #   end
  class Configuration
    # Whole numbers where the limits are such.
    NUMBERS = {
      concurrency: 1..1000, processes: 1..1000, prefetch: 1..1000, shutdown_timeout: 0.0..86_400.0,
      probe_port: 1..65_535, max_jobs: 1..1_000_000_000, max_memory: 16..1_048_576, queue_check: 1.0..86_400.0
    }.freeze
    DEFAULTS = {
      servers: nil, tls: nil, queues: nil, concurrency: 5, processes: 1, prefetch: 1, shutdown_timeout: 25, tag: nil,
      log_format: :text, log_level: :info, probe_port: nil, max_jobs: nil, max_memory: nil, queue_check: 30,
      dead_letters: true, priority: nil, require: nil
    }.freeze
    # Settings by the environment variable that they are taken from.
    ENVIRONMENT = {
      servers: "GEARMAN_SERVERS", queues: "GEARMAN_QUEUES", concurrency: "RAILS_MAX_THREADS",
      processes: "JOB_CONCURRENCY", shutdown_timeout: "GEARMAN_SHUTDOWN_TIMEOUT", probe_port: "GEARMAN_PROBE_PORT"
    }.freeze
    LOG_FORMATS = %i[text json].freeze
    LOG_LEVELS = %i[debug info warn error fatal].freeze
    private_constant :NUMBERS, :DEFAULTS, :ENVIRONMENT, :LOG_FORMATS, :LOG_LEVELS

    # The settings that have a name, and so can stand in a file.
    SETTINGS = DEFAULTS.keys.freeze

    # @!macro [new] setting
    #   @raise [InvalidArgsError] when the value makes no sense

    # @!attribute servers
    #   @return [Array<String>, nil] "host", "host:port", "[IPv6]:port"; nil: those in the environment variable
    #     GEARMAN_SERVERS, or else the one on this machine
    # @!attribute tls
    #   @return [TLS, nil] whether and how to speak TLS with them; set as for {TLS#initialize}
    # @!attribute queues
    #   @return [Array<String>, nil] what gearman-worker serves, the first before the others; nil: all that it can
    # @!attribute concurrency
    #   @return [Integer] how many jobs a process runs at once (5)
    # @!attribute processes
    #   @return [Integer] how many processes gearman-worker has (1)
    # @!attribute prefetch
    #   @return [Integer] see {Worker#prefetch} (1)
    # @!attribute shutdown_timeout
    #   @return [Numeric] seconds that running jobs have when the worker is stopped (25)
    # @!attribute tag
    #   @return [String, nil] part of the name that servers list the worker by
    # @!attribute log_format
    #   @return [Symbol] :text or :json
    # @!attribute log_level
    #   @return [Symbol] :debug, :info, :warn, :error or :fatal
    # @!attribute probe_port
    #   @return [Integer, nil] where gearman-worker answers /live and /ready; nil: nowhere
    # @!attribute max_jobs
    #   @return [Integer, nil] how many jobs a process runs before another takes its place
    # @!attribute max_memory
    #   @return [Integer, nil] how many MiB a process may have before another takes its place
    # @!attribute queue_check
    #   @return [Numeric] seconds between looks for queues with jobs and no worker (30)
    # @!attribute dead_letters
    #   @return [Boolean] whether ActiveJobs that failed for good are kept (true)
    # @!attribute priority
    #   @return [#call, nil] is given an ActiveJob and returns :high, :low or nil
    # @!attribute require
    #   @return [String, nil] the file, or the directory of a Rails application, that gearman-worker loads
    SETTINGS.each do |name|
      define_method(name) { @settings.fetch(name, DEFAULTS[name]) }
      define_method(:"#{name}=") do |value|
        value.nil? ? @settings.delete(name) : @settings[name] = checked(name, value)
      end
    end

    def initialize
      @settings = {}
      @error_handlers = []
      @job_wrappers = []
    end

    # Sets several settings.
    #
    # @param settings [Hash{#to_sym => Object}]
    # @return [self]
    # @raise [InvalidArgsError] when there is no such setting, or a value makes no sense
    def update(settings)
      settings.each do |name, value|
        unless SETTINGS.include?(name.to_sym)
          raise InvalidArgsError, "there is no setting #{name.to_s.inspect}; there are #{SETTINGS.join(", ")}"
        end

        public_send(:"#{name}=", value)
      end
      self
    end

    # Takes the settings that environment variables have.
    #
    # @param env [Hash{String => String}, ENV]
    # @return [void]
    # @raise [InvalidArgsError] when a value makes no sense
    # @api private
    def update_from_environment(env)
      ENVIRONMENT.each do |setting, name|
        value = env[name].to_s
        public_send(:"#{setting}=", value) unless value.empty?
      rescue InvalidArgsError => e
        raise InvalidArgsError, "$#{name}: #{e.message}"
      end
      self.log_level = :debug if env["DEBUG_INVOCATION"].to_s == "1" # systemd
    end

    # Calls the block with each error that failed a job in a worker of gearman-worker or of Rails.
    #
    # @yieldparam error [Exception]
    # @yieldparam context [Hash] `job:` the {Worker::Job}, `function:`, `handle:`, `unique:`
    # @return [self]
    # @raise [InvalidArgsError] when there is no block
    def on_error(&block)
      raise InvalidArgsError, "on_error needs a block" unless block

      @error_handlers += [block]
      self
    end

    # Calls the block around each job of such a worker, see {Worker#around_job}.
    #
    # @yieldparam job [Worker::Job]
    # @yieldparam run [#call]
    # @return [self]
    # @raise [InvalidArgsError] when there is no block
    def around_job(&block)
      raise InvalidArgsError, "around_job needs a block" unless block

      @job_wrappers += [block]
      self
    end

    # @return [Array<Proc>]
    # @api private
    attr_reader :error_handlers, :job_wrappers

    # @return [#debug, #info, #warn, #error] {Gearman.logger}
    def logger
      Gearman.logger
    end

    # gearman-worker logs to it, too, as it is: `log_level` and `log_format` are for the logger of its own.
    #
    # @param logger [#debug, #info, #warn, #error]
    def logger=(logger)
      Gearman.logger = logger
    end

    # @return [Array<String>] the servers, with what stands for none
    # @raise [InvalidArgsError] when what the environment says makes no sense
    # @api private
    def effective_servers
      return servers if servers

      list = ENV["GEARMAN_SERVERS"].to_s
      Address.parse_list(list.empty? ? "localhost" : list).map(&:to_s)
    end

    private

    def checked(name, value)
      return number(name, value) if NUMBERS.key?(name)

      case name
      when :servers then servers_of(value)
      when :queues then queues_of(value)
      when :tls then TLS.for(value.is_a?(Hash) ? value.transform_keys(&:to_sym) : value) || false
      when :tag then tag_of(value)
      when :log_format then one_of(name, value, LOG_FORMATS)
      when :log_level then one_of(name, value, LOG_LEVELS)
      when :dead_letters then one_of(name, value, [true, false])
      when :priority then callable(name, value)
      else String(value)
      end
    end

    def number(name, value)
      limits = NUMBERS[name]
      whole = limits.begin.is_a?(Integer)
      number = value
      number = whole ? Integer(value, 10, exception: false) : Float(value, exception: false) if value.is_a?(String)
      return number if number.is_a?(whole ? Integer : Numeric) && limits.cover?(number)

      raise InvalidArgsError, "#{name} is a #{"whole " if whole}number from #{limits.begin} to #{limits.end}, " \
                              "not #{value.inspect}"
    end

    def servers_of(value)
      servers = Address.parse_list(value).map(&:to_s)
      raise InvalidArgsError, "servers is a list of addresses, not #{value.inspect}" if servers.empty?

      servers
    end

    def queues_of(value)
      queues = (value.is_a?(String) ? value.split(",") : Array(value)).map { |queue| queue.to_s.strip }
      raise InvalidArgsError, "queues is a list of names, not #{value.inspect}" if queues.empty? || queues.any?("")

      queues.uniq
    end

    def tag_of(value)
      tag = value.to_s
      return tag unless tag.match?(/[[:space:]]|[[:cntrl:]]/) || tag.bytesize > 64

      raise InvalidArgsError, "a tag has at most 64 bytes and no white space, unlike #{tag.inspect}"
    end

    def one_of(name, value, choices)
      found = choices.find { |choice| choice == value || choice.to_s == value.to_s }
      return found unless found.nil?

      raise InvalidArgsError, "#{name} is one of #{choices.join(", ")}, not #{value.inspect}"
    end

    def callable(name, value)
      return value if value.respond_to?(:call)

      raise InvalidArgsError, "#{name} is something to call, not #{value.inspect}"
    end
  end

  class << self
    # @return [Configuration]
    def configuration
      @configuration || MUTEX.synchronize { @configuration ||= Configuration.new }
    rescue ThreadError # a trap cannot wait for a lock
      @configuration ||= Configuration.new
    end

    # @yieldparam configuration [Configuration]
    # @return [Configuration]
    def configure
      yield configuration
      configuration
    end

    # The client of this process, made from the {configuration} when it is first asked for.
    #
    # @return [Client]
    # @raise [InvalidArgsError] when the configuration makes no sense
    def client
      return @client if @client

      settings = configuration
      MUTEX.synchronize { @client ||= @own_client = Client.new(settings.effective_servers, tls: settings.tls) }
    end

    # Has the next {client} made of what is configured by then. One that the application has set stays.
    #
    # @return [void]
    # @api private
    def forget_client
      @client = nil if @client.equal?(@own_client)
    end

    # @return [Client, nil] nil: another is made when it is next asked for
    attr_writer :client
  end

  MUTEX = Mutex.new
  private_constant :MUTEX
end
