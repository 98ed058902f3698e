# frozen_string_literal: true

RSpec.describe Gearman::Configuration do
  %i[on_error around_job].each do |name|
    it "refuses #{name} without a block" do
      expect { described_class.new.public_send(name) }
        .to raise_error(Gearman::InvalidArgsError, "#{name} needs a block")
    end
  end
end
