#include "native.h"

#include "parser.h"

/*
 * Gearman::Packet: the codec for Ruby code, and the tables of packet types.
 */

static VALUE symbols[GM_COMMAND_LIMIT];
static VALUE nums; /* {Symbol => Integer}, frozen */

VALUE gm_command_symbol(gm_command command) { return symbols[command]; }

gm_command gm_command_of(VALUE name)
{
    if (RB_SYMBOL_P(name)) {
        VALUE number = rb_hash_lookup(nums, name);
        if (!NIL_P(number)) return (gm_command)FIX2INT(number);
    } else {
        gm_slice text = gm_slice_of(StringValue(name));
        for (uint32_t number = 0; number < GM_COMMAND_LIMIT; number++) {
            const gm_command_info *info = gm_command_find(number);
            if (!info || strlen(info->name) != text.length) continue;
            if (memcmp(info->name, text.bytes, text.length) == 0) return (gm_command)number;
        }
    }
    rb_raise(gm_eInvalidArgsError, "Invalid type name '%" PRIsVALUE "'", name);
}

/*
 * call-seq: pack_request(type, arg = "") -> String
 *
 * A request packet around a body that is taken as it is, as gearman-ruby has it.
 */
static VALUE packet_pack_request(int argc, VALUE *argv, VALUE self)
{
    VALUE type, arg;
    rb_scan_args(argc, argv, "11", &type, &arg);
    gm_command command = gm_command_of(type);
    if (!RTEST(arg)) arg = rb_str_new(NULL, 0);
    StringValue(arg);
    VALUE packet = rb_str_new(NULL, GM_HEADER_SIZE);
    gm_status status = gm_header_encode((uint8_t *)RSTRING_PTR(packet), GM_REQ, command, (size_t)RSTRING_LEN(arg));
    if (status != GM_OK) gm_raise_unsendable(status, command, NULL, 0);
    return rb_str_cat(packet, RSTRING_PTR(arg), RSTRING_LEN(arg));
}

static VALUE encode(gm_direction direction, int argc, VALUE *argv)
{
    rb_check_arity(argc, 1, GM_MAX_ARGUMENTS + 1);
    gm_command command = gm_command_of(argv[0]);
    size_t count = (size_t)argc - 1;
    gm_slice parts[GM_MAX_ARGUMENTS];
    for (size_t i = 0; i < count; i++) StringValue(argv[i + 1]);
    for (size_t i = 0; i < count; i++) parts[i] = gm_slice_of(argv[i + 1]);
    gm_buffer out;
    gm_buffer_init(&out);
    gm_status status = gm_packet_encode(&out, direction, command, parts, count);
    if (status != GM_OK) gm_raise_unsendable(status, command, parts, count); /* nothing was allocated */
    VALUE packet = rb_str_new((const char *)gm_buffer_bytes(&out), (long)gm_buffer_length(&out));
    gm_buffer_free(&out);
    return packet;
}

/*
 * call-seq: encode(type, *parts) -> String
 *
 * A request packet from its arguments, the data last.
 */
static VALUE packet_encode(int argc, VALUE *argv, VALUE self) { return encode(GM_REQ, argc, argv); }

/*
 * call-seq: encode_response(type, *parts) -> String
 *
 * The same with the magic of a server.
 */
static VALUE packet_encode_response(int argc, VALUE *argv, VALUE self) { return encode(GM_RES, argc, argv); }

/*
 * call-seq: split(type, body) -> Array of String
 *
 * The arguments in the body of a packet, the data last; arguments that are missing are empty.
 */
static VALUE packet_split(VALUE self, VALUE type, VALUE body)
{
    StringValue(body);
    gm_packet packet = {gm_command_of(type), gm_slice_of(body)};
    gm_slice parts[GM_MAX_ARGUMENTS];
    gm_packet_split(&packet, parts);
    size_t count = gm_command_parts(gm_command_find(packet.command));
    VALUE result = rb_ary_new_capa((long)count);
    for (size_t i = 0; i < count; i++) rb_ary_push(result, gm_str_new(parts[i]));
    RB_GC_GUARD(body);
    return result;
}

/* Gearman::Packet::Parser */

static void parser_free(void *data)
{
    gm_parser_free(data);
    xfree(data);
}

static size_t parser_size(const void *data)
{
    const gm_parser *parser = data;
    return sizeof(*parser) + parser->buffer.capacity;
}

static const rb_data_type_t parser_type = {
    .wrap_struct_name = "Gearman::Packet::Parser",
    .function = {.dfree = parser_free, .dsize = parser_size},
    .flags = GM_TYPED_FREE | RUBY_TYPED_WB_PROTECTED,
};

static VALUE parser_allocate(VALUE klass)
{
    gm_parser *parser;
    VALUE self = TypedData_Make_Struct(klass, gm_parser, &parser_type, parser);
    gm_parser_init(parser, GM_RES, GM_DEFAULT_MAX_PACKET);
    return self;
}

static gm_parser *parser_get(VALUE self)
{
    gm_parser *parser;
    TypedData_Get_Struct(self, gm_parser, &parser_type, parser);
    return parser;
}

/*
 * call-seq: new(side = :response, max_packet = 1 GiB)
 *
 * side: which packets are expected, :response (a client or worker reads) or :request (a server reads).
 * max_packet: the largest body taken, in bytes.
 */
static VALUE parser_initialize(int argc, VALUE *argv, VALUE self)
{
    VALUE side, max_packet;
    rb_scan_args(argc, argv, "02", &side, &max_packet);
    gm_parser *parser = parser_get(self);
    if (NIL_P(side) || side == ID2SYM(rb_intern("response"))) {
        parser->expected = GM_RES;
    } else if (side == ID2SYM(rb_intern("request"))) {
        parser->expected = GM_REQ;
    } else {
        rb_raise(gm_eInvalidArgsError, "side must be :request or :response, not %+" PRIsVALUE, side);
    }
    if (!NIL_P(max_packet)) {
        if (!RB_INTEGER_TYPE_P(max_packet) || RTEST(rb_funcall(max_packet, '<', 1, INT2FIX(0))) ||
            RTEST(rb_funcall(max_packet, '>', 1, ULONG2NUM(UINT32_MAX)))) {
            rb_raise(gm_eInvalidArgsError, "max_packet is a number of bytes from 0 to %lu, not %+" PRIsVALUE,
                     (unsigned long)UINT32_MAX, max_packet);
        }
        parser->max_packet = NUM2SIZET(max_packet);
    }
    return self;
}

/*
 * call-seq: feed(bytes) -> self
 */
static VALUE parser_feed(VALUE self, VALUE bytes)
{
    StringValue(bytes);
    gm_status status = gm_parser_feed(parser_get(self), RSTRING_PTR(bytes), (size_t)RSTRING_LEN(bytes));
    if (status != GM_OK) gm_raise_status(status, "feed");
    return self;
}

/*
 * call-seq: next_packet -> [Symbol, String] or nil
 *
 * The type and body of the next whole packet. Raises ProtocolError where no packet can be: the stream
 * cannot be read any further.
 */
static VALUE parser_next_packet(VALUE self)
{
    gm_packet packet;
    gm_status status = gm_parser_next(parser_get(self), &packet);
    if (status == GM_AGAIN) return Qnil;
    if (status != GM_OK) {
        rb_raise(gm_eProtocolError, "packet: %" PRIsVALUE, gm_refusal(parser_get(self), status));
    }
    return rb_assoc_new(gm_command_symbol(packet.command), gm_str_new(packet.body));
}

/*
 * call-seq: next_line -> String or nil
 *
 * The next line of the text protocol, which a server takes wherever a packet could begin.
 */
static VALUE parser_next_line(VALUE self)
{
    gm_slice line;
    gm_status status = gm_parser_line(parser_get(self), &line);
    if (status == GM_AGAIN) return Qnil;
    if (status != GM_OK)
        rb_raise(gm_eProtocolError, "line is longer than the limit of %d bytes", GM_MAX_ARGUMENTS_SIZE);
    return gm_str_new(line);
}

void Init_gearman_packet(void)
{
    VALUE cPacket = rb_define_class_under(gm_mGearman, "Packet", rb_cObject);
    VALUE commands = rb_hash_new();
    nums = rb_hash_new();
    rb_gc_register_mark_object(nums);
    for (uint32_t number = 0; number < GM_COMMAND_LIMIT; number++) {
        const gm_command_info *info = gm_command_find(number);
        if (!info) continue;
        symbols[number] = ID2SYM(rb_intern(info->name));
        rb_hash_aset(commands, UINT2NUM(number), symbols[number]);
        rb_hash_aset(nums, symbols[number], UINT2NUM(number));
    }
    rb_define_const(cPacket, "COMMANDS", rb_obj_freeze(commands));
    rb_define_const(cPacket, "NUMS", rb_obj_freeze(nums));
    rb_define_singleton_method(cPacket, "pack_request", packet_pack_request, -1);
    rb_define_singleton_method(cPacket, "encode", packet_encode, -1);
    rb_define_singleton_method(cPacket, "encode_response", packet_encode_response, -1);
    rb_define_singleton_method(cPacket, "split", packet_split, 2);

    VALUE cParser = rb_define_class_under(cPacket, "Parser", rb_cObject);
    rb_define_alloc_func(cParser, parser_allocate);
    rb_undef_method(cParser, "initialize_copy");
    rb_define_method(cParser, "initialize", parser_initialize, -1);
    rb_define_method(cParser, "feed", parser_feed, 1);
    rb_define_method(cParser, "next_packet", parser_next_packet, 0);
    rb_define_method(cParser, "next_line", parser_next_line, 0);
}
