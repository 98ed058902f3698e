# frozen_string_literal: true

require "gearman/active_job/dead_letters"
require "stringio"

RSpec.describe Gearman::ActiveJob::DeadLetters do
  let(:out) { StringIO.new }
  let(:dead_letters) { described_class.new(job_server.address, out: out) }

  def error(message = "boom")
    raise ArgumentError, message
  rescue ArgumentError => e
    e
  end

  def payload(number)
    JSON.generate("job_class" => "SomeJob", "job_id" => "job-#{number}", "queue_name" => "default", "executions" => 3,
                  "exception_executions" => { "[Error]" => 3 }, "arguments" => [number, "é"])
  end

  def letter(data, **options)
    job = Gearman::Worker::Job.new(nil, "H:1", "unique")
    Gearman::ActiveJob::DeadLetter.of(data, job, error, queue: "default", function: "default", **options)
  end

  def bury(*letters, server: job_server)
    client = Gearman::Client.new(server.address)
    letters.each { |letter| client.submit_background(letter.task) }
  ensure
    client&.close
  end

  # Takes all jobs of a function: [[unique, data], ...].
  def drain(function, server: job_server)
    taker = wire(server).request(:can_do, function)
    taken = []
    while (packet = taker.ask(:grab_job_uniq)).first == :job_assign_uniq
      taken << packet.last(2)
      taker.request(:work_complete, packet[1], "")
    end
    taken
  ensure
    taker&.close
  end

  def ids(text = out.string)
    text.lines.map { |line| line[/job-\d+/] }
  end

  def in_order(count)
    Array.new(count) { |number| "job-#{number}" }
  end

  each_job_server do
    it "lists letters, which stay, in their order" do
      bury(*Array.new(5) { |number| letter(payload(number)) })
      3.times do
        out.truncate(0)
        out.rewind
        expect(dead_letters.list("default")).to eq(5)
        expect(ids).to eq(in_order(5))
      end
      expect(out.string.lines.first).to match(/\A\d{4}-\d\d-\d\dT\S+Z SomeJob job-0 ArgumentError: boom\n\z/)
    end

    it "changes nothing in a letter by listing it" do
      kept = letter(payload(1))
      bury(kept)
      dead_letters.list("default")
      expect(drain("default.dead").map(&:last)).to eq([kept.to_s.b])
    end

    it "says of an empty queue, and of one that never was, that it has none" do
      expect(%i[list retry purge].map { |action| dead_letters.public_send(action, "default") }).to eq([0, 0, 0])
      expect(out.string).to eq("")
    end

    it "submits jobs again, as if they had never been tried, each with a unique of its own" do
      bury(letter(payload(1)), letter(payload(1)), letter(payload(2)))
      expect(dead_letters.retry("default")).to eq(3)
      jobs = drain("default")
      expect(jobs.map(&:first).uniq.size).to eq(3)
      contents = jobs.map { |_, data| JSON.parse(data) }
      expect(contents.map { |content| content["job_id"] }).to eq(%w[job-1 job-1 job-2])
      expect(contents).to all(include("executions" => 0, "exception_executions" => {}, "arguments" => [Integer, "é"]))
      expect(ids).to eq(%w[job-1 job-1 job-2])
      expect(dead_letters.list("default")).to eq(0)
    end

    it "submits jobs again with their priority" do
      bury(*[5, nil, -5, "first", 0].each_with_index.map do |priority, number|
        letter(JSON.generate(JSON.parse(payload(number)).merge("priority" => priority)))
      end)
      dead_letters.retry("default")
      expect(drain("default").map { |_, data| JSON.parse(data)["job_id"] }).to eq(%w[job-2 job-1 job-3 job-4 job-0])
    end

    it "submits anything else again as it was" do
      bytes = "\xFF\0\r\n".b
      bury(letter(bytes), letter("no JSON"), letter("[1]"))
      dead_letters.retry("default")
      expect(drain("default").map(&:last)).to eq([bytes, "no JSON", "[1]"])
    end

    it "drops letters" do
      bury(letter(payload(0)), letter(payload(1)))
      expect(dead_letters.purge("default")).to eq(2)
      expect(ids).to eq(in_order(2))
      expect(drain("default.dead")).to be_empty
    end

    it "leaves alone what is no dead letter, unless it is to drop it" do
      wire.ask(:submit_job_low_bg, "default.dead", "u", "\xFFsomething".b)
      expect(dead_letters.list("default")).to eq(1)
      expect(dead_letters.retry("default")).to eq(0)
      expect(out.string).to eq("not a dead letter: \"\\xFFsomething\"\n" * 2)
      expect(dead_letters.purge("default")).to eq(1)
      expect(drain("default.dead")).to be_empty
    end

    it "takes many letters" do
      bury(*Array.new(500) { |number| letter(payload(number)) })
      expect(dead_letters.list("default")).to eq(500)
      expect(ids).to eq(in_order(500))
      expect(dead_letters.retry("default")).to eq(500)
      expect(drain("default").size).to eq(500)
    end

    it "leaves every job somewhere when it is cut off", :process do
      bury(*Array.new(10) { |number| letter(payload(number)) })
      %i[retry list retry].each_with_index do |action, index|
        # Dies at a line: the job has been submitted, and its letter has not been completed.
        dying = Object.new
        dying.define_singleton_method(:puts) do |*|
          Process.kill("KILL", Process.pid) if (@lines = @lines.to_i + 1) > index
        end
        pid = fork { described_class.new(job_server.address, out: dying).public_send(action, "default") }
        Process.wait(pid)
        expect(Process.last_status.termsig).to eq(Signal.list["KILL"])
      end
      eventually("the server has the letters back") { job_server.admin("status").match?(/^default\.dead\t\d+\t0\t0$/) }
      dead_letters.retry("default")
      expect(drain("default").map { |_, data| JSON.parse(data)["job_id"] }.uniq).to match_array(in_order(10))
    end
  end

  it "may be told to list more often than the server lets a job be tried" do
    server = start_gearmand("-j", "2")
    bury(letter(payload(0)), server: server)
    Array.new(5) { expect(described_class.new(server.address, out: out).list("default")).to eq(1) }
  end

  it "looks at every server, and at none when one cannot be reached" do
    servers = [start_gearmand, start_embedded_server]
    servers.each_with_index { |server, number| bury(letter(payload(number)), server: server) }
    expect(described_class.new(servers.map(&:address), out: out).list("default")).to eq(2)
    expect(ids).to eq(in_order(2))
    servers[1].kill
    expect { described_class.new(servers.map(&:address), out: out).retry("default") }
      .to raise_error(Gearman::NetworkError, /#{servers[1].port}/)
    expect(drain("default", server: servers[0])).to be_empty
  end

  it "raises when a server does not take a letter back, which it still has then" do
    server = start_gearmand
    bury(letter(payload(0)), server: server)
    server.admin("maxqueue default.dead 1")
    expect { described_class.new(server.address, out: out).list("default") }.to raise_error(Gearman::RefusedError)
    server.admin("maxqueue default.dead 0")
    eventually("the letter is back") { server.admin("status").match?(/^default\.dead\t1\t0\t0$/) }
    expect(described_class.new(server.address, out: out).list("default")).to eq(1)
  end

  it "keeps a letter whose job no server takes" do
    server = start_gearmand
    wire(server).ask(:submit_job_bg, "default", "filler", "")
    server.admin("maxqueue default 1")
    bury(letter(payload(0)), server: server)
    expect { described_class.new(server.address, out: out).retry("default") }.to raise_error(Gearman::RefusedError)
    eventually("the letter is back") { server.admin("status").match?(/^default\.dead\t1\t0\t0$/) }
    server.admin("maxqueue default 0")
    expect(described_class.new(server.address, out: out).retry("default")).to eq(1)
    expect(drain("default", server: server).size).to eq(2)
  end

  it "refuses what cannot be a queue" do
    expect { described_class.new("localhost:4730").list("a b") }.to raise_error(Gearman::InvalidArgsError, /"a b"/)
  end

  describe Gearman::ActiveJob::DeadLetter do
    def of(error)
      job = Gearman::Worker::Job.new(nil, "H:1", "unique")
      JSON.parse(described_class.of("data", job, error, queue: "q", function: "q").to_s)["error"]
    end

    it "keeps any error" do
      mute = Class.new(StandardError) { def message = raise("no message") }
      expect(of(mute.new)).to eq("class" => nil, "message" => "", "backtrace" => nil)
      expect(of(StandardError.new("caf\xE9 \xE2\x82\xAC".b))["message"]).to eq("caf\\xE9 €")
      expect(of(StandardError.new("caf\xE9".dup.force_encoding("ISO-8859-1")))["message"]).to eq("café")
      expect(of(StandardError.new("x" * 20_000))["message"].size).to eq(10_000)
    end

    it "gives no priority to a job that the configuration would have chosen one for" do
      configuration = Gearman::Configuration.new.update(priority: ->(_job) { :high })
      job = Gearman::Worker::Job.new(nil, "H:1", "unique")
      letter = described_class.of('{"job_class":"J","priority":5}', job, StandardError.new, queue: "q", function: "q")
      expect(letter.retry_task.priority).to eq(:low)
      allow(Gearman).to receive(:configuration).and_return(configuration)
      expect(letter.retry_task.priority).to be_nil
    end

    it "knows what is none" do
      ["", "no JSON", "[1]", "{}", '{"queue":1,"failed_at":"","data":""}', "\xFF"].each do |text|
        expect(described_class.parse(text)).to be_nil
      end
    end
  end
end
