# frozen_string_literal: true

require "gearman/server"
require_relative "helpers"

RSpec.describe "defects of gearman-ruby's Server" do
  let(:server) { start_gearmand }

  it "waits for ever for an answer of one line", defect: 50 do
    expect(soon { Gearman::Server.new(server.address).send_command("version") }).to match(/\AOK \S+/)
  end

  it "passes over workers whose functions have upper case letters, digits or dashes", defect: 50 do
    start_worker(server, client_id: "me") { |worker| worker.add_ability("Resize-2") { true } }
    eventually("a worker") { server.admin("status").include?("Resize-2\t0\t0\t1\n") }

    expect(Gearman::Server.new(server.address).workers).to include(hash_including(functions: ["Resize-2"]))
  end
end
