# frozen_string_literal: true

require "json"
require "tmpdir"
require_relative "rails_versions"
require_relative "variant"

SUPPRESSIONS = File.expand_path("suppressions", __dir__)

# How a process runs that loads an extension built with sanitizers.
SANITIZED = {
  # Ruby's collector scans the real stack alone, and threads end before what uses their signal stack.
  "ASAN_OPTIONS" => "use_sigaltstack=0:detect_stack_use_after_return=0:malloc_context_size=2:exitcode=99",
  # With two frames of context, a suppressed caller hides nothing of ours.
  "LSAN_OPTIONS" => "suppressions=#{File.join(SUPPRESSIONS, "lsan.supp")}:print_suppressions=0",
  "UBSAN_OPTIONS" => "halt_on_error=1:print_stacktrace=1:exitcode=98"
}.freeze

# Examples that no sanitizer or valgrind can judge, by their tag.
LEFT_OUT = {
  "sanitize" => %w[packaging memory fork_among_threads], # gcc's allocator may be locked in the child for ever
  "memcheck" => %w[packaging process]
}.freeze

# What valgrind judges: the codec, the channels, the loops and what stands on them. The other specs run the same code
# in many processes or for long, at a thirtieth of the speed.
MEMCHECKED = "spec/gearman/**/*_spec.rb"

# Says how many examples a checker leaves out, and returns the options that do so.
def left_out(variant, checker, environment, pattern = nil)
  tags = LEFT_OUT.fetch(checker)
  options = tags.flat_map { |tag| ["--tag", "~#{tag}"] }
  chosen = pattern ? ["--pattern", pattern] : []
  all, judged = [[], [*chosen, *options]].map { |arguments| count_examples(variant, checker, environment, arguments) }
  rails = RailsVersions.new.count
  puts "#{checker}: leaves out #{all - judged + rails} of #{all + rails} examples: those tagged #{tags.join(" or ")}" \
       "#{", those outside #{pattern}" if pattern}, and #{rails} that need Rails"
  options
end

def count_examples(variant, checker, environment, arguments)
  report = File.join(variant.folder, "tmp", "left_out.json")
  dry = ["--dry-run", "--format", "json", "--out", report]
  variant.run(environment, "rspec", *dry, *arguments) || abort("#{checker}: the specs cannot be loaded")
  JSON.parse(File.read(report)).fetch("examples").size
end

namespace :compile do
  desc "Compiles the extension with every warning an error, by gcc, by clang, and without what only Linux has"
  task :pedantic do
    ["gcc", "clang", "gcc -U__linux__"].each do |compiler|
      variant = Variant.local("pedantic-#{compiler.delete(" ")}")
      variant.run({ "EXT_PEDANTIC" => "1", "CC" => compiler }, "rake", "--quiet", "compile") ||
        abort("compile:pedantic: #{compiler} fails")
    end
  end
end

namespace :spec do
  desc "Compiles the protocol core by its own Makefile, without Ruby, and runs its C tests, by gcc and by clang"
  task :c do
    %w[gcc clang].each do |compiler|
      Dir.mktmpdir("protocol") do |folder|
        sh "make", "--silent", "-C", "ext/gearman/protocol", "CC=#{compiler}", "BUILD=#{folder}"
      end
      sh "make", "-C", "spec/c", "CC=#{compiler}"
    end
  end
end

desc "Runs C tests and specs under AddressSanitizer, UndefinedBehaviorSanitizer and LeakSanitizer"
task :sanitize do
  %w[gcc clang].each { |compiler| sh "make", "-C", "spec/c", "CC=#{compiler}", "SANITIZE=address,undefined" }

  variant = Variant.local("sanitize")
  variant.run({ "EXT_SANITIZE" => "address,undefined" }, "rake", "--quiet", "compile") ||
    abort("sanitize: does not compile")
  environment = SANITIZED.merge("LD_PRELOAD" => `gcc -print-file-name=libasan.so`.chomp)
  options = left_out(variant, "sanitize", environment)
  variant.run(environment, "rspec", *options) || abort("sanitize: red")
end

desc "Runs C tests and specs under valgrind"
task :memcheck do
  sh "make", "-C", "spec/c", "memcheck"

  Bundler.with_original_env { sh({ "BUNDLE_WITH" => "memcheck" }, RbConfig.ruby, "-S", "bundle", "install", "--quiet") }
  variant = Variant.local("memcheck")
  environment = { "BUNDLE_WITH" => "memcheck", "EXT_PEDANTIC" => "1" }
  variant.run(environment, "rake", "--quiet", "compile") || abort("memcheck: does not compile")
  options = left_out(variant, "memcheck", environment, MEMCHECKED).join(" ")
  variant.run(environment.merge("SPEC_OPTS" => options), "rake", "memcheck:specs") || abort("memcheck: red")
end

# What Ruby's functions allocate is Ruby's to free, and what is left of it at the end depends on when the collector ran.
# Ours is what comes from its allocators, the structs in its objects and the tables that we make.
RUBYS_OWN = /\A(?!ruby_x|ruby_strdup|rb_data_|rb_st_|objspace_|rb_gc_impl_)/

# ruby_memcheck does not know Ruby's library by the name that it has on Debian.
module SharedRuby
  def in_ruby?
    super || (!obj.nil? && File.basename(obj).start_with?("libruby"))
  end
end

namespace :memcheck do
  # Only inside the variant, where ruby_memcheck is in the bundle.
  task :specs do
    require "ruby_memcheck"
    require "ruby_memcheck/rspec/rake_task"
    RubyMemcheck::Frame.prepend(SharedRuby)
    # Children are job servers and other commands; one that is killed or replaced would leave a broken report.
    options = RubyMemcheck::Configuration::DEFAULT_VALGRIND_OPTIONS - ["--trace-children=yes"]
    options += ["--child-silent-after-fork=yes"]
    RubyMemcheck.config(binary_name: "native", valgrind_options: options, valgrind_suppressions_dir: SUPPRESSIONS,
                        skipped_ruby_functions: [RUBYS_OWN])
    RubyMemcheck::RSpec::RakeTask.new("memcheck:valgrind") { |task| task.pattern = MEMCHECKED }
    Rake::Task["memcheck:valgrind"].invoke
  end
end
