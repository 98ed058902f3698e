# frozen_string_literal: true

require "erb"
require "yaml"

module Gearman
  # Settings in YAML, with ERB in it: on the top level those of every environment, in a section of its own what an
  # environment has instead.
  #
  #   concurrency: 5
  #   queues: [critical, default, mailers]
  #   production:
  #     servers: <%= ENV["JOB_SERVERS"] %>
  #     concurrency: 20
  module ConfigurationFile
    # Where it may be in an application; the first that is there counts.
    PATHS = %w[config/gearman.yml config/gearman.yml.erb].freeze
    # Environments that may have a section with nothing in it.
    USUAL = %w[development test production].freeze
    private_constant :USUAL

    # @param directory [String] of the application
    # @return [String, nil] the path of its file, if it has one
    def self.find(directory)
      PATHS.map { |path| File.join(directory, path) }.find { |path| File.exist?(path) }
    end

    # @param path [String]
    # @param environment [String] the section to read
    # @return [Hash{Symbol => Object}] for {Configuration#update}
    # @raise [InvalidArgsError] when the file is not there, is no YAML, or has a setting that does not exist,
    #   in any section
    def self.read(path, environment)
      content = parse(path)
      raise InvalidArgsError, "#{path} is no list of settings" unless content.is_a?(Hash)

      sections, settings = content.transform_keys(&:to_s).partition { |name, value| section?(name, value, environment) }
      settings = settings_of(settings, path)
      sections.each do |name, section|
        section = settings_of(section, "#{path}: #{name}")
        settings.update(section) if name == environment
      end
      settings
    end

    # All sections are looked at: a misspelled setting that has several parts would pass for one.
    def self.settings_of(content, place)
      settings = content.to_h.transform_keys { |name| name.to_s.to_sym }
      unknown = settings.keys - Configuration::SETTINGS
      return settings if unknown.empty?

      raise InvalidArgsError, "#{place}: there is no setting #{unknown.first.to_s.inspect}; " \
                              "there are #{Configuration::SETTINGS.join(", ")}"
    end
    private_class_method :settings_of

    def self.parse(path)
      erb = ERB.new(File.read(path), trim_mode: "-")
      erb.filename = path
      YAML.safe_load(erb.result, aliases: true, permitted_classes: [Symbol], filename: path) || {}
    rescue SystemCallError => e
      raise InvalidArgsError, "the configuration cannot be read: #{e.message}"
    rescue Psych::Exception => e
      raise InvalidArgsError, "#{path} is no YAML: #{e.message}"
    rescue StandardError, ScriptError => e
      line = e.backtrace&.find { |place| place.start_with?("#{path}:") }&.slice(/:\d+/)
      raise InvalidArgsError, "#{path}#{line}: #{e.message} (#{e.class})"
    end
    private_class_method :parse

    def self.section?(name, value, environment)
      return false if Configuration::SETTINGS.include?(name.to_sym)

      value.is_a?(Hash) || (value.nil? && [environment, *USUAL].include?(name))
    end
    private_class_method :section?
  end
end
