#include "parser.h"

#include <string.h>

#include "attributes.h"

void gm_parser_init(gm_parser *parser, gm_direction expected, size_t max_packet)
{
    gm_buffer_init(&parser->buffer);
    parser->expected = expected;
    parser->max_packet = max_packet;
}

void gm_parser_free(gm_parser *parser) { gm_buffer_free(&parser->buffer); }

gm_status gm_parser_reserve(gm_parser *parser, uint8_t **room, size_t *size)
{
    size_t came = gm_buffer_length(&parser->buffer);
    *size = came > GM_READ_SIZE ? came : GM_READ_SIZE;
    return gm_buffer_reserve(&parser->buffer, *size, room);
}

void gm_parser_commit(gm_parser *parser, size_t length) { gm_buffer_commit(&parser->buffer, length); }

/* Whether fewer bytes than a header already differ from every magic that is expected. */
GM_COLD static gm_status check_magic(gm_slice start, gm_direction expected)
{
    static const uint8_t req[4] = {0, 'R', 'E', 'Q'}, res[4] = {0, 'R', 'E', 'S'};
    size_t length = start.length < sizeof(req) ? start.length : sizeof(req);
    if (length == 0) return GM_AGAIN;
    if ((expected & GM_REQ) && memcmp(start.bytes, req, length) == 0) return GM_AGAIN;
    if ((expected & GM_RES) && memcmp(start.bytes, res, length) == 0) return GM_AGAIN;
    return GM_INVALID_MAGIC;
}

/*
 * Looks at the packet that comes next. Of its body of `length` bytes those are in the packet that are there.
 *
 * Return values: as gm_parser_next.
 */
GM_HOT static gm_status look(const gm_parser *parser, gm_packet *packet, size_t *length)
{
    gm_slice rest = gm_parser_rest(parser);
    if (GM_UNLIKELY(rest.length < GM_HEADER_SIZE)) return check_magic(rest, parser->expected);
    uint32_t announced;
    gm_status status = gm_header_decode(rest.bytes, parser->expected, &packet->command, &announced);
    if (GM_UNLIKELY(status != GM_OK)) return status;
    if (GM_UNLIKELY(announced > parser->max_packet)) return GM_TOO_LARGE;
    size_t came = rest.length - GM_HEADER_SIZE;
    *length = announced;
    packet->body.bytes = rest.bytes + GM_HEADER_SIZE;
    packet->body.length = came < *length ? came : *length;
    return GM_UNLIKELY(came < *length) ? GM_AGAIN : GM_OK;
}

GM_HOT gm_status gm_parser_next(gm_parser *parser, gm_packet *packet)
{
    gm_packet next;
    size_t length = 0;
    gm_status status = look(parser, &next, &length);
    if (GM_UNLIKELY(status != GM_OK)) return status;
    *packet = next;
    gm_buffer_consume(&parser->buffer, GM_HEADER_SIZE + length);
    return GM_OK;
}

gm_status gm_parser_begun(const gm_parser *parser, size_t least, gm_packet *packet, gm_slice *came, size_t *missing)
{
    gm_packet next;
    gm_slice parts[GM_MAX_ARGUMENTS];
    size_t length = 0;
    if (gm_parser_rest(parser).length < GM_HEADER_SIZE || look(parser, &next, &length) != GM_AGAIN) return GM_AGAIN;
    const gm_command_info *info = gm_command_find(next.command);
    if (length < least || !info->data) return GM_AGAIN;
    gm_packet start = next; /* where the arguments are: all that came is not to be searched each time more comes */
    if (start.body.length > GM_MAX_ARGUMENTS_SIZE + 1u) start.body.length = GM_MAX_ARGUMENTS_SIZE + 1u;
    if (gm_packet_split(&start, parts) != GM_OK) return GM_AGAIN;
    start.body.length = (size_t)(parts[info->arguments].bytes - start.body.bytes);
    *came = (gm_slice){parts[info->arguments].bytes, next.body.length - start.body.length};
    *missing = length - next.body.length;
    *packet = start;
    return GM_OK;
}

void gm_parser_drop(gm_parser *parser) { gm_buffer_consume(&parser->buffer, gm_buffer_length(&parser->buffer)); }

gm_status gm_parser_line(gm_parser *parser, gm_slice *line)
{
    gm_slice rest = gm_parser_rest(parser);
    if (rest.length == 0 || rest.bytes[0] == 0) return GM_AGAIN;
    size_t searched = rest.length > GM_MAX_ARGUMENTS_SIZE ? GM_MAX_ARGUMENTS_SIZE + 1u : rest.length;
    const uint8_t *newline = memchr(rest.bytes, '\n', searched);
    if (!newline) return searched > GM_MAX_ARGUMENTS_SIZE ? GM_TOO_LARGE : GM_AGAIN;
    size_t length = (size_t)(newline - rest.bytes);
    gm_buffer_consume(&parser->buffer, length + 1);
    line->bytes = rest.bytes;
    line->length = length && rest.bytes[length - 1] == '\r' ? length - 1 : length;
    return GM_OK;
}
