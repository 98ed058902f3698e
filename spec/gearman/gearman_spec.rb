# frozen_string_literal: true

RSpec.describe Gearman do
  it "has a version", :process do
    expect(Gearman::VERSION).to match(/\A4\.\d+\.\d+\z/)
    expect(run_ruby("puts Gearman::VERSION").strip).to eq(Gearman::VERSION)
  end

  describe "errors" do
    {
      Gearman::Error => StandardError,
      Gearman::InvalidArgsError => Gearman::Error,
      Gearman::ProtocolError => Gearman::Error,
      Gearman::RefusedError => Gearman::ProtocolError,
      Gearman::NetworkError => Gearman::Error,
      Gearman::NoJobServersError => Gearman::Error,
      Gearman::JobQueueError => Gearman::Error,
      Gearman::SocketTimeoutError => Gearman::Error,
      Gearman::ServerDownException => Gearman::NetworkError
    }.each do |error, parent|
      it("#{error} is a #{parent}") { expect(error.superclass).to eq(parent) }

      it "#{error} can be raised as a class, with its name as the message" do
        expect { raise error }.to raise_error(error, error.name)
        expect { raise error, "text" }.to raise_error(error, "text")
      end
    end

    it "NetworkError names the tasks in doubt" do
      expect(Gearman::NetworkError.new("text").tasks).to eq([])
      expect(Gearman::NetworkError.new("text", tasks: [1]).tasks).to eq([1])
    end
  end

  it "loads nothing outside of Ruby's standard library, and warns of nothing", :process do
    output = run_ruby(<<~RUBY, options: %w[-w -W:deprecated])
      own = File.dirname($LOADED_FEATURES.find { |path| path.end_with?("/gearman.rb") })
      puts $LOADED_FEATURES.grep(%r{\\A/}).grep(/gems/).reject { |path| path.start_with?(own) || path =~ %r{/(logger|rubygems|monitor)\\b} }
    RUBY
    expect(output).to eq("")
  end

  it "loads the admin client and the embedded server when they are named", :process do
    output = run_ruby("p [Gearman::Server, Gearman::EmbeddedServer]; require 'gearman/server'")
    expect(output).to eq("[Gearman::Server, Gearman::EmbeddedServer]\n")
  end
end
