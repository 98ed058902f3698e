#ifndef GM_TASK_H
#define GM_TASK_H

#include "native.h"

/* What a Gearman::Task is submitted with. The Strings are kept by the struct while it is on the stack. */
typedef struct {
    gm_command command;
    VALUE func, unique, data;
    char epoch[24]; /* decimal seconds, for a scheduled task */
} gm_task;

/*
 * Reads a Gearman::Task into `read`, whose `epoch` is set for a scheduled task alone. Raises InvalidArgsError for an
 * empty function name, for a unique over GM_MAX_UNIQUE_SIZE, and for a background task without one; TypeError for what
 * is no task, or has no String where one is needed. Methods of the task that users may have overridden are called.
 */
void gm_task_read(VALUE task, gm_task *read);

/* Whether it is a Gearman::Task. */
bool gm_task_p(VALUE value);

/*
 * Turns what a method was called with that takes a task, and took a function in gearman-ruby 3.0, into the task and
 * what comes behind it. Raises InvalidArgsError for what is neither. What it returns may act as a task and be none.
 */
void gm_task_of(const char *method, VALUE *task, VALUE *other, VALUE opts);

/* Whether nobody waits for the result of a task, or of what acts as one. */
bool gm_task_background(VALUE task);

/* Tells a task of its result. Returns whether it takes it for successful. */
bool gm_task_complete(VALUE task, VALUE result);

/* Whether nobody wants to hear of its JOB_CREATED: its class is one of the library's own, and it has no on_created. */
bool gm_task_plain(VALUE task);

/*
 * Notes the handle of a background task, as a copy. Returns false, with nothing done, where somebody wants to hear of
 * it (gm_task_plain), and for a handle of unusual size: handle_created has to be called then.
 */
bool gm_task_note_handle(VALUE task, gm_slice handle);

/* Fills `parts` with slices of what gm_task_read gave and returns their number. */
size_t gm_task_parts(const gm_task *task, gm_slice parts[GM_MAX_ARGUMENTS]);

/* Keeps the Strings of a gm_task_read until here: to be called behind the last use of the slices. */
#define GM_TASK_GUARD(task)         \
    do {                            \
        RB_GC_GUARD((task).func);   \
        RB_GC_GUARD((task).unique); \
        RB_GC_GUARD((task).data);   \
    } while (0)

void Init_gearman_task(void);

#endif
