# frozen_string_literal: true

require "rspec/expectations"

module Gearman
  module Testing
    # The matcher have_submitted of `require "gearman/rspec"`. It passes when tasks of the function have been submitted:
    # by the block, or since the example began.
    #
    #   expect { upload(image) }.to have_submitted("resize").with("cat.png").once
    #   expect(Gearman).to have_submitted("mail").with(a_string_including("Ann")).at_least(2).times
    #   expect(Gearman).not_to have_submitted("mail")
    class HaveSubmitted
      include ::RSpec::Matchers::Composable

      # @param func [#to_s, Object] a function, or a matcher for its name
      # @api private
      def initialize(func)
        @func = func.is_a?(Symbol) ? func.to_s : func
        @wanted = {}
        @count = nil
      end

      # @param data [String, Object] the argument, or a matcher for it
      # @return [self]
      def with(data)
        want(:data, data, "with #{describe(data)}")
      end

      # @param priority [Symbol, nil] :high, :low, or nil for neither
      # @return [self]
      def with_priority(priority)
        want(:priority, priority, "with priority #{describe(priority)}")
      end

      # @param time [Time, Numeric, Object] when it is to run, to the second, or a matcher for a Time; seconds since the
      #   epoch may be given
      # @return [self]
      def at(time)
        time = Time.at(time) if time.is_a?(Numeric)
        time = Time.at(time.to_i) if time.is_a?(Time)
        want(:run_at, time, "at #{describe(time)}")
      end

      # @return [self]
      def in_background
        want(:background?, true, "in the background")
      end

      # @return [self]
      def once = exactly(1)

      # @return [self]
      def twice = exactly(2)

      # @param number [Integer]
      # @return [self]
      def exactly(number) = count(number, number, "exactly")

      # @param number [Integer]
      # @return [self]
      def at_least(number) = count(number, nil, "at least")

      # @param number [Integer]
      # @return [self]
      def at_most(number) = count(0, number, "at most")

      # Makes `exactly(3).times` read well.
      #
      # @return [self]
      def times = self
      alias time times

      # @param subject [Proc, Module] a block, or the module Gearman
      # @return [Boolean]
      # @raise [ArgumentError] when it is neither
      # @api private
      def matches?(subject)
        looked_at(subject).then { |range| range.cover?(@found.size) }
      end

      # Whether none was found.
      #
      # @api private
      def does_not_match?(subject) # rubocop:disable Naming/PredicatePrefix -- RSpec's name
        raise ArgumentError, "not_to have_submitted takes no count" if @count

        looked_at(subject)
        @found.empty?
      end

      # @api private
      def supports_block_expectations? = true

      # @api private
      def supports_value_expectations? = true

      # What the matcher wants.
      #
      # @api private
      def description
        ["have submitted #{describe(@func)}", *@wanted.values.map(&:last), @count&.last].compact.join(" ")
      end

      # Says what was there instead.
      #
      # @api private
      def failure_message
        "expected to #{description}, but #{@found.size} of these were: #{list}"
      end

      # Says what should not have been there.
      #
      # @api private
      def failure_message_when_negated
        "expected not to #{description}, but these were: #{list(@found)}"
      end

      private

      def want(attribute, value, text)
        @wanted[attribute] = [value, text]
        self
      end

      def count(least, most, word)
        number = most || least
        unless number.is_a?(Integer) && number >= 0
          raise InvalidArgsError, "have_submitted counts with an Integer of 0 or more, not #{number.inspect}"
        end

        @count = [least..most, "#{word} #{number == 1 ? "once" : "#{number} times"}"]
        self
      end

      # Finds what was submitted and returns how many there may be.
      def looked_at(subject)
        @all = submitted_by(subject)
        @found = @all.select do |submission|
          values_match?(@func, submission.func) &&
            @wanted.all? { |attribute, (value, _)| values_match?(value, submission.public_send(attribute)) }
        end
        @count ? @count.first : (1..)
      end

      def submitted_by(subject)
        raise "tasks are sent, and not kept: Gearman.testing!(:disabled) is on" unless Testing.active?
        return Testing.submitted if subject.equal?(Gearman)
        raise ArgumentError, "expect a block or Gearman to have_submitted, not #{subject.inspect}" unless
          subject.is_a?(Proc)

        before = Testing.submitted.size
        subject.call
        Testing.submitted.drop(before)
      end

      def list(submissions = @all)
        submissions.empty? ? "nothing" : submissions.map { |submission| "\n  #{submission}" }.join
      end

      def describe(value)
        value.respond_to?(:description) ? value.description : value.inspect
      end
    end
  end
end
