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

    # The places where the first connection of a client can be cut, the end of the last byte among them.
    def places_in(call)
      bytes_of(call).flat_map do |direction, count|
        %i[close reset].flat_map { |ending| Array.new(count + 1) { |bytes| TCPProxy::Cut.new(direction, bytes, ending) } }
      end
    end

    # Makes the call with a new client for each place, several at a time. Yields its text and outcome and returns the
    # places where something is not as it should be: the block says so, the call takes longer than it may, or the next
    # call of the client goes wrong.
    def wrong_places(call, &right)
      places = Queue.new
      places_in(call).each_with_index { |cut, index| places << [cut, format("text-%03d", index)] }
      places.close
      mutex = Mutex.new
      threads = Array.new(16) do
        Thread.new do
          wrong = []
          while (cut, text = places.pop)
            what = problem(call, cut, text) { |result| mutex.synchronize { right.call(text, result) } }
            wrong << what if what
          end
          wrong
        end
      end
      threads.flat_map(&:value)
    ensure
      threads&.each(&:kill)&.each(&:join)
    end

    def problem(call, cut, text)
      proxy = TCPProxy.new(job_server) { |number| cut if number.zero? }
      client = Gearman::Client.new(proxy.address)
      result = nil
      took = seconds { result = outcome { call.call(client, text) } }
      sleep 1.1 if cut.direction == :response && clear?(result) # a socket that was used just now is not looked at
      following = outcome { reverse(client, "next") }
      return if yield(result) && following == "txen" && took <= JobServers::PATIENCE

      "#{cut.to_a.join(" ")}: #{result.inspect} in #{took} s, then #{following.inspect}"
    ensure
      client&.close
      proxy&.stop
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
