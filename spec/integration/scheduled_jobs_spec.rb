# frozen_string_literal: true

# Scheduled jobs whose function comes last, beside others that never come to an end.
RSpec.describe Gearman::Worker, :worker do
  # When each kind of job began, in seconds of the wall clock, and the seconds that it took altogether.
  let(:begun) { Hash.new { |times, kind| times[kind] = [] } }
  let(:spent) { Hash.new(0.0) }

  def record(kind, patience)
    began = Time.now.to_f
    begun[kind] << began
    sleep patience
    spent[kind] += Time.now.to_f - began
    true
  end

  def run_both(scheduled: 0, servers: job_server, **options)
    worker = new_worker(servers, {}, options)
    worker.add_ability("q.scheduled", scheduled: true) { record(:scheduled, scheduled) }
    worker.add_ability("q") { record(:ordinary, 0.005) }
    run(worker)
  end

  def waiting
    Integer(job_server.admin("status").lines.map(&:split).find { |name,| name == "q" }[1])
  end

  each_job_server do
    [1, 8].each do |prefetch|
      it "are begun about when they are due, with a prefetch of #{prefetch}" do
        client.submit_all("q", Array.new(2000, ""))
        due = Array.new(2) { |i| Time.now.to_i + 1 + i }
        due.each { |time| client.schedule("q.scheduled", Time.at(time)) }
        run_both(prefetch: prefetch)
        eventually("all scheduled jobs") { begun[:scheduled].size == 2 }
        expect(waiting).to be > 100
        expect(begun[:scheduled].zip(due).map { |time, wanted| time - wanted }).to all(be_between(0, 1.5))
        registered("q.scheduled")
      end
    end

    it "are begun about when they are due by a server that has nothing else, beside a busy one" do
      other = job_server.is_a?(JobServers::Gearmand) ? start_gearmand : start_embedded_server
      client.submit_all("q", Array.new(2000, ""))
      run_both(servers: [job_server, other])
      registered("q.scheduled", server: other)
      due = Time.now.to_i + 2
      client(other).schedule("q.scheduled", Time.at(due))
      eventually("the scheduled job") { begun[:scheduled].any? }
      expect(waiting).to be > 100
      expect(begun[:scheduled].first - due).to be_between(0, 1.5)
    end

    it "do not take more than half of the time, however many are due and however long each takes" do
      client.submit_all("q", Array.new(2000, ""))
      client.submit_all("q.scheduled", Array.new(100, ""))
      run_both(scheduled: 0.9)
      eventually("scheduled jobs") { begun[:scheduled].size == 2 }
      expect(waiting).to be > 100
      expect(spent[:ordinary]).to be > spent[:scheduled] * 0.6
    end

    it "have a turn of a tenth of a second where they are short" do
      client.submit_all("q", Array.new(2000, ""))
      client.submit_all("q.scheduled", Array.new(2000, ""))
      run_both(scheduled: 0.01)
      eventually("ordinary jobs") { begun[:ordinary].size > 200 }
      expect(begun[:scheduled].size).to be > 5
      expect(spent[:ordinary]).to be > spent[:scheduled] * 2
    end
  end

  describe "what servers are told" do
    let(:job_server) { start_fake_job_server(version: version) }
    let(:version) { "1.1.20" }

    def assign(peer, func)
      peer.respond(:job_assign_uniq, "H:1", func, "", "")
      peer.receive_until(:grab_job_uniq).map { |packet| packet.take(2) }
    end

    it "changes the order for a grab, and back" do
      run_both
      peer = job_server.accept
      peer.receive_until(:grab_job_uniq)
      expect(assign(peer, "q").drop(1))
        .to eq([[:cant_do, "q.scheduled"], [:can_do, "q.scheduled"], [:grab_job_uniq]])
      expect(assign(peer, "q.scheduled").drop(1)).to eq([[:grab_job_uniq]])
      expect(assign(peer, "q").drop(1)).to eq([[:cant_do, "q"], [:can_do, "q"], [:grab_job_uniq]])
      expect(assign(peer, "q").drop(1)).to eq([[:grab_job_uniq]])
    end

    it "is nothing when no jobs come, or none that are scheduled" do
      run_worker(job_server, "q" => ->(*) { true })
      peer = job_server.accept
      peer.receive_until(:grab_job_uniq)
      expect(assign(peer, "q").drop(1)).to eq([[:grab_job_uniq]])
      peer.answer(:grab_job_uniq) { [:no_job] }
      peer.respond(:no_job)
      sleep 1.5
      expect(peer.counts.values_at(:can_do, :cant_do)).to eq([1, 0])
    end

    it "is a grab for each of them a second, though the loop that grabs has a job of another" do
      servers = [job_server, start_fake_job_server(version: version)]
      grabs = []
      due = false
      gate = Queue.new
      servers.each do |server|
        server.answer(:grab_job_uniq) do
          grabs << [server, Process.clock_gettime(Process::CLOCK_MONOTONIC)]
          due ? (due = false) || [:job_assign_uniq, "H:1", "f", "", ""] : [:no_job]
        end
      end
      run_worker(servers, { "f" => ->(*) { gate.pop } }, { concurrency: 2 })
      took = Array.new(3) do
        sleep 1.5
        grabs.clear
        due = true
        eventually("a job") { gate.num_waiting == 1 }
        one, at = grabs.first
        other = eventually("the other server") { grabs.find { |server, _| server != one } }
        gate << true
        other.last - at
      end
      expect(took.min).to be < 0.5
    end

    context "when they let functions take turns" do
      let(:version) { "2.0.1" }

      it "is nothing" do
        run_both
        peer = job_server.accept
        peer.receive_until(:grab_job_uniq)
        expect(assign(peer, "q").drop(1)).to eq([[:grab_job_uniq]])
      end
    end
  end
end
