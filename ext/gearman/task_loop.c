#include "connection.h"

/*
 * Gearman::TaskLoop: many tasks in flight over many servers. Ruby submits tasks to it and asks it to run;
 * what happened to them comes back as a batch of events, so no callback is called from here.
 */

enum { EVENTS_PER_BATCH = 256, EVENT_SIZE = 4 };

/* A task in flight. */
typedef struct {
    bool open;
    uint32_t channel;
    uint64_t start; /* gm_channel_queued before its submission */
} task_slot;

typedef struct {
    VALUE tasks;       /* Array: slot => task */
    VALUE connections; /* Array of Connection */
    VALUE channels;    /* Array: the channel leased from each of them, or nil */
    gm_lease **leases; /* of those channels, so that freeing the loop ends them */
    size_t connection_count;
    task_slot *slots;
    uint32_t slot_count, slot_capacity, open_count;
    uint32_t *vacant; /* slots that ended */
    uint32_t vacant_count;
} task_loop;

static VALUE sym_lost, sym_unsent;

static void loop_mark(void *data)
{
    task_loop *loop = data;
    rb_gc_mark_movable(loop->tasks);
    rb_gc_mark_movable(loop->connections);
    rb_gc_mark_movable(loop->channels);
}

static void loop_compact(void *data)
{
    task_loop *loop = data;
    loop->tasks = rb_gc_location(loop->tasks);
    loop->connections = rb_gc_location(loop->connections);
    loop->channels = rb_gc_location(loop->channels);
}

static void end_lease(task_loop *loop, size_t index)
{
    gm_lease *lease = loop->leases[index];
    if (!lease) return;
    lease->taken = false;
    gm_lease_release(lease);
    loop->leases[index] = NULL;
}

static void loop_free(void *data)
{
    task_loop *loop = data;
    for (size_t i = 0; i < loop->connection_count; i++) end_lease(loop, i);
    xfree(loop->leases);
    xfree(loop->slots);
    xfree(loop->vacant);
    xfree(loop);
}

static size_t loop_size(const void *data)
{
    const task_loop *loop = data;
    return sizeof(*loop) + loop->slot_capacity * (sizeof(task_slot) + sizeof(uint32_t)) +
           loop->connection_count * sizeof(gm_lease *);
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

static VALUE loop_allocate(VALUE klass)
{
    task_loop *loop;
    VALUE self = TypedData_Make_Struct(klass, task_loop, &loop_type, loop);
    loop->tasks = loop->connections = loop->channels = Qnil;
    RB_OBJ_WRITE(self, &loop->tasks, rb_ary_new());
    RB_OBJ_WRITE(self, &loop->connections, rb_ary_new());
    RB_OBJ_WRITE(self, &loop->channels, rb_ary_new());
    return self;
}

/* The index of a connection, which is known from then on. */
static uint32_t index_of(task_loop *loop, VALUE connection)
{
    for (size_t i = 0; i < loop->connection_count; i++) {
        if (rb_ary_entry(loop->connections, (long)i) == connection) return (uint32_t)i;
    }
    REALLOC_N(loop->leases, gm_lease *, loop->connection_count + 1);
    loop->leases[loop->connection_count] = NULL;
    rb_ary_push(loop->connections, connection);
    rb_ary_push(loop->channels, Qnil);
    return (uint32_t)loop->connection_count++;
}

static VALUE leased_channel(task_loop *loop, uint32_t index, gm_deadline deadline)
{
    VALUE channel = rb_ary_entry(loop->channels, index);
    if (!NIL_P(channel)) return channel;
    channel = gm_connection_lease(rb_ary_entry(loop->connections, index), deadline);
    loop->leases[index] = gm_channel_lease(channel);
    loop->leases[index]->references++;
    rb_ary_store(loop->channels, index, channel);
    return channel;
}

static uint32_t vacant_slot(task_loop *loop)
{
    if (loop->vacant_count) return loop->vacant[--loop->vacant_count];
    if (loop->slot_count == loop->slot_capacity) {
        uint32_t capacity = loop->slot_capacity ? loop->slot_capacity * 2 : 4;
        REALLOC_N(loop->slots, task_slot, capacity);
        REALLOC_N(loop->vacant, uint32_t, capacity);
        loop->slot_capacity = capacity;
    }
    return loop->slot_count++;
}

static void close_slot(task_loop *loop, uint32_t slot)
{
    loop->slots[slot].open = false;
    loop->vacant[loop->vacant_count++] = slot;
    loop->open_count--;
    rb_ary_store(loop->tasks, slot, Qnil);
}

/*
 * call-seq: submit(connection, task, command, func, unique, data, epoch, timeout) -> nil
 *
 * Queues a task; it leaves when the loop runs. Raises InvalidArgsError for what cannot be sent,
 * ServerDownException when the server cannot be reached: the task is not in the loop then.
 */
static VALUE loop_submit(int argc, VALUE *argv, VALUE self)
{
    rb_check_arity(argc, 8, 8);
    task_loop *loop = get(self);
    gm_command command = gm_command_of(argv[2]);
    gm_submission_parts parts;
    gm_submission(&parts, command, argv[3], argv[4], argv[6], argv[5]);
    uint32_t index = index_of(loop, argv[0]);
    VALUE channel = leased_channel(loop, index, gm_deadline_in(argv[7]));
    size_t count = gm_submission(&parts, command, argv[3], argv[4], argv[6], argv[5]);
    uint32_t slot = vacant_slot(loop);
    loop->vacant[loop->vacant_count++] = slot; /* until it is queued */
    rb_ary_store(loop->tasks, slot, argv[1]);
    uint64_t start = gm_channel_queued(channel);
    gm_channel_queue(channel, command, parts.slices, count, slot);
    loop->vacant_count--;
    loop->slots[slot] = (task_slot){true, index, start};
    loop->open_count++;
    return Qnil;
}

/* call-seq: open -> how many tasks are in flight */
static VALUE loop_open(VALUE self) { return UINT2NUM(get(self)->open_count); }

/* call-seq: unsent -> how many bytes are queued and not sent yet */
static VALUE loop_unsent(VALUE self)
{
    task_loop *loop = get(self);
    uint64_t bytes = 0;
    for (size_t i = 0; i < loop->connection_count; i++) {
        VALUE channel = rb_ary_entry(loop->channels, (long)i);
        if (!NIL_P(channel)) bytes += gm_channel_queued(channel) - gm_channel_sent(channel);
    }
    return ULL2NUM(bytes);
}

static void push_event(VALUE events, VALUE type, VALUE task, VALUE one, VALUE other)
{
    VALUE event[EVENT_SIZE] = {type, task, one, other};
    rb_ary_cat(events, event, EVENT_SIZE);
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
    switch (command) {
    case GM_JOB_CREATED:
        one = gm_str_new(reply->parts[0]);
        ends = gm_is_background(reply->request);
        break;
    case GM_WORK_COMPLETE:
    case GM_WORK_EXCEPTION:
        ends = true;
        /* fall through */
    case GM_WORK_DATA:
    case GM_WORK_WARNING:
        one = gm_str_new(reply->parts[1]);
        break;
    case GM_WORK_STATUS:
    case GM_ERROR:
        ends = command == GM_ERROR;
        one = gm_str_new(reply->parts[command == GM_ERROR ? 0 : 1]);
        other = gm_str_new(reply->parts[command == GM_ERROR ? 1 : 2]);
        break;
    case GM_WORK_FAIL:
        ends = true;
        break;
    default:
        return;
    }
    push_event(events, gm_command_symbol(command), task, one, other);
    if (ends) close_slot(loop, slot);
}

/* The tasks on a closed channel: those that were never sent, and those nobody knows anything of. */
static void add_lost(task_loop *loop, VALUE events, uint32_t index)
{
    VALUE channel = rb_ary_entry(loop->channels, index);
    VALUE reason = gm_channel_reason(channel);
    for (uint32_t slot = 0; slot < loop->slot_count; slot++) {
        if (!loop->slots[slot].open || loop->slots[slot].channel != index) continue;
        bool unsent = loop->slots[slot].start >= gm_channel_sent(channel);
        push_event(events, unsent ? sym_unsent : sym_lost, rb_ary_entry(loop->tasks, slot), reason, Qnil);
        close_slot(loop, slot);
    }
    rb_ary_store(loop->channels, index, Qnil);
    end_lease(loop, index);
}

/* Sends what can be sent and takes what came, until there is nothing to take or the batch is full. */
static void turn(task_loop *loop, VALUE events)
{
    for (uint32_t i = 0; i < loop->connection_count; i++) {
        VALUE channel = rb_ary_entry(loop->channels, i);
        if (NIL_P(channel)) continue;
        gm_channel_send(channel);
        for (;;) {
            gm_reply reply;
            gm_io result = gm_channel_next(channel, &reply);
            if (result == GM_IO_OK) {
                add_reply(loop, events, &reply);
                if (RARRAY_LEN(events) >= EVENTS_PER_BATCH * EVENT_SIZE) return;
            } else if (result == GM_IO_CLOSED) {
                add_lost(loop, events, i);
                break;
            } else if (!gm_channel_eager(channel) || gm_channel_fill(channel) == GM_IO_AGAIN) {
                break;
            }
        }
    }
}

/* Waits for any channel and reads. Returns false when the deadline passed. */
static bool await(task_loop *loop, gm_deadline deadline)
{
    VALUE only = Qnil;
    size_t channels = 0;
    for (size_t i = 0; i < loop->connection_count; i++) {
        VALUE channel = rb_ary_entry(loop->channels, (long)i);
        if (NIL_P(channel)) continue;
        channels++;
        only = channel;
    }
    if (channels == 1) return gm_channel_await(only, deadline) != GM_IO_TIMEOUT;
    VALUE readers = rb_ary_new_capa((long)channels), writers = rb_ary_new();
    for (size_t i = 0; i < loop->connection_count; i++) {
        VALUE channel = rb_ary_entry(loop->channels, (long)i);
        if (NIL_P(channel)) continue;
        int events = gm_channel_events(channel);
        if (events & RUBY_IO_READABLE) rb_ary_push(readers, gm_channel_wait_io(channel));
        if (events & RUBY_IO_WRITABLE) rb_ary_push(writers, gm_channel_wait_io(channel));
    }
    if (!gm_wait_any(readers, writers, deadline)) return false;
    for (size_t i = 0; i < loop->connection_count; i++) {
        VALUE channel = rb_ary_entry(loop->channels, (long)i);
        if (!NIL_P(channel)) gm_channel_fill(channel);
    }
    return true;
}

/*
 * call-seq: run(timeout) -> Array or nil
 *
 * Sends and receives until something happened to a task. Returns the events one behind the other, each as
 * four elements: what happened (the Symbol of a packet; :unsent or :lost when the connection was lost),
 * the task, and up to two values that came with it. Returns nil when the time-out passed, an empty Array
 * when no task is in flight.
 */
static VALUE loop_run(VALUE self, VALUE timeout)
{
    task_loop *loop = get(self);
    gm_deadline deadline = gm_deadline_in(timeout);
    VALUE events = rb_ary_new();
    for (;;) {
        turn(loop, events);
        if (RARRAY_LEN(events) > 0 || loop->open_count == 0) return events;
        if (!await(loop, deadline)) return Qnil;
        rb_thread_check_ints();
    }
}

/* call-seq: release -> nil; gives the channels back, and whatever is still owed on them to nobody */
static VALUE loop_release(VALUE self)
{
    task_loop *loop = get(self);
    for (uint32_t i = 0; i < loop->connection_count; i++) {
        VALUE channel = rb_ary_entry(loop->channels, i);
        if (NIL_P(channel)) continue;
        rb_ary_store(loop->channels, i, Qnil);
        gm_lease_release(loop->leases[i]);
        loop->leases[i] = NULL;
        gm_connection_release(rb_ary_entry(loop->connections, i), channel);
    }
    return Qnil;
}

void Init_gearman_task_loop(void)
{
    sym_lost = ID2SYM(rb_intern("lost"));
    sym_unsent = ID2SYM(rb_intern("unsent"));
    VALUE cTaskLoop = rb_define_class_under(gm_mGearman, "TaskLoop", rb_cObject);
    rb_define_alloc_func(cTaskLoop, loop_allocate);
    rb_undef_method(cTaskLoop, "initialize_copy");
    rb_define_method(cTaskLoop, "submit", loop_submit, -1);
    rb_define_method(cTaskLoop, "open", loop_open, 0);
    rb_define_method(cTaskLoop, "unsent", loop_unsent, 0);
    rb_define_method(cTaskLoop, "run", loop_run, 1);
    rb_define_method(cTaskLoop, "release", loop_release, 0);
}
