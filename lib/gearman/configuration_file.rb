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
    # Where it is in an application.
    DEFAULT = "config/gearman.yml"

    # @param path [String]
    # @param environment [String] the section to read
    # @return [Hash{Symbol => Object}] for {Configuration#update}
    # @raise [InvalidArgsError] when the file is not there, is no YAML, or has a setting that does not exist
    def self.read(path, environment)
      content = parse(path)
      raise InvalidArgsError, "#{path} is no list of settings" unless content.is_a?(Hash)

      content = content.transform_keys(&:to_s)
      sections, settings = content.partition { |name, value| section?(name, value) }.map(&:to_h)
      settings = settings.merge((sections[environment] || {}).transform_keys(&:to_s)).transform_keys(&:to_sym)
      unknown = settings.keys - Configuration::SETTINGS
      return settings if unknown.empty?

      raise InvalidArgsError, "#{path}: there is no setting #{unknown.first.to_s.inspect}; " \
                              "there are #{Configuration::SETTINGS.join(", ")}"
    end

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

    def self.section?(name, value)
      !Configuration::SETTINGS.include?(name.to_sym) && (value.is_a?(Hash) || value.nil?)
    end
    private_class_method :section?
  end
end
