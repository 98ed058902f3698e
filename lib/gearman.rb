# frozen_string_literal: true

require "logger"
require "socket"

# A client and a worker for the Gearman job server.
#
#   client = Gearman::Client.new("localhost:4730")
#   client.do_task(Gearman::Task.new("reverse", "hello"))
module Gearman
  if (other = $LOADED_FEATURES.find do |path|
    path.end_with?("/gearman/connection_pool.rb") && !path.start_with?(__dir__)
  end)
    warn "gearman-native: the gem gearman-ruby is loaded too (#{other}) and defines the same classes. " \
         "Remove it from the bundle, or add `gem \"gearman-ruby\", require: false` if another gem depends on it."
  end

  class << self
    # @return [#debug, #info, #warn, #error, nil] nil brings the default back
    attr_writer :logger

    # The logger of the library, in each Ractor its own: by default warnings and errors go to stderr.
    #
    # @return [#debug, #info, #warn, #error]
    def logger
      return Ractor.current[:gearman_logger] ||= default_logger unless Ractor.current == Ractor.main

      @logger ||= default_logger
    end

    private

    def default_logger
      Logger.new($stderr, level: Logger::WARN, progname: "gearman")
    end
  end

  autoload :EmbeddedServer, "gearman/embedded_server"
  autoload :Server, "gearman/server"
end

require "gearman/version"
require "gearman/errors"
require "gearman/native"
require "gearman/logging"
require "gearman/address"
require "gearman/packet"
require "gearman/connection"
require "gearman/connection_pool"
require "gearman/task"
require "gearman/task_set"
require "gearman/bulk_submission"
require "gearman/job_status"
require "gearman/client"
require "gearman/worker"
require "gearman/deprecated"
