# frozen_string_literal: true

# GEARMAN_LIB names the lib folder of another implementation of `require "gearman"`, which the specs then run against:
# `rake spec:defects` points it at gearman-ruby 4.0.5. Nothing of this checkout's lib can be loaded then, so a spec that
# serves both asks for nothing beyond "gearman". Unset, the specs run against this checkout.
if (other_lib = ENV["GEARMAN_LIB"])
  own_lib = File.expand_path("../lib", __dir__)
  $LOAD_PATH.reject! { |path| File.expand_path(path) == own_lib }
  $LOAD_PATH.unshift(File.expand_path(other_lib))
end

require "gearman"

RSpec.configure do |config|
  config.disable_monkey_patching!
  config.expect_with(:rspec) { |expectations| expectations.include_chain_clauses_in_custom_matcher_descriptions = true }
  config.mock_with(:rspec) { |mocks| mocks.verify_partial_doubles = true }
  config.shared_context_metadata_behavior = :apply_to_host_groups
  config.raise_errors_for_deprecations!
  Kernel.srand config.seed
end

Dir[File.join(__dir__, "support/**/*.rb")].each { |file| require file }
