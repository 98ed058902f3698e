# frozen_string_literal: true

module Gearman
  # Gives a class and its instances the library's logger.
  module Logging
    # @api private
    def self.included(target)
      target.extend(ClassMethods)
    end

    # @return [#debug, #info, #warn, #error] the logger of the class
    def logger
      self.class.logger
    end

    # What the including class gets.
    module ClassMethods
      # @return [#debug, #info, #warn, #error] {Gearman.logger}
      def logger
        Gearman.logger
      end
    end
  end
end
