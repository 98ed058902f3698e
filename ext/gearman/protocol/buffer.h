#ifndef GM_BUFFER_H
#define GM_BUFFER_H

#include <stddef.h>
#include <stdint.h>

#include "status.h"

/*
 * A queue of bytes: written at the end, read at the front. It owns its memory. Pointers into it are
 * good until the next call that may move it (reserve, append, trim).
 */
typedef struct {
    uint8_t *memory;
    size_t capacity;
    size_t start;    /* first unread byte */
    size_t end;      /* one behind the last byte */
    size_t reserved; /* room promised by the last reserve */
} gm_buffer;

/* Makes an empty buffer; it allocates nothing. */
void gm_buffer_init(gm_buffer *buffer);

/* Gives the memory back and leaves an empty, usable buffer. */
void gm_buffer_free(gm_buffer *buffer);

/*
 * Makes room for `length` bytes behind the last one and stores its address in `room`. The room belongs to
 * the buffer, and no other call may come between this one and the commit.
 *
 * Return values: GM_OK; GM_NO_MEMORY (nothing changed).
 */
gm_status gm_buffer_reserve(gm_buffer *buffer, size_t length, uint8_t **room);

/* Counts `length` bytes, at most those reserved, as written. */
void gm_buffer_commit(gm_buffer *buffer, size_t length);

/*
 * Copies `length` bytes behind the last one.
 *
 * Return values: GM_OK; GM_NO_MEMORY (nothing changed).
 */
gm_status gm_buffer_append(gm_buffer *buffer, const void *bytes, size_t length);

/* Drops `length` bytes, at most those unread, from the front. They stay in place until the next reserve. */
void gm_buffer_consume(gm_buffer *buffer, size_t length);

/* Gives memory grown for a large packet back, if nothing is unread. */
void gm_buffer_trim(gm_buffer *buffer);

/* Drops `length` bytes, at most those unread, from the end. */
void gm_buffer_retract(gm_buffer *buffer, size_t length);

/* The number of unread bytes. */
static inline size_t gm_buffer_length(const gm_buffer *buffer) { return buffer->end - buffer->start; }

/* The first unread byte; NULL in a buffer that never held one. */
static inline const uint8_t *gm_buffer_bytes(const gm_buffer *buffer)
{
    return buffer->memory ? buffer->memory + buffer->start : NULL;
}

#endif
