# frozen_string_literal: true

require "digest/sha1"

RSpec.describe Gearman::Task do
  def sent(task)
    magic, number, length = task.get_submit_packet.unpack("a4NN")
    body = task.get_submit_packet.byteslice(12..)
    expect([magic, length]).to eq(["\0REQ", body.bytesize])
    [Gearman::Packet::COMMANDS.fetch(number), *Gearman::Packet.split(Gearman::Packet::COMMANDS.fetch(number), body)]
  end

  let(:sha1) { ->(text) { Digest::SHA1.hexdigest(text) } }

  describe "#initialize" do
    it "takes a function and nothing else" do
      task = described_class.new(:reverse)
      expect(task).to have_attributes(
        func: "reverse", arg: "", uniq: nil, retry_count: 0, priority: nil, background: nil, epoch: nil,
        successful: false, retries_done: 0, background?: false, command: :submit_job
      )
    end

    it "takes all its options" do
      time = Time.now
      opts = { uniq: "u", retry_count: 2, priority: :high, background: true, schedule_at: time, hash: "h",
               coalesce: false }
      expect(described_class.new("f", "a", opts)).to have_attributes(
        uniq: "u", retry_count: 2, priority: :high, background: true, run_at: time.to_i, get_uniq_hash: "h"
      )
    end

    it "changes no Hash that it is given: it may be frozen, and serve many tasks" do
      opts = { priority: :low, uniq: "u", retry_count: 1 }.freeze
      first, second = Array.new(2) { described_class.new("f", "a", opts) }
      expect([first.priority, second.priority, second.retry_count]).to eq([:low, :low, 1])
      expect(opts).to eq(priority: :low, uniq: "u", retry_count: 1)
    end

    it "takes nil for the options, and for each of them" do
      names = %i[on_complete on_fail on_retry on_exception on_status on_warning on_data uniq retry_count priority hash
                 background schedule_at]
      expect(described_class.new("f", "a", nil).retry_count).to eq(0)
      task = described_class.new("f", "a", names.to_h { |name| [name, nil] })
      expect(task).to have_attributes(retry_count: 0, background?: false, get_uniq_hash: sha1.call("fa"))
      expect { task.handle_completion("x") }.not_to raise_error
    end

    it "refuses other options and names them in order" do
      expect { described_class.new("f", "a", zoo: 1, bar: 2, priority: :high, "uniq" => 3, on_created: 4) }
        .to raise_error(Gearman::InvalidArgsError, "Invalid task args: bar, on_created, uniq, zoo")
    end

    it "takes the priority as a String, too" do
      task = described_class.new("f", "a", priority: "high")
      expect(task).to have_attributes(priority: :high, command: :submit_job_high)
      expect(described_class.new("f").tap { |task| task.priority = "low" }.command).to eq(:submit_job_low)
    end

    it "takes what has to_i as a time, and what has call as a callback" do
      time = Class.new { def to_i = 5 }.new
      expect(described_class.new("f", "", schedule_at: time).run_at).to eq(5)
      expect(described_class.new("f", "", schedule_at: false, retry_count: false, priority: false, on_fail: false))
        .to have_attributes(run_at: nil, retry_count: 0, priority: nil)
      expect { |block| described_class.new("f", "", on_data: block.to_proc.method(:call)).handle_data("x") }
        .to yield_with_args("x")
    end

    {
      priority: ["urgent", :urgent, 1],
      retry_count: ["x", "2", -1, 1.5, 1 << 64],
      schedule_at: ["2027-01-01 10:00", :soon, -5, Float::NAN, Float::INFINITY, 1 << 64, [1]],
      on_complete: [5], on_fail: [5], on_retry: [5], on_exception: [:name], on_status: [true], on_warning: ["x"],
      on_data: [[]]
    }.each do |option, values|
      it "refuses a #{option} that makes no sense, and names it" do
        values.each do |value|
          expect { described_class.new("f", "a", option => value) }
            .to raise_error(Gearman::InvalidArgsError, /not (?:at )?#{Regexp.escape(value.inspect)}\z/)
        end
      end
    end

    it "refuses such values also where they are set later, and keeps the old ones" do
      task = described_class.new("f", "a", priority: :low, retry_count: 1, schedule_at: 7)
      expect { task.priority = :urgent }.to raise_error(Gearman::InvalidArgsError, /:normal or :low, not :urgent/)
      expect { task.retry_count = "x" }.to raise_error(Gearman::InvalidArgsError, /retry_count is .* not "x"/)
      expect { task.schedule("soon") }.to raise_error(Gearman::InvalidArgsError, /a Time or a number .* at "soon"/)
      expect(task).to have_attributes(priority: :low, retry_count: 1, run_at: 7)
    end

    it "takes callbacks as options" do
      calls = []
      names = %i[on_complete on_fail on_retry on_exception on_status on_warning on_data]
      task = described_class.new("f", "a", names.to_h { |name| [name, ->(*args) { calls << [name, *args] }] })
      task.handle_completion("c")
      task.handle_failure
      task.handle_exception("e")
      task.handle_status("1", "2")
      task.handle_warning("w")
      task.handle_data("d")
      expect(calls).to eq([[:on_complete, "c"], [:on_fail], [:on_exception, "e"], [:on_status, "1", "2"],
                           [:on_warning, "w"], [:on_data, "d"]])
    end
  end

  it "is copied with all that it was given, and knows nothing of the copy then" do
    task = described_class.new("f", "a", hash: "u", priority: :high, retry_count: 2, on_complete: ->(data) { data })
    task.handle_completion("done")
    copy = task.dup
    task.priority = :low
    task.reset_state
    expect(copy).to have_attributes(func: "f", arg: "a", get_uniq_hash: "u", priority: :high, retry_count: 2,
                                    successful: true)
  end

  it "takes nothing more when it is frozen" do
    task = described_class.new("f").freeze
    expect { task.priority = :high }.to raise_error(FrozenError)
    expect(task.priority).to be_nil
  end

  it "is no other object that was given its methods" do
    expect { described_class.instance_method(:initialize_copy).bind_call(described_class.new("f"), "text") }
      .to raise_error(TypeError)
  end

  describe "callbacks", :quiet do
    let(:calls) { [] }
    let(:task) { described_class.new("f") }

    it "are set by blocks, which come back" do
      %i[on_complete on_fail on_retry on_exception on_status on_warning on_data on_created].each do |name|
        block = proc { calls << name }
        expect(task.public_send(name, &block)).to equal(block)
      end
    end

    {
      handle_completion: [:on_complete, ["result"]],
      handle_created: [:on_created, ["H:1"]],
      handle_exception: [:on_exception, ["message"]],
      handle_status: [:on_status, %w[1 2]],
      handle_warning: [:on_warning, ["message"]],
      handle_data: [:on_data, ["data"]]
    }.each do |handler, (callback, arguments)|
      it "#{callback} is called by #{handler}, which returns the task, also without one" do
        expect(task.public_send(handler, *arguments)).to equal(task)
        task.public_send(callback) { |*args| calls << args }
        expect(task.public_send(handler, *arguments)).to equal(task)
        expect(calls).to eq([arguments])
      end
    end

    it "make a completed task successful before on_complete" do
      task.on_complete { calls << task.successful }
      task.handle_completion("")
      expect(calls).to eq([true])
    end

    it "on_retry is called with the count until retry_count, then on_fail" do
      task.retry_count = 2
      task.on_retry { |count| calls << count }
      task.on_fail { calls << :fail }
      expect(Array.new(4) { task.handle_failure }).to eq([true, true, false, false])
      expect(calls).to eq([1, 2, :fail, :fail])
      expect(task.retries_done).to eq(2)
    end
  end

  describe "#reset_state" do
    it "makes the task as good as new" do
      task = described_class.new("f", "", retry_count: 1)
      task.handle_failure
      task.handle_completion("")
      expect(task.reset_state).to equal(task)
      expect(task).to have_attributes(retries_done: 0, successful: false, retry_count: 1)
    end
  end

  describe "#get_uniq_hash" do
    it "is the SHA1 of function and argument, made once" do
      task = described_class.new("f", "a")
      expect(task.get_uniq_hash).to eq(sha1.call("fa"))
      expect(task.get_uniq_hash).to equal(task.get_uniq_hash)
    end

    it "is the SHA1 of the unique when there is one, whatever it is" do
      expect(described_class.new("f", "a", uniq: "u").get_uniq_hash).to eq(sha1.call("u"))
      expect(described_class.new("f", "a", uniq: :u).get_uniq_hash).to eq(sha1.call("u"))
      expect(described_class.new("f", "a", uniq: 7).get_uniq_hash).to eq(sha1.call("7"))
      expect(described_class.new("f", "a", uniq: "").get_uniq_hash).to eq(sha1.call(""))
      task = described_class.new("f", "a")
      task.uniq = "later"
      expect(task.get_uniq_hash).to eq(sha1.call("later"))
    end

    it "is what hash: gives" do
      expect(described_class.new("f", "a", hash: "raw").get_uniq_hash).to eq("raw")
      expect(described_class.new("f", "a", hash: :raw).get_uniq_hash).to eq("raw")
    end

    it "is made of bytes, whatever the encodings" do
      expect(described_class.new("é", "\xFF".b).get_uniq_hash).to eq(sha1.call("é".b + "\xFF".b))
      expect(described_class.new("é", "é").get_uniq_hash).to eq(sha1.call("éé"))
    end

    it "is another one each time with coalesce: false, but the same for one task" do
      tasks = Array.new(3) { described_class.new("f", "a", coalesce: false) }
      expect(tasks.map(&:get_uniq_hash).uniq.size).to eq(3)
      expect(tasks.first.get_uniq_hash).to eq(tasks.first.get_uniq_hash)
      expect(tasks.map { |task| task.get_uniq_hash.bytesize }).to all(be_between(1, 63))
    end
  end

  describe "#get_submit_packet" do
    unique = Digest::SHA1.hexdigest("fa")

    {
      {} => :submit_job,
      { priority: :high } => :submit_job_high,
      { priority: :low } => :submit_job_low,
      { background: true } => :submit_job_bg,
      { background: true, priority: :high } => :submit_job_high_bg,
      { background: true, priority: :low } => :submit_job_low_bg,
      { priority: :normal } => :submit_job
    }.each do |opts, type|
      it "is #{type} for #{opts}" do
        task = described_class.new("f", "a", opts)
        expect(sent(task)).to eq([type, "f", unique, "a"])
        expect(task.command).to eq(type)
      end
    end

    it "is submit_job_epoch for a scheduled task, a background task whatever it was" do
      task = described_class.new("f", "a", priority: :high)
      expect(task.schedule(1_800_000_000.9)).to eq(1_800_000_000.9)
      expect(sent(task)).to eq([:submit_job_epoch, "f", unique, "1800000000", "a"])
      expect(task).to be_background
      expect(sent(described_class.new("f", "a",
                                      schedule_at: Time.at(9)))).to eq([:submit_job_epoch, "f", unique, "9", "a"])
    end

    it "is not changed by epoch=" do
      task = described_class.new("f", "a")
      task.epoch = 5
      expect(task).to have_attributes(epoch: 5, command: :submit_job, background?: false)
    end

    it "carries the argument byte for byte" do
      bytes = Array.new(256, &:chr).join.b
      expect(sent(described_class.new("f", bytes)).last).to eq(bytes)
      expect(sent(described_class.new("f", "é" * 100)).last).to eq(("é" * 100).b)
      utf16 = "é".encode("UTF-16LE")
      expect(sent(described_class.new("f", utf16)).last).to eq(utf16.b)
    end

    it "carries what is no String as its to_s, an Array with NUL bytes between, nil as nothing" do
      expect(sent(described_class.new("f", 7)).last).to eq("7")
      expect(sent(described_class.new("f", { "a" => 1 })).last).to eq({ "a" => 1 }.to_s)
      expect(sent(described_class.new("f", ["a", 1])).last).to eq("a\0001")
      expect(sent(described_class.new("f", nil)).last).to eq("")
    end

    it "refuses what cannot be sent" do
      { "f\0g" => {}, "f" * 9000 => {}, "f" => { hash: "u\0u" } }.each do |function, opts|
        expect { described_class.new(function, "", opts).get_submit_packet }.to raise_error(Gearman::InvalidArgsError)
      end
    end
  end

  describe "#receive" do
    let(:task) { described_class.new("f", "", retry_count: 1) }

    it "refuses a packet that is not about a task" do
      expect do
        task.receive(:noop, nil, nil)
      end.to raise_error(Gearman::ProtocolError, "Received noop, which is not about a task")
    end
  end

  describe Gearman::BackgroundTask do
    it "is a task that nobody waits for, whatever its options say" do
      expect(described_class.new("f",
                                 "a")).to be_background.and(have_attributes(command: :submit_job_bg, background: true))
      expect(described_class.new("f", "a",
                                 { background: false, priority: :low }.freeze).command).to eq(:submit_job_low_bg)
      expect(described_class.new("f").arg).to eq("")
    end
  end
end
