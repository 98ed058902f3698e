# frozen_string_literal: true

module Gearman
  # The clock that deadlines go by; the one on the wall is set at times.
  #
  # @api private
  module Clock
    private

    # @return [Float] seconds
    def now
      Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end

    # @param deadline [Float, nil] by this clock; nil: there is none
    # @return [Numeric, nil] seconds until then, from 0
    def remaining(deadline)
      deadline && [deadline - now, 0].max
    end
  end
end
