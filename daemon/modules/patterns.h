/*
 * Patterns of scopes: `*`, `incident:*`, `*:write`, `incident:write`, with commas between. Pure.
 *
 * Who calls it: hours.c, with the whole text of an argument of APIKEYD_TYPE_SCOPES. Always holds: a `*` stands for a
 * whole side of the colon or for the whole scope; anything else is compared byte by byte.
 */
#ifndef APIKEYD_DAEMON_MODULES_PATTERNS_H
#define APIKEYD_DAEMON_MODULES_PATTERNS_H

#include <stdbool.h>

#include "daemon/apikeyd-module.h"

/* Whether one of the patterns matches. A scope that is absent is matched by `*` alone. */
bool patterns_match(const char *patterns, struct apikeyd_text scope);

/* Whether they match every scope, and questions without one. */
bool patterns_match_all(const char *patterns);

#endif
