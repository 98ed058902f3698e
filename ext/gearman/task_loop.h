#ifndef GM_TASK_LOOP_H
#define GM_TASK_LOOP_H

#include "wait.h"

/* A task that runs alone. */
typedef struct {
    VALUE set;                            /* the object that has the next two */
    VALUE *waiting;                       /* the task; nil from when it is submitted */
    VALUE *loop;                          /* what goes on with it */
    VALUE pool;                           /* where its server is looked for */
    gm_deadline patience, create_timeout; /* intervals, as those of a loop */
    gm_deadline deadline;
} gm_lone_task;

/*
 * Submits a task and returns its result, without the cost of a loop. Where anything but completion happens to a task
 * that was submitted, an interrupt too, there is a loop then that goes on with it. Returns nil with a task that has not
 * completed; one whose pool has anything else than a Connection still waits. Raises as gm_connection_lease and
 * gm_pool_connection, and InvalidArgsError for what cannot be sent.
 */
VALUE gm_task_loop_call(const gm_lone_task *lone);

void Init_gearman_task_loop(void);

#endif
