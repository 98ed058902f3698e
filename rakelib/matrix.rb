# frozen_string_literal: true

require "open3"
require_relative "variant"

# Runs the specs under several Rubies: this one, and those of other Debian suites in roots made with debootstrap, which
# are kept below the user's cache folder.
class Matrix
  # A root or a tool that cannot be had here, which says nothing about the project.
  class Unavailable < StandardError; end

  CACHE = File.join(ENV.fetch("XDG_CACHE_HOME") { File.join(Dir.home, ".cache") }, "gearman-native", "matrix")
  PACKAGES = %w[build-essential ca-certificates gearman-job-server gearman-tools libgearman-dev].freeze

  # A Debian root with a Ruby in it. `rails` is the task that runs the specs that need Rails.
  Root = Struct.new(:ruby, :suite, :packages, :experimental, :rails, keyword_init: true) do
    def folder
      File.join(CACHE, suite)
    end

    # The shell script that makes it complete. A root that was made by another one is made anew.
    def script
      install = "apt-get install -y --no-install-recommends"
      lines = ["apt-get update", "#{install} #{(PACKAGES + packages).join(" ")}"]
      if experimental
        lines << "#{install} -t experimental #{experimental.join(" ")}"
        # The plain names are those of the suite's own Ruby.
        lines << "for name in ruby gem; do ln -sf /usr/bin/${name}#{ruby} /usr/local/bin/${name}; done"
        # Its Bundler is older than its RubyGems, which warns of that at each start.
        lines << "gem install --no-document bundler -v \"$(gem --version)\""
      end
      [*lines, "apt-get clean"].join(" && ")
    end
  end

  ROOTS = [
    Root.new(ruby: "3.3", suite: "trixie", packages: %w[ruby ruby-dev ruby-bundler libyaml-dev], rails: "spec:rails"),
    Root.new(ruby: "3.4", suite: "sid", experimental: %w[ruby3.4 ruby3.4-dev], packages: %w[libyaml-dev],
             rails: "spec:rails[8.1]")
  ].freeze

  def initialize(rubies = [])
    @this_ruby = RUBY_VERSION[/\A\d+\.\d+/]
    known = [@this_ruby, *ROOTS.map(&:ruby)].uniq
    unknown = rubies - known
    abort "matrix: knows no Ruby #{unknown.join(", ")}, only #{known.join(", ")}" unless unknown.empty?
    @rubies = rubies.empty? ? known : rubies
  end

  # The exit status: 0, 1 when a Ruby is red, 2 when one cannot be had here, which the last line says.
  def run
    results = @rubies.to_h { |ruby| [ruby, result(ruby)] }
    ran, unavailable = results.partition { |_, result| result.is_a?(Symbol) }
    ran.each { |ruby, result| puts "matrix: Ruby #{ruby}: #{result}" }
    puts unavailable.map { |ruby, why| "matrix: cannot run Ruby #{ruby}: #{why}" }.join("; ") unless unavailable.empty?
    return 1 if results.value?(:red)

    unavailable.empty? ? 0 : 2
  end

  private

  # :green, :red, or why it cannot be said.
  def result(ruby)
    puts "== Ruby #{ruby}"
    root = ROOTS.find { |candidate| candidate.ruby == ruby } unless ruby == @this_ruby
    green = root ? green_in?(root) : green_here?
    green ? :green : :red
  rescue Unavailable => e
    e.message
  end

  def green_here?
    variant = Variant.local("pedantic")
    variant.run({ "EXT_PEDANTIC" => "1" }, "rake", "--quiet", "compile") && variant.run({}, "rspec")
  end

  def green_in?(root)
    ensure_possible
    FileUtils.mkdir_p(CACHE)
    exclusively(root.suite) do
      exclusively("making") { make(root) } unless made?(root) # they share what was downloaded, and the log
      give_host_files(root)
      run_specs(root)
    end
  end

  def exclusively(name)
    File.open(File.join(CACHE, "#{name}.lock"), File::CREAT | File::WRONLY) do |lock|
      lock.flock(File::LOCK_EX)
      yield
    end
  end

  def ensure_possible
    raise Unavailable, "only root can make a Debian root" unless Process.uid.zero?

    %w[debootstrap unshare chroot].each do |tool|
      next if ENV.fetch("PATH").split(":").any? { |path| File.executable?(File.join(path, tool)) }

      raise Unavailable, "#{tool} is not installed"
    end
    return if system("unshare", "--mount", "--pid", "--fork", "true", err: File::NULL)

    raise Unavailable, "this machine does not let root make a mount namespace"
  end

  # Making a root

  def made?(root)
    stamp = File.join(root.folder, "made")
    File.file?(stamp) && File.read(stamp) == root.script
  end

  def make(root)
    # No mount of an earlier run can be in there: each run has its mounts in a namespace that ends with it.
    FileUtils.rm_rf(root.folder)
    FileUtils.mkdir_p(debs = File.join(CACHE, "debs"))
    prepare "a root of #{root.suite}", "debootstrap", "--variant=minbase", "--cache-dir=#{debs}",
            "--include=#{PACKAGES.first(2).join(",")}", root.suite, root.folder, mirror
    give_host_files(root)
    add_experimental(root) if root.experimental
    install(root)
    File.write(File.join(root.folder, "made"), root.script)
  end

  def add_experimental(root)
    File.write(File.join(root.folder, "etc/apt/sources.list.d/experimental.list"), "deb #{mirror} experimental main\n")
    # A mirror's copy of experimental may be older than its Release file is valid for.
    File.write(File.join(root.folder, "etc/apt/apt.conf.d/90gearman-native"), "Acquire::Check-Valid-Until \"false\";\n")
  end

  def install(root)
    # Installing gearmand must not start it.
    File.write(File.join(root.folder, "usr/sbin/policy-rc.d"), "#!/bin/sh\nexit 101\n", perm: 0o755)
    prepare("the packages of #{root.suite}", *inside(root, root.script))
  end

  # The mirror that this machine's apt is set up for.
  def mirror
    @mirror ||= begin
      command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Label: Debian"]
      listed, = Open3.capture2(*command)
      listed.lines.first&.chomp || raise(Unavailable, "apt knows no Debian mirror; apt-get update may help")
    end
  end

  def prepare(what, *command)
    log = File.join(CACHE, "making.log")
    puts "matrix: making #{what}"
    return if system({ "DEBIAN_FRONTEND" => "noninteractive" }, *command, in: File::NULL, %i[out err] => log)

    lines = File.readlines(log, chomp: true)
    raise Unavailable, "cannot make #{what}: #{lines.grep(/^E: |error|\bfail/i).last || lines.last} (#{log})"
  end

  def give_host_files(root)
    etc = File.join(root.folder, "etc")
    FileUtils.cp("/etc/resolv.conf", File.join(etc, "resolv.conf")) if File.file?("/etc/resolv.conf")
    File.write(File.join(etc, "hosts"), "127.0.0.1 localhost\n::1 localhost\n")
    File.write(File.join(etc, "gemrc"), ":sources:\n- #{Gem.sources.first.uri}\n")
    certificates = ENV.fetch("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
    return unless File.file?(certificates)

    FileUtils.mkdir_p(File.join(etc, "ssl/certs"))
    FileUtils.cp(File.realpath(certificates), File.join(etc, "ssl/certs/ca-certificates.crt"))
  end

  # Running in a root

  def run_specs(root)
    Variant.new(File.join(root.folder, "project")).update
    FileUtils.rm_rf(File.join(root.folder, "project/tmp"))
    system(*inside(root, <<~SHELL), in: File::NULL)
      set -e
      cd /project
      ruby --version
      ruby -e 'abort "this is Ruby \#{RUBY_VERSION}" unless RUBY_VERSION.start_with?("#{root.ruby}.")'
      bundle install --quiet
      bundle exec rake --quiet compile
      bundle exec rspec
      bundle exec rake --quiet #{root.rails}
    SHELL
  end

  # The command that runs a shell script inside a root. Its mounts and its processes end with it.
  def inside(root, script)
    environment = {
      "PATH" => "/var/cache/gems/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME" => "/root",
      "LANG" => "C.UTF-8", "CI" => "true", "DEBIAN_FRONTEND" => "noninteractive", "GEM_HOME" => "/var/cache/gems",
      "BUNDLE_PATH" => "/var/cache/bundle", "BUNDLE_WITHOUT" => "lint", "BUNDLE_SILENCE_ROOT_WARNING" => "1",
      "EXT_PEDANTIC" => "1", "SSL_CERT_FILE" => "/etc/ssl/certs/ca-certificates.crt"
    }.merge(ENV.to_h.slice("http_proxy", "https_proxy", "no_proxy"))
    mounted = <<~SHELL
      mount -t proc proc "$0/proc" && mkdir -p "$0/dev/shm" "$0/dev/pts" && mount -t tmpfs tmpfs "$0/dev/shm" &&
        mount -t devpts -o newinstance,ptmxmode=0666 devpts "$0/dev/pts" && ln -sf pts/ptmx "$0/dev/ptmx" &&
        exec chroot "$0" "$@"
    SHELL
    ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "sh", "-c", mounted,
     root.folder, "env", "-i", *environment.map { |pair| pair.join("=") }, "sh", "-c", script]
  end
end
