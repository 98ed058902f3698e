# frozen_string_literal: true

require "digest"
require "fileutils"
require "rbconfig"

module Bench
  ROOT = File.expand_path("../..", __dir__)
  PROGRAMS = File.expand_path("../programs", __dir__)
  # Whatever is built or installed for the benchmark goes here, outside the checkout.
  CACHE = File.join(ENV["XDG_CACHE_HOME"] || File.join(Dir.home, ".cache"), "gearman-native-benchmark")

  # One that takes part: its name, its version and how its program is called.
  # Each program takes ROLE PORT FUNCTION WARMUP JOBS WINDOW SECONDS, where the role is one of
  # submit, submit-built, submit-default, submit-set, request, request-set, request-threads (clients), drain (a worker
  # that is measured) and work (one that is not).
  class Contestant
    attr_reader :name

    def initialize(name)
      @name = name
    end

    def command(role, port: 0, function: "-", warmup: 1, jobs: 1, window: 1, seconds: 1)
      [*program, role, port, function, warmup, jobs, window, seconds].map(&:to_s)
    end

    # @raise [Error] when what a program reported shows that it was not this contestant
    def verify(_result); end
  end

  # A C program of ours, built when its source has changed.
  class CProgram < Contestant
    FLAGS = %w[-std=gnu11 -pthread -O2 -Wall -Wextra -Werror].freeze

    def initialize(name, *libraries, package: nil)
      super(name)
      @libraries = libraries
      @package = package
    end

    def version = @package ? IO.popen(command("version"), &:read).chomp : "plain C"

    private

    def program = @program ||= build

    def build
      sources = [File.join(PROGRAMS, "common.h"), source = File.join(PROGRAMS, "#{@name}.c")]
      compiler = ENV["CC"] || "cc"
      digest = Digest::SHA256.hexdigest([compiler, *FLAGS, *sources.map { |path| File.read(path) }].join("\0"))
      target = File.join(CACHE, "#{@name}-#{digest[0, 16]}")
      return target if File.executable?(target)

      FileUtils.mkdir_p(CACHE)
      built = "#{target}.#{Process.pid}"
      unless system(compiler, *FLAGS, "-o", built, source, *@libraries)
        raise Error, "#{compiler} cannot compile #{source}#{"; it needs the package #{@package}" if @package}"
      end

      File.rename(built, target)
      target
    end
  end

  # A Ruby library with the 4.0 API.
  class RubyLibrary < Contestant
    def version = version_of(lib)

    def verify(result)
      return if File.realpath(result[:loaded]) == File.realpath(File.join(lib, "gearman.rb"))

      raise Error, "#{@name} should have loaded #{lib}, but loaded #{result[:loaded]}"
    end

    private

    def program = [RbConfig.ruby, "-I", lib, File.join(PROGRAMS, "ruby.rb")]

    def version_of(lib) = File.read(File.join(lib, "gearman", "version.rb"))[/VERSION\s*=\s*["'](.+?)["']/, 1]
  end

  # The published gem, installed apart from everything else.
  class PublishedGem < RubyLibrary
    VERSION = "4.0.5"

    private

    def lib
      @lib ||= begin
        home = File.join(CACHE, "gearman-ruby-#{VERSION}")
        lib = File.join(home, "gems", "gearman-ruby-#{VERSION}", "lib")
        install(home) unless File.exist?(File.join(lib, "gearman.rb"))
        lib
      end
    end

    def install(home)
      gem = [RbConfig.ruby, "-S", "gem", "install", "gearman-ruby", "-v", VERSION, "--no-document", "-i", home]
      output, status = Open3.capture2e(Processes::CLEAN, *gem)
      raise Error, "gearman-ruby #{VERSION} cannot be installed:\n#{output}" unless status.success?
    end
  end

  # This checkout.
  class Checkout < RubyLibrary
    private

    def lib
      @lib ||= File.join(ROOT, "lib").tap do |lib|
        next if Dir.glob(File.join(lib, "gearman", "native.{so,bundle}")).any?

        raise Error, "the extension is not compiled; run rake compile"
      end
    end
  end

  SOCKETS = CProgram.new("sockets")
  CONTESTANTS = [
    SOCKETS,
    CProgram.new("libgearman", "-lgearman", package: "libgearman-dev"),
    PublishedGem.new("gearman-ruby"),
    Checkout.new("gearman-native")
  ].to_h { |contestant| [contestant.name, contestant] }.freeze
end
