# frozen_string_literal: true

module Gearman
  # The ancestor of every error that this library raises.
  class Error < StandardError; end

  # An argument that cannot be sent or makes no sense; the message names it and its limit.
  class InvalidArgsError < Error; end

  # Bytes that are not the Gearman protocol, or an answer that does not belong to the question.
  class ProtocolError < Error; end

  # A server has refused a request, and said why.
  class RefusedError < ProtocolError
    # @return [String, nil] the server's name for the reason, such as "QUEUE_ERROR" or "ARGUMENT_TOO_LARGE"
    attr_reader :code

    # @param code [String]
    # @param text [String]
    # @param func [String] the function of the task that was refused
    # @return [RefusedError]
    # @api private
    def self.of_task(code, text, func)
      new("Received error when we were expecting JOB_CREATED: #{code} #{text} (#{func})", code)
    end

    # @param body [String] of the ERROR packet
    # @return [RefusedError]
    # @api private
    def self.of_request(body)
      code, text = body.to_s.split("\0", 2)
      new("#{code} #{text}", code)
    end

    # @param message [String]
    # @param code [String]
    def initialize(message = nil, code = nil)
      super(message)
      @code = code
    end
  end

  # A server cannot be reached, or the connection to it is lost.
  class NetworkError < Error
    # @return [Array<Task>] the tasks of which nobody knows whether a server has them
    attr_reader :tasks

    # How many reasons and tasks a message names.
    NAMED = 10
    private_constant :NAMED

    # @param reasons [Array<String>]
    # @param tasks [Array<Task>] those of which nobody knows whether a server has them
    # @return [NetworkError]
    # @api private
    def self.in_doubt(reasons, tasks)
      names = tasks.map { |task| "#{task.func} (#{task.get_uniq_hash})" }
      new("#{shortened(reasons)}; outcome unknown of #{shortened(names)}", tasks: tasks)
    end

    def self.shortened(names)
      return names.join(", ") if names.size <= NAMED

      "#{names.first(NAMED).join(", ")}, #{names.size - NAMED} more"
    end
    private_class_method :shortened

    # @param message [String]
    # @param tasks [Array<Task>]
    def initialize(message = nil, tasks: [])
      super(message)
      @tasks = tasks
    end
  end

  # No server is configured, or none can be reached.
  class NoJobServersError < Error; end

  # A task could not be put into its set.
  class JobQueueError < Error; end

  # A time-out passed; the connection is sound.
  class SocketTimeoutError < Error; end

  # A server cannot be reached, or was lost before anything of a request was sent: the request can go to another.
  class ServerDownException < NetworkError; end
end
