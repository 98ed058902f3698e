#ifndef GM_TEST_H
#define GM_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "buffer.h"
#include "packet.h"
#include "parser.h"

/* What the core's realloc does, and did since allocations_reset(). */
typedef struct {
    size_t calls;
    size_t largest; /* bytes */
    size_t limit;   /* bytes: larger requests are refused */
} allocation_log;

extern allocation_log allocations;

/* Forgets what happened and refuses nothing any more. A cmocka set-up function too. */
int allocations_reset(void **state);

/* A packet as it stands on the wire, written out by hand from the protocol. */
typedef struct {
    uint32_t number;
    const char *name;
    gm_direction direction;
    size_t arguments;
    bool data;
    gm_slice parts[GM_MAX_ARGUMENTS];
    gm_slice body;
} wire_sample;

/* The sample of packet type `number`; fails the test when there is none. */
const wire_sample *sample_of(uint32_t number);

extern const size_t samples_count;

static inline size_t sample_parts(const wire_sample *sample) { return sample->arguments + (sample->data ? 1u : 0u); }

/* Writes header and body to `packet`, which the caller frees, and returns how long they are. */
size_t sample_wire(const wire_sample *sample, gm_direction direction, uint8_t **packet);

/* Writes a header field by field, with nothing of the core. */
void write_header(uint8_t header[GM_HEADER_SIZE], gm_direction magic, uint32_t number, uint32_t length);

gm_slice slice(const void *bytes, size_t length);
#define SLICE(literal) slice(literal, sizeof(literal) - 1)

#define assert_slice(actual, expected) assert_slice_at(actual, expected, __FILE__, __LINE__)
void assert_slice_at(gm_slice actual, gm_slice expected, const char *file, int line);

#define assert_status(actual, expected) assert_status_at(actual, expected, __FILE__, __LINE__)
void assert_status_at(gm_status actual, gm_status expected, const char *file, int line);

/* Memory that a test needs; never NULL. */
void *allocate(size_t length);

/* Each runs its tests, adds how many there are to `total`, and returns how many failed. */
int run_status_tests(size_t *total);
int run_buffer_tests(size_t *total);
int run_packet_tests(size_t *total);
int run_parser_tests(size_t *total);

#endif
