/*
 * The load: a complete copy out of one short snapshot, by binary COPY, joined here, on a thread and a connection of
 * its own, so that checks go on at their usual speed.
 *
 * Owns the thread, its PGconn (nobody else touches it) and the copy until it is given away. Who calls it: feed.c, on
 * the loop's thread.
 *
 * Always holds: `done` is called exactly once, on the loop's thread, also after load_cancel; the load has freed
 * itself when it returns. A copy is given only where all of it was read, at the snapshot's revision, from the server
 * with the identity that is given with it.
 */
#ifndef APIKEYD_DAEMON_POSTGRES_LOAD_H
#define APIKEYD_DAEMON_POSTGRES_LOAD_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "daemon/mirror/copy.h"
#include "daemon/postgres/connection.h"

struct load;

struct load_settings { /* all copied */
	const struct conninfo_params *params;
	const char *role;
	uint32_t connect_timeout_ms;
	uint32_t statement_timeout_ms; /* of one statement, as the server measures it */
	uint32_t silence_ms;	       /* a server that sends nothing for so long has gone */
	bool beside;		       /* another copy is being answered from: that comes first */
	uint32_t denials;	       /* how many are remembered at most */
};

struct load_result {
	struct copy *copy;	 /* the receiver's; NULL: it failed */
	struct denials *denials; /* of its keys: the receiver's, by malloc */
	bool lacks;		 /* there are more than are remembered */
	struct connection_identity identity;
	uint64_t keys, took_ms;
	bool cancelled;
	char line[512]; /* of a failure */
};

typedef void (*load_done)(void *data, const struct load_result *result);

/* NULL without memory or thread. */
struct load *load_start(uv_loop_t *loop, const struct load_settings *settings, load_done done, void *data);
void load_cancel(struct load *load);

#endif
