# frozen_string_literal: true

require "rbconfig"
require "tempfile"
require "tmpdir"

# Runs gearman-worker as users do, for specs tagged :runner.
#
#   program = start_gearman_worker("-r", definitions, "-s", server.address)
#   program.says(/queues: reverse/)
#   expect(program.stop).to eq(0)
#
# What an example starts ends with it.
module WorkerProgram
  ROOT = File.expand_path("../..", __dir__)
  # Bundler takes longer to start than gearman-worker.
  CLEAN = {
    **%w[GEARMAN_SERVERS RAILS_ENV APP_ENV RACK_ENV].to_h { |name| [name, nil] },
    "RUBYOPT" => ENV["RUBYOPT"]&.gsub(%r{-r\S*bundler/setup}, "")
  }.freeze
  LIBRARIES = [File.join(ROOT, "lib"), *Gem.loaded_specs["sd_notify"]&.full_require_paths].freeze

  # A running gearman-worker.
  class Program
    attr_reader :pid

    def initialize(arguments, env: {}, directory: Dir.tmpdir)
      # Files, as a pipe that nobody reads stops who writes to it when it is full.
      @output = Tempfile.new("gearman-worker")
      command = [{ **CLEAN, **env }, RbConfig.ruby,
                 *LIBRARIES.flat_map { |path| ["-I", path] }, File.join(ROOT, "exe/gearman-worker"), *arguments]
      @errors = Tempfile.new("gearman-worker")
      @pid = spawn(*command, in: File::NULL, out: @output.path, err: @errors.path, chdir: directory, pgroup: true)
    end

    # What it and its children have written.
    def output
      File.read(@output.path, encoding: Encoding::UTF_8)
    end

    # What it wrote to its standard error.
    def errors
      File.read(@errors.path)
    end

    # Waits until it has said something; returns the match.
    def says(pattern, patience: JobServers::PATIENCE)
      eventually("#{pattern.inspect} in what gearman-worker says", patience) { pattern.match(output) }
    end

    def signal(name)
      Process.kill(name, @pid)
      self
    end

    # Waits for its end; returns the status.
    def status(patience: JobServers::PATIENCE)
      eventually("the end of gearman-worker", patience) { ended? }
      @ended.exitstatus || @ended.termsig.to_s
    end

    def stop(signal_name = "TERM")
      signal(signal_name)
      status
    end

    # Without its children.
    def kill
      return if ended?

      Process.kill("KILL", @pid)
      status
    end

    # With all that it may have left.
    def clear_away
      Process.kill("KILL", -@pid)
    rescue Errno::ESRCH
      nil # nothing was left
    ensure
      status
    end

    private

    def eventually(what, patience, &block)
      JobServers.eventually(what, patience: patience, &block)
    rescue RuntimeError => e
      raise "#{e.message}; it has said:\n#{output}#{errors}"
    end

    def ended?
      @ended ||= Process.wait2(@pid, Process::WNOHANG)&.last
    end
  end

  def start_gearman_worker(*arguments, **options)
    program = Program.new(arguments, **options)
    (@programs ||= []) << program
    program
  end

  # Runs it to its end; returns its status and what it wrote.
  def run_gearman_worker(*arguments, **options)
    program = start_gearman_worker(*arguments, **options)
    [program.status, program.output]
  end

  # Runs it to its end; returns its status and what it complained of.
  def refusal_of(*arguments, **options)
    program = start_gearman_worker(*arguments, **options)
    [program.status, program.errors]
  end

  # A file with the given content.
  def file(name, content)
    @directory ||= Dir.mktmpdir
    path = File.join(@directory, name)
    FileUtils.mkdir_p(File.dirname(path))
    File.write(path, content)
    path
  end

  def directory
    @directory ||= Dir.mktmpdir
  end

  def stop_programs
    @programs&.each(&:clear_away)
    FileUtils.remove_entry(@directory) if @directory
  end
end

RSpec.configure do |config|
  config.include WorkerProgram, :runner
  config.after(:each, :runner) { stop_programs }
end
