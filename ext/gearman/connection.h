#ifndef GM_CONNECTION_H
#define GM_CONNECTION_H

#include "channel.h"

/*
 * Takes a channel to the server of a Gearman::Connection for one conversation: an idle one, the newest
 * first, or a new one. Raises NetworkError when the server cannot be reached, SocketTimeoutError when
 * every channel stays taken until the deadline.
 */
VALUE gm_connection_lease(VALUE self, gm_deadline deadline);

/* Whether it is a Gearman::Connection, which the functions here rely on. */
bool gm_connection_p(VALUE value);

/* Whether the server is up, as far as is known: Qnil (not asked yet), Qtrue or Qfalse. */
VALUE gm_connection_known(VALUE self);
void gm_connection_learn(VALUE self, VALUE known);

/* Gives a channel back. What is still owed on it belongs to nobody from here on. */
void gm_connection_release(VALUE self, VALUE channel);

/*
 * The server that a pool, or what stands in for one, has for a unique: usually a Connection. Raises as
 * ConnectionPool#get_connection does.
 */
VALUE gm_pool_connection(VALUE pool, VALUE unique, gm_deadline deadline);

void Init_gearman_connection(void);
void Init_gearman_connection_pool(void);
void Init_gearman_worker_loop(void);

#endif
