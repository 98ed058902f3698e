# frozen_string_literal: true

require "tmpdir"

RSpec.describe "an application of gearman-ruby", :packaging do
  include Commands

  let(:folder) { File.realpath(Dir.mktmpdir("application")) }
  let(:gemfile) { File.join(folder, "Gemfile") }

  before { FileUtils.cp(Dir.glob(File.join(__dir__, "application/*")), folder) }
  after { FileUtils.rm_rf(folder) }

  def replace_gem(rest = "")
    lines = File.readlines(gemfile)
    expect(lines.grep(/^gem /).size).to eq(1)
    lines.map! { |line| line.sub(/^gem .*/, "gem \"gearman-native\", path: #{Commands::PROJECT.dump}#{rest}") }
    File.write(gemfile, lines.join)
  end

  def output_of_application
    run_command(*Commands::BUNDLE, "install", "--local", chdir: folder)
    run_command(RbConfig.ruby, "app.rb", start_gearmand.address, chdir: folder)
  end

  it "runs on gearman-native after a change of one line in its Gemfile" do
    replace_gem

    expect(output_of_application).to eq(<<~TEXT)
      status 1/1
      result noitacilppa
      in time: true
      #{Commands::PROJECT}/lib/gearman.rb
    TEXT
  end

  it "may keep the require of that line" do
    replace_gem(', require: "gearman"')

    expect(output_of_application).to include("result noitacilppa")
  end
end
