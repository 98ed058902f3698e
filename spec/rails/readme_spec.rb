# frozen_string_literal: true

require "English"
require "fileutils"
require "open3"
require "tmpdir"

# The steps of the README, read out of it, from `rails new` to a mail that a job delivered.
RSpec.describe "the README's guide for Rails", :newest, :process do
  guide = File.read(File.expand_path("../../README.md", __dir__))[/^## In Rails\n(.*?)^## /m, 1]
  setting_file, setting = guide.match(/put this into `([^`]+)`:\n\n```ruby\n(.*?)^```/m).captures
  # Lines for a shell, and :setting where that is to be made.
  steps = guide.scan(/^```(sh|ruby)\n(.*?)^```/m).first(3).flat_map do |language, block|
    language == "sh" ? block.lines(chomp: true) : :setting
  end

  gemfile = ENV.fetch("BUNDLE_GEMFILE")
  # Without what the gems of this spec do not serve.
  small = %w[--minimal --no-skip-active-job --no-skip-action-mailer --skip-asset-pipeline]

  let(:server) { start_gearmand }
  let(:folder) { File.realpath(Dir.mktmpdir("rails")) }
  let(:environment) { { "GEARMAN_SERVERS" => server.address, "BUNDLE_GEMFILE" => File.join(folder, "shop/Gemfile") } }
  let(:log) { File.join(folder, "background") }

  after do
    Array(@background).each do |pid|
      Process.kill("TERM", -pid)
      eventually("the worker to end") { Process.wait(pid, Process::WNOHANG) }
    rescue Errno::ESRCH, Errno::ECHILD
      next
    end
    FileUtils.rm_rf(folder)
  end

  def shop = File.join(folder, "shop")

  # Runs a line of the README. One that ends in & goes on in the background.
  def run_step(line, folder = shop)
    return settle if line == :setting

    if line.end_with?("&")
      streams = { in: File::NULL, %i[out err] => log }
      return (@background ||= []) << spawn(environment, line.chomp("&"), chdir: shop, pgroup: true, **streams)
    end
    output, status = Open3.capture2e(environment, line, chdir: folder, stdin_data: "")
    raise "#{line} fails:\n#{output}" unless status.success?
  end

  # What the README says to put into a file.
  define_method(:settle) do
    path = File.join(shop, setting_file)
    File.write(path, File.read(path).sub(/^end\s*\z/, "#{setting}\\0"))
  end

  def expect_a_mail
    mail = eventually("a mail; the worker says: #{File.read(log)}") do
      text = Dir.glob(File.join(shop, "tmp/mails/*")).map { |path| File.read(path) }.join
      text if text.include?("Welcome#hello")
    end
    expect(mail).to include("To: to@example.org", "Subject: Hello")
    eventually("the job to be done") { server.admin("status").match?(/^(mailers|default)\t0\t0\t[1-9]/) }
  end

  def create_application(*options)
    rails = [RbConfig.ruby, "-rbundler/setup", "-e", 'load Gem.bin_path("railties", "rails")', "--"]
    output, status = Open3.capture2e(*rails, "new", "shop", "--skip-bundle", "--skip-git", "--quiet", *options,
                                     chdir: folder, stdin_data: "")
    raise "rails new fails:\n#{output}" unless status.success?
  end

  # The gems that this machine has for the version, and this library.
  define_method(:add_to_bundle) do
    FileUtils.cp("#{gemfile}.lock", File.join(shop, "Gemfile.lock")) if File.exist?("#{gemfile}.lock")
    File.write(File.join(shop, "Gemfile"), "eval_gemfile #{gemfile.dump}\n")
  end

  it "has the steps that this looks for" do
    expect(steps.first(3)).to eq(["rails new shop && cd shop", "bundle add gearman-native",
                                  "bin/rails generate gearman:install"])
    expect(steps.last).to include("deliver_later")
    expect(steps.index(:setting)).to be < steps.index("bin/gearman-worker &")
  end

  # Rails 8 has Solid Queue there.
  it "makes Gearman the adapter of an application with all that rails new gives it" do
    create_application("--skip-ci") # that asks git
    path = File.join(shop, "config/environments/production.rb")
    expect(File.read(path)).to match(/queue_adapter = :(?!gearman)/)
    output, status = Open3.capture2e(RbConfig.ruby, "-rbundler/setup", "-e", <<~RUBY, stdin_data: "")
      require "rails/generators"
      require "generators/gearman/install/install_generator"
      Gearman::Generators::InstallGenerator.start([], destination_root: #{shop.dump})
    RUBY
    expect(status).to be_success, output
    expect(File.read(path).scan(/^.*queue_adapter.*$/)).to eq(["  config.active_job.queue_adapter = :gearman"])
    syntax = Open3.capture2e(RbConfig.ruby, "-c", path)
    expect(syntax.last).to be_success, syntax.first
  end

  it "ends with a mail delivered by gearman-worker" do
    create_application(*small)
    add_to_bundle
    steps.drop(2).each { |line| run_step(line) }
    expect_a_mail
  end

  # Some gems are compiled, which takes minutes: rake spec:guide.
  context "word for word, with the gems that RubyGems has today", :guide do
    let(:own) { File.join(folder, "gems") }
    let(:environment) do
      { "GEARMAN_SERVERS" => server.address, "GEM_HOME" => own, "HOME" => folder, "BUNDLE_GEMFILE" => nil,
        "PATH" => [File.join(own, "bin"), ENV.fetch("PATH")].join(File::PATH_SEPARATOR) }
    end

    # This library as it will be published, which nothing else of the bundle has: Bundler takes what is installed.
    def publish
      root = File.expand_path("../..", __dir__)
      package = File.join(folder, "gearman-native.gem")
      run_step("gem build --quiet gearman-native.gemspec --output #{package}", root)
      run_step("gem install --no-document #{package}", folder)
    end

    it "ends with a mail delivered by gearman-worker" do
      Bundler.with_unbundled_env do
        run_step("gem install --no-document rails --version #{Gem.loaded_specs["railties"].version}", folder)
        publish
        run_step(steps.first.delete_suffix(" && cd shop"), folder)
        steps.drop(1).each { |line| run_step(line) }
      end
      expect_a_mail
    end
  end
end
