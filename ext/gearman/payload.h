#ifndef GM_PAYLOAD_H
#define GM_PAYLOAD_H

#include "native.h"
#include "replies.h"

/* The size of a body, in bytes, from which on its data is not copied where that can be avoided. */
#define GM_LARGE_BODY ((size_t)64 * 1024)

/*
 * A large packet on its way: its data is read past the parser, into the String that is handed out. It belongs to a
 * channel, whose packets come one after the other.
 */
typedef struct {
    VALUE data;          /* what came of it; nil: there is no such packet */
    size_t missing;      /* how many bytes of it are still to come */
    bool ascii;          /* whether it is ASCII so far */
    gm_command command;  /* of the packet */
    gm_buffer arguments; /* of the packet, as its body has them before the data */
} gm_payload;

/* Makes one that is none; it allocates nothing. */
void gm_payload_init(gm_payload *payload);

/* Gives its memory back, but for the String. */
void gm_payload_free(gm_payload *payload);

/* Whether what is read next is to be read into it. */
static inline bool gm_payload_incomplete(const gm_payload *payload) { return payload->missing > 0; }

/* Whether the packet is whole and is the next one. */
static inline bool gm_payload_complete(const gm_payload *payload)
{
    return payload->missing == 0 && !NIL_P(payload->data);
}

/*
 * Takes over from the parser if a large packet has begun to come there; there may be none yet in `payload`, which is a
 * part of the object `owner`. Raises NoMemoryError with nothing changed.
 */
void gm_payload_begin(VALUE owner, gm_payload *payload, gm_parser *parser);

/*
 * Makes room for the next read into one that is incomplete, and stores its size: never more than what is missing, nor
 * than doubles what has come, but for the first 256 KiB. It is good until the commit. Raises NoMemoryError.
 */
uint8_t *gm_payload_reserve(gm_payload *payload, size_t *size);

/* Counts `length` bytes of the reserved room as read. */
void gm_payload_commit(gm_payload *payload, size_t length);

/* Copies those of the bytes that belong to one that is incomplete. Returns the others. */
gm_slice gm_payload_feed(gm_payload *payload, gm_slice bytes);

/* Sets the packet, the parts and the payload of `reply` from one that is complete. There is none behind it. */
void gm_payload_take(gm_payload *payload, gm_reply *reply);

/* Gives what came of the packet, if there is one, back to the parser. Raises NoMemoryError with nothing changed. */
void gm_payload_give_back(gm_payload *payload, gm_parser *parser);

#endif
