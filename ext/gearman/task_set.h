#ifndef GM_TASK_SET_H
#define GM_TASK_SET_H

#include "native.h"

extern VALUE gm_cTaskSet;

void Init_gearman_task_set(void);

#endif
