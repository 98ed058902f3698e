# frozen_string_literal: true

# The protocol as gearmand 1.1 speaks it, packet for packet, asked of gearmand and of the embedded server.
RSpec.describe "the job server on the wire" do
  each_job_server do
    let(:client) { wire }
    let(:worker) { wire }
    let(:admin) { wire }

    # The handle of a new job.
    def submit(type = :submit_job, function = "f", unique = "", data = "data", on: client)
      reply = on.ask(type, function, unique, data)
      expect(reply).to match([:job_created, /\AH:.+:\d+\z/])
      reply.last
    end

    def grab(type = :grab_job, on: worker)
      on.ask(type)
    end

    def able_to(*functions, on: worker)
      functions.each { |function| on.request(:can_do, function) }
      on.settle
    end

    # Closes a connection, and returns once the server knows.
    def hang_up(connection)
      count = admin.admin("workers").lines.size
      connection.close
      eventually("one connection less") { admin.admin("workers").lines.size < count }
    end

    describe "ECHO_REQ" do
      it "is answered with the same data, in order" do
        client.request(:echo_req, "a").request(:echo_req, "").request(:echo_req, "b\0\xff\n".b)
        expect(Array.new(3) { client.response }).to eq([[:echo_res, "a"], [:echo_res, ""], [:echo_res, "b\0\xff\n".b]])
      end

      it "is answered in any split of its bytes" do
        JobServers::Wire.packet(:echo_req, "split").each_char do |byte|
          client.write(byte)
          sleep 0.002
        end
        expect(client.response).to eq([:echo_res, "split"])
      end
    end

    describe "packets that a server does not take" do
      it "answers INVALID_COMMAND and keeps the connection" do
        refusal = [:error, "INVALID_COMMAND", "Command not expected"]
        expect(client.ask(:all_yours)).to eq(refusal)
        expect(client.ask(:submit_job_sched, "f", "u", "1", "1", "1", "1", "1", "data")).to eq(refusal)
        client.settle
      end

      {
        "an unknown type" => [43, 1000].map { |type| JobServers::Wire.packet(type, "x") },
        "type 0" => [JobServers::Wire.packet(0)],
        "a wrong magic" => ["\0BAD\0\0\0\x10\0\0\0\0"],
        "names that do not fit 8 KiB" => [JobServers::Wire.packet(:submit_job, "f" * 9000, "u", "data")]
      }.each do |what, packets|
        it "closes the connection on #{what}, and no other" do
          packets.each do |packet|
            bad = wire.settle
            bad.write(packet)
            expect(bad).to be_closed_by_server
          end
          client.settle
        end
      end
    end

    describe "options" do
      it "takes exceptions and nothing else" do
        expect(client.ask(:option_req, "exceptions")).to eq([:option_res, "exceptions"])
        expect(client.ask(:option_req, "Exceptions")).to eq([:option_res, "Exceptions"])
        expect(client.ask(:option_req, "colours"))
          .to eq([:error, "UNKNOWN_OPTION", "Server does not recognize given option"])
      end
    end

    describe "submitting" do
      it "answers in the order of the requests, errors in their place" do
        client.write(
          JobServers::Wire.packet(:submit_job, "f", "", "1"),
          JobServers::Wire.packet(:submit_job, "f", "u" * 65, "2"),
          JobServers::Wire.packet(:submit_job_bg, "f", "", "3")
        )
        expect(Array.new(3) { client.response }).to match(
          [[:job_created, String], [:error, "ARGUMENT_TOO_LARGE", "Unique value too large"], [:job_created, String]]
        )
      end

      it "gives every job a handle of its own" do
        expect(Array.new(3) { submit }.uniq.size).to eq(3)
      end

      %i[submit_job submit_job_high submit_job_low submit_job_bg submit_job_high_bg submit_job_low_bg].each do |type|
        it "hands the bytes of #{type} to the worker" do
          handle = submit(type, "f", "unique", "\0da\0ta\xff".b)
          able_to("f")
          expect(grab).to eq([:job_assign, handle, "f", "\0da\0ta\xff".b])
        end
      end

      it "takes an empty function, unique and data" do
        handle = submit(:submit_job_bg, "", "", "")
        able_to("")
        expect(grab(:grab_job_uniq)).to eq([:job_assign_uniq, handle, "", "", ""])
      end

      it "carries a job of some megabytes and its result" do
        data = Random.new(1).bytes(5_000_000)
        handle = submit(:submit_job, "f", "", data)
        able_to("f")
        expect(grab).to eq([:job_assign, handle, "f", data])
        worker.request(:work_complete, handle, data)
        expect(client.response).to eq([:work_complete, handle, data])
      end
    end

    describe "grabbing" do
      before { able_to("f") }

      it "answers NO_JOB when there is none, and for functions that the worker cannot do" do
        submit(:submit_job_bg, "g")
        expect(grab).to eq([:no_job])
        expect(grab(:grab_job_uniq)).to eq([:no_job])
        expect(grab(:grab_job_all)).to eq([:no_job])
      end

      it "answers GRAB_JOB_UNIQ, and GRAB_JOB_ALL where there is no reducer, with the unique" do
        handles = %w[u1 u2].map { |unique| submit(:submit_job, "f", unique, "data") }
        expect(grab(:grab_job_uniq)).to eq([:job_assign_uniq, handles[0], "f", "u1", "data"])
        expect(grab(:grab_job_all)).to eq([:job_assign_uniq, handles[1], "f", "u2", "data"])
      end

      it "answers pipelined grabs in turn, and takes the results in any order" do
        handles = Array.new(2) { |i| submit(:submit_job, "f", "", i.to_s) }
        3.times { worker.request(:grab_job) }
        expect(Array.new(3) { worker.response })
          .to eq([[:job_assign, handles[0], "f", "0"], [:job_assign, handles[1], "f", "1"], [:no_job]])
        handles.reverse_each { |handle| worker.request(:work_complete, handle, "r") }
        expect(Array.new(2) { client.response }).to eq(handles.reverse.map { |handle| [:work_complete, handle, "r"] })
      end

      it "hands out high before normal before low, each in the order of submission" do
        order = %i[submit_job_low_bg submit_job submit_job_high_bg submit_job_low submit_job_bg submit_job_high]
        order.each { |type| submit(type, "f", "", type.to_s) }
        expect(Array.new(6) { grab.last.to_sym }).to eq(
          %i[submit_job_high_bg submit_job_high submit_job submit_job_bg submit_job_low_bg submit_job_low]
        )
      end

      it "drains the function registered last first, whatever the priorities" do
        able_to("g")
        submit(:submit_job_high_bg, "f")
        submit(:submit_job_low_bg, "g")
        submit(:submit_job_low_bg, "f")
        submit(:submit_job_bg, "g")
        expect(Array.new(4) { grab[2] }).to eq(%w[g g f f])
      end

      it "puts a function registered again in front" do
        able_to("g", "f")
        submit(:submit_job_bg, "g")
        submit(:submit_job_bg, "f")
        expect(Array.new(2) { grab[2] }).to eq(%w[f g])
      end
    end

    describe "reducers" do
      it "go to GRAB_JOB_ALL only" do
        able_to("f")
        3.times do |i|
          type = i.zero? ? :submit_reduce_job : :submit_reduce_job_background
          expect(client.ask(type, "f", "u#{i}", "reducer", "unused", "da\0ta")).to match([:job_created, String])
        end
        expect(grab(:grab_job_all)).to match([:job_assign_all, String, "f", "u0", "reducer", "da\0ta"])
        expect(grab(:grab_job_uniq)).to match([:job_assign_uniq, String, "f", "u1", "da\0ta"])
        expect(grab(:grab_job)).to match([:job_assign, String, "f", "da\0ta"])
      end
    end

    describe "reports of a worker" do
      let!(:handle) { submit(:submit_job, "f", "unique", "data") }

      before do
        able_to("f")
        grab
      end

      it "go to the client as they are, until the job is complete" do
        worker.request(:work_data, handle, "some\0data")
              .request(:work_warning, handle, "careful")
              .request(:work_status, handle, "0.5", "99999999999")
              .request(:work_data, handle, "")
              .request(:work_complete, handle, "result\0")
        expect(Array.new(5) { client.response }).to eq(
          [
            [:work_data, handle, "some\0data"], [:work_warning, handle, "careful"],
            [:work_status, handle, "0.5", "99999999999"], [:work_data, handle, ""], [:work_complete, handle, "result\0"]
          ]
        )
        expect(worker.ask(:work_complete, handle, "again").first(2)).to eq([:error, "JOB_NOT_FOUND"])
        client.settle
      end

      it "end the job with WORK_FAIL" do
        worker.request(:work_fail, handle)
        expect(client.response).to eq([:work_fail, handle])
        expect(worker.ask(:work_fail, handle).first(2)).to eq([:error, "JOB_NOT_FOUND"])
      end

      it "take a handle that ends with NUL in WORK_FAIL, and hand it on" do
        worker.request(:work_fail, handle, "")
        expect(client.response).to eq([:work_fail, handle, ""])
      end

      it "end the job with WORK_EXCEPTION, which the client gets who asked for exceptions" do
        client.ask(:option_req, "exceptions")
        worker.request(:work_exception, handle, "boom\0")
        expect(client.response).to eq([:work_exception, handle, "boom\0"])
        client.settle
        expect(worker.ask(:work_fail, handle).first(2)).to eq([:error, "JOB_NOT_FOUND"])
      end

      it "end with WORK_FAIL, its handle followed by NUL, for a client who did not" do
        worker.request(:work_exception, handle, "boom")
        expect(client.response).to eq([:work_fail, handle, ""])
        client.settle
      end

      it "are taken from the connection that has the job only" do
        expect(admin.ask(:work_complete, handle, "mine")).to eq(
          [:error, "JOB_NOT_FOUND", "Job given in work result not found"]
        )
        client.settle
      end

      it "lose the job when its data has no NUL in front" do
        worker.request(:work_complete, handle).request(:echo_req, "swallowed")
        expect(worker).to be_closed_by_server
        other = wire
        able_to("f", on: other)
        eventually("the job waits again") { client.ask(:get_status, handle)[3] == "0" }
        expect(grab(on: other)).to eq([:job_assign, handle, "f", "data"])
      end
    end

    it "names the error of a report about no job" do
      {
        work_complete: "Job given in work result not found", work_fail: "Job given in work result not found",
        work_data: "Job does not exist on server", work_warning: "Job does not exist on server",
        work_exception: "An exception was received for a job that does not exist"
      }.each do |type, text|
        arguments = type == :work_fail ? ["H:none:1"] : ["H:none:1", "data"]
        expect(worker.ask(type, *arguments)).to eq([:error, "JOB_NOT_FOUND", text])
      end
      expect(worker.ask(:work_status, "H:none:1", "1", "2"))
        .to eq([:error, "JOB_NOT_FOUND", "Job given in work result not found"])
    end

    describe "status" do
      it "follows a job by its handle" do
        handle = submit
        able_to("f")
        expect(client.ask(:get_status, handle)).to eq([:status_res, handle, "1", "0", "0", "0"])
        grab
        expect(client.ask(:get_status, handle)).to eq([:status_res, handle, "1", "1", "0", "0"])
        worker.request(:work_status, handle, "3", "x7").settle
        client.response
        expect(client.ask(:get_status, handle)).to eq([:status_res, handle, "1", "1", "3", "0"])
        worker.request(:work_status, handle, "-1", "99999999999").settle
        client.response
        expect(client.ask(:get_status, handle)).to eq([:status_res, handle, "1", "1", "4294967295", "1410065407"])
        worker.request(:work_complete, handle, "").settle
        client.response
        expect(client.ask(:get_status, handle)).to eq([:status_res, handle, "0", "0", "0", "0"])
      end

      it "follows a job by its unique, with the number of submissions that wait" do
        expect(client.ask(:get_status_unique, "u")).to eq([:status_res_unique, "u", "0", "0", "0", "0", "0"])
        2.times { submit(:submit_job, "f", "u") }
        submit(:submit_job_bg, "f", "u")
        expect(admin.ask(:get_status_unique, "u")).to eq([:status_res_unique, "u", "1", "0", "0", "0", "2"])
        able_to("f")
        grab
        expect(admin.ask(:get_status_unique, "u")).to eq([:status_res_unique, "u", "1", "1", "0", "0", "2"])
        expect(admin.ask(:get_status_unique, "")).to eq([:status_res_unique, "", "0", "0", "0", "0", "0"])
      end
    end

    describe "coalescing" do
      it "joins jobs of one function and unique, whatever their data and priority" do
        handle = submit(:submit_job, "f", "u", "first")
        expect(submit(:submit_job_high_bg, "f", "u", "second", on: wire)).to eq(handle)
        expect(submit(:submit_job, "g", "u")).not_to eq(handle)
        able_to("f")
        expect(grab).to eq([:job_assign, handle, "f", "first"])
        expect(submit(:submit_job, "f", "u", "while it runs")).to eq(handle)
        expect(grab).to eq([:no_job])
      end

      it "sends every report once for each submission" do
        handle = submit(:submit_job, "f", "u")
        submit(:submit_job, "f", "u")
        other = wire
        submit(:submit_job, "f", "u", on: other)
        able_to("f")
        grab
        worker.request(:work_data, handle, "1").request(:work_complete, handle, "r").settle
        expect(client.pending)
          .to eq([[:work_data, handle, "1"], [:work_data, handle, "1"],
                  [:work_complete, handle, "r"], [:work_complete, handle, "r"]])
        expect(other.pending).to eq([[:work_data, handle, "1"], [:work_complete, handle, "r"]])
      end

      it "does not join without a unique, nor with a job that has ended" do
        expect(submit(:submit_job, "f", "", "data")).not_to eq(submit(:submit_job, "f", "", "data"))
        handle = submit(:submit_job, "g", "u")
        able_to("g")
        grab
        worker.request(:work_complete, handle, "").settle
        client.response
        expect(submit(:submit_job, "g", "u")).not_to eq(handle)
      end

      it "takes the unique - for the data" do
        handle = submit(:submit_job, "f", "-", "data")
        expect(submit(:submit_job, "f", "-", "data")).to eq(handle)
        expect(submit(:submit_job, "f", "-", "other")).not_to eq(handle)
        expect(submit(:submit_job, "g", "-", "data")).not_to eq(handle)
        expect(submit(:submit_job, "f", "-", "")).not_to eq(submit(:submit_job, "f", "-", ""))
        expect(client.ask(:get_status_unique, "-")[2]).to eq("0")
        able_to("f")
        expect(grab(:grab_job_uniq)).to eq([:job_assign_uniq, handle, "f", "-", "data"])
      end
    end

    describe "losing a worker" do
      it "gives its jobs to others, at the end of the queue and in reverse" do
        handles = Array.new(4) { |i| submit(:submit_job, "f", "", i.to_s) }
        able_to("f")
        3.times { grab }
        other = wire
        able_to("f", on: other)
        hang_up(worker)
        expect(Array.new(5) { grab(on: other)[1] }).to eq([handles[3], *handles.first(3).reverse, nil])
      end

      it "starts the status of the job anew, and tells the client nothing" do
        handle = submit
        able_to("f")
        grab
        worker.request(:work_status, handle, "1", "2").settle
        hang_up(worker)
        expect(client.pending).to eq([[:work_status, handle, "1", "2"]])
        expect(client.ask(:get_status, handle)).to eq([:status_res, handle, "1", "0", "0", "0"])
        expect(admin.admin("show jobs")).to eq("#{handle}\t1\t0\t0\n.\n")
      end

      it "wakes who sleeps" do
        submit
        able_to("f")
        grab
        other = wire
        able_to("f", on: other)
        other.request(:pre_sleep).settle
        hang_up(worker)
        expect(other.pending).to eq([[:noop]])
      end

      [[:cant_do, "f"], [:reset_abilities]].each do |packet|
        it "takes #{packet.first} as the loss of the jobs that run" do
          handle = submit
          able_to("f", "f", "g")
          grab
          worker.request(*packet).settle
          expect(worker.ask(:work_complete, handle, "late").first(2)).to eq([:error, "JOB_NOT_FOUND"])
          expect(grab).to eq([:no_job])
          expect(admin.admin("status")[/^f\t.*/]).to eq("f\t1\t0\t0")
          other = wire
          able_to("f", on: other)
          expect(grab(on: other)).to eq([:job_assign, handle, "f", "data"])
        end
      end

      it "leaves jobs of other functions alone on CANT_DO" do
        handle = submit
        able_to("g", "f")
        grab
        worker.request(:cant_do, "g").request(:work_complete, handle, "r").settle
        expect(client.response).to eq([:work_complete, handle, "r"])
      end
    end

    describe "CAN_DO_TIMEOUT" do
      it "takes the job away after that many milliseconds" do
        handle = submit
        worker.request(:can_do_timeout, "f", "1000").settle
        expect(grab).to eq([:job_assign, handle, "f", "data"])
        eventually("the job waits again") { client.ask(:get_status, handle)[3] == "0" }
        expect(client.pending).to be_empty
        expect(worker.ask(:work_complete, handle, "late").first(2)).to eq([:error, "JOB_NOT_FOUND"])
        expect(grab).to eq([:job_assign, handle, "f", "data"])
      end

      it "takes 0 and no number as no time-out" do
        %w[0 soon -5].each { |timeout| worker.request(:can_do_timeout, "f", timeout) }
        handle = submit
        expect(grab).to eq([:job_assign, handle, "f", "data"])
        sleep 1.5
        worker.request(:work_complete, handle, "r").settle
        expect(client.response).to eq([:work_complete, handle, "r"])
      end
    end

    describe "losing a client" do
      def lose_client_of(handle)
        hang_up(client)
        eventually("its job is skipped") { admin.admin("show jobs") == "#{handle}\t0\t1\t0\n.\n" }
      end

      it "skips its foreground jobs, which count until a worker looks" do
        lose_client_of(submit(:submit_job))
        expect(admin.admin("status")).to eq("f\t1\t0\t0\n.\n")
        able_to("f")
        expect(grab).to eq([:no_job])
        expect(admin.admin("status")).to eq("f\t0\t0\t1\n.\n")
      end

      it "does not wake the worker for them" do
        lose_client_of(submit(:submit_job))
        able_to("f")
        worker.request(:pre_sleep).settle
      end

      it "keeps its background jobs" do
        handle = submit(:submit_job_bg)
        hang_up(client)
        able_to("f")
        expect(grab).to eq([:job_assign, handle, "f", "data"])
      end

      it "keeps jobs that others wait for too" do
        handle = submit(:submit_job, "f", "u")
        other = wire
        submit(:submit_job, "f", "u", on: other)
        hang_up(client)
        able_to("f")
        grab
        worker.request(:work_complete, handle, "r").settle
        expect(other.response).to eq([:work_complete, handle, "r"])
      end

      it "takes the result of its running job without complaint" do
        handle = submit(:submit_job)
        able_to("f")
        grab
        hang_up(client)
        worker.request(:work_data, handle, "1").request(:work_complete, handle, "r").settle
        expect(admin.admin("status")).to eq("f\t0\t0\t1\n.\n")
      end

      it "does not run its running job again when the worker is lost as well" do
        submit(:submit_job)
        able_to("f")
        grab
        hang_up(client)
        hang_up(worker)
        other = wire
        able_to("f", on: other)
        expect(grab(on: other)).to eq([:no_job])
      end
    end

    describe "sleeping workers" do
      before { able_to("f") }

      it "get NOOP at once when there is a job, and every time" do
        submit(:submit_job_bg)
        2.times { expect(worker.request(:pre_sleep).pending).to eq([[:noop]]) }
        expect(grab.first).to eq(:job_assign)
      end

      it "get one NOOP when a job comes, all of them" do
        other = wire
        able_to("f", on: other)
        [worker, other].each { |sleeper| sleeper.request(:pre_sleep).settle }
        2.times { submit(:submit_job_bg) }
        expect([worker, other].map(&:pending)).to eq([[[:noop]]] * 2)
      end

      it "get one NOOP for jobs of two functions" do
        able_to("g")
        worker.request(:pre_sleep).settle
        %w[f g].each { |function| submit(:submit_job_bg, function) }
        expect(worker.pending).to eq([[:noop]])
      end

      it "get none for functions that they cannot do, nor while awake" do
        worker.request(:pre_sleep).settle
        submit(:submit_job_bg, "g")
        worker.settle
        grab
        submit(:submit_job_bg, "f")
        worker.settle
      end

      it "get none for functions that they gave up in their sleep" do
        able_to("g")
        worker.request(:pre_sleep).request(:cant_do, "f").settle
        submit(:submit_job_bg, "f")
        worker.settle
        submit(:submit_job_bg, "g")
        expect(worker.pending).to eq([[:noop]])
      end

      it "get no second one before they have grabbed" do
        other = wire
        able_to("f", on: other)
        worker.request(:pre_sleep).settle
        submit(:submit_job_bg)
        expect(worker.pending).to eq([[:noop]])
        grab(on: other)
        worker.request(:pre_sleep).settle
        submit(:submit_job_bg)
        worker.settle
        grab(on: other)
        grab
        worker.request(:pre_sleep).settle
        submit(:submit_job_bg)
        expect(worker.pending).to eq([[:noop]])
      end

      it "are not put off by the NOOP that PRE_SLEEP itself gave" do
        other = wire
        able_to("f", on: other)
        submit(:submit_job_bg)
        expect(worker.request(:pre_sleep).pending).to eq([[:noop]])
        grab(on: other)
        worker.request(:pre_sleep).settle
        submit(:submit_job_bg)
        expect(worker.pending).to eq([[:noop]])
      end

      it "are not woken by CAN_DO, but by the next job of that function" do
        submit(:submit_job_bg, "g")
        worker.request(:pre_sleep).settle
        able_to("g")
        submit(:submit_job_bg, "g")
        expect(worker.pending).to eq([[:noop]])
      end

      it "may be the client itself: NOOP comes before JOB_CREATED" do
        worker.request(:pre_sleep).settle
        worker.request(:submit_job, "f", "", "data")
        expect(worker.pending).to match([[:noop], [:job_created, String]])
      end
    end

    describe "scheduled jobs" do
      def at(time, unique)
        client.ask(:submit_job_epoch, "f", unique, time, "data").last
      end

      it "run at once when their time has passed or is none" do
        handles = [at("1", "u1"), at("now", "u2"), at("-5", "u3")]
        able_to("f")
        expect(Array.new(3) { grab[1] }).to eq(handles)
      end

      it "wait for their time, do not hold others up, and keep their place" do
        scheduled = at((Time.now.to_i + 3).to_s, "scheduled")
        other = submit(:submit_job_bg, "f", "other")
        expect(submit(:submit_job_bg, "f", "scheduled")).to eq(scheduled)
        expect(admin.admin("prioritystatus")).to eq("f\t0\t2\t0\t0\n.\n")
        able_to("f")
        expect([grab[1], grab]).to eq([other, [:no_job]])
        expect(client.ask(:get_status, scheduled)).to eq([:status_res, scheduled, "1", "0", "0", "0"])
        later = submit(:submit_job_bg, "f", "later")
        sleep 3.5
        expect([grab[1], grab[1]]).to eq([scheduled, later])
      end
    end

    describe "admin commands" do
      it "answers status and prioritystatus" do
        expect(admin.admin("status")).to eq(".\n")
        expect(admin.admin("prioritystatus")).to eq(".\n")
        %i[submit_job_high submit_job_bg submit_job submit_job_low_bg].each { |type| submit(type) }
        able_to("f", "g", "f")
        grab
        expect(admin.admin("status").lines).to contain_exactly("f\t4\t1\t2\n", "g\t0\t0\t1\n", ".\n")
        expect(admin.admin("prioritystatus").lines).to contain_exactly("f\t0\t2\t1\t2\n", "g\t0\t0\t0\t1\n", ".\n")
      end

      it "answers workers with every connection, functions newest first" do
        worker.request(:set_client_id, "my worker")
        able_to("f", "g", "f")
        client.request(:set_client_id, "x" * 200).settle
        workers = -> { admin.admin("workers").lines.map { |line| line.sub(/\A\d+/, "FD") } }
        eventually("the connection that saw the server start is gone") { workers.call.size <= 4 }
        expect(workers.call).to contain_exactly(
          "FD 127.0.0.1 my worker : f g f\n", "FD 127.0.0.1 #{"x" * 127} :\n", "FD 127.0.0.1 - :\n", ".\n"
        )
      end

      it "answers show jobs and show unique jobs" do
        expect(admin.admin("show jobs")).to eq(".\n")
        waiting = submit(:submit_job, "f", "u")
        stored = submit(:submit_job_bg, "f", "")
        expect(admin.admin("show jobs").lines)
          .to contain_exactly("#{waiting}\t0\t0\t0\n", "#{stored}\t0\t0\t1\n", ".\n")
        expect(admin.admin("show unique jobs").lines).to contain_exactly("u\n", "\n", ".\n")
        ["show", "show jobs x", "show unique", "show work"].each do |command|
          expect(admin.admin(command)).to eq(
            command == "show" ? "ERR UNKNOWN_COMMAND Unknown+server+commandshow\r\n" : "ERR UNKNOWN_SHOW_ARGUMENTS\r\n"
          )
        end
      end

      it "answers version, verbose and getpid" do
        expect(admin.admin("version")).to match(/\AOK 1\.1\.\d+\S*\n\z/)
        expect(admin.admin("verbose")).to match(/\AOK [A-Z]+\n\z/)
        pid = job_server.is_a?(JobServers::Gearmand) ? job_server.pid : Process.pid
        expect(admin.admin("getpid")).to eq("OK #{pid}\n")
      end

      it "cancels a job that waits" do
        handle = submit
        expect(admin.admin("cancel job #{handle}")).to eq("OK\r\n")
        expect(client.pending).to eq([[:work_fail, handle]])
        expect(admin.admin("show jobs")).to eq("#{handle}\t0\t1\t0\n.\n")
        able_to("f")
        expect(grab).to eq([:no_job])
        expect(admin.admin("show jobs")).to eq(".\n")
        expect(admin.admin("cancel job #{handle}")).to eq("ERR UNKNOWN_JOB\r\n")
      end

      it "cancels a background job that waits" do
        handle = submit(:submit_job_bg)
        expect(admin.admin("cancel job #{handle}")).to eq("OK\r\n")
        expect(admin.admin("show jobs")).to eq("#{handle}\t0\t1\t0\n.\n")
        able_to("f")
        expect(worker.request(:pre_sleep).pending).to be_empty
        expect(admin.admin("show jobs")).to eq(".\n")
      end

      it "lets a cancelled job that runs come to its end, and its client hear of it" do
        handle = submit
        able_to("f")
        grab
        expect(admin.admin("cancel job #{handle}")).to eq("OK\r\n")
        worker.request(:work_complete, handle, "r").settle
        expect(client.pending).to eq([[:work_fail, handle], [:work_complete, handle, "r"]])
      end

      it "creates and drops functions" do
        2.times { expect(admin.admin("create function Resize")).to eq("OK\r\n") }
        expect(admin.admin("status")).to eq("Resize\t0\t0\t0\n.\n")
        able_to("Resize")
        in_use = "ERR there are still connected workers or executing clients\r\n"
        expect(admin.admin("drop function resize")).to eq(in_use)
        worker.request(:cant_do, "Resize").settle
        expect(admin.admin("drop function resize")).to eq("OK\r\n")
        expect(admin.admin("drop function resize")).to eq("ERR function not found\r\n")
        expect(admin.admin("status")).to eq(".\n")
      end

      it "limits queues" do
        full = [:error, "QUEUE_ERROR", "Job queue is full"]
        expect(admin.admin("maxqueue f 1")).to eq("OK\r\n") # no such function: no limit
        2.times { |i| submit(:submit_job_bg, "f", "u#{i}") }
        expect(admin.admin("maxqueue f 3")).to eq("OK\r\n")
        submit(:submit_job_low_bg)
        %i[submit_job submit_job_high_bg submit_job_low].each do |type|
          expect(client.ask(type, "f", "", "data")).to eq(full)
        end
        submit(:submit_job_bg, "f", "u0") # joins a job
        expect(admin.admin("maxqueue f 4 3")).to eq("OK\r\n")
        expect(client.ask(:submit_job, "f", "", "data")).to eq(full)
        submit(:submit_job_high)
        expect(client.ask(:submit_job_high, "f", "", "data")).to eq(full)
        submit(:submit_job_low)
        %w[0 -1 many].each do |limit|
          admin.admin("maxqueue f 1")
          expect(client.ask(:submit_job, "f", "", "data")).to eq(full)
          expect(admin.admin("maxqueue f #{limit}")).to eq("OK\r\n")
          submit
        end
        admin.admin("maxqueue f 1")
        expect(admin.admin("maxqueue f")).to eq("OK\r\n")
        submit
      end

      it "counts running jobs for the limit" do
        able_to("f")
        admin.admin("maxqueue f 1")
        submit(:submit_job_bg)
        grab
        expect(client.ask(:submit_job, "f", "", "data").first(2)).to eq([:error, "QUEUE_ERROR"])
      end

      it "refuses what it does not know or what is not whole" do
        incomplete = "ERR INVALID_ARGUMENTS An+incomplete+set+of+arguments+was+sent+to+this+command+"
        {
          "shutdown" => "ERR UNKNOWN_COMMAND Unknown+server+commandshutdown\r\n",
          "Foo bar%20" => "ERR UNKNOWN_COMMAND Unknown+server+commandFoo\r\n",
          "" => "ERR UNKNOWN_COMMAND Unknown+server+command\r\n",
          " version" => "ERR UNKNOWN_COMMAND Unknown+server+command\r\n",
          "show\tjobs" => "ERR UNKNOWN_COMMAND Unknown+server+commandshow\tjobs\r\n",
          "cancel job" => "ERR UNKNOWN_COMMAND Unknown+server+commandcancel\r\n",
          "cancel work H:x:1" => "ERR UNKNOWN_ERROR\r\n",
          "cancel job H:none:1" => "ERR UNKNOWN_JOB\r\n",
          "create" => "#{incomplete}create\r\n",
          "create function" => "#{incomplete}create\r\n",
          "create thing f" => "#{incomplete}create\r\n",
          "drop function" => "#{incomplete}drop\r\n",
          "maxqueue" => "#{incomplete}maxqueue\r\n"
        }.each { |command, answer| expect(admin.admin(command)).to eq(answer) }
      end

      it "takes any case, further words, and both line ends" do
        expect(admin.admin("VERSION please")).to eq(admin.admin("version", line_end: "\n"))
        expect(admin.admin("Status")).to eq(".\n")
      end

      it "closes the connection after a sixth word" do
        admin.write("maxqueue f 1 2 3 4\r\n")
        expect(admin).to be_closed_by_server
        client.settle
      end

      it "takes lines between packets, in any split" do
        client.write(JobServers::Wire.packet(:echo_req, "a"), "version\r\n", JobServers::Wire.packet(:echo_req, "b"))
        expect([client.response, client.line, client.response]).to match(
          [[:echo_res, "a"], /\AOK /, [:echo_res, "b"]]
        )
        "show jobs\r\nversion\r\n".each_char do |byte|
          client.write(byte)
          sleep 0.002
        end
        expect([client.line, client.line]).to match([".\n", /\AOK /])
      end
    end
  end
end
