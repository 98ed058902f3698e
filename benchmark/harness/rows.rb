# frozen_string_literal: true

module Bench
  # One thing that is measured.
  # role:: what the measured program does
  # jobs:: how many a cell measures, unless told otherwise
  # fill:: what fills the queue before the measured program starts: a role of the program on sockets
  # worker:: who serves the jobs: nobody, a contestant by name, or :same
  # window:: tasks of a set, or threads; 1 by default
  # grabs:: how many the worker keeps in flight, if it can; 1 by default
  # gearmand:: further arguments of gearmand
  # only:: the contestants that are measured; all by default
  # beside:: a row whose CPU time a job this one's is divided by
  Row = Struct.new(:name, :title, :role, :jobs, :fill, :worker, :window, :grabs, :gearmand, :only, :beside,
                   keyword_init: true) do
    def initialize(window: 1, grabs: 1, gearmand: [], **) = super
    def measures?(contestant) = only.nil? || only.include?(contestant.name)
  end

  # What is looked at is how the client's cost grows. By default gearmand has 991 buckets for its jobs and becomes slow
  # when many are open; the client would be measured waiting for it.
  SCALING = { role: "request-set", jobs: 100_000, worker: "sockets", grabs: 16, only: ["gearman-native"],
              gearmand: ["--hashtable-buckets=100003"] }.freeze

  ROWS = [
    Row.new(name: "background", title: "background submission, one by one", role: "submit", jobs: 20_000),
    Row.new(name: "background-built", title: "the same, of tasks that were built before (C has none to build)",
            role: "submit-built", jobs: 20_000),
    Row.new(name: "background-default", title: "the same, with the unique that each library makes by itself",
            role: "submit-default", jobs: 20_000),
    Row.new(name: "background-pipelined", title: "background submission, pipelined (libgearman: in sets of 1000)",
            role: "submit-set", jobs: 20_000, window: 1000),
    Row.new(name: "drain", title: "worker draining a full queue of echo jobs on one connection",
            role: "drain", jobs: 20_000, fill: "submit"),
    Row.new(name: "drain-prefetch", title: "the same, holding up to 16 jobs (libgearman: one, it knows no other way)",
            role: "drain", jobs: 60_000, fill: "submit", grabs: 16),
    Row.new(name: "drain-large", title: "worker draining a full queue of echo jobs of 1 MiB on one connection",
            role: "drain", jobs: 300, fill: "submit-large"),
    Row.new(name: "roundtrip", title: "foreground, one by one, one worker of the same kind",
            role: "request", jobs: 5_000, worker: :same),
    Row.new(name: "roundtrip-libgearman", title: "foreground, one by one, one libgearman worker",
            role: "request", jobs: 5_000, worker: "libgearman"),
    Row.new(name: "set-100", title: "foreground, 100 open in a set, one libgearman worker",
            role: "request-set", jobs: 10_000, worker: "libgearman", window: 100),
    Row.new(name: "set-1000", title: "foreground, 1000 open in a set, a worker on sockets with 16 grabs in flight",
            role: "request-set", jobs: 20_000, worker: "sockets", window: 1000, grabs: 16),
    Row.new(name: "both-100", title: "foreground, 100 open in a set, one worker of the same kind, with 16 jobs at hand",
            role: "request-set", jobs: 10_000, worker: :same, window: 100, grabs: 16),
    Row.new(name: "threads-4", title: "foreground, 4 threads one by one, a worker on sockets with 16 grabs in flight",
            role: "request-threads", jobs: 10_000, worker: "sockets", window: 4, grabs: 16),
    Row.new(name: "threads-16", title: "the same with 16 threads",
            role: "request-threads", jobs: 10_000, worker: "sockets", window: 16, grabs: 16),
    Row.new(name: "open-1000", title: "foreground, 1000 open at a time, gearmand with 100003 buckets",
            window: 1000, **SCALING),
    Row.new(name: "open-100000", title: "the same with 100000 open",
            window: 100_000, beside: "open-1000", **SCALING)
  ].to_h { |row| [row.name, row] }.freeze
end
