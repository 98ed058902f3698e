#ifndef GM_CLIENT_H
#define GM_CLIENT_H

#include "native.h"

/* Whether it is a Gearman::Client. */
bool gm_client_p(VALUE value);

/* Of a client: its pool, or what stands in for one, and how many seconds a server may take to accept a task. */
VALUE gm_client_pool(VALUE self);
VALUE gm_client_create_timeout(VALUE self);

void Init_gearman_client(void);

#endif
