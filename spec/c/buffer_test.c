#include "test.h"

#include <string.h>

enum { FIRST_CAPACITY = 1024, KEPT_CAPACITY = 256 * 1024 };

static gm_slice contents(const gm_buffer *buffer)
{
    gm_slice unread = {gm_buffer_bytes(buffer), gm_buffer_length(buffer)};
    return unread;
}

static void append(gm_buffer *buffer, const void *bytes, size_t length)
{
    assert_status(gm_buffer_append(buffer, bytes, length), GM_OK);
}

static void fill(gm_buffer *buffer, int byte, size_t length)
{
    uint8_t *room = NULL;
    assert_status(gm_buffer_reserve(buffer, length, &room), GM_OK);
    memset(room, byte, length);
    gm_buffer_commit(buffer, length);
}

static void init_allocates_nothing(void **state)
{
    (void)state;
    gm_buffer buffer;
    memset(&buffer, 0xAA, sizeof(buffer));
    gm_buffer_init(&buffer);
    assert_int_equal(gm_buffer_length(&buffer), 0);
    assert_null(gm_buffer_bytes(&buffer));
    assert_int_equal(buffer.capacity, 0);
    gm_buffer_free(&buffer);
    assert_int_equal(allocations.calls, 0);
}

static void empty_appends_and_reserves_allocate_nothing(void **state)
{
    (void)state;
    gm_buffer buffer;
    gm_buffer_init(&buffer);
    assert_status(gm_buffer_append(&buffer, NULL, 0), GM_OK);
    uint8_t *room = NULL;
    assert_status(gm_buffer_reserve(&buffer, 0, &room), GM_OK);
    gm_buffer_commit(&buffer, 0);
    gm_buffer_consume(&buffer, 0);
    gm_buffer_retract(&buffer, 0);
    gm_buffer_trim(&buffer);
    assert_int_equal(gm_buffer_length(&buffer), 0);
    assert_int_equal(allocations.calls, 0);
}

static void appends_queue_up_and_are_read_from_the_front(void **state)
{
    (void)state;
    gm_buffer buffer;
    gm_buffer_init(&buffer);
    append(&buffer, "ab", 2);
    append(&buffer, "\0cd", 3);
    assert_slice(contents(&buffer), SLICE("ab\0cd"));
    gm_buffer_consume(&buffer, 3);
    assert_slice(contents(&buffer), SLICE("cd"));
    append(&buffer, "e", 1);
    assert_slice(contents(&buffer), SLICE("cde"));
    gm_buffer_consume(&buffer, 3);
    assert_int_equal(gm_buffer_length(&buffer), 0);
    gm_buffer_free(&buffer);
}

static void only_committed_bytes_count(void **state)
{
    (void)state;
    gm_buffer buffer;
    gm_buffer_init(&buffer);
    append(&buffer, "a", 1);
    uint8_t *room = NULL;
    assert_status(gm_buffer_reserve(&buffer, 10, &room), GM_OK);
    assert_int_equal(buffer.reserved, 10);
    assert_int_equal(gm_buffer_length(&buffer), 1);
    memcpy(room, "bcdefghijk", 10);
    gm_buffer_commit(&buffer, 2);
    assert_slice(contents(&buffer), SLICE("abc"));
    assert_int_equal(buffer.reserved, 0);
    gm_buffer_free(&buffer);
}

static void all_of_the_reserved_room_can_be_written(void **state)
{
    (void)state;
    gm_buffer buffer;
    gm_buffer_init(&buffer);
    for (size_t length = 1; length < 3000; length += 37) fill(&buffer, (int)(length & 0xFF), length);
    size_t at = 0;
    for (size_t length = 1; length < 3000; length += 37) {
        for (size_t i = 0; i < length; i++) assert_int_equal(gm_buffer_bytes(&buffer)[at + i], length & 0xFF);
        at += length;
    }
    assert_int_equal(gm_buffer_length(&buffer), at);
    gm_buffer_free(&buffer);
}

static void capacity_doubles(void **state)
{
    (void)state;
    gm_buffer buffer;
    gm_buffer_init(&buffer);
    fill(&buffer, 'x', 1);
    assert_int_equal(buffer.capacity, FIRST_CAPACITY);
    fill(&buffer, 'x', FIRST_CAPACITY - 1);
    assert_int_equal(buffer.capacity, FIRST_CAPACITY);
    assert_int_equal(allocations.calls, 1);
    fill(&buffer, 'x', 1);
    assert_int_equal(buffer.capacity, 2 * FIRST_CAPACITY);
    fill(&buffer, 'x', 7 * FIRST_CAPACITY);
    assert_int_equal(buffer.capacity, 16 * FIRST_CAPACITY);
    assert_int_equal(allocations.calls, 3);
    assert_int_equal(allocations.largest, 16 * FIRST_CAPACITY);
    gm_buffer_free(&buffer);
}

static void room_at_the_front_is_used_before_memory_grows(void **state)
{
    (void)state;
    gm_buffer buffer;
    gm_buffer_init(&buffer);
    fill(&buffer, 'x', FIRST_CAPACITY - 4);
    append(&buffer, "tail", 4);
    gm_buffer_consume(&buffer, FIRST_CAPACITY - 4);
    fill(&buffer, 'y', FIRST_CAPACITY - 4);
    assert_int_equal(buffer.capacity, FIRST_CAPACITY);
    assert_int_equal(allocations.calls, 1);
    assert_int_equal(buffer.start, 0);
    assert_int_equal(gm_buffer_length(&buffer), FIRST_CAPACITY);
    assert_slice(slice(gm_buffer_bytes(&buffer), 6), SLICE("tailyy"));
    gm_buffer_free(&buffer);
}

static void growth_keeps_the_unread_bytes(void **state)
{
    (void)state;
    gm_buffer buffer;
    gm_buffer_init(&buffer);
    fill(&buffer, 'x', FIRST_CAPACITY - 4);
    append(&buffer, "tail", 4);
    gm_buffer_consume(&buffer, FIRST_CAPACITY - 4);
    fill(&buffer, 'y', 2 * FIRST_CAPACITY - 4);
    assert_int_equal(buffer.capacity, 2 * FIRST_CAPACITY);
    assert_int_equal(gm_buffer_length(&buffer), 2 * FIRST_CAPACITY);
    assert_slice(slice(gm_buffer_bytes(&buffer), 5), SLICE("taily"));
    assert_int_equal(gm_buffer_bytes(&buffer)[2 * FIRST_CAPACITY - 1], 'y');
    gm_buffer_free(&buffer);
}

static void consumed_bytes_stay_in_place(void **state)
{
    (void)state;
    gm_buffer buffer;
    gm_buffer_init(&buffer);
    append(&buffer, "packet", 6);
    const uint8_t *bytes = gm_buffer_bytes(&buffer);
    gm_buffer_consume(&buffer, 6);
    assert_slice(slice(bytes, 6), SLICE("packet"));
    assert_int_equal(buffer.start, 0);
    assert_int_equal(buffer.end, 0);
    gm_buffer_free(&buffer);
}

static void retract_takes_from_the_end(void **state)
{
    (void)state;
    gm_buffer buffer;
    gm_buffer_init(&buffer);
    append(&buffer, "abcdef", 6);
    gm_buffer_retract(&buffer, 2);
    assert_slice(contents(&buffer), SLICE("abcd"));
    gm_buffer_consume(&buffer, 1);
    gm_buffer_retract(&buffer, 1);
    append(&buffer, "X", 1);
    assert_slice(contents(&buffer), SLICE("bcX"));
    gm_buffer_retract(&buffer, 3);
    assert_int_equal(gm_buffer_length(&buffer), 0);
    assert_int_equal(buffer.start, 0);
    assert_int_equal(buffer.end, 0);
    gm_buffer_free(&buffer);
}

static void trim_gives_large_memory_back(void **state)
{
    (void)state;
    gm_buffer buffer;
    gm_buffer_init(&buffer);
    fill(&buffer, 'x', KEPT_CAPACITY + 1);
    gm_buffer_trim(&buffer);
    assert_int_equal(gm_buffer_length(&buffer), KEPT_CAPACITY + 1);
    gm_buffer_consume(&buffer, KEPT_CAPACITY);
    gm_buffer_trim(&buffer);
    assert_slice(contents(&buffer), SLICE("x"));
    gm_buffer_consume(&buffer, 1);
    gm_buffer_trim(&buffer);
    assert_int_equal(buffer.capacity, 0);
    assert_null(gm_buffer_bytes(&buffer));
    append(&buffer, "again", 5);
    assert_slice(contents(&buffer), SLICE("again"));
    gm_buffer_free(&buffer);
}

static void trim_keeps_small_memory(void **state)
{
    (void)state;
    gm_buffer buffer;
    gm_buffer_init(&buffer);
    fill(&buffer, 'x', KEPT_CAPACITY);
    gm_buffer_consume(&buffer, KEPT_CAPACITY);
    gm_buffer_trim(&buffer);
    assert_int_equal(buffer.capacity, KEPT_CAPACITY);
    gm_buffer_free(&buffer);
}

static void free_leaves_an_empty_usable_buffer(void **state)
{
    (void)state;
    gm_buffer buffer;
    gm_buffer_init(&buffer);
    append(&buffer, "abc", 3);
    gm_buffer_free(&buffer);
    assert_null(buffer.memory);
    assert_int_equal(gm_buffer_length(&buffer), 0);
    assert_int_equal(buffer.capacity, 0);
    append(&buffer, "def", 3);
    assert_slice(contents(&buffer), SLICE("def"));
    gm_buffer_free(&buffer);
    gm_buffer_free(&buffer);
}

static void refused(gm_buffer *buffer, size_t length)
{
    gm_buffer before = *buffer;
    uint8_t mark = 0, *room = &mark;
    assert_status(gm_buffer_reserve(buffer, length, &room), GM_NO_MEMORY);
    assert_memory_equal(buffer, &before, sizeof(before));
    assert_ptr_equal(room, &mark);
}

static void without_memory_nothing_changes(void **state)
{
    (void)state;
    gm_buffer buffer;
    gm_buffer_init(&buffer);
    allocations.limit = 0;
    refused(&buffer, 1);
    assert_status(gm_buffer_append(&buffer, "a", 1), GM_NO_MEMORY);
    assert_null(buffer.memory);

    allocations.limit = FIRST_CAPACITY;
    fill(&buffer, 'x', FIRST_CAPACITY - 4);
    append(&buffer, "tail", 4);
    gm_buffer_consume(&buffer, 10);
    refused(&buffer, 11);
    char bytes[11] = "ten bytes";
    assert_status(gm_buffer_append(&buffer, bytes, sizeof(bytes)), GM_NO_MEMORY);
    assert_int_equal(gm_buffer_length(&buffer), FIRST_CAPACITY - 10);
    gm_buffer_consume(&buffer, FIRST_CAPACITY - 14);
    assert_slice(contents(&buffer), SLICE("tail"));
    gm_buffer_free(&buffer);
}

static void lengths_that_overflow_are_refused_unasked(void **state)
{
    (void)state;
    gm_buffer buffer;
    gm_buffer_init(&buffer);
    refused(&buffer, SIZE_MAX);
    refused(&buffer, SIZE_MAX / 2 + 2);
    assert_int_equal(allocations.calls, 0);
    append(&buffer, "ab", 2);
    refused(&buffer, SIZE_MAX);
    refused(&buffer, SIZE_MAX - 1);
    refused(&buffer, SIZE_MAX - 2);
    assert_int_equal(allocations.calls, 1);
    assert_slice(contents(&buffer), SLICE("ab"));
    gm_buffer_free(&buffer);
}

int run_buffer_tests(size_t *total)
{
#define TEST(function) cmocka_unit_test_setup(function, allocations_reset)
    const struct CMUnitTest tests[] = {
        TEST(init_allocates_nothing),
        TEST(empty_appends_and_reserves_allocate_nothing),
        TEST(appends_queue_up_and_are_read_from_the_front),
        TEST(only_committed_bytes_count),
        TEST(all_of_the_reserved_room_can_be_written),
        TEST(capacity_doubles),
        TEST(room_at_the_front_is_used_before_memory_grows),
        TEST(growth_keeps_the_unread_bytes),
        TEST(consumed_bytes_stay_in_place),
        TEST(retract_takes_from_the_end),
        TEST(trim_gives_large_memory_back),
        TEST(trim_keeps_small_memory),
        TEST(free_leaves_an_empty_usable_buffer),
        TEST(without_memory_nothing_changes),
        TEST(lengths_that_overflow_are_refused_unasked),
    };
    *total += sizeof(tests) / sizeof(*tests);
    return cmocka_run_group_tests_name("buffer", tests, allocations_reset, NULL);
}
