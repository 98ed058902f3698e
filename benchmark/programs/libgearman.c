/* The contestant on libgearman, used as its manual says: one call a job, or run_tasks for a set of them.
 * Its clients are no matter for several threads, so each thread has its own. */
#include "common.h"

#include <libgearman/gearman.h>

static void *open_one(const struct plan *plan)
{
    gearman_client_st *client = gearman_client_create(NULL);
    gearman_client_add_server(client, "127.0.0.1", (in_port_t)plan->port);
    return client;
}

static void submit(void *client, const struct plan *plan, long number, long count)
{
    char unique[UNIQUE + 1] = {0}, payload[PAYLOAD];
    gearman_job_handle_t handle;
    (void)count;
    digits(unique, UNIQUE, number);
    digits(payload, PAYLOAD, number);
    gearman_return_t rc = gearman_client_do_background(client, plan->function, unique, payload, PAYLOAD, handle);
    if (gearman_failed(rc)) die("submit", gearman_client_error(client));
}

/* libgearman makes a UUID where no unique is given. */
static void submit_default(void *client, const struct plan *plan, long number, long count)
{
    char payload[PAYLOAD];
    gearman_job_handle_t handle;
    (void)count;
    digits(payload, PAYLOAD, number);
    gearman_return_t rc = gearman_client_do_background(client, plan->function, NULL, payload, PAYLOAD, handle);
    if (gearman_failed(rc)) die("submit", gearman_client_error(client));
}

static void request(void *client, const struct plan *plan, long number, long count)
{
    char unique[UNIQUE + 1] = {0}, payload[PAYLOAD];
    size_t size;
    gearman_return_t rc;
    (void)count;
    digits(unique, UNIQUE, number);
    digits(payload, PAYLOAD, number);
    char *result = gearman_client_do(client, plan->function, unique, payload, PAYLOAD, &size, &rc);
    if (gearman_failed(rc)) die("request", gearman_client_error(client));
    if (size != PAYLOAD || memcmp(result, payload, PAYLOAD)) die("request", "the result is not the payload");
    free(result);
}

/* A task of a set. libgearman does not copy the payload. */
struct entry {
    char unique[UNIQUE + 1], payload[PAYLOAD];
    bool created, completed;
};

static gearman_return_t created(gearman_task_st *task)
{
    struct entry *entry = gearman_task_context(task);
    entry->created = true;
    return GEARMAN_SUCCESS;
}

static gearman_return_t completed(gearman_task_st *task)
{
    struct entry *entry = gearman_task_context(task);
    if (gearman_task_data_size(task) != PAYLOAD || memcmp(gearman_task_data(task), entry->payload, PAYLOAD))
        die("tasks", "the result is not the payload");
    entry->completed = true;
    return GEARMAN_SUCCESS;
}

static void run_set(gearman_client_st *client, const struct plan *plan, long number, long count, bool background)
{
    static struct entry *entries;
    gearman_return_t rc;
    if (!entries) entries = malloc((size_t)count * sizeof *entries);
    gearman_client_set_created_fn(client, created);
    gearman_client_set_complete_fn(client, completed);
    for (long i = 0; i < count; i++) {
        struct entry *entry = &entries[i];
        *entry = (struct entry){0};
        digits(entry->unique, UNIQUE, number + i);
        digits(entry->payload, PAYLOAD, number + i);
        if (background)
            gearman_client_add_task_background(client, NULL, entry, plan->function, entry->unique, entry->payload,
                                               PAYLOAD, &rc);
        else
            gearman_client_add_task(client, NULL, entry, plan->function, entry->unique, entry->payload, PAYLOAD, &rc);
        if (gearman_failed(rc)) die("tasks", gearman_client_error(client));
    }
    rc = gearman_client_run_tasks(client);
    if (gearman_failed(rc)) die("tasks", gearman_client_error(client));
    for (long i = 0; i < count; i++) {
        if (!(background ? entries[i].created : entries[i].completed)) die("tasks", "one of them has not ended");
    }
    gearman_client_task_free_all(client);
}

static void submit_set(void *client, const struct plan *plan, long number, long count)
{
    run_set(client, plan, number, count, true);
}

static void request_set(void *client, const struct plan *plan, long number, long count)
{
    run_set(client, plan, number, count, false);
}

static const struct plan *counted; /* the plan whose jobs are counted, if any */

static void *echo(gearman_job_st *job, void *context, size_t *size, gearman_return_t *rc)
{
    static long arrived;
    (void)context;
    if (counted) count_job(counted, ++arrived);
    *size = gearman_job_workload_size(job);
    char *result = malloc(*size + 1);
    memcpy(result, gearman_job_workload(job), *size);
    *rc = GEARMAN_SUCCESS;
    return result; /* libgearman frees it */
}

static void run_worker(const struct plan *plan)
{
    gearman_worker_st *worker = gearman_worker_create(NULL);
    gearman_worker_add_server(worker, "127.0.0.1", (in_port_t)plan->port);
    gearman_worker_add_function(worker, plan->function, 0, echo, NULL);
    while (gearman_success(gearman_worker_work(worker)))
        ;
    die("worker", gearman_worker_error(worker));
}

int main(int argc, char **argv)
{
    struct plan plan = plan_from(argc, argv);

    if (!strcmp(plan.role, "submit") || !strcmp(plan.role, "submit-built")) {
        run_client(&plan, open_one, submit, 1);
    } else if (!strcmp(plan.role, "submit-default")) {
        run_client(&plan, open_one, submit_default, 1);
    } else if (!strcmp(plan.role, "submit-set")) {
        run_client(&plan, open_one, submit_set, plan.window);
    } else if (!strcmp(plan.role, "request")) {
        run_client(&plan, open_one, request, 1);
    } else if (!strcmp(plan.role, "request-set")) {
        run_client(&plan, open_one, request_set, plan.window);
    } else if (!strcmp(plan.role, "request-threads")) {
        run_threads(&plan, open_one, request);
    } else if (!strcmp(plan.role, "drain")) {
        counted = &plan;
        run_worker(&plan);
    } else if (!strcmp(plan.role, "work")) {
        run_worker(&plan);
    } else if (!strcmp(plan.role, "version")) {
        puts(gearman_version());
    } else {
        die(plan.role, "is no role of this program");
    }
    return 0;
}
