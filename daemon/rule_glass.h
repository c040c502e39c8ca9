/*
 * The rule for break-glass keys: what an administrator wrote down for a few hours, to be used while the store cannot
 * be reached. Judged by names, since it must do without the copy; what a copy knows, it still refuses.
 *
 * Pure, as rule.h. Who calls it: request_groups.c, where a module granted such a principal.
 *
 * Always holds: it never has a scope of a resource `member`, `apikey` or `org`, nor one at the organization's level;
 * it is good for its pages and scopes alone and ends within a day; zeroed facts never pass.
 */
#ifndef APIKEYD_DAEMON_RULE_GLASS_H
#define APIKEYD_DAEMON_RULE_GLASS_H

#include "daemon/rule.h"

enum { RULE_GLASS_HOURS_MAX = 24 };

struct rule_glass {
	struct rpc_text organization; /* slug */
	const struct rpc_text *pages, *scopes;
	uint32_t page_count, scope_count;
	const struct rule_network *networks; /* where narrowed_networks */
	uint32_t network_count;
	bool narrowed_networks;
	int64_t not_before, expires_at; /* microseconds since 1970 UTC; INT64_MIN: no beginning. An end there must be */
};

/* What the question names, and what the copy knows of it. */
struct rule_glass_where {
	struct rpc_text scope, page; /* page absent: organization level */
	struct rpc_text org;	     /* context org */
	bool known;		     /* there is a copy */
	bool fresh;		     /* and it is as good as any answer needs it */
	bool scope_known;	     /* as a scope of pages */
	bool page_known, page_archived, organization_suspended;
	struct rpc_text page_organization; /* slug; page_known */
};

/* Group account. `now`: microseconds since 1970 UTC. */
enum reason rule_glass_account(const struct rule_glass *glass, int64_t now, const struct rpc_addr *addr);
/* Group page. */
enum reason rule_glass_place(const struct rule_glass *glass, const struct rule_glass_where *where);
/* Group scope. */
enum reason rule_glass_right(const struct rule_glass *glass, const struct rule_glass_where *where);

#endif
