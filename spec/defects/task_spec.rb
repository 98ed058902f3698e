# frozen_string_literal: true

require_relative "helpers"

RSpec.describe "defects of gearman-ruby's tasks" do
  it "empties the Hash of options that it is given", defect: 49 do
    options = { priority: :high, uniq: "u" }.freeze

    expect(Gearman::Task.new("f", "", options).priority).to eq(:high)
  end

  it "cannot make a unique of a number", defect: 49 do
    task = Gearman::Task.new("f", "", uniq: 42)

    expect(task.get_uniq_hash).to eq(Gearman::Task.new("f", "", uniq: "42").get_uniq_hash)
  end

  it "cannot send a name that is not ASCII with an argument that is binary", defect: 49 do
    packet = Gearman::Task.new("größe", "\xFF".b, uniq: "u").get_submit_packet

    expect(packet.b).to end_with("\0\xFF".b).and include("größe\0".b)
  end
end
