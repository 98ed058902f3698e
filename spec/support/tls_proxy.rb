# frozen_string_literal: true

require "openssl"
require "socket"
require "tmpdir"

# Speaks TLS in front of a job server that does not.
#
#   authority = certificate_authority
#   proxy = tls_proxy(job_server, authority.issue("localhost"))
#   client = Gearman::Client.new(proxy.address, tls: { ca_file: authority.file })
class TLSProxy
  # Certificates, made as they are needed and gone with the example.
  class Authority
    # A certificate and its key, and the files that they are in; `key_file` has the key alone.
    Issued = Struct.new(:certificate, :key, :file, :key_file)

    attr_reader :file, :certificate

    def initialize(folder, parent: nil)
      @folder = folder
      @key = new_key
      @certificate = sign(@key, "the authority #{object_id}", [%w[basicConstraints CA:TRUE critical]], parent)
      @file = write("authority-#{object_id}.pem", @certificate.to_pem)
    end

    # Another authority, for which this one vouches.
    def intermediate
      self.class.new(@folder, parent: self)
    end

    # Names are those of hosts, and IP addresses. The file has the certificates of `chain` in it, too.
    def issue(*names, chain: [])
      key = new_key
      kinds = names.map { |name| "#{name.match?(/\A[\h.:]*[.:][\h.:]*\z/) ? "IP" : "DNS"}:#{name}" }
      certificate = sign(key, names.first, [["subjectAltName", kinds.join(","), false]], self)
      pem = [certificate, *chain].map(&:to_pem).join
      Issued.new(certificate, key, write("#{names.first}-#{key.object_id}.pem", pem),
                 write("#{names.first}-#{key.object_id}.key", key.private_to_pem))
    end

    def write(name, text)
      File.join(@folder, name).tap { |path| File.write(path, text) }
    end

    def sign_for(certificate)
      certificate.sign(@key, "SHA256")
    end

    private

    def new_key
      OpenSSL::PKey::EC.generate("prime256v1")
    end

    def sign(key, name, extensions, issuer)
      certificate = OpenSSL::X509::Certificate.new
      certificate.version = 2
      certificate.serial = rand(1 << 64)
      certificate.subject = OpenSSL::X509::Name.new([["CN", name]])
      certificate.issuer = issuer ? issuer.certificate.subject : certificate.subject
      certificate.public_key = key
      certificate.not_before = Time.now - 3600
      certificate.not_after = Time.now + 3600
      factory = OpenSSL::X509::ExtensionFactory.new
      extensions.each { |oid, value, critical| certificate.add_extension(factory.create_ext(oid, value, critical)) }
      issuer ? issuer.sign_for(certificate) : certificate.sign(key, "SHA256")
    end
  end

  CHUNK = 1 << 16

  attr_reader :host, :port, :handshakes, :refusals, :names, :peers

  # The block may change the SSLContext.
  def initialize(server, issued, chain: [])
    @server = server
    @host = "127.0.0.1"
    @handshakes = 0 # of those that came to an end
    @refusals = []  # errors of the others
    @names = []     # that were asked for
    @peers = []     # the certificates that clients have shown
    @links = []
    @context = OpenSSL::SSL::SSLContext.new
    @context.add_certificate(issued.certificate, issued.key, chain)
    @context.servername_cb = lambda do |(_, name)|
      @names << name
      nil
    end
    yield @context if block_given?
    @listener = TCPServer.new(@host, 0)
    @port = @listener.local_address.ip_port
    @thread = Thread.new { loop { accept(@listener.accept) } }
  end

  def address(name = host)
    "#{name}:#{port}"
  end

  # How many connections the clients have ended.
  def closed
    @links.count { |ssl, _| ssl.io.closed? }
  end

  # Ends the connections that there are: with the goodbye of TLS and the TCP connection left open (:goodbye), or without
  # a goodbye (:cut).
  def finish(how)
    links = @links.dup
    @links.clear
    links.each do |ssl, server, threads|
      threads.each { |thread| thread.kill.join }
      how == :goodbye ? ssl.close : ssl.io.close # sync_close is off
      server.close
      @half_closed = ssl # which would be closed by the garbage collector
    end
  end

  def stop
    @thread.kill.join
    @listener.close
    finish(:cut)
  end

  private

  def accept(socket)
    Thread.new do
      Thread.current.report_on_exception = false
      carry(shake_hands(socket))
    end
  end

  def shake_hands(socket)
    socket.setsockopt(Socket::IPPROTO_TCP, Socket::TCP_NODELAY, 1)
    ssl = OpenSSL::SSL::SSLSocket.new(socket, @context)
    ssl.accept
    @handshakes += 1
    @peers << ssl.peer_cert
    ssl
  rescue OpenSSL::SSL::SSLError, SystemCallError => e
    @refusals << e
    bid_farewell(socket)
    raise
  end

  # Closing a socket with something unread in it would take away the alert that the client has to see.
  def bid_farewell(socket)
    socket.close_write
    socket.read
  rescue SystemCallError
    nil # the client was faster
  ensure
    socket.close
  end

  def carry(ssl)
    server = TCPSocket.new(@server.host, @server.port)
    server.setsockopt(Socket::IPPROTO_TCP, Socket::TCP_NODELAY, 1)
    threads = [[ssl, server], [server, ssl]].map { |from, to| Thread.new { copy(from, to) } }
    @links << [ssl, server, threads]
  end

  def copy(from, to)
    loop { to.write(from.readpartial(CHUNK)) }
  rescue IOError, SystemCallError, OpenSSL::SSL::SSLError
    [from, to].each { |socket| socket.to_io.close }
  end

  # What examples call.
  module Helpers
    def certificate_authority
      folder = Dir.mktmpdir
      remember(-> { FileUtils.remove_entry(folder) }, :call)
      Authority.new(folder)
    end

    def tls_proxy(server, issued, **options, &block)
      remember(TLSProxy.new(server, issued, **options, &block))
    end

    # Sets environment variables while the block runs; nil unsets one.
    def with_environment(variables)
      before = variables.to_h { |name, _| [name, ENV[name]] }
      ENV.update(variables)
      yield
    ensure
      ENV.update(before)
    end
  end
end

RSpec.configure { |config| config.include TLSProxy::Helpers }
