# frozen_string_literal: true

module Bench
  # One thing that is measured.
  # role:: what the measured program does
  # jobs:: how many a cell measures, unless told otherwise
  # fill:: the queue is filled before the measured program starts
  # worker:: who serves the jobs: nobody, a contestant by name, or :same
  Row = Struct.new(:name, :title, :role, :jobs, :fill, :worker, keyword_init: true)

  ROWS = [
    Row.new(name: "background", title: "background submission, one by one", role: "submit", jobs: 20_000),
    Row.new(name: "background-default", title: "the same, with the unique that each library makes by itself",
            role: "submit-default", jobs: 20_000),
    Row.new(name: "drain", title: "worker draining a full queue of echo jobs on one connection",
            role: "drain", jobs: 20_000, fill: true),
    Row.new(name: "roundtrip", title: "foreground, one by one, one worker of the same kind",
            role: "request", jobs: 5_000, worker: :same),
    Row.new(name: "roundtrip-libgearman", title: "foreground, one by one, one libgearman worker",
            role: "request", jobs: 5_000, worker: "libgearman")
  ].to_h { |row| [row.name, row] }.freeze
end
