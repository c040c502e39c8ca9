/*
 * The answer to `stats`: every counter of the daemon, in maps of snake_case names with their units.
 *
 * Owns nothing. Who calls it: server.c, for sessions. Names are part of PROTOCOL.md: they are added to, not changed. Each
 * has a row in client/apikeyctl/metrics_table.c, which makes a metric of it, or says why there is none.
 */
#ifndef APIKEYD_DAEMON_STATS_H
#define APIKEYD_DAEMON_STATS_H

#include "daemon/audit/flush.h"
#include "daemon/confine/confine.h"
#include "daemon/freshness.h"
#include "daemon/mirror/mirror.h"
#include "daemon/postgres/feed.h"
#include "daemon/session.h"

struct stats_sources {
	const struct sessions *sessions;
	const struct request_core *core;
	const struct mirror *mirror;
	const struct freshness *freshness;
	const struct feed *feed;
	const struct writer *writer;
	const struct flush *flush;
	const struct admin *admin;
	const struct confine *confine;
	uint64_t started_at; /* seconds since 1970 UTC, by this host's clock */
	uint64_t uptime_ms;
	uint64_t reloads, reloads_failed;
	uint64_t starts_without_copy; /* 1 where limits.start_ms was over before there was a copy */
	bool stopping;
};

/* Adds all to `map`. False without memory. */
bool stats_fill(const struct stats_sources *sources, struct arena *arena, struct value *map);

#endif
