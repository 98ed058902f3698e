#include "job.h"

#include <string.h>

/*
 * Gearman::Worker::Job. It is no Ruby object with variables, as those would be the largest part of what a small job
 * costs; Strings that few jobs are asked for are made when they are.
 */

typedef enum { CHANNEL, WORKER, FUNC_NAME, DATA, HANDLE, UNIQUE, FIELDS } job_field;

typedef struct {
    VALUE fields[FIELDS];
    gm_slice handle, unique; /* of the bytes below, where `fields` has them not yet */
    uint8_t bytes[];
} job;

static VALUE cJob;

static void job_mark(void *data)
{
    const job *j = data;
    for (int i = 0; i < FIELDS; i++) rb_gc_mark_movable(j->fields[i]);
}

static void job_compact(void *data)
{
    job *j = data;
    for (int i = 0; i < FIELDS; i++) j->fields[i] = rb_gc_location(j->fields[i]);
}

static size_t job_size(const void *data)
{
    const job *j = data;
    return sizeof(*j) + j->handle.length + j->unique.length;
}

static const rb_data_type_t job_type = {
    .wrap_struct_name = "Gearman::Worker::Job",
    .function = {.dmark = job_mark, .dfree = RUBY_DEFAULT_FREE, .dsize = job_size, .dcompact = job_compact},
    .flags = GM_TYPED_FREE | RUBY_TYPED_WB_PROTECTED,
};

static job *get(VALUE self)
{
    job *j;
    TypedData_Get_Struct(self, job, &job_type, j);
    return j;
}

static VALUE job_allocate(VALUE klass)
{
    job *j;
    VALUE self = TypedData_Make_Struct(klass, job, &job_type, j);
    for (int i = 0; i < FIELDS; i++) j->fields[i] = Qnil;
    return self;
}

static VALUE write_field(VALUE self, job_field field, VALUE value)
{
    RB_OBJ_WRITE(self, &get(self)->fields[field], value);
    return value;
}

GM_HOT VALUE gm_job_new(VALUE worker, VALUE channel, VALUE func, VALUE data, gm_slice handle, gm_slice unique)
{
    /* Filled before there is an object, which spares the write barriers. */
    job *j = xmalloc(sizeof(*j) + handle.length + unique.length);
    *j = (job){
        {[CHANNEL] = channel, [WORKER] = worker, [FUNC_NAME] = func, [DATA] = data, [HANDLE] = Qnil, [UNIQUE] = Qnil},
        {j->bytes, handle.length},
        {NULL, 0}};
    memcpy(j->bytes, handle.bytes, handle.length);
    if (unique.bytes) {
        memcpy(j->bytes + handle.length, unique.bytes, unique.length);
        j->unique = (gm_slice){j->bytes + handle.length, unique.length};
    }
    VALUE self = TypedData_Wrap_Struct(cJob, &job_type, j);
    RB_GC_GUARD(worker);
    RB_GC_GUARD(channel);
    RB_GC_GUARD(func);
    RB_GC_GUARD(data);
    return self;
}

GM_HOT gm_slice gm_job_handle_bytes(VALUE self) { return get(self)->handle; }

static VALUE read_field(VALUE self, job_field field) { return get(self)->fields[field]; }

/* The String of one of the fields that may be bytes until now. */
static VALUE string(VALUE self, job_field field, gm_slice bytes)
{
    VALUE value = read_field(self, field);
    return NIL_P(value) && bytes.bytes ? write_field(self, field, gm_str_new(bytes)) : value;
}

VALUE gm_job_handle(VALUE self) { return string(self, HANDLE, get(self)->handle); }
static VALUE job_unique(VALUE self) { return string(self, UNIQUE, get(self)->unique); }
static VALUE job_func_name(VALUE self) { return read_field(self, FUNC_NAME); }
static VALUE job_data(VALUE self) { return read_field(self, DATA); }
static VALUE job_channel(VALUE self) { return read_field(self, CHANNEL); }
static VALUE job_worker(VALUE self) { return read_field(self, WORKER); }

/* call-seq: fill(channel, worker, func_name, data, handle, unique) -> self */
static VALUE job_fill(int argc, VALUE *argv, VALUE self)
{
    rb_check_arity(argc, FIELDS, FIELDS);
    for (int i = 0; i < FIELDS; i++) write_field(self, (job_field)i, argv[i]);
    return self;
}

void Init_gearman_job(void)
{
    VALUE cWorker = rb_define_class_under(gm_mGearman, "Worker", rb_cObject);
    cJob = rb_define_class_under(cWorker, "Job", rb_cObject);
    rb_gc_register_mark_object(cJob);
    rb_define_alloc_func(cJob, job_allocate);
    rb_undef_method(cJob, "initialize_copy");
    rb_define_method(cJob, "handle", gm_job_handle, 0);
    rb_define_method(cJob, "unique", job_unique, 0);
    rb_define_method(cJob, "func_name", job_func_name, 0);
    rb_define_method(cJob, "data", job_data, 0);
    rb_define_private_method(cJob, "channel", job_channel, 0);
    rb_define_private_method(cJob, "worker", job_worker, 0);
    rb_define_private_method(cJob, "fill", job_fill, -1);
}
