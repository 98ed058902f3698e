# frozen_string_literal: true

RSpec.describe Gearman::TLS do
  let(:authority) { certificate_authority }
  let(:issued) { authority.issue("client.test") }

  # Whoever takes tls: refuses a bad one when it is made.
  makers = {
    "a client" => ->(tls) { Gearman::Client.new("127.0.0.1:1", tls: tls) },
    "a worker" => ->(tls) { Gearman::Worker.new("127.0.0.1:1", tls: tls) },
    "a server" => ->(tls) { Gearman::Server.new("127.0.0.1:1", tls: tls) },
    "a pool" => ->(tls) { Gearman::ConnectionPool.new("127.0.0.1:1", tls: tls) }
  }

  def refuse(message)
    raise_error(Gearman::InvalidArgsError, message)
  end

  makers.each do |name, maker|
    it "is taken by #{name}, in all its forms" do
      [nil, false, true, {}, { ca_file: authority.file }, described_class.new].each do |tls|
        expect { maker.call(tls) }.not_to raise_error
      end
      expect { maker.call("yes") }.to refuse('tls: is true, false, a Hash or a Gearman::TLS, not "yes"')
      expect { maker.call({ ca: "x", "cert" => "y" }) }
        .to refuse('tls: has no :ca, "cert"; it has ca_file, cert, key, verify, hostname')
      expect { maker.call({ ca_file: "/no/such/file" }) }
        .to refuse(%r{\Atls: ca_file /no/such/file cannot be used: No such file or directory})
    end
  end

  it "is one for many" do
    tls = described_class.new(ca_file: authority.file)
    pool = Gearman::ConnectionPool.new("127.0.0.1:1,127.0.0.1:2", tls: tls)
    expect(pool.connections.map(&:tls)).to all(equal(tls))
    expect(tls).to be_frozen
  end

  it "does not change the connections of those who do not ask for it" do
    with_environment("GEARMAND_CA_CERTIFICATE" => authority.file, "GEARMAN_CLIENT_PEM" => issued.file,
                     "GEARMAN_CLIENT_KEY" => issued.key_file) do
      [nil, false].each { |tls| expect(described_class.for(tls)).to be_nil }
      expect(Gearman::ConnectionPool.new("127.0.0.1:1").connections.first.tls).to be_nil
    end
  end

  describe "files" do
    let(:garbage) { authority.write("garbage", "no certificate") }
    let(:key) { OpenSSL::PKey::EC.generate("prime256v1") }

    it "are taken as paths of any kind" do
      expect { described_class.new(cert: Pathname(issued.file), key: Pathname(issued.key_file)) }.not_to raise_error
      both = authority.write("both.pem", File.read(issued.file) + File.read(issued.key_file))
      expect { described_class.new(cert: both, key: both) }.not_to raise_error
    end

    it "have to be there" do
      %i[cert key].each do |option|
        files = { cert: issued.file, key: issued.key_file, option => "/no/such/file" }
        expect do
          described_class.new(**files)
        end.to refuse(%r{\Atls: #{option} /no/such/file cannot be used: No such file})
      end
      expect { described_class.new(ca_file: File.dirname(authority.file)) }
        .to refuse(/\Atls: ca_file .* cannot be used: Is a directory/)
    end

    it "have to hold what they are for" do
      expect { described_class.new(ca_file: garbage) }.to refuse(/\Atls: ca_file #{garbage} cannot be used: /)
      expect { described_class.new(cert: garbage, key: issued.key_file) }
        .to refuse(/\Atls: cert #{garbage} cannot be used: /)
      expect do
        described_class.new(cert: issued.file, key: garbage)
      end.to refuse(/\Atls: key #{garbage} cannot be used: /)
    end

    it "have to belong together" do
      other = authority.issue("other.test").key_file
      expect { described_class.new(cert: issued.file, key: other) }
        .to refuse("tls: key #{other} is not the private key of cert #{issued.file}")
      expect { described_class.new(cert: issued.file) }.to refuse("tls: cert is given without key")
      expect { described_class.new(key: issued.key_file) }.to refuse("tls: key is given without cert")
      public_key = authority.write("public.key", issued.key.public_to_pem)
      expect { described_class.new(cert: issued.file, key: public_key) }.to refuse(/is not the private key/)
    end

    it "have no passphrase, which nobody is asked for" do
      locked = authority.write("locked.key", issued.key.private_to_pem(OpenSSL::Cipher.new("aes-128-cbc"), "secret"))
      expect { described_class.new(cert: issued.file, key: locked) }.to refuse(/\Atls: key #{locked} cannot be used: /)
    end
  end

  it "refuses what its options cannot be" do
    expect { described_class.new(verify: nil) }.to refuse("tls: verify is true or false, not nil")
    expect { described_class.new(verify: 0) }.to refuse("tls: verify is true or false, not 0")
    expect { described_class.new(hostname: "") }.to refuse('tls: hostname is a String, not ""')
    expect { described_class.new(hostname: "a\0b") }.to refuse('tls: hostname is a String, not "a\u0000b"')
    expect { described_class.new(ca_file: 1) }.to refuse("tls: ca_file is a String, not 1")
  end

  describe "the environment" do
    it "names the files where nothing else does" do
      with_environment("GEARMAND_CA_CERTIFICATE" => "/no/ca") do
        expect { described_class.new }.to refuse(%r{\Atls: GEARMAND_CA_CERTIFICATE /no/ca cannot be used})
        expect { described_class.new(ca_file: authority.file) }.not_to raise_error
        expect { described_class.new(ca_file: nil) }.not_to raise_error
        expect { described_class.for(true) }.to refuse(/GEARMAND_CA_CERTIFICATE/)
      end
      with_environment("GEARMAND_CA_CERTIFICATE" => "") { expect { described_class.new }.not_to raise_error }
    end

    it "names a certificate and a key that go together" do
      with_environment("GEARMAN_CLIENT_PEM" => issued.file, "GEARMAN_CLIENT_KEY" => nil) do
        expect { described_class.new }.to refuse("tls: GEARMAN_CLIENT_PEM is given without key")
        expect { described_class.new(cert: nil) }.not_to raise_error
        expect { described_class.new(key: issued.key_file) }.to refuse("tls: key is given without cert")
      end
      with_environment("GEARMAN_CLIENT_PEM" => issued.file, "GEARMAN_CLIENT_KEY" => authority.issue("x").key_file) do
        expect { described_class.new }.to refuse(/GEARMAN_CLIENT_KEY .* is not the private key of GEARMAN_CLIENT_PEM/)
      end
    end

    it "names the servers where none are given" do
      servers = ->(object) { object.instance_variable_get(:@connection_pool).connections.map(&:to_host_port) }
      [Gearman::Client, Gearman::Worker].each do |target|
        with_environment("GEARMAN_SERVERS" => "a.test,b.test:4731") do
          expect(servers.call(target.new)).to eq(%w[a.test:4730 b.test:4731])
          expect(servers.call(target.new(nil))).to eq(%w[a.test:4730 b.test:4731])
          expect(servers.call(target.new("c.test"))).to eq(%w[c.test:4730])
          expect(servers.call(target.new([]))).to eq([])
        end
        ["", nil].each do |none|
          with_environment("GEARMAN_SERVERS" => none) { expect(servers.call(target.new)).to eq([]) }
        end
      end
      with_environment("GEARMAN_SERVERS" => "a:b") { expect { Gearman::Client.new }.to refuse(/"a:b" is no address/) }
    end
  end

  describe "the openssl library" do
    it "is loaded when it is needed, and not before" do
      expect(run_ruby(<<~RUBY)).to eq("[nil, \"constant\"]\n")
        before = defined?(OpenSSL)
        Gearman::Client.new("localhost")
        Gearman::Server.new("localhost")
        before ||= defined?(OpenSSL)
        Gearman::TLS.new
        p [before, defined?(OpenSSL)]
      RUBY
    end

    it "is missed with an error that says so" do
      expect(run_ruby(<<~RUBY)).to match(/\AGearman::Error: TLS needs the openssl library: cannot load .*openssl/)
        def require(name) = name == "openssl" ? raise(LoadError, "cannot load such file -- openssl") : super
        begin
          Gearman::Client.new("localhost", tls: true)
        rescue Gearman::Error => e
          puts e.class.name + ": " + e.message
        end
      RUBY
    end
  end
end
