#include "task.h"

#include <assert.h>
#include <math.h>

#include "replies.h"

/* Gearman::Task. It is no Ruby object with variables, as those would be the largest part of what a small job costs. */

typedef enum {
    /* What most tasks have. */
    FUNC,
    ARG,
    HASH,
    BACKGROUND,
    ON_COMPLETE,
    NEAR, /* how many they are */
    UNIQ = NEAR,
    COALESCE,
    PRIORITY,
    SCHEDULE_AT,
    EPOCH,
    RETRY_COUNT,
    RETRIES_DONE,
    ERROR,
    HANDLE,
    ON_FAIL,
    ON_RETRY,
    ON_STATUS,
    ON_EXCEPTION,
    ON_WARNING,
    ON_DATA,
    ON_CREATED,
    FIELDS,
    FAR = FIELDS - NEAR
} task_field;

enum { NOTED_SIZE = 47 }; /* bytes of a handle that are kept in the task itself: few are longer */

typedef struct {
    VALUE near[NEAR];
    VALUE *far; /* NULL: all of them are nil */
    bool successful;
    /* The handle, from which the String is made that somebody asks for. */
    uint8_t noted; /* its size */
    char noted_handle[NOTED_SIZE];
} task_state;

/* Those first that are given most often. */
static struct {
    const char *name;
    task_field field;
    VALUE symbol;
} options[] = {
    {"hash", HASH, 0},
    {"on_complete", ON_COMPLETE, 0},
    {"on_fail", ON_FAIL, 0},
    {"priority", PRIORITY, 0},
    {"retry_count", RETRY_COUNT, 0},
    {"background", BACKGROUND, 0},
    {"schedule_at", SCHEDULE_AT, 0},
    {"coalesce", COALESCE, 0},
    {"uniq", UNIQ, 0},
    {"on_exception", ON_EXCEPTION, 0},
    {"on_status", ON_STATUS, 0},
    {"on_data", ON_DATA, 0},
    {"on_warning", ON_WARNING, 0},
    {"on_retry", ON_RETRY, 0},
};
enum { OPTIONS = sizeof(options) / sizeof(*options) };

static VALUE cTask, cBackgroundTask;
static VALUE sym_high, sym_low, sym_normal;
static VALUE empty; /* the argument of a task that has none */
static ID id_background_p, id_call, id_get_uniq_hash, id_handle_completion, id_log_warning, id_own_unique, id_payload,
    id_run_at, id_shared_unique, id_successful, id_task_of, id_to_i;

static void task_mark(void *data)
{
    const task_state *t = data;
    for (int i = 0; i < NEAR; i++) rb_gc_mark_movable(t->near[i]);
    for (int i = 0; t->far && i < FAR; i++) rb_gc_mark_movable(t->far[i]);
}

static void task_compact(void *data)
{
    task_state *t = data;
    for (int i = 0; i < NEAR; i++) t->near[i] = rb_gc_location(t->near[i]);
    for (int i = 0; t->far && i < FAR; i++) t->far[i] = rb_gc_location(t->far[i]);
}

GM_HOT static void task_free(void *data)
{
    task_state *t = data;
    if (t->far) xfree(t->far);
    xfree(t);
}

static size_t task_size(const void *data)
{
    const task_state *t = data;
    return sizeof(*t) + (t->far ? FAR * sizeof(VALUE) : 0);
}

static const rb_data_type_t task_type = {
    .wrap_struct_name = "Gearman::Task",
    .function = {.dmark = task_mark, .dfree = task_free, .dsize = task_size, .dcompact = task_compact},
    .flags = GM_TYPED_FREE | RUBY_TYPED_WB_PROTECTED,
};

/* Unchecked: every VALUE that comes here is the receiver of a method of Task, or went through check() or is_own(). */
static inline task_state *get(VALUE self)
{
    assert(rb_typeddata_is_kind_of(self, &task_type));
    return RTYPEDDATA_DATA(self);
}

/* Whether it is a task that has all methods as they are here. */
static inline bool is_own(VALUE value) { return gm_instance_p(value, cBackgroundTask) || gm_instance_p(value, cTask); }

GM_HOT bool gm_task_p(VALUE value) { return is_own(value) || rb_typeddata_is_kind_of(value, &task_type); }

static void check(VALUE value) { rb_check_typeddata(value, &task_type); }

static inline VALUE read_field(VALUE self, task_field field)
{
    const task_state *t = get(self);
    if (field < NEAR) return t->near[field];
    return t->far ? t->far[field - NEAR] : Qnil;
}

static VALUE write_far(VALUE self, task_field field, VALUE value)
{
    task_state *t = get(self);
    if (!t->far) {
        if (NIL_P(value)) return value;
        VALUE *far = ALLOC_N(VALUE, FAR);
        for (int i = 0; i < FAR; i++) far[i] = Qnil;
        t->far = far;
    }
    RB_OBJ_WRITE(self, &t->far[field - NEAR], value);
    return value;
}

static inline VALUE write_field(VALUE self, task_field field, VALUE value)
{
    rb_check_frozen(self);
    if (field >= NEAR) return write_far(self, field, value);
    RB_OBJ_WRITE(self, &get(self)->near[field], value);
    return value;
}

void gm_task_of(const char *method, VALUE *task, VALUE *other, VALUE opts)
{
    VALUE deprecated = rb_const_get(gm_mGearman, rb_intern("Deprecated"));
    VALUE called = rb_funcall(deprecated, id_task_of, 4, ID2SYM(rb_intern(method)), *task, *other, opts);
    *task = rb_ary_entry(called, 0);
    *other = rb_ary_entry(called, 1);
}

GM_HOT static VALUE task_allocate(VALUE klass)
{
    VALUE self = TypedData_Wrap_Struct(klass, &task_type, NULL); /* either allocation may raise */
    task_state *t = ALLOC(task_state);
    for (int i = 0; i < NEAR; i++) t->near[i] = Qnil;
    t->far = NULL;
    t->successful = false;
    t->noted = 0;
    RTYPEDDATA_DATA(self) = t;
    return self;
}

/* A task with all that the other one was given, and what is known of it. */
static VALUE task_initialize_copy(VALUE self, VALUE other)
{
    check(other);
    for (int i = 0; i < FIELDS; i++) write_field(self, (task_field)i, read_field(other, (task_field)i));
    get(self)->successful = get(other)->successful;
    get(self)->noted = get(other)->noted;
    memcpy(get(self)->noted_handle, get(other)->noted_handle, NOTED_SIZE);
    return self;
}

/* What is kept of an option or attribute. Each raises InvalidArgsError for what cannot be. */

static VALUE valid_priority(VALUE value)
{
    if (!RTEST(value)) return Qnil;
    VALUE name = RB_TYPE_P(value, T_STRING) ? rb_check_symbol(&value) : value;
    if (name == sym_high || name == sym_low || name == sym_normal) return name;
    rb_raise(gm_eInvalidArgsError, "priority is :high, :normal or :low, not %+" PRIsVALUE, value);
}

static VALUE valid_retry_count(VALUE value)
{
    if (!RTEST(value)) return Qnil;
    if (FIXNUM_P(value) && FIX2LONG(value) >= 0) return value;
    rb_raise(gm_eInvalidArgsError, "retry_count is an Integer from 0, not %+" PRIsVALUE, value);
}

static VALUE valid_time(VALUE value)
{
    if (!RTEST(value)) return Qnil;
    bool finite = !RB_FLOAT_TYPE_P(value) || isfinite(RFLOAT_VALUE(value));
    if (finite && !RB_TYPE_P(value, T_STRING) && rb_respond_to(value, id_to_i)) {
        VALUE seconds = rb_funcall(value, id_to_i, 0);
        bool fits = RB_INTEGER_TYPE_P(seconds) && rb_absint_size(seconds, NULL) < sizeof(long long);
        if (fits && NUM2LL(seconds) >= 0) return value;
    }
    rb_raise(gm_eInvalidArgsError,
             "a task is scheduled at a Time or a number of seconds since the epoch, not at %+" PRIsVALUE, value);
}

static VALUE valid_callback(const char *name, VALUE value)
{
    if (!RTEST(value)) return Qnil;
    if (RTEST(rb_obj_is_proc(value)) || rb_respond_to(value, id_call)) return value;
    rb_raise(gm_eInvalidArgsError, "%s takes what can be called, not %+" PRIsVALUE, name, value);
}

static VALUE valid_option(int option, VALUE value)
{
    switch (options[option].field) {
    case HASH:
        return NIL_P(value) ? value : gm_as_string(value);
    case PRIORITY:
        return valid_priority(value);
    case SCHEDULE_AT:
        return valid_time(value);
    case RETRY_COUNT:
        return valid_retry_count(value);
    case UNIQ:
    case COALESCE:
    case BACKGROUND:
        return value;
    default:
        return valid_callback(options[option].name, value);
    }
}

static int add_unknown(VALUE name, VALUE value, VALUE unknown)
{
    for (int i = 0; i < OPTIONS; i++) {
        if (name == options[i].symbol) return ST_CONTINUE;
    }
    rb_ary_push(unknown, rb_obj_as_string(name));
    return ST_CONTINUE;
}

GM_COLD NORETURN(static void raise_unknown(VALUE given));

static void raise_unknown(VALUE given)
{
    VALUE unknown = rb_ary_new();
    rb_hash_foreach(given, add_unknown, unknown);
    rb_raise(gm_eInvalidArgsError, "Invalid task args: %" PRIsVALUE,
             rb_ary_join(rb_ary_sort(unknown), rb_str_new_cstr(", ")));
}

/* Looks for one option after the other, until there are no more: that is less than iterating over a Hash of few. */
static void take_options(VALUE self, VALUE given)
{
    size_t left = RHASH_SIZE(given);
    for (int i = 0; left > 0 && i < OPTIONS; i++) {
        VALUE value = rb_hash_lookup2(given, options[i].symbol, Qundef);
        if (value == Qundef) continue;
        write_field(self, options[i].field, valid_option(i, value));
        left--;
    }
    if (left > 0) raise_unknown(given);
}

/* call-seq: new(func, arg = "", opts = {}) */
GM_HOT static VALUE task_initialize(int argc, VALUE *argv, VALUE self)
{
    rb_check_arity(argc, 1, 3);
    write_field(self, FUNC, gm_as_string(argv[0]));
    write_field(self, ARG, argc > 1 ? argv[1] : empty);
    if (argc == 3 && !NIL_P(argv[2])) {
        take_options(self, RB_TYPE_P(argv[2], T_HASH) ? argv[2] : rb_convert_type(argv[2], T_HASH, "Hash", "to_hash"));
    }
    return Qnil;
}

/* Apart, as YARD finds no documentation of a function behind an attribute. */
GM_HOT static VALUE background_task_initialize(int argc, VALUE *argv, VALUE self);

/* As Task#initialize, with background: true. */
static VALUE background_task_initialize(int argc, VALUE *argv, VALUE self)
{
    task_initialize(argc, argv, self);
    write_field(self, BACKGROUND, Qtrue);
    return Qnil;
}

/* Attributes */

#define READER(name, field) \
    static VALUE task_##name(VALUE self) { return read_field(self, field); }
#define WRITER(name, field) \
    static VALUE task_set_##name(VALUE self, VALUE value) { return write_field(self, field, value); }

READER(func, FUNC)
READER(arg, ARG)
READER(uniq, UNIQ)
WRITER(uniq, UNIQ)
READER(priority, PRIORITY)
READER(background, BACKGROUND)
WRITER(background, BACKGROUND)
READER(epoch, EPOCH)
WRITER(epoch, EPOCH)
READER(error, ERROR)
WRITER(error, ERROR)

/* call-seq: handle -> String or nil */
static VALUE task_handle(VALUE self)
{
    const task_state *t = get(self);
    VALUE handle = read_field(self, HANDLE);
    if (!NIL_P(handle) || t->noted == 0) return handle;
    handle = gm_str_new((gm_slice){(const uint8_t *)t->noted_handle, t->noted});
    return OBJ_FROZEN(self) ? handle : write_field(self, HANDLE, handle);
}

static VALUE task_set_priority(VALUE self, VALUE value) { return write_field(self, PRIORITY, valid_priority(value)); }

static VALUE task_set_retry_count(VALUE self, VALUE value)
{
    return write_field(self, RETRY_COUNT, valid_retry_count(value));
}

static VALUE task_set_schedule_at(VALUE self, VALUE value) { return write_field(self, SCHEDULE_AT, valid_time(value)); }

static VALUE number(VALUE self, task_field field)
{
    VALUE value = read_field(self, field);
    return NIL_P(value) ? INT2FIX(0) : value;
}

static VALUE task_retry_count(VALUE self) { return number(self, RETRY_COUNT); }
static VALUE task_retries_done(VALUE self) { return number(self, RETRIES_DONE); }
static VALUE task_successful(VALUE self) { return get(self)->successful ? Qtrue : Qfalse; }

static bool is_background(VALUE self)
{
    return RTEST(read_field(self, BACKGROUND)) || RTEST(read_field(self, SCHEDULE_AT));
}

GM_HOT bool gm_task_background(VALUE task)
{
    return is_own(task) ? is_background(task) : RTEST(rb_funcall(task, id_background_p, 0));
}

static VALUE task_background_p(VALUE self) { return is_background(self) ? Qtrue : Qfalse; }

/* call-seq: run_at -> Integer or nil */
static VALUE task_run_at(VALUE self)
{
    VALUE time = read_field(self, SCHEDULE_AT);
    return NIL_P(time) ? Qnil : rb_funcall(time, id_to_i, 0);
}

/* call-seq: reset_state -> self */
static VALUE task_reset_state(VALUE self)
{
    write_field(self, RETRIES_DONE, INT2FIX(0));
    get(self)->successful = false;
    return self;
}

/* The unique */

/* gearmand's persistent queues keep but one of all jobs without a unique, for which "-" stands, too. */
static inline bool stands_for_none(VALUE unique)
{
    return RSTRING_LEN(unique) == 0 || (RSTRING_LEN(unique) == 1 && *RSTRING_PTR(unique) == '-');
}

/* The unique that was given or made before; nil when there is none that can be used. */
GM_HOT static VALUE known_unique(VALUE self)
{
    VALUE unique = read_field(self, HASH);
    if (NIL_P(unique) || (stands_for_none(unique) && is_background(self))) return Qnil;
    return unique;
}

static VALUE keep_unique(VALUE self, VALUE unique) { return write_field(self, HASH, StringValue(unique)); }

/* call-seq: get_uniq_hash -> String */
static VALUE task_get_uniq_hash(VALUE self)
{
    VALUE unique = known_unique(self);
    if (!NIL_P(unique)) return unique;
    ID maker = read_field(self, COALESCE) == Qfalse ? id_own_unique : id_shared_unique;
    return keep_unique(self, rb_funcall(self, maker, 0));
}

/* call-seq: unique_or { String } -> String; the block gives a task one that has none, and no uniq to make it of */
static VALUE task_unique_or(VALUE self)
{
    VALUE unique = known_unique(self);
    if (!NIL_P(unique)) return unique;
    return keep_unique(self, NIL_P(read_field(self, UNIQ)) ? rb_yield(Qundef) : rb_funcall(self, id_shared_unique, 0));
}

/* Callbacks */

#define CALLBACK(name, field)                                                         \
    static VALUE task_##name(VALUE self)                                              \
    {                                                                                 \
        return write_field(self, field, rb_block_given_p() ? rb_block_proc() : Qnil); \
    }

CALLBACK(on_complete, ON_COMPLETE)
CALLBACK(on_fail, ON_FAIL)
CALLBACK(on_retry, ON_RETRY)
CALLBACK(on_exception, ON_EXCEPTION)
CALLBACK(on_status, ON_STATUS)
CALLBACK(on_warning, ON_WARNING)
CALLBACK(on_data, ON_DATA)
CALLBACK(on_created, ON_CREATED)

/* Calls a callback, if there is one. Returns the task. */
static VALUE tell(VALUE self, task_field callback, int argc, const VALUE *argv)
{
    VALUE proc = read_field(self, callback);
    if (!NIL_P(proc)) rb_funcallv(proc, id_call, argc, argv);
    return self;
}

GM_HOT static VALUE task_handle_completion(VALUE self, VALUE data)
{
    get(self)->successful = true;
    return tell(self, ON_COMPLETE, 1, &data);
}

GM_HOT bool gm_task_complete(VALUE task, VALUE result)
{
    rb_funcall(task, id_handle_completion, 1, result);
    return RTEST(rb_funcall(task, id_successful, 0));
}

static VALUE task_handle_created(VALUE self, VALUE handle)
{
    write_field(self, HANDLE, handle);
    return tell(self, ON_CREATED, 1, &handle);
}

/* call-seq: handle_failure -> whether to submit it again */
static VALUE task_handle_failure(VALUE self)
{
    long done = NUM2LONG(task_retries_done(self));
    if (done >= NUM2LONG(task_retry_count(self))) {
        tell(self, ON_FAIL, 0, NULL);
        return Qfalse;
    }
    VALUE count = write_field(self, RETRIES_DONE, LONG2NUM(done + 1));
    tell(self, ON_RETRY, 1, &count);
    return Qtrue;
}

static VALUE task_handle_exception(VALUE self, VALUE message) { return tell(self, ON_EXCEPTION, 1, &message); }

static VALUE task_handle_warning(VALUE self, VALUE message)
{
    if (NIL_P(read_field(self, ON_WARNING))) rb_funcall(self, id_log_warning, 1, message);
    return tell(self, ON_WARNING, 1, &message);
}

static VALUE task_handle_data(VALUE self, VALUE data) { return tell(self, ON_DATA, 1, &data); }

static VALUE task_handle_status(VALUE self, VALUE numerator, VALUE denominator)
{
    VALUE values[2] = {numerator, denominator};
    return tell(self, ON_STATUS, 2, values);
}

/* What the loops ask */

GM_HOT static gm_command command_of(VALUE self)
{
    if (RTEST(read_field(self, SCHEDULE_AT))) return GM_SUBMIT_JOB_EPOCH;
    bool background = RTEST(read_field(self, BACKGROUND));
    VALUE priority = read_field(self, PRIORITY);
    if (priority == sym_high) return background ? GM_SUBMIT_JOB_HIGH_BG : GM_SUBMIT_JOB_HIGH;
    if (priority == sym_low) return background ? GM_SUBMIT_JOB_LOW_BG : GM_SUBMIT_JOB_LOW;
    return background ? GM_SUBMIT_JOB_BG : GM_SUBMIT_JOB;
}

/* call-seq: command -> Symbol, the packet that submits the task */
static VALUE task_command(VALUE self) { return gm_command_symbol(command_of(self)); }

static gm_task read_any(VALUE self)
{
    gm_task read = {.command = command_of(self), .func = read_field(self, FUNC), .data = read_field(self, ARG)};
    read.unique = is_own(self) ? known_unique(self) : Qnil;
    if (NIL_P(read.unique)) read.unique = rb_funcall(self, id_get_uniq_hash, 0);
    if (!gm_string_p(read.data)) read.data = rb_funcall(self, id_payload, 0);
    if (read.command == GM_SUBMIT_JOB_EPOCH) {
        long long run_at = NUM2LL(rb_funcall(self, id_run_at, 0));
        snprintf(read.epoch, sizeof(read.epoch), "%lld", run_at);
    }
    read.func = gm_string(read.func);
    read.unique = gm_string(read.unique);
    read.data = gm_string(read.data);
    if (RSTRING_LEN(read.func) == 0) rb_raise(gm_eInvalidArgsError, "the function name is empty");
    if (stands_for_none(read.unique) && is_background(self)) {
        rb_raise(gm_eInvalidArgsError, "a background job needs a unique: %" PRIsVALUE, read.func);
    }
    if (RSTRING_LEN(read.unique) > GM_MAX_UNIQUE_SIZE) {
        rb_raise(gm_eInvalidArgsError, "a unique of %ld bytes is longer than the server's limit of %d: %+" PRIsVALUE,
                 RSTRING_LEN(read.unique), GM_MAX_UNIQUE_SIZE, read.unique);
    }
    return read;
}

/* What most tasks are: one of the library's, with Strings, a unique of usual size, and nothing else to be sent. */
static inline bool read_usual(VALUE self, gm_task *read)
{
    const task_state *t = get(self);
    if (t->far || !gm_string_p(t->near[FUNC]) || !gm_string_p(t->near[HASH]) || !gm_string_p(t->near[ARG]))
        return false;
    long size = RSTRING_LEN(t->near[HASH]);
    if (size < 2 || size > GM_MAX_UNIQUE_SIZE || RSTRING_LEN(t->near[FUNC]) == 0) return false;
    read->command = RTEST(t->near[BACKGROUND]) ? GM_SUBMIT_JOB_BG : GM_SUBMIT_JOB;
    read->func = t->near[FUNC];
    read->unique = t->near[HASH];
    read->data = t->near[ARG];
    return true;
}

GM_HOT void gm_task_read(VALUE self, gm_task *read)
{
    if (GM_LIKELY(is_own(self) && read_usual(self, read))) return;
    check(self);
    *read = read_any(self);
}

GM_HOT bool gm_task_note_handle(VALUE self, gm_slice handle)
{
    if (handle.length == 0 || handle.length > NOTED_SIZE || OBJ_FROZEN(self) || !gm_task_plain(self)) return false;
    task_state *t = get(self);
    write_field(self, HANDLE, Qnil);
    memcpy(t->noted_handle, handle.bytes, handle.length);
    t->noted = (uint8_t)handle.length;
    return true;
}

GM_HOT bool gm_task_plain(VALUE self) { return is_own(self) && NIL_P(read_field(self, ON_CREATED)); }

GM_HOT size_t gm_task_parts(const gm_task *task, gm_slice parts[GM_MAX_ARGUMENTS])
{
    size_t count = 0;
    parts[count++] = gm_slice_of(task->func);
    parts[count++] = gm_slice_of(task->unique);
    if (GM_UNLIKELY(task->command == GM_SUBMIT_JOB_EPOCH)) {
        parts[count++] = (gm_slice){(const uint8_t *)task->epoch, strlen(task->epoch)};
    }
    parts[count++] = gm_slice_of(task->data);
    return count;
}

void Init_gearman_task(void)
{
    id_background_p = rb_intern("background?");
    id_call = rb_intern("call");
    id_get_uniq_hash = rb_intern("get_uniq_hash");
    id_handle_completion = rb_intern("handle_completion");
    id_log_warning = rb_intern("log_warning");
    id_own_unique = rb_intern("own_unique");
    id_payload = rb_intern("payload");
    id_run_at = rb_intern("run_at");
    id_shared_unique = rb_intern("shared_unique");
    id_successful = rb_intern("successful");
    id_task_of = rb_intern("task_of");
    id_to_i = rb_intern("to_i");
    sym_high = ID2SYM(rb_intern("high"));
    sym_low = ID2SYM(rb_intern("low"));
    sym_normal = ID2SYM(rb_intern("normal"));
    for (int i = 0; i < OPTIONS; i++) options[i].symbol = ID2SYM(rb_intern(options[i].name));
    cTask = rb_define_class_under(gm_mGearman, "Task", rb_cObject);
    cBackgroundTask = rb_define_class_under(gm_mGearman, "BackgroundTask", cTask);
    rb_gc_register_mark_object(cTask);
    rb_gc_register_mark_object(cBackgroundTask);
    empty = rb_obj_freeze(rb_utf8_str_new_cstr(""));
    rb_gc_register_mark_object(empty);

    rb_define_alloc_func(cTask, task_allocate);
    rb_define_method(cTask, "initialize", task_initialize, -1);
    rb_define_method(cTask, "initialize_copy", task_initialize_copy, 1);
    rb_define_method(cBackgroundTask, "initialize", background_task_initialize, -1);
    rb_define_method(cTask, "func", task_func, 0);
    rb_define_method(cTask, "arg", task_arg, 0);
    rb_define_method(cTask, "handle", task_handle, 0);
    rb_define_method(cTask, "uniq", task_uniq, 0);
    rb_define_method(cTask, "uniq=", task_set_uniq, 1);
    rb_define_method(cTask, "priority", task_priority, 0);
    rb_define_method(cTask, "priority=", task_set_priority, 1);
    rb_define_method(cTask, "background", task_background, 0);
    rb_define_method(cTask, "background=", task_set_background, 1);
    rb_define_method(cTask, "background?", task_background_p, 0);
    rb_define_method(cTask, "epoch", task_epoch, 0);
    rb_define_method(cTask, "epoch=", task_set_epoch, 1);
    rb_define_method(cTask, "error", task_error, 0);
    rb_define_method(cTask, "error=", task_set_error, 1);
    rb_define_method(cTask, "retry_count", task_retry_count, 0);
    rb_define_method(cTask, "retry_count=", task_set_retry_count, 1);
    rb_define_method(cTask, "retries_done", task_retries_done, 0);
    rb_define_method(cTask, "successful", task_successful, 0);
    rb_define_method(cTask, "reset_state", task_reset_state, 0);
    rb_define_method(cTask, "schedule", task_set_schedule_at, 1);
    rb_define_method(cTask, "run_at", task_run_at, 0);
    rb_define_method(cTask, "command", task_command, 0);
    rb_define_method(cTask, "get_uniq_hash", task_get_uniq_hash, 0);
    rb_define_method(cTask, "unique_or", task_unique_or, 0);
    rb_define_method(cTask, "on_complete", task_on_complete, 0);
    rb_define_method(cTask, "on_fail", task_on_fail, 0);
    rb_define_method(cTask, "on_retry", task_on_retry, 0);
    rb_define_method(cTask, "on_exception", task_on_exception, 0);
    rb_define_method(cTask, "on_status", task_on_status, 0);
    rb_define_method(cTask, "on_warning", task_on_warning, 0);
    rb_define_method(cTask, "on_data", task_on_data, 0);
    rb_define_method(cTask, "on_created", task_on_created, 0);
    rb_define_method(cTask, "handle_completion", task_handle_completion, 1);
    rb_define_method(cTask, "handle_created", task_handle_created, 1);
    rb_define_method(cTask, "handle_failure", task_handle_failure, 0);
    rb_define_method(cTask, "handle_exception", task_handle_exception, 1);
    rb_define_method(cTask, "handle_status", task_handle_status, 2);
    rb_define_method(cTask, "handle_warning", task_handle_warning, 1);
    rb_define_method(cTask, "handle_data", task_handle_data, 1);
}
