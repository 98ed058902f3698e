# frozen_string_literal: true

# Bundler requires a gem by its own name first. By its path, as gearman-ruby has a file of the same name.
require_relative "gearman"
