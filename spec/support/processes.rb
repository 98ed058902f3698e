# frozen_string_literal: true

require "open3"

# Other processes for specs.
module Processes
  # Runs the block in a forked child and returns what it returned, through Marshal.
  def in_child
    reader, writer = IO.pipe(binmode: true)
    pid = fork do
      reader.close
      result = begin
        [:returned, yield]
      rescue Exception => e # rubocop:disable Lint/RescueException -- it is raised in the parent
        [:raised, "#{e.class}: #{e.message}\n#{e.backtrace.first(5).join("\n")}"]
      end
      writer.write(Marshal.dump(result))
      writer.close
      exit!(true)
    end
    writer.close
    what, value = Marshal.load(reader.read) # rubocop:disable Security/MarshalLoad -- our own child's
    raise "in the child: #{value}" if what == :raised

    value
  ensure
    reader&.close
    Process.wait(pid) if pid
  end

  # Runs a script in a Ruby of its own that has the library loaded, and no more. Returns its output; raises when it
  # fails.
  def run_ruby(script, *arguments, feature: "gearman", options: [])
    libraries = $LOAD_PATH.flat_map { |folder| ["-I", folder] }
    command = [{ "RUBYOPT" => nil }, RbConfig.ruby, "--disable-gems", *options, *libraries, "-r#{feature}", "-",
               *arguments]
    output, status = Open3.capture2e(*command, stdin_data: script)
    raise "the script ends with #{status}:\n#{output}" unless status.success?

    output
  end
end

RSpec.configure { |config| config.include Processes }
