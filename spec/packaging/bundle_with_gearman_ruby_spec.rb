# frozen_string_literal: true

require "tmpdir"

RSpec.describe "a bundle that has gearman-ruby, too", :packaging do
  include Commands

  ours = "gem \"gearman-native\", path: #{Commands::PROJECT.dump}"
  theirs = 'gem "gearman-ruby", "4.0.5"'
  other = 'gem "other", path: "other"'

  before(:context) do
    @home = File.realpath(Dir.mktmpdir("gearman-ruby"))
    run_command(RbConfig.ruby, "-S", "gem", "install", "gearman-ruby", "--version", "4.0.5", "--install-dir", @home,
                "--no-document", "--ignore-dependencies")
  end

  after(:context) { FileUtils.rm_rf(@home) }

  let(:folder) { File.realpath(Dir.mktmpdir("bundle")) }
  let(:env) { { "GEM_PATH" => [@home, *Gem.default_path].join(File::PATH_SEPARATOR) } }

  before do
    FileUtils.mkdir_p(File.join(folder, "other/lib"))
    File.write(File.join(folder, "other/lib/other.rb"), "require \"gearman\"\n")
    File.write(File.join(folder, "other/other.gemspec"), <<~RUBY)
      Gem::Specification.new("other", "1") do |spec|
        spec.summary = "needs gearman-ruby"
        spec.authors = ["nobody"]
        spec.files = ["lib/other.rb"]
        spec.add_dependency "gearman-ruby", "4.0.5"
      end
    RUBY
  end

  after { FileUtils.rm_rf(folder) }

  # The output and status of a script in a bundle of these gems.
  def in_bundle(gems, script)
    File.write(File.join(folder, "Gemfile"), ["source Gem.sources.first.uri.to_s", *gems, ""].join("\n"))
    run_command(*Commands::BUNDLE, "install", "--local", env: env, chdir: folder)
    try_command(RbConfig.ruby, "-rbundler/setup", "-e", script, env: env, chdir: folder)
  end

  use = <<~RUBY
    require "gearman"
    require "gearman/client"
    require "gearman/server"
    puts Gearman::Packet.method(:encode).source_location.inspect, Gearman::VERSION
    puts $LOADED_FEATURES.grep(/gearman-ruby/)
  RUBY

  {
    "below it" => [theirs, ours],
    "above it" => [ours, theirs],
    "above it, with require: false" => [ours, "#{theirs}, require: false"],
    "above a gem that requires it" => [ours, other]
  }.each do |place, gems|
    it "loads gearman-native where that stands #{place}" do
      output, status = in_bundle(gems, "Bundler.require\n#{use}")
      expect(status).to be_success, output
      expect(output).to eq("nil\n#{Gearman::VERSION}\n")
    end
  end

  it "loads gearman-native where that is required by its own name first" do
    output, = in_bundle([other, ours], "require \"gearman-native\"\nrequire \"other\"\n#{use}")
    expect(output).to eq("nil\n#{Gearman::VERSION}\n")
  end

  it "finds every public method of gearman-ruby 4.0 in gearman-native" do
    in_bundle([theirs], <<~RUBY)
      require "gearman"
      require "gearman/server"
      modules = ObjectSpace.each_object(Module).select { |mod| mod.name.to_s.start_with?("Gearman") }
      lines = modules.flat_map do |mod|
        mod.public_instance_methods(false).map { |name| "\#{mod} \#{name}" } +
          mod.singleton_methods(false).map { |name| "\#{mod} . \#{name}" }
      end
      File.write("methods", lines.join("\n"))
    RUBY
    in_bundle([ours], <<~RUBY)
      require "gearman"
      require "gearman/server"
      missing = File.readlines("methods", chomp: true).reject do |line|
        mod, *dot, name = line.split
        mod = Object.const_get(mod)
        dot.any? ? mod.respond_to?(name) : mod.public_method_defined?(name)
      end
      File.write("missing", missing.join("\n"))
    RUBY
    methods, missing = %w[methods missing].map { |name| File.readlines(File.join(folder, name)) }
    expect(methods.size).to be > 100
    expect(missing).to eq([])
  end

  {
    "a gem above gearman-native requires it" => [other, ours],
    "its line above gearman-native requires it" => ["#{theirs}, require: \"gearman\"", ours]
  }.each do |place, gems|
    it "says what to do when #{place}" do
      output, status = in_bundle(gems, "Bundler.require")
      expect(status).not_to be_success
      expect(output).to include("gearman-ruby is loaded already (#{@home}/gems/gearman-ruby-4.0.5/lib/gearman/")
        .and include('gem "gearman-native" above')
    end
  end
end
