/*
 * What is said about a schema that is missing, of another version, or not readable: one line, with what to do.
 *
 * Owns nothing. Who calls it: feed_check.c and load.c.
 */
#ifndef APIKEYD_DAEMON_POSTGRES_SCHEMA_H
#define APIKEYD_DAEMON_POSTGRES_SCHEMA_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* True where the version is this daemon's; else `line` says which is older and what to do. */
bool schema_is_ours(int32_t version, char *line, size_t size);
int schema_wanted(void);

/* One line for an error result, with advice where the SQLSTATE tells what to do. `doing`: "reading apikeyd.key". */
void schema_error_line(const PGresult *result, const char *doing, char *line, size_t size);

/* What a negative result of copy_put_* means, for people. */
const char *schema_put_error(int error);

#endif
