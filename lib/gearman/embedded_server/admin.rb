# frozen_string_literal: true

module Gearman
  class EmbeddedServer
    # The text commands.
    # @private
    class Admin
      MAX_WORDS = 5
      LEVELS = %w[DEBUG INFO WARNING ERROR FATAL].freeze # of Logger, as gearmand calls them
      OK = "OK\r\n"
      END_OF_LIST = ".\n"
      private_constant :MAX_WORDS, :LEVELS, :OK, :END_OF_LIST

      # @param connections [#call] gives the connections
      def initialize(broker, connections, logger)
        @broker = broker
        @connections = connections
        @logger = logger
      end

      # @param line [String] without its end
      # @return [String] the answer with its line ends
      # @raise [ProtocolError] too many words
      def answer(line)
        name, *words = line.split(/ /)
        raise ProtocolError, "command of more than #{MAX_WORDS} words" if words.size >= MAX_WORDS

        case name.to_s.downcase
        when "status" then list(@broker.functions.values) { |f| [f.name, f.total, f.running, f.workers] }
        when "prioritystatus" then list(@broker.functions.values) { |f| [f.name, *f.queued, f.workers] }
        when "workers" then workers
        when "version" then "OK #{FOLLOWS}\n"
        when "verbose" then "OK #{LEVELS[level] || LEVELS.last}\n"
        when "getpid" then "OK #{Process.pid}\n"
        when "show" then words.empty? ? unknown(name) : show(words.join(" ").downcase)
        when "cancel" then words.size < 2 ? unknown(name) : cancel(*words)
        when "create" then function_command(name, words) { |function| create(function) }
        when "drop" then function_command(name, words) { |function| drop(function) }
        when "maxqueue" then words.empty? ? incomplete(name) : max_queue(*words)
        else unknown(name)
        end
      end

      private

      def list(items)
        items.map { |item| "#{yield(item).join("\t")}\n" }.join << END_OF_LIST
      end

      def workers
        list(@connections.call) do |connection|
          names = connection.abilities.map { |ability| " #{ability.function.name}" }.join
          ["#{connection.to_io.fileno} #{connection.host} #{connection.client_id} :#{names}"]
        end
      end

      def show(what)
        case what
        when "jobs"
          list(@broker.jobs.values) { |job| [job.handle, job.retries, job.ignored ? 1 : 0, stored?(job) ? 1 : 0] }
        when "unique jobs" then list(@broker.jobs.values) { |job| [job.unique] }
        else "ERR UNKNOWN_SHOW_ARGUMENTS\r\n"
        end
      end

      # Whether gearmand would have it in its persistent queue.
      def stored?(job)
        job.background && !job.ignored
      end

      def cancel(what, handle, *)
        return "ERR UNKNOWN_ERROR\r\n" unless what.casecmp?("job")

        @broker.cancel(handle) ? OK : "ERR UNKNOWN_JOB\r\n"
      end

      def function_command(command, words)
        return incomplete(command) unless words.size >= 2 && words.first.casecmp?("function")

        yield words[1]
      end

      def create(name)
        @broker.function(name)
        OK
      end

      def drop(name)
        function = @broker.functions.each_value.find { |candidate| candidate.name.casecmp?(name) }
        return "ERR function not found\r\n" unless function
        return OK if @broker.drop_function(function)

        "ERR there are still connected workers or executing clients\r\n"
      end

      # One limit for all priorities, or one for each; what is missing or no number means none.
      def max_queue(name, *limits)
        limits = limits.map { |limit| [limit.to_i, Function::UNLIMITED].max }
        limits *= Function::PRIORITIES.size if limits.size == 1
        function = @broker.functions[name]
        function.limits = Function::PRIORITIES.map { |priority| limits[priority] || Function::UNLIMITED } if function
        OK
      end

      def incomplete(command)
        "ERR INVALID_ARGUMENTS An+incomplete+set+of+arguments+was+sent+to+this+command+#{command}\r\n"
      end

      def unknown(command)
        "ERR UNKNOWN_COMMAND Unknown+server+command#{command}\r\n"
      end

      def level
        @logger.respond_to?(:level) ? @logger.level : Logger::WARN
      end
    end
  end
end
