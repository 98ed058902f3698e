# frozen_string_literal: true

require "digest/sha1"
require "securerandom"
require_relative "logging"
require_relative "packet"

module Gearman
  # A job for a server: what to do, with which argument, and what to call when something happens to it.
  class Task
    # @!method initialize(func, arg = "", opts = {})
    #   @param func [#to_s] the function
    #   @param arg [Object] the argument: a String as it is, anything else by its to_s
    #   @param opts [Hash, nil] on_complete, on_fail, on_retry, on_exception, on_status, on_warning, on_data: see the
    #     methods of these names; uniq, retry_count, priority, background: see the attributes; schedule_at: see
    #     {#schedule}; hash: the unique itself, of at most 63 bytes; coalesce: false gives the task a unique of
    #     its own. The Hash is not changed
    #   @raise [InvalidArgsError] for any other option, and for a value that makes no sense

    # @!attribute [r] func
    #   @return [String] the function
    # @!attribute [r] arg
    #   @return [Object] the argument; what is sent is its {#payload}
    # @!attribute [rw] uniq
    #   @return [String, nil] tasks of one function with the same one are one job for the server; set it before
    #     the task is submitted
    # @!attribute [rw] retry_count
    #   @return [Integer] how often the task is submitted again when it failed, from 0
    # @!attribute [rw] priority
    #   @return [Symbol, nil] :high, :normal or :low; may be set to a String of the same name
    # @!attribute [rw] background
    #   @return [Boolean, nil] whether nobody waits for the result
    # @!attribute [rw] epoch
    #   @return [Object] kept for code that sets it; {#schedule} is what counts
    # @!attribute [r] handle
    #   @return [String, nil] what the server calls the job of a background task
    # @!attribute [rw] error
    #   @return [Error, nil] why {Client#submit_all} could not submit it
    # @!attribute [r] successful
    #   @return [Boolean] whether it ran and did not fail
    # @!attribute [r] retries_done
    #   @return [Integer] how often it was submitted again

    # @!method schedule(time)
    #   Runs the job at a certain time, or later when every worker is busy. It is a background job then.
    #   @param time [Time, Numeric] or seconds since the epoch; a fraction is dropped
    #   @return [Time, Numeric] the time
    #   @raise [InvalidArgsError] for anything else, a String say

    # @!method run_at
    #   @return [Integer, nil] when it is to run, in seconds since the epoch

    # @!method background?
    #   @return [Boolean] whether nobody waits for the result: a background task, or a scheduled one

    # @!method reset_state
    #   Makes the task as good as new.
    #   @return [self]

    # @!macro callback
    #   @return [Proc] the block

    # @!method on_complete(&block)
    #   When the task has completed.
    #   @yieldparam result [String]
    #   @macro callback

    # @!method on_fail(&block)
    #   When the task has failed and is not tried again.
    #   @yield
    #   @macro callback

    # @!method on_retry(&block)
    #   When the task has failed and is tried again.
    #   @yieldparam count [Integer] which retry it is
    #   @macro callback

    # @!method on_exception(&block)
    #   When the worker raised an error; needs `client.set_options("exceptions")`. The task has failed.
    #   @yieldparam message [String]
    #   @macro callback

    # @!method on_status(&block)
    #   When the worker reports progress.
    #   @yieldparam numerator [String]
    #   @yieldparam denominator [String]
    #   @macro callback

    # @!method on_warning(&block)
    #   When the worker sends a warning, which is logged otherwise.
    #   @yieldparam message [String]
    #   @macro callback

    # @!method on_data(&block)
    #   When the worker sends a part of its result.
    #   @yieldparam data [String]
    #   @macro callback

    # @!method on_created(&block)
    #   When a server has taken the task.
    #   @yieldparam handle [String]
    #   @macro callback

    # @!method handle_completion(data)
    #   @param data [String]
    #   @return [self]

    # @!method handle_created(handle)
    #   @param handle [String]
    #   @return [self]

    # @!method handle_failure
    #   Records a failure.
    #   @return [Boolean] whether to submit the task again

    # @!method handle_exception(message)
    #   @param message [String]
    #   @return [self]

    # @!method handle_status(numerator, denominator)
    #   @param numerator [String]
    #   @param denominator [String]
    #   @return [self]

    # @!method handle_warning(message)
    #   @param message [String]
    #   @return [self]

    # @!method handle_data(data)
    #   @param data [String]
    #   @return [self]

    # @!method get_uniq_hash
    #   The unique of the task: the SHA1 of its `uniq`, or else of its function and argument, so that equal
    #   tasks are one job. It is made once.
    #   @return [String] 40 hexadecimal digits, or what `hash:` gave

    # @!method unique_or
    #   Gives a task that has none a unique, instead of the one made of its function and argument.
    #   @yieldreturn [String]
    #   @return [String] the unique of the task
    #   @api private

    # @!method command
    #   @return [Symbol] the packet that submits it, see {Packet::COMMANDS}

    # @return [String] what is sent as the argument
    def payload
      case arg
      when String then arg
      when Array then arg.join("\0")
      else arg.to_s
      end
    end

    # @return [String] the packet that submits it
    # @raise [InvalidArgsError] when it cannot be sent, see {Packet.encode}
    def get_submit_packet
      Packet.encode(command, *[func, get_uniq_hash, run_at&.to_s, payload].compact)
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

    def shared_unique
      digest = Digest::SHA1.new
      uniq.nil? ? digest.update(func).update(arg.to_s) : digest.update(uniq.to_s)
      digest.hexdigest!
    end

    # Of a warning that no callback takes.
    def log_warning(message)
      Gearman.logger.warn { "#{Logging.printable(func)} warns: #{Logging.printable(message.to_s)}" }
    end

    def own_unique
      SecureRandom.uuid
    end
  end

  # A task that nobody waits for.
  class BackgroundTask < Task
  end
end
