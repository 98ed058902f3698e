# frozen_string_literal: true

require_relative "rails_versions"

desc "Runs the specs that need Rails under each version that this Ruby takes, or under those named: spec:rails[7.1]"
task "spec:rails": :compile do |_, arguments|
  RailsVersions.new(arguments.to_a).run || abort("spec:rails: red")
end
