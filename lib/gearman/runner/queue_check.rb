# frozen_string_literal: true

module Gearman
  module Runner
    # Warns of queues that have jobs and no worker, which nobody else would notice.
    #
    # @api private
    class QueueCheck
      include Clock

      # Ends the names of a queue's further functions: no worker is meant to serve its dead letters.
      DEAD = ".dead"
      SCHEDULED = ".scheduled"
      private_constant :DEAD, :SCHEDULED

      # @param configuration [Configuration]
      def initialize(configuration)
        @configuration = configuration
        @told = []
        put_off
      end

      # To be called each second. A look has a thread, as servers may be silent, and there is none between looks, as
      # whoever calls this may fork.
      #
      # @return [void]
      def tick
        return if now < @due || @thread&.alive?

        put_off
        @thread = Thread.new { look }
      rescue ThreadError => e # too many threads: that may pass
        Gearman.logger.debug { "the queues are not looked at: #{e.message}" }
      end

      # Warns once of each queue, and again when it was served in between.
      #
      # @return [void]
      def look
        forsaken = @configuration.effective_servers.map { |server| forsaken_at(server) }.inject({}, :merge)
        forsaken.except(*@told).each do |(server, queue), jobs|
          Gearman.logger.warn("queue #{queue} has #{jobs} jobs and no worker at #{server}; " \
                              "gearman-worker -q #{queue} would serve it")
        end
        @told = forsaken.keys
      end

      private

      def put_off
        @due = now + @configuration.queue_check
      end

      def forsaken_at(address)
        server = Server.new(address, tls: @configuration.tls || nil)
        waiting = server.status.reject do |function, counts|
          counts[:queue] == "0" || counts[:workers] != "0" || function.end_with?(DEAD)
        end
        waiting.to_h { |function, counts| [[address, function.delete_suffix(SCHEDULED)], counts[:queue]] }
      rescue Gearman::Error => e
        Gearman.logger.debug { "the queues of #{address} cannot be looked at: #{e.message}" }
        {}
      ensure
        server&.close
      end
    end
  end
end
