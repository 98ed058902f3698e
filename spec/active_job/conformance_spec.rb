# frozen_string_literal: true

require_relative "conformance_helper"

# What a Rails application expects of an ActiveJob backend, with gearmand and gearman-worker as they are in production.
# Run it by `rake spec:rails`, which has the versions of Rails.
RSpec.describe "ActiveJob on gearman-worker", :application, :process do
  def until_done(job)
    recorded(job: job.class.name, id: job.job_id)
  end

  context "with a worker" do
    before(:context) { @runner = boot_runner("default", "mailers", concurrency: 3).ready }
    after(:context) { @runner.kill }

    it "runs a job, in the worker's process, inside the executor" do
      job = RecordJob.perform_later("one", 2, :three)
      expect(until_done(job)).to include(arguments: %w[one 2 three], pid: @runner.pid, executor: true)
    end

    it "leaves other queues alone" do
      other = RecordJob.set(queue: "other").perform_later
      until_done(RecordJob.perform_later)
      expect(journal(id: other.job_id)).to be_empty
      expect(jobs_in("other")).to eq(1)
    end

    it "runs a job in the future, not before its time and at most a second behind it" do
      due = Array.new(5) { |number| Time.at(Time.now.to_i + 2) + (number * 0.2) }
      jobs = due.map { |time| RecordJob.set(wait_until: time).perform_later }
      late = jobs.zip(due).map { |job, time| until_done(job).fetch(:at) - time.to_f }
      expect(late).to all(be >= 0)
      # A machine that is busy otherwise may delay some of them.
      expect(late.sort[2]).to be < 1
      expect(late).to all(be < 4)
    end

    it "runs a job whose time has passed" do
      until_done(RecordJob.set(wait_until: Time.now - 60).perform_later)
    end

    it "runs jobs that were submitted in bulk, also those in the future" do
      skip_before("7.1", "perform_all_later")
      jobs = Array.new(50) { |number| RecordJob.new(number) }
      later = Time.at(Time.now.to_i + 2)
      jobs << RecordJob.new("later").set(wait_until: later)
      ActiveJob.perform_all_later(jobs)
      expect(jobs).to all(be_successfully_enqueued)
      expect(jobs.map(&:provider_job_id).uniq.size).to eq(51)
      entries = jobs.map { |job| until_done(job) }
      expect(entries.map { |entry| entry[:arguments] }).to eq([*"0".."49", "later"].map { |text| [text] })
      expect(entries.last[:at]).to be >= later.to_f
    end

    it "runs a job in the locale in which it was submitted" do
      job = I18n.with_locale(:de) { RecordJob.perform_later }
      expect(until_done(job)).to include(locale: "de")
    end

    it "runs a job in the time zone in which it was submitted" do
      job = Time.use_zone("Hawaii") { RecordJob.perform_later }
      expect(until_done(job)).to include(zone: "Hawaii")
    end

    it "gives a job its provider_job_id on both sides, by which the server knows it" do
      job = RecordJob.perform_later
      expect(until_done(job)).to include(provider_job_id: job.provider_job_id)
      waiting = RecordJob.set(queue: "unserved").perform_later
      expect(Gearman.client.job_status_by_unique(waiting.provider_job_id)).to be_known
    end

    it "runs each retry of a job" do
      job = FlakyJob.perform_later
      recorded(id: job.job_id, executions: 3)
      expect(journal(id: job.job_id).map { |entry| entry[:executions] }).to eq([1, 2, 3])
    end

    it "drops a job that discard_on takes" do
      job = DiscardedJob.perform_later("unwanted")
      until_done(job)
      eventually("the end of the job") { jobs_in("default").zero? }
      expect(journal(hook: "unwanted")).to be_empty
      expect(dead_letters).not_to include("unwanted")
    end

    it "reports an error that nobody handles once, and keeps the job as a dead letter, which can be retried" do
      job = FailingJob.perform_later("nobody handles this")
      recorded(hook: "nobody handles this", function: "default")
      expect(dead_letters).to match(/FailingJob #{job.job_id} ArgumentError: nobody handles this$/)
      File.write(File.join(root, "cured"), "")
      dead("retry")
      recorded(id: job.job_id, cured: true, executions: 1)
      # Counted here, where a second one would have been written.
      expect(journal(report: "nobody handles this")).to eq(journal(report: "nobody handles this", handled: false))
      expect(journal(report: "nobody handles this").size).to eq(rails?("7.0") ? 1 : 0)
      expect(journal(hook: "nobody handles this").size).to eq(1)
    end

    it "keeps a job as a dead letter when its retries are used up" do
      job = ExhaustedJob.perform_later("tried twice")
      recorded(hook: "tried twice")
      expect(journal(id: job.job_id).size).to eq(2)
      expect(dead_letters).to include("ExhaustedJob #{job.job_id} ExhaustedJob::Exhausted: tried twice")
      expect(journal(hook: "tried twice").size).to eq(1)
      expect(journal(report: "tried twice", handled: false).size).to eq(rails?("7.0") ? 1 : 0)
    end

    it "delivers mail later" do
      GreetingMailer.hello("ada").deliver_later
      mail = eventually("a mail") { Dir[File.join(root, "mails/ada@example.org")].first }
      eventually("the mail is whole") { File.read(mail).include?("Hello, ada!") }
    end

    it "runs the jobs of Active Storage" do
      blob = ActiveStorage::Blob.create_and_upload!(io: StringIO.new("bytes"), filename: "bytes.txt")
      path = blob.service.path_for(blob.key)
      expect(File.read(path)).to eq("bytes")
      blob.purge_later
      eventually("the blob is gone") { !ActiveStorage::Blob.exists?(blob.id) && !File.exist?(path) }
    end

    it "ends at SIGTERM with status 0, and the server has no worker left" do
      runner = boot_runner("short", environment: "test").ready
      expect(runner.stop).to eq(0)
      eventually("no worker") { server.admin("status").match?(/^short\t0\t0\t0$/) }
    end

    def dead_letters
      dead("list")
    end

    # What the command printed.
    def dead(action)
      command = [RbConfig.ruby, File.join(ApplicationSide::PROJECT, "exe/gearman-worker"), "dead", action, "default"]
      output, status = Open3.capture2(*command, "-s", server.address)
      raise "gearman-worker dead #{action} ends with #{status}" unless status.success?

      output
    end
  end

  it "runs jobs in the order of their priorities" do
    jobs = [nil, 10, -10, 0, 5, -5].map { |priority| RecordJob.set(queue: "ordered", priority: priority).perform_later }
    runner = boot_runner("ordered").ready
    jobs.each { |job| until_done(job) }
    order = journal(job: "RecordJob").map { |entry| jobs.index { |job| job.job_id == entry[:id] } }.compact
    expect(order).to eq([2, 5, 0, 3, 1, 4])
  ensure
    runner&.kill
  end

  it "runs the job of a killed worker again" do
    runners = Array.new(2) { boot_runner("fragile") }.each(&:ready)
    job = EndlessJob.set(queue: "fragile").perform_later
    first = recorded(id: job.job_id, again: false)
    runners.find { |runner| runner.pid == first[:pid] }.kill
    expect(recorded(id: job.job_id, again: true)[:pid]).not_to eq(first[:pid])
  ensure
    runners&.each(&:kill)
  end

  it "reloads code in development" do
    runner = boot_runner("development", environment: "development").ready
    expect(until_done(ChangingJob.set(queue: "development").perform_later)).to include(version: 1)
    path = File.join(root, "app/jobs/changing_job.rb")
    File.write(path, File.read(path).sub("VERSION = 1", "VERSION = 2"))
    expect(until_done(ChangingJob.set(queue: "development").perform_later)).to include(version: 2, pid: runner.pid)
  ensure
    runner&.kill
  end

  it "stops a job at its next checkpoint when the worker is told to stop, and resumes it there" do
    skip_before("8.1", "ActiveJob::Continuable")
    runner = boot_runner("steps").ready
    job = StepsJob.set(queue: "steps").perform_later
    recorded(id: job.job_id, number: 2)
    expect(runner.stop).to eq(0)
    expect(journal(id: job.job_id).map { |entry| entry[:number] }).to eq([1, 2])
    runner = boot_runner("steps").ready
    recorded(id: job.job_id, number: 4)
    expect(journal(id: job.job_id).map { |entry| entry[:number] }).to eq([1, 2, 3, 4])
  ensure
    runner&.kill
  end

  it "submits jobs behind the end of the transaction, where Rails asks for that" do
    skip "only Rails 7.2 asks the adapter" unless Rails::VERSION::STRING.start_with?("7.2")
    ActiveRecord::Base.transaction do
      RecordJob.set(queue: "transaction").perform_later
      expect(jobs_in("transaction")).to eq(0)
    end
    expect(jobs_in("transaction")).to eq(1)
  end

  it "works in a forked child of a process that has submitted jobs" do
    RecordJob.set(queue: "forked").perform_later
    children = in_child { Array.new(5) { RecordJob.set(queue: "forked").perform_later.provider_job_id } }
    ours = Array.new(5) { RecordJob.set(queue: "forked").perform_later.provider_job_id }
    expect((children + ours).uniq.size).to eq(10)
    eventually("all are there") { jobs_in("forked") == 11 }
  end

  def skip_before(version, feature)
    skip "#{feature} came with Rails #{version}" unless rails?(version)
  end
end
