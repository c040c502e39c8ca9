/* What db.c and db_status.c share. */
#ifndef APIKEYCTL_DB_H
#define APIKEYCTL_DB_H

#include "client/apikeyctl/command.h"

extern const struct command db_verb_status;
extern const struct option db_options[];

#endif
