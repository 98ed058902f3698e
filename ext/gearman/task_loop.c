#include "task_loop.h"

#include "connection.h"
#include "task.h"

/*
 * Gearman::TaskLoop: many tasks in flight over many servers. Ruby submits tasks to it and asks it to run;
 * what happened to them comes back as a batch of events, so no callback is called from here.
 */

enum {
    EVENTS_PER_BATCH = 256,
    EVENT_SIZE = 4,
    /*
     * How much is worth a wake. A server sends no more than ten small packets that were not acknowledged, and the
     * kernel acknowledges them when they are read.
     */
    COLLECTED_PACKETS = 8,
    COLLECTED_BYTES = 1024,
    /* After how many waits results are collected again that did not come together, the first time and at most. */
    SINGLY = 64,
    MAX_SINGLY = 65536,
    /* How often what has come is read before a server is found to be late: there may be no end to it. */
    LATE_READS = 1024,
};

/* A task in flight. */
typedef struct {
    bool open;
    bool plain;        /* nobody wants to hear of its JOB_CREATED */
    bool created;      /* the server has answered its submission */
    uint8_t unknown;   /* how often the server said that it does not know its job */
    uint32_t index;    /* of the server it is on */
    uint64_t start;    /* gm_channel_queued before its submission */
    gm_deadline since; /* when it was submitted, or something was heard of it */
} task_slot;

/* A server that tasks went to, and the channel leased from it. */
typedef struct {
    VALUE connection;
    VALUE channel;      /* nil: none, or lost */
    gm_lease *lease;    /* of that channel, so that freeing the loop ends it */
    gm_deadline asked;  /* when the server was last asked after a task */
    gm_deadline since;  /* when a task was last submitted to it */
    gm_deadline looked; /* when it was last looked whether the server has closed the channel */
    uint32_t open;      /* how many tasks are in flight on it */
    bool full;          /* a task was left for when there is room */
} server_line;

typedef struct {
    VALUE tasks;     /* Array: slot => task */
    VALUE events;    /* Array: what run() returns, and the caller empties */
    bool bulk;       /* background tasks note their handles, which is no event */
    bool noted;      /* whether any has done so since run() returned */
    uint32_t most;   /* how many tasks may be in flight on a line */
    uint64_t window; /* how many bytes may be unsent on a line before a task has to wait */
    server_line *lines;
    uint32_t line_count;
    task_slot *slots;
    uint32_t slot_count, slot_capacity, open_count;
    uint32_t created_count; /* of those that are open */
    /* Collecting results, see await_only(). */
    uint64_t packets, packet_bytes; /* that came since the last wait, but for the data of large ones */
    unsigned singly, penalty;       /* how many waits are to come until then; how many the next time */
    uint32_t *vacant;               /* slots that ended */
    uint32_t vacant_count;
    gm_deadline patience;       /* how long a server may be silent until it is asked after a task */
    gm_deadline create_timeout; /* how long it may take to answer a submission */
    gm_deadline look_at;        /* when to look after the servers again */
    gm_deadline late_at;        /* when one of them may be late with the answer to a submission */
} task_loop;

static VALUE cTaskLoop;
static VALUE sym_lost, sym_unsent;

static void loop_mark(void *data)
{
    task_loop *loop = data;
    rb_gc_mark_movable(loop->tasks);
    rb_gc_mark_movable(loop->events);
    for (uint32_t i = 0; i < loop->line_count; i++) {
        rb_gc_mark_movable(loop->lines[i].connection);
        rb_gc_mark_movable(loop->lines[i].channel);
    }
}

static void loop_compact(void *data)
{
    task_loop *loop = data;
    loop->tasks = rb_gc_location(loop->tasks);
    loop->events = rb_gc_location(loop->events);
    for (uint32_t i = 0; i < loop->line_count; i++) {
        loop->lines[i].connection = rb_gc_location(loop->lines[i].connection);
        loop->lines[i].channel = rb_gc_location(loop->lines[i].channel);
    }
}

static void end_lease(server_line *line)
{
    if (!line->lease) return;
    line->lease->taken = false;
    gm_lease_release(line->lease);
    line->lease = NULL;
}

static void loop_free(void *data)
{
    task_loop *loop = data;
    for (uint32_t i = 0; i < loop->line_count; i++) end_lease(&loop->lines[i]);
    xfree(loop->lines);
    xfree(loop->slots);
    xfree(loop->vacant);
    xfree(loop);
}

static size_t loop_size(const void *data)
{
    const task_loop *loop = data;
    return sizeof(*loop) + loop->slot_capacity * (sizeof(task_slot) + sizeof(uint32_t)) +
           loop->line_count * sizeof(server_line);
}

/* Not THREAD_SAFE_FREE: the count of a lease's references is not atomic. */
static const rb_data_type_t loop_type = {
    .wrap_struct_name = "Gearman::TaskLoop",
    .function = {.dmark = loop_mark, .dfree = loop_free, .dsize = loop_size, .dcompact = loop_compact},
    .flags = RUBY_TYPED_FREE_IMMEDIATELY | RUBY_TYPED_WB_PROTECTED,
};

static task_loop *get(VALUE self)
{
    task_loop *loop;
    TypedData_Get_Struct(self, task_loop, &loop_type, loop);
    return loop;
}

/*
 * call-seq: new(patience, create_timeout, bulk = nil)
 *
 * patience: seconds that a server may be silent until it is asked after a task, and again until it is lost.
 * create_timeout: seconds that it may take to answer a submission until it is lost; nil: for ever.
 * bulk: how many tasks a server may have in flight, where it is no event that a background task was submitted and the
 * task can note its handle by itself; nil: as many as there are, and it is one.
 */
static VALUE loop_initialize(int argc, VALUE *argv, VALUE self)
{
    VALUE patience, create_timeout, bulk;
    rb_scan_args(argc, argv, "21", &patience, &create_timeout, &bulk);
    task_loop *loop = get(self);
    loop->patience = gm_interval(patience);
    loop->create_timeout = gm_interval(create_timeout);
    loop->bulk = !NIL_P(bulk);
    if (loop->bulk) loop->most = NUM2UINT(bulk);
    return self;
}

static VALUE loop_allocate(VALUE klass)
{
    task_loop *loop;
    VALUE self = TypedData_Make_Struct(klass, task_loop, &loop_type, loop);
    loop->tasks = loop->events = Qnil;
    loop->patience = loop->create_timeout = loop->look_at = loop->late_at = GM_NEVER;
    loop->penalty = SINGLY;
    loop->most = UINT32_MAX;
    RB_OBJ_WRITE(self, &loop->tasks, rb_ary_new());
    RB_OBJ_WRITE(self, &loop->events, rb_ary_new());
    return self;
}

/* The index of a connection, which is known from then on. */
static uint32_t index_of(VALUE self, task_loop *loop, VALUE connection)
{
    for (uint32_t i = 0; i < loop->line_count; i++) {
        if (loop->lines[i].connection == connection) return i;
    }
    REALLOC_N(loop->lines, server_line, loop->line_count + 1);
    loop->lines[loop->line_count] = (server_line){.connection = Qnil, .channel = Qnil};
    RB_OBJ_WRITE(self, &loop->lines[loop->line_count].connection, connection);
    return loop->line_count++;
}

static void keep_lease(VALUE self, server_line *line, VALUE channel)
{
    RB_OBJ_WRITE(self, &line->channel, channel);
    line->looked = gm_now();
    line->asked = 0;
    line->lease = gm_channel_lease(channel);
    line->lease->references++;
}

static VALUE leased_channel(VALUE self, task_loop *loop, uint32_t index, gm_deadline deadline)
{
    if (!NIL_P(loop->lines[index].channel)) return loop->lines[index].channel;
    VALUE channel = gm_connection_lease(loop->lines[index].connection, deadline);
    keep_lease(self, &loop->lines[index], channel);
    return channel;
}

/* A slot that is free, and stays so until take_slot. */
static uint32_t vacant_slot(task_loop *loop)
{
    if (loop->vacant_count) return loop->vacant[loop->vacant_count - 1];
    if (loop->slot_count == loop->slot_capacity) {
        uint32_t capacity = loop->slot_capacity ? loop->slot_capacity * 2 : 4;
        REALLOC_N(loop->slots, task_slot, capacity);
        REALLOC_N(loop->vacant, uint32_t, capacity);
        loop->slot_capacity = capacity;
    }
    return loop->slot_count;
}

static void take_slot(task_loop *loop, uint32_t slot)
{
    if (slot == loop->slot_count) {
        loop->slot_count++;
    } else {
        loop->vacant_count--;
    }
    loop->open_count++;
}

/* Puts a task that was queued on the channel of a line into a slot. */
static void fill_slot(task_loop *loop, uint32_t slot, VALUE task, task_slot what)
{
    take_slot(loop, slot);
    loop->slots[slot] = what;
    loop->lines[what.index].open++;
    loop->lines[what.index].since = what.since;
    if (what.created) loop->created_count++;
    if (loop->create_timeout != GM_NEVER) loop->late_at = gm_earlier(loop->late_at, what.since + loop->create_timeout);
    if (loop->patience != GM_NEVER) loop->look_at = gm_earlier(loop->look_at, what.since + loop->patience);
    loop->look_at = gm_earlier(loop->look_at, loop->late_at);
    rb_ary_store(loop->tasks, slot, task);
}

static void close_slot(task_loop *loop, uint32_t slot)
{
    if (loop->slots[slot].created) loop->created_count--;
    loop->slots[slot].open = false;
    loop->lines[loop->slots[slot].index].open--;
    loop->vacant[loop->vacant_count++] = slot;
    loop->open_count--;
    rb_ary_store(loop->tasks, slot, Qnil);
}

/* How many bytes are queued on a line and not sent yet. */
static uint64_t unsent(const server_line *line)
{
    return NIL_P(line->channel) ? 0 : gm_channel_queued(line->channel) - gm_channel_sent(line->channel);
}

static bool has_room(const task_loop *loop, const server_line *line)
{
    return line->open < loop->most && unsent(line) < loop->window;
}

/* Whether there is room again on a line that was full. That is said once. */
static bool room_again(task_loop *loop)
{
    bool again = false;
    for (uint32_t i = 0; i < loop->line_count; i++) {
        if (!loop->lines[i].full || !has_room(loop, &loop->lines[i])) continue;
        loop->lines[i].full = false;
        again = true;
    }
    return again;
}

/* Queues the first of the tasks and takes it out of the Array. */
static void submit_first(VALUE self, task_loop *loop, uint32_t index, VALUE tasks, gm_deadline deadline)
{
    VALUE task = rb_ary_entry(tasks, 0);
    gm_task read;
    gm_task_read(task, &read);
    VALUE channel = leased_channel(self, loop, index, deadline);
    uint32_t slot = vacant_slot(loop);
    gm_slice parts[GM_MAX_ARGUMENTS];
    size_t count = gm_task_parts(&read, parts);
    uint64_t start = gm_channel_queued(channel);
    gm_channel_queue(channel, read.command, parts, count, slot);
    GM_TASK_GUARD(read);
    task_slot what = {.open = true, .plain = gm_task_plain(task), .index = index, .start = start, .since = gm_now()};
    fill_slot(loop, slot, task, what);
    rb_ary_shift(tasks); /* an interrupt leaves it at one place or the other */
}

static bool take_replies(task_loop *loop, VALUE events, uint32_t index, long room);

/*
 * A channel that was silent for a while may have been closed meanwhile. What came before is taken, then its tasks have
 * ended and the line has none: those that are still to be submitted are not to share their fate.
 */
static void look_at_line(task_loop *loop, uint32_t index)
{
    server_line *line = &loop->lines[index];
    if (NIL_P(line->channel)) return;
    gm_deadline now = gm_now(), heard = gm_channel_last_heard(line->channel);
    if (now - (heard > line->looked ? heard : line->looked) < GM_LOOKED_AT_AFTER) return;
    line->looked = now;
    if (!gm_channel_look(line->channel)) take_replies(loop, loop->events, index, LONG_MAX);
}

/*
 * call-seq: submit(connection, tasks, timeout, window, all) -> whether there was room
 *
 * Queues the first of the tasks for the server and takes it out of the Array, and so on with those behind it where
 * `all` are for the same, while less than `window` bytes for it are unsent; they leave when the loop runs, if not
 * before. Raises InvalidArgsError for what cannot be sent, ServerDownException when the server cannot be reached: the
 * task is the first of the Array still then.
 */
static VALUE loop_submit(VALUE self, VALUE connection, VALUE tasks, VALUE timeout, VALUE window, VALUE all)
{
    task_loop *loop = get(self);
    gm_deadline deadline = gm_deadline_in(timeout);
    uint32_t index = index_of(self, loop, connection);
    bool any = false;
    loop->window = NUM2ULL(window);
    look_at_line(loop, index);
    while (RARRAY_LEN(tasks) > 0 && (!any || RTEST(all))) {
        loop->lines[index].full = !has_room(loop, &loop->lines[index]);
        if (loop->lines[index].full) break;
        submit_first(self, loop, index, tasks, deadline);
        any = true;
    }
    return any ? Qtrue : Qfalse;
}

/* call-seq: open -> how many tasks are in flight */
static VALUE loop_open(VALUE self) { return UINT2NUM(get(self)->open_count); }

/* call-seq: over? -> whether no task is in flight, and there is no event */
static VALUE loop_over_p(VALUE self)
{
    task_loop *loop = get(self);
    return loop->open_count == 0 && RARRAY_LEN(loop->events) == 0 ? Qtrue : Qfalse;
}

/* call-seq: unsent -> how many bytes are queued and not sent yet */
static VALUE loop_unsent(VALUE self)
{
    task_loop *loop = get(self);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < loop->line_count; i++) bytes += unsent(&loop->lines[i]);
    return ULL2NUM(bytes);
}

static void push_event(VALUE events, VALUE type, VALUE task, VALUE one, VALUE other)
{
    VALUE event[EVENT_SIZE] = {type, task, one, other};
    rb_ary_cat(events, event, EVENT_SIZE);
}

/*
 * Asks a server after one of its tasks. That shows whether the connection is alive, makes gearmand let go of a result
 * that it kept back, and finds jobs that ended without a word.
 */
static void ask_after(server_line *line, gm_slice handle, uint32_t slot)
{
    line->asked = gm_now();
    if (handle.length > 0 && handle.length <= GM_MAX_HANDLE_SIZE) {
        gm_channel_queue(line->channel, GM_GET_STATUS, &handle, 1, slot);
    } else {
        gm_slice nothing = {(const uint8_t *)"", 0};
        gm_channel_queue(line->channel, GM_ECHO_REQ, &nothing, 1, slot);
    }
}

/* Asks after the task of which nothing was heard for the longest time. */
static void ask_after_quietest(server_line *line)
{
    uint32_t slot;
    gm_slice handle = gm_replies_quietest(gm_channel_replies(line->channel), &slot);
    gm_replies_pass(gm_channel_replies(line->channel));
    ask_after(line, handle, slot);
}

/* A job that the server does not know, twice, behind all that it had to say, has ended without telling how. */
static void add_status(task_loop *loop, VALUE events, uint32_t slot, const gm_reply *reply)
{
    server_line *line = &loop->lines[loop->slots[slot].index];
    gm_replies *replies = gm_channel_replies(line->channel);
    gm_slice handle = reply->parts[0], known = reply->parts[1];
    if (!gm_replies_waits(replies, handle, slot)) return; /* the task that was asked after has ended */
    if (known.length != 1 || known.bytes[0] != '0') {
        loop->slots[slot].unknown = 0;
        loop->slots[slot].since = gm_channel_last_heard(line->channel);
        return;
    }
    if (++loop->slots[slot].unknown < 2) {
        ask_after(line, handle, slot);
        return;
    }
    VALUE reason = rb_sprintf("%" PRIsVALUE " does not know the job %" PRIsVALUE " any more",
                              gm_channel_peer(line->channel), gm_str_new(handle));
    push_event(events, sym_lost, rb_ary_entry(loop->tasks, slot), reason, Qnil);
    gm_replies_forget(replies, handle, slot);
    close_slot(loop, slot);
    gm_replies_quietest(replies, &slot);
    if (slot != GM_NOBODY) ask_after_quietest(line); /* what befell one job may have befallen others */
}

/* Turns a reply into an event of the task it is for. */
static void add_reply(task_loop *loop, VALUE events, const gm_reply *reply)
{
    uint32_t slot = reply->slot;
    if (slot == GM_NOBODY || slot >= loop->slot_count || !loop->slots[slot].open) return;
    gm_command command = reply->packet.command;
    VALUE task = rb_ary_entry(loop->tasks, slot);
    VALUE one = Qnil, other = Qnil;
    bool ends = false;
    if (command != GM_STATUS_RES) {
        loop->slots[slot].since = gm_channel_last_heard(loop->lines[loop->slots[slot].index].channel);
    }
    switch (command) {
    case GM_JOB_CREATED:
        if (!loop->slots[slot].created) loop->created_count++;
        loop->slots[slot].created = true;
        ends = gm_is_background(reply->request);
        if (loop->slots[slot].plain && !ends) return;
        if (loop->bulk && ends && gm_task_note_handle(task, reply->parts[0])) {
            loop->noted = true;
            close_slot(loop, slot);
            return;
        }
        one = gm_reply_part(reply, 0);
        break;
    case GM_WORK_COMPLETE:
    case GM_WORK_EXCEPTION:
        ends = true;
        /* fall through */
    case GM_WORK_DATA:
    case GM_WORK_WARNING:
        one = gm_reply_part(reply, 1);
        break;
    case GM_WORK_STATUS:
    case GM_ERROR:
        ends = command == GM_ERROR;
        one = gm_reply_part(reply, command == GM_ERROR ? 0 : 1);
        other = gm_reply_part(reply, command == GM_ERROR ? 1 : 2);
        break;
    case GM_WORK_FAIL:
        ends = true;
        break;
    case GM_STATUS_RES:
        add_status(loop, events, slot, reply);
        return;
    default:
        return;
    }
    push_event(events, gm_command_symbol(command), task, one, other);
    if (ends) close_slot(loop, slot);
}

/* The tasks on a closed channel: those that were never sent, and those nobody knows anything of. */
static void add_lost(task_loop *loop, VALUE events, uint32_t index)
{
    VALUE channel = loop->lines[index].channel;
    VALUE reason = gm_channel_reason(channel);
    for (uint32_t slot = 0; slot < loop->slot_count; slot++) {
        if (!loop->slots[slot].open || loop->slots[slot].index != index) continue;
        bool unsent = loop->slots[slot].start >= gm_channel_sent(channel);
        push_event(events, unsent ? sym_unsent : sym_lost, rb_ary_entry(loop->tasks, slot), reason,
                   loop->lines[index].connection);
        close_slot(loop, slot);
    }
    loop->lines[index].channel = Qnil;
    end_lease(&loop->lines[index]);
}

/*
 * Turns the replies on a line into events, until there is none or there are as many events as there is room for.
 * Returns whether to go on behind the events.
 */
static bool take_replies(task_loop *loop, VALUE events, uint32_t index, long room)
{
    VALUE channel = loop->lines[index].channel;
    gm_reply reply;
    gm_io result;
    while ((result = gm_channel_next(channel, &reply)) == GM_IO_OK) {
        add_reply(loop, events, &reply);
        loop->packets++;
        loop->packet_bytes += GM_HEADER_SIZE + reply.packet.body.length;
        if (RARRAY_LEN(events) >= room) return true;
    }
    if (result == GM_IO_CLOSED) add_lost(loop, events, index);
    return false;
}

/*
 * Sends what can be sent and takes what came, until there is nothing to take or the batch is full. Returns
 * whether to do so again before waiting.
 */
static bool turn(task_loop *loop, VALUE events)
{
    bool again = false;
    for (uint32_t i = 0; i < loop->line_count; i++) {
        VALUE channel = loop->lines[i].channel;
        if (NIL_P(channel)) continue;
        gm_channel_send(channel);
        if (gm_channel_eager(channel) && gm_channel_fill(channel) == GM_IO_OK) again = true;
        if (take_replies(loop, events, i, EVENTS_PER_BATCH * EVENT_SIZE)) return true;
    }
    return again;
}

/* Reads what has come while nobody looked. Returns whether there was anything. */
static bool read_all(task_loop *loop)
{
    bool any = false;
    for (uint32_t i = 0; i < loop->line_count; i++) {
        VALUE channel = loop->lines[i].channel;
        if (!NIL_P(channel) && gm_channel_fill(channel) == GM_IO_OK) any = true;
    }
    return any;
}

/* Gives servers up that have not answered a submission in time. */
static void give_up_late(task_loop *loop, gm_deadline now)
{
    if (loop->late_at > now) return;
    loop->late_at = GM_NEVER;
    for (uint32_t slot = 0; slot < loop->slot_count; slot++) {
        task_slot *task = &loop->slots[slot];
        VALUE channel = task->open ? loop->lines[task->index].channel : Qnil;
        if (task->created || NIL_P(channel) || !gm_channel_usable(channel)) continue;
        if (task->start >= gm_channel_sent(channel)) task->since = now; /* it is not the server that is late */
        if (now - task->since >= loop->create_timeout) {
            gm_channel_give_up(channel);
        } else {
            loop->late_at = gm_earlier(loop->late_at, task->since + loop->create_timeout);
        }
    }
}

/*
 * Gives a server up that has said nothing since it was asked, or asks it after a task of which nothing was heard for so
 * long. Returns when to look again.
 */
static gm_deadline look_after_line(task_loop *loop, server_line *line, gm_deadline now)
{
    if (NIL_P(line->channel) || line->open == 0 || loop->patience == GM_NEVER) return GM_NEVER;
    gm_deadline heard = gm_channel_last_heard(line->channel);
    if (line->asked > heard && now - line->asked >= loop->patience) gm_channel_give_up(line->channel);
    if (!gm_channel_usable(line->channel)) return GM_NEVER;
    uint32_t slot;
    gm_replies_quietest(gm_channel_replies(line->channel), &slot);
    /* Without a job that it has taken, what counts is whether it is there at all. */
    gm_deadline quiet_since = slot == GM_NOBODY ? line->since : loop->slots[slot].since;
    if (slot == GM_NOBODY && heard > quiet_since) quiet_since = heard;
    if (line->asked > quiet_since) quiet_since = line->asked;
    if (now - quiet_since >= loop->patience) {
        ask_after_quietest(line);
        quiet_since = now;
    }
    return quiet_since + loop->patience;
}

/* Looks after the servers and says when to do so again. */
static void look_after(task_loop *loop)
{
    gm_deadline now = gm_now();
    give_up_late(loop, now);
    loop->look_at = loop->late_at;
    for (uint32_t i = 0; i < loop->line_count; i++) {
        loop->look_at = gm_earlier(loop->look_at, look_after_line(loop, &loop->lines[i], now));
    }
}

typedef struct {
    task_loop *loop;
    VALUE readers, writers;
    gm_deadline deadline;
    bool ready;
} waiting;

static VALUE wait_on_all(VALUE data)
{
    waiting *what = (waiting *)data;
    what->ready = gm_wait_any(what->readers, what->writers, what->deadline);
    return Qnil;
}

static VALUE waited_on_all(VALUE data)
{
    const task_loop *loop = ((waiting *)data)->loop;
    for (uint32_t i = 0; i < loop->line_count; i++) {
        if (!NIL_P(loop->lines[i].channel)) gm_channel_waited(loop->lines[i].channel);
    }
    return Qnil;
}

/* How many bytes of results are worth a wake: no more than half of what is owed, if they are like the last ones. */
static size_t collectable(task_loop *loop, VALUE channel)
{
    size_t owed = loop->created_count * gm_channel_reply_size(channel);
    size_t last = loop->packets ? loop->packet_bytes / loop->packets * COLLECTED_PACKETS : 1;
    size_t bytes = last < COLLECTED_BYTES ? last : COLLECTED_BYTES;
    loop->packets = loop->packet_bytes = 0;
    if (loop->created_count < 2) return 1;
    if (loop->singly == 0) return bytes < owed / 2 ? bytes : owed / 2;
    loop->singly--;
    return 1;
}

/* Waits for the only channel and reads. Results of quick jobs are collected, unless others keep them waiting. */
static bool await_only(task_loop *loop, VALUE channel, gm_deadline deadline)
{
    size_t collect = collectable(loop, channel);
    gm_deadline began = gm_now();
    bool heard = gm_channel_await(channel, collect, deadline) != GM_IO_TIMEOUT;
    if (collect > 1 && gm_now() - began > 2 * GM_MILLISECONDS) {
        loop->singly = loop->penalty;
        if (loop->penalty < MAX_SINGLY) loop->penalty *= 2;
    }
    return heard;
}

/* Waits for any channel and reads. Returns false when the deadline passed. */
static bool await(task_loop *loop, gm_deadline deadline)
{
    VALUE only = Qnil;
    uint32_t channels = 0;
    for (uint32_t i = 0; i < loop->line_count; i++) {
        VALUE channel = loop->lines[i].channel;
        if (NIL_P(channel)) continue;
        channels++;
        only = channel;
    }
    if (channels == 1) return await_only(loop, only, deadline);
    waiting what = {loop, rb_ary_new_capa((long)channels), rb_ary_new(), deadline, false};
    for (uint32_t i = 0; i < loop->line_count; i++) {
        VALUE channel = loop->lines[i].channel;
        if (NIL_P(channel)) continue;
        if (!gm_channel_usable(channel)) return true;
        int events = gm_channel_events(channel);
        if (events & RUBY_IO_READABLE) rb_ary_push(what.readers, gm_channel_wait_io(channel));
        if (events & RUBY_IO_WRITABLE) rb_ary_push(what.writers, gm_channel_wait_io(channel));
    }
    for (uint32_t i = 0; i < loop->line_count; i++) {
        if (!NIL_P(loop->lines[i].channel)) gm_channel_waits(loop->lines[i].channel);
    }
    rb_ensure(wait_on_all, (VALUE)&what, waited_on_all, (VALUE)&what);
    RB_GC_GUARD(what.readers);
    RB_GC_GUARD(what.writers);
    if (!what.ready) return false;
    read_all(loop);
    return true;
}

/*
 * call-seq: run(timeout, room = false) -> Array or nil
 *
 * Sends and receives until something happened to a task, or, with `room`, a server has room again that had none when a
 * task was to be submitted. Returns the events one
 * behind the other, each as four elements: what happened (the Symbol of a packet; :unsent or :lost when the connection
 * was lost, or the server does not know the job any more), the task, and up to two values that came with it. Returns
 * nil when the time-out passed, an empty Array when no task is in flight, there is room or a task has ended that is no
 * event. Whoever is through with the events empties the Array: until then, also where an interrupt kept it from him,
 * they are what happened.
 */
static VALUE loop_run(int argc, VALUE *argv, VALUE self)
{
    VALUE timeout, room;
    rb_scan_args(argc, argv, "11", &timeout, &room);
    task_loop *loop = get(self);
    gm_deadline deadline = gm_deadline_in(timeout);
    if (RARRAY_LEN(loop->events) > 0) return loop->events;
    int reads = 0;
    for (;;) {
        bool again = turn(loop, loop->events);
        if (RARRAY_LEN(loop->events) > 0 || loop->noted || loop->open_count == 0 || (RTEST(room) && room_again(loop))) {
            loop->noted = false;
            return loop->events;
        }
        rb_thread_check_ints();
        if (loop->look_at <= gm_now()) {
            if (reads++ < LATE_READS && read_all(loop)) continue;
            look_after(loop);
            reads = 0;
            continue;
        }
        bool waited = again || await(loop, gm_earlier(deadline, loop->look_at));
        if ((again || !waited) && deadline <= gm_now()) return Qnil;
    }
}

gm_lone_task gm_lone_task_of(VALUE task, VALUE pool, gm_deadline deadline)
{
    gm_lone_task lone = {.task = task, .pool = pool, .deadline = deadline};
    lone.result = lone.loop = lone.connection = lone.channel = Qnil;
    return lone;
}

/* Waits for the result of the task, until anything else happens. */
GM_HOT static void await_result(gm_lone_task *lone)
{
    /* A quick job's result follows its JOB_CREATED at once: one wake for both, unless that is there already. */
    size_t collect = 1;
    bool quick = lone->plain && !gm_channel_eager(lone->channel);
    if (quick && gm_channel_fill(lone->channel) == GM_IO_AGAIN) collect = gm_channel_reply_size(lone->channel) + 1;
    while (gm_channel_receive_own(lone->channel, &lone->reply, collect, lone->limit) == GM_IO_OK) {
        gm_command command = lone->reply.packet.command;
        if (command == GM_JOB_CREATED && lone->plain && !gm_is_background(lone->reply.request)) {
            lone->created = true;
            collect = 1;
            continue;
        }
        if (command == GM_WORK_COMPLETE) {
            lone->result = gm_reply_part(&lone->reply, 1);
            lone->open = false;
        } else {
            lone->replied = true;
        }
        break;
    }
}

GM_HOT static void release_alone(gm_lone_task *lone)
{
    VALUE channel = lone->channel;
    lone->channel = Qnil;
    gm_connection_release(lone->connection, channel);
}

GM_HOT void gm_lone_task_run(gm_lone_task *lone)
{
    gm_task read;
    gm_task_read(lone->task, &read);
    lone->connection = gm_pool_connection(lone->pool, read.unique, lone->deadline);
    if (gm_connection_p(lone->connection)) {
        lone->channel = gm_connection_lease(lone->connection, lone->deadline);
        lone->plain = gm_task_plain(lone->task);
        lone->start = gm_channel_queued(lone->channel);
        lone->since = gm_now();
        gm_deadline first = gm_earlier(lone->patience, lone->create_timeout);
        lone->limit = first == GM_NEVER ? lone->deadline : gm_earlier(lone->deadline, lone->since + first);
        gm_slice parts[GM_MAX_ARGUMENTS];
        size_t count = gm_task_parts(&read, parts);
        gm_channel_queue(lone->channel, read.command, parts, count, 0);
        GM_TASK_GUARD(read);
        lone->open = lone->submitted = true;
        if (gm_channel_send(lone->channel) == GM_IO_OK) await_result(lone);
        if (!lone->open) release_alone(lone);
        rb_thread_check_ints(); /* what is raised here leaves the result for later; in the callback it would take its
                                   place */
    }
    lone->returned = true;
}

/* A loop that goes on with the task, and knows what has happened to it. */
static VALUE going_on(const gm_lone_task *lone)
{
    VALUE self = loop_allocate(cTaskLoop);
    task_loop *loop = get(self);
    loop->patience = lone->patience;
    loop->create_timeout = lone->create_timeout;
    if (lone->open) {
        task_slot slot = {.open = true, .plain = lone->plain, .created = lone->created, .start = lone->start};
        slot.since = lone->since;
        slot.index = index_of(self, loop, lone->connection);
        keep_lease(self, &loop->lines[slot.index], lone->channel);
        fill_slot(loop, vacant_slot(loop), lone->task, slot);
        if (lone->replied) add_reply(loop, loop->events, &lone->reply);
    } else {
        push_event(loop->events, gm_command_symbol(GM_WORK_COMPLETE), lone->task, lone->result, Qnil);
    }
    return self;
}

GM_HOT void gm_lone_task_end(gm_lone_task *lone)
{
    if (lone->open || (!lone->returned && !NIL_P(lone->result))) {
        lone->loop = going_on(lone);
    } else if (!NIL_P(lone->channel)) {
        release_alone(lone);
    }
}

/* call-seq: release -> nil; gives the channels back, and whatever is still owed on them to nobody */
static VALUE loop_release(VALUE self)
{
    task_loop *loop = get(self);
    for (uint32_t i = 0; i < loop->line_count; i++) {
        VALUE channel = loop->lines[i].channel;
        if (NIL_P(channel)) continue;
        loop->lines[i].channel = Qnil;
        end_lease(&loop->lines[i]);
        gm_connection_release(loop->lines[i].connection, channel);
    }
    return Qnil;
}

void Init_gearman_task_loop(void)
{
    sym_lost = ID2SYM(rb_intern("lost"));
    sym_unsent = ID2SYM(rb_intern("unsent"));
    /*
     * Document-class: Gearman::TaskLoop
     *
     * Tasks in flight, see task_loop.c.
     *
     * @api private
     */
    cTaskLoop = rb_define_class_under(gm_mGearman, "TaskLoop", rb_cObject);
    rb_gc_register_mark_object(cTaskLoop);
    rb_define_alloc_func(cTaskLoop, loop_allocate);
    rb_undef_method(cTaskLoop, "initialize_copy");
    rb_define_method(cTaskLoop, "initialize", loop_initialize, -1);
    rb_define_method(cTaskLoop, "submit", loop_submit, 5);
    rb_define_method(cTaskLoop, "open", loop_open, 0);
    rb_define_method(cTaskLoop, "over?", loop_over_p, 0);
    rb_define_method(cTaskLoop, "unsent", loop_unsent, 0);
    rb_define_method(cTaskLoop, "run", loop_run, -1);
    rb_define_method(cTaskLoop, "release", loop_release, 0);
}
