#ifndef GM_CHANNEL_H
#define GM_CHANNEL_H

#include "native.h"
#include "parser.h"
#include "replies.h"
#include "wait.h"

/* Nanoseconds without a word from the server until a channel is looked at before it is written on. */
#define GM_LOOKED_AT_AFTER ((gm_deadline)1000000000)

/*
 * Who holds a channel. It lives as long as the channel or its holder, whichever ends later, so that the
 * garbage collector can end a lease by freeing the holder.
 */
typedef struct {
    unsigned references;
    bool taken;
} gm_lease;

typedef enum {
    GM_IO_OK,
    GM_IO_AGAIN,   /* nothing there yet */
    GM_IO_TIMEOUT, /* the deadline passed */
    GM_IO_CLOSED,  /* the channel is closed; gm_channel_raise tells why */
} gm_io;

/*
 * Gearman::Channel: one socket, what is still to be sent on it, the replies that are owed on it and the
 * open jobs it will hear of. Requests are queued as whole packets and flushed; whatever is read finds the
 * slot that its request was queued with, if that conversation still goes on.
 */

/*
 * A channel over `io`, which stays the caller's to keep. `peer` (String) names the server in messages; `own`
 * tells that the library opened the socket and may set its options.
 */
VALUE gm_channel_new(VALUE io, VALUE peer, bool own);

/* Raises TypeError unless `value` is a channel, which all functions below rely on. */
void gm_channel_check(VALUE value);

/* Whether it can be used: not closed, and opened by this process. */
bool gm_channel_usable(VALUE self);

/* Whether it was opened by another process, before a fork. */
bool gm_channel_foreign(VALUE self);

/* Closes it for want of answers. */
void gm_channel_give_up(VALUE self);

/*
 * Around a wait on gm_channel_wait_io of a channel on which packets are collected, so that any byte ends it: who closes
 * the channel meanwhile ends the wait, and leaves it to the last who waited to close the socket. gm_channel_waited may
 * raise what interrupts the closing.
 */
void gm_channel_waits(VALUE self);
void gm_channel_waited(VALUE self);

/* Closes it; in a child process only its own copy of the descriptor. Harmless when closed already. */
GM_COLD void gm_channel_close(VALUE self);

/* The server's name for messages. */
VALUE gm_channel_peer(VALUE self);

/* A String that tells what ended it. */
GM_COLD VALUE gm_channel_reason(VALUE self);

/* Raises NetworkError, or ProtocolError, for why the channel was closed. */
GM_COLD NORETURN(void gm_channel_raise(VALUE self));

/* Raises SocketTimeoutError, naming the server. */
GM_COLD NORETURN(void gm_channel_raise_timeout(VALUE self));

/* Raises NetworkError: a request was sent and there is no answer, as the server is `late` or the channel was closed. */
GM_COLD NORETURN(void gm_channel_raise_in_doubt(VALUE self, bool late));

/* Raises ServerDownException: the server was lost before anything of a request was sent. */
GM_COLD NORETURN(void gm_channel_raise_unsent(VALUE self));

/* Begins another conversation: replies and jobs of the one before belong to nobody. */
void gm_channel_begin(VALUE self);

/* The lease of the channel, owned by the channel. */
gm_lease *gm_channel_lease(VALUE self);

/* Ends a reference to a lease and frees it with the last one. */
void gm_lease_release(gm_lease *lease);

/* Whether replies or results are still to come. */
bool gm_channel_owes(VALUE self);

/* What to wait on, and for which events: to read, and to write while anything is unsent. */
VALUE gm_channel_wait_io(VALUE self);
int gm_channel_events(VALUE self);

/* Keeps what is unsent back until somebody sends on the channel, or queues large data; a wait does not send it. */
void gm_channel_cork(VALUE self);

/* Whether to read before waiting: TLS keeps bytes of its own, and the last read may have left some. */
bool gm_channel_eager(VALUE self);

/* Whether memory of large packets is kept for the next, up to 4 MiB. */
void gm_channel_set_busy(VALUE self, bool busy);

/* When something was last read from it, or it was opened. */
gm_deadline gm_channel_last_heard(VALUE self);

/* Its open jobs, to ask after. They are the channel's. */
gm_replies *gm_channel_replies(VALUE self);

/* How many bytes were ever queued, and how many of them sent. */
uint64_t gm_channel_queued(VALUE self);
uint64_t gm_channel_sent(VALUE self);

/*
 * Queues a request packet; its reply, if the protocol has one, will find `slot`. Raises InvalidArgsError
 * and NoMemoryError with nothing queued, or the channel closed. The parts are copied, but for large data that the
 * socket takes at once: that, and what was queued before, is sent already then.
 */
void gm_channel_queue(VALUE self, gm_command command, const gm_slice *parts, size_t count, uint32_t slot);

/* Queues bytes that are packets already (String). Returns whether there is to be a reply to one of them. */
bool gm_channel_queue_bytes(VALUE self, VALUE bytes, uint32_t slot);

/*
 * Sends what is queued; `start` is gm_channel_queued before the caller queued its part. The socket may take
 * nothing for `patience` (GM_NEVER: for ever), and all must be sent by the deadline. While it takes nothing it reads,
 * if `duplex`: only the one who reads the channel may ask for that. When it returns anything but GM_IO_OK, or an
 * interrupt is raised out of it, the caller's part was either taken back whole, unsent, or the channel is closed.
 *
 * Return values: GM_IO_OK; GM_IO_TIMEOUT; GM_IO_CLOSED.
 */
gm_io gm_channel_flush(VALUE self, uint64_t start, gm_deadline deadline, gm_deadline patience, bool duplex);

/*
 * Sends as much of what is queued as the socket takes now.
 *
 * Return values: GM_IO_OK (all of it); GM_IO_AGAIN; GM_IO_CLOSED.
 */
gm_io gm_channel_send(VALUE self);

/*
 * Reads what has come, without waiting.
 *
 * Return values: GM_IO_OK; GM_IO_AGAIN; GM_IO_CLOSED.
 */
gm_io gm_channel_fill(VALUE self);

/*
 * Reads what has come, to see whether the server has closed the connection; nothing of it is dropped. Returns whether
 * it can be used. Whoever waits on it sees that himself, and would not be woken for what is read here.
 */
bool gm_channel_look(VALUE self);

/* How many bytes a reply with a handle has at least, going by the last one. */
size_t gm_channel_reply_size(VALUE self);

/*
 * Waits until something can be read, or what is unsent can be written, and reads. Being woken costs more than reading:
 * where the socket can wait in recv(), it wakes for `collect` bytes (at most a few thousand), or after some
 * milliseconds. The kernel counts them from what is there when recv() begins: for those that are sure to come, less
 * than half of them never waits in vain.
 *
 * Return values: GM_IO_OK; GM_IO_AGAIN (nothing was read after all); GM_IO_TIMEOUT; GM_IO_CLOSED. Raises
 * what interrupts the wait, with nothing lost that was read.
 */
gm_io gm_channel_await(VALUE self, size_t collect, gm_deadline deadline);

/*
 * Reads what comes within 5 ms, if the socket can wait for that in recv(): that is a system call less than
 * gm_channel_await, but nothing else is waited for.
 *
 * Return values: GM_IO_OK; GM_IO_AGAIN (nothing came, or it cannot); GM_IO_CLOSED. Raises like gm_channel_await.
 */
gm_io gm_channel_await_shortly(VALUE self);

/*
 * Takes the next reply from what was read; what comes for nobody is dropped on the way.
 *
 * Return values: GM_IO_OK (`reply` is set); GM_IO_AGAIN; GM_IO_CLOSED (no packet can be read any more).
 */
gm_io gm_channel_next(VALUE self, gm_reply *reply);

/* gm_channel_next that waits until the deadline, as gm_channel_await does. GM_IO_TIMEOUT when it passed. */
gm_io gm_channel_receive(VALUE self, gm_reply *reply, size_t collect, gm_deadline deadline);

/* gm_channel_receive of what is for anybody in this conversation. */
gm_io gm_channel_receive_own(VALUE self, gm_reply *reply, size_t collect, gm_deadline deadline);

/* Sends one request (String) and returns the type and body of its reply; other packets are kept for read_response. */
VALUE gm_channel_request(VALUE self, VALUE bytes, gm_deadline deadline);

void Init_gearman_channel(void);

#endif
