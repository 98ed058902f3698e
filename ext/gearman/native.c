#include "connection.h"
#include "task.h"

VALUE gm_mGearman;
VALUE gm_eInvalidArgsError, gm_eProtocolError, gm_eNetworkError, gm_eSocketTimeoutError;
VALUE gm_eNoJobServersError, gm_eServerDownException;

VALUE gm_str_new(gm_slice bytes)
{
    VALUE string = rb_utf8_str_new((const char *)bytes.bytes, (long)bytes.length);
    if (!rb_enc_str_asciionly_p(string)) rb_enc_associate(string, rb_ascii8bit_encoding());
    return string;
}

void gm_raise_status(gm_status status, const char *subject)
{
    const char *text = gm_status_text(status);
    switch (status) {
    case GM_NO_MEMORY:
        rb_memerror();
    case GM_NUL_IN_ARGUMENT:
    case GM_ARGUMENT_COUNT:
        rb_raise(gm_eInvalidArgsError, "%s: %s", subject, text);
    case GM_ARGUMENTS_TOO_LONG:
        rb_raise(gm_eInvalidArgsError, "%s: %s of %d bytes", subject, text, GM_MAX_ARGUMENTS_SIZE);
    default:
        rb_raise(gm_eProtocolError, "%s: %s", subject, text);
    }
}

static VALUE error_class(const char *name)
{
    VALUE error = rb_const_get(gm_mGearman, rb_intern(name));
    rb_gc_register_mark_object(error);
    return error;
}

RUBY_FUNC_EXPORTED void Init_native(void)
{
    rb_ext_ractor_safe(true);
    gm_mGearman = rb_define_module("Gearman");
    gm_eInvalidArgsError = error_class("InvalidArgsError");
    gm_eProtocolError = error_class("ProtocolError");
    gm_eNetworkError = error_class("NetworkError");
    gm_eSocketTimeoutError = error_class("SocketTimeoutError");
    gm_eNoJobServersError = error_class("NoJobServersError");
    gm_eServerDownException = error_class("ServerDownException");
    Init_gearman_wait();
    Init_gearman_packet();
    Init_gearman_channel();
    Init_gearman_task();
    Init_gearman_connection();
    Init_gearman_connection_pool();
    Init_gearman_task_loop();
    Init_gearman_worker_loop();
}
