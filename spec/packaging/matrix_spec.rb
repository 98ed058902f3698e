# frozen_string_literal: true

require "stringio"
require "tmpdir"
require_relative "../../rakelib/matrix"

RSpec.describe Matrix, :packaging do
  before do
    stub_const("RUBY_VERSION", "3.1.2")
    allow_any_instance_of(described_class).to receive(:green_here?).and_raise("the matrix runs in itself")
  end

  # The status, and the last line, which is what is said of a matrix that was skipped.
  def outcome_of(*rubies)
    status = nil
    output = StringIO.new
    original = $stdout
    begin
      $stdout = output
      status = described_class.new(rubies).run
    ensure
      $stdout = original
    end
    [status, output.string.lines.last.chomp]
  end

  it "says which Rubies it knows" do
    expect { described_class.new(%w[3.3 2.7]) }
      .to raise_error(SystemExit).and output("matrix: knows no Ruby 2.7, only 3.1, 3.3, 3.4\n").to_stderr
  end

  it "is skipped, and says why, where only root could go on" do
    allow(Process).to receive(:uid).and_return(1000)
    expect(outcome_of("3.3")).to eq([2, "matrix: cannot run Ruby 3.3: only root can make a Debian root"])
  end

  it "is skipped, and says why, where a tool is missing" do
    allow(Process).to receive(:uid).and_return(0)
    Dir.mktmpdir do |path|
      %w[unshare chroot].each { |tool| File.write(File.join(path, tool), "", perm: 0o755) }
      stub_const("ENV", ENV.to_h.merge("PATH" => path))
      expect(outcome_of("3.4")).to eq([2, "matrix: cannot run Ruby 3.4: debootstrap is not installed"])
    end
  end

  it "names each Ruby that cannot be had" do
    allow(Process).to receive(:uid).and_return(1000)
    why = "only root can make a Debian root"
    expect(outcome_of("3.3", "3.4"))
      .to eq([2, "matrix: cannot run Ruby 3.3: #{why}; matrix: cannot run Ruby 3.4: #{why}"])
  end
end
