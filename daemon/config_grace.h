/*
 * freshness.offline_grace: how much longer than max_stale_ms answers may be made from a copy that is not confirmed,
 * by patterns of scopes.
 *
 * Who calls it: config_parse.c makes it of the setting's text; request.c asks it, where the copy is older than
 * max_stale_ms and at no other time. Pure.
 *
 * Always holds: the most specific pattern that matches a scope says its grace, and no scope has two that are equally
 * specific: `resource:action`, then `resource:*`, `*:action`, `*:*`, `*`. A scope that none matches has no grace. A
 * question without a scope is matched by `*` alone.
 */
#ifndef APIKEYD_DAEMON_CONFIG_GRACE_H
#define APIKEYD_DAEMON_CONFIG_GRACE_H

#include <stddef.h>
#include <stdint.h>

enum { CONFIG_GRACE_MAX = 64 }; /* patterns */

struct config_grace;

/*
 * Reads "PATTERN=DURATION, ...". 0, with NULL in *ret where the text is empty; -ENOMEM; or -EINVAL with `right` saying
 * which part is wrong and what would be right.
 */
int config_grace_new(const char *text, struct config_grace **ret, char *right, size_t right_size);
void config_grace_free(struct config_grace *grace); /* NULL is fine */

/* Milliseconds that answers about this scope may go on past max_stale_ms. Scope NULL: a question without one. */
uint32_t config_grace_ms(const struct config_grace *grace, const char *scope, size_t len); /* grace NULL: 0 */
/* The longest of them. */
uint32_t config_grace_longest_ms(const struct config_grace *grace); /* NULL: 0 */
/*
 * The shortest grace that is longer than `ms`, with the patterns that have it as a list in `out` (cut off where it is
 * too short); 0: there is none.
 */
uint32_t config_grace_after(const struct config_grace *grace, uint32_t ms, char *out, size_t size);

#endif
