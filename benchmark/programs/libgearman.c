/* The contestant on libgearman, used as its manual says: one call a job. */
#include "common.h"

#include <libgearman/gearman.h>

static void submit(gearman_client_st *client, const struct plan *plan, long number)
{
    char unique[UNIQUE + 1] = {0}, payload[PAYLOAD];
    gearman_job_handle_t handle;
    digits(unique, UNIQUE, number);
    digits(payload, PAYLOAD, number);
    gearman_return_t rc = gearman_client_do_background(client, plan->function, unique, payload, PAYLOAD, handle);
    if (gearman_failed(rc)) die("submit", gearman_client_error(client));
}

/* libgearman makes a UUID where no unique is given. */
static void submit_default(gearman_client_st *client, const struct plan *plan, long number)
{
    char payload[PAYLOAD];
    gearman_job_handle_t handle;
    digits(payload, PAYLOAD, number);
    gearman_return_t rc = gearman_client_do_background(client, plan->function, NULL, payload, PAYLOAD, handle);
    if (gearman_failed(rc)) die("submit", gearman_client_error(client));
}

static void request(gearman_client_st *client, const struct plan *plan, long number)
{
    char unique[UNIQUE + 1] = {0}, payload[PAYLOAD];
    size_t size;
    gearman_return_t rc;
    digits(unique, UNIQUE, number);
    digits(payload, PAYLOAD, number);
    char *result = gearman_client_do(client, plan->function, unique, payload, PAYLOAD, &size, &rc);
    if (gearman_failed(rc)) die("request", gearman_client_error(client));
    if (size != PAYLOAD || memcmp(result, payload, PAYLOAD)) die("request", "the result is not the payload");
    free(result);
}

static void run_client(const struct plan *plan, void (*one)(gearman_client_st *, const struct plan *, long))
{
    gearman_client_st *client = gearman_client_create(NULL);
    long number = 0, done = 0;
    gearman_client_add_server(client, "127.0.0.1", (in_port_t)plan->port);
    do one(client, plan, number++);
    while (!warm(plan, number));
    begin(number);
    do one(client, plan, number++);
    while (!over(plan, ++done));
    report(done);
    gearman_client_free(client);
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

    if (!strcmp(plan.role, "submit")) {
        run_client(&plan, submit);
    } else if (!strcmp(plan.role, "submit-default")) {
        run_client(&plan, submit_default);
    } else if (!strcmp(plan.role, "request")) {
        run_client(&plan, request);
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
