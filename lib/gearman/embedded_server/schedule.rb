# frozen_string_literal: true

module Gearman
  class EmbeddedServer
    # What is to be done at a time of the wall clock.
    # @private
    class Schedule
      # Seconds after which it looks again: somebody may set the clock.
      MAX_IDLE = 1

      Entry = Struct.new(:time, :number, :action) do
        # @return [Integer] by time, then by age
        def <=>(other)
          by_time = time <=> other.time
          by_time.zero? ? number <=> other.number : by_time
        end
      end
      private_constant :Entry

      def initialize
        @entries = [] # sorted
        @count = 0
      end

      # @return [Object] to be given to {#cancel}
      def at(time, &action)
        entry = Entry.new(time, @count += 1, action)
        @entries.insert(position(entry), entry)
        entry
      end

      def cancel(entry)
        index = position(entry)
        @entries.delete_at(index) if @entries[index].equal?(entry)
      end

      def run_due
        return if @entries.empty?

        now = Time.now.to_f
        @entries.shift.action.call while @entries.any? && @entries.first.time <= now
      end

      # Seconds until something is due, or nil.
      def idle_time
        return if @entries.empty?

        (@entries.first.time - Time.now.to_f).clamp(0, MAX_IDLE)
      end

      private

      def position(entry)
        @entries.bsearch_index { |other| (other <=> entry) >= 0 } || @entries.size
      end
    end
  end
end
