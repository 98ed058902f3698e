# frozen_string_literal: true

module Gearman
  # What a file for gearman-worker says: the functions, and what is to happen around their jobs.
  #
  #   Gearman.worker do
  #     ability("resize", timeout: 30) { |data, job| Image.resize(data) }
  #     around_job { |job, run| Metrics.time(job.func_name) { run.call } }
  #   end
  class Definitions
    Definition = Struct.new(:timeout, :server_timeout, :block, :after)
    private_constant :Definition

    def initialize
      @abilities = {}
      @steps = []
    end

    # Defines a function.
    #
    # @param name [#to_s]
    # @param timeout [Numeric, nil] see {Worker#add_ability}
    # @param server_timeout [Boolean] see {Worker#add_ability}
    # @yieldparam data [String] the argument of the job
    # @yieldparam job [Worker::Job]
    # @yieldreturn [#to_s, nil, false] the result; nil and false fail the job
    # @return [void]
    # @raise [InvalidArgsError] when there is no block, the function is defined already, the name cannot be sent, or the
    #   time-out makes no sense
    def ability(name, timeout: nil, server_timeout: false, &block)
      raise InvalidArgsError, "an ability needs a name" if name.to_s.empty?

      Packet.encode(:can_do, name.to_s)
      raise InvalidArgsError, "the ability #{name} has no block" unless block
      raise InvalidArgsError, "the timeout of #{name} is a number of seconds above 0, not #{timeout.inspect}" unless
        timeout.nil? || (timeout.is_a?(Numeric) && timeout.positive?)
      raise InvalidArgsError, "the ability #{name} is defined twice" if @abilities.key?(name.to_s)

      @abilities[name.to_s] = Definition.new(timeout, server_timeout, block)
    end

    # See {Worker#after_ability}.
    #
    # @param name [#to_s]
    # @yieldparam result [String]
    # @yieldparam data [String]
    # @return [void]
    # @raise [InvalidArgsError] when there is no such ability
    def after_ability(name, &block)
      definition = @abilities[name.to_s] or raise InvalidArgsError, "there is no ability #{name.to_s.inspect}"
      definition.after = block
    end

    # See {Worker#around_job}.
    #
    # @yieldparam job [Worker::Job]
    # @yieldparam run [#call]
    # @return [void]
    def around_job(&block)
      @steps << [:around_job, block]
    end

    # See {Worker#on_error}.
    #
    # @yieldparam error [Exception]
    # @yieldparam job [Worker::Job]
    # @return [void]
    def on_error(&block)
      @steps << [:on_error, block]
    end

    # @return [Array<String>] the functions, in the order in which they were defined
    def names
      @abilities.keys
    end

    # @return [#call, nil] is given a block for each job, and calls it
    # @api private
    attr_accessor :executor

    # Tells a worker what is to happen around jobs.
    #
    # @param worker [Worker]
    # @return [void]
    # @api private
    def prepare(worker)
      @steps.each { |name, block| worker.public_send(name, &block) }
    end

    # Adds one function to a worker. Servers hear of it when it works.
    #
    # @param worker [Worker]
    # @param name [String] one of {#names}
    # @return [void]
    # @api private
    def add_to(worker, name)
      definition = @abilities.fetch(name)
      worker.add_ability(name, definition.timeout, server_timeout: definition.server_timeout, announce: false,
                         &executed(definition.block))
      worker.after_ability(name, &definition.after) if definition.after
    end

    private

    def executed(block)
      return block unless (executor = @executor)

      ->(data, job) { executor.call { block.call(data, job) } }
    end
  end

  class << self
    # Defines functions for gearman-worker, see {Definitions}. May be called several times.
    #
    # @yield the block runs in the {Definitions}
    # @return [Definitions]
    def worker(&block)
      definitions.instance_exec(&block)
      definitions
    end

    # @return [Definitions]
    # @api private
    def definitions
      @definitions ||= Definitions.new
    end
  end
end
