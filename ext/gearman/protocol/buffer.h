#ifndef GM_BUFFER_H
#define GM_BUFFER_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "attributes.h"
#include "status.h"

/* The capacity, in bytes, that an empty buffer keeps. */
enum { GM_KEPT_CAPACITY = 256 * 1024 };

/*
 * A queue of bytes: written at the end, read at the front. It owns its memory. Pointers into it are
 * good until the next call that may move it (reserve, make_room, append, trim).
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
 * Moves or grows the memory until `length` bytes fit behind the last one.
 *
 * Return values: GM_OK; GM_NO_MEMORY (nothing changed).
 */
GM_COLD gm_status gm_buffer_make_room(gm_buffer *buffer, size_t length);

/*
 * Makes room for `length` bytes behind the last one and stores its address in `room`. The room belongs to
 * the buffer, and no other call may come between this one and the commit.
 *
 * Return values: GM_OK; GM_NO_MEMORY (nothing changed).
 */
static inline gm_status gm_buffer_reserve(gm_buffer *buffer, size_t length, uint8_t **room)
{
    if (GM_UNLIKELY(length > buffer->capacity - buffer->end)) {
        gm_status status = gm_buffer_make_room(buffer, length);
        if (status != GM_OK) return status;
    }
    buffer->reserved = length;
    *room = buffer->memory ? buffer->memory + buffer->end : NULL;
    return GM_OK;
}

/* Counts `length` bytes, at most those reserved, as written. */
static inline void gm_buffer_commit(gm_buffer *buffer, size_t length)
{
    assert(length <= buffer->reserved);
    buffer->end += length;
    buffer->reserved = 0;
}

/*
 * Copies `length` bytes behind the last one.
 *
 * Return values: GM_OK; GM_NO_MEMORY (nothing changed).
 */
static inline gm_status gm_buffer_append(gm_buffer *buffer, const void *bytes, size_t length)
{
    uint8_t *room;
    if (GM_UNLIKELY(length == 0)) return GM_OK;
    gm_status status = gm_buffer_reserve(buffer, length, &room);
    if (GM_UNLIKELY(status != GM_OK)) return status;
    memcpy(room, bytes, length);
    gm_buffer_commit(buffer, length);
    return GM_OK;
}

/* Drops `length` bytes, at most those unread, from the front. They stay in place until the next reserve. */
static inline void gm_buffer_consume(gm_buffer *buffer, size_t length)
{
    assert(length <= buffer->end - buffer->start);
    buffer->start += length;
    if (buffer->start == buffer->end) buffer->start = buffer->end = 0;
}

/* Gives memory grown for a large packet back, if nothing is unread. */
static inline void gm_buffer_trim(gm_buffer *buffer)
{
    if (GM_UNLIKELY(buffer->capacity > GM_KEPT_CAPACITY && buffer->start == buffer->end)) gm_buffer_free(buffer);
}

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
