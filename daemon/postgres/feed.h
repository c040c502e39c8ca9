/*
 * The feed: keeps the mirror true. Connects, has the copy loaded, follows the change log, and knows when what it
 * has cannot be trusted any more.
 *
 * Owns: the feed connection (LISTEN, polls, pipelined), its timers, and the load in progress. Who calls it:
 * server.c starts and stops it; it calls mirror/ and, through the callbacks, server.c. On the loop's thread, but for
 * the load, which has a thread and a connection of its own (load.h).
 *
 * Always holds: a copy is current only after a complete load caught up by the feed; any surprise about the server
 * (in recovery, other system identifier, other timeline, postmaster restarted, revision not in the log, floor above
 * it, triggers off) is a full reload while the old copy ages honestly; the daemon never stops trying.
 */
#ifndef APIKEYD_DAEMON_POSTGRES_FEED_H
#define APIKEYD_DAEMON_POSTGRES_FEED_H

#include <stdint.h>
#include <uv.h>

#include "daemon/config.h"
#include "daemon/journal.h"
#include "daemon/mirror/mirror.h"
#include "daemon/secret.h"
#include "proto/value.h"

struct feed;

struct feed_callbacks {
	/* The first complete copy is in place. Once. */
	void (*ready)(void *data);
	/* The daemon must not go on: wrong pepper, at the start. One line that says what to do. Once at most. */
	void (*fatal)(void *data, const char *line);
	/* feed_stop has ended everything; nothing is called after it. */
	void (*stopped)(void *data);
	void *data;
};

/* NULL without memory. `config` and `secret` are borrowed until feed_stop or feed_reconfigure, `journal` until feed_free. */
struct feed *feed_new(uv_loop_t *loop, const struct config *config, const struct secret *secret, struct mirror *mirror,
		      struct journal *journal, const struct feed_callbacks *callbacks);
void feed_start(struct feed *feed);
/* New settings and peppers, already validated; the next connection uses them (at once where conninfo changed). */
void feed_reconfigure(struct feed *feed, const struct config *config, const struct secret *secret);
/* Ends the connection and the load; `stopped` is called later, then feed_free may be. */
void feed_stop(struct feed *feed);
void feed_free(struct feed *feed); /* NULL is fine */

/* A request waits for a newer revision: poll now rather than at the next interval. */
void feed_hurry(struct feed *feed);

/* What it does, in a word: connecting, loading, following, unsure, stopping. */
const char *feed_state(const struct feed *feed);
/* What keeps the copy from being confirmed, as far as that is known: one line, at most `size` bytes, terminated. */
void feed_trouble(const struct feed *feed, char *out, size_t size);
/* Until the next attempt to mend that, or the next poll, in ms: at least poll_ms, so that what asks again is not early. */
uint32_t feed_retry_ms(const struct feed *feed);

/* Begins to verify all of the copy, as fast as may be, or joins the pass that goes on. False: nothing was loaded yet. */
bool feed_verify_start(struct feed *feed);
/* What became of the last pass that was asked for, up to now. False without memory. */
bool feed_verify_show(const struct feed *feed, struct arena *arena, struct value *map);

/*
 * What there is to say of lost history: fields of the map, and `rows`, the keys that are kept denied, from the place `after`
 * on, at most `limit`, and `next`. False without memory.
 */
bool feed_history_show(const struct feed *feed, struct arena *arena, struct value *map, uint32_t after, uint32_t limit);
/*
 * The database's state stands again, which the ledger is told, with the user id of who accepted it. `loss`: that of the
 * loss that was shown, so that no later one is meant. 0,
 * -ENOENT (none is lost), -ESTALE (another was lost since), -EAGAIN (a load is being looked at right now).
 */
int feed_history_accept(struct feed *feed, int64_t loss, uint32_t uid);

/* Adds the feed's counters and state to the map of `stats`. */
bool feed_stats(const struct feed *feed, struct arena *arena, struct value *map);

#endif
