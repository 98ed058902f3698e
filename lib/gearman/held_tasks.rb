# frozen_string_literal: true

module Gearman
  # Tasks whose server takes no more for now, while those for others go on: a list for each server, in order.
  #
  # @api private
  class HeldTasks
    # How many are held back until what has come is read.
    AT_ONCE = 1000

    def initialize
      @lists = {}.compare_by_identity
    end

    # @return [Integer]
    def size
      @lists.sum { |_, tasks| tasks.size }
    end

    # Holds the first of the tasks back.
    #
    # @param connection [Connection] to its server
    # @param tasks [Array<Task>] those that it is taken from
    # @return [void]
    def hold(connection, tasks)
      (@lists[connection] ||= []) << tasks.shift # in one step: an interrupt finds it at one place
    end

    # Calls the block with each server and those for it, which it takes out. Those of a server that was lost go to the
    # front of the other tasks, for whom a server is still to be chosen.
    #
    # @param others [Array<Task>]
    # @yieldparam connection [Connection]
    # @yieldparam tasks [Array<Task>]
    # @return [void]
    def release(others)
      @lists.each do |connection, tasks|
        next give_back(tasks, others) unless connection.up?

        yield connection, tasks unless tasks.empty?
      rescue ServerDownException
        give_back(tasks, others)
      end
      @lists.delete_if { |_, tasks| tasks.empty? }
    end

    private

    def give_back(tasks, others)
      others.unshift(tasks.pop) until tasks.empty?
    end
  end
end
