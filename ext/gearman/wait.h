#ifndef GM_WAIT_H
#define GM_WAIT_H

#include "native.h"

/* A point on the monotonic clock, in nanoseconds. */
typedef int64_t gm_deadline;

#define GM_NEVER INT64_MAX

#define GM_MILLISECONDS ((gm_deadline)1000000)

/* The monotonic clock now. */
gm_deadline gm_now(void);

/* Now plus `seconds` (nil: GM_NEVER; below 0: now). Raises InvalidArgsError for what is no number. */
gm_deadline gm_deadline_in(VALUE seconds);

/* Now plus an interval in nanoseconds; GM_NEVER stays GM_NEVER. */
gm_deadline gm_deadline_after(gm_deadline interval);

/* What is left until a deadline as Ruby has it: a Float of seconds, never below 0; nil for GM_NEVER. */
VALUE gm_seconds_until(gm_deadline deadline);

/* A deadline as Gearman::Clock has it: a Float of seconds; nil for GM_NEVER. */
VALUE gm_clock_at(gm_deadline deadline);

/* `seconds` in nanoseconds (nil: GM_NEVER; below 0: 0). Raises as gm_deadline_in. */
gm_deadline gm_interval(VALUE seconds);

/* The earlier of two. */
static inline gm_deadline gm_earlier(gm_deadline one, gm_deadline other) { return one < other ? one : other; }

/* Calls a function from which interrupts are kept until it has returned. Returns what it does. */
VALUE gm_uninterrupted(rb_block_call_func_t call, VALUE data);

/*
 * Waits until `io` is ready for one of `events` (RUBY_IO_READABLE, RUBY_IO_WRITABLE). Other threads and
 * fibers run meanwhile; raises what interrupts the wait.
 *
 * Return values: the events it is ready for, all of them if `io` cannot be waited on; 0 when the deadline
 * passed; GM_WAIT_CLOSED when somebody closed it.
 */
int gm_wait(VALUE io, int events, gm_deadline deadline);

enum { GM_WAIT_CLOSED = -1 };

/*
 * Waits until one of `readers` can be read or one of `writers` written (Arrays of IO; nil: none). Returns
 * whether one can, or was closed by somebody, or whether all are to be looked at; raises what interrupts the wait.
 * Under a Fiber scheduler a close wakes nobody that does not shut the socket down, as that of a channel does.
 */
bool gm_wait_any(VALUE readers, VALUE writers, gm_deadline deadline);

void Init_gearman_wait(void);

#endif
