/*
 * One session with a primary PostgreSQL server, by libpq on libuv: resolves, connects, sets the session up, makes sure
 * that it is a primary that may be believed, then hands the PGconn to its owner and tells when there is input.
 *
 * Owns the PGconn, its poll handle, the name resolution and one timer. Who calls it: feed.c (also to probe other
 * hosts) and writer.c; load.c takes its parameters. On the loop's thread.
 *
 * Always holds:
 * - Nothing here blocks: names are resolved by uv_getaddrinfo, addresses tried one by one, all under one timeout each.
 * - A standby, and a primary on a lower timeline than was ever seen of that cluster (a deposed one), are failures like
 *   a refused connection: the next host is tried.
 * - No callback is called from inside a call of the owner's. `failed` ends a round of all hosts (or what was up);
 *   after it nothing happens until the owner opens again.
 * - A failure is logged once; while it stays the same, again only at level debug.
 */
#ifndef APIKEYD_DAEMON_POSTGRES_CONNECTION_H
#define APIKEYD_DAEMON_POSTGRES_CONNECTION_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "daemon/postgres/conninfo.h"

struct connection;

/* Which server and database this is, and which life of it. */
struct connection_identity {
	uint64_t system;   /* pg_control_system's system_identifier */
	uint32_t timeline; /* of the WAL that is being written now */
	uint32_t database; /* oid */
	int64_t started;   /* postmaster start, microseconds since 1970 */
};

/* The query for it, one row in text form, and its reader. `standby` is set and the rest zero where in recovery. */
extern const char connection_identity_sql[];
bool connection_identity_read(const PGresult *result, struct connection_identity *ret, bool *ret_standby);

struct connection_callbacks {
	void (*up)(void *data);			      /* the session is set up; the owner may send */
	void (*io)(void *data);			      /* input was read: look for results and notifications */
	void (*failed)(void *data, const char *line); /* one line: where, what, and what to do */
	void *data;
};

struct connection_settings { /* all copied */
	const char *name;    /* for log lines: "feed" */
	const char *setting; /* the setting that holds conninfo, for advice: "database.conninfo" */
	const char *conninfo, *role;
	const char *session; /* further SET statements, or NULL */
	bool insecure_remote;
	bool quiet; /* a probe: what fails is logged at debug only */
	uint32_t connect_timeout_ms, statement_timeout_ms, keepalive_ms, backoff_min_ms, backoff_max_ms;
};

struct connection *connection_new(uv_loop_t *loop, const struct connection_callbacks *callbacks); /* or NULL */
/* Takes effect with the next open. 0 or -ENOMEM; a conninfo that is wrong fails each round. */
int connection_configure(struct connection *c, const struct connection_settings *settings);

/* Starts a round over the hosts, from the one named (0: as written), ending what there was without a callback. */
void connection_open(struct connection *c, unsigned first_host);
/* The same after the back-off, which grows with each call until connection_settle. */
void connection_retry(struct connection *c);
/* A round over that one host alone. */
void connection_open_one(struct connection *c, unsigned host);
/* The owner has found this server good: the back-off starts afresh, and the next failure is news. */
void connection_settle(struct connection *c);
/* The owner cannot use this server (line: why, and what to do), or it broke: as a failed host. */
void connection_fail(struct connection *c, const char *line);
/* As connection_fail, with what libpq says. */
void connection_fail_libpq(struct connection *c, const char *doing);
/* Ends the session, without a callback. */
void connection_disconnect(struct connection *c);
/* Ends everything; `closed` is called later, once, and then connection_free may be. */
void connection_close(struct connection *c, void (*closed)(void *data));
void connection_free(struct connection *c); /* NULL is fine */

bool connection_is_up(const struct connection *c);
bool connection_is_busy(const struct connection *c); /* connecting, or waiting for the back-off */
/* The server is a primary no more: another connection has met the same cluster on a higher timeline. */
bool connection_is_deposed(const struct connection *c);
PGconn *connection_pq(const struct connection *c); /* NULL when not up */
const struct connection_identity *connection_identity(const struct connection *c);
/* How this server was reached, for another connection to the very same one. */
const struct conninfo_params *connection_params(const struct connection *c);
unsigned connection_host(const struct connection *c);
unsigned connection_host_count(const struct connection *c);
/* "host=… port=… dbname=… user=…" of the present or the last tried host. */
const char *connection_describe(const struct connection *c);
uint64_t connection_attempts(const struct connection *c);
/* The last failure, "" since connection_settle. */
const char *connection_trouble(const struct connection *c);
/* Until the back-off ends and the next round begins, in ms; 0 where one is under way, or none is to come. */
uint64_t connection_retry_ms(const struct connection *c);

/* Sends what libpq has buffered, now and as the socket takes it. */
void connection_flush(struct connection *c);
/* Stops and resumes reading: what the owner cannot take yet stays with the kernel. */
void connection_set_reading(struct connection *c, bool on);

/* "<primary message> (<hint>)" in one line, of an error result; never the statement's parameters. */
void connection_result_line(const PGresult *result, char *out, size_t size);

#endif
