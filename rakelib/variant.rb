# frozen_string_literal: true

require "fileutils"

# A copy of the project in a folder of its own, for a build that must not touch lib/gearman/native.so of the checkout:
# other flags, another Ruby.
class Variant
  ROOT = File.expand_path("..", __dir__)
  PARTS = %w[
    .ci .rspec CHANGELOG.md Gemfile LICENSE README.md Rakefile benchmark bin examples exe ext fuzz
    gearman-native.gemspec gemfiles lib rakelib sig spec
  ].freeze
  BUILT = %r{\.(?:so|bundle|o)\z|(?:\A|/)build/}
  private_constant :ROOT, :PARTS, :BUILT

  attr_reader :folder

  # A variant below tmp/, which shares the checkout's bundle.
  def self.local(name)
    variant = new(File.join(ROOT, "tmp", "variants", name)).update
    FileUtils.cp(File.join(ROOT, "Gemfile.lock"), variant.folder)
    variant
  end

  def initialize(folder)
    @folder = folder
  end

  # Makes the copy the same as the checkout. What was built in it stays, and so does its Gemfile.lock.
  def update
    wanted = sources(ROOT)
    (sources(folder) - wanted).each { |path| FileUtils.rm(File.join(folder, path)) }
    wanted.each { |path| copy(path) }
    self
  end

  # Runs a command of the bundle in the folder; false when it fails.
  def run(environment, *command)
    own = { "BUNDLE_GEMFILE" => File.join(folder, "Gemfile"), "BUNDLE_PATH" => bundle_path }
    Bundler.with_original_env do
      system(own.merge(environment), RbConfig.ruby, "-rbundler/setup", "-S", *command, chdir: folder)
    end
  end

  private

  def sources(root)
    PARTS.flat_map { |part| [part, *Dir.glob("#{part}/**/*", File::FNM_DOTMATCH, base: root)] }
         .select { |path| File.file?(File.join(root, path)) && !path.match?(BUILT) }
  end

  # Leaves alone what is the same, so that make builds only what changed.
  def copy(path)
    source = File.join(ROOT, path)
    target = File.join(folder, path)
    return if File.file?(target) && FileUtils.identical?(source, target)

    FileUtils.mkdir_p(File.dirname(target))
    FileUtils.cp(source, target)
    FileUtils.chmod(File.stat(source).mode, target)
  end

  def bundle_path
    path = Bundler.settings[:path]
    path && File.expand_path(path, ROOT)
  end
end
