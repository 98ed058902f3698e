#include "task.h"

/* Gearman::Task as the loops see it; what it does is written in Ruby. */

static VALUE cTask, cBackgroundTask;
static VALUE sym_high, sym_low;
static ID id_arg, id_background, id_func, id_get_uniq_hash, id_hash, id_on_created, id_payload, id_priority, id_run_at,
    id_schedule_at;

static gm_command command_of(VALUE task, bool scheduled)
{
    if (scheduled) return GM_SUBMIT_JOB_EPOCH;
    bool background = RTEST(rb_ivar_get(task, id_background));
    VALUE priority = rb_ivar_get(task, id_priority);
    if (priority == sym_high) return background ? GM_SUBMIT_JOB_HIGH_BG : GM_SUBMIT_JOB_HIGH;
    if (priority == sym_low) return background ? GM_SUBMIT_JOB_LOW_BG : GM_SUBMIT_JOB_LOW;
    return background ? GM_SUBMIT_JOB_BG : GM_SUBMIT_JOB;
}

gm_task gm_task_read(VALUE task)
{
    gm_task read;
    bool scheduled = RTEST(rb_ivar_get(task, id_schedule_at));
    read.command = command_of(task, scheduled);
    read.func = rb_ivar_get(task, id_func);
    read.unique = rb_ivar_get(task, id_hash);
    if (!RB_TYPE_P(read.unique, T_STRING)) read.unique = rb_funcall(task, id_get_uniq_hash, 0);
    read.data = rb_ivar_get(task, id_arg);
    if (!RB_TYPE_P(read.data, T_STRING)) read.data = rb_funcall(task, id_payload, 0);
    if (scheduled) {
        long long run_at = NUM2LL(rb_funcall(task, id_run_at, 0));
        snprintf(read.epoch, sizeof(read.epoch), "%lld", run_at);
    }
    StringValue(read.func);
    StringValue(read.unique);
    StringValue(read.data);
    if (RSTRING_LEN(read.func) == 0) rb_raise(gm_eInvalidArgsError, "the function name is empty");
    if (RSTRING_LEN(read.unique) > GM_MAX_UNIQUE_SIZE) {
        rb_raise(gm_eInvalidArgsError, "a unique of %ld bytes is longer than the server's limit of %d: %+" PRIsVALUE,
                 RSTRING_LEN(read.unique), GM_MAX_UNIQUE_SIZE, read.unique);
    }
    return read;
}

bool gm_task_plain(VALUE task)
{
    VALUE klass = rb_obj_class(task);
    return (klass == cTask || klass == cBackgroundTask) && NIL_P(rb_ivar_get(task, id_on_created));
}

size_t gm_task_parts(const gm_task *task, gm_slice parts[GM_MAX_ARGUMENTS])
{
    size_t count = 0;
    parts[count++] = gm_slice_of(task->func);
    parts[count++] = gm_slice_of(task->unique);
    if (task->command == GM_SUBMIT_JOB_EPOCH) {
        parts[count++] = (gm_slice){(const uint8_t *)task->epoch, strlen(task->epoch)};
    }
    parts[count++] = gm_slice_of(task->data);
    return count;
}

/* call-seq: command -> Symbol, the packet that submits the task */
static VALUE task_command(VALUE self)
{
    return gm_command_symbol(command_of(self, RTEST(rb_ivar_get(self, id_schedule_at))));
}

void Init_gearman_task(void)
{
    id_arg = rb_intern("@arg");
    id_background = rb_intern("@background");
    id_func = rb_intern("@func");
    id_get_uniq_hash = rb_intern("get_uniq_hash");
    id_hash = rb_intern("@hash");
    id_on_created = rb_intern("@on_created");
    id_payload = rb_intern("payload");
    id_priority = rb_intern("@priority");
    id_run_at = rb_intern("run_at");
    id_schedule_at = rb_intern("@schedule_at");
    sym_high = ID2SYM(rb_intern("high"));
    sym_low = ID2SYM(rb_intern("low"));
    cTask = rb_define_class_under(gm_mGearman, "Task", rb_cObject);
    cBackgroundTask = rb_define_class_under(gm_mGearman, "BackgroundTask", cTask);
    rb_gc_register_mark_object(cTask);
    rb_gc_register_mark_object(cBackgroundTask);
    rb_define_method(cTask, "command", task_command, 0);
}
