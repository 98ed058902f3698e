# frozen_string_literal: true

# The connection is lost behind every single byte of a conversation, in either direction.
RSpec.describe "a connection that is cut", :quiet do
  each_job_server do
    let(:ran) { Queue.new }

    before { start_worker(job_server, "f" => ->(data, _job) { (ran << data) && data.reverse }) }

    def reverse(client, text)
      client.do_task(Gearman::Task.new("f", text), JobServers::PATIENCE)
    end

    # What a call came to: its value, or the Gearman::Error that it raised.
    def outcome
      yield
    rescue Gearman::Error => e
      e
    end

    # Whether it is an error that says that the outcome of the task of this text is unknown.
    def doubtful?(result, text)
      result.is_a?(Gearman::NetworkError) && result.tasks.map(&:arg) == [text]
    end

    # Whether nothing has gone wrong.
    def clear?(result)
      Array(result).none? { |part| part == :doubtful || part.is_a?(Gearman::Error) }
    end

    # How many bytes the call takes in each direction on a new connection.
    def bytes_of(call)
      proxy = tcp_proxy(job_server)
      client = Gearman::Client.new(proxy.address)
      call.call(client, "sample-0")
      client.close
      proxy.links.first.carried
    end

    # Makes the call with a new client for each place where its first connection can be cut, the end of the last byte
    # among them. Yields its text and outcome and returns the places where something is not as it should be: the block
    # says so, or the next call of the client goes wrong.
    def wrong_places(call)
      places = bytes_of(call).flat_map do |direction, count|
        %i[close reset].flat_map { |ending| Array.new(count + 1) { |bytes| TCPProxy::Cut.new(direction, bytes, ending) } }
      end
      places.each_with_index.filter_map do |cut, index|
        proxy = TCPProxy.new(job_server) { |number| cut if number.zero? }
        client = Gearman::Client.new(proxy.address)
        text = format("text-%03d", index)
        result = outcome { call.call(client, text) }
        sleep 1.1 if cut.direction == :response && clear?(result) # a socket that was used just now is not looked at
        following = outcome { reverse(client, "next") }
        next if yield(text, result) && following == "txen"

        "#{cut.to_a.join(" ")}: #{result.inspect}, then #{following.inspect}"
      ensure
        client.close
        proxy.stop
      end
    end

    it "ends a foreground task with its result or an error that names it" do
      outcomes = Hash.new(0)
      wrong = wrong_places(method(:reverse)) do |text, result|
        outcomes[result.class] += 1
        result == text.reverse || doubtful?(result, text)
      end
      expect(wrong.join("\n")).to eq("")
      expect(outcomes[Gearman::NetworkError]).to be > 100
    end

    it "ends a background task with its handle or an error that names it, and what has a handle runs once" do
      submitted = []
      submit = lambda do |client, text|
        task = Gearman::BackgroundTask.new("f", text)
        client.do_task(task, JobServers::PATIENCE)
        task.handle
      end
      wrong = wrong_places(submit) do |text, result|
        submitted << text if result.is_a?(String)
        result.is_a?(String) || doubtful?(result, text)
      end
      expect(wrong.join("\n")).to eq("")
      runs = Array.new(ran.size) { ran.pop }.tally
      expect(runs.slice(*submitted)).to eq(submitted.to_h { |text| [text, 1] })
      expect(runs.except("next", "sample-0").values).to all(eq(1))
    end

    it "gives each task of a bulk submission its handle, or names it" do
      submit = lambda do |client, text|
        tasks = Array.new(3) { |index| Gearman::BackgroundTask.new("f", "#{text} #{index}") }
        outcome { client.submit_all(tasks) }.then do |result|
          doubtful = result.is_a?(Gearman::NetworkError) ? result.tasks : []
          tasks.map { |task| doubtful.include?(task) ? :doubtful : task.error || task.handle }
        end
      end
      wrong = wrong_places(submit) do |_text, results|
        results.all? { |result| result == :doubtful || result.is_a?(String) }
      end
      expect(wrong.join("\n")).to eq("")
    end
  end
end
