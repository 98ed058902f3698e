# frozen_string_literal: true

module Gearman
  # What is left of the API of gearman-ruby 3.0. Each call warns where Warning[:deprecated] is on, which
  # `ruby -W:deprecated` does.
  #
  # @api private
  module Deprecated
    # Methods that take a task, and took a function in 3.0.
    TAKE_TASKS = { do_task: "Client#do_task", add_task: "TaskSet#add_task" }.freeze

    class << self
      # @param name [String] below Gearman
      # @param replacement [String]
      # @param uplevel [Integer] frames between this one and the code to be changed
      # @return [void]
      def warn(name, replacement, uplevel: 2)
        Kernel.warn("Gearman::#{name} is deprecated; use #{replacement}", category: :deprecated, uplevel: uplevel)
      end

      # What a method that takes a task was called with.
      #
      # @param method [Symbol] one of {TAKE_TASKS}
      # @param func [String, Symbol, Object] a function, or something that acts as a task
      # @param arg [Object] the argument of the function, or whatever the method takes behind a task
      # @param opts [Hash, nil] the options of the task
      # @return [Array] the task, and what the method takes behind it
      def task_of(method, func, arg, opts)
        return [func, arg] if func.respond_to?(:background?)
        unless func.is_a?(String) || func.is_a?(Symbol)
          raise InvalidArgsError, "a task is a Gearman::Task, not #{func.inspect}"
        end

        warn("#{TAKE_TASKS.fetch(method)} with the name of a function", "a Gearman::Task", uplevel: 3)
        [Task.new(func, arg, opts), nil]
      end
    end
  end
  private_constant :Deprecated

  class Client
    # @deprecated Use {#set_options}.
    # @param option [String, Symbol]
    # @return [nil]
    # @raise (see #set_options)
    def option_request(option)
      Deprecated.warn("Client#option_request", "Gearman::Client#set_options")
      set_options(option)
      nil
    end

    # @deprecated Keep what the client was made with.
    # @return [Array<String>] all servers, as "host:port"
    def job_servers
      Deprecated.warn("Client#job_servers", "the list given to Gearman::Client.new")
      @connection_pool.connections.map(&:to_host_port)
    end

    # Changes the servers that further tasks go to.
    #
    # @deprecated Give them to {#initialize}.
    # @param servers [String, Symbol, Array<String, Symbol>, nil] see {Address.parse_list}
    # @raise [InvalidArgsError] when an address makes no sense; nothing is changed then
    def job_servers=(servers)
      Deprecated.warn("Client#job_servers=", "Gearman::Client.new")
      @connection_pool.replace_servers(servers)
    end

    # @deprecated Use {#ping}.
    # @return [Array<String>] the servers that could not be used when they were last tried, as "host:port"
    def bad_servers
      Deprecated.warn("Client#bad_servers", "Gearman::Client#ping")
      @connection_pool.connections.select(&:down?).map(&:to_host_port)
    end
  end

  class Worker
    # @deprecated Keep what the worker was made with.
    # @return [Array<String>] all servers, as "host:port"
    def job_servers
      Deprecated.warn("Worker#job_servers", "the list given to Gearman::Worker.new")
      @connection_pool.connections.map(&:to_host_port)
    end

    # Changes the servers. A running {#work} keeps those that it has until it is called again.
    #
    # @deprecated Give them to {#initialize}.
    # @param servers [String, Symbol, Array<String, Symbol>, nil] see {Address.parse_list}
    # @raise [InvalidArgsError] when an address makes no sense; nothing is changed then
    def job_servers=(servers)
      Deprecated.warn("Worker#job_servers=", "Gearman::Worker.new")
      close unless @working
      @connection_pool.replace_servers(servers)
    end

    # @deprecated Set a logger, which is told of each server that is lost.
    # @return [Array<String>] the servers that could not be used when they were last tried, as "host:port"
    def bad_servers
      Deprecated.warn("Worker#bad_servers", "Gearman.logger=")
      @connection_pool.connections.select(&:down?).map(&:to_host_port)
    end
  end

  class ConnectionPool
    # Keeps the connections of servers that stay.
    #
    # @api private
    def replace_servers(servers)
      before = job_servers
      self.job_servers = Address.parse_list(servers).map do |address|
        before.find { |connection| connection.to_host_port == address.to_s } ||
          add_connection(Connection.new(address.host, address.port))
      end
    end
  end

  class Connection
    # @return [Boolean] whether the server could not be used when it was last tried
    # @api private
    def down?
      known == false
    end
  end

  # Helpers of gearman-ruby 3.0.
  #
  # @!parse
  #   class Util
  #     # @deprecated Use {Packet::COMMANDS}.
  #     # @return [Hash{Integer => Symbol}]
  #     COMMANDS = Packet::COMMANDS
  #     # @deprecated Use {Packet::NUMS}.
  #     # @return [Hash{Symbol => Integer}]
  #     NUMS = Packet::NUMS
  #     # @deprecated Use {Address::DEFAULT_PORT}.
  #     # @return [Integer]
  #     DEFAULT_PORT = Address::DEFAULT_PORT
  #   end
  class Util
    class << self
      # @deprecated Use {Gearman.logger}.
      # @return (see Gearman.logger)
      def logger
        Deprecated.warn("Util.logger", "Gearman.logger")
        Gearman.logger
      end

      # @deprecated Use {Gearman.logger=}.
      # @param logger [#debug, #info, #warn, #error, nil]
      def logger=(logger)
        Deprecated.warn("Util.logger=", "Gearman.logger=")
        Gearman.logger = logger
      end

      # Sets the level of the logger, if it has one.
      #
      # @deprecated Set `Gearman.logger.level`.
      # @param debug [Boolean]
      def debug=(debug)
        Deprecated.warn("Util.debug=", "Gearman.logger.level=")
        logger = Gearman.logger
        logger.level = debug ? Logger::DEBUG : Logger::WARN if logger.respond_to?(:level=)
      end

      # @deprecated Use {Packet.pack_request}.
      # @param type_name [Symbol, String]
      # @param arg [String, nil]
      # @return (see Packet.pack_request)
      # @raise (see Packet.pack_request)
      def pack_request(type_name, arg = "")
        Deprecated.warn("Util.pack_request", "Gearman::Packet.pack_request")
        Packet.pack_request(type_name, arg)
      end

      # @deprecated Use {Address.parse_list}.
      # @param servers [String, Symbol, Array<String, Symbol>]
      # @return [Array<String>] "host:port" of each
      # @raise [InvalidArgsError] when an address makes no sense
      def normalize_job_servers(servers)
        Deprecated.warn("Util.normalize_job_servers", "Gearman::Address.parse_list")
        Address.parse_list(servers).map(&:to_s)
      end

      # @deprecated Use {Task#initialize}.
      # @param args [Array] a task, or what makes one
      # @return [Task]
      # @raise [InvalidArgsError] when they make none
      def get_task_from_args(*args)
        Deprecated.warn("Util.get_task_from_args", "Gearman::Task.new")
        return args.first if args.first.is_a?(Task)
        return Task.new(*args) if args.size.between?(1, 3)

        raise InvalidArgsError, "a task is made of a function, its argument and options, not of #{args.size} values"
      end

      # @deprecated Put the tabulator between them.
      # @param prefix [String]
      # @param name [String] of a function
      # @return [String] the name as workers in Perl announce it
      def ability_name_with_prefix(prefix, name)
        Deprecated.warn("Util.#{__callee__}", '"#{prefix}\t#{name}"') # rubocop:disable Lint/InterpolationCheck
        "#{prefix}\t#{name}"
      end
      alias ability_name_for_perl ability_name_with_prefix

      # The constants of 3.0 are those of other classes.
      #
      # @api private
      def const_missing(name)
        case name
        when :COMMANDS, :NUMS then owner = Packet
        when :DEFAULT_PORT then owner = Address
        else return super
        end
        Deprecated.warn("Util::#{name}", "#{owner}::#{name}")
        owner.const_get(name)
      end
    end
  end
end
