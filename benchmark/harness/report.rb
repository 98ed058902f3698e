# frozen_string_literal: true

require "etc"

module Bench
  # The readable form of the results.
  class Report
    REFERENCES = %w[libgearman sockets].freeze

    def self.median(values)
      sorted = values.sort
      (sorted[(sorted.size - 1) / 2] + sorted[sorted.size / 2]) / 2.0
    end

    def self.align(rows)
      widths = rows.transpose.map { |column| column.map(&:size).max }
      rows.map do |first, *others|
        cells = [first.ljust(widths[0]), *others.each_with_index.map { |cell, i| cell.rjust(widths[i + 1]) }]
        "  #{cells.join("  ")}\n"
      end.join
    end

    def initialize(options, cells, counts, header)
      @options = options
      @cells = cells
      @counts = counts
      @header = header
    end

    def to_s
      tables = @options[:cores].product(@options[:rows]).map { |cores, row| table(cores, row) }
      [heading, *tables, calls].compact.join("\n")
    end

    private

    def heading = "#{@header.map { |name, value| format("%-14s %s", name, value) }.join("\n")}\n"

    def table(cores, row)
      lines = measured(row).map { |contestant| line(cores, row.name, contestant.name) }
      ratios = REFERENCES.map { |name| "x #{name}" }
      titles = ["", "jobs/s", "lowest-highest", "CPU us", "calls", "objects", "+ task", *ratios]
      "#{cores} core#{"s" if cores > 1}: #{row.title}\n#{Report.align([titles, *lines])}#{beside(cores, row)}"
    end

    def measured(row) = @options[:contestants].select { |contestant| row.measures?(contestant) }

    def beside(cores, row)
      return unless @options[:rows].any? { |other| other.name == row.beside }

      lines = measured(row).map do |contestant|
        cells, others = [row.name, row.beside].map { |name| cells_of(cores, name, contestant.name) }
        "  #{contestant.name}: CPU time a job #{ratio(cells, others, :cpu)} of that in #{row.beside}\n"
      end
      lines.join
    end

    def line(cores, row, name)
      cells = cells_of(cores, row, name)
      rates = cells.map(&:rate)
      cpu = Report.median(cells.map(&:cpu))
      [name, number("%.0f", Report.median(rates)), format("%.0f-%.0f", *rates.minmax), number("%.1f", cpu),
       number("%.2f", @counts.dig(row, name, "total")), *objects(cells),
       *REFERENCES.map { |reference| ratio(cells, cells_of(cores, row, reference)) }]
    end

    def objects(cells)
      return ["-", "-"] unless cells.first.objects

      [number("%.1f", Report.median(cells.map(&:objects))), number("%.1f", cells.first.task_objects)]
    end

    # Each round is compared with itself, as the machine's speed changes from round to round.
    def ratio(cells, references, figure = :rate)
      return "-" if references.empty?

      ratios = cells.zip(references).map { |cell, reference| cell.public_send(figure) / reference.public_send(figure) }
      shape = ratios.max < 0.1 ? "%.4f (%.4f-%.4f)" : "%.2f (%.2f-%.2f)"
      format(shape, Report.median(ratios), *ratios.minmax)
    end

    def cells_of(cores, row, name)
      @cells.select { |cell| cell.cores == cores && cell.row == row && cell.contestant == name }
    end

    def calls
      return if @counts.empty?

      lines = @options[:rows].reject(&:only).flat_map do |row|
        ["#{row.name}\n", *measured(row).map do |contestant|
          format("  %-16s %s\n", contestant.name, calls_of(@counts[row.name][contestant.name]))
        end]
      end
      "System calls a job, by name (1 core)\n#{lines.join}"
    end

    # What is rarer than once in a hundred jobs is added up under "other".
    def calls_of(counts)
      names = counts.keys.reject { |name| name == "total" || name.end_with?(" empty") || counts[name] < 0.01 }
      parts = names.sort_by { |name| -counts[name] }.map do |name|
        empty = counts.fetch("#{name} empty", 0)
        format("%s %.2f", name, counts[name]) + (empty < 0.01 ? "" : format(" (%.2f of them empty)", empty))
      end
      other = counts["total"] - counts.values_at(*names).sum
      parts << format("other %.2f", other) if other >= 0.01
      parts.join(", ")
    end

    def number(shape, value) = value ? format(shape, value) : "-"
  end

  # What the figures depend on, by name.
  module Machine
    module_function

    def describe
      { "CPU" => "#{cpu}, #{Etc.nprocessors} cores",
        "kernel" => Etc.uname.values_at(:sysname, :release, :machine).join(" "),
        "load average" => File.read("/proc/loadavg").split.first(3).join(" "),
        "Ruby" => RUBY_DESCRIPTION }
    end

    def cpu = File.read("/proc/cpuinfo")[/^(?:model name|Model)\s*:\s*(.*)$/, 1] || Etc.uname[:machine]
  end
end
