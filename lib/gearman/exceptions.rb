# frozen_string_literal: true

# A file of gearman-ruby 4.0.
require_relative "errors"
