# frozen_string_literal: true

# One line on a terminal that says how far something is:
#
#   7040/10000 jobs, 5821 a second, 2 errors
#
# Where the output is no terminal, nothing is written.
class ProgressLine
  # Seconds from one drawing to the next.
  INTERVAL = 0.1

  # @param total [Integer] jobs
  # @param output [IO] not the standard output, so that results can go to a file
  def initialize(total, output = $stderr)
    @total = total
    @output = output
    @shown = output.tty?
    @began = @drawn = now
  end

  # To be called as often as something has happened.
  #
  # @param done [Integer] jobs that have ended
  # @yieldreturn [Integer] how many of them failed; asked for only when the line is drawn
  def update(done)
    return unless @shown
    return if now - @drawn < INTERVAL && done < @total

    @drawn = now
    @output.print("\r\e[K#{text(done, yield)}")
    @output.puts if done >= @total
  end

  private

  def text(done, errors)
    rate = done / [now - @began, 0.001].max
    format("%d/%d jobs, %d a second, %d error%s", done, @total, rate, errors, errors == 1 ? "" : "s")
  end

  def now
    Process.clock_gettime(Process::CLOCK_MONOTONIC)
  end
end
