/*
 * The writer: runs administrative statements, one transaction each, one after the other, on a connection of its own.
 *
 * Owns that connection and the queue. Who calls it: admin/. On the loop's thread. libpq stays inside: results are
 * value trees.
 *
 * Always holds: `done` is called exactly once for each accepted call, never from inside writer_run; a change whose
 * COMMIT was sent and whose outcome is not known ends as RPC_UNAVAILABLE with a message that says "may have been
 * made", and is never sent again.
 */
#ifndef APIKEYD_DAEMON_POSTGRES_WRITER_H
#define APIKEYD_DAEMON_POSTGRES_WRITER_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "daemon/config.h"
#include "proto/rpc.h"
#include "proto/value.h"

struct writer;

struct writer_result {
	struct rpc_error error;	  /* code RPC_OK: done and, for a change, committed */
	struct arena *arena;	  /* what `rows` lives in; the writer clears it after `done` returns */
	const struct value *rows; /* VALUE_LIST of VALUE_MAP by column name */
	uint64_t rev;		  /* of a change: its revision; else 0 */
};

typedef void (*writer_done)(void *data, const struct writer_result *result);

struct writer_call {
	const char *sql;	   /* one statement, static; $1.. */
	const char *const *params; /* text form, NULL for SQL null; copied, and wiped after */
	unsigned param_count;
	bool change;	   /* a change: answers with its revision; else, */
	bool writes;	   /* unless this is set, a read-only transaction */
	const char *actor; /* set as apikeyd.actor for the transaction; copied */
	writer_done done;
	void *data;
};

struct writer *writer_new(uv_loop_t *loop, const struct config *config); /* connects at the first call */
void writer_reconfigure(struct writer *writer, const struct config *config);
/* 0, or -EAGAIN where the queue is full (the setting database.admin_queue), -ENOMEM. */
int writer_run(struct writer *writer, const struct writer_call *call);
/* Ends what waits (RPC_UNAVAILABLE), lets what is running finish, up to `stop_ms`; then calls `stopped`. */
void writer_stop(struct writer *writer, uint32_t stop_ms, void (*stopped)(void *data), void *data);
void writer_free(struct writer *writer);

bool writer_stats(const struct writer *writer, struct arena *arena, struct value *map);

#endif
