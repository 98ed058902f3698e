# frozen_string_literal: true

module Gearman
  module Runner
    # Signals, to be read like lines of a file: a handler may neither lock nor log.
    #
    # @api private
    class Signals
      # What the signals mean.
      MEANINGS = { "TERM" => :stop, "INT" => :stop, "TSTP" => :quiet, "TTIN" => :dump }.freeze
      # A terminal and systemd signal the children as well as their parent: for a child, a second TERM is the first one
      # passed on, and only its parent sends QUIT.
      OF_CHILD = { **MEANINGS, "QUIT" => :abandon }.freeze

      # @return [IO] readable when there is a signal
      attr_reader :io

      # @param meanings [Hash{String => Symbol}]
      def initialize(meanings = MEANINGS)
        @io, @writer = IO.pipe
        @meanings = meanings
        @pid = Process.pid
        @before = meanings.keys.each_with_index.to_h { |name, index| [name, trap(name, index)] }
      end

      # @return [Array<Symbol>] what the signals mean that came since
      def read
        @io.read_nonblock(512, exception: false).then { |bytes| bytes.is_a?(String) ? bytes.bytes : [] }
           .map { |index| @meanings.values[index] }
      end

      # Puts back what was before.
      #
      # @return [void]
      def restore
        @before.each { |name, handler| Signal.trap(name, handler || "DEFAULT") }
        close
      end

      # For who has handlers of its own by now.
      #
      # @return [void]
      def close
        [@io, @writer].each(&:close)
      end

      private

      def trap(name, index)
        # A child that has just been forked must not tell its parent.
        Signal.trap(name) { @writer.write_nonblock(index.chr, exception: false) if Process.pid == @pid }
      end
    end
  end
end
