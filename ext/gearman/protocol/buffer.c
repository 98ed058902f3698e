#include "buffer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { INITIAL_CAPACITY = 1024, KEPT_CAPACITY = 256 * 1024 };

void gm_buffer_init(gm_buffer *buffer) { memset(buffer, 0, sizeof(*buffer)); }

void gm_buffer_free(gm_buffer *buffer)
{
    free(buffer->memory);
    gm_buffer_init(buffer);
}

static void move_to_front(gm_buffer *buffer)
{
    if (buffer->start == 0) return;
    memmove(buffer->memory, buffer->memory + buffer->start, gm_buffer_length(buffer));
    buffer->end -= buffer->start;
    buffer->start = 0;
}

static gm_status grow(gm_buffer *buffer, size_t needed)
{
    size_t capacity = buffer->capacity ? buffer->capacity : INITIAL_CAPACITY;
    while (capacity < needed) {
        if (capacity > SIZE_MAX / 2) return GM_NO_MEMORY;
        capacity *= 2;
    }
    uint8_t *memory = realloc(buffer->memory, capacity);
    if (!memory) return GM_NO_MEMORY;
    buffer->memory = memory;
    buffer->capacity = capacity;
    return GM_OK;
}

gm_status gm_buffer_reserve(gm_buffer *buffer, size_t length, uint8_t **room)
{
    if (length > buffer->capacity - buffer->end) {
        size_t unread = gm_buffer_length(buffer);
        if (length > SIZE_MAX - unread) return GM_NO_MEMORY;
        if (unread + length > buffer->capacity) {
            gm_status status = grow(buffer, unread + length);
            if (status != GM_OK) return status;
        }
        move_to_front(buffer);
    }
    buffer->reserved = length;
    *room = buffer->memory ? buffer->memory + buffer->end : NULL;
    return GM_OK;
}

void gm_buffer_commit(gm_buffer *buffer, size_t length)
{
    assert(length <= buffer->reserved);
    buffer->end += length;
    buffer->reserved = 0;
}

gm_status gm_buffer_append(gm_buffer *buffer, const void *bytes, size_t length)
{
    if (length == 0) return GM_OK;
    uint8_t *room;
    gm_status status = gm_buffer_reserve(buffer, length, &room);
    if (status != GM_OK) return status;
    memcpy(room, bytes, length);
    gm_buffer_commit(buffer, length);
    return GM_OK;
}

void gm_buffer_consume(gm_buffer *buffer, size_t length)
{
    assert(length <= gm_buffer_length(buffer));
    buffer->start += length;
    if (buffer->start == buffer->end) buffer->start = buffer->end = 0;
}

void gm_buffer_trim(gm_buffer *buffer)
{
    if (buffer->capacity > KEPT_CAPACITY && gm_buffer_length(buffer) == 0) gm_buffer_free(buffer);
}

void gm_buffer_retract(gm_buffer *buffer, size_t length)
{
    assert(length <= gm_buffer_length(buffer));
    buffer->end -= length;
    if (buffer->start == buffer->end) buffer->start = buffer->end = 0;
}
