# frozen_string_literal: true

require "securerandom"
require "gearman/active_job/dead_letter"

module Gearman
  module ActiveJob
    # Looks through the dead letters of a queue.
    #
    # Gearman shows nobody a job without handing it out. So each letter is taken as a worker takes it, and completed
    # when the server has what is to become of it: whoever is cut off in between leaves a letter twice, and loses none.
    # It is not just given back unanswered: a server that was told how often a job may be tried drops it for that.
    class DeadLetters
      # Seconds that a server may take to answer.
      TIMEOUT = 10
      private_constant :TIMEOUT

      # Touches no network.
      #
      # @param servers [String, Array<String>, nil] nil: those of the {Gearman.configuration}
      # @param tls [Hash, TLS, Boolean, nil] see {TLS#initialize}; nil: as the {Gearman.configuration} says
      # @param out [IO] for what there is to say
      # @raise [InvalidArgsError] when an address makes no sense, or what is said of TLS
      def initialize(servers = nil, tls: nil, out: $stdout)
        @tls = tls.nil? ? Gearman.configuration.tls || nil : tls
        @pool = ConnectionPool.new(servers || Gearman.configuration.effective_servers, tls: @tls)
        @out = out
      end

      # Prints a line for each letter. Afterwards they are in the same order as before.
      #
      # @param queue [#to_s]
      # @return [Integer] how many there are
      # @raise [NetworkError, NoJobServersError, SocketTimeoutError] when a server cannot be reached, or is lost
      # @raise [RefusedError] when a server does not take a letter back; it still has it
      # @raise [InvalidArgsError] when no queue can have this name
      def list(queue)
        each_letter(queue) do |letter, text, client|
          client.submit_background(copy(queue, text))
          describe(letter, text)
        end
      end

      # Submits the jobs again, as if they had never been tried.
      #
      # @param queue [#to_s]
      # @return [Integer] how many
      # @raise (see #list)
      def retry(queue)
        each_letter(queue) do |letter, text, client|
          client.submit_background(letter ? letter.retry_task : copy(queue, text))
          describe(letter, text)
          letter
        end
      end

      # Drops the letters.
      #
      # @param queue [#to_s]
      # @return [Integer] how many
      # @raise (see #list)
      def purge(queue)
        each_letter(queue) { |letter, text| describe(letter, text) }
      end

      private

      def copy(queue, text)
        BackgroundTask.new(Queue.dead(queue), text, priority: :low, hash: SecureRandom.uuid)
      end

      def describe(letter, text)
        @out.puts(letter ? letter.summary : "not a dead letter: #{text[0, 100].inspect}")
        true
      end

      # Takes each letter that is there now; one that is put back comes behind them all. It is done with when the block
      # has returned. Returns how often that was true.
      def each_letter(queue, &block)
        function = Queue.dead(queue)
        # All servers, or none: a letter that is not shown looks like one that is not there.
        @pool.connections.each(&:channel).sum { |connection| each_letter_of(connection, function, &block) }
      ensure
        @pool.close
      end

      def each_letter_of(connection, function)
        client = Client.new(connection.to_host_port, tls: @tls)
        waiting = letters_at(connection, function)
        channel = connection.channel # no other one is to hear of its jobs
        channel.send_update(Packet.encode(:can_do, function))
        count = 0
        waiting.times do
          handle, text = take(channel, connection)
          break unless handle

          count += 1 if yield DeadLetter.parse(text), text, client
          channel.send_update(Packet.encode(:work_complete, handle, ""))
        end
        # The server answers this when it has done all before it.
        channel.request(Packet.encode(:echo_req, "done"), TIMEOUT)
        count
      ensure
        client&.close
      end

      def letters_at(connection, function)
        server = Server.new(connection.to_host_port, tls: @tls)
        server.status.dig(function, :queue).to_i
      ensure
        server&.close
      end

      # The handle and the text of the next letter; nil when there is none.
      def take(channel, connection)
        channel.send_update(Packet.encode(:grab_job))
        type, body = channel.read_response(TIMEOUT)
        type, body = channel.read_response(TIMEOUT) while type == :noop
        return if type == :no_job
        raise ProtocolError, "#{connection.to_host_port}: got #{type} for a job" unless type == :job_assign

        handle, _function, text = Packet.split(type, body)
        [handle, text]
      end
    end
  end
end
