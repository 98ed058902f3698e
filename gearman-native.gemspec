# frozen_string_literal: true

Gem::Specification.new do |spec|
  spec.name = "gearman-native"
  # Read, not loaded: Bundler evaluates this file in processes that run another implementation.
  spec.version = File.read(File.join(__dir__, "lib/gearman/version.rb"))[/VERSION = "(.+)"/, 1]
  spec.summary = "Gearman client and worker as a C extension, with the API of gearman-ruby 4.0"
  spec.description = <<~TEXT
    A Ruby client, worker and embedded server for the Gearman job queue. Packets, connections and the worker loop are
    a C extension; the API is that of gearman-ruby 4.0, which it replaces without changes to the application.
  TEXT
  spec.authors = ["the gearman-native authors"]
  spec.license = "MIT"

  spec.required_ruby_version = ">= 3.1"
  spec.extensions = ["ext/gearman/extconf.rb"]
  spec.require_paths = ["lib"]
  spec.bindir = "exe"

  spec.files = Dir.glob(
    [
      "ext/**/*.{c,h,def,rb}",
      "lib/**/*.rb",
      "lib/generators/**/templates/*",
      "exe/*",
      "sig/**/*.rbs",
      "CHANGELOG.md",
      "LICENSE",
      "README.md"
    ], base: __dir__
  ).uniq.sort
  spec.executables = spec.files.grep(%r{\Aexe/}) { |path| File.basename(path) }

  spec.metadata["rubygems_mfa_required"] = "true"

  # No default gem since Ruby 4.0.
  spec.add_dependency "logger", "~> 1.4"
end
