# frozen_string_literal: true

# A client and a worker for the Gearman job server.
#
#   client = Gearman::Client.new("localhost:4730")
#   client.do_task(Gearman::Task.new("reverse", "hello"))
module Gearman
  # The errors of gearman-ruby are no StandardErrors.
  if const_defined?(:ProtocolError, false) && !(ProtocolError < StandardError)
    raise LoadError, "gearman-ruby is loaded already (#{const_source_location(:ProtocolError).first}) and defines " \
                     "the same classes as gearman-native. Take it out of the bundle; if another gem depends on it, " \
                     "put gem \"gearman-native\" above that gem in the Gemfile, or require \"gearman-native\" first."
  end

  class << self
    # Says what becomes of tasks in a test, see {Testing}.
    #
    # @param mode [Symbol] :fake keeps background tasks for {Testing.submitted} and {Testing.drain}; :inline runs them
    #   when they are submitted, in the caller's thread; :disabled sends them to a job server
    # @yield the mode holds for the block and this thread alone; without a block, for the process
    # @return [Symbol, Object] the mode, or what the block returns
    # @raise [InvalidArgsError] for any other mode
    def testing!(mode, &block)
      Testing.switch(mode, &block)
    end
  end

  autoload :ConfigurationFile, "#{__dir__}/gearman/configuration_file"
  autoload :EmbeddedServer, "#{__dir__}/gearman/embedded_server"
  autoload :Runner, "#{__dir__}/gearman/runner"
  autoload :Testing, "#{__dir__}/gearman/testing"
end

require_relative "gearman/version"
require_relative "gearman/exceptions"
require_relative "gearman/logging"
require_relative "gearman/clock"
require_relative "gearman/instrumentation"
require_relative "gearman/address"
require_relative "gearman/packet"
require_relative "gearman/connection"
require_relative "gearman/connection_pool"
require_relative "gearman/task"
require_relative "gearman/task_set"
require_relative "gearman/bulk_submission"
require_relative "gearman/job_status"
require_relative "gearman/client"
require_relative "gearman/worker"
require_relative "gearman/server"
require_relative "gearman/deprecated"
require_relative "gearman/configuration"
require_relative "gearman/definitions"

# ActiveJob finds its adapter, whichever of the two is loaded first. It looks for the name at top level, too, which
# serves where no Bundler tells that there is an ActiveJob.
if defined?(ActiveSupport) || (defined?(Gem) && Gem.loaded_specs.key?("activejob"))
  require "gearman/active_job"
else
  autoload :GearmanAdapter, "#{__dir__}/gearman/active_job/lookup"
end
require "gearman/rails" if defined?(ActiveSupport) || (defined?(Gem) && Gem.loaded_specs.key?("railties"))
