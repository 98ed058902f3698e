#ifndef GM_REPLIES_H
#define GM_REPLIES_H

#include "native.h"
#include "packet.h"

#include <ruby/st.h> /* behind ruby.h */

/*
 * Every reply on a channel has its place: the answers to requests come in their order, whatever a job sends
 * finds those who wait for its handle. What belongs to a conversation that is over is known, and dropped.
 */

/* The slot of what belongs to no request of the conversation. */
#define GM_NOBODY UINT32_MAX

/* A reply, cut into its parts: slices of the channel's buffers, good until anything is read, or the next one taken. */
typedef struct {
    gm_packet packet; /* whose body ends where the data begins, if there is a `payload` */
    gm_slice parts[GM_MAX_ARGUMENTS];
    VALUE payload;      /* the data of a large packet, as the String that it was read into; otherwise nil */
    uint32_t slot;      /* of the request it belongs to, or GM_NOBODY */
    gm_command request; /* the type of that request, for its first reply; otherwise 0 */
} gm_reply;

/* One of the parts as a String, see gm_str_new: to be asked for once, as it may be the payload itself. */
VALUE gm_reply_part(const gm_reply *reply, size_t index);

/* The whole body as a String. */
VALUE gm_reply_body(const gm_reply *reply);

typedef struct gm_expected_reply gm_expected_reply;

/* It owns its memory. */
typedef struct {
    uint32_t conversation;
    gm_expected_reply *expected; /* a ring */
    size_t expected_capacity, expected_head, expected_count;
    st_table *jobs;                         /* the open jobs by handle */
    struct gm_open_job *quietest, *loudest; /* those that somebody waits for, by when something was heard of them */
    size_t handle_size;                     /* of the last job that was created */
} gm_replies;

/* Makes an empty one; it allocates nothing. */
void gm_replies_init(gm_replies *replies);

/* Gives all memory back. */
void gm_replies_free(gm_replies *replies);

/* The bytes it holds. */
size_t gm_replies_memsize(const gm_replies *replies);

/* Begins another conversation: what is still to come for the one before belongs to nobody. */
void gm_replies_begin(gm_replies *replies);

/* Makes room for more. Raises NoMemoryError. */
GM_COLD void gm_replies_grow(gm_replies *replies);

/* Makes room for one more, so that gm_replies_expect cannot fail. Raises NoMemoryError. */
static inline void gm_replies_reserve(gm_replies *replies)
{
    if (GM_UNLIKELY(replies->expected_count == replies->expected_capacity)) gm_replies_grow(replies);
}

/*
 * Expects the reply to `request`, if the protocol has one, for `slot`; `end` tells where the request ends
 * among the bytes that were queued. Returns whether there is to be a reply.
 */
bool gm_replies_expect(gm_replies *replies, gm_command request, uint32_t slot, uint64_t end);

/* No longer expects replies to requests that end behind `end`: they were taken back. */
void gm_replies_retract(gm_replies *replies, uint64_t end);

/* Answers to requests of `slot` keep their place, without an owner. */
void gm_replies_disown(gm_replies *replies, uint32_t slot);

/* The job of a handle sends nothing to `slot` any more: the server does not know it. */
void gm_replies_forget(gm_replies *replies, gm_slice handle, uint32_t slot);

/*
 * Sets the slot and the request of a reply, whose packet and parts are set. Returns false when it came for
 * nobody and is to be dropped. Raises NoMemoryError.
 */
bool gm_replies_place(gm_replies *replies, gm_reply *reply);

/*
 * The handle of the open job of which nothing was heard for the longest time, and a slot that waits for it; GM_NOBODY:
 * there is none. Good until the next call that is not const.
 */
gm_slice gm_replies_quietest(const gm_replies *replies, uint32_t *slot);

/* The job of gm_replies_quietest is asked after: it is the last one now. */
void gm_replies_pass(gm_replies *replies);

/* Whether `slot` waits for the job of a handle. */
bool gm_replies_waits(gm_replies *replies, gm_slice handle, uint32_t slot);

/* Whether answers or results are still to come. */
bool gm_replies_owed(const gm_replies *replies);

/* Whether a request is for a background job: its JOB_CREATED is all that comes. */
bool gm_is_background(gm_command request);

#endif
