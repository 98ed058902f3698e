# frozen_string_literal: true

require "rbconfig"

namespace :gearman do
  desc "Runs gearman-worker with what GEARMAN_WORKER_OPTIONS says, such as \"-q mailers -c 2\""
  task :work do
    # Signals and the status are to be the worker's own.
    exec(RbConfig.ruby, File.expand_path("../../exe/gearman-worker", __dir__),
         *ENV.fetch("GEARMAN_WORKER_OPTIONS", "").split)
  end
end
