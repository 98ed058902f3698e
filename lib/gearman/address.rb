# frozen_string_literal: true

require_relative "errors"

module Gearman
  # The address of a job server.
  class Address
    # The port that gearmand listens on unless told otherwise.
    DEFAULT_PORT = 4730

    # @return [String] a name or an IP address, without brackets
    attr_reader :host
    # @return [Integer] 1 to 65535
    attr_reader :port

    class << self
      # Reads one address: "host", "host:port", "192.0.2.1:4730", "[::1]" or "[::1]:4730".
      #
      # @param text [String, Symbol]
      # @return [Address]
      # @raise [InvalidArgsError] when it makes no sense
      def parse(text)
        string = text.to_s.strip
        host, port = split(string)
        new(host, port || DEFAULT_PORT, text)
      end

      # Reads a list: one address, several separated by commas, or an Array of either.
      #
      # @param list [String, Symbol, Array<String, Symbol>, nil]
      # @return [Array<Address>]
      # @raise [InvalidArgsError] when one of them makes no sense
      def parse_list(list)
        Array(list).flat_map do |entry|
          unless entry.is_a?(String) || entry.is_a?(Symbol)
            raise InvalidArgsError, "a job server is a String, not #{entry.inspect}"
          end

          entry.empty? ? parse(entry) : entry.to_s.split(",", -1).map { |text| parse(text) }
        end
      end

      # Raises the error of a wrong address.
      #
      # @api private
      def refuse(text, reason)
        raise InvalidArgsError, "#{text.to_s.inspect} is no address of a job server: #{reason}"
      end

      private

      def split(string)
        if (bracketed = string.match(/\A\[([\h.]*:[\h:.]*(?:%\w+)?)\](?::(.*))?\z/m))
          [bracketed[1], bracketed[2]]
        elsif string.count(":") > 1
          refuse(string, "an IPv6 address stands in brackets: [#{string}]:#{DEFAULT_PORT}")
        else
          host, colon, port = string.partition(":")
          [host, colon.empty? ? nil : port]
        end
      end
    end

    # @param host [String] a name or an IP address, without brackets
    # @param port [Integer, String] from 1 to 65535
    # @param text [#to_s] what to call the address when it is refused
    # @raise [InvalidArgsError] when it makes no sense
    def initialize(host, port, text = "#{host}:#{port}")
      refuse(text, "the host is empty") if host.to_s.empty?
      refuse(text, "a host has no white space, commas, slashes or brackets") if host.to_s.match?(%r{[\s,/\[\]\0]})
      @host = host
      @port = port.to_s.match?(/\A\d{1,5}\z/) ? port.to_i : 0
      refuse(text, "a port is a number from 1 to 65535") unless @port.between?(1, 65_535)
    end

    # @return [String] as {.parse} reads it
    def to_s
      host.include?(":") ? "[#{host}]:#{port}" : "#{host}:#{port}"
    end

    private

    def refuse(text, reason)
      Address.refuse(text, reason)
    end
  end
end
