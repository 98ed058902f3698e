# frozen_string_literal: true

require "open3"

# Commands outside of this process's bundle, as a user's shell runs them.
module Commands
  PROJECT = File.expand_path("../..", __dir__)
  BUNDLE = [RbConfig.ruby, "-e", 'load Gem.activate_bin_path("bundler", "bundle", ">= 0.a")', "--"].freeze

  # Runs a command to its end. Returns what it printed, standard error included; raises when it fails.
  def run_command(*command, env: {}, **options)
    output, status = try_command(*command, env: env, **options)
    raise "#{command.join(" ")} fails:\n#{output}" unless status.success?

    output
  end

  # [what it printed, Process::Status]
  def try_command(*command, env: {}, **options)
    outside_bundle { Open3.capture2e({ "LD_PRELOAD" => nil, **env }, *command, stdin_data: "", **options) }
  end

  private

  def outside_bundle(&)
    defined?(Bundler) ? Bundler.with_unbundled_env(&) : yield
  end
end
