#include "connection.h"

#include <assert.h>

/*
 * Gearman::Connection: one server, and the channels to it. How a socket is opened, and when again, is
 * said in Ruby; here is what runs for each conversation.
 */

/* Nanoseconds without a word from the server until an idle channel is closed. */
#define UNUSED_FOR (60 * GM_LOOKED_AT_AFTER)

/* How often late packets are read: a server that goes on talking is alive. */
enum { LATE_READS = 64, MAX_CHANNELS = 64 };

typedef struct {
    VALUE channels; /* Array */
    VALUE waiting;  /* Array of those who wait for a channel; nil: nobody does */
    VALUE known;    /* whether the server is up, as far as is known: nil (not asked yet), true or false */
} connection;

static VALUE cConnection;
static ID id_fresh, id_open_channel, id_released;

static void connection_mark(void *data)
{
    const connection *own = data;
    rb_gc_mark_movable(own->channels);
    rb_gc_mark_movable(own->waiting);
}

static void connection_compact(void *data)
{
    connection *own = data;
    own->channels = rb_gc_location(own->channels);
    own->waiting = rb_gc_location(own->waiting);
}

static size_t connection_size(const void *data) { return sizeof(connection); }

static const rb_data_type_t connection_type = {
    .wrap_struct_name = "Gearman::Connection",
    .function = {.dmark = connection_mark,
                 .dfree = RUBY_DEFAULT_FREE,
                 .dsize = connection_size,
                 .dcompact = connection_compact},
    .flags = GM_TYPED_FREE | RUBY_TYPED_WB_PROTECTED,
};

/* Unchecked: every VALUE that comes here is the receiver of a method of Connection, or went through gm_connection_p. */
static inline connection *get(VALUE self)
{
    assert(rb_typeddata_is_kind_of(self, &connection_type));
    return RTYPEDDATA_DATA(self);
}

static VALUE connection_allocate(VALUE klass)
{
    connection *made;
    VALUE self = TypedData_Make_Struct(klass, connection, &connection_type, made);
    made->channels = made->waiting = made->known = Qnil;
    RB_OBJ_WRITE(self, &made->channels, rb_ary_new());
    return self;
}

/* Takes a channel off the list. rb_ary_delete would yield it to the caller's block where it is not there any more. */
static bool take_off(VALUE channels, VALUE channel)
{
    for (long i = 0; i < RARRAY_LEN(channels); i++) {
        if (rb_ary_entry(channels, i) != channel) continue;
        rb_ary_delete_at(channels, i);
        return true;
    }
    return false;
}

/* An idle channel that is looked at. */
typedef struct {
    VALUE channels, channel;
    bool fit;
} candidate;

/* Whether one that was silent for a while can carry another conversation. Late packets are dropped. */
static VALUE look_at(VALUE data)
{
    candidate *idle = (candidate *)data;
    gm_reply reply;
    gm_io result = GM_IO_OK;
    for (int reads = 0; result == GM_IO_OK && reads < LATE_READS; reads++) {
        result = gm_channel_fill(idle->channel);
        while (gm_channel_next(idle->channel, &reply) == GM_IO_OK) continue;
    }
    idle->fit = gm_channel_usable(idle->channel);
    return Qnil;
}

static VALUE drop_unfit(VALUE data)
{
    const candidate *idle = (const candidate *)data;
    if (idle->fit) return Qnil;
    gm_channel_lease(idle->channel)->taken = false;
    take_off(idle->channels, idle->channel);
    gm_channel_close(idle->channel);
    return Qnil;
}

/* An idle channel that is fit, taken; nil when there is none. */
GM_HOT static VALUE take_idle(VALUE channels)
{
    for (long i = RARRAY_LEN(channels) - 1; i >= 0; i--) {
        if (i >= RARRAY_LEN(channels)) continue; /* others took some off while one was looked at */
        VALUE channel = RARRAY_AREF(channels, i);
        gm_lease *lease = gm_channel_lease(channel);
        if (GM_UNLIKELY(lease->taken && !gm_channel_foreign(channel))) continue;
        lease->taken = true;
        candidate idle = {channels, channel, false};
        if (GM_LIKELY(gm_channel_usable(channel))) {
            gm_channel_begin(channel);
            if (GM_LIKELY(gm_now() - gm_channel_last_heard(channel) < GM_LOOKED_AT_AFTER)) return channel;
            rb_ensure(look_at, (VALUE)&idle, drop_unfit, (VALUE)&idle);
        } else {
            drop_unfit((VALUE)&idle);
        }
        if (idle.fit) return channel;
    }
    return Qnil;
}

GM_HOT bool gm_connection_p(VALUE value)
{
    return gm_instance_p(value, cConnection) || rb_typeddata_is_kind_of(value, &connection_type);
}

/* Whether somebody waits for a channel. */
static bool awaited(VALUE self) { return !NIL_P(get(self)->waiting); }

GM_HOT VALUE gm_connection_known(VALUE self) { return get(self)->known; }

void gm_connection_learn(VALUE self, VALUE known) { get(self)->known = known; }

GM_HOT VALUE gm_connection_lease(VALUE self, gm_deadline deadline)
{
    VALUE channels = get(self)->channels;
    bool waited = false; /* first come, first served */
    for (;;) {
        VALUE channel = waited || !awaited(self) ? take_idle(channels) : Qnil;
        if (GM_LIKELY(!NIL_P(channel))) return channel;
        channel = rb_funcall(self, id_open_channel, 2, gm_seconds_until(deadline), waited ? Qtrue : Qfalse);
        waited = NIL_P(channel);
        if (waited) continue;
        gm_channel_check(channel);
        gm_channel_lease(channel)->taken = true;
        rb_ary_push(channels, channel);
        return channel;
    }
}

/* Closes the channel that was not used for the longest time, if that is long enough and nothing is owed on it. */
GM_HOT static void close_unused(VALUE channels)
{
    if (RARRAY_LEN(channels) < 2) return;
    VALUE oldest = RARRAY_AREF(channels, 0);
    if (gm_channel_lease(oldest)->taken || gm_channel_owes(oldest)) return;
    if (gm_now() - gm_channel_last_heard(oldest) < UNUSED_FOR) return;
    take_off(channels, oldest);
    gm_channel_close(oldest);
}

GM_HOT void gm_connection_release(VALUE self, VALUE channel)
{
    VALUE channels = get(self)->channels;
    bool unsent = gm_channel_sent(channel) != gm_channel_queued(channel);
    gm_channel_begin(channel);
    gm_channel_lease(channel)->taken = false;
    long last = RARRAY_LEN(channels) - 1;
    if (last > 0 && rb_ary_entry(channels, last) != channel && take_off(channels, channel)) {
        rb_ary_push(channels, channel);
    }
    bool surplus = RARRAY_LEN(channels) > MAX_CHANNELS && !awaited(self) && take_off(channels, channel);
    /* What is unsent must not go out with the next conversation's. Behind a close an interrupt may be raised. */
    if (GM_UNLIKELY(unsent || surplus)) gm_channel_close(channel);
    close_unused(channels);
    if (GM_UNLIKELY(awaited(self))) rb_funcall(self, id_released, 0);
}

typedef struct {
    VALUE self, channel;
    VALUE bytes; /* what exchange() sends */
    gm_deadline deadline;
} conversation;

static VALUE end_conversation(VALUE data)
{
    conversation *talk = (conversation *)data;
    gm_connection_release(talk->self, talk->channel);
    return Qnil;
}

static VALUE exchange(VALUE data)
{
    conversation *talk = (conversation *)data;
    return gm_channel_request(talk->channel, talk->bytes, talk->deadline);
}

/*
 * call-seq: exchange(bytes, timeout = nil) -> [Symbol, String]
 *
 * One request and its reply, as a conversation of its own. The time-out is that of the server, and once more that
 * of waiting for a channel.
 */
static VALUE connection_exchange(int argc, VALUE *argv, VALUE self)
{
    VALUE bytes, timeout;
    rb_scan_args(argc, argv, "11", &bytes, &timeout);
    conversation talk = {.self = self, .bytes = bytes};
    talk.channel = gm_connection_lease(self, gm_deadline_in(timeout));
    talk.deadline = gm_deadline_in(timeout);
    return rb_ensure(exchange, (VALUE)&talk, end_conversation, (VALUE)&talk);
}

/* call-seq: idle? -> whether a channel can be leased at once */
static VALUE connection_idle_p(VALUE self)
{
    VALUE channels = get(self)->channels;
    for (long i = 0; i < RARRAY_LEN(channels); i++) {
        if (!gm_channel_lease(rb_ary_entry(channels, i))->taken) return Qtrue;
    }
    return Qfalse;
}

/* call-seq: lease(timeout = nil) -> Channel */
static VALUE connection_lease(int argc, VALUE *argv, VALUE self)
{
    VALUE timeout;
    rb_scan_args(argc, argv, "01", &timeout);
    return gm_connection_lease(self, gm_deadline_in(timeout));
}

/*
 * call-seq: lease_fresh -> Channel
 *
 * Leases the channel that is to be that of #socket. An interrupt may keep it from the caller, who finds it in @fresh.
 */
static VALUE connection_lease_fresh(VALUE self)
{
    return rb_ivar_set(self, id_fresh, gm_connection_lease(self, GM_NEVER));
}

/* call-seq: with_lease(timeout = nil) { |channel| } -> what the block returns */
static VALUE connection_with_lease(int argc, VALUE *argv, VALUE self)
{
    VALUE timeout;
    rb_scan_args(argc, argv, "01", &timeout);
    conversation talk = {.self = self};
    talk.channel = gm_connection_lease(self, gm_deadline_in(timeout));
    return rb_ensure(rb_yield, talk.channel, end_conversation, (VALUE)&talk);
}

/* call-seq: release(channel) -> nil */
static VALUE connection_release(VALUE self, VALUE channel)
{
    gm_channel_check(channel);
    gm_connection_release(self, channel);
    return Qnil;
}

static VALUE connection_channels(VALUE self) { return get(self)->channels; }

static VALUE connection_waiting(VALUE self) { return get(self)->waiting; }

static VALUE connection_set_waiting(VALUE self, VALUE waiting)
{
    RB_OBJ_WRITE(self, &get(self)->waiting, waiting);
    return waiting;
}

/* call-seq: known = true, false or nil */
static VALUE connection_set_known(VALUE self, VALUE known)
{
    gm_connection_learn(self, known);
    return known;
}

void Init_gearman_connection(void)
{
    id_fresh = rb_intern("@fresh");
    id_open_channel = rb_intern("open_channel");
    id_released = rb_intern("channel_released");
    cConnection = rb_define_class_under(gm_mGearman, "Connection", rb_cObject);
    rb_gc_register_mark_object(cConnection);
    /* Sockets to one server, unless there is no end to the wait for one of them. */
    rb_define_const(cConnection, "MAX_CHANNELS", INT2FIX(MAX_CHANNELS));
    rb_define_alloc_func(cConnection, connection_allocate);
    rb_undef_method(cConnection, "initialize_copy");
    rb_define_private_method(cConnection, "channels", connection_channels, 0);
    rb_define_private_method(cConnection, "waiting", connection_waiting, 0);
    rb_define_private_method(cConnection, "waiting=", connection_set_waiting, 1);
    rb_define_private_method(cConnection, "known", gm_connection_known, 0);
    rb_define_private_method(cConnection, "known=", connection_set_known, 1);
    rb_define_method(cConnection, "exchange", connection_exchange, -1);
    rb_define_method(cConnection, "idle?", connection_idle_p, 0);
    rb_define_method(cConnection, "lease", connection_lease, -1);
    rb_define_method(cConnection, "lease_fresh", connection_lease_fresh, 0);
    rb_define_method(cConnection, "with_lease", connection_with_lease, -1);
    rb_define_method(cConnection, "release", connection_release, 1);
}
