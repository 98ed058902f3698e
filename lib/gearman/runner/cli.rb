# frozen_string_literal: true

require "gearman/runner/cluster"
require "gearman/runner/log_formatter"
require "gearman/runner/notifier"
require "gearman/runner/options"
require "gearman/runner/probe"
require "gearman/runner/queue_check"
require "gearman/runner/signals"
require "gearman/runner/single"

module Gearman
  module Runner
    # gearman-worker. What the command line says goes before the environment, that before the configuration file, and
    # that before {Gearman.configure}.
    class CLI
      # Where the name of the environment is taken from.
      ENVIRONMENT_NAMES = %w[APP_ENV RAILS_ENV RACK_ENV].freeze
      RAILS = "config/environment.rb"
      private_constant :ENVIRONMENT_NAMES, :RAILS

      # What cannot be loaded.
      class BootError < Error; end
      private_constant :BootError

      # @param arguments [Array<String>]
      # @param env [Hash{String => String}, ENV]
      # @param out [IO]
      # @param err [IO]
      def initialize(arguments, env: ENV, out: $stdout, err: $stderr)
        @arguments = arguments
        @env = env
        @out = out
        @err = err
      end

      # @return [Integer] the status to end with: {OK}, {FAILED}, {USAGE} or {ABANDONED}
      def run
        @out.sync = true
        @options = Options.new(@arguments)
        perform(@options.action)
      rescue InvalidArgsError => e
        @err.puts("gearman-worker: #{e.message}")
        USAGE
      rescue Gearman::Error => e
        @err.puts("gearman-worker: #{e.message}")
        FAILED
      end

      private

      def configuration
        Gearman.configuration
      end

      def perform(action)
        case action
        when :help then say(@options.help)
        when :version then say("gearman-worker #{VERSION}")
        when :dead then dead
        when :check then check
        else work
        end
      end

      def say(text)
        @out.puts(text)
        OK
      end

      # The application is loaded for its settings: letters are looked for where its worker leaves them.
      def dead
        boot
        require "gearman/active_job/dead_letters"
        say("servers: #{configuration.effective_servers.join(", ")}")
        command, *queues = @options.arguments
        letters = Gearman::ActiveJob::DeadLetters.new(configuration.effective_servers, tls: configuration.tls || nil,
                                                                                       out: @out)
        queues.each do |queue|
          count = letters.public_send(command, queue)
          say("#{queue}: #{count} #{count == 1 ? "job" : "jobs"} #{{ "list" => "dead", "retry" => "submitted again",
                                                                     "purge" => "purged" }.fetch(command)}")
        end
        OK
      end

      def check
        boot
        Launcher.new(configuration).queues.each { |queue| say("queue #{queue}") }
        configuration.effective_servers.map { |server| answers?(server) }.all? ? OK : FAILED
      end

      def answers?(address)
        server = Server.new(address, tls: configuration.tls || nil)
        say("server #{address}: version #{server.version}")
        true
      rescue Gearman::Error => e
        say("server #{address}: #{e.message}")
        false
      ensure
        server&.close
      end

      def work
        boot
        embedded = start_embedded_server if @options.embedded?
        signals = Signals.new
        probe = nil
        process = process_with(signals) { probe&.close }
        probe = start_probe(process)
        banner
        @notifier = Notifier.new
        process.run.tap { |status| Gearman.logger.info("ended with status #{status}") }
      ensure
        probe&.stop
        signals&.restore
        embedded&.stop
      end

      # One that is to be replaced at times needs somebody to replace it.
      def process_with(signals, &let_go)
        recycled = configuration.max_jobs || configuration.max_memory
        kind = configuration.processes > 1 || recycled ? Cluster : Single
        queue_check = QueueCheck.new(configuration)
        each_second = lambda do |state|
          announce(state)
          queue_check.tick
        end
        kind.new(configuration, signals: signals, announce: each_second, &let_go)
      end

      # Called each second. A worker without a server is ready, too: to start it again would help nobody.
      def announce(state)
        case state
        when :ready, :live then @ready ||= @notifier.ready || true
        when :stopping then @stopping ||= @notifier.stopping || true
        end
        @notifier.alive unless state == :stuck
      end

      def start_probe(process)
        return unless configuration.probe_port

        Probe.new(configuration.probe_port) do |question|
          state = process.state
          question == :ready ? state == :ready : state != :stuck
        end
      end

      def start_embedded_server
        address = Address.parse(configuration.servers&.first || "127.0.0.1")
        server = EmbeddedServer.start(host: address.host, port: address.port)
        configuration.servers = [server.address]
        server
      end

      def banner
        Gearman.logger.info("gearman-worker #{VERSION}, Ruby #{RUBY_VERSION}, pid #{Process.pid}, #{@environment}")
        Gearman.logger.info("servers: #{configuration.effective_servers.join(", ")}")
        Gearman.logger.info("queues: #{Launcher.new(configuration).queues.join(", ")}")
        Gearman.logger.info("#{configuration.processes} x #{configuration.concurrency} jobs at once; " \
                            "TERM or Ctrl-C stops, running jobs have #{configuration.shutdown_timeout} s then")
      end

      # Reads the settings and loads the application.
      def boot
        choose_environment
        load_code(code_to_load)
        # What runs the jobs has to go by the same name as what submits them.
        @environment = ::Rails.env.to_s if defined?(::Rails.application) && ::Rails.application
        configure(file_settings)
        Gearman.default_logger = Logger.new(@out, level: configuration.log_level,
                                                  formatter: LogFormatter.for(configuration.log_format))
      end

      def choose_environment
        named = @env.values_at(*ENVIRONMENT_NAMES).compact.reject(&:empty?)
        @environment = @options.environment || named.first || "development"
        ENVIRONMENT_NAMES.each { |name| @env[name] = @environment } if @options.environment
      end

      # The file may ask what only the application knows, so it is read before that only if need be.
      def code_to_load
        @options.settings[:require] || (File.exist?(RAILS) ? "." : file_settings[:require])
      end

      def load_code(path)
        return unless path

        path = File.expand_path(path)
        file = File.directory?(path) ? File.join(path, RAILS) : path
        raise BootError, "there is no #{file} to load" unless File.exist?(file) || File.exist?("#{file}.rb")

        Kernel.require(file)
      rescue InvalidArgsError => e # to start again would not help
        place = e.backtrace&.find { |line| line.start_with?("#{File.dirname(file)}/") }
        raise InvalidArgsError, "#{place&.slice(/\A.+?:\d+/) || file}: #{e.message}"
      rescue Exception => e # rubocop:disable Lint/RescueException -- a SyntaxError, or whatever the file raises
        raise if e.is_a?(BootError) || e.is_a?(SignalException)

        raise BootError, "#{file} cannot be loaded: #{e.full_message(highlight: false)}"
      end

      def file_settings
        path = @options.file || ConfigurationFile.find(Dir.pwd) or return {}
        ConfigurationFile.read(path, @environment)
      end

      def configure(settings)
        configuration.update(settings)
        configuration.update_from_environment(@env)
        configuration.update(@options.settings)
        Gearman.forget_client # what was loaded may have used one that knows less
      end
    end
  end
end
