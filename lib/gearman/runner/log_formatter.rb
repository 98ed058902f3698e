# frozen_string_literal: true

require "gearman/runner/job_log"
require "json"
require "time"

module Gearman
  module Runner
    # The formats of gearman-worker's log.
    #
    # @api private
    module LogFormatter
      # "2026-11-25T08:00:00.000Z 4711 INFO: default H:host:1 done in 0.012 s"
      TEXT = lambda do |severity, time, _progname, message|
        "#{time.utc.iso8601(3)} #{Process.pid} #{severity}: #{text_of(message)}\n"
      end

      # One JSON object a line; that of a job has its queue, handle, unique and elapsed seconds.
      JSON_LINES = lambda do |severity, time, _progname, message|
        fields = { time: time.utc.iso8601(3), pid: Process.pid, severity: severity, message: text_of(message) }
        fields.update(message.to_h).update(elapsed: message.elapsed.round(6)) if message.is_a?(JobLog::Line)
        "#{JSON.generate(fields)}\n"
      end

      # @param format [Symbol] :text or :json
      # @return [#call]
      def self.for(format)
        format == :json ? JSON_LINES : TEXT
      end

      # @param message [String, Exception, JobLog::Line, Object]
      # @return [String]
      def self.text_of(message)
        case message
        when String then Logging.printable(message)
        when Exception then text_of("#{message.message} (#{message.class})")
        when JobLog::Line then message.to_s
        else message.inspect
        end
      end
    end
  end
end
