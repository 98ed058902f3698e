#include "client.h"

#include "connection.h"
#include "task.h"
#include "task_set.h"

/* Gearman::Client: what runs for each task. What is to be done when something goes wrong is said in Ruby. */

static VALUE cClient;
static ID id_add_task, id_connection_pool, id_create_timeout, id_give_up, id_handle_created, id_last_result, id_new,
    id_of_task, id_submission_failed, id_submit_background, id_submit_by_request, id_task_create_timeout_sec, id_wait;

bool gm_client_p(VALUE value) { return RTEST(rb_obj_is_kind_of(value, cClient)); }
GM_HOT VALUE gm_client_pool(VALUE self) { return rb_ivar_get(self, id_connection_pool); }

/* Whether it has all methods as they are here. */
static inline bool is_own(VALUE self) { return gm_instance_p(self, cClient); }

GM_HOT VALUE gm_client_create_timeout(VALUE self)
{
    if (is_own(self)) return rb_ivar_get(self, id_create_timeout);
    return rb_funcall(self, id_task_create_timeout_sec, 0);
}

/* A background or scheduled task on its way. */
typedef struct {
    VALUE client, task;
    VALUE connection, channel;
    gm_task *read;
    gm_deadline deadline;
    int lost; /* how many servers it did not get to */
    bool again;
} submission;

/* Sends the task and reads the answer. Returns the handle if the task has to be told. */
GM_HOT static VALUE converse(VALUE data)
{
    submission *way = (submission *)data;
    gm_slice parts[GM_MAX_ARGUMENTS];
    size_t count = gm_task_parts(way->read, parts);
    uint64_t start = gm_channel_queued(way->channel);
    gm_channel_queue(way->channel, way->read->command, parts, count, 0);
    GM_TASK_GUARD(*way->read);
    gm_reply reply;
    gm_io result = gm_channel_flush(way->channel, start, way->deadline, GM_NEVER, true);
    if (GM_LIKELY(result == GM_IO_OK)) result = gm_channel_receive_own(way->channel, &reply, 1, way->deadline);
    if (GM_LIKELY(result == GM_IO_OK)) {
        if (GM_LIKELY(reply.packet.command == GM_JOB_CREATED)) {
            return gm_task_note_handle(way->task, reply.parts[0]) ? Qnil : gm_reply_part(&reply, 0);
        }
        VALUE code = gm_reply_part(&reply, 0), text = gm_reply_part(&reply, 1);
        rb_exc_raise(rb_funcall(gm_eRefusedError, id_of_task, 3, code, text, way->read->func));
    }
    if (gm_channel_sent(way->channel) > start) gm_channel_raise_in_doubt(way->channel, result == GM_IO_TIMEOUT);
    if (result == GM_IO_TIMEOUT) gm_channel_raise_timeout(way->channel);
    gm_channel_raise_unsent(way->channel);
}

GM_HOT static VALUE release(VALUE data)
{
    submission *way = (submission *)data;
    gm_connection_release(way->connection, way->channel);
    return Qnil;
}

GM_HOT static VALUE submit(VALUE data)
{
    submission *way = (submission *)data;
    gm_task read;
    gm_task_read(way->task, &read);
    VALUE timeout = gm_client_create_timeout(way->client);
    way->connection = gm_pool_connection(gm_client_pool(way->client), read.unique, GM_NEVER);
    if (!gm_connection_p(way->connection)) {
        return rb_funcall(way->client, id_submit_by_request, 3, way->connection, way->task, timeout);
    }
    way->read = &read;
    way->deadline = gm_deadline_in(timeout);
    way->channel = gm_connection_lease(way->connection, way->deadline);
    return rb_ensure(converse, data, release, data);
}

/* Raises what ends it, unless it is to go to another server. */
GM_COLD static VALUE failed(VALUE data, VALUE error)
{
    submission *way = (submission *)data;
    rb_funcall(way->client, id_submission_failed, 3, way->task, error, INT2FIX(++way->lost));
    way->again = true;
    return Qnil;
}

/* call-seq: submit_background(task) -> nil */
GM_HOT static VALUE client_submit_background(VALUE self, VALUE task)
{
    submission way = {.client = self, .task = task, .connection = Qnil, .channel = Qnil};
    VALUE handle;
    do {
        way.again = false;
        handle = rb_rescue2(submit, (VALUE)&way, failed, (VALUE)&way, gm_eNetworkError, (VALUE)0);
    } while (way.again);
    if (!NIL_P(handle)) rb_funcall(task, id_handle_created, 1, handle);
    return Qnil;
}

typedef struct {
    VALUE set, task, timeout;
} foreground_call;

static VALUE run_in_set(VALUE data)
{
    foreground_call *call = (foreground_call *)data;
    if (!RTEST(rb_funcall(call->set, id_add_task, 1, call->task)))
        rb_raise(gm_eJobQueueError, "Unable to enqueue job.");
    rb_funcall(call->set, id_wait, 1, call->timeout);
    return rb_funcall(call->set, id_last_result, 0);
}

static VALUE give_up(VALUE set) { return rb_funcall(set, id_give_up, 0); }

/* call-seq: do_task(task, timeout = nil, opts = nil) -> String or nil */
GM_HOT static VALUE client_do_task(int argc, VALUE *argv, VALUE self)
{
    VALUE task, timeout, opts;
    rb_scan_args(argc, argv, "12", &task, &timeout, &opts);
    if (!gm_task_p(task)) gm_task_of("do_task", &task, &timeout, opts);
    if (gm_task_background(task)) {
        if (is_own(self)) return client_submit_background(self, task);
        rb_funcall(self, id_submit_background, 1, task);
        return Qnil;
    }
    if (!RTEST(timeout)) timeout = Qnil;
    if (gm_interval(timeout) == 0) return Qnil; /* submitting what nobody will wait for helps nobody */
    foreground_call call = {rb_funcall(gm_cTaskSet, id_new, 1, self), task, timeout};
    return rb_ensure(run_in_set, (VALUE)&call, give_up, call.set);
}

void Init_gearman_client(void)
{
    id_add_task = rb_intern("add_task");
    id_connection_pool = rb_intern("@connection_pool");
    id_create_timeout = rb_intern("@task_create_timeout_sec");
    id_give_up = rb_intern("give_up");
    id_handle_created = rb_intern("handle_created");
    id_last_result = rb_intern("last_result");
    id_new = rb_intern("new");
    id_of_task = rb_intern("of_task");
    id_submission_failed = rb_intern("submission_failed");
    id_submit_background = rb_intern("submit_background");
    id_submit_by_request = rb_intern("submit_by_request");
    id_task_create_timeout_sec = rb_intern("task_create_timeout_sec");
    id_wait = rb_intern("wait");
    cClient = rb_define_class_under(gm_mGearman, "Client", rb_cObject);
    rb_gc_register_mark_object(cClient);
    rb_define_method(cClient, "do_task", client_do_task, -1);
    rb_define_method(cClient, "submit_background", client_submit_background, 1);
}
