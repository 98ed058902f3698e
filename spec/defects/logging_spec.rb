# frozen_string_literal: true

require_relative "helpers"

RSpec.describe "defects of gearman-ruby's logging" do
  around do |example|
    logger = Gearman.logger
    example.run
  ensure
    Gearman.logger = logger
  end

  it "says nothing of an error in a job unless it logs everything", defect: 40 do
    log = StringIO.new
    Gearman.logger = Logger.new(log, level: Logger::INFO)
    server = start_gearmand
    start_worker(server) { |worker| worker.add_ability("resize") { raise "no such picture" } }
    result_of(new_client(server), Gearman::Task.new("resize"))

    eventually("the error in the log") { log.string.match?(/ERROR.*resize.*no such picture/) }
  end

  it "writes everything to the standard output unless told otherwise", defect: 51 do
    Gearman.logger = nil

    expect { Gearman.logger.debug("chatter") }.not_to output.to_stdout_from_any_process
  end
end
