#ifndef GM_TASK_LOOP_H
#define GM_TASK_LOOP_H

#include "replies.h"
#include "wait.h"

/* A task that runs alone, without the cost of a loop. */
typedef struct {
    VALUE task;
    VALUE pool;                           /* where its server is looked for */
    gm_deadline patience, create_timeout; /* intervals, as those of a loop */
    gm_deadline deadline;
    /* What has become of it. */
    bool submitted;
    VALUE result; /* String; nil: it has not completed */
    VALUE loop;   /* goes on with it where anything but completion has happened, an interrupt too; or nil */
    /* Of the two functions below alone. */
    VALUE connection;
    VALUE channel; /* nil: none is leased */
    uint64_t start;
    gm_deadline since, limit;
    bool plain, created, open, replied, returned;
    gm_reply reply;
} gm_lone_task;

/* One that is to run. */
gm_lone_task gm_lone_task_of(VALUE task, VALUE pool, gm_deadline deadline);

/*
 * Submits it and waits for its result. One whose pool has anything else than a Connection is not submitted. Raises as
 * gm_pool_connection and gm_connection_lease, InvalidArgsError for what cannot be sent, and what interrupts the wait.
 */
void gm_lone_task_run(gm_lone_task *lone);

/* To be called behind it in any case. May raise what interrupts the closing of a channel. */
void gm_lone_task_end(gm_lone_task *lone);

void Init_gearman_task_loop(void);

#endif
