# frozen_string_literal: true

RSpec.describe Gearman::Address do
  def parse(text)
    address = described_class.parse(text)
    [address.host, address.port]
  end

  describe ".parse" do
    {
      "localhost" => ["localhost", 4730],
      "localhost:4731" => ["localhost", 4731],
      "jobs.example.com:1" => ["jobs.example.com", 1],
      "192.0.2.1:65535" => ["192.0.2.1", 65_535],
      "[::1]" => ["::1", 4730],
      "[::1]:4731" => ["::1", 4731],
      "[2001:db8::7]:80" => ["2001:db8::7", 80],
      "[fe80::1%eth0]:4730" => ["fe80::1%eth0", 4730],
      " localhost:4731\n" => ["localhost", 4731],
      :localhost => ["localhost", 4730],
      :"localhost:7003" => ["localhost", 7003],
      "a-host_1:00080" => ["a-host_1", 80]
    }.each do |text, expected|
      it("reads #{text.inspect}") { expect(parse(text)).to eq(expected) }
    end

    it "reads a subclass of String" do
      expect(parse(Class.new(String).new("localhost:4731"))).to eq(["localhost", 4731])
    end

    port = "a port is a number from 1 to 65535"
    empty = "the host is empty"
    letters = "a host has no white space, commas, slashes or brackets"
    brackets = "an IPv6 address stands in brackets"
    {
      "" => empty, "  " => empty, ":4730" => empty, nil => empty,
      "h:" => port, "h:name" => port, "h:0" => port, "h:99999" => port, "h:65536" => port, "h:-1" => port,
      "h:1 2" => port, "h:0x10" => port, "h:4_730" => port, "[::1]:" => port, "[::1]:http" => port,
      "h:1000000" => port,
      "ho st" => letters, "a,b" => letters, "tcp/h" => letters, "h\0st" => letters, "h\n:1" => letters,
      "::1" => brackets, "2001:db8::7:4730" => brackets, "h:1:2" => brackets, "http://h:80" => brackets,
      "[::1" => brackets, "[::1]4730" => brackets, "[]:4730" => letters, "a[b:1" => letters, "[localhost:1" => letters
    }.each do |text, reason|
      it "refuses #{text.inspect}, with the value and the reason" do
        values = [text.to_s, text.to_s.strip].map { |value| Regexp.escape(value.inspect) }
        expect { parse(text) }.to raise_error(Gearman::InvalidArgsError,
                                              /\A(?:#{values.join("|")}) is no address of a job server: #{reason}/)
      end
    end
  end

  describe ".parse_list" do
    def list(*arguments)
      described_class.parse_list(*arguments).map(&:to_s)
    end

    it "reads one address, several in a String, an Array of them, and nothing" do
      expect(list("a")).to eq(["a:4730"])
      expect(list(:a)).to eq(["a:4730"])
      expect(list("a, b:1,[::1]:2")).to eq(["a:4730", "b:1", "[::1]:2"])
      expect(list(["a", :"b:1", "c,d:2"])).to eq(["a:4730", "b:1", "c:4730", "d:2"])
      expect(list(nil)).to eq([])
      expect(list([])).to eq([])
    end

    it "refuses empty places in a list" do
      ["", "a,,b", "a,", ",a", [""], ["a", ""]].each do |text|
        expect do
          list(text)
        end.to raise_error(Gearman::InvalidArgsError, "\"\" is no address of a job server: the host is empty")
      end
    end

    [4730, [4730], [nil], [["a"]], { "a" => 1 }, 1.5].each do |entry|
      it "refuses #{entry.inspect} and names it" do
        expect { list(entry) }.to raise_error(Gearman::InvalidArgsError, /\Aa job server is a String, not /)
      end
    end

    it "refuses a list with one wrong address and names that one" do
      expect { list(%w[a h:99999 b]) }.to raise_error(Gearman::InvalidArgsError, /"h:99999"/)
    end
  end

  describe ".new" do
    it "takes what an address can be" do
      expect(described_class.new("::1", "4731")).to have_attributes(host: "::1", port: 4731)
    end

    {
      ["", 4730] => /\A":4730" is .*: the host is empty/,
      [nil, 4730] => /the host is empty/,
      ["a b", 4730] => /"a b:4730" .* no white space/,
      ["h", 65_536] => /"h:65536" .* from 1 to 65535/,
      ["h", 0] => /"h:0"/,
      ["h", -1] => /"h:-1"/,
      %w[h http-alt] => /"h:http-alt"/,
      ["h", 47.5] => /"h:47.5"/,
      ["h", nil] => /"h:"/
    }.each do |arguments, message|
      it "refuses #{arguments.inspect}, as a connection does" do
        [described_class, Gearman::Connection].each do |known|
          expect { known.new(*arguments) }.to raise_error(Gearman::InvalidArgsError, message)
        end
      end
    end
  end

  describe "#to_s" do
    it "is what .parse reads" do
      ["localhost:4731", "[::1]:4730", "192.0.2.1:80"].each do |text|
        expect(described_class.parse(text).to_s).to eq(text)
      end
    end
  end
end
