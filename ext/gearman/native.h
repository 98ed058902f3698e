#ifndef GM_NATIVE_H
#define GM_NATIVE_H

#include <ruby.h>
#include <ruby/encoding.h>
#include <ruby/io.h>

#include "attributes.h"
#include "packet.h"
#include "parser.h"
#include "status.h"

#ifndef HAVE_RB_IO_DESCRIPTOR
static inline int rb_io_descriptor(VALUE io)
{
    rb_io_t *fptr;
    GetOpenFile(io, fptr);
    return fptr->fd;
}
#endif

/* The descriptor of an IO; -1 when it is closed. */
static inline int gm_descriptor(VALUE io)
{
#ifdef HAVE_RB_IO_CLOSED_P
    return RTEST(rb_io_closed_p(io)) ? -1 : rb_io_descriptor(io);
#else
    const rb_io_t *file = RFILE(io)->fptr;
    return file ? file->fd : -1;
#endif
}

/* Feature #22067: the free functions here only free memory. */
#ifdef HAVE_CONST_RUBY_TYPED_THREAD_SAFE_FREE
#define GM_TYPED_FREE RUBY_TYPED_THREAD_SAFE_FREE
#else
#define GM_TYPED_FREE RUBY_TYPED_FREE_IMMEDIATELY
#endif

extern VALUE gm_mGearman;
extern VALUE gm_eError, gm_eInvalidArgsError, gm_eProtocolError, gm_eNetworkError, gm_eSocketTimeoutError;
extern VALUE gm_eJobQueueError, gm_eNoJobServersError, gm_eRefusedError, gm_eServerDownException;

/* A String with a copy of the bytes: UTF-8 when they are pure ASCII, BINARY otherwise. */
VALUE gm_str_new(gm_slice bytes);

/* Whether they are pure ASCII. */
bool gm_ascii_only(gm_slice bytes);

/* Gives a String of bytes the encoding that gm_str_new would. */
void gm_str_set_encoding(VALUE string, bool ascii);

/* Raises the error for bytes that cannot be read: ProtocolError, or NoMemoryError. `subject` begins its message. */
GM_COLD NORETURN(void gm_raise_status(gm_status status, const char *subject));

/* Why gm_parser_next did not take what is next, as a String: of a packet that is too large, its size and the limit. */
GM_COLD VALUE gm_refusal(const gm_parser *parser, gm_status status);

/*
 * Raises the error for a packet that gm_packet_encode refused: InvalidArgsError, which names the argument
 * and the limit, or NoMemoryError.
 */
GM_COLD NORETURN(void gm_raise_unsendable(gm_status status, gm_command command, const gm_slice *parts, size_t count));

/* The packet type named by a Symbol or String; raises InvalidArgsError when there is none. */
gm_command gm_command_of(VALUE name);

/* The name of a packet type as a Symbol. */
VALUE gm_command_symbol(gm_command command);

/* Whether an object is of this very class: that is sooner known than what rb_typeddata_is_kind_of looks for. */
static inline bool gm_instance_p(VALUE value, VALUE klass)
{
    return !RB_SPECIAL_CONST_P(value) && RBASIC_CLASS(value) == klass;
}

/* Whether it is a String, as nearly everything is that is asked for here. */
static inline bool gm_string_p(VALUE value) { return GM_LIKELY(RB_TYPE_P(value, T_STRING)); }

/* As StringValue: raises TypeError for what has no to_str. */
static inline VALUE gm_string(VALUE value) { return gm_string_p(value) ? value : rb_str_to_str(value); }

/* As rb_obj_as_string, which calls to_s. */
static inline VALUE gm_as_string(VALUE value) { return gm_string_p(value) ? value : rb_obj_as_string(value); }

/* The bytes of a String. They are borrowed: the String must be kept, and not changed, while they are used. */
static inline gm_slice gm_slice_of(VALUE string)
{
    gm_slice slice = {(const uint8_t *)RSTRING_PTR(string), (size_t)RSTRING_LEN(string)};
    return slice;
}

void Init_gearman_native(void);
void Init_gearman_packet(void);

#endif
