#include "test.h"

#include <stdlib.h>
#include <string.h>

allocation_log allocations = {0, 0, SIZE_MAX};

int allocations_reset(void **state)
{
    (void)state;
    allocations = (allocation_log){0, 0, SIZE_MAX};
    return 0;
}

void *gm_test_realloc(void *memory, size_t length);

void *gm_test_realloc(void *memory, size_t length)
{
    allocations.calls++;
    if (length > allocations.largest) allocations.largest = length;
    return length > allocations.limit ? NULL : realloc(memory, length);
}

void *allocate(size_t length)
{
    void *memory = calloc(length ? length : 1, 1);
    if (!memory) abort();
    return memory;
}

gm_slice slice(const void *bytes, size_t length)
{
    gm_slice result = {bytes, length};
    return result;
}

void assert_slice_at(gm_slice actual, gm_slice expected, const char *file, int line)
{
    _assert_int_equal(actual.length, expected.length, file, line);
    if (expected.length) _assert_memory_equal(actual.bytes, expected.bytes, expected.length, file, line);
}

void assert_status_at(gm_status actual, gm_status expected, const char *file, int line)
{
    _assert_string_equal(gm_status_text(actual), gm_status_text(expected), file, line);
}

void write_header(uint8_t header[GM_HEADER_SIZE], gm_direction magic, uint32_t number, uint32_t length)
{
    memcpy(header, magic == GM_REQ ? "\0REQ" : "\0RES", 4);
    for (unsigned i = 0; i < 4; i++) {
        header[4 + i] = (uint8_t)(number >> (24 - 8 * i));
        header[8 + i] = (uint8_t)(length >> (24 - 8 * i));
    }
}

size_t sample_wire(const wire_sample *sample, gm_direction direction, uint8_t **packet)
{
    *packet = allocate(GM_HEADER_SIZE + sample->body.length);
    write_header(*packet, direction, sample->number, (uint32_t)sample->body.length);
    memcpy(*packet + GM_HEADER_SIZE, sample->body.bytes, sample->body.length);
    return GM_HEADER_SIZE + sample->body.length;
}
