# frozen_string_literal: true

require "socket"
require_relative "errors"
require "gearman/native"

module Gearman
  # The codec. Its methods are written in C (ext/gearman/packet.c).
  #
  # @!parse
  #   class Packet
  #     # Packet types by number.
  #     # @return [Hash{Integer => Symbol}]
  #     COMMANDS = {}
  #     # Packet types by name.
  #     # @return [Hash{Symbol => Integer}]
  #     NUMS = {}
  #
  #     # A request packet around a body that is taken as it is.
  #     # @param type [Symbol, String] a name of {COMMANDS}
  #     # @param arg [String, nil] the body; nil is an empty one
  #     # @return [String] BINARY
  #     # @raise [InvalidArgsError] when there is no such type
  #     def self.pack_request(type, arg = ""); end
  #
  #     # A request packet from its arguments.
  #     # @param type [Symbol, String] a name of {COMMANDS}
  #     # @param parts [Array<String>] the arguments in the order of the protocol, the data last
  #     # @return [String] BINARY
  #     # @raise [InvalidArgsError] when there is no such type, the number of parts is wrong, an argument
  #     #   contains a NUL byte, or the arguments do not fit the server's 8 KiB
  #     def self.encode(type, *parts); end
  #
  #     # A response packet, as a server sends it.
  #     # @param (see encode)
  #     # @return (see encode)
  #     # @raise (see encode)
  #     def self.encode_response(type, *parts); end
  #
  #     # Cuts the body of a packet.
  #     # @param type [Symbol, String] a name of {COMMANDS}
  #     # @param body [String]
  #     # @return [Array<String>] the arguments, the data last; those that are missing are empty
  #     # @raise [InvalidArgsError] when there is no such type
  #     def self.split(type, body); end
  #
  #     # Turns bytes, fed in any split, into packets.
  #     class Parser
  #       # @param side [Symbol] which packets are expected: :response or :request
  #       # @param max_packet [Integer] the largest body that is taken, in bytes, below 4 GiB (default: 1 GiB)
  #       # @raise [InvalidArgsError] for any other side or limit
  #       def initialize(side = :response, max_packet = nil); end
  #
  #       # @param bytes [String]
  #       # @return [self]
  #       def feed(bytes); end
  #
  #       # @return [Array(Symbol, String), nil] the type and body of the next whole packet
  #       # @raise [ProtocolError] where no packet can be: the stream cannot be read any further
  #       def next_packet; end
  #
  #       # @return [String, nil] the next line of the text protocol, which a server takes wherever a packet could begin
  #       # @raise [ProtocolError] when the line is too long
  #       def next_line; end
  #     end
  #   end
  class Packet # rubocop:disable Lint/EmptyClass
  end
end
