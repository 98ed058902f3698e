#include "test.h"

#include <stdlib.h>
#include <string.h>

/* The packets of one direction in one stream: all types, each once. */
typedef struct {
    uint8_t *bytes;
    size_t length;
    size_t count;
    const wire_sample *samples[GM_COMMAND_LIMIT];
} wire_stream;

static void append_sample(wire_stream *stream, const wire_sample *sample, gm_direction magic)
{
    uint8_t *packet;
    size_t length = sample_wire(sample, magic, &packet);
    uint8_t *bytes = realloc(stream->bytes, stream->length + length);
    assert_non_null(bytes);
    memcpy(bytes + stream->length, packet, length);
    free(packet);
    stream->bytes = bytes;
    stream->length += length;
    stream->samples[stream->count++] = sample;
}

static wire_stream stream_of(gm_direction magic)
{
    wire_stream stream = {NULL, 0, 0, {NULL}};
    for (uint32_t number = 1; number < GM_COMMAND_LIMIT; number++) {
        if (number == 5) continue;
        const wire_sample *sample = sample_of(number);
        if (sample->direction & magic) append_sample(&stream, sample, magic);
    }
    return stream;
}

static void feed(gm_parser *parser, const void *bytes, size_t length)
{
    assert_status(gm_parser_feed(parser, bytes, length), GM_OK);
}

/* What a read does: into the parser's own room. */
static void read_in(gm_parser *parser, const uint8_t *bytes, size_t length)
{
    uint8_t *room = NULL;
    size_t size;
    assert_status(gm_parser_reserve(parser, &room, &size), GM_OK);
    assert_true(size >= length);
    memcpy(room, bytes, length);
    gm_parser_commit(parser, length);
}

static void assert_packet(gm_packet packet, const wire_sample *sample)
{
    assert_int_equal(packet.command, sample->number);
    assert_slice(packet.body, sample->body);
}

/* Takes all packets that are whole and requires them to be those that follow in the stream. */
static void take(gm_parser *parser, const wire_stream *stream, size_t *taken)
{
    gm_packet packet;
    gm_status status;
    while ((status = gm_parser_next(parser, &packet)) == GM_OK) {
        assert_true(*taken < stream->count);
        assert_packet(packet, stream->samples[(*taken)++]);
    }
    assert_status(status, GM_AGAIN);
}

static void assert_next(gm_parser *parser, gm_status expected)
{
    gm_packet packet;
    assert_status(gm_parser_next(parser, &packet), expected);
}

static gm_parser parser_of(gm_direction expected)
{
    gm_parser parser;
    gm_parser_init(&parser, expected, GM_DEFAULT_MAX_PACKET);
    return parser;
}

static void init_allocates_nothing(void **state)
{
    (void)state;
    gm_parser parser;
    memset(&parser, 0xAA, sizeof(parser));
    gm_parser_init(&parser, GM_RES, 1000);
    assert_int_equal(parser.expected, GM_RES);
    assert_int_equal(parser.max_packet, 1000);
    assert_next(&parser, GM_AGAIN);
    gm_slice line;
    assert_status(gm_parser_line(&parser, &line), GM_AGAIN);
    assert_int_equal(gm_parser_rest(&parser).length, 0);
    feed(&parser, NULL, 0);
    assert_next(&parser, GM_AGAIN);
    gm_parser_free(&parser);
    assert_int_equal(allocations.calls, 0);
    assert_int_equal(GM_DEFAULT_MAX_PACKET, 1073741824);
}

static void every_split_in_two_gives_the_same_packets(void **state)
{
    (void)state;
    static const gm_direction magics[] = {GM_REQ, GM_RES};
    for (size_t m = 0; m < 2; m++) {
        wire_stream stream = stream_of(magics[m]);
        for (size_t cut = 0; cut <= stream.length; cut++) {
            for (int both = 0; both < 2; both++) {
                gm_parser parser = parser_of(both ? GM_BOTH : magics[m]);
                size_t taken = 0;
                feed(&parser, stream.bytes, cut);
                take(&parser, &stream, &taken);
                read_in(&parser, stream.bytes + cut, stream.length - cut);
                take(&parser, &stream, &taken);
                assert_int_equal(taken, stream.count);
                assert_int_equal(gm_parser_rest(&parser).length, 0);
                gm_parser_free(&parser);
            }
        }
        free(stream.bytes);
    }
}

static void every_split_in_three_gives_the_same_packets(void **state)
{
    (void)state;
    wire_stream stream = {NULL, 0, 0, {NULL}};
    append_sample(&stream, sample_of(GM_WORK_COMPLETE), GM_REQ);
    append_sample(&stream, sample_of(GM_GRAB_JOB), GM_REQ);
    append_sample(&stream, sample_of(GM_WORK_STATUS), GM_REQ);
    append_sample(&stream, sample_of(GM_SUBMIT_JOB), GM_REQ);
    for (size_t first = 0; first <= stream.length; first++) {
        for (size_t second = first; second <= stream.length; second++) {
            gm_parser parser = parser_of(GM_REQ);
            size_t taken = 0;
            feed(&parser, stream.bytes, first);
            take(&parser, &stream, &taken);
            feed(&parser, stream.bytes + first, second - first);
            take(&parser, &stream, &taken);
            feed(&parser, stream.bytes + second, stream.length - second);
            take(&parser, &stream, &taken);
            assert_int_equal(taken, stream.count);
            gm_parser_free(&parser);
        }
    }
    free(stream.bytes);
}

static void bytes_alone_give_the_same_packets(void **state)
{
    (void)state;
    wire_stream stream = stream_of(GM_RES);
    gm_parser parser = parser_of(GM_RES);
    size_t taken = 0;
    for (size_t i = 0; i < stream.length; i++) {
        read_in(&parser, stream.bytes + i, 1);
        take(&parser, &stream, &taken);
    }
    assert_int_equal(taken, stream.count);
    assert_true(parser.buffer.capacity <= 2 * GM_READ_SIZE);
    gm_parser_free(&parser);
    free(stream.bytes);
}

static void every_truncation_waits_for_the_rest(void **state)
{
    (void)state;
    static const gm_direction magics[] = {GM_REQ, GM_RES};
    for (size_t m = 0; m < 2; m++) {
        wire_stream stream = stream_of(magics[m]);
        for (size_t i = 0; i < stream.count; i++) {
            uint8_t *bytes;
            size_t length = sample_wire(stream.samples[i], magics[m], &bytes);
            for (size_t cut = 0; cut < length; cut++) {
                gm_parser parser = parser_of(magics[m]);
                feed(&parser, bytes, cut);
                assert_next(&parser, GM_AGAIN);
                assert_slice(gm_parser_rest(&parser), slice(bytes, cut));
                feed(&parser, bytes + cut, length - cut);
                gm_packet packet;
                assert_status(gm_parser_next(&parser, &packet), GM_OK);
                assert_packet(packet, stream.samples[i]);
                gm_parser_free(&parser);
            }
            free(bytes);
        }
        free(stream.bytes);
    }
}

static void packets_stay_until_the_next_feed(void **state)
{
    (void)state;
    wire_stream stream = stream_of(GM_REQ);
    gm_packet packets[GM_COMMAND_LIMIT];
    gm_parser parser = parser_of(GM_REQ);
    feed(&parser, stream.bytes, stream.length);
    for (size_t i = 0; i < stream.count; i++) assert_status(gm_parser_next(&parser, &packets[i]), GM_OK);
    assert_next(&parser, GM_AGAIN);
    for (size_t i = 0; i < stream.count; i++) assert_packet(packets[i], stream.samples[i]);
    gm_parser_free(&parser);
    free(stream.bytes);
}

/* Feeds a stream that is broken behind `good` bytes, whole and byte by byte, and requires the error for good. */
static void assert_broken(gm_direction expected, size_t max_packet, gm_slice bytes, size_t good, gm_status error)
{
    for (int bytewise = 0; bytewise < 2; bytewise++) {
        gm_parser parser;
        gm_parser_init(&parser, expected, max_packet);
        gm_packet packet;
        gm_status status = GM_AGAIN;
        size_t piece = bytewise ? 1 : bytes.length;
        for (size_t at = 0; at < bytes.length && status == GM_AGAIN; at += piece) {
            feed(&parser, bytes.bytes + at, piece);
            do status = gm_parser_next(&parser, &packet);
            while (status == GM_OK);
        }
        assert_status(status, error);
        gm_slice rest = gm_parser_rest(&parser);
        assert_true(rest.length > 0 && rest.length <= bytes.length - good);
        assert_slice(rest, slice(bytes.bytes + good, rest.length));
        assert_next(&parser, error);
        feed(&parser, "\0REQ\0\0\0\4\0\0\0\0", 12);
        assert_next(&parser, error);
        assert_int_equal(gm_parser_rest(&parser).length, rest.length + 12);
        assert_true(parser.buffer.capacity <= 1024);
        gm_parser_free(&parser);
    }
}

static void wrong_magic_is_told_from_its_first_wrong_byte(void **state)
{
    (void)state;
    static const struct {
        gm_direction expected;
        const char *start;
        size_t length; /* up to the wrong byte */
    } cases[] = {
        {GM_REQ, "\0RES", 4},  {GM_REQ, "\1REQ", 1},  {GM_REQ, "\0SEQ", 2},   {GM_REQ, "\0RAQ", 3},
        {GM_REQ, "GET ", 1},   {GM_RES, "\0REQ", 4},  {GM_RES, "\xffRES", 1}, {GM_RES, "\0ReS", 3},
        {GM_BOTH, "\0RER", 4}, {GM_BOTH, "\0res", 2}, {GM_BOTH, "OK\r\n", 1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        gm_parser parser = parser_of(cases[i].expected);
        for (size_t at = 0; at + 1 < cases[i].length; at++) {
            feed(&parser, cases[i].start + at, 1);
            assert_next(&parser, GM_AGAIN);
        }
        feed(&parser, cases[i].start + cases[i].length - 1, 1);
        assert_next(&parser, GM_INVALID_MAGIC);
        assert_slice(gm_parser_rest(&parser), slice(cases[i].start, cases[i].length));
        gm_parser_free(&parser);

        uint8_t header[GM_HEADER_SIZE] = {0};
        memcpy(header, cases[i].start, 4);
        assert_broken(cases[i].expected, GM_DEFAULT_MAX_PACKET, slice(header, GM_HEADER_SIZE), 0, GM_INVALID_MAGIC);
    }
}

static void packets_before_an_error_are_given(void **state)
{
    (void)state;
    assert_broken(GM_REQ, GM_DEFAULT_MAX_PACKET,
                  SLICE("\0REQ\0\0\0\4\0\0\0\0\0REQ\0\0\0\x10\0\0\0\2hi\0RES\0\0\0\4\0\0\0\0"), 26, GM_INVALID_MAGIC);
}

static void wrong_direction_is_told(void **state)
{
    (void)state;
    static const gm_direction magics[] = {GM_REQ, GM_RES};
    for (uint32_t number = 1; number < GM_COMMAND_LIMIT; number++) {
        if (number == 5) continue;
        for (size_t m = 0; m < 2; m++) {
            if (sample_of(number)->direction & magics[m]) continue;
            uint8_t header[GM_HEADER_SIZE];
            write_header(header, magics[m], number, 0);
            gm_slice bytes = slice(header, GM_HEADER_SIZE);
            assert_broken(magics[m], GM_DEFAULT_MAX_PACKET, bytes, 0, GM_WRONG_DIRECTION);
            assert_broken(GM_BOTH, GM_DEFAULT_MAX_PACKET, bytes, 0, GM_WRONG_DIRECTION);
        }
    }
}

static void unknown_types_are_told(void **state)
{
    (void)state;
    static const uint32_t numbers[] = {0, 5, 43, 256, 0x01000007, 0x80000000u, 0x80000007u, UINT32_MAX};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
        uint8_t header[GM_HEADER_SIZE];
        write_header(header, GM_REQ, numbers[i], 0);
        assert_broken(GM_REQ, GM_DEFAULT_MAX_PACKET, slice(header, GM_HEADER_SIZE), 0, GM_INVALID_TYPE);
    }
}

static void lengths_over_the_cap_are_refused(void **state)
{
    (void)state;
    static const struct {
        size_t cap;
        uint32_t length;
    } cases[] = {
        {GM_DEFAULT_MAX_PACKET, UINT32_MAX},
        {GM_DEFAULT_MAX_PACKET, 0x80000000u},
        {GM_DEFAULT_MAX_PACKET, 1073741825},
        {1000, 1001},
        {0, 1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        uint8_t header[GM_HEADER_SIZE];
        write_header(header, GM_REQ, GM_ECHO_REQ, cases[i].length);
        assert_broken(GM_REQ, cases[i].cap, slice(header, GM_HEADER_SIZE), 0, GM_TOO_LARGE);
    }
    assert_true(allocations.largest <= 1024);
}

/* The bytes of a body that come before its data. */
static size_t arguments_length(const wire_sample *sample)
{
    return sample->body.length - sample->parts[sample->arguments].length;
}

/* Looks at the first `cut` bytes of a packet, and requires that nothing was taken. */
static void assert_begun(const wire_sample *sample, const uint8_t *bytes, size_t length, size_t cut)
{
    gm_parser parser = parser_of(GM_BOTH);
    gm_packet packet;
    gm_slice came;
    size_t missing;
    feed(&parser, bytes, cut);
    bool expected = sample->data && cut < length && cut >= GM_HEADER_SIZE + arguments_length(sample);
    gm_status status = gm_parser_begun(&parser, sample->body.length, &packet, &came, &missing);
    assert_status(status, expected ? GM_OK : GM_AGAIN);
    assert_slice(gm_parser_rest(&parser), slice(bytes, cut));
    if (expected) {
        size_t head = GM_HEADER_SIZE + arguments_length(sample);
        assert_int_equal(packet.command, sample->number);
        assert_slice(packet.body, slice(bytes + GM_HEADER_SIZE, arguments_length(sample)));
        assert_slice(came, slice(bytes + head, cut - head));
        assert_int_equal(missing, length - cut);
        gm_parser_drop(&parser);
        assert_int_equal(gm_parser_rest(&parser).length, 0);
    }
    assert_status(gm_parser_begun(&parser, sample->body.length + 1, &packet, &came, &missing), GM_AGAIN);
    gm_parser_free(&parser);
}

static void data_on_its_way_is_told(void **state)
{
    (void)state;
    size_t with_data = 0;
    for (uint32_t number = 1; number < GM_COMMAND_LIMIT; number++) {
        if (number == 5) continue;
        const wire_sample *sample = sample_of(number);
        gm_direction magic = sample->direction & GM_RES ? GM_RES : GM_REQ;
        uint8_t *bytes;
        size_t length = sample_wire(sample, magic, &bytes);
        for (size_t cut = 0; cut <= length; cut++) assert_begun(sample, bytes, length, cut);
        if (sample->data) with_data++;
        free(bytes);
    }
    assert_true(with_data > 10);
}

/* Behind that many bytes nobody looks for the end of the arguments, however much comes. */
static void arguments_have_a_border(void **state)
{
    (void)state;
    enum { BORDER = GM_MAX_ARGUMENTS_SIZE + 1 };
    for (size_t arguments = BORDER - 1; arguments <= BORDER + 1; arguments++) {
        for (size_t data = 0; data < 3; data++) {
            size_t length = arguments + data;
            uint8_t *bytes = allocate(GM_HEADER_SIZE + length);
            memset(bytes, 'a', GM_HEADER_SIZE + length);
            write_header(bytes, GM_REQ, GM_WORK_DATA, (uint32_t)length + 7);
            bytes[GM_HEADER_SIZE + arguments - 1] = 0;
            gm_parser parser = parser_of(GM_REQ);
            gm_packet packet;
            gm_slice came;
            size_t missing;
            feed(&parser, bytes, GM_HEADER_SIZE + length);
            gm_status status = gm_parser_begun(&parser, 0, &packet, &came, &missing);
            assert_status(status, arguments <= BORDER ? GM_OK : GM_AGAIN);
            if (status == GM_OK) {
                assert_int_equal(packet.body.length, arguments);
                assert_slice(came, slice("aa", data));
                assert_int_equal(missing, 7);
            }
            gm_parser_free(&parser);
            free(bytes);
        }
    }
}

static void nothing_begins_with_what_cannot_be_read(void **state)
{
    (void)state;
    uint8_t header[GM_HEADER_SIZE];
    gm_packet packet;
    gm_slice came;
    size_t missing;
    for (size_t i = 0; i < 3; i++) {
        gm_parser parser;
        gm_parser_init(&parser, GM_REQ, 1000);
        write_header(header, i == 0 ? GM_RES : GM_REQ, i == 1 ? 99 : GM_ECHO_REQ, i == 2 ? 1001 : 1000);
        feed(&parser, header, sizeof(header));
        assert_status(gm_parser_begun(&parser, 0, &packet, &came, &missing), GM_AGAIN);
        gm_parser_free(&parser);
    }
}

static void lengths_up_to_the_cap_are_taken(void **state)
{
    (void)state;
    uint8_t packet[GM_HEADER_SIZE + 1000];
    memset(packet, 'd', sizeof(packet));
    write_header(packet, GM_REQ, GM_ECHO_REQ, 1000);
    gm_parser parser;
    gm_parser_init(&parser, GM_REQ, 1000);
    feed(&parser, packet, sizeof(packet) - 1);
    assert_next(&parser, GM_AGAIN);
    feed(&parser, "d", 1);
    gm_packet taken;
    assert_status(gm_parser_next(&parser, &taken), GM_OK);
    assert_slice(taken.body, slice(packet + GM_HEADER_SIZE, 1000));
    gm_parser_free(&parser);

    gm_parser_init(&parser, GM_REQ, 0);
    feed(&parser, "\0REQ\0\0\0\4\0\0\0\0", 12);
    assert_next(&parser, GM_OK);
    gm_parser_free(&parser);
}

static void announced_lengths_take_no_memory(void **state)
{
    (void)state;
    static const uint32_t lengths[] = {100 * 1000, 1073741824, UINT32_MAX};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
        allocations_reset(NULL);
        uint8_t header[GM_HEADER_SIZE];
        write_header(header, GM_REQ, GM_ECHO_REQ, lengths[i]);
        gm_parser parser;
        gm_parser_init(&parser, GM_REQ, SIZE_MAX);
        read_in(&parser, header, GM_HEADER_SIZE);
        size_t capacity = parser.buffer.capacity;
        assert_int_equal(capacity, GM_READ_SIZE);
        assert_next(&parser, GM_AGAIN);
        assert_int_equal(parser.buffer.capacity, capacity);
        assert_int_equal(allocations.calls, 1);
        uint8_t *room = NULL;
        size_t size;
        assert_status(gm_parser_reserve(&parser, &room, &size), GM_OK);
        assert_int_equal(size, GM_READ_SIZE);
        assert_int_equal(parser.buffer.capacity, 2 * GM_READ_SIZE);
        gm_parser_free(&parser);
    }
}

static void memory_grows_with_the_bytes_that_came(void **state)
{
    (void)state;
    enum { LENGTH = 3 * 1000 * 1000 };
    uint8_t *packet = allocate(GM_HEADER_SIZE + LENGTH);
    write_header(packet, GM_RES, GM_ECHO_RES, LENGTH);
    for (size_t i = 0; i < LENGTH; i++) packet[GM_HEADER_SIZE + i] = (uint8_t)(i * 31 >> 3);
    gm_parser parser = parser_of(GM_RES);
    size_t came = 0, reads = 0;
    while (came < GM_HEADER_SIZE + LENGTH) {
        uint8_t *room = NULL;
        size_t size, left = GM_HEADER_SIZE + LENGTH - came;
        assert_next(&parser, GM_AGAIN);
        assert_status(gm_parser_reserve(&parser, &room, &size), GM_OK);
        assert_int_equal(size, came > GM_READ_SIZE ? came : GM_READ_SIZE);
        assert_true(parser.buffer.capacity < 2 * (came + size));
        size_t length = reads++ % 3 == 0 ? 1000 : size;
        if (length > left) length = left;
        memcpy(room, packet + came, length);
        gm_parser_commit(&parser, length);
        came += length;
    }
    gm_packet taken;
    assert_status(gm_parser_next(&parser, &taken), GM_OK);
    assert_slice(taken.body, slice(packet + GM_HEADER_SIZE, LENGTH));
    assert_true(reads < 20);
    gm_parser_trim(&parser);
    assert_int_equal(parser.buffer.capacity, 0);
    gm_parser_free(&parser);
    free(packet);
}

static void many_packets_take_the_memory_of_one(void **state)
{
    (void)state;
    wire_stream stream = stream_of(GM_REQ);
    gm_parser parser = parser_of(GM_REQ);
    for (int i = 0; i < 1000; i++) {
        size_t taken = 0;
        read_in(&parser, stream.bytes, stream.length);
        take(&parser, &stream, &taken);
        assert_int_equal(taken, stream.count);
    }
    assert_int_equal(allocations.calls, 1);
    assert_int_equal(parser.buffer.capacity, GM_READ_SIZE);
    gm_parser_trim(&parser);
    assert_int_equal(parser.buffer.capacity, GM_READ_SIZE);
    gm_parser_free(&parser);
    free(stream.bytes);
}

static void without_memory_nothing_changes(void **state)
{
    (void)state;
    wire_stream stream = stream_of(GM_REQ);
    gm_parser parser = parser_of(GM_REQ);
    uint8_t mark = 0, *room = &mark;
    size_t size;
    allocations.limit = 0;
    assert_status(gm_parser_feed(&parser, "x", 1), GM_NO_MEMORY);
    assert_status(gm_parser_reserve(&parser, &room, &size), GM_NO_MEMORY);
    assert_ptr_equal(room, &mark);
    assert_null(parser.buffer.memory);
    allocations.limit = 1024;
    size_t half = stream.length / 2;
    feed(&parser, stream.bytes, half);
    gm_parser before = parser;
    uint8_t more[1024] = {0};
    assert_status(gm_parser_feed(&parser, more, sizeof(more)), GM_NO_MEMORY);
    assert_status(gm_parser_reserve(&parser, &room, &size), GM_NO_MEMORY);
    assert_memory_equal(&parser.buffer, &before.buffer, sizeof(before.buffer));
    allocations.limit = SIZE_MAX;
    size_t taken = 0;
    feed(&parser, stream.bytes + half, stream.length - half);
    take(&parser, &stream, &taken);
    assert_int_equal(taken, stream.count);
    gm_parser_free(&parser);
    free(stream.bytes);
}

static void freed_parser_begins_anew(void **state)
{
    (void)state;
    gm_parser parser = parser_of(GM_REQ);
    feed(&parser, "\0REQ\0\0", 6);
    gm_parser_free(&parser);
    assert_int_equal(gm_parser_rest(&parser).length, 0);
    feed(&parser, "\0REQ\0\0\0\4\0\0\0\0", 12);
    gm_packet packet;
    assert_status(gm_parser_next(&parser, &packet), GM_OK);
    assert_int_equal(packet.command, GM_PRE_SLEEP);
    assert_int_equal(packet.body.length, 0);
    gm_parser_free(&parser);
}

static void assert_line(gm_parser *parser, gm_slice expected)
{
    gm_slice line;
    assert_status(gm_parser_line(parser, &line), GM_OK);
    assert_slice(line, expected);
}

static void assert_no_line(gm_parser *parser, gm_status expected)
{
    gm_slice line, before = gm_parser_rest(parser);
    assert_status(gm_parser_line(parser, &line), expected);
    assert_slice(gm_parser_rest(parser), before);
}

static void lines_end_in_lf_or_crlf(void **state)
{
    (void)state;
    gm_parser parser = parser_of(GM_REQ);
    gm_slice bytes = SLICE("status\nworkers\r\n\r\n\nshow jobs\r\r\na\rb\nwith\0nul\nrest");
    feed(&parser, bytes.bytes, bytes.length);
    assert_line(&parser, SLICE("status"));
    assert_line(&parser, SLICE("workers"));
    assert_line(&parser, SLICE(""));
    assert_line(&parser, SLICE(""));
    assert_line(&parser, SLICE("show jobs\r"));
    assert_line(&parser, SLICE("a\rb"));
    assert_line(&parser, SLICE("with\0nul"));
    assert_no_line(&parser, GM_AGAIN);
    feed(&parser, "\n", 1);
    assert_line(&parser, SLICE("rest"));
    assert_no_line(&parser, GM_AGAIN);
    gm_parser_free(&parser);
}

/* Takes what comes as a server does: a line where the first byte is not 0, else a packet. */
static void take_mixed(gm_parser *parser, size_t *taken)
{
    for (;;) {
        gm_slice line;
        gm_packet packet;
        if (gm_parser_line(parser, &line) == GM_OK) {
            assert_int_equal(*taken % 2, 0);
            assert_slice(line, *taken == 0 ? SLICE("status") : SLICE("version"));
        } else if (gm_parser_next(parser, &packet) == GM_OK) {
            assert_int_equal(*taken % 2, 1);
            assert_packet(packet, sample_of(*taken == 1 ? GM_SUBMIT_JOB : GM_PRE_SLEEP));
        } else {
            return;
        }
        (*taken)++;
    }
}

static void lines_and_packets_mix_in_every_split(void **state)
{
    (void)state;
    wire_stream job = {NULL, 0, 0, {NULL}}, sleep = {NULL, 0, 0, {NULL}};
    append_sample(&job, sample_of(GM_SUBMIT_JOB), GM_REQ);
    append_sample(&sleep, sample_of(GM_PRE_SLEEP), GM_REQ);
    gm_buffer all;
    gm_buffer_init(&all);
    gm_buffer_append(&all, "status\r\n", 8);
    gm_buffer_append(&all, job.bytes, job.length);
    gm_buffer_append(&all, "version\n", 8);
    gm_buffer_append(&all, sleep.bytes, sleep.length);
    size_t length = gm_buffer_length(&all);
    for (size_t cut = 0; cut <= length; cut++) {
        gm_parser parser = parser_of(GM_REQ);
        size_t taken = 0;
        feed(&parser, gm_buffer_bytes(&all), cut);
        take_mixed(&parser, &taken);
        feed(&parser, gm_buffer_bytes(&all) + cut, length - cut);
        take_mixed(&parser, &taken);
        assert_int_equal(taken, 4);
        assert_int_equal(gm_parser_rest(&parser).length, 0);
        gm_parser_free(&parser);
    }
    gm_buffer_free(&all);
    free(job.bytes);
    free(sleep.bytes);
}

static void a_packet_is_no_line(void **state)
{
    (void)state;
    gm_parser parser = parser_of(GM_REQ);
    feed(&parser, "\0REQ\n", 5);
    assert_no_line(&parser, GM_AGAIN);
    gm_parser_free(&parser);
}

/* The same border whether the line comes whole, in two pieces at any end, or byte by byte. */
static void lines_have_a_border(void **state)
{
    (void)state;
    enum { LIMIT = GM_MAX_ARGUMENTS_SIZE };
    static const size_t pieces[] = {1, 1000, LIMIT - 1, LIMIT, LIMIT + 1, LIMIT + 2, LIMIT + 3, SIZE_MAX};
    char *text = allocate(LIMIT + 3);
    for (size_t length = LIMIT - 1; length <= LIMIT + 2; length++) {
        memset(text, 'x', length);
        text[length] = '\n';
        for (size_t p = 0; p < sizeof(pieces) / sizeof(*pieces); p++) {
            gm_parser parser = parser_of(GM_REQ);
            gm_slice line = {NULL, 0};
            gm_status status = GM_AGAIN;
            size_t at = 0;
            while (at < length + 1 && status == GM_AGAIN) {
                size_t piece = pieces[p] < length + 1 - at ? pieces[p] : length + 1 - at;
                feed(&parser, text + at, piece);
                at += piece;
                status = gm_parser_line(&parser, &line);
            }
            if (length > LIMIT) {
                assert_status(status, GM_TOO_LARGE);
                assert_no_line(&parser, GM_TOO_LARGE);
                assert_slice(gm_parser_rest(&parser), slice(text, at));
            } else {
                assert_status(status, GM_OK);
                assert_slice(line, slice(text, length));
            }
            gm_parser_free(&parser);
        }
    }
    free(text);
}

int run_parser_tests(size_t *total)
{
#define TEST(function) cmocka_unit_test_setup(function, allocations_reset)
    const struct CMUnitTest tests[] = {
        TEST(init_allocates_nothing),
        TEST(every_split_in_two_gives_the_same_packets),
        TEST(every_split_in_three_gives_the_same_packets),
        TEST(bytes_alone_give_the_same_packets),
        TEST(every_truncation_waits_for_the_rest),
        TEST(packets_stay_until_the_next_feed),
        TEST(wrong_magic_is_told_from_its_first_wrong_byte),
        TEST(packets_before_an_error_are_given),
        TEST(wrong_direction_is_told),
        TEST(unknown_types_are_told),
        TEST(lengths_over_the_cap_are_refused),
        TEST(data_on_its_way_is_told),
        TEST(arguments_have_a_border),
        TEST(nothing_begins_with_what_cannot_be_read),
        TEST(lengths_up_to_the_cap_are_taken),
        TEST(announced_lengths_take_no_memory),
        TEST(memory_grows_with_the_bytes_that_came),
        TEST(many_packets_take_the_memory_of_one),
        TEST(without_memory_nothing_changes),
        TEST(freed_parser_begins_anew),
        TEST(lines_end_in_lf_or_crlf),
        TEST(lines_and_packets_mix_in_every_split),
        TEST(a_packet_is_no_line),
        TEST(lines_have_a_border),
    };
    *total += sizeof(tests) / sizeof(*tests);
    return cmocka_run_group_tests_name("parser", tests, allocations_reset, NULL);
}
