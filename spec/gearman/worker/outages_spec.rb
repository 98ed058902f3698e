# frozen_string_literal: true

require "gearman"

RSpec.describe Gearman::Worker::Outages do
  one = :one
  other = :other
  let(:outages) { described_class.new }

  def left_to_another(loop) = outages.left_to_another("a:1", loop)

  it "leave a server to the loop that has tried it, until that one is late" do
    expect([one, other].map { |loop| left_to_another(loop) }).to eq([0, 0])
    outages.refused("a:1", one, 0.1)
    expect(left_to_another(one)).to eq(0)
    expect(left_to_another(other)).to be_between(0.1, 0.5)
    expect(outages.left_to_another("b:1", other)).to eq(0)
    sleep left_to_another(other)
    expect(left_to_another(other)).to eq(0)
    outages.refused("a:1", other, 60)
    expect(left_to_another(one)).to be_between(50, 61)
  end

  it "leave it to the first of those that have tried it at once" do
    outages.refused("a:1", one, 60)
    outages.refused("a:1", other, 90)
    expect(left_to_another(one)).to eq(0)
    expect(left_to_another(other)).to be_between(50, 61)
  end

  it "end for all loops" do
    outages.refused("a:1", one, 60)
    expect([outages.over("a:1"), outages.over("a:1")]).to eq([true, false])
    expect(left_to_another(other)).to eq(0)
  end
end
