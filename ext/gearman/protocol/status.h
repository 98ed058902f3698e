#ifndef GM_STATUS_H
#define GM_STATUS_H

typedef enum {
#define GM_STATUS(name, text) GM_##name,
#include "status.def"
#undef GM_STATUS
} gm_status;

/* The English text of a status: static memory, never NULL. */
const char *gm_status_text(gm_status status);

#endif
