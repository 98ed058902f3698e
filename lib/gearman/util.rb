# frozen_string_literal: true

# A file of gearman-ruby 3.0.
warn("gearman/util is deprecated; require \"gearman\"", category: :deprecated, uplevel: 1)
require_relative "../gearman"
