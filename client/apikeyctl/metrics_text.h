/*
 * The daemon's `stats` as OpenMetrics text, by the table of metrics_table.h.
 *
 * Pure: no daemon, no file. What the daemon does not have, as an older one may not, is left out; so is what the table does
 * not know.
 */
#ifndef APIKEYCTL_METRICS_TEXT_H
#define APIKEYCTL_METRICS_TEXT_H

#include <stdbool.h>
#include <stdio.h>

#include "proto/value.h"

/* Of a daemon that answered. Whether it was written is for the caller to see (ferror). */
void metrics_text(FILE *out, const struct value *stats);
/* Of one that did not: apikeyd_up 0, and nothing else. */
void metrics_text_down(FILE *out);

/* The metric that is in both. */
extern const char metrics_up_name[], metrics_up_help[];

#endif
