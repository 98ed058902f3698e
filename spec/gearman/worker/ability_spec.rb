# frozen_string_literal: true

require "timeout"

RSpec.describe Gearman::Worker::Ability, :worker do
  it "knows its function and its time-out" do
    expect(described_class.new("f", nil)).to have_attributes(func_name: "f", timeout: nil)
    expect(described_class.new("f", nil, 30)).to have_attributes(func_name: "f", timeout: 30)
  end

  describe "#run" do
    it "calls the block with the data and the job" do
      expect(described_class.new("f", ->(data, job) { [data, job] }).run("data", :job)).to eq(["data", :job])
      expect(described_class.new("f", proc { |data| data }).run("data", :job)).to eq("data")
      expect(described_class.new("f", proc {}).run("data", :job)).to be_nil
    end

    it "is nil without a block" do
      expect(described_class.new("f", nil).run("data", :job)).to be_nil
    end

    it "lets out what the block raises" do
      expect { described_class.new("f", proc { raise ArgumentError, "no" }).run("", :job) }
        .to raise_error(ArgumentError, "no")
    end
  end

  describe "a time-out" do
    let(:job_server) { start_embedded_server }

    it "ends the block, and fails the job with a message that names the function and the time" do
      worker = new_worker(job_server)
      reached = false
      worker.add_ability("slow", 0.2) do
        sleep
        reached = true
      end
      worker.add_ability("quick", 20) { "in time" }
      run(worker)
      expect(client.run("slow")).to match([:work_exception, /slow.*0\.2/])
      expect(client.run("quick")).to eq([:work_complete, "in time"])
      expect(reached).to be(false)
    end
  end

  describe "#after_complete" do
    it "keeps the block that is called with result and data" do
      ability = described_class.new("f", nil)
      ability.completed("result", "data") # nothing is set
      seen = nil
      expect(ability.after_complete { |result, data| seen = [result, data] }).to be_a(Proc)
      ability.completed("result", "data")
      expect(seen).to eq(%w[result data])
    end
  end
end
