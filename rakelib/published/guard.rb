# frozen_string_literal: true

# Loaded ahead of a published suite or example. Ends the process unless all that is loaded as gearman comes from the
# folder that GUARDED_LIB names, and Gearman::Packet from the extension in there: gearman-ruby's own lib would pass its
# suite as well.
lib = File.expand_path(ENV.fetch("GUARDED_LIB"))
$LOAD_PATH.unshift(lib)
require "gearman"

guard = lambda do
  foreign = $LOADED_FEATURES.grep(%r{/lib/gearman(?:-\w+)?[./]}).reject { |path| path.start_with?("#{lib}/") }
  abort "guard: loaded from elsewhere: #{foreign.join(", ")}" unless foreign.empty?

  extension = File.join(lib, "gearman", "native.#{RbConfig::CONFIG["DLEXT"]}")
  abort "guard: #{extension} is not loaded" unless $LOADED_FEATURES.include?(extension)

  ruby = Gearman::Packet.singleton_methods(false).filter_map { |name| Gearman::Packet.method(name).source_location }
  abort "guard: Gearman::Packet is Ruby code: #{ruby.first.first}" unless ruby.empty?
end

guard.call
at_exit(&guard)
