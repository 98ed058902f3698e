# frozen_string_literal: true

require_relative "published/defects"
require_relative "published/examples"
require_relative "published/suite"

namespace :spec do
  desc "Runs the suites and the examples of the published gearman-ruby 4.0 gems against this library"
  task upstream: :compile do
    Published.unpack do |folder|
      suites = Published::SUITES.keys.map { |version| Published::Suite.new(version, File.join(folder, version)).green? }
      examples = Published::Examples.green?(folder)
      abort "spec:upstream: red" unless suites.all? && examples
    end
  end

  desc "Runs spec/defects against gearman-ruby 4.0.5, where each example must fail"
  task :defects do
    Published.install("4.0.5") { |lib| abort "spec:defects: red" unless Published::Defects.new(lib).shown? }
  end
end
