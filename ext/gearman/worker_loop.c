#include "connection.h"
#include "job.h"

#include <string.h>
#include <time.h>

/*
 * Gearman::WorkerLoop: grabs jobs from the servers of one Worker::Loop, runs one at a time and answers. It uses
 * the own channel of each connection. Connecting, registering and what to log are said in Ruby.
 */

#define SECONDS (1000 * GM_MILLISECONDS)

enum { JOBS_PER_TURN = 16, STORM = 3 };

#define TURN (100 * GM_MILLISECONDS)
#define PHASE (100 * GM_MILLISECONDS) /* in which part of a second the loops ask for scheduled jobs */
#define AT_ONCE \
    (5 * GM_MILLISECONDS)          /* a NOOP sooner than that, beside the way there and back, answers the PRE_SLEEP */
#define MAX_BACK_OFF (1 * SECONDS) /* while NOOP and NO_JOB alternate */
#define PROBE (10 * SECONDS)       /* how long a server may be silent, and then take to answer an echo, at most */
#define AWAITED (3 * SECONDS)      /* how long jobs of other servers wait for one that owes an answer */
#define IDLE (10 * SECONDS)        /* how long a turn of the loop may wait */
#define GIVE_BACK (500 * GM_MILLISECONDS)  /* how long stopping waits for the answers to grabs */
#define CONNECTING (100 * GM_MILLISECONDS) /* how often to look for a connection that another thread opens */
#define HOLD (1 * GM_MILLISECONDS)         /* how long an answer may wait for others */
#define SOON (20 * GM_MILLISECONDS)        /* longer than gm_channel_await_shortly takes */
#define LOOK_UP (100 * GM_MILLISECONDS)    /* how often to look whether to stop, while a server owes an answer */

typedef enum {
    AWAKE,  /* may have a job */
    ASLEEP, /* has been told to send a NOOP when there is one */
} server_state;

typedef struct {
    server_state state;
    unsigned owed;   /* answers to grabs that are still to be read */
    unsigned storm;  /* NOOPs in a row that brought no job and came at once */
    bool timed;      /* tells nobody when a scheduled job is due */
    bool looked;     /* was last asked because one may be due: a single grab tells, and no work is expected soon */
    bool connecting; /* another thread connects it, and wakes the loop then */
    gm_deadline asked_at, answer_time, asleep_since, ask_at, not_before, connect_at;
    gm_deadline probed_at; /* when it was last asked for an echo */

    /* Scheduled jobs come last, but for their turn; see take_turns(). */
    bool busy;                      /* its last answer was a job */
    bool scheduled_first;           /* their turn has begun */
    bool scheduled_more;            /* the last job was one of them */
    gm_deadline turn_at, turned_at; /* when their next turn is due, when this one has begun */
} server_entry;

typedef struct {
    VALUE worker;
    VALUE owner;       /* the Worker::Loop */
    VALUE connections; /* Array of Connection, as long as `servers` */
    VALUE channels;    /* Array: the channel of each, nil while it is not connected */
    server_entry *servers;
    long count, current;
    unsigned jobs_in_turn;
    gm_deadline turn_began, network_timeout;
    bool exceptions; /* what a job raised is sent as an exception, not as a warning and a failure */
    bool ours;       /* handle_work_message and handle_job_assign are the library's */
    bool verbose;    /* each job is logged */
    bool once;
    bool attentive;          /* somebody has told it something that may still hold */
    bool scheduled;          /* there are functions of scheduled jobs */
    long due_at;             /* where one was due, so that the other loops are to look, too; -1: nowhere */
    bool has_callbacks;      /* the worker has any of the callbacks below */
    VALUE status;            /* Symbol: what it does */
    VALUE job;               /* the running Job, or nil */
    VALUE answered;          /* a job whose answer was sent, while nothing was heard from its server since; or nil */
    long answered_at;        /* which server that is */
    VALUE func;              /* the function of the last job, or nil */
    VALUE ability;           /* its Ability, nil: not known, or to be looked up again */
    gm_deadline began;       /* when it did; 0: none is running */
    gm_deadline turned;      /* when the loop last went round */
    gm_deadline phase;       /* its part of a second */
    unsigned long long done; /* jobs that were answered */
    unsigned prefetch;       /* jobs that may be running, assigned or asked for at once */

    /* With a prefetch, the answers of quick jobs leave together; see hold(). */
    VALUE held_on;       /* the channel with unsent answers, or nil */
    uint64_t held_start; /* gm_channel_queued before them */
    gm_deadline held_since;
    unsigned held;    /* how many */
    unsigned dropped; /* how many more could not be sent, which is still to be logged */
    bool watched;     /* another thread looks after them */
} worker_loop;

static VALUE cFailure;
static VALUE sym_preparing, sym_waiting, sym_working;
static ID id_abilities, id_changed, id_channel_to, id_closing, id_completed, id_dropped_held, id_empty_pipe, id_enabled,
    id_finish, id_given_back, id_handle_work_message, id_job_dropped, id_job_in_doubt, id_log_packet, id_look_with_all,
    id_looks, id_lost, id_on_complete, id_order, id_payload, id_perform, id_quiet, id_reraise, id_retired, id_retry_in,
    id_scheduled, id_tell_changes, id_timed_p, id_wake_io, id_watch_held;

/* The callbacks of Worker::Callbacks: the variable that holds the block, the method that calls it. */
typedef enum { GRABBED, NOTHING, ASSIGNED, COMPLETED, FAILED, EXCEPTED, CALLBACKS } callback;

static struct {
    ID variable, method;
} callbacks[CALLBACKS];

static void loop_mark(void *data)
{
    worker_loop *loop = data;
    rb_gc_mark_movable(loop->worker);
    rb_gc_mark_movable(loop->owner);
    rb_gc_mark_movable(loop->job);
    rb_gc_mark_movable(loop->answered);
    rb_gc_mark_movable(loop->func);
    rb_gc_mark_movable(loop->ability);
    rb_gc_mark_movable(loop->connections);
    rb_gc_mark_movable(loop->channels);
    rb_gc_mark_movable(loop->held_on);
    rb_gc_mark_movable(loop->status);
}

static void loop_compact(void *data)
{
    worker_loop *loop = data;
    loop->worker = rb_gc_location(loop->worker);
    loop->owner = rb_gc_location(loop->owner);
    loop->job = rb_gc_location(loop->job);
    loop->answered = rb_gc_location(loop->answered);
    loop->func = rb_gc_location(loop->func);
    loop->ability = rb_gc_location(loop->ability);
    loop->connections = rb_gc_location(loop->connections);
    loop->channels = rb_gc_location(loop->channels);
    loop->held_on = rb_gc_location(loop->held_on);
    loop->status = rb_gc_location(loop->status);
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
    loop->worker = loop->owner = loop->job = loop->answered = loop->func = loop->ability = loop->connections =
        loop->channels = loop->held_on = Qnil;
    loop->status = sym_preparing;
    return self;
}

/* call-seq: new(owner, worker, connections) */
static VALUE loop_initialize(VALUE self, VALUE owner, VALUE worker, VALUE connections)
{
    worker_loop *loop = get(self);
    Check_Type(connections, T_ARRAY);
    long count = RARRAY_LEN(connections);
    RB_OBJ_WRITE(self, &loop->owner, owner);
    RB_OBJ_WRITE(self, &loop->worker, worker);
    RB_OBJ_WRITE(self, &loop->connections, rb_ary_dup(connections));
    RB_OBJ_WRITE(self, &loop->channels, rb_ary_new_capa(count));
    if (count) rb_ary_store(loop->channels, count - 1, Qnil);
    xfree(loop->servers);
    loop->servers = ZALLOC_N(server_entry, count);
    loop->count = count;
    loop->due_at = -1;
    loop->turned = gm_now();
    loop->phase = (gm_deadline)(rb_genrand_real() * (double)PHASE) + 20 * GM_MILLISECONDS;
    return self;
}

static VALUE connection_at(worker_loop *loop, long index) { return rb_ary_entry(loop->connections, index); }
static VALUE channel_at(worker_loop *loop, long index) { return rb_ary_entry(loop->channels, index); }

/*
 * What others tell the loop is looked up only behind a wake: each job asks for it several times.
 *
 * call-seq: attend -> nil
 */
static VALUE loop_attend(VALUE self)
{
    get(self)->attentive = true;
    return Qnil;
}

/* call-seq: look(index) -> whether the loop was asleep at that server, which it is to ask for one job now */
static VALUE loop_look(VALUE self, VALUE index)
{
    worker_loop *loop = get(self);
    long i = NUM2LONG(index);
    if (i >= loop->count || loop->servers[i].state != ASLEEP) return Qfalse;
    loop->servers[i].state = AWAKE;
    loop->servers[i].looked = true;
    return Qtrue;
}

/* call-seq: try(index) -> whether that server is to be connected, which is due now */
static VALUE loop_try(VALUE self, VALUE index)
{
    worker_loop *loop = get(self);
    long i = NUM2LONG(index);
    if (i >= loop->count || !NIL_P(channel_at(loop, i))) return Qfalse;
    loop->servers[i].connect_at = 0;
    return Qtrue;
}

static bool stopping(worker_loop *loop)
{
    if (!loop->attentive) return false;
    return !RTEST(rb_ivar_get(loop->worker, id_enabled)) || RTEST(rb_ivar_get(loop->owner, id_closing));
}

/* Whether it grabs no more, and goes on otherwise. */
static bool quiet(worker_loop *loop) { return loop->attentive && RTEST(rb_ivar_get(loop->worker, id_quiet)); }

/* Whether functions were added or removed that a server may not know of. */
static bool changed(worker_loop *loop) { return loop->attentive && RTEST(rb_ivar_get(loop->owner, id_changed)); }

/* Looks up what others have told it. */
static void look_up(worker_loop *loop)
{
    loop->scheduled = RTEST(rb_ivar_get(loop->worker, id_scheduled));
    loop->ability = Qnil;
    loop->has_callbacks = false;
    for (int i = 0; i < CALLBACKS; i++) {
        if (RTEST(rb_ivar_get(loop->worker, callbacks[i].variable))) loop->has_callbacks = true;
    }
    loop->attentive = quiet(loop) || changed(loop) || stopping(loop);
}

GM_HOT static void run_callback(worker_loop *loop, callback which)
{
    if (!loop->has_callbacks && !loop->attentive) return;
    if (RTEST(rb_ivar_get(loop->worker, callbacks[which].variable))) {
        rb_funcall(loop->worker, callbacks[which].method, 0);
    }
}

static void log_packet(worker_loop *loop, long index, const gm_reply *reply)
{
    VALUE type = gm_command_symbol(reply->packet.command), body = gm_reply_body(reply);
    rb_funcall(loop->owner, id_log_packet, 3, connection_at(loop, index), type, body);
}

static bool assigns(const gm_reply *reply)
{
    gm_command command = reply->packet.command;
    return command == GM_JOB_ASSIGN || command == GM_JOB_ASSIGN_UNIQ || command == GM_JOB_ASSIGN_ALL;
}

/* Logs a job that will not be begun: it goes back to its server when the connection is closed. */
static void log_given_back(worker_loop *loop, long index, const gm_reply *reply)
{
    VALUE func = gm_reply_part(reply, 1), handle = gm_reply_part(reply, 0);
    rb_funcall(loop->owner, id_given_back, 3, connection_at(loop, index), func, handle);
}

/* Connects a server that is due and registers with it. */
static void connect(worker_loop *loop, long index)
{
    if (!NIL_P(channel_at(loop, index)) || loop->servers[index].connect_at > gm_now()) return;
    loop->turned = gm_now();
    VALUE channel = rb_funcall(loop->owner, id_channel_to, 1, connection_at(loop, index));
    server_entry *server = &loop->servers[index];
    server->connecting = channel == Qfalse;
    if (!RTEST(channel)) {
        gm_deadline soon = gm_now() + CONNECTING, due = soon;
        if (NIL_P(channel)) due = gm_deadline_in(rb_funcall(loop->owner, id_retry_in, 1, connection_at(loop, index)));
        server->connect_at = due > soon ? due : soon;
        return;
    }
    gm_channel_check(channel);
    rb_ary_store(loop->channels, index, channel);
    VALUE timed = rb_funcall(loop->owner, id_timed_p, 1, connection_at(loop, index));
    *server = (server_entry){.state = AWAKE, .timed = RTEST(timed)};
}

/* Returns how many answers were held back, and are no longer. */
static unsigned nothing_held(worker_loop *loop)
{
    unsigned count = loop->held;
    loop->held_on = Qnil;
    loop->held = 0;
    return count;
}

static void log_dropped(worker_loop *loop, unsigned held)
{
    if (held > 0) rb_funcall(loop->owner, id_dropped_held, 1, UINT2NUM(held));
}

/* The answer went out, but perhaps to a server that was gone already. */
static void log_in_doubt(worker_loop *loop, long index)
{
    VALUE job = loop->answered;
    if (NIL_P(job) || loop->answered_at != index) return;
    loop->answered = Qnil;
    rb_funcall(loop->worker, id_job_in_doubt, 1, job);
}

/*
 * Closes the channel of a server. User code may have closed the worker's channels meanwhile: what is below
 * holds the channel that it serves, which is harmless when closed.
 */
static void lost(worker_loop *loop, long index, VALUE channel, bool silent)
{
    gm_channel_close(channel);
    if (loop->held_on == channel) log_dropped(loop, nothing_held(loop));
    if (channel_at(loop, index) != channel) return;
    VALUE connection = connection_at(loop, index);
    rb_ary_store(loop->channels, index, Qnil);
    VALUE reason = silent ? Qnil : gm_channel_reason(channel);
    loop->servers[index].connect_at = gm_deadline_in(rb_funcall(loop->owner, id_lost, 2, connection, reason));
    log_in_doubt(loop, index);
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
        rb_funcall(loop->owner, id_watch_held, 0);
    }
    return true;
}

/* Sends what was held back. Returns false when the server is lost. */
static bool flush_held(worker_loop *loop, long index, VALUE channel)
{
    if (loop->held_on != channel) return true;
    unsigned count = nothing_held(loop);
    if (flush(loop, index, channel, loop->held_start)) return true;
    log_dropped(loop, count);
    return false;
}

/* Sends what was held back if the socket takes it at once. Returns how many answers were dropped. */
static unsigned send_held(worker_loop *loop)
{
    VALUE channel = loop->held_on;
    unsigned count = nothing_held(loop);
    return NIL_P(channel) || gm_channel_send(channel) == GM_IO_OK ? 0 : count;
}

/* call-seq: send_held -> whether something was held back; sends it when it is time */
static VALUE loop_send_held(VALUE self)
{
    worker_loop *loop = get(self);
    VALUE channel = loop->held_on;
    loop->watched = !NIL_P(channel);
    if (NIL_P(channel)) return Qfalse;
    if (gm_now() - loop->held_since >= HOLD) {
        unsigned count = nothing_held(loop);
        gm_io result = gm_channel_flush(channel, loop->held_start, GM_NEVER, loop->network_timeout, false);
        if (result != GM_IO_OK) log_dropped(loop, count); /* the loop finds the loss out by itself */
    }
    return Qtrue;
}

/* Jobs are scheduled for its full seconds. */
static struct timespec wall_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now;
}

/* The second in which any loop of the worker has last looked for scheduled jobs of each server. */
static VALUE looks(const worker_loop *loop) { return rb_ivar_get(loop->worker, id_looks); }
static VALUE this_second(void) { return LL2NUM(wall_clock().tv_sec); }

static bool grab(worker_loop *loop, long index, VALUE channel)
{
    uint64_t start = gm_channel_queued(channel);
    server_entry *server = &loop->servers[index];
    queue_grabs(loop, index, channel, loop->once || server->scheduled_first || server->looked ? 1 : loop->prefetch);
    if (server->looked) rb_ary_store(looks(loop), index, this_second());
    return flush(loop, index, channel, start);
}

/* This loop's moment in the next second. */
static gm_deadline next_moment(const worker_loop *loop)
{
    gm_deadline wait = loop->phase - wall_clock().tv_nsec;
    return gm_now() + (wait > 0 ? wait : wait + SECONDS);
}

static bool go_to_sleep(worker_loop *loop, long index, VALUE channel)
{
    server_entry *server = &loop->servers[index];
    server->state = ASLEEP;
    server->asleep_since = gm_now();
    gm_channel_set_busy(channel, false);
    server->ask_at = server->timed ? next_moment(loop) : GM_NEVER;
    uint64_t start = gm_channel_queued(channel);
    gm_channel_queue(channel, GM_PRE_SLEEP, NULL, 0, 0);
    return flush(loop, index, channel, start);
}

static bool turn_is_over(worker_loop *loop)
{
    if (loop->count == 1) return false;
    return loop->jobs_in_turn >= JOBS_PER_TURN || gm_now() - loop->turn_began >= TURN;
}

/* Jobs of a function that was added may be waiting, and there is no NOOP for them. */
static void ask_all(worker_loop *loop)
{
    for (long i = 0; i < loop->count; i++) loop->servers[i].state = AWAKE;
}

/* Tells a server of functions that were added or removed, when it can have no job under way for us. */
static void tell_changes(worker_loop *loop, long index)
{
    if (!changed(loop)) return;
    ask_all(loop);
    rb_funcall(loop->owner, id_tell_changes, 1, connection_at(loop, index));
}

/* Running a job */

typedef struct {
    VALUE worker, ability, data, job;
} performance;

GM_HOT static VALUE perform(VALUE data)
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

static void have_others_look(worker_loop *loop)
{
    VALUE index = LONG2NUM(loop->due_at);
    loop->due_at = -1;
    rb_funcall(loop->worker, id_look_with_all, 1, index);
}

typedef struct {
    worker_loop *loop;
    VALUE channel;
    VALUE (*function)(VALUE);
    VALUE data;
    bool returned;
} user_call;

GM_HOT static VALUE run_user(VALUE data)
{
    user_call *call = (user_call *)data;
    if (call->loop->due_at >= 0) have_others_look(call->loop);
    VALUE result = call->function(call->data);
    call->returned = true;
    return result;
}

GM_HOT static VALUE end_user(VALUE data)
{
    const user_call *call = (const user_call *)data;
    if (call->returned) return Qnil;
    rb_funcall(call->loop->worker, id_finish, 0);
    call->loop->dropped += send_held(call->loop); /* the answers of jobs before; logging here could raise */
    gm_channel_close(call->channel);
    return Qnil;
}

/*
 * Calls what runs user code. What it raises leaves the job unanswered: the server gives it to another worker, and not
 * to another loop of this one.
 */
static VALUE call_user(worker_loop *loop, VALUE channel, VALUE (*function)(VALUE), VALUE data)
{
    user_call call = {loop, channel, function, data, false};
    return rb_ensure(run_user, (VALUE)&call, end_user, (VALUE)&call);
}

/* Takes the name of the function of a job, which is mostly that of the job before. */
GM_HOT static void take_function(VALUE self, worker_loop *loop, gm_slice name)
{
    VALUE last = loop->func;
    if (!NIL_P(last) && (size_t)RSTRING_LEN(last) == name.length && !memcmp(RSTRING_PTR(last), name.bytes, name.length))
        return;
    RB_OBJ_WRITE(self, &loop->func,
                 rb_enc_interned_str((const char *)name.bytes, (long)name.length, rb_utf8_encoding()));
    loop->ability = Qnil;
}

/* The Ability of that function, or nil. */
GM_HOT static VALUE current_ability(VALUE self, worker_loop *loop)
{
    if (!NIL_P(loop->ability) && !loop->attentive) return loop->ability;
    VALUE ability = rb_hash_lookup(rb_ivar_get(loop->worker, id_abilities), loop->func);
    if (NIL_P(ability)) ability = rb_hash_lookup(rb_ivar_get(loop->owner, id_retired), loop->func);
    RB_OBJ_WRITE(self, &loop->ability, ability);
    return ability;
}

/* Whether it is time for the other order of functions, which cannot be changed while a job is under way. */
GM_HOT static bool turns(worker_loop *loop, long index)
{
    server_entry *server = &loop->servers[index];
    if (server->scheduled_first) return true;
    return loop->scheduled && server->busy && server->timed && gm_now() >= server->turn_at;
}

/*
 * A server that serves functions in a fixed order would never give out a scheduled job while there are others. So each
 * second these have a turn: of one job at least, and never as long as the others had before the next.
 */
static void take_turns(worker_loop *loop, long index)
{
    server_entry *server = &loop->servers[index];
    if (!turns(loop, index)) return;
    gm_deadline now = gm_now();
    if (server->scheduled_first) {
        if (server->scheduled_more && now - server->turned_at < TURN) return;
        gm_deadline fair = now + (now - server->turned_at), next = next_moment(loop);
        server->turn_at = fair > next ? fair : next;
    } else {
        server->turned_at = now;
    }
    server->scheduled_first = !server->scheduled_first;
    rb_funcall(loop->owner, id_order, 2, connection_at(loop, index), server->scheduled_first ? Qtrue : Qfalse);
}

static bool goes_on(worker_loop *loop, long index)
{
    return !loop->once && !changed(loop) && !stopping(loop) && !quiet(loop) && !turn_is_over(loop) &&
           !turns(loop, index);
}

/* Answers a job and, if the turn goes on, grabs another in the same send. */
static void answer(VALUE self, worker_loop *loop, long index, VALUE channel, gm_command command, VALUE job,
                   VALUE payload, bool last)
{
    bool warn = command == GM_WORK_EXCEPTION && !loop->exceptions;
    if (warn) command = GM_WORK_FAIL;
    run_callback(loop, command == GM_WORK_COMPLETE ? COMPLETED : command == GM_WORK_FAIL ? FAILED : EXCEPTED);
    bool more = !last && goes_on(loop, index);
    if (more) run_callback(loop, GRABBED);
    gm_slice parts[2] = {gm_job_handle_bytes(job)};
    if (command != GM_WORK_FAIL || warn) parts[1] = gm_slice_of(payload);
    uint64_t start = gm_channel_queued(channel);
    if (warn) gm_channel_queue(channel, GM_WORK_WARNING, parts, 2, 0);
    gm_channel_queue(channel, command, parts, command == GM_WORK_FAIL ? 1 : 2, 0);
    loop->done++;
    RB_GC_GUARD(job);
    RB_GC_GUARD(payload);
    if (more) queue_grabs(loop, index, channel, loop->prefetch);
    if (more && loop->prefetch > 1 && hold(self, loop, channel, start)) return;
    if (loop->held_on == channel) {
        flush_held(loop, index, channel);
    } else if (!flush(loop, index, channel, start)) {
        rb_funcall(loop->worker, id_job_dropped, 1, job);
    } else if (more) {
        RB_OBJ_WRITE(self, &loop->answered, job);
        loop->answered_at = index;
    }
}

/* Runs a job in the way of a subclass with a handler of its own. */
static void hand_over(worker_loop *loop, long index, VALUE channel, const gm_reply *reply)
{
    VALUE type = gm_command_symbol(reply->packet.command), body = gm_reply_body(reply);
    message what = {loop->worker, type, body, connection_at(loop, index)};
    run_callback(loop, ASSIGNED);
    call_user(loop, channel, handle_message, (VALUE)&what);
    loop->done++;
    if (!gm_channel_usable(channel)) lost(loop, index, channel, false);
}

/* Runs a job and answers it. */
static void run_job(VALUE self, worker_loop *loop, long index, VALUE channel, const gm_reply *reply)
{
    gm_command command = reply->packet.command;
    take_function(self, loop, reply->parts[1]);
    VALUE data = gm_reply_part(reply, gm_command_find(command)->arguments);
    gm_slice unique = command == GM_JOB_ASSIGN ? (gm_slice){NULL, 0} : reply->parts[2];
    VALUE job = gm_job_new(loop->worker, channel, loop->func, data, reply->parts[0], unique);
    VALUE ability = current_ability(self, loop);
    if (NIL_P(ability) || loop->verbose) log_packet(loop, index, reply);
    run_callback(loop, ASSIGNED);
    VALUE result = Qnil;
    if (!NIL_P(ability)) {
        performance show = {loop->worker, ability, data, job};
        RB_OBJ_WRITE(self, &loop->job, job);
        result = call_user(loop, channel, perform, (VALUE)&show);
    }
    bool complete = RB_TYPE_P(result, T_STRING), exception = rb_obj_class(result) == cFailure;
    VALUE reraise = exception ? rb_ivar_get(result, id_reraise) : Qnil;
    VALUE payload = exception ? rb_ivar_get(result, id_payload) : result;
    if (gm_channel_usable(channel)) {
        answer(self, loop, index, channel,
               complete    ? GM_WORK_COMPLETE
               : exception ? GM_WORK_EXCEPTION
                           : GM_WORK_FAIL,
               job, payload, !NIL_P(reraise));
    } else {
        /* Lost, or this is another process by now: the result has nowhere to go. */
        lost(loop, index, channel, false);
        rb_funcall(loop->worker, id_job_dropped, 1, job);
    }
    if (!NIL_P(reraise)) rb_exc_raise(reraise);
    if (complete && gm_channel_usable(channel) && RTEST(rb_ivar_get(ability, id_on_complete))) {
        rb_funcall(loop->worker, id_completed, 3, ability, result, data);
    }
}

static bool is_scheduled(VALUE self, worker_loop *loop, gm_slice name)
{
    take_function(self, loop, name);
    VALUE ability = current_ability(self, loop);
    return !NIL_P(ability) && RTEST(rb_ivar_get(ability, id_scheduled));
}

/* Takes the job that `reply` assigns. */
static void work(VALUE self, worker_loop *loop, long index, VALUE channel, const gm_reply *reply)
{
    server_entry *server = &loop->servers[index];
    server->state = AWAKE;
    server->storm = 0;
    server->busy = true;
    if (server->looked) loop->due_at = index;
    server->looked = false;
    if (server->scheduled_first) server->scheduled_more = is_scheduled(self, loop, reply->parts[1]);
    loop->jobs_in_turn++;
    gm_channel_set_busy(channel, true);
    loop->status = sym_working;
    loop->began = gm_now();
    if (loop->ours) {
        run_job(self, loop, index, channel, reply);
    } else {
        hand_over(loop, index, channel, reply);
    }
    loop->job = Qnil;
    loop->began = 0;
}

typedef enum { WORKED, DRY, LOST, STOPPED, TIMED_OUT } outcome;

static outcome no_job(worker_loop *loop, long index, VALUE channel, const gm_reply *reply)
{
    VALUE body = loop->ours ? Qnil : gm_reply_body(reply);
    loop->servers[index].state = AWAKE;
    loop->servers[index].busy = loop->servers[index].scheduled_more = false;
    loop->servers[index].answer_time = gm_now() - loop->servers[index].asked_at;
    run_callback(loop, NOTHING);
    if (!loop->ours) {
        message what = {loop->worker, gm_command_symbol(GM_NO_JOB), body, connection_at(loop, index)};
        call_user(loop, channel, handle_message, (VALUE)&what);
    }
    tell_changes(loop, index);
    return go_to_sleep(loop, index, channel) ? DRY : LOST;
}

/* How long a server may take to answer: jobs of others wait meanwhile. */
static gm_deadline patience(worker_loop *loop)
{
    for (long i = 0; i < loop->count; i++) {
        if (i != loop->current && !NIL_P(channel_at(loop, i))) return gm_earlier(loop->network_timeout, AWAITED);
    }
    return loop->network_timeout;
}

/* Asks one server for a job and runs it. */
static outcome serve(VALUE self, worker_loop *loop, long index, gm_deadline deadline)
{
    VALUE channel = channel_at(loop, index);
    gm_deadline now = loop->turned;
    if (loop->servers[index].owed == 0) {
        tell_changes(loop, index);
        take_turns(loop, index);
        run_callback(loop, GRABBED);
        loop->servers[index].asked_at = now = gm_now();
        if (!grab(loop, index, channel)) return LOST;
    }
    gm_deadline allowed = patience(loop), limit = allowed == GM_NEVER ? GM_NEVER : now + allowed;
    for (;;) {
        gm_reply reply;
        gm_io result = gm_channel_next(channel, &reply);
        if (result == GM_IO_AGAIN) {
            /* While the server is still answering grabs, more jobs will come. */
            bool more = loop->held * 2 < loop->prefetch && loop->servers[index].owed > loop->held;
            if (!more && !flush_held(loop, index, channel)) return LOST;
            result = gm_channel_receive(channel, &reply, 1, gm_earlier(limit, now + LOOK_UP));
            if (result == GM_IO_TIMEOUT) now = gm_now();
        }
        if (result == GM_IO_TIMEOUT && now < limit) {
            if (stopping(loop)) return STOPPED;
            if (now < deadline) continue;
            lost(loop, index, channel, true); /* else it might assign a job that nobody takes */
            return TIMED_OUT;
        }
        if (result != GM_IO_OK) {
            lost(loop, index, channel, result == GM_IO_TIMEOUT);
            return LOST;
        }
        if (loop->answered_at == index) loop->answered = Qnil;
        switch (reply.packet.command) {
        case GM_JOB_ASSIGN:
        case GM_JOB_ASSIGN_UNIQ:
        case GM_JOB_ASSIGN_ALL:
            loop->servers[index].owed--;
            if (stopping(loop)) {
                log_given_back(loop, index, &reply);
                return STOPPED;
            }
            work(self, loop, index, channel, &reply);
            return WORKED;
        case GM_NO_JOB:
            if (--loop->servers[index].owed > 0) break;
            return no_job(loop, index, channel, &reply);
        case GM_NOOP:
        case GM_ECHO_RES:
            break; /* the answer to the grab is still to come */
        default:
            log_packet(loop, index, &reply);
        }
        if (stopping(loop)) return STOPPED;
        now = gm_now();
        if (now >= limit || now - LOOK_UP >= deadline) {
            lost(loop, index, channel, true);
            return now >= limit ? LOST : TIMED_OUT;
        }
    }
}

/* Waking and sleeping */

static void woken(worker_loop *loop, long index)
{
    server_entry *server = &loop->servers[index];
    gm_deadline now = gm_now();
    server->state = AWAKE;
    server->looked = false;
    server->storm = now - server->asleep_since < AT_ONCE + server->answer_time ? server->storm + 1 : 0;
    if (server->storm < STORM) return;
    unsigned doublings = server->storm - STORM < 8 ? server->storm - STORM : 8;
    server->not_before = gm_earlier(now + gm_earlier(AT_ONCE << doublings, MAX_BACK_OFF), server->ask_at);
}

/* Takes what was read from a server that owes no answer: a NOOP, or the end of the connection. */
static void take_news(worker_loop *loop, long index, VALUE channel)
{
    gm_reply reply;
    gm_io result;
    while ((result = gm_channel_next(channel, &reply)) == GM_IO_OK) {
        switch (reply.packet.command) {
        case GM_NOOP:
            if (loop->servers[index].state == ASLEEP) woken(loop, index);
            break;
        case GM_ECHO_RES:
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

/* Reads and takes what has come from a server that owes no answer. */
static void listen_to(worker_loop *loop, long index)
{
    VALUE channel = channel_at(loop, index);
    if (NIL_P(channel) || loop->servers[index].owed > 0) return;
    gm_channel_fill(channel);
    take_news(loop, index, channel);
}

/* A busy server wakes its worker soon: then this takes fewer system calls than waiting for the wake pipe, too. */
static bool woken_soon(worker_loop *loop, gm_deadline deadline)
{
    VALUE channel = channel_at(loop, 0);
    if (loop->count > 1 || NIL_P(channel) || loop->servers[0].state != ASLEEP || loop->servers[0].looked ||
        gm_channel_eager(channel)) {
        return false;
    }
    if (gm_earlier(deadline, loop->servers[0].ask_at) - gm_now() < SOON) return false;
    if (gm_channel_await_shortly(channel) == GM_IO_AGAIN) return false;
    take_news(loop, 0, channel);
    return true;
}

/*
 * Finds out whether a silent server is still there: the network may have forgotten the connection. Returns when to look
 * again.
 */
static gm_deadline probe(worker_loop *loop, long index)
{
    VALUE channel = channel_at(loop, index);
    server_entry *server = &loop->servers[index];
    if (NIL_P(channel) || server->owed > 0) return GM_NEVER;
    gm_deadline now = gm_now(), heard = gm_channel_last_heard(channel),
                patience = gm_earlier(loop->network_timeout, PROBE);
    if (server->probed_at > heard) {
        if (now < server->probed_at + patience) return server->probed_at + patience;
        listen_to(loop, index);
        if (server->probed_at > gm_channel_last_heard(channel)) lost(loop, index, channel, true);
        return now;
    }
    if (now - heard < patience) return heard + patience;
    server->probed_at = now;
    uint64_t start = gm_channel_queued(channel);
    gm_channel_queue(channel, GM_ECHO_REQ, &(gm_slice){(const uint8_t *)"", 0}, 1, 0);
    flush(loop, index, channel, start);
    return now + patience;
}

/* Takes what idle servers say, and wakes those that may have scheduled jobs by now: one loop of the worker looks. */
static void look_around(worker_loop *loop)
{
    gm_deadline now = gm_now();
    for (long i = 0; i < loop->count; i++) {
        listen_to(loop, i);
        server_entry *server = &loop->servers[i];
        if (server->state != ASLEEP || now < server->ask_at) continue;
        server->looked = true;
        if (rb_ary_entry(looks(loop), i) == this_second()) {
            server->ask_at = next_moment(loop);
        } else {
            server->state = AWAKE;
        }
    }
}

/* Waits until a server or another thread wakes the loop, or something is due. Returns false at the deadline. */
static bool wait_for_work(worker_loop *loop, gm_deadline deadline)
{
    bool grabs = !quiet(loop);
    if (grabs && woken_soon(loop, deadline)) return true;
    gm_deadline now = gm_now(), until = gm_earlier(deadline, now + IDLE);
    VALUE readers = rb_ary_new_from_args(1, rb_ivar_get(loop->owner, id_wake_io));
    for (long i = 0; i < loop->count; i++) {
        server_entry *server = &loop->servers[i];
        VALUE channel = channel_at(loop, i);
        if (!NIL_P(channel)) {
            if (gm_channel_eager(channel)) listen_to(loop, i);
            until = gm_earlier(until, probe(loop, i));
        }
        if (NIL_P(channel_at(loop, i))) {
            until = gm_earlier(until, server->connect_at);
            continue;
        }
        rb_ary_push(readers, gm_channel_wait_io(channel));
        if (!grabs) continue;
        if (server->state == AWAKE && server->not_before <= now) return true;
        until = gm_earlier(until, server->state == ASLEEP ? server->ask_at : server->not_before);
    }
    if (gm_wait_any(readers, Qnil, until)) {
        rb_funcall(loop->owner, id_empty_pipe, 0);
        for (long i = 0; i < loop->count; i++) {
            if (loop->servers[i].connecting) loop->servers[i].connect_at = 0;
        }
    }
    if (changed(loop)) ask_all(loop);
    look_around(loop);
    return gm_now() < deadline;
}

/* The next server that may have a job; -1 when there is none. */
static long choose(worker_loop *loop)
{
    gm_deadline now = loop->turned;
    for (long i = 0; i < loop->count; i++) connect(loop, i);
    if (!NIL_P(channel_at(loop, loop->current)) && loop->servers[loop->current].owed > 0) {
        return loop->current; /* its answers, which may be jobs, are under way */
    }
    if (quiet(loop)) return -1;
    if (turn_is_over(loop)) {
        loop->current = (loop->current + 1) % loop->count;
        for (long i = 0; i < loop->count; i++) probe(loop, i);
        look_around(loop);
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
 * Reads the answers to grabs that are still to come, so that it is known which jobs go back to their servers when the
 * connections are closed, and that the servers have read all answers to jobs.
 */
static void give_back(worker_loop *loop)
{
    gm_deadline deadline = gm_now() + GIVE_BACK;
    for (long i = 0; i < loop->count; i++) {
        VALUE channel = channel_at(loop, i);
        server_entry *server = &loop->servers[i];
        if (NIL_P(channel) || !flush_held(loop, i, channel)) continue;
        gm_reply reply;
        while (server->owed > 0 && gm_now() < deadline &&
               gm_channel_receive(channel, &reply, 1, deadline) == GM_IO_OK) {
            if (assigns(&reply) || reply.packet.command == GM_NO_JOB) server->owed--;
            if (assigns(&reply)) log_given_back(loop, i, &reply);
        }
    }
}

/*
 * call-seq: run(once, timeout) -> true, false or nil
 *
 * Runs jobs until the worker is to stop and returns false; with `once` one job and returns true, or nil
 * when none came before the time-out.
 */
GM_HOT static VALUE loop_run(VALUE self, VALUE once, VALUE timeout)
{
    worker_loop *loop = get(self);
    gm_deadline deadline = gm_deadline_in(timeout);
    loop->once = RTEST(once);
    loop->watched = false;
    loop->attentive = true;
    loop->job = Qnil;
    loop->began = 0;
    if (loop->count == 0) rb_raise(gm_eNoJobServersError, "no job server is configured");
    for (;;) {
        loop->turned = gm_now();
        if (stopping(loop)) {
            give_back(loop);
            return Qfalse;
        }
        rb_thread_check_ints();
        if (loop->attentive) look_up(loop);
        loop->status = sym_preparing;
        long index = choose(loop);
        if (index >= 0) {
            outcome result = serve(self, loop, index, deadline);
            if (result == WORKED && loop->once) return Qtrue;
            if (result == TIMED_OUT || (result == LOST && deadline <= gm_now())) return Qnil;
            continue;
        }
        loop->status = sym_waiting;
        if (!wait_for_work(loop, deadline) && !stopping(loop)) return Qnil;
    }
}

/* call-seq: configure(network_timeout, prefetch, exceptions, ours, verbose) -> self; what #run goes by */
static VALUE loop_configure(VALUE self, VALUE network_timeout, VALUE prefetch, VALUE exceptions, VALUE ours,
                            VALUE verbose)
{
    worker_loop *loop = get(self);
    loop->network_timeout = gm_interval(network_timeout);
    loop->prefetch = NUM2UINT(prefetch);
    loop->exceptions = RTEST(exceptions);
    loop->ours = RTEST(ours);
    loop->verbose = RTEST(verbose);
    loop->turned = gm_now();
    return self;
}

static VALUE seconds(gm_deadline interval) { return DBL2NUM((double)interval / (double)SECONDS); }

/* call-seq: running -> [Job or nil, seconds since it began]; nil when none is running */
static VALUE loop_running(VALUE self)
{
    worker_loop *loop = get(self);
    return loop->began ? rb_assoc_new(loop->job, seconds(gm_now() - loop->began)) : Qnil;
}

/* call-seq: turned_at -> when the loop last went round, in seconds of the monotonic clock */
static VALUE loop_turned_at(VALUE self) { return seconds(get(self)->turned); }

/* call-seq: status -> :preparing, :working, :waiting, or what it was set to */
static VALUE loop_status(VALUE self) { return get(self)->status; }

/* call-seq: status = status */
static VALUE loop_set_status(VALUE self, VALUE status)
{
    RB_OBJ_WRITE(self, &get(self)->status, status);
    return status;
}

/* call-seq: jobs_done -> how many jobs were answered */
static VALUE loop_jobs_done(VALUE self) { return ULL2NUM(get(self)->done); }

/* call-seq: connected? -> whether any server is */
static VALUE loop_connected_p(VALUE self)
{
    worker_loop *loop = get(self);
    for (long i = 0; i < loop->count; i++) {
        if (!NIL_P(channel_at(loop, i))) return Qtrue;
    }
    return Qfalse;
}

/* Logs the jobs that were read from a channel and not begun. */
static void log_unbegun(worker_loop *loop, long index, VALUE channel)
{
    gm_reply reply;
    while (gm_channel_next(channel, &reply) == GM_IO_OK) {
        if (assigns(&reply)) log_given_back(loop, index, &reply);
    }
}

/* call-seq: close -> nil; closes the channels, so that the servers hand out again what was not answered */
static VALUE loop_close(VALUE self)
{
    worker_loop *loop = get(self);
    unsigned dropped = loop->dropped + send_held(loop);
    loop->dropped = 0;
    VALUE channels = rb_ary_dup(loop->channels);
    for (long i = 0; i < loop->count; i++) {
        if (NIL_P(channel_at(loop, i))) continue;
        gm_channel_close(channel_at(loop, i));
        rb_ary_store(loop->channels, i, Qnil);
        loop->servers[i] = (server_entry){.state = AWAKE};
    }
    log_dropped(loop, dropped);
    for (long i = 0; i < loop->count; i++) {
        VALUE channel = rb_ary_entry(channels, i);
        if (!NIL_P(channel)) log_unbegun(loop, i, channel);
    }
    RB_GC_GUARD(channels);
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
    id_changed = rb_intern("@changed");
    id_closing = rb_intern("@closing");
    id_completed = rb_intern("completed");
    id_job_dropped = rb_intern("job_dropped");
    id_job_in_doubt = rb_intern("job_in_doubt");
    id_dropped_held = rb_intern("dropped_held");
    id_empty_pipe = rb_intern("empty_pipe");
    id_finish = rb_intern("finish");
    id_given_back = rb_intern("given_back");
    id_quiet = rb_intern("@quiet");
    id_retry_in = rb_intern("retry_in");
    id_tell_changes = rb_intern("tell_changes");
    id_timed_p = rb_intern("timed?");
    id_enabled = rb_intern("@worker_enabled");
    id_handle_work_message = rb_intern("handle_work_message");
    id_log_packet = rb_intern("log_packet");
    id_lost = rb_intern("lost");
    id_on_complete = rb_intern("@on_complete");
    id_order = rb_intern("order");
    id_payload = rb_intern("@payload");
    id_perform = rb_intern("perform");
    id_reraise = rb_intern("@reraise");
    id_retired = rb_intern("@retired");
    id_scheduled = rb_intern("@scheduled");
    id_look_with_all = rb_intern("look_with_all");
    id_looks = rb_intern("@__looks");
    id_wake_io = rb_intern("@wake_io");
    id_watch_held = rb_intern("watch_held");
    sym_preparing = ID2SYM(rb_intern("preparing"));
    sym_waiting = ID2SYM(rb_intern("waiting"));
    sym_working = ID2SYM(rb_intern("working"));

    VALUE cWorker = rb_define_class_under(gm_mGearman, "Worker", rb_cObject);
    cFailure = rb_define_class_under(cWorker, "Failure", rb_cObject);
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
    rb_define_method(cWorkerLoop, "initialize", loop_initialize, 3);
    rb_define_method(cWorkerLoop, "configure", loop_configure, 5);
    rb_define_method(cWorkerLoop, "run", loop_run, 2);
    rb_define_method(cWorkerLoop, "attend", loop_attend, 0);
    rb_define_method(cWorkerLoop, "look", loop_look, 1);
    rb_define_method(cWorkerLoop, "try", loop_try, 1);
    rb_define_method(cWorkerLoop, "running", loop_running, 0);
    rb_define_method(cWorkerLoop, "turned_at", loop_turned_at, 0);
    rb_define_method(cWorkerLoop, "status", loop_status, 0);
    rb_define_method(cWorkerLoop, "status=", loop_set_status, 1);
    rb_define_method(cWorkerLoop, "jobs_done", loop_jobs_done, 0);
    rb_define_method(cWorkerLoop, "connected?", loop_connected_p, 0);
    rb_define_method(cWorkerLoop, "send_held", loop_send_held, 0);
    rb_define_method(cWorkerLoop, "close", loop_close, 0);
}
