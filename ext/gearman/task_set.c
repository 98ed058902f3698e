#include "task_set.h"

#include "client.h"
#include "task.h"
#include "task_loop.h"

/*
 * Gearman::TaskSet: the tasks, and what one needs that runs alone and just completes. For all others there is an
 * engine, which is written in Ruby and has a loop.
 */

typedef struct {
    VALUE client;
    VALUE only;        /* a task that waits, or runs alone; nil: none, or there are several that wait */
    bool alone;        /* whether it runs, and nobody else takes it */
    VALUE tasks;       /* Array of those that wait, which the engine shares; nil: there never were several */
    VALUE engine;      /* nil: none was needed yet */
    VALUE loop;        /* goes on with the task that ran alone; nil: none, or the engine has it */
    bool failed;       /* whether that task was not successful, and the engine does not know yet */
    VALUE last_result; /* of that task */
} task_set;

VALUE gm_cTaskSet;
static ID id_Engine, id_PATIENCE, id_adopt, id_give_up, id_last_result, id_new, id_open, id_release, id_size,
    id_submitted_alone_p, id_wait_until;

static void set_mark(void *data)
{
    const task_set *set = data;
    rb_gc_mark_movable(set->client);
    rb_gc_mark_movable(set->only);
    rb_gc_mark_movable(set->tasks);
    rb_gc_mark_movable(set->loop);
    rb_gc_mark_movable(set->engine);
    rb_gc_mark_movable(set->last_result);
}

static void set_compact(void *data)
{
    task_set *set = data;
    set->client = rb_gc_location(set->client);
    set->only = rb_gc_location(set->only);
    set->tasks = rb_gc_location(set->tasks);
    set->loop = rb_gc_location(set->loop);
    set->engine = rb_gc_location(set->engine);
    set->last_result = rb_gc_location(set->last_result);
}

static size_t set_size_in_memory(const void *data) { return sizeof(task_set); }

static const rb_data_type_t set_type = {
    .wrap_struct_name = "Gearman::TaskSet",
    .function = {.dmark = set_mark, .dfree = RUBY_DEFAULT_FREE, .dsize = set_size_in_memory, .dcompact = set_compact},
    .flags = GM_TYPED_FREE | RUBY_TYPED_WB_PROTECTED,
};

static task_set *get(VALUE self) { return rb_check_typeddata(self, &set_type); }

static VALUE set_allocate(VALUE klass)
{
    task_set *set;
    VALUE self = TypedData_Make_Struct(klass, task_set, &set_type, set);
    set->client = set->only = set->tasks = set->loop = set->engine = set->last_result = Qnil;
    return self;
}

/* call-seq: new(client) */
static VALUE set_initialize(VALUE self, VALUE client)
{
    RB_OBJ_WRITE(self, &get(self)->client, client);
    return self;
}

/* The tasks that wait, as the Array that they are in from now on. */
static VALUE tasks_of(VALUE self)
{
    task_set *set = get(self);
    if (NIL_P(set->tasks)) RB_OBJ_WRITE(self, &set->tasks, rb_ary_new());
    if (!NIL_P(set->only) && !set->alone) {
        VALUE only = set->only;
        set->only = Qnil;
        rb_ary_unshift(set->tasks, only);
    }
    return set->tasks;
}

/* Whether no task is in it, and there is nothing left of one that was. */
static bool is_over(const task_set *set)
{
    bool none = NIL_P(set->only) && (NIL_P(set->tasks) || RARRAY_LEN(set->tasks) == 0);
    return none && NIL_P(set->engine) && NIL_P(set->loop) && !set->failed;
}

/* call-seq: add_task(task, arg = nil, opts = nil) -> true */
static VALUE set_add_task(int argc, VALUE *argv, VALUE self)
{
    VALUE task, arg, opts;
    rb_scan_args(argc, argv, "12", &task, &arg, &opts);
    if (!gm_task_p(task)) gm_task_of("add_task", &task, &arg, opts);
    if (gm_task_background(task) && RTEST(rb_funcall(self, id_submitted_alone_p, 2, get(self)->client, task)))
        return Qtrue;
    task_set *set = get(self);
    if (NIL_P(set->only) && NIL_P(set->tasks)) {
        RB_OBJ_WRITE(self, &set->only, task);
    } else {
        rb_ary_push(tasks_of(self), task);
    }
    return Qtrue;
}

/* The engine, which has all tasks from now on. */
static VALUE engine_of(VALUE self)
{
    task_set *set = get(self);
    VALUE tasks = tasks_of(self);
    if (NIL_P(set->engine)) {
        VALUE engine = rb_funcall(rb_const_get(gm_cTaskSet, id_Engine), id_new, 2, set->client, tasks);
        RB_OBJ_WRITE(self, &set->engine, engine);
    }
    return set->engine;
}

typedef struct {
    VALUE set;
    gm_lone_task task;
} lone_run;

static VALUE run_lone(VALUE data)
{
    gm_lone_task_run(&((lone_run *)data)->task);
    return Qnil;
}

static VALUE end_lone(VALUE data)
{
    lone_run *run = (lone_run *)data;
    task_set *set = get(run->set);
    set->alone = false;
    if (run->task.submitted) set->only = Qnil;
    gm_lone_task_end(&run->task);
    if (!NIL_P(run->task.loop)) RB_OBJ_WRITE(run->set, &set->loop, run->task.loop);
    return Qnil;
}

static VALUE call_lone(VALUE data) { return rb_ensure(run_lone, data, end_lone, data); }

/* A task that could not be submitted is left to the engine, which looks for another server. */
static VALUE not_submitted(VALUE data, VALUE error)
{
    const lone_run *run = (const lone_run *)data;
    /* What interrupts the wait may be of any class. */
    if (run->task.submitted || RTEST(rb_obj_is_kind_of(error, gm_eNoJobServersError))) rb_exc_raise(error);
    return Qnil;
}

/* Runs the only task, and tells it of its result. */
static void run_alone(VALUE self, task_set *set, gm_deadline deadline)
{
    if (!gm_client_p(set->client) || !gm_task_p(set->only)) return;
    lone_run run = {self, gm_lone_task_of(set->only, gm_client_pool(set->client), deadline)};
    run.task.patience = gm_interval(rb_const_get(gm_cTaskSet, id_PATIENCE));
    run.task.create_timeout = gm_interval(gm_client_create_timeout(set->client));
    set->alone = true;
    rb_rescue2(call_lone, (VALUE)&run, not_submitted, (VALUE)&run, gm_eError, (VALUE)0);
    if (NIL_P(run.task.result)) return;
    if (!gm_task_complete(run.task.task, run.task.result)) set->failed = true;
    RB_OBJ_WRITE(self, &set->last_result, run.task.result);
}

/* Tells the engine what has become of the task that ran alone, unless it has a loop that is to end first. */
static void hand_over(task_set *set, VALUE engine)
{
    VALUE loop = set->loop;
    if (NIL_P(loop) && !set->failed) return;
    if (!RTEST(rb_funcall(engine, id_adopt, 2, loop, set->failed ? Qtrue : Qfalse))) return;
    set->failed = false;
    if (set->loop == loop) set->loop = Qnil;
}

/* call-seq: wait(timeout = 1) -> true or false */
static VALUE set_wait(int argc, VALUE *argv, VALUE self)
{
    rb_check_arity(argc, 0, 1);
    task_set *set = get(self);
    VALUE timeout = argc > 0 ? argv[0] : INT2FIX(1);
    gm_deadline deadline = RTEST(timeout) ? gm_deadline_in(timeout) : GM_NEVER;
    bool lone = !NIL_P(set->only) && !set->alone && NIL_P(set->engine) && NIL_P(set->loop);
    if (lone) run_alone(self, set, deadline);
    if (is_over(set)) return Qtrue;
    VALUE engine = engine_of(self), ended;
    do {
        hand_over(set, engine);
        ended = rb_funcall(engine, id_wait_until, 1, gm_clock_at(deadline));
    } while (RTEST(ended) && !NIL_P(set->loop));
    return ended;
}

/* call-seq: size -> Integer */
static VALUE set_size(VALUE self)
{
    task_set *set = get(self);
    long size = NIL_P(set->only) ? 0 : 1;
    if (!NIL_P(set->loop)) size += NUM2LONG(rb_funcall(set->loop, id_open, 0));
    if (!NIL_P(set->engine)) {
        size += NUM2LONG(rb_funcall(set->engine, id_size, 0));
    } else if (!NIL_P(set->tasks)) {
        size += RARRAY_LEN(set->tasks);
    }
    return LONG2NUM(size);
}

/* call-seq: last_result -> String or nil, the result of the task that completed last */
static VALUE set_last_result(VALUE self)
{
    task_set *set = get(self);
    VALUE result = NIL_P(set->engine) ? Qnil : rb_funcall(set->engine, id_last_result, 0);
    return NIL_P(result) ? set->last_result : result;
}

/* call-seq: last_result = result */
static VALUE set_set_last_result(VALUE self, VALUE result)
{
    RB_OBJ_WRITE(self, &get(self)->last_result, result);
    return result;
}

/* call-seq: take -> Array of the tasks that were not submitted, and are in the set no more */
static VALUE set_take(VALUE self)
{
    VALUE tasks = tasks_of(self), taken = rb_ary_dup(tasks);
    rb_ary_clear(tasks);
    return taken;
}

/* call-seq: give_up -> nil */
static VALUE set_give_up(VALUE self)
{
    task_set *set = get(self);
    if (!set->alone) set->only = Qnil;
    set->failed = false;
    if (!NIL_P(set->tasks)) rb_ary_clear(set->tasks);
    if (!NIL_P(set->loop)) rb_funcall(set->loop, id_release, 0);
    set->loop = Qnil;
    if (!NIL_P(set->engine)) rb_funcall(set->engine, id_give_up, 0);
    return Qnil;
}

void Init_gearman_task_set(void)
{
    id_Engine = rb_intern("Engine");
    id_PATIENCE = rb_intern("PATIENCE");
    id_adopt = rb_intern("adopt");
    id_give_up = rb_intern("give_up");
    id_last_result = rb_intern("last_result");
    id_new = rb_intern("new");
    id_open = rb_intern("open");
    id_release = rb_intern("release");
    id_size = rb_intern("size");
    id_submitted_alone_p = rb_intern("submitted_alone?");
    id_wait_until = rb_intern("wait_until");
    gm_cTaskSet = rb_define_class_under(gm_mGearman, "TaskSet", rb_cObject);
    rb_gc_register_mark_object(gm_cTaskSet);
    rb_define_alloc_func(gm_cTaskSet, set_allocate);
    rb_undef_method(gm_cTaskSet, "initialize_copy");
    rb_define_method(gm_cTaskSet, "initialize", set_initialize, 1);
    rb_define_method(gm_cTaskSet, "add_task", set_add_task, -1);
    rb_define_method(gm_cTaskSet, "wait", set_wait, -1);
    rb_define_method(gm_cTaskSet, "size", set_size, 0);
    rb_define_method(gm_cTaskSet, "give_up", set_give_up, 0);
    rb_define_method(gm_cTaskSet, "last_result", set_last_result, 0);
    rb_define_private_method(gm_cTaskSet, "last_result=", set_set_last_result, 1);
    rb_define_private_method(gm_cTaskSet, "take", set_take, 0);
}
