# frozen_string_literal: true

require "open3"
require "tmpdir"

# The commands that it calls are replaced by such as end as they are told to.
RSpec.describe ".ci/run", :packaging do
  let(:folder) { Dir.mktmpdir("ci") }

  after { FileUtils.rm_rf(folder) }

  # Writes the commands; each runs what the Hash has for it, or passes.
  def commands(endings)
    FileUtils.mkdir_p(%w[.ci bin tools].map { |name| File.join(folder, name) })
    FileUtils.cp(File.expand_path("../../.ci/run", __dir__), File.join(folder, ".ci/run"))
    %w[setup demo test].each { |name| command("bin/#{name}", endings.fetch("bin/#{name}", "true")) }
    tasks = endings.reject { |name, _| name.start_with?("bin/") }
    command("tools/ruby", <<~SHELL)
      case "$*" in
      #{tasks.map { |name, ending| "*' rake '#{name.dump}) #{ending} ;;" }.join("\n")}
      esac
    SHELL
  end

  def command(path, shell)
    File.write(File.join(folder, path), "#!/bin/sh\n#{shell}\n", perm: 0o755)
  end

  def run(endings)
    commands(endings)
    path = "#{File.join(folder, "tools")}:#{ENV.fetch("PATH")}"
    output, status = Open3.capture2e({ "PATH" => path }, "bash", File.join(folder, ".ci/run"))
    [status.exitstatus, output]
  end

  def examples(count, failures) = %(echo "#{count} examples, #{failures} failures")

  it "counts the examples of all stages, and the C tests" do
    status, output = run("bin/test" => "#{examples(10, 0)}; echo '5 passed, 0 failed'", "sanitize" => examples(7, 0),
                         "matrix[3.3]" => examples(6, 0), "matrix[3.4]" => examples(4, 0), "memcheck" => examples(2, 0))
    expect([status, output.lines.last]).to eq([0, "34 passed, 0 failed\n"])
  end

  stages = %w[bin/demo benchmark:libraries bin/test sanitize matrix[3.3] matrix[3.4] memcheck]
  { "bin/setup" => "setup", **stages.to_h { |name| [name, name] } }.each do |command, stage|
    it "is red when #{command} is, and says so" do
      status, output = run("bin/test" => examples(3, 0), command => "echo broken; exit 1")
      expect(status).to eq(1)
      expect(output).to include("RED: #{stage}\n", "\n#{stage}: broken\n")
      expect(output.lines.last).to match(/\A\d passed, 1 failed\n\z/)
    end
  end

  it "shows the failed examples of a red stage" do
    failures = "echo Failures:; echo '  1) is wrong'; echo Finished in 1 second; #{examples(3, 2)}; exit 1"
    status, output = run("bin/test" => failures)
    expect([status, output.lines.last]).to eq([1, "1 passed, 2 failed\n"])
    expect(output).to include("bin/test:   1) is wrong")
  end

  it "goes on without a matrix that cannot run here, and says why" do
    status, output = run("bin/test" => examples(3, 0), "matrix[3.4]" => "echo 'no root'; exit 2")
    expect([status, output.lines.last]).to eq([0, "3 passed, 0 failed\n"])
    expect(output).to match(/^SKIPPED: matrix\[3\.4\]: no root$/)
  end

  it "is red when stages never ran" do
    kill_lane = 'kill -KILL "$(cut -d" " -f4 /proc/$PPID/stat)"'
    status, output = run("bin/test" => examples(3, 0), "matrix[3.3]" => kill_lane)
    expect(status).to eq(1)
    expect(output).to match(/^RED: stages that never ran$/)
  end

  it "takes the status of a skipped matrix for nothing else" do
    expect(run("bin/test" => "#{examples(3, 0)}; exit 2").first).to eq(1)
  end

  it "names the examples that passed at the second try" do
    expect(run("bin/test" => "echo 'UNSTEADY: one'; #{examples(3, 0)}").last).to match(%r{^bin/test: UNSTEADY: one$})
  end
end
