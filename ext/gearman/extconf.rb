# frozen_string_literal: true

require "rbconfig"

unless RUBY_ENGINE == "ruby"
  abort "gearman-native is an extension for CRuby (MRI) and does not run on #{RUBY_ENGINE}."
end

if RbConfig::CONFIG["host_os"].match?(/mswin|mingw/)
  abort "gearman-native does not support Windows; it runs on Linux, macOS and the BSDs."
end

# mkmf takes the compiler from RbConfig alone: for its probes from one of these, for the Makefile from the other.
if (compiler = ENV["CC"])
  [RbConfig::CONFIG, RbConfig::MAKEFILE_CONFIG].each do |config|
    config["CC"] = compiler
    config["LDSHARED"] = config["LDSHARED"].sub(/\A\S+/, compiler)
  end
end

require "mkmf"

begin
  try_compile("int main(void) { return 0; }")
rescue RuntimeError, Errno::ENOENT
  abort <<~MESSAGE
    gearman-native needs a C compiler and found none (#{RbConfig::MAKEFILE_CONFIG["CC"]}).
    Debian and Ubuntu: apt-get install build-essential ruby-dev. macOS: xcode-select --install.
  MESSAGE
end

have_func("rb_io_descriptor", "ruby/io.h")   # 3.1
have_func("rb_io_closed_p", "ruby/io.h")     # 3.3
have_const("RUBY_TYPED_THREAD_SAFE_FREE", "ruby.h") # 4.1

# protocol/ keeps its folder: both sides have a packet.c.
FileUtils.mkdir_p("protocol")
$srcs = Dir.glob("{,protocol/}*.c", base: $srcdir).sort
$objs = $srcs.map { |path| path.sub(/c\z/, $OBJEXT) }
$INCFLAGS << " -I$(srcdir) -I$(srcdir)/protocol"
$CFLAGS << " -std=gnu11 -fvisibility=hidden"

# Behind the probes: with -Werror each of them would answer no.
if ENV["EXT_PEDANTIC"]
  pedantic = %w[-Wall -Wextra -Wno-unused-parameter -Wshadow -Werror]
  $warnflags = ""
  $CFLAGS << " -g " << pedantic.join(" ")
  # Comparing signed with unsigned is an error by -Wextra, and by nothing else of these.
  if try_compile("int f(int a, unsigned b); int f(int a, unsigned b) { return a < b; }")
    abort "EXT_PEDANTIC: -Wextra was lost on the way to the compiler."
  end
else
  $CFLAGS << " -DNDEBUG"
end

if (sanitizers = ENV["EXT_SANITIZE"])
  flags = " -fsanitize=#{sanitizers} -fno-omit-frame-pointer"
  $CFLAGS << flags << " -O1 -g"
  $LDFLAGS << flags
  # Ruby jumps out of our frames behind the sanitizer's back, which leaves the stack poisoned.
  clang = RbConfig::MAKEFILE_CONFIG["CC"].include?("clang")
  $CFLAGS << (clang ? " -mllvm -asan-stack=0" : " --param=asan-stack=0") if sanitizers.include?("address")
end

create_makefile("gearman/native")
