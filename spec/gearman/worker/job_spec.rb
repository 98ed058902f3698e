# frozen_string_literal: true

RSpec.describe Gearman::Worker::Job, :worker do
  describe "with a connection that is not the library's" do
    # Keeps what is sent.
    let(:connection) do
      Class.new do
        attr_reader :sent

        def send_update(packet)
          (@sent ||= []) << packet
        end
      end.new
    end
    let(:job) { described_class.new(connection, "H:1") }

    def request(...)
      JobServers::Wire.packet(...)
    end

    it "knows its handle and its unique" do
      expect(job).to have_attributes(handle: "H:1", unique: nil)
      expect(described_class.new(connection, "H:1", "u")).to have_attributes(unique: "u")
    end

    it "cannot be copied: who has a job answers for it" do
      expect { job.dup }.to raise_error(NoMethodError)
    end

    it "sends its reports there, whatever they are given, and returns itself" do
      expect(job.report_status(1, 2)).to equal(job)
      expect(job.report_status("0.5", nil)).to equal(job)
      expect(job.send_data("größe")).to equal(job)
      expect(job.send_data(17)).to equal(job)
      expect(job.report_warning("a\0b".b)).to equal(job)
      expect(job.report_warning(nil)).to equal(job)
      expect(connection.sent).to eq([
                                      request(:work_status, "H:1", "1", "2"), request(:work_status, "H:1", "0.5", ""),
                                      request(:work_data, "H:1", "größe"), request(:work_data, "H:1", "17"),
                                      request(:work_warning, "H:1", "a\0b".b), request(:work_warning, "H:1", "")
                                    ])
    end

    it "refuses a numerator with a NUL byte in it before anything is sent" do
      expect { job.report_status("1\0", 2) }.to raise_error(Gearman::InvalidArgsError, /NUL/)
      expect(connection.sent).to be_nil
    end
  end

  describe "when its server is lost" do
    let(:fake) { start_fake_job_server }
    let!(:go_on) { Queue.new }
    let!(:errors) { Queue.new }
    let!(:reports) do
      { report_status: [1, 2], send_data: ["data"], report_warning: ["warning"] }
    end

    # Reports until that fails: the first bytes behind a loss may still find room.
    def report_until_it_fails(job, name, *arguments)
      200.times do
        job.public_send(name, *arguments)
        sleep 0.005
      end
      nil
    rescue StandardError => e
      e
    end

    def first_peer_with_job
      peer = fake.accept
      peer.receive_until(:grab_job_uniq)
      peer.respond(:job_assign_uniq, "H:lost", "f", "", "data")
      peer
    end

    # What a worker says on a new connection up to its next grab, with a job of its own in between.
    def words_on_new_connection
      peer = fake.accept
      words = peer.receive_until(:grab_job_uniq)
      peer.respond(:job_assign_uniq, "H:next", "f", "", "next")
      words + peer.receive_until(:grab_job_uniq)
    end

    it "raises NetworkError, and nothing of the job goes out on the new connection" do
      worker = Gearman::Worker.new(fake.address, client_id: "me")
      worker.add_ability("f") do |data, job|
        next data if data == "next"

        go_on.pop
        reports.each { |name, arguments| errors << report_until_it_fails(job, name, *arguments) }
        "late result"
      end
      run(remember(worker, :close))
      peer = first_peer_with_job
      eventually("the job") { worker.status == :working }
      peer.reset
      go_on << true
      expect(words_on_new_connection)
        .to eq([[:set_client_id, "me"], [:can_do, "f"], [:grab_job_uniq],
                [:work_complete, "H:next", "next"], [:grab_job_uniq]])
      expect(Array.new(3) { errors.pop }).to all(be_a(Gearman::NetworkError))
    end

    it "raises NetworkError in another thread, also when the worker has a new connection" do
      reporter = nil
      worker = Gearman::Worker.new(fake.address, client_id: "me")
      worker.add_ability("f") do |data, job|
        next data if data == "next"

        reporter = Thread.new do
          go_on.pop
          reports.map { |name, arguments| report_until_it_fails(job, name, *arguments) }
        end
        "result"
      end
      run(remember(worker, :close))
      first = first_peer_with_job
      expect(first.receive).to eq([:work_complete, "H:lost", "result"])
      first.close
      expect(words_on_new_connection.last(2)).to eq([[:work_complete, "H:next", "next"], [:grab_job_uniq]])
      go_on << true
      expect(reporter.value).to all(be_a(Gearman::NetworkError))
      expect(fake).not_to be_connection
    end

    it "makes the job fail like any error when the block lets it out, and the worker goes on" do
      worker = Gearman::Worker.new(fake.address, client_id: "me")
      worker.add_ability("f") do |data, job|
        next data if data == "next"

        go_on.pop
        200.times { job.report_status(1, 2) && sleep(0.005) }
      end
      running = run(remember(worker, :close))
      peer = first_peer_with_job
      eventually("the job") { worker.status == :working }
      peer.reset
      go_on << true
      expect(words_on_new_connection.last(2)).to eq([[:work_complete, "H:next", "next"], [:grab_job_uniq]])
      expect(running).not_to be_ended
      expect(logged(:error).join).to include("f H:lost", "NetworkError")
    end
  end
end
