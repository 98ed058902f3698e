# frozen_string_literal: true

module Gearman
  module Testing
    # What stands before the methods that would reach a server.
    #
    # @api private
    module Interception
      # Puts them there, once.
      #
      # @return [void]
      def self.install
        constants.each { |name| Gearman.const_get(name).prepend(const_get(name)) unless name == :Ability }
        Gearman::Worker::Ability.prepend(Ability)
      end

      # Before those of {Gearman::Client}.
      module Client
        # Keeps or runs it, if nobody waits for it.
        def do_task(task, timeout = nil, opts = nil)
          return super unless Testing.active?

          task, timeout = Deprecated.task_of(:do_task, task, timeout, opts) unless task.is_a?(Task)
          return super(task, timeout) unless task.background?

          submit_background(task)
          nil
        end

        # Keeps or runs it.
        def submit_background(task)
          Testing.active? ? Testing.accept(task) : super
        end

        # Keeps or runs them.
        def submit_all(tasks)
          return super unless Testing.active?

          tasks = tasks.to_a
          if (foreground = tasks.find { |task| !task.background? })
            raise InvalidArgsError, "submit_all takes background and scheduled tasks; #{foreground.func} is neither"
          end

          tasks.each_with_index.map do |task, index|
            handle = accepted(task)
            yield index + 1, tasks.size if block_given?
            handle
          end
        end

        # Does nothing.
        def set_option(option)
          Testing.active? ? [] : super
        end

        # Looks among the jobs that are queued.
        def job_status(handle)
          Testing.active? ? status(handle) : super
        end

        # Looks among the jobs that are queued.
        def job_status_by_unique(unique)
          Testing.active? ? status(unique) : super
        end

        # Takes every server for healthy.
        def ping
          return super unless Testing.active?

          @connection_pool.connections.to_h { |connection| [connection.to_host_port, 0.0] }
        end

        private

        def accepted(task)
          task.unique_or { SecureRandom.uuid }
          begin
            Submission.check(task)
            task.error = nil
          rescue InvalidArgsError => e
            task.error = e
            return
          end
          Testing.accept(task)
        end

        def status(key)
          JobStatus.new(Testing.queued?(key) ? "1" : "0", "0", "0", "0")
        end
      end

      # Before those of {Gearman::TaskSet}.
      module TaskSet
        # Runs the tasks.
        def wait(timeout = 1)
          return super unless Testing.active?

          tasks = take
          tasks.each { |task| self.last_result = Testing.call(task) || last_result }
          tasks.all? { |task| task.successful || task.background? }
        end
      end

      # Before those of {Gearman::Worker}.
      module Worker
        # Remembers who can do it.
        def add_ability(func_name, timeout = nil, **options, &block)
          super.tap { Testing.register(func_name, self) if Testing.active? }
        end

        # Refuses.
        def work
          refuse_to_work
          super
        end

        # Refuses.
        def work_once(timeout = nil)
          refuse_to_work
          super
        end

        private

        def refuse_to_work
          return unless Testing.active?

          raise Error, "there is no job server in a test: Gearman::Testing.drain runs what was submitted, and " \
                       "Gearman.testing!(:disabled) lets workers work"
        end
      end

      # Before those of {Gearman::Worker::Ability}.
      module Ability
        # Remembers the error.
        def run(data, job)
          super
        rescue Exception => e # rubocop:disable Lint/RescueException -- whatever fails the job
          Thread.current.thread_variable_set(Runner::ERROR, e)
          raise
        end
      end

      # Before those of {Gearman::ConnectionPool}: nothing is connected.
      module ConnectionPool
        # Refuses.
        def get_connection(...)
          return super unless Testing.active?

          raise Error, "Gearman.testing!(#{Testing.mode.inspect}) is on: no job server is connected"
        end

        # Takes every server for unreachable.
        def with_all_connections
          Testing.active? ? [] : super
        end
      end
    end
  end
end
