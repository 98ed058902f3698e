# frozen_string_literal: true

module Bench
  module Jobs
    # The readable form of the results.
    class Report
      REFERENCES = ["sidekiq", "no transport"].freeze
      TITLES = ["", "jobs/s", "lowest-highest", "CPU us", "broker", "objects",
                *REFERENCES.map { |name| "x #{name}" }, "by CPU"].freeze

      def initialize(options, cells, header)
        @options = options
        @cells = cells
        @header = header
      end

      def to_s
        heading = @header.map { |name, value| format("%-14s %s\n", name, value) }.join
        [heading, *@options[:rows].map { |row| table(row) }].join("\n")
      end

      private

      def table(row)
        lines = row.contestants.map { |name| line(row, name) }
        "#{row.title}\n#{align([TITLES, *lines])}#{verdict(row)}"
      end

      def line(row, name)
        cells = cells_of(row, name)
        rates = cells.map(&:rate)
        [name, format("%.0f", median(rates)), format("%.0f-%.0f", *rates.minmax),
         *%i[cpu broker objects].map { |figure| format("%.1f", median(cells.map(&figure))) },
         *REFERENCES.map { |reference| reference == name ? "-" : ratio(cells, cells_of(row, reference)) },
         name == "sidekiq" ? "-" : by_cpu(cells, cells_of(row, "sidekiq"))]
      end

      # What the ratio would be if nothing else used the core.
      def by_cpu(cells, references)
        ratios = cells.zip(references).map { |cell, reference| reference.all_cpu / cell.all_cpu }
        format("%.2f (%.2f-%.2f)", median(ratios), *ratios.minmax)
      end

      # Each round is compared with itself, as the machine's speed changes from round to round.
      def ratio(cells, references)
        return "-" if references.empty?

        ratios = ratios(cells, references)
        format("%.2f (%.2f-%.2f)", median(ratios), *ratios.minmax)
      end

      def ratios(cells, references) = cells.zip(references).map { |cell, reference| cell.rate / reference.rate }

      def verdict(row)
        reached = median(ratios(cells_of(row, "gearman-native"), cells_of(row, "sidekiq")))
        outcome = reached >= row.goal ? "reached" : format("missed by %.0f %%", (1 - (reached / row.goal)) * 100)
        "  goal #{row.goal} x sidekiq: #{outcome}\n"
      end

      def median(values) = Bench::Report.median(values)

      def cells_of(row, name) = @cells.select { |cell| cell.row == row.name && cell.contestant == name }

      def align(rows) = Bench::Report.align(rows)
    end
  end
end
