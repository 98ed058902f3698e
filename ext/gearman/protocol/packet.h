#ifndef GM_PACKET_H
#define GM_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buffer.h"
#include "status.h"

enum {
    GM_HEADER_SIZE = 12,
    GM_COMMAND_LIMIT = 43,   /* one above the highest packet type */
    GM_MAX_ARGUMENTS = 8,    /* no packet has more, its data counted */
    GM_MAX_UNIQUE_SIZE = 63, /* bytes: gearmand 1.1 keeps a unique in 64 with its NUL */
    GM_MAX_HANDLE_SIZE = 63, /* bytes: gearmand does not answer a GET_STATUS of a longer one */
    GM_MAX_ARGUMENTS_SIZE = 8 * 1024 - 1 - GM_HEADER_SIZE, /* bytes: header and names must fit gearmand's first read */
};

typedef enum {
#define GM_COMMAND(number, NAME, name, direction, arguments, data) GM_##NAME = number,
#include "commands.def"
#undef GM_COMMAND
} gm_command;

typedef enum { GM_REQ = 1, GM_RES = 2, GM_BOTH = GM_REQ | GM_RES } gm_direction;

/* What commands.def says of a packet type. All of it is static memory. */
typedef struct {
    const char *name; /* in lower case; NULL: there is no such type */
    gm_direction direction;
    uint8_t arguments;
    bool data;
} gm_command_info;

/* Bytes that somebody else owns. */
typedef struct {
    const uint8_t *bytes;
    size_t length;
} gm_slice;

typedef struct {
    gm_command command;
    gm_slice body;
} gm_packet;

/* The description of packet type `number`, or NULL when there is none. */
const gm_command_info *gm_command_find(uint32_t number);

/* How many parts the body of a packet has: its arguments, and its data as the last one. */
static inline size_t gm_command_parts(const gm_command_info *info) { return info->arguments + (info->data ? 1u : 0u); }

/*
 * Writes a header for a body of `length` bytes into the GM_HEADER_SIZE bytes at `header`; `direction`
 * is GM_REQ or GM_RES.
 *
 * Return values: GM_OK; GM_TOO_LARGE (the length does not fit 32 bits; nothing was written).
 */
gm_status gm_header_encode(uint8_t *header, gm_direction direction, gm_command command, size_t length);

/*
 * Appends a whole packet to `out`. `parts` are the arguments in the order of the protocol, the data
 * last; they are copied.
 *
 * Return values: GM_OK; GM_INVALID_TYPE; GM_ARGUMENT_COUNT; GM_NUL_IN_ARGUMENT; GM_ARGUMENTS_TOO_LONG
 * (with the NULs between them over GM_MAX_ARGUMENTS_SIZE); GM_TOO_LARGE (the body does not fit 32 bits);
 * GM_NO_MEMORY. Unless GM_OK, nothing was appended.
 */
gm_status gm_packet_encode(gm_buffer *out, gm_direction direction, gm_command command, const gm_slice *parts,
                           size_t count);

/* gm_packet_encode without the data, if the packet has any: that is to follow from where it lies. */
gm_status gm_packet_encode_head(gm_buffer *out, gm_direction direction, gm_command command, const gm_slice *parts,
                                size_t count);

/*
 * Reads a header from the first GM_HEADER_SIZE bytes at `header`. `expected` tells whose side reads:
 * GM_RES for a client or worker, GM_REQ for a server, GM_BOTH for either.
 *
 * Return values: GM_OK (`command` and `length` are set); GM_INVALID_MAGIC; GM_INVALID_TYPE;
 * GM_WRONG_DIRECTION (the magic fits, the type does not belong to it).
 */
gm_status gm_header_decode(const uint8_t *header, gm_direction expected, gm_command *command, uint32_t *length);

/*
 * Cuts the body of a packet into its gm_command_parts() parts, which are slices of that body. NUL bytes
 * behind the handle of a WORK_FAIL are dropped: servers send them.
 *
 * Return values: GM_OK; GM_MISSING_ARGUMENT (the parts that are there are set, the others empty).
 */
gm_status gm_packet_split(const gm_packet *packet, gm_slice parts[GM_MAX_ARGUMENTS]);

#endif
