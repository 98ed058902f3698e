# frozen_string_literal: true

desc "Checks layout, types and documentation"
task lint: %w[lint:ruby lint:c lint:rbs lint:yard]

namespace :lint do
  task :ruby do
    ruby "-S", "rubocop", "--parallel", "--display-only-fail-level-offenses"
  end

  task :c do
    sources = Dir.glob("{ext,spec/c,fuzz,benchmark}/**/*.{c,h}").reject { |path| path.include?("/build/") }
    sh ENV.fetch("CLANG_FORMAT", "clang-format"), "--dry-run", "-Werror", *sources, verbose: false
  end

  task :rbs do
    ruby "-S", "rbs", "-I", "sig", "-r", "logger", "-r", "socket", "validate", verbose: false
  end

  task :yard do
    # YARD 0.9.45 uses Set, which Ruby 3.1 does not load by itself.
    report = `#{RbConfig.ruby} -rset -S yard stats --list-undoc --no-save 2>&1`
    puts report
    abort "lint:yard: something has no documentation, or a warning" unless report.include?("100.00% documented")
    abort "lint:yard: there are warnings" if report.include?("[warn]")
  end
end
