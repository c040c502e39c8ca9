/*
 * The rule: may this principal do this scope in this place? Page 01 of the design, and PROTOCOL.md's reasons in
 * their order. The one statement of it in C; sql/ holds the other, and a property test compares the two.
 *
 * Pure: no loop, no database, no clock but the one it is given, no memory of its own. Who calls it: request.c, at
 * the core's own points of the groups account (rule_account), page (rule_place) and scope (rule_right). The facts
 * come from the mirror, or from any other module that identifies.
 *
 * Always holds: the rule's functions return REASON_OK to go on, any other reason is the answer; facts that are all
 * zero never pass (zeroed memory is DENY).
 */
#ifndef APIKEYD_DAEMON_RULE_H
#define APIKEYD_DAEMON_RULE_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/keytext.h"
#include "proto/rpc.h"
#include "proto/verdict.h"

enum {
	RULE_ROLES_MAX = 64,	/* rows of the role table, of all three places together */
	RULE_SCOPES_MAX = 1024, /* distinct scope names that one copy has met */
};

/* Handles of the mirror: dense, never used again for another thing within a copy. 0 is never a thing. */
typedef uint32_t rule_handle;
/* Index of a role in the catalog; 0: no role. */
typedef uint8_t rule_role;
/* Index of a scope in the catalog; 0: no scope. */
typedef uint16_t rule_scope;

enum rule_level { RULE_LEVEL_PAGE = 1, RULE_LEVEL_ORGANIZATION = 2 }; /* bits */

/* Where a role is held. `key` is an organization key's access, `read` or `write`. */
enum rule_role_place { RULE_ROLE_ORGANIZATION = 1, RULE_ROLE_PAGE, RULE_ROLE_KEY };

/* The scope and role tables, as data. Entry 0 of each array is unused. */
struct rule_catalog {
	uint16_t scope_count; /* highest index in use + 1 */
	uint8_t role_count;
	struct rule_scope_row {
		char name[RPC_SCOPE_MAX + 1];
		bool known;	     /* stands in the table now */
		uint8_t levels;	     /* bits of rule_level */
		bool reads;	     /* the action is `read`: what an archived page still allows */
		rule_scope write_of; /* of X:read: the index of X:write, which brings it in a key's own list; else 0 */
	} scopes[RULE_SCOPES_MAX];
	struct rule_role_row {
		char name[33];
		uint8_t place;			      /* enum rule_role_place; 0: no such role now */
		uint16_t rank;			      /* within a place, the smaller role has the lower rank */
		uint64_t holds[RULE_SCOPES_MAX / 64]; /* the role table: bit per scope */
		uint64_t when_named[RULE_SCOPES_MAX /
				    64]; /* those of `holds` that are held only when the key's own scopes name them */
	} roles[RULE_ROLES_MAX];
};

struct rule_network {
	uint8_t family; /* 4 or 6 */
	uint8_t prefix; /* bits */
	uint8_t bytes[16];
};

enum rule_flag {
	RULE_LIVE = 1, /* must be set: an identify module says that these facts are filled in */
	RULE_REVOKED = 2,
	RULE_DISABLED = 4,
	RULE_USER_SUSPENDED = 8,
	RULE_NARROWED_PAGES = 16, /* a flag without rows allows nothing */
	RULE_NARROWED_SCOPES = 32,
	RULE_NARROWED_NETWORKS = 64,
	RULE_NARROWED_RATE = 128, /* see rule_rate */
};

/* A proven principal. Arrays are borrowed, sorted ascending where that is said. */
struct rule_who {
	enum key_kind kind;
	uint16_t flags;
	rule_role access;			    /* organization keys: its role of place `key` */
	rule_handle organization;		    /* organization keys: its own */
	int64_t not_before, expires_at, retired_at; /* microseconds since 1970 UTC; INT64_MIN / INT64_MAX: none */
	const rule_handle *pages;		    /* sorted */
	const rule_scope *scopes;		    /* sorted; as the rows say: X:write stands for X:read too */
	const struct rule_network *networks;
	uint32_t page_count, scope_count, network_count;
	uint32_t rate_count, rate_period_s; /* RULE_NARROWED_RATE: how often in how many seconds */
};

/* What the question names, looked up, and what the principal is there. */
struct rule_where {
	rule_scope scope; /* 0: no such name */
	bool page_asked;
	rule_handle page;	       /* 0: no such page */
	rule_handle page_organization; /* of `page` */
	bool page_archived;
	bool organization_asked;
	rule_handle organization_named; /* 0: no such organization */
	/* user keys: the one organization in which the user has a role; 0 where there is none or more than one */
	rule_handle organization_only;
	/* filled in after rule_organization: */
	rule_role page_role;	     /* user keys: the user's own role on that page; 0: none */
	rule_role organization_role; /* user keys: in rule_organization; 0: none */
	bool organization_suspended; /* of rule_organization */
};

struct rule_missing {
	rule_scope scope; /* the scope that lacks */
	rule_role needs;  /* the smallest role (or access) that holds it; 0: the role is not what lacks, or none does */
};

/* Whether an address lies in one of the networks; none given lies in none. */
bool rule_in_networks(const struct rule_network *networks, uint32_t count, const struct rpc_addr *addr);

/* Group account: rule 3 and 4. `now`: microseconds since 1970 UTC by the database's clock. */
enum reason rule_account(const struct rule_who *who, int64_t now, const struct rpc_addr *addr);

/*
 * The end of group account: a key that is narrowed in its rate passes only where the rate was charged and held, so
 * that a stack without a module for that refuses such a key rather than letting it go unlimited.
 */
enum reason rule_rate(const struct rule_who *who, bool charged);

/* The organization that the question is about, from the first half of `where`; 0: none. */
rule_handle rule_organization(const struct rule_who *who, const struct rule_where *where);

/* Group page: rule 5 and 6. */
enum reason rule_place(const struct rule_catalog *catalog, const struct rule_who *who, const struct rule_where *where);

/* Group scope: rule 7. *ret_missing is set (or zeroed) always. */
enum reason rule_right(const struct rule_catalog *catalog, const struct rule_who *who, const struct rule_where *where,
		       struct rule_missing *ret_missing);

#endif
