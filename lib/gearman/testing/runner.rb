# frozen_string_literal: true

module Gearman
  module Testing
    # Has a worker run a job as if a server had assigned it.
    #
    # @api private
    module Runner
      # Where a thread keeps the error that its job raised.
      ERROR = :gearman_testing_error

      # Stands in for the connection that a job came on.
      class Recorder
        # @return [Array<Array>] what was sent, without the handle
        attr_reader :packets

        def initialize
          @parser = Packet::Parser.new(:request, 1 << 30)
          @packets = []
        end

        # @param bytes [String] a packet
        def send_update(bytes)
          @parser.feed(bytes)
          while (type, body = @parser.next_packet)
            @packets << [type, *Packet.split(type, body).drop(1)]
          end
        end

        # @return [String] for messages
        def to_host_port
          "testing"
        end
        alias to_s to_host_port
      end

      # Calls the block with the error that the job raised.
      #
      # @param submission [Submission]
      # @yieldparam error [StandardError]
      # @return [void]
      def self.run(submission)
        worker = Testing.worker_for(submission.func)
        recorder = Recorder.new
        outer = Thread.current.thread_variable_get(ERROR)
        Thread.current.thread_variable_set(ERROR, nil)
        worker.handle_job_assign([submission.handle, submission.func, submission.data].join("\0"), recorder)
        submission.ended(recorder.packets)
        return unless recorder.packets.last&.first == :work_exception

        yield Thread.current.thread_variable_get(ERROR) || Error.new(recorder.packets.last[1])
      ensure
        Thread.current.thread_variable_set(ERROR, outer)
      end
    end
  end
end
