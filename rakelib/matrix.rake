# frozen_string_literal: true

require_relative "matrix"

desc "Compiles and runs the specs under this Ruby and newer ones in Debian roots, or under those named: matrix[3.4]"
task :matrix do |_, arguments|
  exit Matrix.new(arguments.to_a).run
end
