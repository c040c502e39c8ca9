/*
 * What becomes of a verdict: an event, one more of a roll-up, or a number.
 *
 * Owns an index of the roll-ups of the running minute, in ordinary memory, and what was used up of the rates. Who calls
 * it: request_groups.c, for every verdict, before its answer is written. No loop, no database, no clock but the one it is
 * given; no allocation and no system call once made.
 *
 * Always holds:
 * - Each verdict is counted exactly once: in a record of the spool, or in its counters of what is lost. An ALLOW that
 *   finds no room is the caller's to refuse, unless its stack goes on.
 * - What nobody has proven cannot make the spool full: keys that were not proven are counted by address, reason, stack
 *   and caller, addresses up to a rate; denials beyond their rates are counted with less said of them; and the last
 *   quarter of the spool takes ALLOWs alone.
 * - Roll-ups are partial: the same minute may have several that say the same but for their count. Whoever reads sums them.
 */
#ifndef APIKEYD_DAEMON_AUDIT_ROLLUP_H
#define APIKEYD_DAEMON_AUDIT_ROLLUP_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/audit/spool.h"
#include "proto/rpc.h"

struct rollup;

/* Limits, which may change at any time. */
struct rollup_limits {
	uint32_t events_per_second;  /* of one caller and reason; beyond it they are rolled up */
	uint32_t sources_per_minute; /* roll-ups with an address that may begin; beyond it they have none */
	uint32_t denials_per_minute; /* roll-ups of refusals with scope and page; beyond it they have none */
};

struct rollup_verdict {
	enum reason reason;
	enum rpc_method method;
	unsigned how;			  /* bits of enum ledger_how */
	struct rpc_text stack;		  /* absent: there is none of that name */
	struct rpc_text scope, page, org; /* absent: none, or none that the copy knows */
	uint64_t hint;			  /* another one for another scope or page, where that is known cheaply */
	keytext_id key_id;		  /* 0: not proven */
	const struct rpc_addr *addr;
	uint32_t uid;
	bool stale, explain;
	uint64_t rev, age_ms;
	int64_t now;  /* µs since 1970, by the database's clock */
	int64_t boot; /* µs of CLOCK_BOOTTIME */
};

struct rollup_counts {
	uint64_t events, rollups; /* records that were put into the spool */
	uint64_t counted;	  /* verdicts that only counted a roll-up up */
	uint64_t full;		  /* verdicts that found no room */
	/* beyond a limit: */
	uint64_t limit_events, limit_sources, limit_denials;
};

/* `spool` is borrowed. NULL without memory. */
struct rollup *rollup_new(struct spool *spool, const struct rollup_limits *limits);
void rollup_free(struct rollup *rollup); /* NULL is fine */
void rollup_configure(struct rollup *rollup, const struct rollup_limits *limits);

/* Records it. False: it is an ALLOW, there is no room, and nothing was recorded: what is answered instead must be. */
bool rollup_record(struct rollup *rollup, const struct rollup_verdict *verdict);
/*
 * Before many verdicts of proven keys are recorded: fetches into the processor's caches where they would be counted, in two
 * passes, since one by one each costs a miss in the index and another in the spool. rollup_aim of all of them, then
 * rollup_fetch of what each returned. Nothing hangs on whether they come. A refusal beyond its rate is counted under the
 * hint 0.
 */
uint64_t rollup_aim(const struct rollup *rollup, enum reason reason, keytext_id key_id, uint64_t hint, uint32_t uid,
		    uint32_t stack_len);
void rollup_fetch(const struct rollup *rollup, uint64_t aim);

/* There is room for whatever comes. */
bool rollup_is_open(const struct rollup *rollup);
/* Whether an ALLOW would find room now. */
bool rollup_has_room(struct rollup *rollup, const struct rollup_verdict *verdict);

const struct rollup_counts *rollup_counts(const struct rollup *rollup);

#endif
