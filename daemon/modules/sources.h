/*
 * What a line `penalty` remembers: sources of bad keys, by network, in memory of one size.
 *
 * Owns its memory, taken once by sources_new. Who calls it: penalty.c.
 *
 * Always holds: a source is found by its whole network, never by a hash alone, so that nobody is taken for somebody
 * else. Sources share sets of SOURCES_WAYS; where a set is full the one whose allowance is used up least makes room.
 */
#ifndef APIKEYD_DAEMON_MODULES_SOURCES_H
#define APIKEYD_DAEMON_MODULES_SOURCES_H

#include <stdint.h>

#include "daemon/apikeyd-module.h"
#include "daemon/modules/gcra.h"

enum { SOURCES_WAYS = 8, SOURCES_MAX = 4194304 };

struct sources;

struct source {
	struct gcra_time full;		/* its allowance is full again then */
	int64_t list_us;		/* when a check_many of its last counted */
	struct apikeyd_network network; /* family 0: nobody */
};

/* For `entries` sources, from 1, rounded up to SOURCES_WAYS times a power of two. 0, or -errno. */
int sources_new(uint32_t entries, struct sources **ret);
void sources_free(struct sources *sources); /* NULL is fine */

/* The network that an address is in: `prefix4` or `prefix6` bits of it, the others 0. The address has a family. */
struct apikeyd_network sources_network(const struct apikeyd_addr *addr, unsigned prefix4, unsigned prefix6);

/* NULL: it is not remembered. Good until the next sources_take. */
struct source *sources_find(struct sources *sources, const struct apikeyd_network *network);

/* The same, but one that is not remembered takes a place and starts with a full allowance. */
struct source *sources_take(struct sources *sources, const struct apikeyd_network *network);

#endif
