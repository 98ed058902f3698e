# frozen_string_literal: true

require "logger"

module Gearman
  class << self
    # @return [#debug, #info, #warn, #error, nil] nil brings the default back
    attr_writer :logger

    # What stands in for a logger that nobody set.
    #
    # @return [#debug, #info, #warn, #error, nil]
    # @api private
    attr_writer :default_logger

    # The logger of the library, in each Ractor its own. Unless one is set, it is that of Rails in an application, or
    # one of gearman-worker's own; elsewhere warnings and errors go to stderr.
    #
    # @return [#debug, #info, #warn, #error]
    def logger
      return Ractor.current[:gearman_logger] ||= stderr_logger unless Ractor.current == Ractor.main

      @logger || (@default_logger ||= stderr_logger)
    end

    private

    def stderr_logger
      Logger.new($stderr, level: Logger::WARN, progname: "gearman")
    end
  end

  # Gives a class and its instances the library's logger.
  module Logging
    # @api private
    def self.included(target)
      target.extend(ClassMethods)
    end

    # A log may take nothing but UTF-8, and what a job raises or a server says is any bytes.
    #
    # @api private
    # @param text [String]
    # @return [String] in UTF-8, with \xHH for each byte that belongs to no character
    def self.printable(text)
      text = text.dup.force_encoding(Encoding::UTF_8) if text.encoding == Encoding::BINARY
      text.encode(Encoding::UTF_8).scrub { |bytes| bytes.each_byte.map { |byte| format("\\x%02X", byte) }.join }
    rescue EncodingError
      printable(text.b)
    end

    # @return [#debug, #info, #warn, #error] the logger of the class
    def logger
      self.class.logger
    end

    # What the including class gets.
    module ClassMethods
      # @return [#debug, #info, #warn, #error] {Gearman.logger}
      def logger
        Gearman.logger
      end
    end
  end
end
