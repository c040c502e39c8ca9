/*
 * Administration: the methods of the administration socket, as one table (a file per noun), and their run.
 *
 * Owns requests in flight towards the database. Who calls it: session.c, for RPC_METHOD_ADMIN on an administration
 * socket whose peer's uid is allowed. Knows the writer, never libpq.
 *
 * Always holds: `done` exactly once per admin_start, never from inside it; a minted key's text is in the answer of
 * key.mint, in the buffers that carry it and nowhere else, and those are wiped.
 */
#ifndef APIKEYD_DAEMON_ADMIN_ADMIN_H
#define APIKEYD_DAEMON_ADMIN_ADMIN_H

#include <sys/types.h>

#include "daemon/config.h"
#include "daemon/postgres/feed.h"
#include "daemon/postgres/writer.h"
#include "daemon/secret.h"
#include "proto/rpc.h"

struct admin {
	struct writer *writer;
	struct feed *feed; /* whose copy is verified, and which knows of lost history */
	const struct config *config;
	const struct secret *secret;
	uint64_t requests, changes, errors; /* counters */
};

/* error.code RPC_OK: `result` is the answer, good during the call only. */
typedef void (*admin_done)(void *data, const struct rpc_error *error, const struct value *result);

/*
 * Starts one request. `request` is borrowed for the call only. Errors in the parameters, an unknown method and a
 * full queue are also reported through `done`, from the loop's next turn. Returns 0, or -ENOMEM where there is not
 * even memory to remember the request: then `done` is never called.
 */
int admin_start(struct admin *admin, uv_loop_t *loop, const struct rpc_request *request, uid_t uid, admin_done done,
		void *data);

/*
 * Whether there is a method of that name; if not, *ret_error says so. For requests whose parameters could not be read:
 * that their method is unknown comes before what its parameters are.
 */
bool admin_knows(struct rpc_text name, struct rpc_error *ret_error);

/* Adds the counters of administration to the map of `stats`. */
bool admin_stats(const struct admin *admin, struct arena *arena, struct value *map);

#endif
