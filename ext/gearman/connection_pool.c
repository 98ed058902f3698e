#include "connection.h"

#include <assert.h>

/* Gearman::ConnectionPool: choosing one of the servers. What stands in for a Connection is asked each time. */

typedef struct {
    VALUE servers; /* Array, which is replaced and not changed */
    long turn;     /* the index of the server that was last chosen without a key */
} connection_pool;

static ID id_back_p, id_due_p, id_get_connection, id_is_healthy, id_reason, id_refused_p, id_to_host_port;

static void pool_mark(void *data) { rb_gc_mark_movable(((connection_pool *)data)->servers); }

static void pool_compact(void *data)
{
    connection_pool *pool = data;
    pool->servers = rb_gc_location(pool->servers);
}

static size_t pool_size(const void *data) { return sizeof(connection_pool); }

static const rb_data_type_t pool_type = {
    .wrap_struct_name = "Gearman::ConnectionPool",
    .function = {.dmark = pool_mark, .dfree = RUBY_DEFAULT_FREE, .dsize = pool_size, .dcompact = pool_compact},
    .flags = GM_TYPED_FREE | RUBY_TYPED_WB_PROTECTED,
};

/* Unchecked: every VALUE that comes here is the receiver of a method of ConnectionPool. */
static inline connection_pool *get(VALUE self)
{
    assert(rb_typeddata_is_kind_of(self, &pool_type));
    return RTYPEDDATA_DATA(self);
}

static VALUE pool_allocate(VALUE klass)
{
    connection_pool *pool;
    VALUE self = TypedData_Make_Struct(klass, connection_pool, &pool_type, pool);
    pool->servers = Qnil;
    RB_OBJ_WRITE(self, &pool->servers, rb_ary_new());
    return self;
}

/* Where `key` lies on `server`: the highest of all servers has it (rendezvous hashing, FNV-1a, mixed). */
static uint64_t weight(VALUE key, VALUE server)
{
    VALUE strings[2] = {key, server};
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t s = 0; s < 2; s++) {
        const unsigned char *bytes = (const unsigned char *)RSTRING_PTR(strings[s]);
        for (long i = 0; i < RSTRING_LEN(strings[s]); i++) hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    }
    hash ^= hash >> 33;
    hash *= UINT64_C(0xff51afd7ed558ccd);
    hash ^= hash >> 33;
    hash *= UINT64_C(0xc4ceb9fe1a85ec53);
    return hash ^ hash >> 33;
}

typedef struct {
    VALUE server;
    uint64_t rank;
} candidate;

static int by_rank(const void *one, const void *other)
{
    uint64_t a = ((const candidate *)one)->rank, b = ((const candidate *)other)->rank;
    return a < b ? 1 : a > b ? -1 : 0;
}

/* The servers in the order in which they are to be tried. */
static void arrange(connection_pool *pool, VALUE servers, VALUE key, candidate *candidates, long count)
{
    long first = 0;
    if (NIL_P(key)) {
        first = pool->turn = (pool->turn + 1) % count;
    } else {
        StringValue(key);
    }
    for (long i = 0; i < count; i++) {
        VALUE server = rb_ary_entry(servers, (first + i) % count);
        candidates[i] = (candidate){server, 0};
        if (NIL_P(key)) continue;
        VALUE name = rb_funcall(server, id_to_host_port, 0);
        candidates[i].rank = weight(key, StringValue(name));
    }
    if (!NIL_P(key)) qsort(candidates, (size_t)count, sizeof(*candidates), by_rank);
}

static VALUE known(VALUE server) { return gm_connection_p(server) ? gm_connection_known(server) : Qnil; }

static bool learn(VALUE server, VALUE healthy)
{
    if (gm_connection_p(server)) gm_connection_learn(server, RTEST(healthy) ? Qtrue : Qfalse);
    return RTEST(healthy);
}

/* Asks a server, which may take until the deadline. */
static bool ask(VALUE connection, gm_deadline deadline)
{
    if (deadline == GM_NEVER) return learn(connection, rb_funcall(connection, id_is_healthy, 0));
    return learn(connection, rb_funcall(connection, id_is_healthy, 1, gm_seconds_until(deadline)));
}

static bool any_up(const candidate *candidates, long count)
{
    for (long i = 0; i < count; i++) {
        if (known(candidates[i].server) == Qtrue) return true;
    }
    return false;
}

/* Whether a server is up as far as is known; one that is not known, or due again, is asked. */
static bool is_up(const candidate *candidates, long count, long index, gm_deadline deadline)
{
    VALUE connection = candidates[index].server, up = known(connection);
    if (up == Qtrue) return true;
    if (up == Qfalse && !RTEST(rb_funcall(connection, id_due_p, 0))) return false;
    /* Nobody waits again for a server that was silent while there are others. */
    if (up == Qfalse && !RTEST(rb_funcall(connection, id_refused_p, 0)) && any_up(candidates, count)) {
        return learn(connection, rb_funcall(connection, id_back_p, 0));
    }
    if (deadline == GM_NEVER) return ask(connection, GM_NEVER);
    gm_deadline now = gm_now(), left = deadline > now ? deadline - now : 0;
    return ask(connection, now + left / (count - index)); /* the others are to have their time, too */
}

GM_COLD NORETURN(static void raise_none(VALUE servers));

static void raise_none(VALUE servers)
{
    VALUE names = rb_ary_new();
    for (long i = 0; i < RARRAY_LEN(servers); i++) {
        VALUE server = rb_ary_entry(servers, i), reason = rb_check_funcall(server, id_reason, 0, NULL);
        VALUE name = rb_funcall(server, id_to_host_port, 0);
        rb_ary_push(names, reason == Qundef || NIL_P(reason)
                               ? name
                               : rb_sprintf("%" PRIsVALUE " (%" PRIsVALUE ")", name, reason));
    }
    rb_raise(gm_eNoJobServersError, "no job server can be reached: %" PRIsVALUE,
             rb_ary_join(names, rb_str_new_cstr(", ")));
}

static VALUE choose(connection_pool *pool, VALUE key, VALUE timeout)
{
    VALUE servers = pool->servers;
    long count = RARRAY_LEN(servers);
    if (count == 0) rb_raise(gm_eNoJobServersError, "no job server is configured");
    gm_deadline deadline = gm_deadline_in(timeout);
    candidate *candidates = ALLOCA_N(candidate, count); /* on the stack, where the collector sees the servers */
    arrange(pool, servers, key, candidates, count);
    for (long i = 0; i < count; i++) {
        if (is_up(candidates, count, i, deadline)) return candidates[i].server;
    }
    /* Better to ask again, where asking is quick, than to give up. */
    for (long i = 0; i < count; i++) {
        if (RTEST(rb_funcall(candidates[i].server, id_refused_p, 0)) && ask(candidates[i].server, deadline)) {
            return candidates[i].server;
        }
    }
    if (gm_now() >= deadline) rb_raise(gm_eSocketTimeoutError, "no job server answered before the time-out");
    raise_none(servers);
}

/*
 * call-seq: get_connection(coalesce_key = nil, timeout = nil) -> Connection
 *
 * Without a key the servers take turns; a key finds the same live server each time. Raises NoJobServersError when there
 * is none, or none can be reached, and SocketTimeoutError when the seconds did not suffice to find out.
 */
GM_HOT static VALUE pool_get_connection(int argc, VALUE *argv, VALUE self)
{
    rb_check_arity(argc, 0, 2);
    connection_pool *pool = get(self);
    VALUE servers = pool->servers;
    if (RARRAY_LEN(servers) == 1 && known(RARRAY_AREF(servers, 0)) == Qtrue) return RARRAY_AREF(servers, 0);
    return choose(pool, argc > 0 ? argv[0] : Qnil, argc > 1 ? argv[1] : Qnil);
}

static VALUE pool_job_servers(VALUE self) { return get(self)->servers; }

static VALUE pool_set_job_servers(VALUE self, VALUE servers)
{
    Check_Type(servers, T_ARRAY);
    RB_OBJ_WRITE(self, &get(self)->servers, servers);
    return servers;
}

GM_HOT VALUE gm_pool_connection(VALUE pool, VALUE unique, gm_deadline deadline)
{
    if (deadline == GM_NEVER) return rb_funcall(pool, id_get_connection, 1, unique);
    return rb_funcall(pool, id_get_connection, 2, unique, gm_seconds_until(deadline));
}

void Init_gearman_connection_pool(void)
{
    id_back_p = rb_intern("back?");
    id_get_connection = rb_intern("get_connection");
    id_is_healthy = rb_intern("is_healthy?");
    id_reason = rb_intern("reason");
    id_refused_p = rb_intern("refused?");
    id_to_host_port = rb_intern("to_host_port");
    id_due_p = rb_intern("due?");
    VALUE cConnectionPool = rb_define_class_under(gm_mGearman, "ConnectionPool", rb_cObject);
    rb_define_alloc_func(cConnectionPool, pool_allocate);
    rb_undef_method(cConnectionPool, "initialize_copy");
    rb_define_private_method(cConnectionPool, "job_servers", pool_job_servers, 0);
    rb_define_private_method(cConnectionPool, "job_servers=", pool_set_job_servers, 1);
    rb_define_method(cConnectionPool, "get_connection", pool_get_connection, -1);
}
