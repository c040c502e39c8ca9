/* What the verbs of `apikeyctl audit` share. */
#ifndef APIKEYCTL_AUDIT_H
#define APIKEYCTL_AUDIT_H

#include "client/apikeyctl/anchors.h"
#include "client/apikeyctl/command.h"
#include "client/apikeyctl/ctl.h"

/* Reads all anchors of a log or an export of the journal; "-" is standard input. Returns a ctl_exit. */
int audit_anchors_read(const struct ctl *ctl, const char *path, struct anchors *ret);

/* The same of one line. */
int audit_anchors_of(const struct ctl *ctl, const char *line, struct anchors *ret);

extern const struct command audit_verb_verify;

#endif
