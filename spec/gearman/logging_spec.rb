# frozen_string_literal: true

require "logger"
require "tempfile"

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

  it "makes any bytes text of UTF-8 that still tells what they were" do
    texts = ["café", "caf\xE9 \xE2\x82\xAC".b, "caf\xE9".dup.force_encoding("ISO-8859-1"),
             "\xD8A".dup.force_encoding("UTF-16BE"), "\xE9".dup.force_encoding("US-ASCII"), "\xFF\xFE"]
    printed = texts.map { |text| described_class.printable(text) }
    expect(printed).to eq(["café", "caf\\xE9 €", "café", "\\xD8A", "\\xE9", "\\xFF\\xFE"])
    expect(printed).to all(have_attributes(encoding: Encoding::UTF_8, valid_encoding?: true))
  end

  # As Rails' logs are.
  it "writes what is no text to a log that takes UTF-8 alone", :worker do
    Tempfile.create("log", encoding: "UTF-8") do |file|
      file.sync = true
      Gearman.logger = Logger.new(file)
      server = start_gearmand
      worker = new_worker(server, "größe" => ->(*) { raise "caf\xE9".b })
      worker.on_error { raise KeyError, "caf\xE8".b }
      run(worker)
      expect(client(server).run("größe").first).to eq(:work_exception)
      log = eventually("the log") { File.read(file.path)[/.*KeyError.*/m] }
      expect(log).to include("größe", "failed: RuntimeError: caf\\xE9", "caf\\xE8")
    end
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
