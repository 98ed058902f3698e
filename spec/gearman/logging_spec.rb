# frozen_string_literal: true

require "stringio"

RSpec.describe Gearman::Logging do
  around do |example|
    before = Gearman.logger
    example.run
  ensure
    Gearman.logger = before
  end

  it "gives a class and its instances the library's logger" do
    target = Class.new { include Gearman::Logging }
    Gearman.logger = logger = Object.new
    expect([target.logger, target.new.logger]).to eq([logger, logger])
  end

  it "is in what 4.0 has it in" do
    classes = [Gearman::Client, Gearman::Connection, Gearman::ConnectionPool, Gearman::TaskSet, Gearman::Worker]
    expect(classes).to all(include(described_class))
  end

  describe "Gearman.logger" do
    it "writes warnings and errors to standard error, and nothing else", :process do
      Gearman.logger = nil
      expect(Gearman.logger.level).to eq(Logger::WARN)
      expect(Gearman.logger).to equal(Gearman.logger)
      output = run_ruby(<<~RUBY)
        $stdout = File.open(File::NULL, "w")
        Gearman.logger.info("information")
        Gearman.logger.warn("a warning")
      RUBY
      expect(output).to include("WARN -- gearman: a warning")
      expect(output).not_to include("information")
    end

    it "takes anything that has the four methods" do
      lines = []
      Gearman.logger = Class.new do
        %i[debug info warn error].each do |level|
          define_method(level) do |text = nil, &block|
            lines << (text || block.call)
          end
        end
      end.new
      client = Gearman::Client.new("127.0.0.1:#{JobServers.free_port}")
      set = Gearman::TaskSet.new(client)
      set.add_task(Gearman::BackgroundTask.new("f"))
      expect(lines).to include(/\Af stays in its task set: no job server can be reached/)
    end
  end
end
