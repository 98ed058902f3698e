# frozen_string_literal: true

RSpec.describe Gearman::Packet do
  magics = { request: "\0REQ", response: "\0RES" }

  def header(magic, number, length)
    [magic, number, length].pack("a4NN")
  end

  describe "the tables of packet types" do
    it "have each type once, by number and by name, and are frozen" do
      expect(described_class::COMMANDS.keys).to eq([*1..4, *6..42])
      expect(described_class::NUMS).to eq(described_class::COMMANDS.invert)
      expect(described_class::COMMANDS).to be_frozen.and(satisfy { |commands| Ractor.shareable?(commands) })
      expect(described_class::NUMS).to be_frozen
    end

    it "give them the numbers of the protocol" do
      expect(described_class::NUMS).to include(
        can_do: 1, pre_sleep: 4, noop: 6, submit_job: 7, job_created: 8, work_status: 12, work_complete: 13,
        work_fail: 14, echo_req: 16, submit_job_bg: 18, error: 19, submit_job_high: 21, work_exception: 25,
        option_req: 26, work_data: 28, work_warning: 29, submit_job_high_bg: 32, submit_job_low: 33,
        submit_job_low_bg: 34, submit_job_epoch: 36,
        status_res_unique: 42
      )
    end
  end

  describe ".pack_request" do
    it "puts a header before the body" do
      expect(described_class.pack_request(:submit_job, "f\0u\0data")).to eq("#{header("\0REQ", 7, 8)}f\0u\0data")
      expect(described_class.pack_request("grab_job")).to eq(header("\0REQ", 9, 0))
      expect(described_class.pack_request(:echo_req, nil)).to eq(header("\0REQ", 16, 0))
      expect(described_class.pack_request(:echo_req, false)).to eq(header("\0REQ", 16, 0))
    end

    it "counts bytes and changes none, whatever the encoding" do
      ["héé", "h\xE9".dup.force_encoding("ISO-8859-1"), "a\0\xFF".b, "é".encode("UTF-16LE"), "é" * 200].each do |body|
        expect(described_class.pack_request(:echo_req, body)).to eq(header("\0REQ", 16, body.bytesize) + body.b)
      end
    end

    it "is BINARY and not frozen" do
      packet = described_class.pack_request(:echo_req, "ascii")
      expect([packet.encoding, packet.frozen?]).to eq([Encoding::BINARY, false])
    end

    [:no_such, "no_such", ""].each do |type|
      it "refuses the type #{type.inspect} and names it" do
        expect do
          described_class.pack_request(type)
        end.to raise_error(Gearman::InvalidArgsError, "Invalid type name '#{type}'")
      end
    end

    it "refuses a type that is no name" do
      [nil, 7].each do |type|
        expect { described_class.pack_request(type) }.to raise_error(TypeError)
      end
    end

    it "refuses a body that is no String" do
      expect { described_class.pack_request(:echo_req, 1) }.to raise_error(TypeError)
      expect { described_class.pack_request(:echo_req, ["a"]) }.to raise_error(TypeError)
    end
  end

  describe ".encode" do
    it "puts NUL bytes between the parts" do
      expect(described_class.encode(:submit_job, "f", "u", "a\0b")).to eq("#{header("\0REQ", 7, 7)}f\0u\0a\0b")
      expect(described_class.encode("can_do", "f")).to eq("#{header("\0REQ", 1, 1)}f")
      expect(described_class.encode(:pre_sleep)).to eq(header("\0REQ", 4, 0))
    end

    it "keeps the NUL behind the handle when there is no data" do
      expect(described_class.encode(:work_complete, "H:1", "")).to eq("#{header("\0REQ", 13, 4)}H:1\0")
    end

    it "writes the magic of a server when asked for a response" do
      expect(described_class.encode_response(:job_created, "H:1")).to eq("#{header("\0RES", 8, 3)}H:1")
    end

    it "changes no byte of a payload, and none of its arguments" do
      data = Array.new(256, &:chr).join.b.freeze
      expect(described_class.encode(:submit_job, "é", "ü", data)).to eq(header("\0REQ", 7, 262) + "é\0ü\0".b + data)
    end

    it "takes names of 8 KiB less the header, and no more" do
      expect(described_class.encode(:can_do, "f" * 8179).bytesize).to eq(8191)
      expect { described_class.encode(:can_do, "f" * 8180) }
        .to raise_error(Gearman::InvalidArgsError,
                        /\Acan_do: arguments of \d+ bytes are longer than the server's limit of 8179 bytes/)
      expect(described_class.encode(:submit_job, "f" * 8178, "", "data" * 9000).bytesize).to be > 40_000
      expect { described_class.encode(:submit_job, "f" * 8178, "u", "") }
        .to raise_error(Gearman::InvalidArgsError, /\Asubmit_job: .*8179 bytes/)
      expect { described_class.encode(:submit_job, "f" * 5000, "u" * 5000, "") }
        .to raise_error(Gearman::InvalidArgsError, /8179 bytes/)
    end

    it "refuses a NUL byte in a name" do
      expect { described_class.encode(:submit_job, "a\0b", "u", "d") }
        .to raise_error(Gearman::InvalidArgsError, "submit_job: NUL byte in the argument \"a\\u0000b\"")
      expect do
        described_class.encode(:submit_job, "f", "\0", "d")
      end.to raise_error(Gearman::InvalidArgsError, /NUL byte/)
      expect do
        described_class.encode(:option_req, "exceptions\0")
      end.to raise_error(Gearman::InvalidArgsError, /NUL byte/)
    end

    it "refuses the wrong number of parts, and what is no String" do
      expect { described_class.encode(:submit_job, "f", "u") }
        .to raise_error(Gearman::InvalidArgsError, "submit_job takes 3 arguments, not 2")
      expect do
        described_class.encode(:pre_sleep,
                               "x")
      end.to raise_error(Gearman::InvalidArgsError, "pre_sleep takes 0 arguments, not 1")
      expect { described_class.encode(:can_do, nil) }.to raise_error(TypeError)
      expect { described_class.encode }.to raise_error(ArgumentError)
      expect do
        described_class.encode(:nothing)
      end.to raise_error(Gearman::InvalidArgsError, "Invalid type name 'nothing'")
    end
  end

  describe ".split" do
    it "cuts at the NUL bytes of the arguments, and none of the data's" do
      expect(described_class.split(:work_complete, "H:1\0a\0b\0")).to eq(["H:1", "a\0b\0"])
      expect(described_class.split(:work_status, %w[H:1 1 2].join("\0"))).to eq(%w[H:1 1 2])
      expect(described_class.split(:echo_res, "a\0b")).to eq(["a\0b"])
      expect(described_class.split(:job_assign_uniq, "H:1\0f\0u\0d")).to eq(%w[H:1 f u d])
      expect(described_class.split(:noop, "")).to eq([])
    end

    it "strips the NUL that ends a handle in WORK_FAIL" do
      expect(described_class.split(:work_fail, "H:1\0")).to eq(["H:1"])
      expect(described_class.split(:work_fail, "H:1")).to eq(["H:1"])
    end

    it "gives empty Strings for what is missing" do
      expect(described_class.split(:work_complete, "H:1")).to eq(["H:1", ""])
      expect(described_class.split(:work_status, "")).to eq(["", "", ""])
    end

    it "gives each part its own encoding: UTF-8 when it is ASCII, BINARY otherwise" do
      handle, data = described_class.split(:work_complete, "H:1\0h\xC3\xA9")
      expect([handle.encoding, data.encoding]).to eq([Encoding::UTF_8, Encoding::BINARY])
      expect(data).to eq("hé".b)
      expect(described_class.split(:work_complete, "H:1\0")[1].encoding).to eq(Encoding::UTF_8)
    end

    it "refuses a type that is none" do
      expect do
        described_class.split(:nothing, "")
      end.to raise_error(Gearman::InvalidArgsError, "Invalid type name 'nothing'")
      expect { described_class.split(:work_fail, nil) }.to raise_error(TypeError)
    end
  end

  described_class::COMMANDS.each do |number, type|
    it "reads #{type} as it writes it" do
      count = (0..8).find do |parts|
        described_class.encode(type, *Array.new(parts, "x"))
      rescue Gearman::InvalidArgsError
        nil
      end
      parts = Array.new(count) { |index| "part#{index}" }
      packets = { request: described_class.encode(type, *parts),
                  response: described_class.encode_response(type, *parts) }
      read = packets.count do |side, packet|
        expect(packet).to start_with(magics.fetch(side) + [number].pack("N"))
        found, body = described_class::Parser.new(side).feed(packet).next_packet
        expect([found, described_class.split(found, body)]).to eq([type, parts])
      rescue Gearman::ProtocolError => e
        expect(e.message).to include("not expected in this direction")
        false
      end
      expect(read).to be_between(1, 2)
    end
  end

  describe described_class::Parser do
    def packets(parser)
      Array.new(5) { parser.next_packet }.compact
    end

    stream = Gearman::Packet.encode_response(:job_created, "H:1") +
             Gearman::Packet.encode_response(:work_data, "H:1", "\xFF\0".b) +
             Gearman::Packet.encode_response(:noop) +
             Gearman::Packet.encode_response(:work_fail, "H:1")
    expected = [[:job_created, "H:1"], [:work_data, "H:1\0\xFF\0".b], [:noop, ""], [:work_fail, "H:1"]]

    it "finds the packets of a stream that is cut anywhere" do
      (0..stream.bytesize).each do |cut|
        parser = described_class.new
        found = packets(parser.feed(stream.byteslice(0, cut)))
        expect(found + packets(parser.feed(stream.byteslice(cut..)))).to eq(expected)
      end
    end

    it "finds them in single bytes" do
      parser = described_class.new(:response)
      expect(stream.each_byte.flat_map { |byte| packets(parser.feed(byte.chr)) }).to eq(expected)
    end

    it "gives a body that is ASCII as UTF-8, any other as BINARY" do
      bodies = packets(described_class.new.feed(stream)).map(&:last)
      expect(bodies.map(&:encoding)).to eq([Encoding::UTF_8, Encoding::BINARY, Encoding::UTF_8, Encoding::UTF_8])
    end

    it "returns itself from feed and nil while a packet is not whole" do
      parser = described_class.new
      expect(parser.feed("")).to equal(parser)
      expect(parser.feed(stream.byteslice(0, 14)).next_packet).to be_nil
    end

    {
      "a wrong magic" => ["\0BAD\0\0\0\x08\0\0\0\0", "packet: invalid magic"],
      "the magic of the other side" => ["\0REQ\0\0\0\x08\0\0\0\0", "packet: invalid magic"],
      "text" => ["OK 1.1.20\n\n\n\n", "packet: invalid magic"],
      "an unknown type" => ["\0RES\0\0\0\x2B\0\0\0\0", "packet: invalid packet type"],
      "type 5" => ["\0RES\0\0\0\x05\0\0\0\0", "packet: invalid packet type"],
      "type 0x80000000" => ["\0RES\x80\0\0\0\0\0\0\0", "packet: invalid packet type"],
      "a request" => ["\0RES\0\0\0\x07\0\0\0\0", "packet: packet type not expected in this direction"],
      "a length over 1 GiB" => [
        "\0RES\0\0\0\x08\x40\0\0\x01",
        "packet: packet of 1073741825 bytes is larger than the limit of 1073741824 bytes"
      ]
    }.each do |what, (bytes, message)|
      it "ends at #{what}, each time it is asked" do
        parser = described_class.new.feed(bytes.b)
        2.times { expect { parser.next_packet }.to raise_error(Gearman::ProtocolError, message) }
      end
    end

    it "takes packets up to the limit it is given" do
      parser = described_class.new(:request, 4)
      expect(parser.feed(Gearman::Packet.encode(:echo_req, "1234")).next_packet).to eq([:echo_req, "1234"])
      expect { parser.feed(Gearman::Packet.encode(:echo_req, "12345")).next_packet }
        .to raise_error(Gearman::ProtocolError, "packet: packet of 5 bytes is larger than the limit of 4 bytes")
    end

    it "names the limit of a line" do
      expect { described_class.new(:request).feed("x" * 8193).next_line }
        .to raise_error(Gearman::ProtocolError, /\Aline is longer than the limit of \d+ bytes\z/)
    end

    it "takes a limit from 0 to 4 GiB, and refuses any other" do
      expect(described_class.new(:request, 0).feed(Gearman::Packet.encode(:pre_sleep)).next_packet)
        .to eq([:pre_sleep, ""])
      expect { described_class.new(:request, (1 << 32) - 1) }.not_to raise_error
      [-1, 1 << 32, 1 << 70, 1.5, "4", false].each do |limit|
        expect { described_class.new(:request, limit) }.to raise_error(
          Gearman::InvalidArgsError, "max_packet is a number of bytes from 0 to 4294967295, not #{limit.inspect}"
        )
      end
    end

    it "refuses a side that is none" do
      expect { described_class.new(:both) }
        .to raise_error(Gearman::InvalidArgsError, "side must be :request or :response, not :both")
    end

    it "reads lines between packets" do
      parser = described_class.new(:request)
      parser.feed("status\r\nversion\n").feed(Gearman::Packet.encode(:echo_req, "x"))
      expect([parser.next_line, parser.next_line]).to match([/\Astatus/, /\Aversion/])
      expect(parser.next_packet).to eq([:echo_req, "x"])
      expect(parser.feed("work").next_line).to be_nil
    end

    it "cannot be copied" do
      expect { described_class.new.dup }.to raise_error(NoMethodError)
    end
  end
end
