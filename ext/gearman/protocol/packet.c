#include "packet.h"

#include <string.h>

#include "attributes.h"

static const uint8_t REQ_MAGIC[4] = {0, 'R', 'E', 'Q'};
static const uint8_t RES_MAGIC[4] = {0, 'R', 'E', 'S'};

static const gm_command_info COMMANDS[GM_COMMAND_LIMIT] = {
#define GM_COMMAND(number, NAME, name, direction, arguments, data) [number] = {#name, GM_##direction, arguments, data},
#include "commands.def"
#undef GM_COMMAND
};

static const char *const STATUS_TEXTS[] = {
#define GM_STATUS(name, text) text,
#include "status.def"
#undef GM_STATUS
};

const char *gm_status_text(gm_status status)
{
    size_t index = (size_t)status;
    return index < sizeof(STATUS_TEXTS) / sizeof(*STATUS_TEXTS) ? STATUS_TEXTS[index] : "unknown status";
}

GM_HOT const gm_command_info *gm_command_find(uint32_t number)
{
    if (GM_UNLIKELY(number >= GM_COMMAND_LIMIT || !COMMANDS[number].name)) return NULL;
    return &COMMANDS[number];
}

static void put_u32(uint8_t *to, uint32_t value)
{
    to[0] = (uint8_t)(value >> 24);
    to[1] = (uint8_t)(value >> 16);
    to[2] = (uint8_t)(value >> 8);
    to[3] = (uint8_t)value;
}

static uint32_t get_u32(const uint8_t *from)
{
    return (uint32_t)from[0] << 24 | (uint32_t)from[1] << 16 | (uint32_t)from[2] << 8 | from[3];
}

gm_status gm_header_encode(uint8_t *header, gm_direction direction, gm_command command, size_t length)
{
    if (GM_UNLIKELY(length > UINT32_MAX)) return GM_TOO_LARGE;
    memcpy(header, direction == GM_REQ ? REQ_MAGIC : RES_MAGIC, sizeof(REQ_MAGIC));
    put_u32(header + 4, (uint32_t)command);
    put_u32(header + 8, (uint32_t)length);
    return GM_OK;
}

/* The length of the body that the parts make, once they are known to be fit to be sent. */
GM_HOT static gm_status measure(const gm_command_info *info, const gm_slice *parts, size_t count, size_t *length)
{
    size_t names = 0;
    if (GM_UNLIKELY(count != gm_command_parts(info))) return GM_ARGUMENT_COUNT;
    for (size_t i = 0; i < info->arguments; i++) {
        if (GM_UNLIKELY(parts[i].length > GM_MAX_ARGUMENTS_SIZE)) return GM_ARGUMENTS_TOO_LONG;
        const uint8_t *nul = parts[i].length ? memchr(parts[i].bytes, 0, parts[i].length) : NULL;
        if (GM_UNLIKELY(nul != NULL)) return GM_NUL_IN_ARGUMENT;
        names += parts[i].length + 1;
    }
    if (GM_UNLIKELY(names > GM_MAX_ARGUMENTS_SIZE + 1u)) return GM_ARGUMENTS_TOO_LONG;
    size_t data = info->data ? parts[count - 1].length : 0;
    if (GM_UNLIKELY(data > UINT32_MAX - names)) return GM_TOO_LARGE;
    *length = names + data;
    if (info->arguments && !info->data) *length -= 1; /* the last argument ends with the body */
    return GM_OK;
}

GM_HOT static gm_status encode(gm_buffer *out, gm_direction direction, gm_command command, const gm_slice *parts,
                               size_t count, bool whole)
{
    const gm_command_info *info = gm_command_find(command);
    if (GM_UNLIKELY(!info)) return GM_INVALID_TYPE;
    size_t length;
    gm_status status = measure(info, parts, count, &length);
    if (GM_UNLIKELY(status != GM_OK)) return status;
    size_t copied = info->data && !whole ? count - 1 : count;
    size_t size = GM_HEADER_SIZE + length - (copied < count ? parts[copied].length : 0);
    uint8_t *room;
    status = gm_buffer_reserve(out, size, &room);
    if (GM_UNLIKELY(status != GM_OK)) return status;
    gm_header_encode(room, direction, command, length);
    uint8_t *to = room + GM_HEADER_SIZE;
    for (size_t i = 0; i < copied; i++) {
        if (parts[i].length) memcpy(to, parts[i].bytes, parts[i].length);
        to += parts[i].length;
        if (i + 1 < count) *to++ = 0;
    }
    gm_buffer_commit(out, size);
    return GM_OK;
}

GM_HOT gm_status gm_packet_encode(gm_buffer *out, gm_direction direction, gm_command command, const gm_slice *parts,
                                  size_t count)
{
    return encode(out, direction, command, parts, count, true);
}

gm_status gm_packet_encode_head(gm_buffer *out, gm_direction direction, gm_command command, const gm_slice *parts,
                                size_t count)
{
    return encode(out, direction, command, parts, count, false);
}

GM_HOT gm_status gm_header_decode(const uint8_t *header, gm_direction expected, gm_command *command, uint32_t *length)
{
    gm_direction magic = GM_RES;
    if (GM_UNLIKELY(memcmp(header, RES_MAGIC, sizeof(RES_MAGIC)) != 0)) {
        if (memcmp(header, REQ_MAGIC, sizeof(REQ_MAGIC)) != 0) return GM_INVALID_MAGIC;
        magic = GM_REQ;
    }
    if (GM_UNLIKELY(!(magic & expected))) return GM_INVALID_MAGIC;
    uint32_t number = get_u32(header + 4);
    const gm_command_info *info = gm_command_find(number);
    if (GM_UNLIKELY(!info)) return GM_INVALID_TYPE;
    if (GM_UNLIKELY(!(info->direction & magic))) return GM_WRONG_DIRECTION;
    *command = (gm_command)number;
    *length = get_u32(header + 8);
    return GM_OK;
}

GM_HOT gm_status gm_packet_split(const gm_packet *packet, gm_slice parts[GM_MAX_ARGUMENTS])
{
    const gm_command_info *info = gm_command_find(packet->command);
    size_t count = gm_command_parts(info);
    gm_slice rest = packet->body;
    gm_status status = GM_OK;
    for (size_t i = 0; i < count; i++) {
        parts[i] = rest;
        if (i + 1 == count) break;
        const uint8_t *nul = rest.length ? memchr(rest.bytes, 0, rest.length) : NULL;
        if (nul) {
            parts[i].length = (size_t)(nul - rest.bytes);
            rest.bytes = nul + 1;
            rest.length -= parts[i].length + 1;
        } else {
            status = GM_MISSING_ARGUMENT;
            rest.length = 0;
        }
    }
    if (GM_UNLIKELY(packet->command == GM_WORK_FAIL)) {
        while (parts[0].length && parts[0].bytes[parts[0].length - 1] == 0) parts[0].length--;
    }
    return status;
}
