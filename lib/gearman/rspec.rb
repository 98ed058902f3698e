# frozen_string_literal: true

require "gearman/testing"
require "rspec/core"
require "gearman/testing/have_submitted"

module Gearman
  # Matchers for RSpec. Requiring this file turns the mode :fake on, includes the matchers, empties {Testing} before
  # each example, and lets an example or group choose another mode: `it "resizes", gearman: :inline do`.
  #
  # @api private
  module RSpec
    # What examples may call.
    module Matchers
      # Passes when tasks of the function have been submitted: by the block, or since the example began.
      #
      #   expect { upload(image) }.to have_submitted("resize").with("cat.png").once
      #   expect(Gearman).to have_submitted("mail").with(a_string_including("Ann")).at_least(2).times
      #   expect(Gearman).not_to have_submitted("mail")
      #
      # @param func [#to_s, Object] a function, or a matcher for its name
      # @return [Testing::HaveSubmitted]
      def have_submitted(func) # rubocop:disable Naming/PredicatePrefix
        Testing::HaveSubmitted.new(func)
      end
    end
  end
end

Gearman.testing!(:fake)

RSpec.configure do |config|
  config.include Gearman::RSpec::Matchers
  config.before { Gearman::Testing.clear }
  config.around(:each, :gearman) do |example|
    Gearman.testing!(example.metadata[:gearman]) { example.run }
  end
end
