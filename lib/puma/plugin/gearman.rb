# frozen_string_literal: true

require "puma/plugin"
require_relative "../../gearman"

# Runs a Gearman worker in Puma itself, for applications that have one machine and little to do:
#
#   plugin :gearman # in config/puma.rb
#
# In cluster mode each of Puma's workers has one. It starts when the application has been loaded, and ends with Puma;
# running jobs have the time of Gearman.configuration.shutdown_timeout then.
Puma::Plugin.create do
  # Seconds between two looks whether the application has been loaded.
  const_set(:POLL, 0.1)

  def start(launcher)
    (launcher.options[:workers] || 0).positive? ? start_in_workers(launcher) : start_here(launcher.events)
  end

  private

  # Whether the mode is that of a cluster is known only now, so the hooks are set as if Puma's configuration did.
  def start_in_workers(launcher)
    configuration = Puma::DSL.new(launcher.options, launcher.config)
    hook(configuration, :before_worker_boot, :on_worker_boot) { start_worker }
    hook(configuration, :before_worker_shutdown, :on_worker_shutdown) { stop_worker }
  end

  def start_here(events)
    hook(events, :after_booted, :on_booted) { start_worker }
    hook(events, :after_stopped, :on_stopped) { stop_worker }
    hook(events, :before_restart, :on_restart) { stop_worker }
  end

  # Puma 7 has other names for them.
  def hook(target, name, old_name, &block)
    target.public_send(target.respond_to?(name) ? name : old_name, &block)
  end

  def start_worker
    stopping = @stopping = Queue.new
    @starter = Thread.new do
      # Without preload_app!, a worker of Puma loads the application after it has booted.
      sleep self.class::POLL until application_loaded? || !stopping.empty?
      @worker = Gearman::Runner::Launcher.new.start if stopping.empty?
    rescue StandardError => e
      Gearman.logger.error { "the Puma plugin cannot start the worker: #{e.class}: #{e.message}" }
    end
  end

  # Puma may call this in a trap, where no lock can be taken; another thread can.
  def stop_worker
    @stopping&.push(true)
    Thread.new do
      @starter&.join
      @worker&.stop
      @worker = nil
    end.join
  end

  # Nothing of Rails itself is asked: to ask for its application would make it, in this thread.
  def application_loaded?
    return Gearman.definitions.names.any? unless defined?(Rails)

    defined?(Gearman::Railtie.initialized?) && Gearman::Railtie.initialized?
  end
end
