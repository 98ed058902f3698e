# frozen_string_literal: true

require "json"
require "securerandom"
require "time"
require "gearman/active_job/queue"
require "gearman/active_job/submission"

module Gearman
  module ActiveJob
    # A job that failed for good, and why. It is kept by the servers as a job of "<queue>.dead", which no worker runs.
    #
    # @api private
    class DeadLetter
      # Characters of an error's message and lines of its backtrace that are kept.
      MESSAGE_SIZE = 10_000
      BACKTRACE_SIZE = 30
      private_constant :MESSAGE_SIZE, :BACKTRACE_SIZE

      class << self
        # @param data [String] the argument of the job
        # @param job [Worker::Job]
        # @param error [Exception]
        # @param queue [String]
        # @param function [String]
        # @return [DeadLetter]
        def of(data, job, error, queue:, function:)
          new(
            "id" => SecureRandom.uuid, "queue" => queue, "function" => function, "unique" => job.unique,
            "failed_at" => Time.now.utc.iso8601(3), **encoded(data),
            "error" => {
              "class" => error.class.name, "message" => message_of(error),
              "backtrace" => error.backtrace&.first(BACKTRACE_SIZE)&.map { |line| Logging.printable(line) }
            }
          )
        end

        # @param text [String] what {#to_s} gave
        # @return [DeadLetter, nil] nil when it is something else
        def parse(text)
          content = JSON.parse(text)
          new(content) if content.is_a?(Hash) && content.values_at("queue", "failed_at").all?(String) &&
                          (content["data"] || content["data64"]).is_a?(String)
        rescue JSON::ParserError, EncodingError
          nil
        end

        private

        # JSON has no bytes.
        def encoded(data)
          text = data.dup.force_encoding(Encoding::UTF_8)
          text.valid_encoding? ? { "data" => text } : { "data64" => [data].pack("m0") }
        end

        def message_of(error)
          Logging.printable(String(error.message))[0, MESSAGE_SIZE]
        rescue StandardError
          "" # an error that cannot say what it is
        end
      end

      # @return [String] when the job failed, in ISO 8601
      attr_reader :failed_at

      # @param content [Hash{String => Object}]
      def initialize(content)
        @content = content
        @failed_at = content["failed_at"]
      end

      # @return [String] what the servers keep
      def to_s
        JSON.generate(@content)
      end

      # @return [String] the argument of the job
      def data
        @content["data"] || @content["data64"].unpack1("m")
      end

      # @return [String] one line that names the job and its error
      def summary
        error = @content["error"] || {}
        payload = parsed
        name = payload ? "#{payload["job_class"]} #{payload["job_id"]}" : "#{data.bytesize} bytes"
        "#{failed_at} #{name} #{error["class"]}: #{error["message"].to_s.lines.first.to_s.strip[0, 200]}"
      end

      # @return [BackgroundTask] keeps the letter
      def task
        BackgroundTask.new(Queue.dead(@content["queue"]), to_s, priority: :low, hash: SecureRandom.uuid)
      end

      # @return [BackgroundTask] runs the job, as if it had never been tried
      def retry_task
        payload = parsed
        data = payload ? JSON.generate(payload.merge("executions" => 0, "exception_executions" => {})) : self.data
        unique = payload && "#{payload["job_id"]}:retry:#{SecureRandom.hex(4)}"
        unique = SecureRandom.uuid if unique.nil? || unique.bytesize > 63
        BackgroundTask.new(Queue.function(@content["queue"]), data, hash: unique, priority: priority_in(payload))
      end

      private

      # Where the configuration chooses one, it asks the job itself, which is not at hand.
      def priority_in(payload)
        number = payload && payload["priority"]
        Submission.priority_of(number) if number.is_a?(Numeric) && !Gearman.configuration.priority
      end

      # The job as the adapter made it, or nil.
      def parsed
        payload = JSON.parse(data)
        payload if payload.is_a?(Hash) && payload["job_class"]
      rescue JSON::ParserError, EncodingError
        nil
      end
    end
  end
end
