# frozen_string_literal: true

require "tmpdir"

module Bench
  # Counts the system calls of a process, by name. perf counts inside the kernel and hardly slows the process;
  # strace stops it at each call, so that answers have often come by then and waits are missing from its counts.
  module Counter
    # @return [Module, nil] the best one that works here
    def self.available = [Perf, Strace].find(&:works?)

    # Lines of counts become a hash with 0 for what is not in it.
    def self.hash(pairs) = Hash.new(0).merge(pairs.to_h)

    module Perf
      NAME = "perf stat"
      TRACING = "/sys/kernel/tracing/events/syscalls"
      CALLS = %w[sendto sendmsg write writev recvfrom recvmsg read readv poll ppoll select pselect6
                 epoll_wait epoll_pwait futex clock_gettime mmap munmap madvise getpid getsockname fcntl ioctl].freeze
      RECEIVES = %w[recvfrom recvmsg read].freeze

      module_function

      def works?
        system("perf", "stat", "-e", "raw_syscalls:sys_enter", "-e", "syscalls:sys_exit_read", "--filter", "ret < 0",
               "true", %i[out err] => File::NULL)
      end

      def command(file)
        known = CALLS.select { |call| Dir.exist?(File.join(TRACING, "sys_enter_#{call}")) }
        events = ["raw_syscalls:sys_enter", *known.map { |call| "syscalls:sys_enter_#{call}" }]
        empty = RECEIVES.flat_map { |call| ["-e", "syscalls:sys_exit_#{call}", "--filter", "ret < 0"] }
        ["perf", "stat", "-x,", "-o", file, "-e", events.join(","), *empty]
      end

      # @return [Hash{String => Integer}] calls by name, all of them as "total",
      #   of the receives also those that had nothing to give, as "recvfrom empty"
      def read(text)
        counts = text.scan(/^(\d+),[^,]*,(?:raw_)?syscalls:sys_(enter|exit)_?(\w*),/).to_h do |count, side, call|
          [side == "exit" ? "#{call} empty" : call, count.to_i]
        end
        counts["total"] = counts.delete("")
        Counter.hash(counts)
      end
    end

    module Strace
      NAME = "strace"

      module_function

      def works? = system("strace", "-f", "-c", "-o", File::NULL, "true", %i[out err] => File::NULL)

      def command(file) = ["strace", "-f", "-c", "-o", file]

      def read(text)
        counts = text.scan(/^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:(\d+) +)?(\w+)$/).flat_map do |count, errors, call|
          [[call, count.to_i], ["#{call} empty", errors.to_i]]
        end
        counts = counts.select { |call, _| !call.end_with?(" empty") || call.start_with?("recv", "read ") }.to_h
        counts["total"] ||= counts.sum { |call, count| call.end_with?(" empty") ? 0 : count }
        Counter.hash(counts)
      end
    end
  end
end
