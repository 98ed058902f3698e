# frozen_string_literal: true

require "json"
require "tmpdir"

# The examples run in an RSpec of their own: its outcome is what is looked at.
RSpec.describe "gearman/rspec" do
  include Commands

  # {"description" => "passed" or the message of the failure}
  def outcomes(examples)
    Dir.mktmpdir("rspec") do |folder|
      file = File.join(folder, "example_spec.rb")
      File.write(file, <<~RUBY)
        require "gearman/rspec"
        RSpec.describe "Gearman" do
          let(:client) { Gearman::Client.new("127.0.0.1:#{JobServers.free_port}") }
          def submit(func, data = "", **options) = client.do_task(Gearman::BackgroundTask.new(func, data, options))
        #{examples}
        end
      RUBY
      output, = Open3.capture2(RbConfig.ruby, "-I", File.join(Commands::PROJECT, "lib"), "-S", "rspec", "--options",
                               File::NULL, "--format", "json", file, chdir: folder)
      JSON.parse(output).fetch("examples").to_h do |example|
        [example["description"], example.dig("exception", "message") || example["status"]]
      end
    end
  end

  it "passes when the tasks are there" do
    results = outcomes(<<~RUBY)
      it("a") { submit("a"); expect(Gearman).to have_submitted("a") }
      it("b") { expect { submit("b", "x") }.to have_submitted(:b).with("x").once }
      it("c") { submit("c"); expect { 2.times { |i| submit("c", i.to_s) } }.to have_submitted("c").twice }
      it("d") { submit("d", "12"); expect(Gearman).to have_submitted(/d/).with(a_string_starting_with("1")).at_least(1).times }
      it("e") { expect(Gearman).not_to have_submitted("e") }
      it("f") { expect { submit("x") }.not_to have_submitted("f") }
      it("g") { expect { submit("g") }.to have_submitted("g").at_most(2).times.and have_submitted("g").exactly(1).time }
      it("h") { submit("h", "", priority: :low); expect(Gearman).to have_submitted("h").with_priority(:low) }
      it("i") { t = Time.now + 60; submit("i", "", schedule_at: t); expect(Gearman).to have_submitted("i").at(t) }
      it("j") { submit("j"); expect(Gearman).to have_submitted("j").in_background.exactly(1).times }
      it("k") { expect(Gearman).to have_submitted("k").exactly(0).times }
      it("l", gearman: :inline) { Gearman::Testing.stub("l") { |data| @ran = data; "" }; submit("l", "1"); expect(@ran).to eq("1") }
      it("m", gearman: :disabled) { expect { submit("m") }.to raise_error(Gearman::NoJobServersError) }
    RUBY

    expect(results).to eq(("a".."m").to_h { |name| [name, "passed"] })
  end

  it "fails when they are not, and says what was submitted" do
    results = outcomes(<<~RUBY)
      it("function") { submit("x", "data", priority: :high); expect(Gearman).to have_submitted("a") }
      it("data") { submit("a", "y"); expect(Gearman).to have_submitted("a").with("x") }
      it("matcher") { expect(Gearman).to have_submitted("a").with(a_string_including("x")) }
      it("block") { submit("a"); expect { }.to have_submitted("a") }
      it("once") { expect { 2.times { submit("a") } }.to have_submitted("a").once }
      it("at least") { submit("a"); expect(Gearman).to have_submitted("a").at_least(2).times }
      it("at most") { submit("a"); submit("a"); expect(Gearman).to have_submitted("a").at_most(1).times }
      it("priority") { submit("a"); expect(Gearman).to have_submitted("a").with_priority(:high) }
      it("time") { submit("a"); expect(Gearman).to have_submitted("a").at(Time.now) }
      it("none") { submit("a", "z"); expect(Gearman).not_to have_submitted("a") }
    RUBY

    expect(results).to match(
      "function" => "expected to have submitted \"a\", but 0 of these were: \n  x(\"data\", high priority)",
      "data" => "expected to have submitted \"a\" with \"x\", but 0 of these were: \n  a(\"y\")",
      "matcher" => "expected to have submitted \"a\" with a string including \"x\", but 0 of these were: nothing",
      "block" => "expected to have submitted \"a\", but 0 of these were: nothing",
      "once" => start_with("expected to have submitted \"a\" exactly once, but 2 of these were:"),
      "at least" => start_with("expected to have submitted \"a\" at least 2 times, but 1 of these were:"),
      "at most" => start_with("expected to have submitted \"a\" at most once, but 2 of these were:"),
      "priority" => start_with("expected to have submitted \"a\" with priority :high, but 0"),
      "time" => start_with("expected to have submitted \"a\" at "),
      "none" => "expected not to have submitted \"a\", but these were: \n  a(\"z\")"
    )
  end

  it "refuses what makes no sense" do
    results = outcomes(<<~RUBY)
      it("subject") { expect(1).to have_submitted("a") }
      it("count") { expect(Gearman).to have_submitted("a").exactly("2").times }
      it("negated") { expect(Gearman).not_to have_submitted("a").twice }
      it("disabled", gearman: :disabled) { expect(Gearman).to have_submitted("a") }
    RUBY

    expect(results).to match("subject" => include("not 1"), "count" => include('not "2"'),
                             "negated" => include("takes no count"), "disabled" => include(":disabled"))
  end
end
