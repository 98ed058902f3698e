# frozen_string_literal: true

# Tests of an application, as `rails test` runs them, in a process of their own.
RSpec.describe "The tests of an application whose jobs go to Gearman", :rails_application, :process do
  def run_tests(body, env: {})
    write "test.rb", <<~RUBY
      require "./config/environment"
      gem "minitest"
      require "minitest/autorun"
      require "active_support/test_case"
      require "active_job/test_helper"

      class RecordJob < ActiveJob::Base
        DONE = []

        def perform(number)
          DONE << number
        end
      end

      class RecordJobTest < ActiveSupport::TestCase
      #{body.gsub(/^/, "  ")}end
    RUBY
    run_ruby("test.rb", env: { "GEARMAN_SERVERS" => "127.0.0.1:1", **env })
  end

  it "have ActiveJob's TestHelper as it is" do
    expect(run_tests(<<~RUBY)).to match([/^4 runs, \d+ assertions, 0 failures, 0 errors, 0 skips$/, 0])
      include ActiveJob::TestHelper

      # Since Rails 7.2 it is the configured one otherwise.
      def queue_adapter_for_test = ActiveJob::QueueAdapters::TestAdapter.new

      test "enqueues" do
        assert_enqueued_with(job: RecordJob, args: [1], queue: "default") { RecordJob.perform_later(1) }
        assert_enqueued_jobs 1
        assert_no_performed_jobs
      end

      test "performs" do
        assert_performed_jobs(1) { perform_enqueued_jobs { RecordJob.perform_later(2) } }
        assert_equal [2], RecordJob::DONE
      end

      test "enqueues for later" do
        time = Time.now.round + 60
        assert_enqueued_with(job: RecordJob, args: [3], at: time) { RecordJob.set(wait_until: time).perform_later(3) }
      end

      test "fakes what is no job beside it" do
        Gearman.testing!(:fake) do
          RecordJob.perform_later(4)
          Gearman.client.do_task(Gearman::BackgroundTask.new("resize", "cat.png"))
          assert_equal ["resize"], Gearman::Testing.submitted.map(&:func)
        end
        assert_enqueued_jobs 1
      end
    RUBY
  end

  it "submit jobs in parallel processes, each with a connection of its own" do
    server = start_gearmand
    tests = run_tests(<<~RUBY, env: { "GEARMAN_SERVERS" => server.address, "PARALLEL_WORKERS" => "2" })
      parallelize(workers: 2)
      JOBS = [RecordJob.perform_later(0)] # the client has a connection that the processes inherit

      # Each of the two processes has one of the tests, as it waits for the other one.
      2.times do |number|
        test "submits jobs (\#{number})" do
          pids = "pids"
          File.write(pids, "\#{Process.pid}\\n", mode: "a")
          Timeout.timeout(30) { sleep 0.01 until File.readlines(pids).uniq.size == 2 }
          jobs = Array.new(20) { RecordJob.perform_later(1) }
          File.write("handles", [*JOBS, *jobs].map { |job| "\#{job.provider_job_id}\\n" }.join, mode: "a")
          connections = Socket.tcp("127.0.0.1", #{server.port}) { |io| io.puts("workers"); io.gets("\\n.\\n").lines.size - 1 }
          assert_operator connections, :>, 2 # that of the first job and that which asks
        end
      end
    RUBY
    expect(tests).to match([/^2 runs, \d+ assertions, 0 failures, 0 errors, 0 skips$/, 0])
    expect(File.readlines(File.join(root, "pids")).uniq.size).to eq(2)
    expect(File.readlines(File.join(root, "handles")).uniq.size).to eq(41)
    expect(server.admin("status")).to match(/^default\t41\t0\t0$/)
  end
end
