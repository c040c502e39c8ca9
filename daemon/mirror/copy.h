/*
 * One complete copy of the store, in memory: catalog, organizations, pages, users with their roles, keys with
 * their narrowing, and the indexes over them.
 *
 * Owns all its memory. Who calls it: postgres/load.c fills a new one on a thread of its own; postgres/feed.c stages
 * changes into the current one, on the loop's thread; request.c reads it there.
 *
 * Always holds:
 * - A reader sees exactly the revision last published: what is staged is invisible until copy_publish, and all of
 *   it visible at once after.
 * - A thing's handle is stable, and never given to another thing within this copy: a reference that dangles can
 *   only find something that is gone. What was removed and comes back is another thing, and so is a page that comes
 *   back in another organization.
 * - Staging and tidying are bounded per call: one thing at a time; no call rebuilds a whole index, moves all of an
 *   organization's pages or all that is staged (each is cut into pieces that grow one by one).
 * - References between things are resolved while staging, in the order catalog, organizations, pages, users, keys.
 *   A reference to what does not stand in the copy is dropped (the thing referred to is not reachable) and counted.
 */
#ifndef APIKEYD_DAEMON_MIRROR_COPY_H
#define APIKEYD_DAEMON_MIRROR_COPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/mirror/denials.h"
#include "daemon/rule.h"
#include "proto/rpc.h"

enum { COPY_HASH_LEN = 32, COPY_PROOF_LEN = 16 };

struct copy;

/* An empty copy at revision 0, or NULL without memory. Expected counts size the indexes; 0 is fine. */
struct copy *copy_new(uint64_t expected_keys, uint64_t expected_pages, uint64_t expected_users);
void copy_free(struct copy *copy); /* NULL is fine. May be called on another thread once nobody reads */

/* ---- what the store says: rows as the load and the feed read them. All pointers are borrowed for the call. ---- */

struct copy_scope_row { /* name "resource:action" */
	struct rpc_text name;
	uint8_t levels; /* bits of rule_level */
};
struct copy_role_row {
	enum rule_role_place place;
	struct rpc_text name;
	uint16_t rank;
};
struct copy_grant_row { /* one cross of the role table */
	enum rule_role_place place;
	struct rpc_text role, scope;
	bool when_named;
};
struct copy_organization_row {
	int64_t id;
	struct rpc_text slug;
	bool suspended;
};
struct copy_page_row {
	int64_t id, organization_id;
	struct rpc_text slug;
	bool archived;
};
struct copy_role_at {
	int64_t id; /* of the organization or the page */
	struct rpc_text role;
};
struct copy_user_row {
	int64_t id;
	struct rpc_text email;
	bool suspended;
	const struct copy_role_at *organizations, *pages;
	uint32_t organization_count, page_count;
};
struct copy_key_row {
	keytext_id id;
	enum key_kind kind;
	int64_t owner_id;	/* user or organization */
	struct rpc_text access; /* "read" or "write"; absent for user keys */
	uint8_t hash[COPY_HASH_LEN];
	uint16_t pepper;
	uint16_t flags;				    /* RULE_REVOKED, RULE_DISABLED, RULE_NARROWED_* */
	int64_t not_before, expires_at, retired_at; /* as in rule_who */
	uint32_t rate_count, rate_period_s;	    /* where RULE_NARROWED_RATE */
	keytext_id successor;			    /* where has_successor */
	bool has_successor;
	const int64_t *pages;
	const struct rpc_text *scopes;
	const struct rule_network *networks;
	uint32_t page_count, scope_count, network_count;
};

/* What of that denies the key for its own sake. */
static inline struct denial copy_key_denial(const struct copy_key_row *row)
{
	return (struct denial){.flags = (uint8_t)(row->flags & DENIAL_FLAGS), .retired_at = row->retired_at};
}

/* ---- staging: 0, or -ENOMEM, -E2BIG (RULE_ROLES_MAX, RULE_SCOPES_MAX), -EINVAL (a row that cannot be) ----
 * After an error the copy's published part is still good, and copy_discard or copy_free must follow. */
int copy_put_catalog(struct copy *copy, const struct copy_scope_row *scopes, uint32_t scope_count,
		     const struct copy_role_row *roles, uint32_t role_count, const struct copy_grant_row *grants,
		     uint32_t grant_count);
int copy_put_organization(struct copy *copy, const struct copy_organization_row *row);
int copy_put_page(struct copy *copy, const struct copy_page_row *row);
int copy_put_user(struct copy *copy, const struct copy_user_row *row); /* the whole of the user's roles */
int copy_put_key(struct copy *copy, const struct copy_key_row *row);   /* the whole of its narrowing */
int copy_remove_organization(struct copy *copy, int64_t id);	       /* removing what is not there is fine */
int copy_remove_page(struct copy *copy, int64_t id);
int copy_remove_user(struct copy *copy, int64_t id);
int copy_remove_key(struct copy *copy, keytext_id id);

/* Makes all that is staged visible at once, as revision `rev` (not below the present one). Constant time. */
void copy_publish(struct copy *copy, uint64_t rev);
/*
 * Forgets what is staged (the read that brought it did not end well). Constant time: copy_tidy clears it away. A copy that
 * was never published is filled in place, unseen: copy_free is what forgets that.
 */
void copy_discard(struct copy *copy);
/*
 * Cleans up after a publish or a discard, at most `budget` things. Returns true while there is more to do. Must have
 * returned false before the next staging or publish begins (they see to it themselves, if they must, unbounded).
 */
bool copy_tidy(struct copy *copy, uint32_t budget);
/* True when what was removed has left so much behind that a fresh load is worth it. */
bool copy_is_worn(const struct copy *copy);

uint64_t copy_rev(const struct copy *copy);

/*
 * From now on copy_who says of each key what `held` denies, on top of what the store says. Borrowed for the copy's life, and
 * read each time: it may change meanwhile. NULL: nothing (as at first). Sums and counts know nothing of it.
 */
void copy_hold(struct copy *copy, const struct denials *held);

/* ---- reading ---- */

struct copy_organization {
	rule_handle handle;
	int64_t id;
	struct rpc_text slug;
	bool suspended;
};
struct copy_page {
	rule_handle handle, organization;
	int64_t id;
	struct rpc_text slug;
	bool archived;
};
struct copy_user {
	rule_handle handle;
	int64_t id;
	struct rpc_text email;
	bool suspended;
};
struct copy_key; /* a record of the copy; read it through the functions below */

/*
 * Look-ups of many at once, in passes (prefetch the index, then the records), since one by one each costs a cache
 * miss or two: ret[i] is NULL where there is none. The results are borrowed until the next staging, publish or tidy.
 * `found_keys` also prefetches owners and narrowing, so that copy_who is warm.
 */
void copy_find_keys(const struct copy *copy, const keytext_id *ids, uint32_t count, const struct copy_key **ret);
void copy_find_pages(const struct copy *copy, const struct rpc_text *slugs, uint32_t count,
		     struct copy_page *ret); /* handle 0: none; an absent text finds none */
bool copy_find_organization(const struct copy *copy, struct rpc_text slug, struct copy_organization *ret);
bool copy_find_user(const struct copy *copy, int64_t id, struct copy_user *ret);

rule_scope copy_find_scope(const struct copy *copy, struct rpc_text name); /* 0: not in the table */
const struct rule_catalog *copy_catalog(const struct copy *copy);

/* By handle; false where there is none. */
bool copy_organization(const struct copy *copy, rule_handle handle, struct copy_organization *ret);
bool copy_page(const struct copy *copy, rule_handle handle, struct copy_page *ret);

/* The key's stored hash, its pepper's version, and the proof that was remembered (all zero: none yet). */
const uint8_t *copy_key_hash(const struct copy *copy, const struct copy_key *key);
uint16_t copy_key_pepper(const struct copy_key *key);
const uint8_t *copy_key_proof(const struct copy_key *key);
/* Remembers a proof with the key: the only write a reader may do, on the loop's thread. */
void copy_key_remember(const struct copy_key *key, const uint8_t proof[COPY_PROOF_LEN]);

keytext_id copy_key_id(const struct copy_key *key);
bool copy_key_successor(const struct copy *copy, const struct copy_key *key, keytext_id *ret);
/* Fills the rule's view of the key (RULE_LIVE set, the user's standing in it, what is held) and, for a user key, its user. */
void copy_who(const struct copy *copy, const struct copy_key *key, struct rule_who *ret, struct copy_user *ret_user);

/* A user's roles. */
rule_role copy_user_organization_role(const struct copy *copy, rule_handle user, rule_handle organization);
rule_role copy_user_page_role(const struct copy *copy, rule_handle user, rule_handle page);
/* The one organization in which the user has a role; 0: none, or several. */
rule_handle copy_user_only_organization(const struct copy *copy, rule_handle user);
/* i-th role, i from 0; false past the end. *ret_handle is the organization's or page's. For whoami and pages. */
bool copy_user_organization_at(const struct copy *copy, rule_handle user, uint32_t i, rule_handle *ret_handle,
			       rule_role *ret_role);
bool copy_user_page_at(const struct copy *copy, rule_handle user, uint32_t i, rule_handle *ret_handle,
		       rule_role *ret_role);

/*
 * Walks the pages of one organization in the order of their slugs (byte order), from the first after `after`
 * (absent: from the start). Calls `each` until it returns false or the pages end.
 */
typedef bool (*copy_page_each)(void *data, const struct copy_page *page);
void copy_walk_pages(const struct copy *copy, rule_handle organization, struct rpc_text after, copy_page_each each,
		     void *data);

struct copy_counts {
	uint64_t organizations, pages, users, keys, scopes, roles;
	uint64_t dropped_references;
	uint64_t bytes; /* memory held, by our own account */
};
void copy_count(const struct copy *copy, struct copy_counts *ret);

#endif
