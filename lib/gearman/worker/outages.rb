# frozen_string_literal: true

require_relative "../clock"

module Gearman
  class Worker
    # Servers that refuse connections. One loop of a worker tries each of them, as a try costs more than all else that a
    # worker does meanwhile.
    #
    # @api private
    class Outages
      include Clock

      # Seconds that the next try may be late until another loop takes it over: a job may run in that one.
      GRACE = 0.3
      Watch = Struct.new(:loop, :until)
      private_constant :GRACE, :Watch

      def initialize
        @watches = {}
      end

      # @param server [String] "host:port"
      # @param loop [Loop]
      # @return [Float] seconds for which another loop tries the server; 0: this one is to try it
      def left_to_another(server, loop)
        watch = @watches[server]
        watch.nil? || watch.loop.equal?(loop) ? 0.0 : [watch.until - now, 0.0].max
      end

      # Notes that a server has refused a connection.
      #
      # @param server [String]
      # @param loop [Loop] the one that has tried, and does so again
      # @param seconds [Float] until then
      # @return [void]
      def refused(server, loop, seconds)
        @watches[server] = Watch.new(loop, now + seconds + GRACE) if left_to_another(server, loop).zero?
      end

      # Notes that a server is there.
      #
      # @param server [String]
      # @return [Boolean] whether it has refused connections before
      def over(server)
        !@watches.delete(server).nil?
      end
    end
  end
end
