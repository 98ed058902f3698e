#include "client.h"
#include "connection.h"
#include "job.h"
#include "task.h"
#include "task_loop.h"
#include "task_set.h"

/* What Ruby calls when it loads the extension. */
RUBY_FUNC_EXPORTED void Init_native(void)
{
    rb_ext_ractor_safe(true);
    Init_gearman_native();
    Init_gearman_wait();
    Init_gearman_packet();
    Init_gearman_channel();
    Init_gearman_task();
    Init_gearman_connection();
    Init_gearman_connection_pool();
    Init_gearman_task_loop();
    Init_gearman_task_set();
    Init_gearman_client();
    Init_gearman_job();
    Init_gearman_worker_loop();
}
