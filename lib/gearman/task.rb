# frozen_string_literal: true

require "digest/sha1"
require "securerandom"

module Gearman
  # A job for a server: what to do, with which argument, and what to call when something happens to it.
  class Task
    NO_OPTIONS = {}.freeze
    private_constant :NO_OPTIONS

    # @return [String, nil] tasks of one function with the same one are one job for the server; set it before
    #   the task is submitted
    attr_accessor :uniq
    # @return [Integer] how often the task is submitted again when it failed
    attr_writer :retry_count
    # @return [Symbol, nil] :high or :low
    attr_accessor :priority
    # @return [Boolean, nil] whether nobody waits for the result
    attr_accessor :background
    # @return [Object] kept for code that sets it; {#schedule} is what counts
    attr_accessor :epoch
    # @return [String] the function
    attr_reader :func
    # @return [Object] the argument; what is sent is its {#payload}
    attr_reader :arg

    # @return [String, nil] what the server calls the job of a background task
    attr_reader :handle
    # @return [Error, nil] why {Client#submit_all} could not submit it
    attr_accessor :error

    # @param func [#to_s] the function
    # @param arg [Object] the argument: a String as it is, anything else by its to_s
    # @param opts [Hash] on_complete, on_fail, on_retry, on_exception, on_status, on_warning, on_data: see the
    #   methods of these names; uniq, retry_count, priority, background: see the attributes; schedule_at: see
    #   {#schedule}; hash: the unique itself, of at most 63 bytes; coalesce: false gives the task a unique of
    #   its own. The Hash is not changed
    # @raise [InvalidArgsError] for any other option
    def initialize(func, arg = "", opts = NO_OPTIONS)
      # What most tasks leave at its default is not set: variables are a part of the price of a small task.
      @func = func.to_s
      @arg = arg
      take_options(opts) unless opts.nil? || opts.empty?
    end

    # @return [Integer] how often the task is submitted again when it failed
    def retry_count
      @retry_count || 0
    end

    # @return [Boolean] whether it ran and did not fail
    def successful
      @successful || false
    end

    # @return [Integer] how often it was submitted again
    def retries_done
      @retries_done || 0
    end

    # Runs the job at a certain time, or later when every worker is busy. It is a background job then.
    #
    # @param time [Time, Numeric] or seconds since the epoch; a fraction is dropped
    # @return [Time, Numeric] the time
    def schedule(time)
      @schedule_at = time
    end

    # @return [Boolean] whether nobody waits for the result: a background task, or a scheduled one
    def background?
      @background || @schedule_at ? true : false
    end

    # Makes the task as good as new.
    #
    # @return [self]
    def reset_state
      @retries_done = 0
      @successful = false
      self
    end

    # @!macro callback
    #   @return [Proc] the block

    # When the task has completed.
    # @yieldparam result [String]
    # @macro callback
    def on_complete(&block) = @on_complete = block

    # When the task has failed and is not tried again.
    # @yield
    # @macro callback
    def on_fail(&block) = @on_fail = block

    # When the task has failed and is tried again.
    # @yieldparam count [Integer] which retry it is
    # @macro callback
    def on_retry(&block) = @on_retry = block

    # When the worker raised an error; needs `client.set_options("exceptions")`. The task has failed.
    # @yieldparam message [String]
    # @macro callback
    def on_exception(&block) = @on_exception = block

    # When the worker reports progress.
    # @yieldparam numerator [String]
    # @yieldparam denominator [String]
    # @macro callback
    def on_status(&block) = @on_status = block

    # When the worker sends a warning.
    # @yieldparam message [String]
    # @macro callback
    def on_warning(&block) = @on_warning = block

    # When the worker sends a part of its result.
    # @yieldparam data [String]
    # @macro callback
    def on_data(&block) = @on_data = block

    # When a server has taken the task.
    # @yieldparam handle [String]
    # @macro callback
    def on_created(&block) = @on_created = block

    # @param data [String]
    # @return [self]
    def handle_completion(data)
      @successful = true
      @on_complete&.call(data)
      self
    end

    # @param handle [String]
    # @return [self]
    def handle_created(handle)
      @handle = handle
      @on_created&.call(handle)
      self
    end

    # Records a failure.
    #
    # @return [Boolean] whether to submit the task again
    def handle_failure
      if retries_done >= retry_count
        @on_fail&.call
        return false
      end
      @retries_done = retries_done + 1
      @on_retry&.call(@retries_done)
      true
    end

    # @param message [String]
    # @return [self]
    def handle_exception(message)
      @on_exception&.call(message)
      self
    end

    # @param numerator [String]
    # @param denominator [String]
    # @return [self]
    def handle_status(numerator, denominator)
      @on_status&.call(numerator, denominator)
      self
    end

    # @param message [String]
    # @return [self]
    def handle_warning(message)
      @on_warning&.call(message)
      self
    end

    # @param data [String]
    # @return [self]
    def handle_data(data)
      @on_data&.call(data)
      self
    end

    # The unique of the task: the SHA1 of its `uniq`, or else of its function and argument, so that equal
    # tasks are one job. It is made once.
    #
    # @return [String] 40 hexadecimal digits, or what `hash:` gave
    def get_uniq_hash
      @hash ||= @coalesce == false ? own_unique : shared_unique
    end

    # Gives a task that has none a unique, instead of the one made of its function and argument.
    #
    # @return [String] the unique of the task
    # @api private
    def unique_or
      @hash ||= @uniq.nil? ? yield : shared_unique
    end

    # @return [String] what is sent as the argument
    def payload
      case @arg
      when String then @arg
      when Array then @arg.join("\0")
      else @arg.to_s
      end
    end

    # @!method command
    #   @return [Symbol] the packet that submits it, see {Packet::COMMANDS}

    # @return [Integer, nil] when it is to run, in seconds since the epoch
    def run_at
      @schedule_at&.to_i
    end

    # @return [String] the packet that submits it
    # @raise [InvalidArgsError] when it cannot be sent, see {Packet.encode}
    def get_submit_packet
      parts = [func, get_uniq_hash, payload]
      parts.insert(2, run_at.to_s) if @schedule_at
      Packet.encode(command, *parts)
    end

    # Tells the task what happened to it.
    #
    # @param event [Symbol] the packet that came
    # @param one [String, nil] what came with it
    # @param other [String, nil]
    # @return [Symbol, nil] :ended when that was the last, :retry when it is to be submitted again
    # @raise [ProtocolError] for a packet that is not about a task
    # @api private
    def receive(event, one, other)
      case event
      when :job_created
        handle_created(one)
        background? ? :ended : nil
      when :work_complete
        handle_completion(one)
        :ended
      when :work_fail then failed
      when :work_exception
        handle_exception(one)
        failed
      when :work_status then handle_status(one, other) && nil
      when :work_data then handle_data(one) && nil
      when :work_warning then handle_warning(one) && nil
      else raise ProtocolError, "Received #{event}, which is not about a task"
      end
    end

    private

    def failed
      handle_failure ? :retry : :ended
    end

    # A case is several times as fast as setting variables by their names.
    def take_options(opts)
      unknown = nil
      opts.each_pair do |name, value|
        case name
        when :on_complete then @on_complete = value
        when :on_fail then @on_fail = value
        when :on_retry then @on_retry = value
        when :on_exception then @on_exception = value
        when :on_status then @on_status = value
        when :on_warning then @on_warning = value
        when :on_data then @on_data = value
        when :uniq then @uniq = value
        when :priority then @priority = value
        when :background then @background = value
        when :schedule_at then @schedule_at = value
        when :coalesce then @coalesce = value
        when :retry_count then @retry_count = value
        when :hash then @hash = value&.to_s
        else (unknown ||= []) << name.to_s
        end
      end
      raise InvalidArgsError, "Invalid task args: #{unknown.sort.join(", ")}" if unknown
    end

    def shared_unique
      digest = Digest::SHA1.new
      @uniq.nil? ? digest.update(@func).update(@arg.to_s) : digest.update(@uniq.to_s)
      digest.hexdigest!
    end

    def own_unique
      SecureRandom.uuid
    end
  end

  # A task that nobody waits for.
  class BackgroundTask < Task
    # @param (see Task#initialize)
    # @raise (see Task#initialize)
    def initialize(func, arg = "", opts = NO_OPTIONS)
      super
      @background = true
    end
  end
end
