/*
 * The mirror: which copy is the current one, and the truth about how old it is.
 *
 * Owns the current copy. Who calls it: postgres/feed.c confirms, publishes and swaps; request.c reads it; server.c
 * reports it. All on the loop's thread. No loop and no database in here: times are given.
 *
 * Always holds: the revision never goes back, but where history was lost and a full load replaced the copy; the
 * database's time as estimated never goes back; age counts from when a read was SENT, by CLOCK_BOOTTIME.
 */
#ifndef APIKEYD_DAEMON_MIRROR_MIRROR_H
#define APIKEYD_DAEMON_MIRROR_MIRROR_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/mirror/copy.h"

struct mirror {
	struct copy *copy;     /* NULL: never loaded */
	int64_t confirmed_at;  /* boot µs at which the read that last confirmed the copy complete was sent */
	int64_t database_time; /* µs since 1970 UTC that this read brought */
	int64_t last_now;      /* highest estimate handed out */
	int64_t lease_until;   /* boot µs after which nothing is answered from what was confirmed */
	bool refused;	       /* nothing is answered, whatever the age: history was lost, and that is not accepted */
	uint64_t history;      /* counts copies that took the place of another, for stats */
	void (*on_rev)(void *data); /* called after the revision changed; NULL: nobody waits */
	void *on_rev_data;
};

/* Microseconds of CLOCK_BOOTTIME: goes on while the machine sleeps, and is read afresh each time. */
int64_t mirror_boot_now(void);

void mirror_init(struct mirror *mirror);
void mirror_deinit(struct mirror *mirror); /* frees the copy */

/* The lease under which what is confirmed from now on may be answered from. Without a call there is no end to it. */
void mirror_lease(struct mirror *mirror, int64_t until);
/* It is out, or answering is refused: whatever the age, the daemon does not answer from it. */
bool mirror_is_out(const struct mirror *mirror, int64_t boot_now);

/* A read sent at `sent_at` saw the current revision complete, and the database's clock say `database_time`. */
void mirror_confirm(struct mirror *mirror, int64_t sent_at, int64_t database_time);
/* Publishes what is staged in the current copy as `rev`, confirms it, and tells who waits. */
void mirror_publish(struct mirror *mirror, uint64_t rev, int64_t sent_at, int64_t database_time);
/* Puts a loaded copy in place of the current one, which is returned for the caller to free (NULL: there was none). */
struct copy *mirror_swap(struct mirror *mirror, struct copy *copy, int64_t sent_at, int64_t database_time);

uint64_t mirror_rev(const struct mirror *mirror);		      /* 0: never loaded */
int64_t mirror_age_us(const struct mirror *mirror, int64_t boot_now); /* INT64_MAX: never loaded */
/* The database's time now: as of the last read plus what CLOCK_BOOTTIME went on since; never goes back. */
int64_t mirror_database_now(struct mirror *mirror, int64_t boot_now);

#endif
