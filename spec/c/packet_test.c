#include "test.h"

#include <stdlib.h>
#include <string.h>

/* What commands.def says of a packet type: the state of the tests that run for each of them. */
typedef struct {
    uint32_t number;
    const char *name;
    gm_direction direction;
    size_t arguments;
    bool data;
} definition;

static definition definitions[] = {
#define GM_COMMAND(number, NAME, name, direction, arguments, data) {number, #name, GM_##direction, arguments, data},
#include "commands.def"
#undef GM_COMMAND
};

static const size_t definitions_count = sizeof(definitions) / sizeof(*definitions);

static const gm_direction MAGICS[] = {GM_REQ, GM_RES};

static gm_slice contents(const gm_buffer *buffer)
{
    gm_slice unread = {gm_buffer_bytes(buffer), gm_buffer_length(buffer)};
    return unread;
}

/* Requires `expected` of gm_packet_encode, and that unless GM_OK nothing changes. The packet is left in `out`. */
static void encode(gm_buffer *out, gm_command command, const gm_slice *parts, size_t count, gm_status expected)
{
    gm_buffer_init(out);
    assert_status(gm_buffer_append(out, "before", 6), GM_OK);
    gm_buffer before = *out;
    assert_status(gm_packet_encode(out, GM_REQ, command, parts, count), expected);
    if (expected != GM_OK) assert_memory_equal(out, &before, sizeof(before));
    assert_slice(slice(gm_buffer_bytes(out), 6), SLICE("before"));
    gm_buffer_consume(out, 6);
}

static void assert_refused(gm_command command, const gm_slice *parts, size_t count, gm_status expected)
{
    gm_buffer out;
    encode(&out, command, parts, count, expected);
    gm_buffer_free(&out);
}

/* Encodes the parts and requires the same ones of what was encoded. */
static void assert_round_trip(gm_command command, const gm_slice *parts, size_t count)
{
    gm_buffer out;
    encode(&out, command, parts, count, GM_OK);
    assert_true(gm_buffer_length(&out) >= GM_HEADER_SIZE);
    gm_packet packet = {command,
                        slice(gm_buffer_bytes(&out) + GM_HEADER_SIZE, gm_buffer_length(&out) - GM_HEADER_SIZE)};
    uint8_t header[GM_HEADER_SIZE];
    write_header(header, GM_REQ, command, (uint32_t)packet.body.length);
    assert_slice(slice(gm_buffer_bytes(&out), GM_HEADER_SIZE), slice(header, GM_HEADER_SIZE));
    gm_slice split[GM_MAX_ARGUMENTS];
    assert_status(gm_packet_split(&packet, split), GM_OK);
    for (size_t i = 0; i < count; i++) assert_slice(split[i], parts[i]);
    gm_buffer_free(&out);
}

static void encodes_to_its_bytes(const wire_sample *sample)
{
    for (size_t i = 0; i < 2; i++) {
        uint8_t *expected;
        size_t length = sample_wire(sample, MAGICS[i], &expected);
        gm_buffer out;
        gm_buffer_init(&out);
        uint8_t *room = NULL;
        assert_status(gm_buffer_reserve(&out, length + 1, &room), GM_OK);
        room[length] = 0xAA;
        assert_status(
            gm_packet_encode(&out, MAGICS[i], (gm_command)sample->number, sample->parts, sample_parts(sample)), GM_OK);
        assert_slice(contents(&out), slice(expected, length));
        assert_int_equal(room[length], 0xAA); /* nothing is written behind the packet */
        gm_buffer_free(&out);
        free(expected);
    }
}

static void head_is_what_comes_before_the_data(const wire_sample *sample)
{
    uint8_t *expected;
    size_t length = sample_wire(sample, GM_REQ, &expected), count = sample_parts(sample);
    gm_buffer out;
    gm_buffer_init(&out);
    assert_status(gm_packet_encode_head(&out, GM_REQ, (gm_command)sample->number, sample->parts, count), GM_OK);
    size_t data = sample->data ? sample->parts[count - 1].length : 0;
    assert_slice(contents(&out), slice(expected, length - data));
    gm_buffer_free(&out);
    free(expected);
}

static void header_decodes_where_it_is_expected(const wire_sample *sample)
{
    static const gm_direction sides[] = {GM_REQ, GM_RES, GM_BOTH};
    for (size_t m = 0; m < 2; m++) {
        uint8_t header[GM_HEADER_SIZE];
        write_header(header, MAGICS[m], sample->number, 0x01020304);
        for (size_t s = 0; s < 3; s++) {
            gm_command command = GM_NOOP;
            uint32_t length = 99;
            gm_status status = gm_header_decode(header, sides[s], &command, &length);
            if (!(sides[s] & MAGICS[m])) {
                assert_status(status, GM_INVALID_MAGIC);
            } else if (!(sample->direction & MAGICS[m])) {
                assert_status(status, GM_WRONG_DIRECTION);
            } else {
                assert_status(status, GM_OK);
                assert_int_equal(command, sample->number);
                assert_int_equal(length, 0x01020304);
            }
        }
    }
}

static void body_splits_into_its_parts(const wire_sample *sample)
{
    gm_packet packet = {(gm_command)sample->number, sample->body};
    gm_slice parts[GM_MAX_ARGUMENTS];
    assert_status(gm_packet_split(&packet, parts), GM_OK);
    for (size_t i = 0; i < sample_parts(sample); i++) assert_slice(parts[i], sample->parts[i]);
}

/* The parts in the first `length` bytes of the body, found byte by byte. */
static gm_status cut_parts(const wire_sample *sample, size_t length, gm_slice parts[GM_MAX_ARGUMENTS])
{
    size_t count = sample_parts(sample), part = 0;
    for (size_t i = 0; i < count; i++) parts[i] = slice(sample->body.bytes, 0);
    if (count == 0) return GM_OK;
    for (size_t i = 0; i < length; i++) {
        if (sample->body.bytes[i] == 0 && part + 1 < count) {
            part++;
            parts[part].bytes = sample->body.bytes + i + 1;
        } else {
            parts[part].length++;
        }
    }
    return part + 1 == count ? GM_OK : GM_MISSING_ARGUMENT;
}

static void each_truncation_of_the_body_is_told(const wire_sample *sample)
{
    for (size_t length = 0; length <= sample->body.length; length++) {
        uint8_t *body = malloc(length ? length : 1); /* so that reading on is noticed */
        assert_non_null(body);
        memcpy(body, sample->body.bytes, length);
        gm_packet packet = {(gm_command)sample->number, slice(body, length)};
        gm_slice parts[GM_MAX_ARGUMENTS], expected[GM_MAX_ARGUMENTS];
        gm_status status = cut_parts(sample, length, expected);
        assert_status(gm_packet_split(&packet, parts), status);
        for (size_t i = 0; i < sample_parts(sample); i++) assert_slice(parts[i], expected[i]);
        free(body);
    }
}

static void other_counts_of_arguments_are_refused(const wire_sample *sample)
{
    gm_slice parts[GM_MAX_ARGUMENTS + 1];
    for (size_t i = 0; i <= GM_MAX_ARGUMENTS; i++) parts[i] = SLICE("x");
    for (size_t count = 0; count <= GM_MAX_ARGUMENTS + 1; count++) {
        if (count == sample_parts(sample)) continue;
        assert_refused((gm_command)sample->number, parts, count, GM_ARGUMENT_COUNT);
    }
}

static void empty_parts_are_taken(const wire_sample *sample)
{
    gm_slice parts[GM_MAX_ARGUMENTS] = {{NULL, 0}};
    assert_round_trip((gm_command)sample->number, parts, sample_parts(sample));
}

static void nul_is_refused_in_arguments_alone(const wire_sample *sample)
{
    static const char *const with_nul[] = {"\0ab", "a\0b", "ab\0"};
    for (size_t i = 0; i < sample->arguments; i++) {
        for (size_t n = 0; n < 3; n++) {
            gm_slice parts[GM_MAX_ARGUMENTS];
            memcpy(parts, sample->parts, sizeof(parts));
            parts[i] = slice(with_nul[n], 3);
            assert_refused((gm_command)sample->number, parts, sample_parts(sample), GM_NUL_IN_ARGUMENT);
        }
    }
    if (!sample->data) return;
    gm_slice parts[GM_MAX_ARGUMENTS];
    memcpy(parts, sample->parts, sizeof(parts));
    parts[sample->arguments] = SLICE("\0\0a\0");
    assert_round_trip((gm_command)sample->number, parts, sample_parts(sample));
}

/* Names and the NULs between them fill the limit exactly, wherever the bytes are; one more is refused. */
static void arguments_have_a_border(const wire_sample *sample)
{
    if (sample->arguments == 0) return;
    size_t room = GM_MAX_ARGUMENTS_SIZE - (sample->arguments - 1), count = sample_parts(sample);
    char *name = allocate(GM_MAX_ARGUMENTS_SIZE + 1);
    memset(name, 'n', GM_MAX_ARGUMENTS_SIZE + 1);
    for (size_t i = 0; i < sample->arguments; i++) {
        gm_slice parts[GM_MAX_ARGUMENTS] = {{NULL, 0}};
        parts[i] = slice(name, room);
        assert_round_trip((gm_command)sample->number, parts, count);
        parts[i].length++;
        assert_refused((gm_command)sample->number, parts, count, GM_ARGUMENTS_TOO_LONG);
        parts[i].length = GM_MAX_ARGUMENTS_SIZE + 1;
        assert_refused((gm_command)sample->number, parts, count, GM_ARGUMENTS_TOO_LONG);
        if (i == 0) continue;
        parts[i].length = room - 100;
        parts[0] = slice(name, 100);
        assert_round_trip((gm_command)sample->number, parts, count);
        parts[0].length++;
        assert_refused((gm_command)sample->number, parts, count, GM_ARGUMENTS_TOO_LONG);
    }
    free(name);
}

static void data_has_no_such_border(const wire_sample *sample)
{
    if (!sample->data) return;
    uint8_t *data = allocate(100 * 1000);
    gm_slice parts[GM_MAX_ARGUMENTS];
    memcpy(parts, sample->parts, sizeof(parts));
    parts[sample->arguments] = slice(data, 100 * 1000);
    assert_round_trip((gm_command)sample->number, parts, sample_parts(sample));
    free(data);
}

static void without_memory_nothing_is_appended(const wire_sample *sample)
{
    gm_buffer out;
    gm_buffer_init(&out);
    allocations.limit = 0;
    assert_status(gm_packet_encode(&out, GM_REQ, (gm_command)sample->number, sample->parts, sample_parts(sample)),
                  GM_NO_MEMORY);
    assert_null(out.memory);
    assert_int_equal(gm_buffer_length(&out), 0);
    allocations.limit = SIZE_MAX;
}

static void packet_type(void **state)
{
    const definition *defined = *state;
    const wire_sample *sample = sample_of(defined->number);
    assert_string_equal(defined->name, sample->name);
    const gm_command_info *info = gm_command_find(defined->number);
    assert_non_null(info);
    assert_string_equal(info->name, sample->name);
    assert_int_equal(info->direction, sample->direction);
    assert_int_equal(info->arguments, sample->arguments);
    assert_int_equal(info->data, sample->data);
    assert_int_equal(gm_command_parts(info), sample_parts(sample));

    encodes_to_its_bytes(sample);
    head_is_what_comes_before_the_data(sample);
    header_decodes_where_it_is_expected(sample);
    body_splits_into_its_parts(sample);
    each_truncation_of_the_body_is_told(sample);
    other_counts_of_arguments_are_refused(sample);
    empty_parts_are_taken(sample);
    nul_is_refused_in_arguments_alone(sample);
    arguments_have_a_border(sample);
    data_has_no_such_border(sample);
    without_memory_nothing_is_appended(sample);
}

static void types_are_1_to_42_less_5(void **state)
{
    (void)state;
    assert_int_equal(definitions_count, 41);
    assert_int_equal(samples_count, 41);
    for (uint32_t number = 0; number < 100; number++) {
        bool exists = number >= 1 && number <= 42 && number != 5;
        if (exists) {
            assert_non_null(gm_command_find(number));
        } else {
            assert_null(gm_command_find(number));
        }
    }
    assert_null(gm_command_find(0x80000000u));
    assert_null(gm_command_find(UINT32_MAX));
}

static void constants_are_the_protocols(void **state)
{
    (void)state;
    assert_int_equal(GM_HEADER_SIZE, 12);
    assert_int_equal(GM_MAX_UNIQUE_SIZE, 63);
    assert_int_equal(GM_MAX_ARGUMENTS_SIZE, 8179);
    for (size_t i = 0; i < definitions_count; i++) {
        assert_true(definitions[i].number < GM_COMMAND_LIMIT);
        assert_true(gm_command_parts(gm_command_find(definitions[i].number)) <= GM_MAX_ARGUMENTS);
    }
}

static void header_of_any_length_is_encoded(void **state)
{
    (void)state;
    static const uint32_t lengths[] = {0, 1, 0xFF, 0x100, 0x01020304, 0x80000000u, UINT32_MAX};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
        for (size_t m = 0; m < 2; m++) {
            uint8_t header[GM_HEADER_SIZE], expected[GM_HEADER_SIZE];
            assert_status(gm_header_encode(header, MAGICS[m], GM_WORK_DATA, lengths[i]), GM_OK);
            write_header(expected, MAGICS[m], 28, lengths[i]);
            assert_memory_equal(header, expected, GM_HEADER_SIZE);
            gm_command command;
            uint32_t length;
            assert_status(gm_header_decode(header, MAGICS[m], &command, &length), GM_OK);
            assert_int_equal(command, GM_WORK_DATA);
            assert_int_equal(length, lengths[i]);
        }
    }
}

static void wrong_magic_is_told_at_each_byte(void **state)
{
    (void)state;
    for (size_t at = 0; at < 4; at++) {
        uint8_t header[GM_HEADER_SIZE];
        write_header(header, GM_REQ, GM_WORK_DATA, 0);
        header[at] ^= 0x20;
        gm_command command;
        uint32_t length;
        assert_status(gm_header_decode(header, GM_BOTH, &command, &length), GM_INVALID_MAGIC);
    }
}

static void unknown_types_are_told(void **state)
{
    (void)state;
    static const uint32_t numbers[] = {0, 5, 43, 0x107, 0x80000000u, UINT32_MAX};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
        uint8_t header[GM_HEADER_SIZE];
        write_header(header, GM_REQ, numbers[i], 0);
        gm_command command;
        uint32_t length;
        assert_status(gm_header_decode(header, GM_BOTH, &command, &length), GM_INVALID_TYPE);
        assert_refused((gm_command)numbers[i], NULL, 0, GM_INVALID_TYPE);
    }
}

static void work_fail_loses_nuls_behind_the_handle(void **state)
{
    (void)state;
    static const struct {
        gm_slice body, handle;
    } cases[] = {
#define CASE(body, handle)                                                                             \
    {                                                                                                  \
        {(const uint8_t *)(body), sizeof(body) - 1}, { (const uint8_t *)(handle), sizeof(handle) - 1 } \
    }
        CASE("H:1", "H:1"), CASE("H:1\0", "H:1"), CASE("H:1\0\0\0", "H:1"), CASE("", ""),
        CASE("\0", ""),     CASE("\0\0", ""),     CASE("\0H", "\0H"),       CASE("H\0i\0", "H\0i"),
#undef CASE
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        gm_packet packet = {GM_WORK_FAIL, cases[i].body};
        gm_slice parts[GM_MAX_ARGUMENTS];
        assert_status(gm_packet_split(&packet, parts), GM_OK);
        assert_slice(parts[0], cases[i].handle);
    }
    gm_packet other = {GM_JOB_CREATED, SLICE("H:1\0")};
    gm_slice parts[GM_MAX_ARGUMENTS];
    assert_status(gm_packet_split(&other, parts), GM_OK);
    assert_slice(parts[0], SLICE("H:1\0"));
}

static void empty_body_without_memory_is_split(void **state)
{
    (void)state;
    gm_packet packet = {GM_STATUS_RES, {NULL, 0}};
    gm_slice parts[GM_MAX_ARGUMENTS];
    assert_status(gm_packet_split(&packet, parts), GM_MISSING_ARGUMENT);
    for (size_t i = 0; i < 5; i++) assert_int_equal(parts[i].length, 0);
    packet.command = GM_WORK_FAIL;
    assert_status(gm_packet_split(&packet, parts), GM_OK);
    assert_int_equal(parts[0].length, 0);
}

static void work_complete_keeps_the_nul_without_data(void **state)
{
    (void)state;
    gm_slice parts[] = {SLICE("H:1"), {NULL, 0}};
    gm_buffer out;
    encode(&out, GM_WORK_COMPLETE, parts, 2, GM_OK);
    assert_slice(contents(&out), SLICE("\0REQ\0\0\0\x0d\0\0\0\x04H:1\0"));
    gm_buffer_free(&out);
}

static void packets_are_appended(void **state)
{
    (void)state;
    gm_buffer out;
    gm_slice handle = SLICE("H:1");
    encode(&out, GM_WORK_FAIL, &handle, 1, GM_OK);
    assert_status(gm_packet_encode(&out, GM_REQ, GM_GRAB_JOB, NULL, 0), GM_OK);
    assert_slice(contents(&out), SLICE("\0REQ\0\0\0\x0e\0\0\0\x03H:1\0REQ\0\0\0\x09\0\0\0\0"));
    gm_buffer_free(&out);
}

#if SIZE_MAX > UINT32_MAX
static void header_refuses_lengths_over_32_bits(void **state)
{
    (void)state;
    uint8_t header[GM_HEADER_SIZE] = {0}, untouched[GM_HEADER_SIZE] = {0};
    assert_status(gm_header_encode(header, GM_REQ, GM_ECHO_REQ, (size_t)UINT32_MAX + 1), GM_TOO_LARGE);
    assert_memory_equal(header, untouched, GM_HEADER_SIZE);
}

/* The data is never read: what fits 32 bits fails for want of memory, what does not fails before. */
static void packet_refuses_lengths_over_32_bits(void **state)
{
    (void)state;
    gm_slice parts[] = {SLICE("f"), SLICE("u"), {(const uint8_t *)"", UINT32_MAX - 4}};
    allocations.limit = 1024;
    assert_refused(GM_SUBMIT_JOB, parts, 3, GM_NO_MEMORY);
    assert_true(allocations.largest > UINT32_MAX);
    allocations.largest = 0;
    parts[2].length++;
    assert_refused(GM_SUBMIT_JOB, parts, 3, GM_TOO_LARGE);
    parts[2].length = SIZE_MAX;
    assert_refused(GM_SUBMIT_JOB, parts, 3, GM_TOO_LARGE);
    assert_refused(GM_ECHO_REQ, &parts[2], 1, GM_TOO_LARGE);
    parts[0].length = SIZE_MAX;
    assert_refused(GM_SUBMIT_JOB, parts, 3, GM_ARGUMENTS_TOO_LONG);
    assert_true(allocations.largest <= 1024);
}
#endif

int run_packet_tests(size_t *total)
{
#define TEST(function) cmocka_unit_test_setup(function, allocations_reset)
    const struct CMUnitTest tests[] = {
#define GM_COMMAND(number, NAME, name, direction, arguments, data) \
    {"packet type " #name, packet_type, allocations_reset, NULL, NULL},
#include "commands.def"
#undef GM_COMMAND
        TEST(types_are_1_to_42_less_5),
        TEST(constants_are_the_protocols),
        TEST(header_of_any_length_is_encoded),
        TEST(wrong_magic_is_told_at_each_byte),
        TEST(unknown_types_are_told),
        TEST(work_fail_loses_nuls_behind_the_handle),
        TEST(empty_body_without_memory_is_split),
        TEST(work_complete_keeps_the_nul_without_data),
        TEST(packets_are_appended),
#if SIZE_MAX > UINT32_MAX
        TEST(header_refuses_lengths_over_32_bits),
        TEST(packet_refuses_lengths_over_32_bits),
#endif
    };
    struct CMUnitTest with_states[sizeof(tests) / sizeof(*tests)];
    memcpy(with_states, tests, sizeof(tests));
    for (size_t i = 0; i < definitions_count; i++) with_states[i].initial_state = &definitions[i];
    *total += sizeof(tests) / sizeof(*tests);
    return cmocka_run_group_tests_name("packet", with_states, allocations_reset, NULL);
}
