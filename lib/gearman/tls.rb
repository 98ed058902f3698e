# frozen_string_literal: true

require_relative "errors"

module Gearman
  # How to speak TLS with job servers. The files are read once, when it is made; then it does not change, and any
  # number of clients, workers and threads may use it. It needs the openssl library, which is not loaded otherwise.
  #
  #   tls = Gearman::TLS.new(ca_file: "ca.pem", cert: "client.pem", key: "client.key")
  #   client = Gearman::Client.new("jobs.example.com:4730", tls: tls)
  class TLS
    # What was wrong with a server, for those who know its name.
    #
    # @api private
    class HandshakeError < NetworkError; end

    # The environment variables of libgearman, by the option that they are the default of.
    ENVIRONMENT = {
      ca_file: "GEARMAND_CA_CERTIFICATE", cert: "GEARMAN_CLIENT_PEM", key: "GEARMAN_CLIENT_KEY"
    }.freeze

    OPTIONS = %i[ca_file cert key verify hostname].freeze
    private_constant :OPTIONS

    class << self
      # What `tls:` means to a client, a worker and so on.
      #
      # @param setting [Hash, TLS, Boolean, nil] the options of {#initialize}; true: none of them; false, nil: no TLS
      # @return [TLS, nil]
      # @raise (see #initialize)
      # @api private
      def for(setting)
        case setting
        when nil, false then nil
        when true then new
        when Hash then new(**setting)
        when TLS then setting
        else raise InvalidArgsError, "tls: is true, false, a Hash or a Gearman::TLS, not #{setting.inspect}"
        end
      end

      # What reading and writing can raise beside an IOError and a SystemCallError.
      #
      # @return [Array<Class>]
      # @api private
      def errors
        defined?(OpenSSL::SSL::SSLError) ? [OpenSSL::SSL::SSLError] : []
      end
    end

    # Touches no network. What is not given is taken from {ENVIRONMENT}; the certificate and the key from there go
    # together. nil stands for nothing, whatever the environment says.
    #
    # @param options [Hash]
    # @option options [String, nil] :ca_file a PEM file of the authorities to trust, instead of the system's
    # @option options [String, nil] :cert a PEM file of the certificate to show, and of those between it and its
    #   authority
    # @option options [String, nil] :key a PEM file of its private key, without a passphrase; it may be the same file
    # @option options [Boolean] :verify (true) whether the server has to have a trusted certificate with its name
    # @option options [String, nil] :hostname the name that the servers have, instead of the one they are connected by
    # @raise [InvalidArgsError] there is no such option, or it makes no sense, or a file cannot be used
    # @raise [Error] the openssl library cannot be loaded
    def initialize(**options)
      unknown = options.keys - OPTIONS
      unless unknown.empty?
        raise InvalidArgsError, "tls: has no #{unknown.map(&:inspect).join(", ")}; it has #{OPTIONS.join(", ")}"
      end

      load_openssl
      @sources = {}
      options = environment(options).merge(options)
      @verify = verify_of(options.fetch(:verify, true))
      @hostname = text(:hostname, options[:hostname])
      @context = context(options)
      freeze
    end

    # Begins TLS on a connected socket, which is closed when that fails.
    #
    # @param socket [BasicSocket]
    # @param host [String] what it was connected by
    # @param deadline [Float] when the handshake has to be done, in seconds of the monotonic clock
    # @return [OpenSSL::SSL::SSLSocket]
    # @raise [HandshakeError] the two do not come together
    # @raise [SystemCallError, IOError] the connection is lost, or the time is up (Errno::ETIMEDOUT)
    # @api private
    def connect(socket, host, deadline)
      ssl = OpenSSL::SSL::SSLSocket.new(socket, @context)
      ssl.sync_close = true
      name = (@hostname || host).delete_suffix(".")
      ssl.hostname = name unless address?(name)
      shake_hands(ssl, deadline)
      check_name(ssl, name) if @verify
      connected = ssl
    rescue OpenSSL::SSL::SSLError => e
      raise HandshakeError, reason(e, ssl)
    ensure
      socket.close unless connected
    end

    private

    def load_openssl
      require "openssl"
    rescue LoadError => e
      raise Error, "TLS needs the openssl library: #{e.message}"
    end

    def environment(options)
      names = options.key?(:cert) || options.key?(:key) ? ENVIRONMENT.slice(:ca_file) : ENVIRONMENT
      names.filter_map do |option, name|
        next if options.key?(option) || ENV[name].to_s.empty?

        @sources[option] = name
        [option, ENV[name]]
      end.to_h
    end

    def context(options)
      certificate = certificate(*%i[cert key].map { |option| text(option, options[option]) })
      context = OpenSSL::SSL::SSLContext.new
      context.set_params(verify_mode: @verify ? OpenSSL::SSL::VERIFY_PEER : OpenSSL::SSL::VERIFY_NONE,
                         verify_hostname: false, # see check_name, which can also do it by an IP address
                         min_version: OpenSSL::SSL::TLS1_2_VERSION,
                         cert_store: store(text(:ca_file, options[:ca_file])))
      context.add_certificate(*certificate) if certificate
      context.setup
      context
    end

    def store(ca_file)
      store = OpenSSL::X509::Store.new
      return store.tap(&:set_default_paths) unless ca_file

      reading(:ca_file, ca_file) { store.add_file(ca_file) }
      store
    end

    # The certificate, its key and the chain; nil when none is to be shown.
    def certificate(cert, key)
      return if cert.nil? && key.nil?

      present, missing = cert ? %i[cert key] : %i[key cert]
      raise InvalidArgsError, "tls: #{name_of(present)} is given without #{missing}" unless cert && key

      first, *chain = reading(:cert, cert) { |pem| OpenSSL::X509::Certificate.load(pem) }
      private_key = reading(:key, key) { |pem| OpenSSL::PKey.read(pem, "") } # without a passphrase it would ask
      unless private_key.private? && first.check_private_key(private_key)
        raise InvalidArgsError, "tls: #{name_of(:key)} #{key} is not the private key of #{name_of(:cert)} #{cert}"
      end

      [first, private_key, chain]
    end

    def reading(option, path)
      yield File.binread(path)
    rescue SystemCallError, OpenSSL::OpenSSLError => e
      raise InvalidArgsError, "tls: #{name_of(option)} #{path} cannot be used: #{e.message}"
    end

    def name_of(option)
      @sources.fetch(option, option)
    end

    def verify_of(verify)
      return verify if [true, false].include?(verify)

      raise InvalidArgsError, "tls: verify is true or false, not #{verify.inspect}"
    end

    def text(option, value)
      return if value.nil?

      value = value.to_path if value.respond_to?(:to_path)
      return value if value.is_a?(String) && !value.empty? && !value.include?("\0")

      raise InvalidArgsError, "tls: #{option} is a String, not #{value.inspect}"
    end

    # An address is no server name that may be asked for in a handshake.
    def address?(name)
      name.include?(":") || name.match?(/\A[\d.]+\z/)
    end

    def shake_hands(ssl, deadline)
      until (result = ssl.connect_nonblock(exception: false)).equal?(ssl)
        left = deadline - Process.clock_gettime(Process::CLOCK_MONOTONIC)
        next if left.positive? && ssl.to_io.public_send(result, left)

        raise Errno::ETIMEDOUT, "no TLS handshake; does the server speak TLS?"
      end
    end

    def check_name(ssl, name)
      ssl.post_connection_check(name)
    rescue OpenSSL::SSL::SSLError => e
      names = ssl.peer_cert&.extensions&.find { |extension| extension.oid == "subjectAltName" }&.value
      raise HandshakeError, "TLS: #{e.message}, which is for #{names || ssl.peer_cert&.subject || "nobody"}"
    end

    def reason(error, ssl)
      text = error.message[/ state=[^:]*: (.+)\z/m, 1] || error.message
      answered = ssl.nil? || ssl.peer_cert || text.match?(/\A(?:tls|ssl)|certificate/) # alerts begin with tls or ssl
      answered ? "TLS: #{text}" : "TLS: #{text}; does the server speak TLS?"
    end
  end
end
