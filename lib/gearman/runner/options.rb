# frozen_string_literal: true

require_relative "../../gearman"
require "optparse"

module Gearman
  module Runner
    # The command line of gearman-worker.
    #
    # @api private
    class Options
      # @return [Hash{Symbol => Object}] for {Configuration#update}
      attr_reader :settings
      # @return [String, nil] the configuration file
      attr_reader :file
      # @return [String, nil]
      attr_reader :environment
      # @return [Symbol] :run, :check, :version, :help, :dead or :embedded
      attr_reader :action
      # @return [Array<String>] what follows the options
      attr_reader :arguments

      # @param arguments [Array<String>]
      # @raise [InvalidArgsError] when they make no sense
      def initialize(arguments)
        @settings = {}
        @action = :run
        @embedded = false
        @arguments = parser.parse(arguments)
        check_arguments
      rescue OptionParser::ParseError => e
        raise InvalidArgsError, e.message
      end

      # @return [Boolean] whether to start the embedded server, too
      def embedded?
        @embedded
      end

      # @return [String]
      def help
        parser.help
      end

      private

      def check_arguments
        return if @arguments.empty?

        @action = :dead if @arguments.shift == "dead"
        return if @action == :dead && %w[list retry purge].include?(@arguments.first) && @arguments.size > 1

        raise InvalidArgsError, "the commands are: dead list QUEUE..., dead retry QUEUE..., dead purge QUEUE..."
      end

      def parser
        OptionParser.new do |o|
          o.banner = "Usage: gearman-worker [options]\n       " \
                     "gearman-worker [options] dead list|retry|purge QUEUE...\n\n"
          what_to_run(o)
          how_to_run(o)
          what_to_say(o)
        end
      end

      def what_to_run(parser)
        set(parser, :require, "-r", "--require PATH", "a file to load, or the directory of a Rails application",
            "(the current one, if it is one)")
        parser.on("-q", "--queue NAME", "a queue to serve; several: the first before the others",
                  "(all that is defined; with ActiveJob its default queue and mailers)") { |name| add_queue(name) }
        parser.on("-s", "--server HOST:PORT", "a job server; several times for several",
                  "($GEARMAN_SERVERS, or localhost:4730)") { |server| (@settings[:servers] ||= []) << server }
        parser.on("-e", "--environment NAME", "($APP_ENV, $RAILS_ENV, $RACK_ENV, or development; with Rails",
                  "Rails.env, which does not ask $APP_ENV)") { |name| @environment = name }
        parser.on("-C", "--config FILE", "settings in YAML (config/gearman.yml, if it is there)") do |path|
          @file = path
        end
        parser.on("--embedded", "start a job server in this process, too: for development") { @embedded = true }
      end

      def how_to_run(parser)
        set(parser, :concurrency, "-c", "--concurrency N", "jobs that a process runs at once (5)")
        set(parser, :processes, "-w", "--workers N", "processes (1)")
        set(parser, :prefetch, "--prefetch N", "jobs that a thread asks for at once (1)")
        set(parser, :shutdown_timeout, "-t", "--timeout SECONDS", "that running jobs have at a TERM (25)")
        set(parser, :max_jobs, "--max-jobs N", "jobs, or a tenth more, after which another process takes over")
        set(parser, :max_memory, "--max-memory MIB", "memory at which another process takes over")
        set(parser, :probe_port, "--probe-port PORT", "where to answer /live and /ready")
      end

      def what_to_say(parser)
        set(parser, :tag, "-g", "--tag TAG", "part of the name that servers list the worker by")
        set(parser, :log_format, "--log-format FORMAT", "text or json (text)")
        parser.on("-v", "--verbose", "log more") { @settings[:log_level] = :debug }
        parser.on("--check", "check the configuration and the servers, and exit") { @action = :check }
        parser.on("-V", "--version", "print the version, and exit") { @action = :version }
        parser.on("-h", "--help", "print this, and exit") { @action = :help }
      end

      def set(parser, name, *description)
        parser.on(*description) { |value| @settings[name] = value }
      end

      def add_queue(name)
        if name.match?(/,\d+\z/)
          raise InvalidArgsError,
                "queues have no weights, unlike #{name.inspect}: the first is served before the others"
        end

        (@settings[:queues] ||= []).concat(name.split(","))
      end
    end
  end
end
