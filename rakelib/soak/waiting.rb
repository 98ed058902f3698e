# frozen_string_literal: true

# Loaded by a gearman-worker that has nothing to do: writes down how much CPU time that costs.
Gearman.worker { ability("soak") { true } }

Thread.new do
  sleep 2
  before = Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID)
  sleep Integer(ENV.fetch("SECONDS"))
  cost = Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID) - before
  File.write("#{ENV.fetch("REPORT")}.part", cost)
  File.rename("#{ENV.fetch("REPORT")}.part", ENV.fetch("REPORT"))
end
