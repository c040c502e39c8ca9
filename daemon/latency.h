/*
 * How long answers took: a histogram whose bounds are powers of two of a microsecond.
 *
 * Owns nothing. Who calls it: session_take.c and request_wait.c add, stats.c shows.
 * Always holds: what came of one read and went in one write is added at once, so that a read costs two looks at the clock,
 * of which request.c needs one anyway, and an answer nothing; bounds never change while the daemon runs, and what is beyond the last is in `count` alone.
 */
#ifndef APIKEYD_DAEMON_LATENCY_H
#define APIKEYD_DAEMON_LATENCY_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "proto/value.h"

enum {
	LATENCY_FIRST = 1,   /* bound i is 2^(LATENCY_FIRST + i) µs: from 2 µs ... */
	LATENCY_BOUNDS = 24, /* ... to 16.8 s */
};

/* Zeroed: empty. */
struct latency {
	uint64_t within[LATENCY_BOUNDS + 1]; /* by the least bound that holds; the last: by none */
	uint64_t sum_ns;
};

/* CLOCK_BOOTTIME, as mirror_boot_now, in ns. */
static inline uint64_t latency_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Adds `count` answers that took `ns` each. */
static inline void latency_add(struct latency *latency, uint64_t ns, uint32_t count)
{
	uint64_t us = ns / 1000 + (ns % 1000 != 0);
	unsigned at = us <= 1U << LATENCY_FIRST ? 0 : 64 - LATENCY_FIRST - (unsigned)__builtin_clzll(us - 1);

	latency->within[at < LATENCY_BOUNDS ? at : LATENCY_BOUNDS] += count;
	latency->sum_ns += ns * count;
}

/*
 * Adds a map `name` to `map`: `count`, `sum_us`, and for each bound, as le_<µs>, how many took no longer than that (those
 * of the bounds below among them). False without memory.
 */
bool latency_stats(const struct latency *latency, const char *name, struct arena *arena, struct value *map);

#endif
