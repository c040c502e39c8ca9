/*
 * Results of administrative statements -> value trees, and their errors -> the protocol's.
 *
 * Owns nothing. Who calls it: writer.c. The session is set to UTC and ISO dates, results come in text form.
 */
#ifndef APIKEYD_DAEMON_POSTGRES_WRITER_VALUE_H
#define APIKEYD_DAEMON_POSTGRES_WRITER_VALUE_H

#include <libpq-fe.h>
#include <stdbool.h>

#include "proto/rpc.h"
#include "proto/value.h"

/* A list of maps by column name. bool, int2/4/8, arrays of text, networks or integers, timestamptz (RFC 3339 in whole
 * seconds; infinity is nil); all else as text. False without memory. */
bool writer_value_rows(struct arena *arena, const PGresult *result, struct value *ret);

/* One field, by its type's oid. */
bool writer_value_field(struct arena *arena, struct value *ret, unsigned type, const char *text);

/* By SQLSTATE; the message is the server's, with its hint, in one line. */
void writer_value_error(const PGresult *result, struct rpc_error *ret);
enum rpc_error_code writer_value_code(const char *sqlstate, const char *message);

/* Fills in an error, cutting its message at a whole character. */
void writer_value_fail(struct rpc_error *ret, enum rpc_error_code code, const char *message);

#endif
