#include "connection.h"

/*
 * Gearman::WorkerLoop: grabs jobs from the servers of one worker, runs one at a time and answers. It uses
 * the own channel of each connection. Connecting, registering and what to log are said in Ruby.
 */

#define MILLISECONDS ((gm_deadline)1000000)

enum { JOBS_PER_TURN = 16, STORM = 3 };

#define TURN (100 * MILLISECONDS)
#define REGRAB (1000 * MILLISECONDS)   /* gearmand before 2.0 tells nobody when a scheduled job is due */
#define AT_ONCE (5 * MILLISECONDS)     /* a NOOP sooner than that answers the PRE_SLEEP */
#define CONNECTING (20 * MILLISECONDS) /* how often to look whether a connection that another thread opens is there */
#define HOLD (1 * MILLISECONDS)        /* how long an answer may wait for others */
#define LOOK_UP (100 * MILLISECONDS)   /* how often to look whether to stop, while a server owes an answer */

typedef enum {
    AWAKE,  /* may have a job */
    ASLEEP, /* has been told to send a NOOP when there is one */
} server_state;

typedef struct {
    server_state state;
    unsigned owed;  /* answers to grabs that are still to be read */
    unsigned storm; /* NOOPs in a row that brought no job and came at once */
    gm_deadline asleep_since, not_before, connect_at;
} server_entry;

typedef struct {
    VALUE worker;
    VALUE connections; /* Array of Connection, as long as `servers` */
    VALUE channels;    /* Array: the channel of each, nil while it is not connected */
    server_entry *servers;
    long count, current;
    unsigned jobs_in_turn;
    gm_deadline turn_began, network_timeout;
    bool ours;    /* handle_work_message and handle_job_assign are the library's */
    bool verbose; /* each job is logged */
    bool once;
    unsigned prefetch; /* jobs that may be running, assigned or asked for at once */

    /* With a prefetch, the answers of quick jobs leave together; see hold(). */
    VALUE held_on;       /* the channel with unsent answers, or nil */
    uint64_t held_start; /* gm_channel_queued before them */
    gm_deadline held_since;
    unsigned held; /* how many */
    bool watched;  /* another thread looks after them */
} worker_loop;

static VALUE cJob, cFailure;
static VALUE sym_preparing, sym_waiting, sym_working;
static ID id_abilities, id_channel_to, id_closing, id_completed, id_retry_in, id_connection, id_enabled, id_handle,
    id_handle_work_message, id_job_channel, id_log_packet, id_lost, id_on_complete, id_payload, id_perform, id_reraise,
    id_retired, id_status, id_unique, id_wake_io, id_wakeups, id_watch_held, id_withdraw, id_withdrawals;

/* The callbacks of Worker::Callbacks: the variable that holds the block, the method that calls it. */
typedef enum { GRABBED, NOTHING, ASSIGNED, COMPLETED, FAILED, EXCEPTED, CALLBACKS } callback;

static struct {
    ID variable, method;
} callbacks[CALLBACKS];

static void loop_mark(void *data)
{
    worker_loop *loop = data;
    rb_gc_mark_movable(loop->worker);
    rb_gc_mark_movable(loop->connections);
    rb_gc_mark_movable(loop->channels);
    rb_gc_mark_movable(loop->held_on);
}

static void loop_compact(void *data)
{
    worker_loop *loop = data;
    loop->worker = rb_gc_location(loop->worker);
    loop->connections = rb_gc_location(loop->connections);
    loop->channels = rb_gc_location(loop->channels);
    loop->held_on = rb_gc_location(loop->held_on);
}

static void loop_free(void *data)
{
    worker_loop *loop = data;
    xfree(loop->servers);
    xfree(loop);
}

static size_t loop_size(const void *data)
{
    const worker_loop *loop = data;
    return sizeof(*loop) + (size_t)loop->count * sizeof(server_entry);
}

static const rb_data_type_t loop_type = {
    .wrap_struct_name = "Gearman::WorkerLoop",
    .function = {.dmark = loop_mark, .dfree = loop_free, .dsize = loop_size, .dcompact = loop_compact},
    .flags = GM_TYPED_FREE | RUBY_TYPED_WB_PROTECTED,
};

static worker_loop *get(VALUE self)
{
    worker_loop *loop;
    TypedData_Get_Struct(self, worker_loop, &loop_type, loop);
    return loop;
}

static VALUE loop_allocate(VALUE klass)
{
    worker_loop *loop;
    VALUE self = TypedData_Make_Struct(klass, worker_loop, &loop_type, loop);
    loop->worker = loop->connections = loop->channels = loop->held_on = Qnil;
    return self;
}

/* call-seq: new(worker, connections) */
static VALUE loop_initialize(VALUE self, VALUE worker, VALUE connections)
{
    worker_loop *loop = get(self);
    Check_Type(connections, T_ARRAY);
    long count = RARRAY_LEN(connections);
    RB_OBJ_WRITE(self, &loop->worker, worker);
    RB_OBJ_WRITE(self, &loop->connections, rb_ary_dup(connections));
    RB_OBJ_WRITE(self, &loop->channels, rb_ary_new_capa(count));
    if (count) rb_ary_store(loop->channels, count - 1, Qnil);
    xfree(loop->servers);
    loop->servers = ZALLOC_N(server_entry, count);
    loop->count = count;
    return self;
}

static VALUE connection_at(worker_loop *loop, long index) { return rb_ary_entry(loop->connections, index); }
static VALUE channel_at(worker_loop *loop, long index) { return rb_ary_entry(loop->channels, index); }

static bool stopping(worker_loop *loop)
{
    return !RTEST(rb_ivar_get(loop->worker, id_enabled)) || RTEST(rb_ivar_get(loop->worker, id_closing));
}

static void set_status(worker_loop *loop, VALUE status) { rb_ivar_set(loop->worker, id_status, status); }

static void run_callback(worker_loop *loop, callback which)
{
    if (RTEST(rb_ivar_get(loop->worker, callbacks[which].variable))) {
        rb_funcall(loop->worker, callbacks[which].method, 0);
    }
}

static void log_packet(worker_loop *loop, long index, const gm_reply *reply)
{
    VALUE type = gm_command_symbol(reply->packet.command), body = gm_str_new(reply->packet.body);
    rb_funcall(loop->worker, id_log_packet, 3, connection_at(loop, index), type, body);
}

/* Connects a server that is due and registers with it. */
static void connect(worker_loop *loop, long index)
{
    if (!NIL_P(channel_at(loop, index)) || loop->servers[index].connect_at > gm_now()) return;
    VALUE channel = rb_funcall(loop->worker, id_channel_to, 1, connection_at(loop, index));
    server_entry *server = &loop->servers[index];
    if (NIL_P(channel)) {
        gm_deadline due = gm_deadline_in(rb_funcall(loop->worker, id_retry_in, 1, connection_at(loop, index)));
        gm_deadline soon = gm_now() + CONNECTING;
        server->connect_at = due > soon ? due : soon;
        return;
    }
    gm_channel_check(channel);
    rb_ary_store(loop->channels, index, channel);
    server->state = AWAKE;
    server->owed = 0;
    server->not_before = 0;
}

static void nothing_held(worker_loop *loop)
{
    loop->held_on = Qnil;
    loop->held = 0;
}

/*
 * Closes the channel of a server. User code may have closed the worker's channels meanwhile: what is below
 * holds the channel that it serves, which is harmless when closed.
 */
static void lost(worker_loop *loop, long index, VALUE channel, bool silent)
{
    gm_channel_close(channel);
    if (loop->held_on == channel) nothing_held(loop);
    if (channel_at(loop, index) != channel) return;
    VALUE connection = connection_at(loop, index);
    rb_ary_store(loop->channels, index, Qnil);
    VALUE reason = silent ? Qnil : gm_channel_reason(channel);
    loop->servers[index].connect_at = gm_deadline_in(rb_funcall(loop->worker, id_lost, 2, connection, reason));
}

static void queue_grabs(worker_loop *loop, long index, VALUE channel, unsigned limit)
{
    server_entry *server = &loop->servers[index];
    for (; server->owed < limit; server->owed++) {
        gm_channel_queue(channel, loop->ours ? GM_GRAB_JOB_UNIQ : GM_GRAB_JOB, NULL, 0, 0);
    }
}

/* Sends what was queued behind `start`. Returns false when the server is lost. */
static bool flush(worker_loop *loop, long index, VALUE channel, uint64_t start)
{
    gm_io result = gm_channel_flush(channel, start, GM_NEVER, loop->network_timeout, true);
    if (result == GM_IO_OK) return true;
    lost(loop, index, channel, result == GM_IO_TIMEOUT);
    return false;
}

/*
 * Keeps an answer back for a moment: while there are more jobs that were fetched already, one send for all of
 * their answers is several times as fast. Another thread sends them if the next job takes long.
 */
static bool hold(VALUE self, worker_loop *loop, VALUE channel, uint64_t start)
{
    gm_deadline now = gm_now();
    if (NIL_P(loop->held_on)) {
        RB_OBJ_WRITE(self, &loop->held_on, channel);
        loop->held_start = start;
        loop->held_since = now;
    }
    loop->held++;
    if (loop->held_on != channel || now - loop->held_since >= HOLD) return false;
    gm_channel_cork(channel);
    if (!loop->watched) {
        loop->watched = true;
        rb_funcall(loop->worker, id_watch_held, 0);
    }
    return true;
}

/* Sends what was held back. Returns false when the server is lost. */
static bool flush_held(worker_loop *loop, long index, VALUE channel)
{
    if (NIL_P(loop->held_on)) return true;
    nothing_held(loop);
    return flush(loop, index, channel, loop->held_start);
}

/* call-seq: send_held -> whether something was held back; sends it when it is time */
static VALUE loop_send_held(VALUE self)
{
    worker_loop *loop = get(self);
    VALUE channel = loop->held_on;
    loop->watched = !NIL_P(channel);
    if (NIL_P(channel)) return Qfalse;
    if (gm_now() - loop->held_since >= HOLD) {
        nothing_held(loop);
        /* What goes wrong here the loop finds out by itself. */
        gm_channel_flush(channel, loop->held_start, GM_NEVER, loop->network_timeout, false);
    }
    return Qtrue;
}

static bool grab(worker_loop *loop, long index, VALUE channel)
{
    uint64_t start = gm_channel_queued(channel);
    queue_grabs(loop, index, channel, loop->once ? 1 : loop->prefetch);
    return flush(loop, index, channel, start);
}

static bool go_to_sleep(worker_loop *loop, long index, VALUE channel)
{
    loop->servers[index].state = ASLEEP;
    loop->servers[index].asleep_since = gm_now();
    uint64_t start = gm_channel_queued(channel);
    gm_channel_queue(channel, GM_PRE_SLEEP, NULL, 0, 0);
    return flush(loop, index, channel, start);
}

static bool turn_is_over(worker_loop *loop)
{
    if (loop->count == 1) return false;
    return loop->jobs_in_turn >= JOBS_PER_TURN || gm_now() - loop->turn_began >= TURN;
}

/* Functions that were removed are withdrawn when the server can have no job of them under way for us. */
static void withdraw(worker_loop *loop, long index)
{
    if (!RTEST(rb_ivar_get(loop->worker, id_withdrawals))) return;
    rb_funcall(loop->worker, id_withdraw, 1, connection_at(loop, index));
}

/* Running a job */

typedef struct {
    VALUE worker, ability, data, job;
} performance;

static VALUE perform(VALUE data)
{
    performance *show = (performance *)data;
    return rb_funcall(show->worker, id_perform, 3, show->ability, show->data, show->job);
}

typedef struct {
    VALUE worker, type, body, connection;
} message;

static VALUE handle_message(VALUE data)
{
    message *what = (message *)data;
    return rb_funcall(what->worker, id_handle_work_message, 3, what->type, what->body, what->connection);
}

/* Calls what runs user code. What it raises leaves the job unanswered: the server gives it to another. */
static VALUE call_user(VALUE channel, VALUE (*function)(VALUE), VALUE data)
{
    int state;
    VALUE result = rb_protect(function, data, &state);
    if (!state) return result;
    gm_channel_send(channel); /* the answers of jobs before, if any were held back */
    gm_channel_close(channel);
    rb_jump_tag(state);
}

static VALUE ability_of(worker_loop *loop, gm_slice func)
{
    VALUE name = rb_enc_interned_str((const char *)func.bytes, (long)func.length, rb_utf8_encoding());
    VALUE ability = rb_hash_lookup(rb_ivar_get(loop->worker, id_abilities), name);
    return NIL_P(ability) ? rb_hash_lookup(rb_ivar_get(loop->worker, id_retired), name) : ability;
}

static VALUE new_job(VALUE connection, VALUE channel, VALUE handle, VALUE unique)
{
    VALUE job = rb_obj_alloc(cJob);
    rb_ivar_set(job, id_connection, connection);
    rb_ivar_set(job, id_handle, handle);
    rb_ivar_set(job, id_unique, unique);
    rb_ivar_set(job, id_job_channel, channel);
    return job;
}

static bool goes_on(worker_loop *loop)
{
    if (loop->once || RTEST(rb_ivar_get(loop->worker, id_withdrawals))) return false;
    return !stopping(loop) && !turn_is_over(loop);
}

/* Answers a job and, if the turn goes on, grabs another in the same send. */
static void answer(VALUE self, worker_loop *loop, long index, VALUE channel, gm_command command, VALUE handle,
                   VALUE payload, bool last)
{
    run_callback(loop, command == GM_WORK_COMPLETE ? COMPLETED : command == GM_WORK_FAIL ? FAILED : EXCEPTED);
    bool more = !last && goes_on(loop);
    if (more) run_callback(loop, GRABBED);
    gm_slice parts[2] = {gm_slice_of(handle)};
    size_t count = 1;
    if (command != GM_WORK_FAIL) parts[count++] = gm_slice_of(payload);
    uint64_t start = gm_channel_queued(channel);
    gm_channel_queue(channel, command, parts, count, 0);
    RB_GC_GUARD(handle);
    RB_GC_GUARD(payload);
    if (more) queue_grabs(loop, index, channel, loop->prefetch);
    if (more && loop->prefetch > 1 && hold(self, loop, channel, start)) return;
    if (NIL_P(loop->held_on)) {
        flush(loop, index, channel, start);
    } else {
        flush_held(loop, index, channel);
    }
}

/* Runs the job that `reply` assigns. */
static void work(VALUE self, worker_loop *loop, long index, VALUE channel, const gm_reply *reply)
{
    VALUE connection = connection_at(loop, index);
    gm_command command = reply->packet.command;
    bool has_unique = command != GM_JOB_ASSIGN;
    loop->servers[index].state = AWAKE;
    loop->servers[index].storm = 0;
    loop->jobs_in_turn++;
    set_status(loop, sym_working);
    if (!loop->ours) {
        message what = {loop->worker, gm_command_symbol(command), gm_str_new(reply->packet.body), connection};
        run_callback(loop, ASSIGNED);
        call_user(channel, handle_message, (VALUE)&what);
        if (!gm_channel_usable(channel)) lost(loop, index, channel, false);
        return;
    }
    VALUE handle = gm_str_new(reply->parts[0]);
    VALUE unique = has_unique ? gm_str_new(reply->parts[2]) : Qnil;
    VALUE data = gm_str_new(reply->parts[gm_command_parts(gm_command_find(command)) - 1]);
    VALUE ability = ability_of(loop, reply->parts[1]);
    if (NIL_P(ability) || loop->verbose) log_packet(loop, index, reply);
    run_callback(loop, ASSIGNED);
    VALUE result = Qnil;
    if (!NIL_P(ability)) {
        performance show = {loop->worker, ability, data, new_job(connection, channel, handle, unique)};
        result = call_user(channel, perform, (VALUE)&show);
    }
    bool complete = RB_TYPE_P(result, T_STRING), exception = rb_obj_class(result) == cFailure;
    VALUE reraise = exception ? rb_ivar_get(result, id_reraise) : Qnil;
    VALUE payload = exception ? rb_ivar_get(result, id_payload) : result;
    if (gm_channel_usable(channel)) {
        answer(self, loop, index, channel,
               complete    ? GM_WORK_COMPLETE
               : exception ? GM_WORK_EXCEPTION
                           : GM_WORK_FAIL,
               handle, payload, !NIL_P(reraise));
    } else {
        /* Lost, or this is another process by now: the result has nowhere to go. */
        lost(loop, index, channel, false);
    }
    if (!NIL_P(reraise)) rb_exc_raise(reraise);
    if (complete && gm_channel_usable(channel) && RTEST(rb_ivar_get(ability, id_on_complete))) {
        rb_funcall(loop->worker, id_completed, 3, ability, result, data);
    }
}

typedef enum { WORKED, DRY, LOST, STOPPED, TIMED_OUT } outcome;

static outcome no_job(worker_loop *loop, long index, VALUE channel, const gm_reply *reply)
{
    VALUE body = loop->ours ? Qnil : gm_str_new(reply->packet.body);
    loop->servers[index].state = AWAKE;
    run_callback(loop, NOTHING);
    if (!loop->ours) {
        message what = {loop->worker, gm_command_symbol(GM_NO_JOB), body, connection_at(loop, index)};
        call_user(channel, handle_message, (VALUE)&what);
    }
    withdraw(loop, index);
    return go_to_sleep(loop, index, channel) ? DRY : LOST;
}

/* Asks one server for a job and runs it. */
static outcome serve(VALUE self, worker_loop *loop, long index, gm_deadline deadline)
{
    VALUE channel = channel_at(loop, index);
    if (loop->servers[index].owed == 0) {
        withdraw(loop, index);
        run_callback(loop, GRABBED);
        if (!grab(loop, index, channel)) return LOST;
    }
    gm_deadline limit = gm_deadline_after(loop->network_timeout);
    for (;;) {
        gm_reply reply;
        gm_io result = gm_channel_next(channel, &reply);
        if (result == GM_IO_AGAIN) {
            /* While the server is still answering grabs, more jobs will come. */
            bool more = loop->held * 2 < loop->prefetch && loop->servers[index].owed > loop->held;
            if (!more && !flush_held(loop, index, channel)) return LOST;
            result = gm_channel_receive(channel, &reply, gm_earlier(limit, gm_now() + LOOK_UP));
        }
        if (result == GM_IO_TIMEOUT && gm_now() < limit) {
            if (stopping(loop)) return STOPPED;
            if (gm_now() < deadline) continue;
            lost(loop, index, channel, true); /* else it might assign a job that nobody takes */
            return TIMED_OUT;
        }
        if (result != GM_IO_OK) {
            lost(loop, index, channel, result == GM_IO_TIMEOUT);
            return LOST;
        }
        switch (reply.packet.command) {
        case GM_JOB_ASSIGN:
        case GM_JOB_ASSIGN_UNIQ:
        case GM_JOB_ASSIGN_ALL:
            loop->servers[index].owed--;
            work(self, loop, index, channel, &reply);
            return WORKED;
        case GM_NO_JOB:
            if (--loop->servers[index].owed > 0) break;
            return no_job(loop, index, channel, &reply);
        case GM_NOOP:
            break; /* the answer to the grab is still to come */
        default:
            log_packet(loop, index, &reply);
        }
    }
}

/* Waking and sleeping */

static void woken(worker_loop *loop, long index)
{
    server_entry *server = &loop->servers[index];
    gm_deadline now = gm_now();
    server->state = AWAKE;
    server->storm = now - server->asleep_since < AT_ONCE ? server->storm + 1 : 0;
    if (server->storm < STORM) return;
    unsigned doublings = server->storm - STORM < 8 ? server->storm - STORM : 8;
    server->not_before = now + gm_earlier(AT_ONCE << doublings, REGRAB);
}

/* Takes what a server has sent that owes no answer: a NOOP, or the end of the connection. */
static void listen_to(worker_loop *loop, long index)
{
    VALUE channel = channel_at(loop, index);
    if (NIL_P(channel) || loop->servers[index].owed > 0) return;
    gm_channel_fill(channel);
    gm_reply reply;
    gm_io result;
    while ((result = gm_channel_next(channel, &reply)) == GM_IO_OK) {
        switch (reply.packet.command) {
        case GM_NOOP:
            if (loop->servers[index].state == ASLEEP) woken(loop, index);
            break;
        case GM_JOB_ASSIGN:
        case GM_JOB_ASSIGN_UNIQ:
        case GM_JOB_ASSIGN_ALL:
            log_packet(loop, index, &reply);
            lost(loop, index, channel, false); /* nobody asked for it: the server is to give it to another */
            return;
        default:
            log_packet(loop, index, &reply);
        }
    }
    if (result == GM_IO_CLOSED) lost(loop, index, channel, false);
}

/* Waits until a server or another thread wakes the loop, or something is due. Returns false at the deadline. */
static bool wait_for_work(worker_loop *loop, gm_deadline deadline)
{
    gm_deadline until = deadline, now = gm_now();
    VALUE wake_io = rb_ivar_get(loop->worker, id_wake_io);
    VALUE readers = rb_ary_new_from_args(1, wake_io);
    for (long i = 0; i < loop->count; i++) {
        server_entry *server = &loop->servers[i];
        VALUE channel = channel_at(loop, i);
        if (NIL_P(channel)) {
            until = gm_earlier(until, server->connect_at);
            continue;
        }
        rb_ary_push(readers, gm_channel_wait_io(channel));
        until = gm_earlier(until, server->state == ASLEEP ? server->asleep_since + REGRAB : server->not_before);
        if (gm_channel_eager(channel)) listen_to(loop, i);
        if (server->state == AWAKE && server->not_before <= now) return true;
    }
    if (gm_wait_any(readers, Qnil, until) && RTEST(rb_funcall(loop->worker, id_wakeups, 0))) {
        for (long i = 0; i < loop->count; i++) {
            if (loop->servers[i].state == ASLEEP) loop->servers[i].state = AWAKE;
        }
    }
    now = gm_now();
    for (long i = 0; i < loop->count; i++) {
        listen_to(loop, i);
        server_entry *server = &loop->servers[i];
        if (server->state == ASLEEP && now - server->asleep_since >= REGRAB) server->state = AWAKE;
    }
    return now < deadline;
}

/* The next server that may have a job; -1 when there is none. */
static long choose(worker_loop *loop)
{
    gm_deadline now = gm_now();
    for (long i = 0; i < loop->count; i++) connect(loop, i);
    if (!NIL_P(channel_at(loop, loop->current)) && loop->servers[loop->current].owed > 0) {
        return loop->current; /* its answers, which may be jobs, are under way */
    }
    if (turn_is_over(loop)) {
        loop->current = (loop->current + 1) % loop->count;
        for (long i = 0; i < loop->count; i++) listen_to(loop, i);
    }
    for (long i = 0; i < loop->count; i++) {
        long index = (loop->current + i) % loop->count;
        server_entry *server = &loop->servers[index];
        if (NIL_P(channel_at(loop, index)) || server->state == ASLEEP) continue;
        if (server->state == AWAKE && server->not_before > now) continue;
        if (index != loop->current || turn_is_over(loop)) {
            loop->current = index;
            loop->jobs_in_turn = 0;
            loop->turn_began = now;
        }
        return index;
    }
    return -1;
}

/*
 * call-seq: run(once, timeout, network_timeout, prefetch, ours, verbose) -> true, false or nil
 *
 * Runs jobs until the worker is disabled and returns false; with `once` one job and returns true, or nil
 * when none came before the time-out.
 */
static VALUE loop_run(VALUE self, VALUE once, VALUE timeout, VALUE network_timeout, VALUE prefetch, VALUE ours,
                      VALUE verbose)
{
    worker_loop *loop = get(self);
    gm_deadline deadline = gm_deadline_in(timeout);
    loop->once = RTEST(once);
    loop->prefetch = NUM2UINT(prefetch);
    loop->watched = false;
    loop->ours = RTEST(ours);
    loop->verbose = RTEST(verbose);
    loop->network_timeout = gm_interval(network_timeout);
    if (loop->count == 0) rb_raise(gm_eNoJobServersError, "no job server is configured");
    for (;;) {
        if (stopping(loop)) return Qfalse;
        rb_thread_check_ints();
        set_status(loop, sym_preparing);
        long index = choose(loop);
        if (index >= 0) {
            outcome result = serve(self, loop, index, deadline);
            if (result == WORKED && loop->once) return Qtrue;
            if (result == TIMED_OUT || (result == LOST && deadline <= gm_now())) return Qnil;
            continue;
        }
        set_status(loop, sym_waiting);
        if (!wait_for_work(loop, deadline)) return stopping(loop) ? Qfalse : Qnil;
    }
}

/* call-seq: connected? -> whether any server is */
static VALUE loop_connected_p(VALUE self)
{
    worker_loop *loop = get(self);
    for (long i = 0; i < loop->count; i++) {
        if (!NIL_P(channel_at(loop, i))) return Qtrue;
    }
    return Qfalse;
}

/* call-seq: close -> nil; closes the channels, so that the servers hand out again what was not answered */
static VALUE loop_close(VALUE self)
{
    worker_loop *loop = get(self);
    if (!NIL_P(loop->held_on)) {
        VALUE channel = loop->held_on;
        nothing_held(loop);
        gm_channel_send(channel); /* finished jobs are answered, if the socket takes it */
    }
    for (long i = 0; i < loop->count; i++) {
        VALUE channel = channel_at(loop, i);
        if (NIL_P(channel)) continue;
        gm_channel_close(channel);
        rb_ary_store(loop->channels, i, Qnil);
        loop->servers[i] = (server_entry){.state = AWAKE};
    }
    return Qnil;
}

static void define_callback(callback which, const char *variable, const char *method)
{
    callbacks[which].variable = rb_intern(variable);
    callbacks[which].method = rb_intern(method);
}

void Init_gearman_worker_loop(void)
{
    define_callback(GRABBED, "@__on_grab_job", "run_grab_job_callback");
    define_callback(NOTHING, "@__on_no_job", "run_no_job_callback");
    define_callback(ASSIGNED, "@__on_job_assign", "run_job_assign_callback");
    define_callback(COMPLETED, "@__on_work_complete", "run_work_complete_callback");
    define_callback(FAILED, "@__on_work_fail", "run_work_fail_callback");
    define_callback(EXCEPTED, "@__on_work_exception", "run_work_exception_callback");
    id_abilities = rb_intern("@abilities");
    id_channel_to = rb_intern("channel_to");
    id_job_channel = rb_intern("@channel");
    id_closing = rb_intern("@closing");
    id_completed = rb_intern("completed");
    id_retry_in = rb_intern("retry_in");
    id_connection = rb_intern("@connection");
    id_enabled = rb_intern("@worker_enabled");
    id_handle = rb_intern("@handle");
    id_handle_work_message = rb_intern("handle_work_message");
    id_log_packet = rb_intern("log_packet");
    id_lost = rb_intern("lost");
    id_on_complete = rb_intern("@on_complete");
    id_payload = rb_intern("@payload");
    id_perform = rb_intern("perform");
    id_reraise = rb_intern("@reraise");
    id_retired = rb_intern("@retired");
    id_status = rb_intern("@status");
    id_unique = rb_intern("@unique");
    id_wake_io = rb_intern("@wake_io");
    id_watch_held = rb_intern("watch_held");
    id_wakeups = rb_intern("wakeups");
    id_withdraw = rb_intern("withdraw");
    id_withdrawals = rb_intern("@withdrawals");
    sym_preparing = ID2SYM(rb_intern("preparing"));
    sym_waiting = ID2SYM(rb_intern("waiting"));
    sym_working = ID2SYM(rb_intern("working"));

    VALUE cWorker = rb_define_class_under(gm_mGearman, "Worker", rb_cObject);
    cJob = rb_define_class_under(cWorker, "Job", rb_cObject);
    cFailure = rb_define_class_under(cWorker, "Failure", rb_cObject);
    rb_gc_register_mark_object(cJob);
    rb_gc_register_mark_object(cFailure);
    /*
     * Document-class: Gearman::WorkerLoop
     *
     * The loop of a worker, see worker_loop.c.
     *
     * @api private
     */
    VALUE cWorkerLoop = rb_define_class_under(gm_mGearman, "WorkerLoop", rb_cObject);
    rb_define_alloc_func(cWorkerLoop, loop_allocate);
    rb_undef_method(cWorkerLoop, "initialize_copy");
    rb_define_method(cWorkerLoop, "initialize", loop_initialize, 2);
    rb_define_method(cWorkerLoop, "run", loop_run, 6);
    rb_define_method(cWorkerLoop, "connected?", loop_connected_p, 0);
    rb_define_method(cWorkerLoop, "send_held", loop_send_held, 0);
    rb_define_method(cWorkerLoop, "close", loop_close, 0);
}
