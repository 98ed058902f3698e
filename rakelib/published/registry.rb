# frozen_string_literal: true

require "fileutils"
require "json"
require "tmpdir"

module Published
  # The published versions of gearman-ruby 4.0 and the number of examples in the suite of each.
  SUITES = { "4.0.2" => 27, "4.0.3" => 27, "4.0.4" => 27, "4.0.5" => 28 }.freeze

  # Two examples are marked as pending in each.
  PENDING = 2

  GUARD = File.expand_path("guard.rb", __dir__)
  OWN_LIB = File.expand_path("../../lib", __dir__)

  # Yields a folder in which each version has a folder with its spec/ and examples/ beside a copy of our lib/.
  def self.unpack
    Dir.mktmpdir("published") do |folder|
      SUITES.each_key { |version| unpack_version(version, folder) }
      yield File.realpath(folder)
    end
  end

  # Yields the lib folder of an installed gearman-ruby.
  def self.install(version)
    Dir.mktmpdir("published") do |home|
      gem_command("install", "gearman-ruby", "--version", version, "--install-dir", home, "--no-document",
                  "--ignore-dependencies")
      yield File.join(home, "gems", "gearman-ruby-#{version}", "lib")
    end
  end

  def self.gem_command(*arguments, **options)
    Bundler.with_unbundled_env do
      system(RbConfig.ruby, "-S", "gem", *arguments, out: File::NULL, **options) ||
        abort("gem #{arguments.join(" ")} fails")
    end
  end

  def self.unpack_version(version, folder)
    Dir.mktmpdir("gem") do |download|
      gem_command("fetch", "gearman-ruby", "--version", version, chdir: download)
      gem_command("unpack", "gearman-ruby-#{version}.gem", chdir: download)
      place = FileUtils.mkdir_p(File.join(folder, version)).first
      %w[spec examples].each { |part| FileUtils.cp_r(File.join(download, "gearman-ruby-#{version}", part), place) }
      FileUtils.cp_r(OWN_LIB, place)
    end
  end
  private_class_method :gem_command, :unpack_version
end
