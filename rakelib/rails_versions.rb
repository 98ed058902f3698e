# frozen_string_literal: true

require "bundler"
require "json"
require "open3"

# Runs the specs below spec/active_job and spec/rails under several versions of Rails, each with a Gemfile of its own
# in gemfiles/. What is tagged :newest runs under the newest version alone.
class RailsVersions
  ROOT = File.expand_path("..", __dir__)
  # The folders are run apart, side by side: each has a Rails application of its own, of which a process has one.
  FOLDERS = %w[spec/active_job spec/rails].freeze
  BUNDLE = [RbConfig.ruby, "-e", 'load Gem.activate_bin_path("bundler", "bundle", ">= 0.a")', "--"].freeze
  private_constant :ROOT, :FOLDERS, :BUNDLE

  def initialize(versions = [])
    # Rails 8 needs Ruby 3.2; the Gemfiles of the older ones pin gems that are compiled for Ruby 3.1.
    known = all.select { |version| (version.to_i >= 8) == (RUBY_VERSION >= "3.2") }
    unknown = versions - known
    unless unknown.empty?
      abort "spec:rails: with Ruby #{RUBY_VERSION} there is no Rails #{unknown.join(", ")}, only #{known.join(", ")}"
    end
    @versions = versions.empty? ? known : versions
    @newest = known.last
  end

  # Whether all are green.
  def run
    results = @versions.to_h { |version| [version, green?(version)] }
    results.each { |version, green| puts "spec:rails: Rails #{version}: #{green ? "green" : "red"}" }
    results.values.all?
  end

  # Whether the README's guide works with the newest version.
  def follow_guide
    environment = environment_of(@newest)
    command = [*BUNDLE, "exec", "rspec", "--tag", "guide", "spec/rails/readme_spec.rb"]
    Bundler.with_unbundled_env { install(environment) && system(environment, *command, chdir: ROOT) }
  end

  # How many examples there are under the newest version.
  def count
    environment = environment_of(@newest)
    Bundler.with_unbundled_env do
      install(environment) || abort("spec:rails: the bundle of Rails #{@newest} cannot be installed")
      start(environment, "--dry-run", "--format", "json").sum do |output, _|
        JSON.parse(output[/^{.*}$/]).fetch("examples").size
      end
    end
  end

  private

  def all
    versions = Dir.children(File.join(ROOT, "gemfiles")).filter_map do |name|
      name[/\Arails_(\d+_\d+)\.gemfile\z/, 1]&.tr("_", ".")
    end
    versions.sort_by { |version| Gem::Version.new(version) }
  end

  def green?(version)
    puts "== Rails #{version}"
    environment = environment_of(version)
    tags = version == @newest ? [] : ["--tag", "~newest"]
    Bundler.with_unbundled_env { install(environment) && run_specs(environment, tags) }
  end

  def environment_of(version)
    { "BUNDLE_GEMFILE" => File.join(ROOT, "gemfiles/rails_#{version.tr(".", "_")}.gemfile"),
      "BUNDLE_PATH" => bundle_path, "BUNDLE_WITHOUT" => nil }
  end

  def install(environment)
    system(environment, *BUNDLE, "check", chdir: ROOT, out: File::NULL, err: File::NULL) ||
      system(environment, *BUNDLE, "install", "--quiet", "--jobs", "4", chdir: ROOT)
  end

  def run_specs(environment, tags)
    start(environment, *tags).map { |output, status| puts(output) || status.success? }.all?
  end

  # Runs RSpec in both folders. Returns the output and the status of each.
  def start(environment, *options)
    runs = FOLDERS.map do |folder|
      specs = Dir.glob("#{folder}/**/*_spec.rb", base: ROOT).sort
      command = [*BUNDLE, "exec", "rspec", *options, *specs]
      Thread.new { Open3.capture2e(environment, *command, chdir: ROOT, stdin_data: "") }
    end
    runs.map(&:value)
  end

  # The same for all versions, and not the project's own: with two versions of a default gem in it, RubyGems warns in
  # every process that specs start.
  def bundle_path
    path = Bundler.settings[:path]
    path && "#{File.expand_path(path, ROOT)}-rails"
  end
end
