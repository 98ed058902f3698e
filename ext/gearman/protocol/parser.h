#ifndef GM_PARSER_H
#define GM_PARSER_H

#include <stddef.h>
#include <stdint.h>

#include "buffer.h"
#include "packet.h"
#include "status.h"

enum { GM_READ_SIZE = 32 * 1024 };

/* The largest packet that is taken unless told otherwise, in bytes of its body. */
#define GM_DEFAULT_MAX_PACKET ((size_t)1024 * 1024 * 1024)

/*
 * Turns bytes, fed in any split, into packets. Its memory grows with the bytes that came, never with
 * the length that a header announces. Packets are slices of its buffer, good until the next reserve, feed or trim.
 */
typedef struct {
    gm_buffer buffer;
    gm_direction expected;
    size_t max_packet;
} gm_parser;

/* `expected` as in gm_header_decode; `max_packet` bounds the body of a packet, in bytes. Allocates nothing. */
void gm_parser_init(gm_parser *parser, gm_direction expected, size_t max_packet);

/* Gives all memory back. */
void gm_parser_free(gm_parser *parser);

/*
 * Makes room for the next read and stores its address and size: GM_READ_SIZE, or more within a large
 * packet, never more than doubling what has come. The room belongs to the parser, and no other call may
 * come between this one and the commit.
 *
 * Return values: GM_OK; GM_NO_MEMORY (nothing changed).
 */
gm_status gm_parser_reserve(gm_parser *parser, uint8_t **room, size_t *size);

/* Counts `length` bytes of the reserved room as read. */
void gm_parser_commit(gm_parser *parser, size_t length);

/*
 * Copies `length` bytes behind those that came before.
 *
 * Return values: GM_OK; GM_NO_MEMORY (nothing changed).
 */
static inline gm_status gm_parser_feed(gm_parser *parser, const void *bytes, size_t length)
{
    return gm_buffer_append(&parser->buffer, bytes, length);
}

/*
 * Takes the next packet.
 *
 * Return values: GM_OK (`packet` is set and counts as read); GM_AGAIN (none is whole yet);
 * GM_INVALID_MAGIC, GM_INVALID_TYPE, GM_WRONG_DIRECTION, GM_TOO_LARGE: nothing was taken, and nothing
 * behind this point can be read as packets. A magic is told from its first wrong byte, the others from
 * the header.
 */
gm_status gm_parser_next(gm_parser *parser, gm_packet *packet);

/*
 * Looks whether a packet with a body of at least `least` bytes is on its way, whose data has begun: what is still to
 * come of it may be read elsewhere, which saves copying it. All that came is a part of that packet.
 *
 * Return values: GM_OK (`packet` is set, but its body ends where the data begins; `came` is what has come of that,
 * `missing` how many bytes are still to come); GM_AGAIN (no such packet is next).
 */
gm_status gm_parser_begun(const gm_parser *parser, size_t least, gm_packet *packet, gm_slice *came, size_t *missing);

/* Drops all that came. It stays in place until the next reserve or feed. */
void gm_parser_drop(gm_parser *parser);

/*
 * Takes the next line of the text protocol, which begins where a packet could begin, without its
 * "\n" or "\r\n".
 *
 * Return values: GM_OK (`line` is set and counts as read); GM_AGAIN (no whole line, or a packet is
 * next); GM_TOO_LARGE (no "\n" behind GM_MAX_ARGUMENTS_SIZE bytes or fewer; nothing was taken).
 */
gm_status gm_parser_line(gm_parser *parser, gm_slice *line);

/* Gives memory grown for a large packet back, if nothing is unread. */
static inline void gm_parser_trim(gm_parser *parser) { gm_buffer_trim(&parser->buffer); }

/* The bytes that came and were not taken yet. */
static inline gm_slice gm_parser_rest(const gm_parser *parser)
{
    gm_slice rest = {gm_buffer_bytes(&parser->buffer), gm_buffer_length(&parser->buffer)};
    return rest;
}

#endif
