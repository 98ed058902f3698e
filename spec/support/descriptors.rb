# frozen_string_literal: true

# What this process has open.
module Descriptors
  LIMIT = 4096

  # How many descriptors are open, without those that nothing refers to any more.
  def self.count
    GC.start
    (0...[Process.getrlimit(:NOFILE).first, LIMIT].min).count { |number| open?(number) }
  end

  def self.open?(number)
    IO.for_fd(number, autoclose: false)
    true
  rescue Errno::EBADF
    false
  rescue ArgumentError, Errno::EINVAL
    true # Ruby's own, or not for reading
  end
end
