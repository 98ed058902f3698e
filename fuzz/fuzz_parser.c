/*
 * libFuzzer harness of the protocol core. The input is what stands on the wire; nothing in it steers the
 * harness, so any captured stream can be a seed. Checked of every input, for each side that may read it:
 *
 *   - any split of it (single bytes, pieces; fed, read in) gives the same packets, lines, end and rest;
 *   - what is whole is taken, and memory is bounded by the bytes that came;
 *   - the parts of a packet make up its body;
 *   - a packet that was taken can be encoded from its parts again, into the same bytes.
 *
 * The same input is also cut into parts, and these must come back from encode and decode, or be refused
 * for a reason that holds.
 */
#include "parser.h"

#include <stdlib.h>
#include <string.h>

#define CHECK(condition)           \
    do {                           \
        if (!(condition)) abort(); \
    } while (0)

enum { MAX_PACKET = 64 * 1024, BYTEWISE_LENGTH = 1024 };

typedef struct {
    gm_direction expected;
    bool lines; /* a server takes lines where a packet could begin */
} side;

/* A source of numbers that the input alone determines. */
typedef struct {
    uint64_t state;
} numbers;

static numbers numbers_of(const uint8_t *bytes, size_t length)
{
    numbers source = {14695981039346656037u};
    for (size_t i = 0; i < length; i++) source.state = (source.state ^ bytes[i]) * 1099511628211u;
    return source;
}

static size_t below(numbers *source, size_t limit)
{
    source->state = source->state * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(source->state >> 33) % limit;
}

static gm_slice contents(const gm_buffer *buffer)
{
    gm_slice unread = {gm_buffer_bytes(buffer), gm_buffer_length(buffer)};
    return unread;
}

static bool same(gm_slice a, gm_slice b)
{
    return a.length == b.length && (a.length == 0 || memcmp(a.bytes, b.bytes, a.length) == 0);
}

static void put(gm_buffer *record, const void *bytes, size_t length)
{
    CHECK(gm_buffer_append(record, bytes, length) == GM_OK);
}

static bool has_nul(gm_slice part) { return part.length && memchr(part.bytes, 0, part.length); }

/* The parts of a packet make up its body, and encoded they make it again, unless they are such as are never sent. */
static void check_reencoding(const gm_packet *packet)
{
    const gm_command_info *info = gm_command_find(packet->command);
    size_t count = gm_command_parts(info);
    gm_slice parts[GM_MAX_ARGUMENTS];
    gm_status split = gm_packet_split(packet, parts);
    bool nul = false;
    size_t separators = 0, total = 0;
    for (size_t i = 0; i < packet->body.length && separators + 1 < count; i++) separators += packet->body.bytes[i] == 0;
    for (size_t i = 0; i < count; i++) {
        total += parts[i].length;
        if (i < info->arguments) nul = nul || has_nul(parts[i]);
    }
    CHECK(split == (separators + 1 < count ? GM_MISSING_ARGUMENT : GM_OK));
    if (packet->command == GM_WORK_FAIL) {
        CHECK(total == 0 || parts[0].bytes[total - 1] != 0);
    } else if (count) {
        CHECK(total + separators == packet->body.length);
    }
    gm_buffer out;
    gm_buffer_init(&out);
    gm_status status = gm_packet_encode(&out, GM_REQ, packet->command, parts, count);
    if (status == GM_OK) {
        gm_slice body = contents(&out);
        CHECK(!nul && body.length >= GM_HEADER_SIZE);
        body.bytes += GM_HEADER_SIZE;
        body.length -= GM_HEADER_SIZE;
        bool strict = split == GM_OK && (info->arguments || info->data);
        if (packet->command == GM_WORK_FAIL) {
            CHECK(body.length <= packet->body.length);
            for (size_t i = body.length; i < packet->body.length; i++) CHECK(packet->body.bytes[i] == 0);
            CHECK(body.length == 0 || memcmp(body.bytes, packet->body.bytes, body.length) == 0);
        } else if (strict) {
            CHECK(same(body, packet->body));
        }
    } else {
        CHECK((status == GM_NUL_IN_ARGUMENT && nul) || status == GM_ARGUMENTS_TOO_LONG);
        CHECK(gm_buffer_length(&out) == 0);
    }
    gm_buffer_free(&out);
}

static size_t announced(gm_slice header)
{
    size_t length = 0;
    for (size_t i = 8; i < GM_HEADER_SIZE; i++) length = length << 8 | header.bytes[i];
    return length;
}

/* What is told of a packet on its way is what has come of it, and nothing of that is taken. */
static void check_begun(const gm_parser *parser)
{
    gm_slice rest = gm_parser_rest(parser), came;
    gm_packet packet;
    size_t missing, nuls = 0;
    gm_status status = gm_parser_begun(parser, 0, &packet, &came, &missing);
    CHECK(same(gm_parser_rest(parser), rest));
    if (rest.length < GM_HEADER_SIZE) {
        CHECK(status == GM_AGAIN);
        return;
    }
    const gm_command_info *info = gm_command_find(rest.bytes[7]);
    size_t end = GM_HEADER_SIZE + GM_MAX_ARGUMENTS_SIZE + 1u;
    for (size_t i = GM_HEADER_SIZE; i < rest.length && i < end; i++) nuls += rest.bytes[i] == 0;
    CHECK((status == GM_OK) == (info->data && nuls >= info->arguments));
    if (status != GM_OK) return;
    CHECK(packet.body.bytes == rest.bytes + GM_HEADER_SIZE && came.bytes == packet.body.bytes + packet.body.length);
    CHECK(packet.body.length + came.length == rest.length - GM_HEADER_SIZE);
    CHECK(missing > 0 && rest.length - GM_HEADER_SIZE + missing == announced(rest));
    nuls = 0;
    for (size_t i = 0; i < packet.body.length; i++) nuls += packet.body.bytes[i] == 0;
    CHECK(nuls == info->arguments && (nuls == 0 || came.bytes[-1] == 0));
    CHECK(gm_parser_begun(parser, announced(rest) + 1, &packet, &came, &missing) == GM_AGAIN);
}

/* Takes all that can be taken, and records it. */
static gm_status take(gm_parser *parser, side reader, gm_buffer *record)
{
    for (;;) {
        gm_packet packet;
        gm_slice line;
        gm_status status = reader.lines ? gm_parser_line(parser, &line) : GM_AGAIN;
        if (status == GM_OK) {
            CHECK(line.length <= GM_MAX_ARGUMENTS_SIZE);
            put(record, "line", 4);
            put(record, &line.length, sizeof(line.length));
            put(record, line.bytes, line.length);
            continue;
        }
        if (status != GM_AGAIN) return status;
        gm_slice rest = gm_parser_rest(parser);
        if (reader.lines && rest.length && rest.bytes[0] != 0) return GM_AGAIN;
        status = gm_parser_next(parser, &packet);
        if (status == GM_AGAIN && rest.length >= GM_HEADER_SIZE) CHECK(announced(rest) > rest.length - GM_HEADER_SIZE);
        if (status == GM_AGAIN) check_begun(parser);
        if (status != GM_OK) return status;
        CHECK(packet.body.length <= MAX_PACKET);
        CHECK(gm_command_find(packet.command)->direction & reader.expected);
        check_reencoding(&packet);
        put(record, &packet.command, sizeof(packet.command));
        put(record, &packet.body.length, sizeof(packet.body.length));
        put(record, packet.body.bytes, packet.body.length);
    }
}

static void give(gm_parser *parser, const uint8_t *bytes, size_t length)
{
    uint8_t *room;
    size_t size;
    while (length) {
        CHECK(gm_parser_reserve(parser, &room, &size) == GM_OK);
        size_t piece = length < size ? length : size;
        memcpy(room, bytes, piece);
        gm_parser_commit(parser, piece);
        bytes += piece;
        length -= piece;
    }
}

typedef enum { WHOLE, BYTEWISE, PIECES } split;

/* Reads the input in one kind of split. Appends what was taken, how it ended, and what was left to `record`. */
static void read_stream(gm_slice input, numbers source, side reader, split how, gm_buffer *record)
{
    const uint8_t *bytes = input.bytes;
    size_t length = input.length;
    gm_parser parser;
    gm_parser_init(&parser, reader.expected, MAX_PACKET);
    gm_status status = GM_AGAIN;
    size_t at = 0;
    while (at < length && status == GM_AGAIN) {
        size_t piece = length - at;
        if (how == BYTEWISE) piece = 1;
        if (how == PIECES) piece = below(&source, below(&source, 4) ? 24 : 4096) + 1;
        if (piece > length - at) piece = length - at;
        if (how == PIECES && below(&source, 2)) {
            give(&parser, bytes + at, piece);
        } else {
            CHECK(gm_parser_feed(&parser, bytes + at, piece) == GM_OK);
        }
        at += piece;
        status = take(&parser, reader, record);
        size_t came = at > GM_READ_SIZE ? at : GM_READ_SIZE;
        CHECK(parser.buffer.capacity <= 4 * came);
        if (how == PIECES && below(&source, 4) == 0) gm_parser_trim(&parser);
    }
    CHECK(status == GM_AGAIN || take(&parser, reader, record) == status);
    CHECK(gm_parser_feed(&parser, bytes + at, length - at) == GM_OK);
    gm_slice rest = gm_parser_rest(&parser);
    CHECK(same(rest, (gm_slice){bytes + length - rest.length, rest.length}));
    put(record, &status, sizeof(status));
    put(record, rest.bytes, rest.length);
    gm_parser_free(&parser);
}

static void check_splits(gm_slice input, numbers source)
{
    static const side sides[] = {{GM_REQ, true}, {GM_RES, false}, {GM_BOTH, false}};
    for (size_t i = 0; i < sizeof(sides) / sizeof(*sides); i++) {
        gm_buffer expected, record;
        gm_buffer_init(&expected);
        read_stream(input, source, sides[i], WHOLE, &expected);
        for (split how = BYTEWISE; how <= PIECES; how++) {
            if (how == BYTEWISE && input.length > BYTEWISE_LENGTH) continue; /* slow, and shows nothing new */
            gm_buffer_init(&record);
            read_stream(input, source, sides[i], how, &record);
            CHECK(same(contents(&record), contents(&expected)));
            gm_buffer_free(&record);
        }
        gm_buffer_free(&expected);
    }
}

/* Cuts the input into the parts of one kind of packet. */
static void check_encoding(gm_slice input, numbers source)
{
    uint32_t number = (uint32_t)below(&source, GM_COMMAND_LIMIT + 1u);
    const gm_command_info *info = gm_command_find(number);
    gm_slice parts[GM_MAX_ARGUMENTS] = {{NULL, 0}};
    size_t count = info ? gm_command_parts(info) : 0, names = 0;
    bool nul = false;
    gm_slice rest = input;
    for (size_t i = 0; i < count; i++) {
        parts[i] = rest;
        if (i + 1 < count) parts[i].length = below(&source, rest.length + 1);
        rest.bytes += parts[i].length;
        rest.length -= parts[i].length;
        if (i >= info->arguments) continue;
        names += parts[i].length + (i ? 1 : 0);
        nul = nul || has_nul(parts[i]);
    }
    gm_buffer out;
    gm_buffer_init(&out);
    gm_status status = gm_packet_encode(&out, GM_RES, (gm_command)number, parts, count);
    if (!info) {
        CHECK(status == GM_INVALID_TYPE);
    } else if (nul || names > GM_MAX_ARGUMENTS_SIZE) {
        CHECK((nul && status == GM_NUL_IN_ARGUMENT) ||
              (names > GM_MAX_ARGUMENTS_SIZE && status == GM_ARGUMENTS_TOO_LONG));
    } else {
        CHECK(status == GM_OK);
        gm_slice packet = contents(&out);
        gm_command command = (gm_command)number;
        uint32_t body = 0;
        if (info->direction & GM_RES) {
            CHECK(gm_header_decode(packet.bytes, GM_RES, &command, &body) == GM_OK);
            CHECK((uint32_t)command == number && body == packet.length - GM_HEADER_SIZE);
        } else {
            CHECK(gm_header_decode(packet.bytes, GM_RES, &command, &body) == GM_WRONG_DIRECTION);
        }
        gm_packet whole = {command, {packet.bytes + GM_HEADER_SIZE, packet.length - GM_HEADER_SIZE}};
        gm_slice split[GM_MAX_ARGUMENTS];
        CHECK(gm_packet_split(&whole, split) == GM_OK);
        for (size_t i = 0; i < count; i++) CHECK(same(split[i], parts[i]));
        gm_buffer head;
        gm_buffer_init(&head);
        CHECK(gm_packet_encode_head(&head, GM_RES, command, parts, count) == GM_OK);
        size_t data = info->data ? parts[count - 1].length : 0;
        CHECK(same(contents(&head), (gm_slice){packet.bytes, packet.length - data}));
        gm_buffer_free(&head);
    }
    if (status != GM_OK) CHECK(gm_buffer_length(&out) == 0);
    gm_buffer_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    if (length == 0) return 0;
    gm_slice input = {bytes, length};
    numbers source = numbers_of(bytes, length);
    check_splits(input, source);
    check_encoding(input, source);
    return 0;
}
