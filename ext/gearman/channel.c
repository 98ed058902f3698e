#include "channel.h"

#include "payload.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <ruby/fiber/scheduler.h>
#include <ruby/thread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* Ruby ignores SIGPIPE in a handler of its own */
#endif

enum { WRITE_SIZE = 64 * 1024, BUSY_CAPACITY = 4 * 1024 * 1024, READ_AHEAD = 64 * 1024 * 1024, LOOKS = 64 };

static VALUE cChannel, cBasicSocket;
static ID id_OpenSSL, id_OpenSSLError, id_close, id_read_nonblock, id_readpartial, id_to_io, id_write,
    id_write_nonblock;
static VALUE no_exception; /* {exception: false} */

/* Process.daemon runs no fork hook of Ruby's, so the C library's counts the generations of processes. */
static atomic_uint generation;

static void count_generation(void) { atomic_fetch_add(&generation, 1); }

typedef struct {
    VALUE io;      /* nil: closed */
    VALUE wait_io; /* the IO below `io` */
    VALUE peer;
    VALUE mutex;      /* for sockets whose reads and writes are Ruby methods */
    VALUE kept;       /* replies for read_response that came while another was awaited; nil or an Array */
    VALUE why;        /* what was wrong, when that says more than `error` and `broken`; or nil */
    VALUE unclosed;   /* the socket, closed while somebody waited on it */
    VALUE registered; /* Array: the functions that a worker has announced on it */
    bool plain;
    bool blocking;    /* recv() waits for a moment, see gm_channel_await */
    int wakes_at;     /* how many bytes wake who waits */
    int own_fd;       /* what recv() waits on once others have the socket; -1: the socket's own descriptor */
    int reading;      /* the descriptor on which a thread is in it; -1: none is */
    unsigned waiting; /* how many wait on the socket, one of them perhaps in recv() */
    bool more;        /* the last read filled all its room */
    int read_events, write_events;
    unsigned generation;
    int error;        /* errno of what closed it */
    gm_status broken; /* or what was wrong with its bytes */
    gm_lease *lease;
    gm_deadline last_heard;
    gm_parser parser;
    gm_payload payload;
    gm_buffer out;
    uint64_t queued, sent;
    uint64_t offered; /* how far a write method was given bytes: TLS may have begun to send them */
    bool corked;      /* what is unsent waits for gm_channel_send */
    bool busy;        /* more large packets may follow at once */
    bool writing;     /* a write method was begun and has not come back */
    uint32_t raw_slot;
    gm_replies replies;
} channel;

static void channel_mark(void *data)
{
    channel *ch = data;
    rb_gc_mark_movable(ch->io);
    rb_gc_mark_movable(ch->wait_io);
    rb_gc_mark_movable(ch->peer);
    rb_gc_mark_movable(ch->mutex);
    rb_gc_mark_movable(ch->kept);
    rb_gc_mark_movable(ch->why);
    rb_gc_mark_movable(ch->unclosed);
    rb_gc_mark_movable(ch->registered);
    rb_gc_mark_movable(ch->payload.data);
}

static void channel_compact(void *data)
{
    channel *ch = data;
    ch->io = rb_gc_location(ch->io);
    ch->wait_io = rb_gc_location(ch->wait_io);
    ch->peer = rb_gc_location(ch->peer);
    ch->mutex = rb_gc_location(ch->mutex);
    ch->kept = rb_gc_location(ch->kept);
    ch->why = rb_gc_location(ch->why);
    ch->unclosed = rb_gc_location(ch->unclosed);
    ch->registered = rb_gc_location(ch->registered);
    ch->payload.data = rb_gc_location(ch->payload.data);
}

void gm_lease_release(gm_lease *lease)
{
    if (--lease->references == 0) xfree(lease);
}

static void close_own_fd(channel *ch)
{
    if (ch->own_fd >= 0) close(ch->own_fd);
    ch->own_fd = -1;
}

static void channel_free(void *data)
{
    channel *ch = data;
    close_own_fd(ch);
    gm_parser_free(&ch->parser);
    gm_payload_free(&ch->payload);
    gm_buffer_free(&ch->out);
    gm_replies_free(&ch->replies);
    if (ch->lease) gm_lease_release(ch->lease);
    xfree(ch);
}

static size_t channel_size(const void *data)
{
    const channel *ch = data;
    return sizeof(*ch) + ch->parser.buffer.capacity + ch->payload.arguments.capacity + ch->out.capacity +
           gm_replies_memsize(&ch->replies);
}

/* Not THREAD_SAFE_FREE: the count of a lease's references is not atomic. */
static const rb_data_type_t channel_type = {
    .wrap_struct_name = "Gearman::Channel",
    .function = {.dmark = channel_mark, .dfree = channel_free, .dsize = channel_size, .dcompact = channel_compact},
    .flags = RUBY_TYPED_FREE_IMMEDIATELY | RUBY_TYPED_WB_PROTECTED,
};

/* Unchecked: it is called many times a job, and every VALUE that comes here is a channel (gm_channel_check). */
static inline channel *get(VALUE self)
{
    assert(rb_typeddata_is_kind_of(self, &channel_type));
    return RTYPEDDATA_DATA(self);
}

void gm_channel_check(VALUE value) { rb_check_typeddata(value, &channel_type); }

static VALUE channel_allocate(VALUE klass)
{
    channel *ch;
    VALUE self = TypedData_Make_Struct(klass, channel, &channel_type, ch);
    ch->io = ch->wait_io = ch->peer = ch->mutex = ch->kept = ch->why = ch->unclosed = ch->registered = Qnil;
    gm_parser_init(&ch->parser, GM_RES, GM_DEFAULT_MAX_PACKET);
    gm_payload_init(&ch->payload);
    gm_buffer_init(&ch->out);
    gm_replies_init(&ch->replies);
    ch->own_fd = ch->reading = -1;
    ch->wakes_at = 1;
    ch->generation = atomic_load(&generation);
    ch->last_heard = gm_now();
    ch->read_events = RUBY_IO_READABLE;
    ch->write_events = RUBY_IO_WRITABLE;
    ch->lease = ALLOC(gm_lease);
    *ch->lease = (gm_lease){.references = 1, .taken = false};
    return self;
}

/*
 * Lets a plain recv() wait for a moment, see gm_channel_await. Elsewhere than on Linux MSG_DONTWAIT cannot be
 * relied on, and the socket has to stay non-blocking.
 */
static bool let_recv_wait(int fd)
{
#ifdef __linux__
    struct timeval moment = {.tv_usec = 5000};
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &moment, sizeof(moment)) == 0 &&
           fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) == 0;
#else
    return false;
#endif
}

VALUE gm_channel_new(VALUE io, VALUE peer, bool own)
{
    VALUE self = channel_allocate(cChannel);
    channel *ch = get(self);
    ch->plain = RTEST(rb_obj_is_kind_of(io, cBasicSocket));
    VALUE below = ch->plain ? io : rb_check_funcall(io, id_to_io, 0, NULL);
    RB_OBJ_WRITE(self, &ch->io, io);
    RB_OBJ_WRITE(self, &ch->wait_io, below == Qundef ? io : below);
    RB_OBJ_WRITE(self, &ch->peer, rb_str_new_frozen(peer));
    if (!ch->plain) RB_OBJ_WRITE(self, &ch->mutex, rb_mutex_new());
    if (ch->plain && own) ch->blocking = let_recv_wait(rb_io_descriptor(io));
    return self;
}

static bool foreign(const channel *ch) { return ch->generation != atomic_load(&generation); }

GM_HOT bool gm_channel_foreign(VALUE self) { return foreign(get(self)); }

GM_HOT bool gm_channel_usable(VALUE self)
{
    channel *ch = get(self);
    return !NIL_P(ch->io) && !foreign(ch);
}

/* The ancestor of what sockets of the openssl library raise; IOError while it is not loaded. */
static VALUE ssl_error(void)
{
    if (!rb_const_defined(rb_cObject, id_OpenSSL)) return rb_eIOError;
    return rb_const_get(rb_const_get(rb_cObject, id_OpenSSL), id_OpenSSLError);
}

static VALUE close_io(VALUE io) { return rb_check_funcall(io, id_close, 0, NULL); }

static VALUE closed_anyway(VALUE io, VALUE error) { return Qnil; }

static VALUE close_masked(RB_BLOCK_CALL_FUNC_ARGLIST(unused, io))
{
    return rb_rescue2(close_io, io, closed_anyway, Qnil, rb_eIOError, rb_eSystemCallError, ssl_error(), (VALUE)0);
}

/* Ruby forgets the descriptor before it closes it: an interrupt in between would leak it. */
static void close_uninterrupted(VALUE io) { gm_uninterrupted(close_masked, io); }

void gm_channel_close(VALUE self)
{
    channel *ch = get(self);
    VALUE io = ch->io;
    if (NIL_P(io)) return;
    ch->io = Qnil;
    if (!ch->waiting || foreign(ch)) close_own_fd(ch);
    if (foreign(ch)) {
        close_uninterrupted(ch->wait_io); /* a goodbye of TLS would end the parent's session */
    } else if (ch->waiting && RTEST(rb_obj_is_kind_of(ch->wait_io, cBasicSocket)) && gm_descriptor(ch->wait_io) >= 0) {
        /* It wakes who waits; the number of the descriptor must not be given away under him. */
        RB_OBJ_WRITE(self, &ch->unclosed, io);
        shutdown(gm_descriptor(ch->wait_io), SHUT_RDWR);
    } else {
        close_uninterrupted(io);
    }
}

/* Has the kernel wake who waits only when there are as many bytes. A descriptor that is bad shows itself later. */
GM_HOT static void wake_at(channel *ch, int bytes)
{
    if (ch->wakes_at == bytes || NIL_P(ch->io) || foreign(ch)) return;
    int fd = gm_descriptor(ch->io);
    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof(bytes)) == 0) ch->wakes_at = bytes;
}

void gm_channel_waits(VALUE self)
{
    channel *ch = get(self);
    ch->waiting++;
    wake_at(ch, 1);
}

GM_HOT void gm_channel_waited(VALUE self)
{
    channel *ch = get(self);
    if (--ch->waiting > 0) return;
    if (GM_UNLIKELY(NIL_P(ch->io))) close_own_fd(ch);
    if (GM_LIKELY(NIL_P(ch->unclosed))) return;
    VALUE io = ch->unclosed;
    ch->unclosed = Qnil;
    close_uninterrupted(io);
}

GM_COLD static gm_io fail(VALUE self, int error)
{
    channel *ch = get(self);
    if (!NIL_P(ch->io)) ch->error = error;
    gm_channel_close(self);
    return GM_IO_CLOSED;
}

void gm_channel_give_up(VALUE self) { fail(self, ETIMEDOUT); }

VALUE gm_channel_reason(VALUE self)
{
    channel *ch = get(self);
    const char *text = "connection closed by the server";
    if ((ch->broken != GM_OK || ch->error == EIO) && !NIL_P(ch->why))
        return rb_sprintf("%" PRIsVALUE ": %" PRIsVALUE, ch->peer, ch->why);
    if (ch->error) {
        text = strerror(ch->error);
    } else if (foreign(ch)) {
        text = "connection of another process";
    }
    return rb_sprintf("%" PRIsVALUE ": %s", ch->peer, text);
}

void gm_channel_raise(VALUE self)
{
    VALUE error = get(self)->broken != GM_OK ? gm_eProtocolError : gm_eNetworkError;
    rb_exc_raise(rb_exc_new_str(error, gm_channel_reason(self)));
}

static const char late_text[] = ": no answer before the time-out";

void gm_channel_raise_timeout(VALUE self)
{
    rb_raise(gm_eSocketTimeoutError, "%" PRIsVALUE "%s", get(self)->peer, late_text);
}

void gm_channel_raise_in_doubt(VALUE self, bool late)
{
    if (late) rb_raise(gm_eNetworkError, "%" PRIsVALUE "%s", get(self)->peer, late_text);
    rb_exc_raise(rb_exc_new_str(gm_eNetworkError, gm_channel_reason(self)));
}

void gm_channel_raise_unsent(VALUE self)
{
    rb_raise(gm_eServerDownException, "%" PRIsVALUE ": connection lost before the request was sent", get(self)->peer);
}

GM_COLD NORETURN(static void raise_io(VALUE self, gm_io io));

static void raise_io(VALUE self, gm_io io)
{
    if (io == GM_IO_CLOSED) gm_channel_raise(self);
    gm_channel_raise_timeout(self);
}

GM_HOT void gm_channel_begin(VALUE self)
{
    channel *ch = get(self);
    ch->kept = Qnil;
    gm_replies_begin(&ch->replies);
}

GM_HOT gm_lease *gm_channel_lease(VALUE self) { return get(self)->lease; }
GM_HOT gm_deadline gm_channel_last_heard(VALUE self) { return get(self)->last_heard; }
VALUE gm_channel_peer(VALUE self) { return get(self)->peer; }
VALUE gm_channel_wait_io(VALUE self) { return get(self)->wait_io; }

GM_HOT int gm_channel_events(VALUE self)
{
    channel *ch = get(self);
    return ch->read_events | (ch->sent < ch->queued && !ch->corked ? ch->write_events : 0);
}

void gm_channel_cork(VALUE self) { get(self)->corked = true; }

GM_HOT bool gm_channel_eager(VALUE self)
{
    channel *ch = get(self);
    return !ch->plain || ch->more;
}

GM_HOT size_t gm_channel_reply_size(VALUE self) { return GM_HEADER_SIZE + get(self)->replies.handle_size; }

GM_HOT uint64_t gm_channel_queued(VALUE self) { return get(self)->queued; }
GM_HOT uint64_t gm_channel_sent(VALUE self) { return get(self)->sent; }

GM_HOT bool gm_channel_owes(VALUE self) { return gm_replies_owed(&get(self)->replies); }

gm_replies *gm_channel_replies(VALUE self) { return &get(self)->replies; }

/* Gives memory of large packets back, unless it is likely to be needed again at once. */
static void trim(const channel *ch, gm_buffer *buffer)
{
    if (!ch->busy || buffer->capacity > BUSY_CAPACITY) gm_buffer_trim(buffer);
}

GM_HOT void gm_channel_set_busy(VALUE self, bool busy)
{
    channel *ch = get(self);
    ch->busy = busy;
    if (busy) return; /* a packet that was read may still be looked at */
    trim(ch, &ch->out);
    trim(ch, &ch->parser.buffer);
}

/* Sending */

/* Sends what is queued, and behind it as much of the data as the socket takes now. Returns how much that was. */
static size_t send_in_place(channel *ch, gm_slice data)
{
    int fd = gm_descriptor(ch->io);
    size_t before = gm_buffer_length(&ch->out);
    struct iovec parts[2] = {{(void *)gm_buffer_bytes(&ch->out), before}, {(void *)data.bytes, data.length}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t sent = fd < 0 ? -1 : sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent <= 0) return 0; /* the next send tells why */
    size_t queued = (size_t)sent < before ? (size_t)sent : before;
    gm_buffer_consume(&ch->out, queued);
    ch->sent += (uint64_t)sent;
    return (size_t)sent - queued;
}

/* Copying what is large costs more than a system call of its own. What cannot be sent now is copied after all. */
GM_COLD static void queue_large(VALUE self, channel *ch, gm_slice data)
{
    size_t sent = send_in_place(ch, data);
    if (gm_buffer_append(&ch->out, data.bytes + sent, data.length - sent) == GM_OK) return;
    gm_channel_close(self); /* a part of the packet may be out */
    rb_memerror();
}

GM_HOT void gm_channel_queue(VALUE self, gm_command command, const gm_slice *parts, size_t count, uint32_t slot)
{
    channel *ch = get(self);
    gm_replies_reserve(&ch->replies);
    bool large = count > 0 && parts[count - 1].length >= GM_LARGE_BODY && ch->plain && gm_channel_usable(self);
    size_t before = gm_buffer_length(&ch->out);
    gm_status status = GM_UNLIKELY(large) ? gm_packet_encode_head(&ch->out, GM_REQ, command, parts, count)
                                          : gm_packet_encode(&ch->out, GM_REQ, command, parts, count);
    if (GM_UNLIKELY(status != GM_OK)) gm_raise_unsendable(status, command, parts, count);
    ch->queued += gm_buffer_length(&ch->out) - before + (large ? parts[count - 1].length : 0);
    gm_replies_expect(&ch->replies, command, slot, ch->queued);
    if (GM_UNLIKELY(large)) queue_large(self, ch, parts[count - 1]);
}

bool gm_channel_queue_bytes(VALUE self, VALUE bytes, uint32_t slot)
{
    bool has_reply = false;
    channel *ch = get(self);
    StringValue(bytes);
    gm_slice rest = gm_slice_of(bytes);
    gm_status status = gm_buffer_append(&ch->out, rest.bytes, rest.length);
    if (status != GM_OK) gm_raise_status(status, "request");
    while (rest.length >= GM_HEADER_SIZE) {
        gm_command command;
        uint32_t length;
        if (gm_header_decode(rest.bytes, GM_REQ, &command, &length) != GM_OK) break;
        if (length > rest.length - GM_HEADER_SIZE) break;
        rest.bytes += GM_HEADER_SIZE + length;
        rest.length -= GM_HEADER_SIZE + length;
        gm_replies_reserve(&ch->replies);
        has_reply |= gm_replies_expect(&ch->replies, command, slot,
                                       ch->queued + (uint64_t)(RSTRING_LEN(bytes) - (long)rest.length));
    }
    ch->queued += (uint64_t)RSTRING_LEN(bytes);
    RB_GC_GUARD(bytes);
    return has_reply;
}

/* Takes what belongs to the payload. Returns the bytes behind it. */
GM_COLD static gm_slice take_payload(channel *ch, gm_slice bytes)
{
    while (gm_payload_incomplete(&ch->payload) && bytes.length > 0) bytes = gm_payload_feed(&ch->payload, bytes);
    return bytes;
}

/* Takes bytes that were read. */
GM_HOT static void take_in(channel *ch, gm_slice bytes)
{
    if (gm_payload_incomplete(&ch->payload)) bytes = take_payload(ch, bytes);
    gm_status status = gm_parser_feed(&ch->parser, bytes.bytes, bytes.length);
    if (GM_UNLIKELY(status != GM_OK)) rb_memerror();
    ch->last_heard = gm_now();
}

typedef struct {
    VALUE self;
    VALUE (*function)(VALUE);
    gm_io result;
    int error;
} ruby_io;

static VALUE write_by_method(VALUE data)
{
    ruby_io *call = (ruby_io *)data;
    channel *ch = get(call->self);
    size_t length = gm_buffer_length(&ch->out);
    if (length == 0) return Qnil; /* another thread has sent it */
    if (length > WRITE_SIZE) length = WRITE_SIZE;
    call->result = GM_IO_CLOSED; /* unless it comes to another end */
    call->error = EIO;
    if (ch->writing) return Qnil; /* an exception came out of the last write: nobody knows what was sent */
    VALUE bytes = rb_str_new((const char *)gm_buffer_bytes(&ch->out), (long)length);
    VALUE arguments[2] = {bytes, no_exception};
    bool nonblock = rb_respond_to(ch->io, id_write_nonblock);
    ch->writing = true;
    ch->offered = ch->sent + length;
    VALUE result = nonblock ? rb_funcallv_kw(ch->io, id_write_nonblock, 2, arguments, RB_PASS_KEYWORDS)
                            : rb_funcall(ch->io, id_write, 1, bytes);
    ch->writing = false;
    if (nonblock && RB_SYMBOL_P(result)) {
        bool readable = result == ID2SYM(rb_intern("wait_readable"));
        ch->write_events = readable ? RUBY_IO_READABLE : RUBY_IO_WRITABLE;
        call->result = GM_IO_AGAIN;
        return Qnil;
    }
    size_t written = NUM2SIZET(result);
    if (written > length || (!nonblock && written < length)) return Qnil;
    gm_buffer_consume(&ch->out, written);
    ch->sent += written;
    call->result = GM_IO_OK;
    return Qnil;
}

static VALUE read_by_method(VALUE data)
{
    ruby_io *call = (ruby_io *)data;
    channel *ch = get(call->self);
    VALUE arguments[2] = {INT2FIX(GM_READ_SIZE), no_exception};
    VALUE bytes;
    if (rb_respond_to(ch->io, id_read_nonblock)) {
        bytes = rb_funcallv_kw(ch->io, id_read_nonblock, 2, arguments, RB_PASS_KEYWORDS);
    } else {
        bytes = rb_funcall(ch->io, id_readpartial, 1, arguments[0]);
    }
    if (NIL_P(bytes)) {
        call->result = GM_IO_CLOSED;
    } else if (RB_SYMBOL_P(bytes)) {
        bool writable = bytes == ID2SYM(rb_intern("wait_writable"));
        ch->read_events = writable ? RUBY_IO_WRITABLE : RUBY_IO_READABLE;
        call->result = GM_IO_AGAIN;
    } else {
        StringValue(bytes);
        take_in(ch, gm_slice_of(bytes));
        RB_GC_GUARD(bytes);
    }
    return Qnil;
}

static VALUE method_failed(VALUE data, VALUE error)
{
    ruby_io *call = (ruby_io *)data;
    call->result = GM_IO_CLOSED;
    if (RTEST(rb_obj_is_kind_of(error, rb_eSystemCallError))) {
        call->error = NUM2INT(rb_funcall(error, rb_intern("errno"), 0));
    } else if (!RTEST(rb_obj_is_kind_of(error, rb_eEOFError))) {
        call->error = EIO;
        RB_OBJ_WRITE(call->self, &get(call->self)->why, rb_obj_as_string(error));
    }
    return Qnil;
}

static VALUE call_method(VALUE data)
{
    return rb_rescue2(((ruby_io *)data)->function, data, method_failed, data, rb_eIOError, rb_eSystemCallError,
                      ssl_error(), (VALUE)0);
}

static VALUE call_masked(RB_BLOCK_CALL_FUNC_ARGLIST(unused, data)) { return call_method(data); }

/* What has been read or written is lost when an interrupt ends the method; one that waits must be interrupted. */
static VALUE call_uninterrupted(VALUE data)
{
    ruby_io *call = (ruby_io *)data;
    ID method = call->function == read_by_method ? id_read_nonblock : id_write_nonblock;
    VALUE io = get(call->self)->io;
    if (NIL_P(io)) { /* closed while this thread waited for its turn */
        call->result = GM_IO_CLOSED;
        return Qnil;
    }
    if (!rb_respond_to(io, method)) return call_method(data);
    return gm_uninterrupted(call_masked, data);
}

/* Reads or writes through the methods of an IO that is no plain socket; one thread at a time. */
static gm_io by_method(VALUE self, VALUE (*function)(VALUE))
{
    ruby_io call = {.self = self, .function = function, .result = GM_IO_OK};
    rb_mutex_synchronize(get(self)->mutex, call_uninterrupted, (VALUE)&call);
    return call.result == GM_IO_CLOSED ? fail(self, call.error) : call.result;
}

GM_HOT gm_io gm_channel_send(VALUE self)
{
    channel *ch = get(self);
    ch->corked = false;
    while (gm_buffer_length(&ch->out) > 0) {
        if (GM_UNLIKELY(!gm_channel_usable(self))) return GM_IO_CLOSED;
        if (GM_UNLIKELY(!ch->plain)) {
            gm_io result = by_method(self, write_by_method);
            if (result != GM_IO_OK) return result;
            continue;
        }
        int fd = gm_descriptor(ch->io);
        if (GM_UNLIKELY(fd < 0)) return fail(self, EBADF);
        ssize_t sent = send(fd, gm_buffer_bytes(&ch->out), gm_buffer_length(&ch->out), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (GM_LIKELY(sent >= 0)) {
            gm_buffer_consume(&ch->out, (size_t)sent);
            ch->sent += (uint64_t)sent;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return GM_IO_AGAIN;
        } else if (errno != EINTR) {
            int error = errno;
            while (gm_channel_fill(self) == GM_IO_OK) continue; /* what the server had to say before */
            return fail(self, error);
        }
    }
    trim(ch, &ch->out);
    return GM_LIKELY(gm_channel_usable(self)) ? GM_IO_OK : GM_IO_CLOSED;
}

/* Takes back what was queued behind `start`, or closes the channel when a part of it may be out already. */
static void abandon(VALUE self, uint64_t start, uint64_t end)
{
    channel *ch = get(self);
    if (ch->sent >= end || NIL_P(ch->io)) return;
    if (ch->sent > start || ch->offered > start || ch->queued != end) {
        gm_channel_close(self);
        return;
    }
    gm_buffer_retract(&ch->out, (size_t)(end - start));
    ch->queued = start;
    gm_replies_retract(&ch->replies, start);
}

typedef struct {
    VALUE self;
    int events;
    gm_deadline deadline;
    int ready;
} waiting;

static VALUE wait_on(VALUE data)
{
    waiting *what = (waiting *)data;
    what->ready = gm_wait(get(what->self)->wait_io, what->events, what->deadline);
    return Qnil;
}

static VALUE waited_on(VALUE data)
{
    gm_channel_waited(((waiting *)data)->self);
    return Qnil;
}

/* Waits for any of the events. Returns those that came, 0 or GM_WAIT_CLOSED as gm_wait. */
static int wait_for(VALUE self, int events, gm_deadline deadline)
{
    waiting what = {self, events, deadline, 0};
    gm_channel_waits(self);
    rb_ensure(wait_on, (VALUE)&what, waited_on, (VALUE)&what);
    return what.ready;
}

typedef struct {
    VALUE self;
    uint64_t start, end;
    gm_deadline deadline, patience;
    bool duplex;
    gm_io result;
} flushing;

static gm_io flush_slowly(const flushing *flush)
{
    channel *ch = get(flush->self);
    gm_deadline deadline = gm_earlier(flush->deadline, gm_deadline_after(flush->patience));
    for (;;) {
        uint64_t before = ch->sent;
        if (gm_channel_send(flush->self) == GM_IO_CLOSED) return GM_IO_CLOSED;
        if (ch->sent >= flush->end) return GM_IO_OK;
        if (ch->sent > before) {
            deadline = gm_earlier(flush->deadline, gm_deadline_after(flush->patience));
        } else if (deadline <= gm_now()) {
            return GM_IO_TIMEOUT;
        }
        bool reads = flush->duplex && gm_parser_rest(&ch->parser).length < READ_AHEAD;
        int events = ch->write_events | (reads ? ch->read_events : 0);
        int ready = wait_for(flush->self, events, deadline);
        if (ready == 0) return GM_IO_TIMEOUT;
        if (ready == GM_WAIT_CLOSED) return fail(flush->self, EBADF);
        if (reads && (ready & ch->read_events) && gm_channel_fill(flush->self) == GM_IO_CLOSED) return GM_IO_CLOSED;
    }
}

static VALUE run_flush(VALUE data)
{
    flushing *flush = (flushing *)data;
    flush->result = flush_slowly(flush);
    return Qnil;
}

static VALUE end_flush(VALUE data)
{
    const flushing *flush = (const flushing *)data;
    if (flush->result == GM_IO_TIMEOUT) abandon(flush->self, flush->start, flush->end);
    return Qnil;
}

GM_HOT gm_io gm_channel_flush(VALUE self, uint64_t start, gm_deadline deadline, gm_deadline patience, bool duplex)
{
    channel *ch = get(self);
    flushing flush = {self, start, ch->queued, deadline, patience, duplex, GM_IO_TIMEOUT};
    if (ch->plain) {
        gm_io result = gm_channel_send(self);
        if (GM_LIKELY(result != GM_IO_AGAIN)) return result;
    }
    rb_ensure(run_flush, (VALUE)&flush, end_flush, (VALUE)&flush);
    return flush.result;
}

/* Receiving */

GM_HOT gm_io gm_channel_fill(VALUE self)
{
    channel *ch = get(self);
    if (!gm_channel_usable(self)) return GM_IO_CLOSED;
    if (!ch->plain) return by_method(self, read_by_method);
    for (;;) {
        int fd = gm_descriptor(ch->io);
        if (fd < 0) return fail(self, EBADF);
        uint8_t *room;
        size_t size;
        bool payload = gm_payload_incomplete(&ch->payload);
        if (payload) {
            room = gm_payload_reserve(&ch->payload, &size);
        } else if (gm_parser_reserve(&ch->parser, &room, &size) != GM_OK) {
            rb_memerror();
        }
        ssize_t read = recv(fd, room, size, MSG_DONTWAIT);
        ch->more = read == (ssize_t)size;
        if (read > 0) {
            if (payload) {
                gm_payload_commit(&ch->payload, (size_t)read);
                if (gm_payload_complete(&ch->payload)) ch->more = false; /* its room ended with it */
            } else {
                gm_parser_commit(&ch->parser, (size_t)read);
            }
            ch->last_heard = gm_now();
            return GM_IO_OK;
        }
        if (read == 0) return fail(self, 0);
        if (errno == EAGAIN || errno == EWOULDBLOCK) return GM_IO_AGAIN;
        if (errno != EINTR) return fail(self, errno);
    }
}

bool gm_channel_look(VALUE self)
{
    for (int looks = 0; looks < LOOKS && get(self)->waiting == 0; looks++) {
        if (gm_channel_fill(self) != GM_IO_OK) break;
    }
    return gm_channel_usable(self);
}

GM_HOT static gm_status next_packet(VALUE self, channel *ch, gm_reply *reply)
{
    reply->payload = Qnil;
    if (GM_UNLIKELY(!NIL_P(ch->payload.data))) {
        if (gm_payload_incomplete(&ch->payload)) return GM_AGAIN;
        gm_payload_take(&ch->payload, reply);
        return GM_OK;
    }
    if (gm_parser_rest(&ch->parser).length == 0) return GM_AGAIN;
    gm_status status = gm_parser_next(&ch->parser, &reply->packet);
    if (GM_LIKELY(status == GM_OK)) {
        gm_packet_split(&reply->packet, reply->parts);
    } else if (status == GM_AGAIN) {
        gm_payload_begin(self, &ch->payload, &ch->parser);
    }
    return status;
}

GM_HOT gm_io gm_channel_next(VALUE self, gm_reply *reply)
{
    channel *ch = get(self);
    if (GM_UNLIKELY(foreign(ch))) return GM_IO_CLOSED; /* what the parent has read ahead is the parent's */
    for (;;) {
        gm_status status = next_packet(self, ch, reply);
        if (status == GM_AGAIN) {
            trim(ch, &ch->parser.buffer);
            return gm_channel_usable(self) ? GM_IO_AGAIN : GM_IO_CLOSED;
        }
        if (GM_UNLIKELY(status != GM_OK)) {
            RB_OBJ_WRITE(self, &ch->why, gm_refusal(&ch->parser, status));
            ch->broken = status;
            gm_channel_close(self);
            return GM_IO_CLOSED;
        }
        if (GM_LIKELY(gm_replies_place(&ch->replies, reply))) return GM_IO_OK;
    }
}

enum {
    SHORT_READ = 4096,
    SOON = 20 * 1000 * 1000, /* nanoseconds: longer than a socket that blocks waits in recv() */
};

typedef struct {
    int fd;
    bool ran;
    ssize_t read;
    int error;
    uint8_t bytes[SHORT_READ];
} short_read;

GM_HOT static void *read_shortly(void *data)
{
    short_read *what = data;
    what->ran = true;
    what->read = recv(what->fd, what->bytes, sizeof(what->bytes), 0);
    what->error = errno;
    return NULL;
}

/* Whether a recv() of this thread may wait for as long as the socket's own time-out. */
static bool can_wait_shortly(const channel *ch)
{
    return ch->blocking && ch->reading < 0 && NIL_P(rb_fiber_scheduler_current());
}

/* How many bytes are to wake recv(): those to collect that were not read yet. */
static int wake_size(const channel *ch, size_t collect)
{
    if (gm_payload_incomplete(&ch->payload)) return 1;
    size_t read = gm_parser_rest(&ch->parser).length;
    return collect > read ? (int)(collect - read) : 1;
}

/*
 * A reply that is under way comes sooner than the socket's own time-out, and is read with one system call
 * instead of two. The bytes go through the stack, as other threads run meanwhile; where there are none, Ruby's lock is
 * kept for that moment.
 */
GM_HOT static gm_io await_shortly(VALUE self, channel *ch, size_t collect)
{
    short_read what; /* not initialised as a whole: clearing its bytes would cost as much as the wait */
    what.fd = gm_descriptor(ch->io);
    what.ran = false;
    what.read = -1;
    what.error = 0;
    if (GM_UNLIKELY(what.fd < 0)) return fail(self, EBADF);
    if (ch->own_fd >= 0) what.fd = ch->own_fd;
    wake_at(ch, wake_size(ch, collect));
    ch->reading = what.fd;
    ch->waiting++;
    if (rb_thread_alone()) {
        read_shortly(&what);
    } else {
        rb_nogvl(read_shortly, &what, RUBY_UBF_IO, NULL, RB_NOGVL_INTR_FAIL);
    }
    ch->reading = -1;
    gm_channel_waited(self);
    if (GM_UNLIKELY(!what.ran || (what.read < 0 && what.error == EINTR))) {
        rb_thread_check_ints();
        return GM_IO_AGAIN;
    }
    if (GM_UNLIKELY(what.read < 0))
        return what.error == EAGAIN || what.error == EWOULDBLOCK ? GM_IO_AGAIN : fail(self, what.error);
    if (GM_UNLIKELY(what.read == 0)) return fail(self, 0);
    take_in(ch, (gm_slice){what.bytes, (size_t)what.read});
    ch->more = what.read == SHORT_READ;
    return GM_IO_OK;
}

GM_HOT gm_io gm_channel_await_shortly(VALUE self)
{
    channel *ch = get(self);
    if (!gm_channel_usable(self)) return GM_IO_CLOSED;
    return can_wait_shortly(ch) ? await_shortly(self, ch, 1) : GM_IO_AGAIN;
}

GM_HOT gm_io gm_channel_await(VALUE self, size_t collect, gm_deadline deadline)
{
    channel *ch = get(self);
    if (GM_UNLIKELY(!gm_channel_usable(self))) return GM_IO_CLOSED;
    int events = gm_channel_events(self);
    gm_deadline heard = ch->last_heard;
    if (events == RUBY_IO_READABLE && can_wait_shortly(ch) && (deadline == GM_NEVER || deadline - gm_now() > SOON)) {
        gm_io result = await_shortly(self, ch, collect);
        if (GM_LIKELY(result != GM_IO_AGAIN)) return result;
        if (!gm_channel_usable(self)) return GM_IO_CLOSED;
        if (ch->last_heard != heard) return GM_IO_OK; /* another thread has looked, and read it */
    }
    int ready = wait_for(self, events, deadline);
    if (ready == 0) return GM_IO_TIMEOUT;
    if (ready == GM_WAIT_CLOSED) return fail(self, EBADF);
    if (!gm_channel_usable(self)) return GM_IO_CLOSED;
    if ((ready & ch->write_events) && gm_channel_send(self) == GM_IO_CLOSED) return GM_IO_CLOSED;
    return gm_channel_fill(self);
}

GM_HOT gm_io gm_channel_receive(VALUE self, gm_reply *reply, size_t collect, gm_deadline deadline)
{
    for (;;) {
        gm_deadline heard = gm_channel_last_heard(self);
        gm_io result = gm_channel_next(self, reply);
        if (result != GM_IO_AGAIN) return result;
        if (gm_channel_eager(self) && gm_channel_fill(self) != GM_IO_AGAIN) {
            rb_thread_check_ints();
        } else if (gm_channel_last_heard(self) != heard) {
            rb_thread_check_ints(); /* another thread has looked, and read it */
        } else if (gm_channel_await(self, collect, deadline) == GM_IO_TIMEOUT) {
            return GM_IO_TIMEOUT;
        }
        result = gm_channel_next(self, reply);
        if (result != GM_IO_AGAIN) return result;
        /* Whoever goes on sending what is for nobody must not keep a caller beyond its deadline. */
        if (deadline <= gm_now()) return GM_IO_TIMEOUT;
    }
}

GM_HOT gm_io gm_channel_receive_own(VALUE self, gm_reply *reply, size_t collect, gm_deadline deadline)
{
    gm_io result;
    while ((result = gm_channel_receive(self, reply, collect, deadline)) == GM_IO_OK && reply->slot == GM_NOBODY) {
        if (deadline <= gm_now()) return GM_IO_TIMEOUT;
    }
    return result;
}

/*
 * The conversation of Connection#send_request and read_response: one reply at a time, for code that
 * speaks in packets itself.
 */

static VALUE pair(const gm_reply *reply)
{
    return rb_assoc_new(gm_command_symbol(reply->packet.command), gm_reply_body(reply));
}

/* call-seq: new(io, peer, own = false); own: the library opened the socket and may set its options */
static VALUE channel_s_new(int argc, VALUE *argv, VALUE klass)
{
    VALUE io, peer, own;
    rb_scan_args(argc, argv, "21", &io, &peer, &own);
    return gm_channel_new(io, StringValue(peer), RTEST(own));
}

/*
 * Whoever has the socket may close it while a thread is in recv(), which must not read what has the number of its
 * descriptor then.
 */
static void keep_own_fd(channel *ch)
{
    struct timeval moment = {.tv_usec = 1000};
    int fd = gm_descriptor(ch->io);
    if (ch->own_fd < 0 && fd >= 0) ch->own_fd = rb_cloexec_dup(fd);
    if (ch->own_fd < 0) ch->blocking = false;
    while (ch->reading >= 0 && ch->reading != ch->own_fd) rb_thread_wait_for(moment);
}

/* call-seq: io -> the socket, nil when closed */
static VALUE channel_io(VALUE self)
{
    channel *ch = get(self);
    if (ch->blocking && gm_channel_usable(self)) {
        keep_own_fd(ch);
        wake_at(ch, 1); /* who has the socket may wait on it */
    }
    return ch->io;
}

/* call-seq: usable? -> whether it is open and was opened by this process */
static VALUE channel_usable_p(VALUE self) { return gm_channel_usable(self) ? Qtrue : Qfalse; }

/* call-seq: look -> nil; closes it if it was silent for a while and the server has closed it meanwhile */
static VALUE channel_look(VALUE self)
{
    if (gm_now() - get(self)->last_heard >= GM_LOOKED_AT_AFTER) gm_channel_look(self);
    return Qnil;
}

/* call-seq: buffered? -> whether bytes were read ahead, or replies kept */
static VALUE channel_buffered_p(VALUE self)
{
    channel *ch = get(self);
    bool kept = !NIL_P(ch->kept) && RARRAY_LEN(ch->kept) > 0;
    return kept || !NIL_P(ch->payload.data) || gm_parser_rest(&ch->parser).length > 0 ? Qtrue : Qfalse;
}

/* call-seq: close -> nil */
static VALUE channel_close(VALUE self)
{
    gm_channel_close(self);
    return Qnil;
}

/* call-seq: queue(bytes) -> nil; they leave with the next packet that is sent, and nobody waits for the reply */
static VALUE channel_queue(VALUE self, VALUE bytes)
{
    channel *ch = get(self);
    uint32_t conversation = ch->replies.conversation;
    ch->replies.conversation = 0;
    gm_channel_queue_bytes(self, bytes, 0);
    ch->replies.conversation = conversation;
    return Qnil;
}

/*
 * call-seq: send_update(bytes, timeout = nil) -> nil
 *
 * Sends packets. Safe from any thread.
 */
static VALUE channel_send_update(int argc, VALUE *argv, VALUE self)
{
    VALUE bytes, timeout;
    rb_scan_args(argc, argv, "11", &bytes, &timeout);
    gm_deadline deadline = gm_deadline_in(timeout);
    channel *ch = get(self);
    if (!gm_channel_usable(self)) gm_channel_raise(self);
    uint64_t start = ch->queued;
    gm_channel_queue_bytes(self, bytes, ++ch->raw_slot);
    gm_io result = gm_channel_flush(self, start, deadline, GM_NEVER, false);
    if (result != GM_IO_OK) raise_io(self, result);
    return Qnil;
}

/* call-seq: flush -> nil; sends what was queued */
static VALUE channel_flush(VALUE self)
{
    gm_io result = gm_channel_flush(self, get(self)->queued, GM_NEVER, GM_NEVER, false);
    if (result != GM_IO_OK) raise_io(self, result);
    return Qnil;
}

/* call-seq: registered -> the functions that were announced on it */
static VALUE channel_registered(VALUE self)
{
    channel *ch = get(self);
    return NIL_P(ch->registered) ? rb_ary_new() : rb_ary_dup(ch->registered);
}

/*
 * call-seq: announce(name, bytes, functions = nil) -> whether it is new
 *
 * Queues the packet that announces a function, once. With a Hash of functions, one that is not in it any more is not
 * announced. No other thread comes in between, so that what the server is told last is what holds.
 */
static VALUE channel_announce(int argc, VALUE *argv, VALUE self)
{
    VALUE name, bytes, functions;
    rb_scan_args(argc, argv, "21", &name, &bytes, &functions);
    StringValue(name);
    channel *ch = get(self);
    if (!gm_channel_usable(self)) gm_channel_raise(self);
    if (NIL_P(ch->registered)) RB_OBJ_WRITE(self, &ch->registered, rb_ary_new());
    if (!NIL_P(functions) && NIL_P(rb_hash_lookup(functions, name))) return Qfalse;
    if (RTEST(rb_ary_includes(ch->registered, name))) return Qfalse;
    gm_channel_queue_bytes(self, bytes, ++ch->raw_slot);
    rb_ary_push(ch->registered, rb_str_new_frozen(name));
    return Qtrue;
}

/*
 * call-seq: retract(name, bytes, functions) -> whether it was announced, and is not in the Hash of functions
 *
 * Queues the packet that takes a function back. No other thread comes in between.
 */
static VALUE channel_retract(VALUE self, VALUE name, VALUE bytes, VALUE functions)
{
    StringValue(name);
    channel *ch = get(self);
    if (!gm_channel_usable(self)) gm_channel_raise(self);
    if (NIL_P(ch->registered) || !NIL_P(rb_hash_lookup(functions, name))) return Qfalse;
    if (!RTEST(rb_ary_includes(ch->registered, name))) return Qfalse; /* rb_ary_delete would yield it then */
    rb_ary_delete(ch->registered, name);
    gm_channel_queue_bytes(self, bytes, ++ch->raw_slot);
    return Qtrue;
}

static VALUE next_response(VALUE self, gm_deadline deadline)
{
    channel *ch = get(self);
    if (!NIL_P(ch->kept) && RARRAY_LEN(ch->kept) > 0) return rb_ary_shift(ch->kept);
    gm_reply reply;
    gm_io result = gm_channel_receive(self, &reply, 1, deadline);
    if (result != GM_IO_OK) raise_io(self, result);
    return pair(&reply);
}

/* call-seq: read_response(timeout = nil) -> [Symbol, String] */
static VALUE channel_read_response(int argc, VALUE *argv, VALUE self)
{
    VALUE timeout;
    rb_scan_args(argc, argv, "01", &timeout);
    return next_response(self, gm_deadline_in(timeout));
}

typedef struct {
    VALUE self;
    uint32_t slot;
    uint64_t start; /* gm_channel_queued before the request */
    gm_deadline deadline;
    bool has_reply, answered;
} exchange;

static VALUE await_reply(VALUE data)
{
    exchange *ex = (exchange *)data;
    gm_io sent = gm_channel_flush(ex->self, ex->start, ex->deadline, GM_NEVER, true);
    if (sent != GM_IO_OK) raise_io(ex->self, sent);
    /* The protocol has no reply to it: whatever comes next is what the caller asked for. */
    if (!ex->has_reply) return next_response(ex->self, ex->deadline);
    for (;;) {
        gm_reply reply;
        gm_io result = gm_channel_receive(ex->self, &reply, 1, ex->deadline);
        if (result != GM_IO_OK) raise_io(ex->self, result);
        if (reply.slot == ex->slot) {
            ex->answered = true;
            return pair(&reply);
        }
        channel *ch = get(ex->self);
        if (NIL_P(ch->kept)) RB_OBJ_WRITE(ex->self, &ch->kept, rb_ary_new());
        rb_ary_push(ch->kept, pair(&reply));
        if (ex->deadline <= gm_now()) gm_channel_raise_timeout(ex->self);
    }
}

static VALUE disown(VALUE data)
{
    exchange *ex = (exchange *)data;
    if (!ex->answered) gm_replies_disown(&get(ex->self)->replies, ex->slot);
    return Qnil;
}

VALUE gm_channel_request(VALUE self, VALUE bytes, gm_deadline deadline)
{
    channel *ch = get(self);
    exchange ex = {.self = self, .slot = ++ch->raw_slot, .deadline = deadline};
    if (!gm_channel_usable(self)) gm_channel_raise(self);
    ex.start = ch->queued;
    ex.has_reply = gm_channel_queue_bytes(self, bytes, ex.slot);
    return rb_ensure(await_reply, (VALUE)&ex, disown, (VALUE)&ex);
}

/* call-seq: request(bytes, timeout = nil) -> [Symbol, String] */
static VALUE channel_request(int argc, VALUE *argv, VALUE self)
{
    VALUE bytes, timeout;
    rb_scan_args(argc, argv, "11", &bytes, &timeout);
    return gm_channel_request(self, bytes, gm_deadline_in(timeout));
}

/*
 * call-seq: read_bytes(length, timeout = nil) -> String
 */
static VALUE channel_read_bytes(int argc, VALUE *argv, VALUE self)
{
    VALUE length, timeout;
    rb_scan_args(argc, argv, "11", &length, &timeout);
    size_t wanted = NUM2SIZET(length);
    gm_deadline deadline = gm_deadline_in(timeout);
    channel *ch = get(self);
    gm_slice rest;
    gm_payload_give_back(&ch->payload, &ch->parser);
    while ((rest = gm_parser_rest(&ch->parser)).length < wanted) {
        gm_io result = gm_channel_eager(self) ? gm_channel_fill(self) : GM_IO_AGAIN;
        if (result == GM_IO_AGAIN) result = gm_channel_await(self, 1, deadline);
        if (result == GM_IO_CLOSED || result == GM_IO_TIMEOUT) raise_io(self, result);
    }
    rest.length = wanted;
    VALUE bytes = gm_str_new(rest);
    gm_buffer_consume(&ch->parser.buffer, wanted);
    return bytes;
}

void Init_gearman_channel(void)
{
    pthread_atfork(NULL, NULL, count_generation);
    id_OpenSSL = rb_intern("OpenSSL");
    id_OpenSSLError = rb_intern("OpenSSLError");
    id_close = rb_intern("close");
    id_read_nonblock = rb_intern("read_nonblock");
    id_readpartial = rb_intern("readpartial");
    id_to_io = rb_intern("to_io");
    id_write = rb_intern("write");
    id_write_nonblock = rb_intern("write_nonblock");
    cBasicSocket = rb_const_get(rb_cObject, rb_intern("BasicSocket"));
    rb_gc_register_mark_object(cBasicSocket);
    no_exception = rb_hash_new();
    rb_hash_aset(no_exception, ID2SYM(rb_intern("exception")), Qfalse);
    rb_gc_register_mark_object(rb_obj_freeze(no_exception));

    /*
     * Document-class: Gearman::Channel
     *
     * One socket to a server, see channel.h.
     *
     * @api private
     */
    cChannel = rb_define_class_under(gm_mGearman, "Channel", rb_cObject);
    rb_gc_register_mark_object(cChannel);
    rb_undef_alloc_func(cChannel);
    rb_define_singleton_method(cChannel, "new", channel_s_new, -1);
    rb_define_method(cChannel, "io", channel_io, 0);
    rb_define_method(cChannel, "usable?", channel_usable_p, 0);
    rb_define_method(cChannel, "look", channel_look, 0);
    rb_define_method(cChannel, "buffered?", channel_buffered_p, 0);
    rb_define_method(cChannel, "close", channel_close, 0);
    rb_define_method(cChannel, "queue", channel_queue, 1);
    rb_define_method(cChannel, "send_update", channel_send_update, -1);
    rb_define_method(cChannel, "flush", channel_flush, 0);
    rb_define_method(cChannel, "registered", channel_registered, 0);
    rb_define_method(cChannel, "announce", channel_announce, -1);
    rb_define_method(cChannel, "retract", channel_retract, 3);
    rb_define_method(cChannel, "read_response", channel_read_response, -1);
    rb_define_method(cChannel, "request", channel_request, -1);
    rb_define_method(cChannel, "read_bytes", channel_read_bytes, -1);
}
