# frozen_string_literal: true

module Gearman
  # What a server knows of a job.
  class JobStatus
    # @return [Integer] how far the job is, as its worker reported it
    attr_reader :numerator
    # @return [Integer] of how much
    attr_reader :denominator
    # @return [Integer, nil] how many clients wait for it; known by {Client#job_status_by_unique} alone
    attr_reader :clients

    # @param known [String] "1" or "0", as the server sends it
    # @param running [String] "1" or "0"
    # @param numerator [String]
    # @param denominator [String]
    # @param clients [String, nil]
    def initialize(known, running, numerator, denominator, clients = nil)
      @known = known == "1"
      @running = running == "1"
      @numerator = numerator.to_i
      @denominator = denominator.to_i
      @clients = clients&.to_i
    end

    # @return [Boolean] false: it has ended, was never there, or the server was restarted
    def known?
      @known
    end

    # @return [Boolean] whether a worker has it
    def running?
      @running
    end
  end
end
