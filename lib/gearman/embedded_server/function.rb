# frozen_string_literal: true

module Gearman
  class EmbeddedServer
    # A function's queue of jobs, and who can run them.
    # @private
    class Function
      PRIORITIES = [HIGH = 0, NORMAL = 1, LOW = 2].freeze
      UNLIMITED = 0

      attr_reader :name, :sleepers
      # total: jobs in the queue or running; workers: abilities registered; delayed: jobs not yet due
      attr_accessor :total, :running, :workers, :delayed, :limits

      def initialize(name)
        @name = name
        @queues = PRIORITIES.map { [] }
        @limits = PRIORITIES.map { UNLIMITED }
        @total = @running = @workers = @delayed = 0
        @sleepers = {} # {Connection => true}
      end

      def full?(priority)
        @limits[priority] != UNLIMITED && @total >= @limits[priority]
      end

      def push(job)
        @queues[job.priority].push(job)
      end

      # Takes a job in whose place in the queue was kept.
      def insert(job)
        queue = @queues[job.priority]
        queue.insert(queue.bsearch_index { |other| other.order > job.order } || queue.size, job)
      end

      def first
        @queues.each { |queue| return queue.first unless queue.empty? }
        nil
      end

      def shift
        @queues.each { |queue| return queue.shift unless queue.empty? }
        nil
      end

      def clear
        jobs = @queues.flatten
        @queues.each(&:clear)
        jobs
      end

      # How many jobs wait in each priority.
      def queued
        counts = @queues.map(&:size)
        counts[NORMAL] += @delayed
        counts
      end
    end
  end
end
