#include "payload.h"

#include <string.h>

enum { LEAST_READ = 256 * 1024 };

void gm_payload_init(gm_payload *payload)
{
    *payload = (gm_payload){.data = Qnil};
    gm_buffer_init(&payload->arguments);
}

void gm_payload_free(gm_payload *payload) { gm_buffer_free(&payload->arguments); }

void gm_payload_begin(VALUE owner, gm_payload *payload, gm_parser *parser)
{
    gm_packet packet;
    gm_slice came;
    size_t missing;
    if (gm_parser_begun(parser, GM_LARGE_BODY, &packet, &came, &missing) != GM_OK) return;
    VALUE data = rb_str_buf_new((long)came.length + (missing < LEAST_READ ? (long)missing : LEAST_READ));
    rb_str_cat(data, (const char *)came.bytes, (long)came.length);
    gm_buffer_consume(&payload->arguments, gm_buffer_length(&payload->arguments));
    if (gm_buffer_append(&payload->arguments, packet.body.bytes, packet.body.length) != GM_OK) rb_memerror();
    gm_parser_drop(parser);
    RB_OBJ_WRITE(owner, &payload->data, data);
    payload->missing = missing;
    payload->ascii = gm_ascii_only(came);
    payload->command = packet.command;
}

uint8_t *gm_payload_reserve(gm_payload *payload, size_t *size)
{
    VALUE data = payload->data;
    size_t came = (size_t)RSTRING_LEN(data), most = came > LEAST_READ ? came : LEAST_READ;
    *size = payload->missing < most ? payload->missing : most;
    if (rb_str_capacity(data) - came < *size) rb_str_modify_expand(data, (long)*size);
    return (uint8_t *)RSTRING_PTR(data) + came;
}

void gm_payload_commit(gm_payload *payload, size_t length)
{
    VALUE data = payload->data;
    long before = RSTRING_LEN(data);
    rb_str_set_len(data, before + (long)length);
    gm_slice came = {(const uint8_t *)RSTRING_PTR(data) + before, length};
    payload->ascii = payload->ascii && gm_ascii_only(came);
    payload->missing -= length;
}

gm_slice gm_payload_feed(gm_payload *payload, gm_slice bytes)
{
    size_t size;
    uint8_t *room = gm_payload_reserve(payload, &size);
    size_t length = bytes.length < size ? bytes.length : size;
    memcpy(room, bytes.bytes, length);
    gm_payload_commit(payload, length);
    return (gm_slice){bytes.bytes + length, bytes.length - length};
}

static gm_slice arguments_of(const gm_payload *payload)
{
    return (gm_slice){gm_buffer_bytes(&payload->arguments), gm_buffer_length(&payload->arguments)};
}

void gm_payload_take(gm_payload *payload, gm_reply *reply)
{
    reply->packet = (gm_packet){payload->command, arguments_of(payload)};
    gm_packet_split(&reply->packet, reply->parts);
    gm_str_set_encoding(payload->data, payload->ascii);
    reply->parts[gm_command_find(payload->command)->arguments] = gm_slice_of(payload->data);
    reply->payload = payload->data;
    payload->data = Qnil;
}

void gm_payload_give_back(gm_payload *payload, gm_parser *parser)
{
    if (NIL_P(payload->data)) return;
    uint8_t header[GM_HEADER_SIZE];
    gm_slice arguments = arguments_of(payload), came = gm_slice_of(payload->data), behind = gm_parser_rest(parser);
    gm_header_encode(header, GM_RES, payload->command, arguments.length + came.length + payload->missing);
    gm_buffer whole;
    gm_buffer_init(&whole);
    if (gm_buffer_append(&whole, header, sizeof(header)) != GM_OK ||
        gm_buffer_append(&whole, arguments.bytes, arguments.length) != GM_OK ||
        gm_buffer_append(&whole, came.bytes, came.length) != GM_OK ||
        gm_buffer_append(&whole, behind.bytes, behind.length) != GM_OK) {
        gm_buffer_free(&whole);
        rb_memerror();
    }
    gm_buffer_free(&parser->buffer);
    parser->buffer = whole;
    payload->data = Qnil;
    payload->missing = 0;
}
