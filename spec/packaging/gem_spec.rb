# frozen_string_literal: true

require "rubygems/package"
require "tmpdir"

RSpec.describe "the gem", :packaging do
  include Commands
  extend Commands

  before(:context) do
    @folder = File.realpath(Dir.mktmpdir("gem"))
    @file = File.join(@folder, "gearman-native.gem")
    @home = File.join(@folder, "home")
    run_command(RbConfig.ruby, "-S", "gem", "build", "gearman-native.gemspec", "--output", @file,
                chdir: Commands::PROJECT)
    run_command(RbConfig.ruby, "-S", "gem", "install", "--local", "--no-document", @file, env: gem_environment)
  end

  after(:context) { FileUtils.rm_rf(@folder) }

  # The default folder has the gems that come with Ruby: from Ruby 4.0 on, logger is one.
  def gem_environment
    path = [@home, Gem.default_dir].join(File::PATH_SEPARATOR)
    { "GEM_HOME" => @home, "GEM_PATH" => path, "RUBYLIB" => nil, "RUBYOPT" => nil }
  end

  it "has what is compiled, loaded and read, and nothing else" do
    files = Gem::Package.new(@file).spec.files
    templates = "lib/generators/gearman/install/templates/"
    wanted = %r{\A(?:ext/gearman/.+\.(?:c|h|def|rb)|lib/.+\.rb|#{templates}.+|exe/.+|sig/.+\.rbs|[A-Z]+(?:\.md)?)\z}

    expect(files).to include("ext/gearman/extconf.rb", "ext/gearman/native.c", "ext/gearman/protocol/commands.def",
                             "lib/gearman.rb", "lib/gearman-native.rb", "README.md", "CHANGELOG.md", "LICENSE",
                             "#{templates}gearman.yml")
    expect(files.grep_v(wanted)).to eq([])
  end

  it "says what it is and what it needs, and names no address" do
    spec = Gem::Package.new(@file).spec
    expect([spec.name, spec.version.to_s, spec.required_ruby_version.to_s]).to eq(["gearman-native", "4.1.0", ">= 3.1"])
    expect(spec.runtime_dependencies.map(&:name)).to eq(["logger"]) # no default gem any more from Ruby 4.0 on
    expect([spec.homepage, spec.metadata]).to match([be_nil.or(eq("")), { "rubygems_mfa_required" => "true" }])
  end

  it "exports nothing but what Ruby calls to load it", if: RbConfig::CONFIG["host_os"].include?("linux") do
    library = Dir.glob("#{@home}/**/gearman/native.so").first
    symbols = run_command("nm", "--dynamic", "--defined-only", library).lines.map { |line| line.split.last }
    expect(symbols.grep_v(/\A_|\A\.|asan|ubsan/)).to eq(["Init_native"])
  end

  it "installs into an empty GEM_HOME and shows itself at work from there" do
    FileUtils.cp(File.join(Commands::PROJECT, "examples/demo.rb"), @folder)
    features = "at_exit { puts $LOADED_FEATURES.grep(/gearman/) }; load ARGV.shift"
    output = run_command(RbConfig.ruby, "-e", features, "demo.rb", env: gem_environment, chdir: @folder)

    loaded = output.lines(chomp: true).grep(%r{\A/.*gearman.*\.(?:rb|so|bundle)\z})
    expect(loaded).to include(end_with("/gearman/native.#{RbConfig::CONFIG["DLEXT"]}"), end_with("/lib/gearman.rb"))
    expect(loaded).to all(start_with("#{@home}/"))
  end

  it "is loaded by its own name too" do
    output = run_command(RbConfig.ruby, "-e", 'require "gearman-native"; puts Gearman::VERSION', env: gem_environment)

    expect(output.chomp).to eq(File.read(File.join(Commands::PROJECT, "lib/gearman/version.rb"))[/"(\d.+)"/, 1])
  end
end
