/*
 * Freshness: which state the copy is in by its age, since when, and how long it was in each.
 *
 * Owns a timer. Who calls it: request.c takes the state of each batch from freshness_of, and tells (through server.c)
 * when that is another one than before; server.c makes it, changes its configuration and closes it; stats.c reports
 * it. On the loop's thread.
 *
 * Always holds: each change of state is logged and counted once, before the first answer that was made in the new one.
 * States begin when the age says so, not when it is looked at, so that their times add up. While the copy is fresh the
 * timer comes once in max_stale_ms, however many polls succeed.
 */
#ifndef APIKEYD_DAEMON_FRESHNESS_H
#define APIKEYD_DAEMON_FRESHNESS_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "daemon/config.h"
#include "daemon/mirror/mirror.h"
#include "proto/value.h"

enum freshness_state {
	FRESHNESS_NOT_LOADED = 0, /* there was never a copy */
	FRESHNESS_FRESH,	  /* confirmed within max_stale_ms */
	FRESHNESS_GRACE,	  /* older, and some scope still has offline_grace */
	FRESHNESS_STALE,	  /* older than any grace, or its lease is out */
	FRESHNESS_STATES
};

/* "not_loaded", "fresh", "grace", "stale". */
const char *freshness_word(enum freshness_state state);

/* Of a copy that there is, by its age and by the lease that the database was told. */
static inline enum freshness_state freshness_of(const struct config *config, const struct mirror *mirror,
						int64_t boot_now, uint64_t age_ms)
{
	if (__builtin_expect(mirror_is_out(mirror, boot_now), 0))
		return FRESHNESS_STALE;
	if (__builtin_expect(age_ms <= config->max_stale_ms, 1))
		return FRESHNESS_FRESH;
	return age_ms <= (uint64_t)config->max_stale_ms + config_longest_grace_ms(config) ? FRESHNESS_GRACE
											  : FRESHNESS_STALE;
}

struct freshness {
	const struct config *config;
	const struct mirror *mirror;
	/* One line on why the copy is not confirmed, for the log. */
	void (*why)(void *data, char *out, size_t size);
	void *why_data;
	uv_timer_t timer;
	bool closed;
	enum freshness_state state;
	int64_t since;	   /* boot µs: when this state began */
	int64_t fresh_end; /* boot µs: when it ceased to be fresh, or to be not loaded */
	uint32_t over_ms;  /* FRESHNESS_GRACE: graces up to this one were told to be over */
	uint64_t lasted_us[FRESHNESS_STATES], entered[FRESHNESS_STATES];
};

void freshness_init(struct freshness *freshness, uv_loop_t *loop, const struct config *config,
		    const struct mirror *mirror, void (*why)(void *data, char *out, size_t size), void *data);
/* Looks at the copy's age at `now` (boot µs), and tells what has changed since the last look. */
void freshness_look(struct freshness *freshness, int64_t now);
void freshness_configure(struct freshness *freshness, const struct config *config);
/* Starts to close the timer. Nothing is looked at any more. */
void freshness_close(struct freshness *freshness);
/* Adds the state and its counters to the map of `stats`. */
bool freshness_stats(const struct freshness *freshness, int64_t now, struct arena *arena, struct value *map);

#endif
