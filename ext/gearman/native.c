#include "native.h"

VALUE gm_mGearman;
VALUE gm_eError, gm_eInvalidArgsError, gm_eProtocolError, gm_eNetworkError, gm_eSocketTimeoutError;
VALUE gm_eJobQueueError, gm_eNoJobServersError, gm_eRefusedError, gm_eServerDownException;

static int utf8_index, binary_index;

static uint64_t word_at(const uint8_t *bytes)
{
    uint64_t word;
    memcpy(&word, bytes, sizeof(word));
    return word;
}

/* As rb_enc_str_asciionly_p, without a String that has to be asked for its encoding first. */
GM_HOT bool gm_ascii_only(gm_slice bytes)
{
    const uint64_t high_bits = UINT64_C(0x8080808080808080);
    const size_t size = sizeof(high_bits);
    const uint8_t *at = bytes.bytes, *end = at + bytes.length;
    for (; (size_t)(end - at) >= 4 * size; at += 4 * size) {
        if ((word_at(at) | word_at(at + size) | word_at(at + 2 * size) | word_at(at + 3 * size)) & high_bits)
            return false;
    }
    for (; (size_t)(end - at) >= size; at += size) {
        if (word_at(at) & high_bits) return false;
    }
    for (; at < end; at++) {
        if (*at & 0x80) return false;
    }
    return true;
}

GM_HOT void gm_str_set_encoding(VALUE string, bool ascii)
{
    RB_ENCODING_SET_INLINED(string, ascii ? utf8_index : binary_index); /* rb_utf8_str_new looks it up each time */
    ENC_CODERANGE_SET(string, ascii ? ENC_CODERANGE_7BIT : ENC_CODERANGE_UNKNOWN);
}

GM_HOT VALUE gm_str_new(gm_slice bytes)
{
    VALUE string = rb_str_new((const char *)bytes.bytes, (long)bytes.length);
    gm_str_set_encoding(string, gm_ascii_only(bytes));
    return string;
}

void gm_raise_status(gm_status status, const char *subject)
{
    if (status == GM_NO_MEMORY) rb_memerror();
    rb_raise(gm_eProtocolError, "%s: %s", subject, gm_status_text(status));
}

VALUE gm_refusal(const gm_parser *parser, gm_status status)
{
    gm_command command;
    uint32_t length;
    if (status != GM_TOO_LARGE) return rb_utf8_str_new_cstr(gm_status_text(status));
    gm_header_decode(gm_parser_rest(parser).bytes, parser->expected, &command, &length);
    return rb_sprintf("packet of %lu bytes is larger than the limit of %zu bytes", (unsigned long)length,
                      parser->max_packet);
}

void gm_raise_unsendable(gm_status status, gm_command command, const gm_slice *parts, size_t count)
{
    const gm_command_info *info = gm_command_find(command);
    size_t names = 0, nul = 0;
    switch (status) {
    case GM_NO_MEMORY:
        rb_memerror();
    case GM_ARGUMENT_COUNT:
        rb_raise(gm_eInvalidArgsError, "%s takes %zu arguments, not %zu", info->name, gm_command_parts(info), count);
    case GM_NUL_IN_ARGUMENT:
        while (!memchr(parts[nul].bytes, 0, parts[nul].length)) nul++;
        rb_raise(gm_eInvalidArgsError, "%s: NUL byte in the argument %+" PRIsVALUE, info->name, gm_str_new(parts[nul]));
    case GM_ARGUMENTS_TOO_LONG:
        for (size_t i = 0; i < info->arguments; i++) names += parts[i].length + 1;
        rb_raise(gm_eInvalidArgsError, "%s: arguments of %zu bytes are longer than the server's limit of %d bytes",
                 info->name, names - 1, GM_MAX_ARGUMENTS_SIZE);
    default:
        rb_raise(gm_eInvalidArgsError, "%s: %s", info->name, gm_status_text(status));
    }
}

static VALUE error_class(const char *name)
{
    VALUE error = rb_const_get(gm_mGearman, rb_intern(name));
    rb_gc_register_mark_object(error);
    return error;
}

void Init_gearman_native(void)
{
    utf8_index = rb_utf8_encindex();
    binary_index = rb_ascii8bit_encindex();
    gm_mGearman = rb_define_module("Gearman");
    gm_eError = error_class("Error");
    gm_eInvalidArgsError = error_class("InvalidArgsError");
    gm_eProtocolError = error_class("ProtocolError");
    gm_eNetworkError = error_class("NetworkError");
    gm_eSocketTimeoutError = error_class("SocketTimeoutError");
    gm_eJobQueueError = error_class("JobQueueError");
    gm_eNoJobServersError = error_class("NoJobServersError");
    gm_eRefusedError = error_class("RefusedError");
    gm_eServerDownException = error_class("ServerDownException");
}
