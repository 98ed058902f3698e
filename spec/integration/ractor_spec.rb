# frozen_string_literal: true

JobServers.describe "a client in a Ractor", :process do
  let(:server) { job_server }

  before { start_worker(server, "reverse" => ->(data, _job) { data.reverse }, "fail" => ->(*) {}) }

  it "does all that it does elsewhere" do
    output = run_ruby(<<~'RUBY', server.address)
      Warning[:experimental] = false
      ractors = Array.new(3) do |number|
        Ractor.new(ARGV[0], number) do |address, name|
          client = Gearman::Client.new(address)
          client.set_options("exceptions")
          Gearman.logger.level = Logger::FATAL
          answers = Array.new(30) { |index| client.do_task(Gearman::Task.new("reverse", "#{name}-#{index}"), 20) }
          calls = []
          set = Gearman::TaskSet.new(client)
          task = Gearman::Task.new("fail", "x", { retry_count: 1, uniq: name }.freeze)
          task.on_retry { |count| calls << count }
          task.on_fail { calls << :failed }
          set.add_task(task)
          set.add_task(Gearman::BackgroundTask.new("background"))
          calls << set.wait(20)
          handles = client.submit_all(Array.new(3) { Gearman::BackgroundTask.new("background") })
          calls << handles.uniq.size << client.job_status(handles.last).known? << client.ping.values.all?(Float)
          begin
            client.do_task(Gearman::Task.new("f" * 9000))
          rescue Gearman::InvalidArgsError
            calls << :refused
          end
          begin
            Gearman::Client.new("h:name")
          rescue Gearman::InvalidArgsError => e
            calls << e.message[0, 8]
          end
          client.close
          [answers == Array.new(30) { |index| "#{name}-#{index}".reverse }, calls]
        end
      end
      main = Gearman::Client.new(ARGV[0])
      puts main.do_task(Gearman::Task.new("reverse", "main"), 20)
      ractors.each { |ractor| p(ractor.respond_to?(:value) ? ractor.value : ractor.take) }
    RUBY
    expect(output).to eq("niam\n#{"[true, [1, :failed, false, 3, true, true, :refused, \"\\\"h:name\\\"\"]]\n" * 3}")
  end

  it "cannot be shared or moved, and says so" do
    output = run_ruby(<<~RUBY, server.address)
      Warning[:experimental] = false
      client = Gearman::Client.new(ARGV[0])
      client.do_task(Gearman::Task.new("reverse", "x"), 20)
      begin
        Ractor.make_shareable(client)
      rescue Ractor::Error => e
        puts e.class
      end
      begin
        Ractor.new { Ractor.receive }.send(client, move: true)
      rescue Ractor::Error, TypeError
        puts "refused"
      end
    RUBY
    expect(output).to eq("Ractor::Error\nrefused\n")
  end
end
