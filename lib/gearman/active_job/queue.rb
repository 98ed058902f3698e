# frozen_string_literal: true

require_relative "../../gearman"

module Gearman
  # What ActiveJob and Gearman have in common. A queue is a function of the same name; its scheduled jobs have a
  # function of their own, so that the jobs of now do not wait behind them, and so have those that failed for good.
  module ActiveJob
    # The names of a queue's functions.
    #
    # @api private
    module Queue
      # Ends the name of the function of a queue's scheduled jobs.
      SCHEDULED = ".scheduled"
      # Ends the name of the function of a queue's dead letters.
      DEAD = ".dead"
      # Bytes of a queue's name, at most.
      MAX_SIZE = 400

      RESERVED = [SCHEDULED, DEAD].freeze
      # Job servers list their functions in lines of columns.
      UNPRINTABLE = /[[:space:]\x00-\x08\x0e-\x1f\x7f]/
      private_constant :RESERVED, :UNPRINTABLE

      # @param name [#to_s]
      # @return [String] the function of the queue's jobs
      # @raise [InvalidArgsError] when no queue can have this name
      def self.function(name)
        name = name.to_s
        return name unless (reason = reason_against(name))

        raise InvalidArgsError, "#{name.inspect} cannot be the name of a queue: #{reason}"
      end

      # @param name [#to_s]
      # @return [String] the function of the queue's scheduled jobs
      # @raise (see .function)
      def self.scheduled(name)
        function(name) + SCHEDULED
      end

      # @param name [#to_s]
      # @return [String] the function of the queue's dead letters
      # @raise (see .function)
      def self.dead(name)
        function(name) + DEAD
      end

      # @return [String, nil]
      private_class_method def self.reason_against(name)
        return "it is empty" if name.empty?
        return "it is no text in #{name.encoding}" unless name.encoding.ascii_compatible? && name.valid_encoding?
        return "it has white space or control characters in it" if name.match?(UNPRINTABLE)
        return "names that end in #{RESERVED.join(" and ")} are taken" if name.end_with?(*RESERVED)

        "it has #{name.bytesize} bytes, more than #{MAX_SIZE}" if name.bytesize > MAX_SIZE
      end
    end
  end
end
