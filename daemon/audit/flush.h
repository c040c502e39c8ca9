/*
 * The flush: brings what is in the spool to the database, batch by batch, and keeps the ledger there in order.
 *
 * Owns the batch under way, the session with the database (postgres/ledger.h), timers, and what runs on a thread: making a
 * batch's rows, and bringing the spool to the disk. Who calls it: server.c. On the loop's thread.
 *
 * Always holds:
 * - A batch is released in the spool only when the database has said that it is there; a daemon or a database that is
 *   killed in between is asked which it was, so that each batch is there exactly once.
 * - Nothing is given up: what fails is tried again, and said once while it stays the same.
 * - Where spool and database do not know each other's last head (a copied spool, a restored one), both chains stand: the
 *   spool begins a new one, and says so.
 */
#ifndef APIKEYD_DAEMON_AUDIT_FLUSH_H
#define APIKEYD_DAEMON_AUDIT_FLUSH_H

#include <uv.h>

#include "daemon/audit/rollup.h"
#include "daemon/config.h"
#include "daemon/mirror/mirror.h"
#include "daemon/secret.h"
#include "proto/value.h"

struct flush;

/* All borrowed until flush_free. NULL without memory. */
struct flush *flush_new(uv_loop_t *loop, const struct config *config, const struct secret *secret,
			struct mirror *mirror, struct spool *spool, const struct rollup *rollup);
void flush_start(struct flush *flush);
void flush_reconfigure(struct flush *flush, const struct config *config, const struct secret *secret);
/*
 * No verdict follows: sends what there is, as long as `ms` and the database allow, leaves the rest in the spool, ends
 * everything, and calls `stopped`, once, never from inside the call.
 */
void flush_stop(struct flush *flush, uint32_t ms, void (*stopped)(void *data), void *data);
/* As if the time of flush_stop were over. */
void flush_hurry(struct flush *flush);
void flush_free(struct flush *flush); /* NULL is fine */

/* Adds its state and counters to the map of `stats`. */
bool flush_stats(const struct flush *flush, struct arena *arena, struct value *map);

#endif
