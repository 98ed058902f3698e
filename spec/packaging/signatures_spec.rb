# frozen_string_literal: true

require "open3"
require "set" # yard 0.9.45 uses it without

# sig/ against the documentation, which says what is public, and against the methods themselves.
RSpec.describe "the signatures", :packaging do
  before(:context) do
    require "rbs"
    require "yard"
    require "gearman/active_job/dead_letters"
  end

  project = File.expand_path("../..", __dir__)
  options = ["-I", File.join(project, "sig"), "-r", "logger", "-r", "socket"]

  # Written in C and used by the library itself alone.
  internal = %w[
    Gearman::Channel Gearman::TaskLoop Gearman::WorkerLoop
    Gearman::Client#submit_background Gearman::TaskSet#last_result
    Gearman::Connection#exchange Gearman::Connection#idle? Gearman::Connection#lease
    Gearman::Connection#lease_fresh Gearman::Connection#release Gearman::Connection#with_lease
    Gearman::Task#initialize_copy Gearman::Task#unique_or
  ]

  let(:documented) do
    YARD::Logger.instance.level = YARD::Logger::ERROR
    YARD::Registry.clear
    YARD.parse(%w[lib/**/*.rb ext/gearman/*.c].map { |pattern| File.join(project, pattern) })
    YARD::Registry.all.select { |object| object.path.start_with?("Gearman") && public?(object) }
                  .reject { |object| internal.include?(object.path) || internal.include?(object.namespace.path) }
  end

  let(:environment) do
    loader = RBS::EnvironmentLoader.new
    loader.add(path: Pathname(project) / "sig")
    %w[logger socket].each { |library| loader.add(library: library, version: nil) }
    RBS::Environment.from_loader(loader).resolve_type_names
  end

  let(:signed_modules) { environment.class_decls.keys.select { |name| name.to_s.start_with?("::Gearman") } }

  # {"Gearman::Task#func" => RBS::Definition::Method}
  let(:signed_methods) do
    builder = RBS::DefinitionBuilder.new(env: environment)
    signed_modules.each_with_object({}) do |name, methods|
      { "#" => builder.build_instance(name), "." => builder.build_singleton(name) }.each do |separator, definition|
        definition.methods.each do |method, signature|
          next if signature.defined_in != name || (separator == "." && method == :new)

          methods["#{name.relative!}#{separator}#{method}"] = signature
        end
      end
    end
  end

  def public?(object)
    return true if object.root?

    hidden = object.has_tag?(:private) || object.tag(:api)&.text == "private" || object.visibility == :private
    !hidden && public?(object.namespace)
  end

  def paths(*types)
    documented.select { |object| types.include?(object.type) }.map(&:path)
  end

  def method_object(path)
    owner, separator, name = path.match(/\A([\w:]+)([#.])(.+)\z/).captures
    owner = Object.const_get(owner)
    separator == "#" ? owner.instance_method(name) : owner.method(name)
  end

  # What a method takes: [[required, optional], keywords]; nil where it leaves that to its own code.
  def taken(method)
    kinds = method.parameters.group_by(&:first).transform_values { |list| list.map(&:last) }
    in_c = method.source_location.nil?
    positional = %i[req opt].map { |kind| kinds.fetch(kind, []).size } unless kinds[:rest]
    keywords = [*kinds[:key], *kinds[:keyreq]].sort unless kinds[:keyrest] || (in_c && kinds[:rest])
    [positional, keywords]
  end

  def signed(method_type)
    function = method_type.type
    positional = [function.required_positionals, function.optional_positionals].map(&:size)
    keywords = function.required_keywords.keys + function.optional_keywords.keys
    [function.rest_positionals ? nil : positional, keywords.sort]
  end

  it "are there for each public class and module" do
    expect(signed_modules.map { |name| name.relative!.to_s }).to match_array(paths(:class, :module))
  end

  it "are there for each public method" do
    expect(signed_methods.keys).to match_array(paths(:method))
  end

  it "are there for each public constant" do
    constants = environment.constant_decls.keys.map { |name| name.relative!.to_s }.grep(/\AGearman::/)

    expect(constants).to match_array(paths(:constant))
  end

  it "take the arguments that the methods take" do
    wrong = signed_methods.flat_map do |path, signature|
      positional, keywords = taken(method_object(path))
      signature.method_types.filter_map do |type|
        signed_positional, signed_keywords = signed(type)
        same = (positional.nil? || positional == signed_positional) && (keywords.nil? || keywords == signed_keywords)
        "#{path}: #{type}" unless same
      end
    end

    expect(wrong).to eq([])
  end

  it "hold for all that the demonstration passes and gets" do
    environment = { "RBS_TEST_TARGET" => "Gearman::*", "RBS_TEST_OPT" => options.join(" "), "RBS_TEST_RAISE" => "true",
                    "RBS_TEST_LOGLEVEL" => "error" }
    command = ["-r", "bundler/setup", "-r", "rbs/test/setup", "-I", File.join(project, "lib"),
               File.join(project, "examples/demo.rb")]
    output, status = Open3.capture2e(environment, RbConfig.ruby, *command)

    expect(status).to be_success, output
    expect(output).to include("Everything went as expected")
  end
end
