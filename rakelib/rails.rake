# frozen_string_literal: true

require_relative "rails_versions"

desc "Runs the specs that need Rails under each version that this Ruby takes, or under those named: spec:rails[7.1]"
task "spec:rails": :compile do |_, arguments|
  RailsVersions.new(arguments.to_a).run || abort("spec:rails: red")
end

desc "Follows the README's guide for Rails word for word, with the gems that RubyGems has today"
task "spec:guide": :compile do
  RailsVersions.new.follow_guide || abort("spec:guide: red")
end
