#ifndef GM_JOB_H
#define GM_JOB_H

#include "native.h"

/*
 * A Gearman::Worker::Job that came on `channel`. `func` and `data` are Strings that it keeps; the bytes of the handle
 * and of the unique (`unique.bytes` NULL: it has none) are copied.
 */
VALUE gm_job_new(VALUE worker, VALUE channel, VALUE func, VALUE data, gm_slice handle, gm_slice unique);

/* The bytes of the handle of what gm_job_new returned, good as long as the job is kept. */
gm_slice gm_job_handle_bytes(VALUE job);

/* The handle as a String. */
VALUE gm_job_handle(VALUE job);

void Init_gearman_job(void);

#endif
