# frozen_string_literal: true

require "tmpdir"

RSpec.describe "ext/gearman/extconf.rb", :packaging do
  include Commands

  let(:extconf) { File.join(Commands::PROJECT, "ext/gearman/extconf.rb") }

  def configure(*command, env: {})
    Dir.mktmpdir("extconf") { |folder| try_command(*command, env: env, chdir: folder) }
  end

  it "says that a C compiler is missing" do
    output, status = configure(RbConfig.ruby, extconf, env: { "CC" => "no-such-compiler" })

    expect(status).not_to be_success
    expect(output).to include("needs a C compiler", "no-such-compiler", "apt-get install build-essential ruby-dev")
  end

  it "says that it is for CRuby alone" do
    other_ruby = 'Object.send(:remove_const, :RUBY_ENGINE); RUBY_ENGINE = "jruby"; load ARGV.fetch(0)'
    output, status = configure(RbConfig.ruby, "-e", other_ruby, extconf)

    expect(status).not_to be_success
    expect(output).to include("CRuby", "jruby")
  end

  it "says that Windows is not supported" do
    windows = 'require "rbconfig"; RbConfig::CONFIG["host_os"] = "mingw32"; load ARGV.fetch(0)'
    output, status = configure(RbConfig.ruby, "-e", windows, extconf)

    expect(status).not_to be_success
    expect(output).to include("does not support Windows")
  end
  it "says that the warnings of EXT_PEDANTIC do not reach the compiler" do
    Dir.mktmpdir("compiler") do |folder|
      compiler = File.join(folder, "cc")
      File.write(compiler, <<~SHELL, perm: 0o755)
        #!/bin/sh
        for argument; do shift; [ "$argument" = -Wextra ] || set -- "$@" "$argument"; done
        exec cc "$@"
      SHELL
      output, status = configure(RbConfig.ruby, extconf, env: { "CC" => compiler, "EXT_PEDANTIC" => "1" })

      expect(status).not_to be_success
      expect(output).to include("-Wextra was lost")
    end
  end
end
