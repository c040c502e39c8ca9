/*
 * What a line `rate` remembers: for each identity, when its bucket will be full again. Bounded; never forgets a bucket
 * that is not full.
 *
 * Owns all its memory, taken once by meters_new: nothing is allocated later, and pages of it that were never needed are
 * never touched. Who calls it: rate.c.
 *
 * Always holds: an identity is found by its bytes, not by its hash alone; room is found wherever there is any. To that
 * end a heap has the buckets by a moment that is at most as late as the true one: spending does not touch it, and the
 * look for room sets right what it meets.
 */
#ifndef APIKEYD_DAEMON_MODULES_METERS_H
#define APIKEYD_DAEMON_MODULES_METERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/modules/gcra.h"

enum { METERS_MAX = 4194304 }; /* entries */

struct meters;

struct meter {
	struct gcra_time full; /* as gcra.h has it. Later: just set it. Earlier: meters_set_earlier */
	uint64_t hash;
	uint32_t next; /* in its chain, from 1; 0: the last */
	uint32_t id_len;
};

struct meters_key {
	const void *id;
	uint32_t id_len; /* at most the table's `id_max` */
	uint64_t hash;
};

/* `entries` from 1 to METERS_MAX, identities of at most `id_max` bytes. 0, or -errno. */
int meters_new(uint32_t entries, uint32_t id_max, struct meters **ret);
void meters_free(struct meters *meters); /* NULL is fine */

/* False: `len` is more than an identity may have. `id` is borrowed. */
bool meters_key(const struct meters *meters, const void *id, size_t len, struct meters_key *ret);

/* NULL: it is not known, so its bucket is full. Good until the next meters_add. */
struct meter *meters_find(struct meters *meters, const struct meters_key *key);

/* Whether meters_add would find room, at `now_us`. */
bool meters_has_room(struct meters *meters, int64_t now_us);

/* Remembers an identity that is not known. False with nothing changed: there is no room. */
bool meters_add(struct meters *meters, const struct meters_key *key, const struct gcra_time *full, int64_t now_us);

/* Sets a bucket that is full sooner than was thought. Slow: goes through all of them. */
void meters_set_earlier(struct meters *meters, struct meter *meter, const struct gcra_time *full);

#endif
