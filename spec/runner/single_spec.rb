# frozen_string_literal: true

require "gearman/runner"
require "gearman/runner/single"

RSpec.describe Gearman::Runner::Single do
  def max_jobs(limit)
    configuration = Gearman::Configuration.new.update(servers: "127.0.0.1", max_jobs: limit)
    described_class.new(configuration, signals: nil).max_jobs
  end

  before do
    definitions = Gearman::Definitions.new.tap { |all| all.ability("f") { true } }
    allow(Gearman).to receive(:definitions).and_return(definitions)
  end

  it "is replaced after as many jobs as were set or up to a tenth more, so that not all are at once" do
    limits = Array.new(50) { max_jobs(1000) }
    expect(limits).to all(be_between(1000, 1100))
    expect(limits.max - limits.min).to be > 20
    expect([max_jobs(9), max_jobs(nil)]).to eq([9, nil])
  end

  it "is stuck when its worker has not gone round for 30 seconds" do
    configuration = Gearman::Configuration.new.update(servers: "127.0.0.1")
    process = described_class.new(configuration, signals: nil)
    turned = Process.clock_gettime(Process::CLOCK_MONOTONIC) - 29
    worker = instance_double(Gearman::Worker, connected_servers: ["127.0.0.1:4730"])
    allow(worker).to receive(:last_turn) { turned }
    allow(process.launcher).to receive(:worker).and_return(worker)
    allow(Gearman::Runner).to receive(:stopping?).and_return(false) # whatever ran before in this process
    expect(process.state).to eq(:ready)
    turned -= 2
    expect(process.state).to eq(:stuck)
  end
end
