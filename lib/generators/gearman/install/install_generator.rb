# frozen_string_literal: true

require "rails/generators/base"

module Gearman
  # What `rails generate` finds.
  #
  # @api private
  module Generators
    # `rails generate gearman:install`: what a Rails application needs for its jobs.
    #
    # @api private
    class InstallGenerator < ::Rails::Generators::Base
      # Where jobs are to go to Gearman; tests keep their own adapter.
      ENVIRONMENTS = %w[development production].freeze
      # What production.rb of a new application says of it.
      ADAPTER = /^ *(?:# *)?config\.active_job\.queue_adapter\s*=.*$/
      private_constant :ENVIRONMENTS, :ADAPTER

      desc "Writes config/gearman.yml, an initializer and bin/gearman-worker, and makes Gearman ActiveJob's adapter"
      source_root File.expand_path("templates", __dir__)

      # Settings.
      def copy_configuration
        copy_file "gearman.yml", "config/gearman.yml"
        copy_file "initializer.rb", "config/initializers/gearman.rb"
      end

      # The command that runs jobs.
      def copy_command
        copy_file "gearman-worker", "bin/gearman-worker"
        chmod "bin/gearman-worker", 0o755
      end

      # bin/dev starts what is in it.
      def add_to_procfile
        procfile = File.join(destination_root, "Procfile.dev")
        return unless File.exist?(procfile) && !File.read(procfile).match?(/^gearman:/)

        append_to_file "Procfile.dev", "gearman: bin/gearman-worker\n"
      end

      # One line for each environment.
      def set_queue_adapter
        ENVIRONMENTS.each do |name|
          path = "config/environments/#{name}.rb"
          next say_status(:skip, "#{path} is not there", :yellow) unless File.exist?(File.join(destination_root, path))

          if File.read(File.join(destination_root, path)).match?(ADAPTER)
            gsub_file path, ADAPTER, "  config.active_job.queue_adapter = :gearman"
          else
            environment "config.active_job.queue_adapter = :gearman", env: name
          end
        end
      end
    end
  end
end
