# frozen_string_literal: true

module Gearman
  # The version of gearman-native. 4.1 is the API of gearman-ruby 4.0, natively.
  VERSION = "4.1.0"
end
