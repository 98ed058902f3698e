# frozen_string_literal: true

require "logger"

# Groups tagged :quiet have something fail on purpose: what the library says of it is not printed.
RSpec.configure do |config|
  config.around(:each, :quiet) do |example|
    logger = Gearman.logger
    Gearman.logger = Logger.new(nil)
    example.run
  ensure
    Gearman.logger = logger
  end
end
