#include "wait.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <ruby/fiber/scheduler.h>
#include <time.h>
#ifdef __linux__
#include <sys/epoll.h>
#endif

static ID id_handle_interrupt, id_select, id_to_f;
static VALUE no_interrupts; /* {Object => :never} */

enum { NANOSECONDS = 1000000000, MAX_SECONDS = 1000000000 }; /* 30 years are for ever */

GM_HOT gm_deadline gm_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (gm_deadline)now.tv_sec * NANOSECONDS + now.tv_nsec;
}

GM_HOT gm_deadline gm_interval(VALUE seconds)
{
    if (NIL_P(seconds)) return GM_NEVER;
    VALUE number = seconds;
    if (!FIXNUM_P(seconds) && !RB_FLOAT_TYPE_P(seconds) && !RTEST(rb_obj_is_kind_of(seconds, rb_cNumeric))) {
        /* ActiveSupport::Duration is none, and acts as one. */
        bool duration = !RB_TYPE_P(seconds, T_STRING) && rb_respond_to(seconds, id_to_f);
        if (!duration) {
            rb_raise(gm_eInvalidArgsError, "a time-out is a number of seconds or nil, not %+" PRIsVALUE, seconds);
        }
        number = rb_funcall(seconds, id_to_f, 0);
    }
    if (FIXNUM_P(number) && FIX2LONG(number) >= 0 && FIX2LONG(number) <= MAX_SECONDS) {
        return (gm_deadline)FIX2LONG(number) * NANOSECONDS;
    }
    double relative = NUM2DBL(number);
    if (isnan(relative)) rb_raise(gm_eInvalidArgsError, "a time-out is a number of seconds or nil, not NaN");
    if (relative <= 0) return 0;
    return relative > MAX_SECONDS ? GM_NEVER : (gm_deadline)(relative * NANOSECONDS);
}

GM_HOT gm_deadline gm_deadline_in(VALUE seconds) { return gm_deadline_after(gm_interval(seconds)); }

GM_HOT gm_deadline gm_deadline_after(gm_deadline interval)
{
    if (interval == GM_NEVER) return GM_NEVER;
    return gm_now() + interval;
}

VALUE gm_seconds_until(gm_deadline deadline)
{
    if (deadline == GM_NEVER) return Qnil;
    gm_deadline left = deadline - gm_now();
    return DBL2NUM(left > 0 ? (double)left / NANOSECONDS : 0.0);
}

VALUE gm_clock_at(gm_deadline deadline)
{
    return deadline == GM_NEVER ? Qnil : DBL2NUM((double)deadline / NANOSECONDS);
}

VALUE gm_uninterrupted(rb_block_call_func_t call, VALUE data)
{
    return rb_block_call(rb_cThread, id_handle_interrupt, 1, &no_interrupts, call, data);
}

typedef struct {
    VALUE one, other; /* the IO and its events, or readers and writers */
    gm_deadline deadline;
    VALUE epoll; /* the IO that stands for all of them, where there is one */
} waiting;

static VALUE wait_for_one(VALUE data)
{
    waiting *what = (waiting *)data;
    return rb_io_wait(what->one, what->other, gm_seconds_until(what->deadline));
}

static VALUE wait_for_any(VALUE data)
{
    waiting *what = (waiting *)data;
    return rb_funcall(rb_cIO, id_select, 4, what->one, what->other, Qnil, gm_seconds_until(what->deadline));
}

static VALUE closed(VALUE data, VALUE error) { return INT2FIX(GM_WAIT_CLOSED); }

int gm_wait(VALUE io, int events, gm_deadline deadline)
{
    if (!RB_TYPE_P(io, T_FILE)) return events;
    waiting what = {io, INT2FIX(events), deadline, Qnil};
    for (;;) {
        VALUE ready = rb_rescue2(wait_for_one, (VALUE)&what, closed, Qnil, rb_eIOError, (VALUE)0);
        if (FIXNUM_P(ready) && ready != INT2FIX(0)) return FIX2INT(ready);
        /* A fiber is also woken by what it waited for before, if that came when it had given up. */
        if (gm_now() >= deadline) return 0;
    }
}

#ifdef __linux__
/* Returns false if one of them cannot be watched: it is closed, or no IO, or there is no room. */
static bool watch(int epoll, VALUE ios, uint32_t events)
{
    for (long i = 0; i < (NIL_P(ios) ? 0 : RARRAY_LEN(ios)); i++) {
        VALUE io = rb_ary_entry(ios, i);
        int fd = RB_TYPE_P(io, T_FILE) ? gm_descriptor(io) : -1;
        struct epoll_event event = {.events = events};
        if (fd >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0) continue;
        event.events = EPOLLIN | EPOLLOUT; /* it is among the others, too */
        if (fd < 0 || errno != EEXIST || epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event) < 0) return false;
    }
    return true;
}

/* Qtrue when one is ready, Qfalse at the deadline, Qnil when they cannot be watched. */
static VALUE watch_all(VALUE data)
{
    waiting *what = (waiting *)data;
    int epoll = rb_io_descriptor(what->epoll);
    if (!watch(epoll, what->one, EPOLLIN) || !watch(epoll, what->other, EPOLLOUT)) return Qnil;
    return gm_wait(what->epoll, RUBY_IO_READABLE, what->deadline) == 0 ? Qfalse : Qtrue;
}

static VALUE close_masked(RB_BLOCK_CALL_FUNC_ARGLIST(unused, io)) { return rb_io_close(io); }

static VALUE close_epoll(VALUE io) { return gm_uninterrupted(close_masked, io); }
#endif

/* How long a fiber waits for one of several sockets until the others are looked at, where it cannot wait for all. */
#define FIBER_TURN ((gm_deadline)NANOSECONDS / 100)

/* IO.select would stop all fibers. What any fiber can wait for is one descriptor, which epoll has for many. */
static bool fiber_wait_any(VALUE readers, VALUE writers, gm_deadline deadline)
{
#ifdef __linux__
    int fd = epoll_create1(EPOLL_CLOEXEC);
    if (fd >= 0) {
        waiting what = {readers, writers, deadline, rb_io_fdopen(fd, O_RDONLY, NULL)};
        VALUE ready = rb_ensure(watch_all, (VALUE)&what, close_epoll, what.epoll);
        if (!NIL_P(ready)) return RTEST(ready);
    }
#endif
    gm_wait(rb_ary_entry(readers, 0), RUBY_IO_READABLE, gm_earlier(deadline, gm_now() + FIBER_TURN));
    return deadline == GM_NEVER || gm_now() < deadline;
}

bool gm_wait_any(VALUE readers, VALUE writers, gm_deadline deadline)
{
    if (!NIL_P(rb_fiber_scheduler_current())) return fiber_wait_any(readers, writers, deadline);
    waiting what = {readers, writers, deadline, Qnil};
    return RTEST(rb_rescue2(wait_for_any, (VALUE)&what, closed, Qnil, rb_eIOError, (VALUE)0));
}

void Init_gearman_wait(void)
{
    id_handle_interrupt = rb_intern("handle_interrupt");
    id_select = rb_intern("select");
    id_to_f = rb_intern("to_f");
    no_interrupts = rb_hash_new();
    rb_hash_aset(no_interrupts, rb_cObject, ID2SYM(rb_intern("never")));
    rb_gc_register_mark_object(rb_obj_freeze(no_interrupts));
}
