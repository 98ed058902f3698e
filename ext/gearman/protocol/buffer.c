#include "buffer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { INITIAL_CAPACITY = 1024 };

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

gm_status gm_buffer_make_room(gm_buffer *buffer, size_t length)
{
    size_t unread = gm_buffer_length(buffer);
    if (length > SIZE_MAX - unread) return GM_NO_MEMORY;
    if (unread + length > buffer->capacity) {
        gm_status status = grow(buffer, unread + length);
        if (status != GM_OK) return status;
    }
    move_to_front(buffer);
    return GM_OK;
}

void gm_buffer_retract(gm_buffer *buffer, size_t length)
{
    assert(length <= gm_buffer_length(buffer));
    buffer->end -= length;
    if (buffer->start == buffer->end) buffer->start = buffer->end = 0;
}
