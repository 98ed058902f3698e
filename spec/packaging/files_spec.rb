# frozen_string_literal: true

RSpec.describe "the files of gearman-ruby 4.0", :process do
  {
    "client" => 'Gearman::Client.new("h").task_create_timeout_sec',
    "connection" => 'Gearman::Connection.new("h", 1).to_host_port',
    "connection_pool" => 'Gearman::ConnectionPool.new("h,g").connections',
    "exceptions" => "Gearman::ServerDownException.new",
    "logging" => "Class.new { include Gearman::Logging }.new.logger.debug { 1 }",
    "packet" => "Gearman::Packet.pack_request(:echo_req)",
    "server" => 'Gearman::Server.new("h").close',
    "task" => 'Gearman::Task.new("f", "x").get_submit_packet',
    "task_set" => "Gearman::TaskSet.new(nil).logger",
    "version" => "Gearman::VERSION",
    "worker" => 'Gearman::Worker.new("h").status',
    "worker/ability" => 'Gearman::Worker::Ability.new("f", proc { 1 }, 5).run("", nil)',
    "worker/callbacks" => "Gearman::Worker::Callbacks",
    "worker/job" => 'Gearman::Worker::Job.new(nil, "H:h:1").handle'
  }.each do |file, use|
    it "gearman/#{file} can be required alone, and \"gearman\" behind it" do
      script = "$VERBOSE = true; #{use}; require 'gearman'; Gearman::Runner; Gearman::Server"
      expect(run_ruby(script, feature: "gearman/#{file}")).to eq("")
    end
  end
end
