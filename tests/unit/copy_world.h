/*
 * A naive model of what a copy holds: small arrays, all of it visible at a glance. Tests change a world at random,
 * stage the difference as the feed does, and compare every answer that the copy gives with the world.
 *
 * Always holds: a world is one that the store can hold (names are unique, nothing refers to what is not there).
 */
#ifndef APIKEYD_TESTS_UNIT_COPY_WORLD_H
#define APIKEYD_TESTS_UNIT_COPY_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/mirror/copy.h"

enum {
	WORLD_ORGANIZATIONS = 6,
	WORLD_PAGES = 20,
	WORLD_USERS = 8,
	WORLD_KEYS = 26, /* the first WORLD_USERS of them are one for each user */
	WORLD_SLUGS = 28,
	WORLD_SCOPES = 9, /* the first WORLD_STEADY of them never leave the table */
	WORLD_STEADY = 6,
	WORLD_ROLES = 10, /* so do the first WORLD_HELD of these */
	WORLD_HELD = 7,
	WORLD_NETWORKS = 3,
};

enum world_kind { WORLD_ORGANIZATION = 0, WORLD_PAGE, WORLD_USER, WORLD_KINDS };

struct world_organization {
	bool exists, suspended;
	unsigned slug;
};
struct world_page {
	bool exists, archived;
	unsigned slug, organization;
};
struct world_user {
	bool exists, suspended;
	unsigned email;
	unsigned organization_roles[WORLD_ORGANIZATIONS], page_roles[WORLD_PAGES]; /* role + 1; 0: none */
};
struct world_key {
	bool exists, has_successor;
	enum key_kind kind;
	unsigned owner, access, hash, successor, network_count;
	uint16_t pepper, flags;
	int64_t not_before, expires_at, retired_at;
	uint32_t pages, scopes; /* bits */
	struct rule_network networks[WORLD_NETWORKS];
	uint32_t rate_count, rate_period_s; /* where RULE_NARROWED_RATE */
};

struct world {
	uint64_t rev;
	struct {
		bool known;
		uint8_t levels;
	} scopes[WORLD_SCOPES];
	struct {
		bool known;
		uint16_t rank;
		uint8_t grants[WORLD_SCOPES]; /* 0: not held, 1: held, 2: when named */
	} roles[WORLD_ROLES];
	struct world_organization organizations[WORLD_ORGANIZATIONS];
	struct world_page pages[WORLD_PAGES];
	struct world_user users[WORLD_USERS];
	struct world_key keys[WORLD_KEYS];
};

/* Numbers that the seed determines. */
struct world_random {
	uint64_t state;
};
uint32_t world_below(struct world_random *random, uint32_t bound);

/* What was seen of one copy: a handle is never of another thing, a thing keeps its handle, a proof stays its hash's. */
struct world_seen {
	rule_handle handles[WORLD_KINDS][WORLD_PAGES]; /* of what is there now; 0: not known */
	bool renewed[WORLD_KINDS][WORLD_PAGES];	       /* by what is staged: it will be another thing */
	struct world_once {
		unsigned kind;
		int64_t id;
		rule_handle handle;
	} * once; /* all there ever were */
	uint32_t once_count, once_room;
	bool remembered[WORLD_KEYS];
};
void world_seen_deinit(struct world_seen *seen);

void world_init(struct world *world); /* a catalog and nothing else, revision 1 */
/* Up to `most` changes and what they bring with them, at a new revision. */
void world_change(struct world_random *random, const struct world *now, struct world *next, unsigned most);

struct world_stager {
	struct copy *copy;
	struct world_random
		*random; /* given: things are put more than once, and removed between, before they are right */
	const struct world *visible; /* given: compared now and then while it goes on */
	struct world_seen *seen;     /* may be NULL */
};
/* Stages what `to` has otherwise than `from`, in the order that the copy wants. 0 or the copy's error. */
int world_stage(const struct world_stager *stager, const struct world *from, const struct world *to);
/* What was staged has been published, or discarded. */
void world_settle(struct world_seen *seen, bool published);

/* Compares all that the copy shows; fails the test at the first difference. `seen` may be NULL. */
void world_compare(const struct copy *copy, const struct world *world, struct world_seen *seen);
/* Fails the test where a copy, with nothing staged and all tidied up, holds more or less than what readers see. */
void world_assert_clean(const struct copy *copy);
/* Remembers a proof with a key, as a check does. */
void world_remember(const struct copy *copy, const struct world *world, struct world_seen *seen, unsigned key);

/* ---- shared by the two files of the model ---- */

extern const char *const world_slugs[WORLD_SLUGS];
extern const char *const world_scope_names[WORLD_SCOPES];
extern const struct world_role_name {
	enum rule_role_place place;
	const char *name;
} world_role_names[WORLD_ROLES];
keytext_id world_key_id(unsigned key);
int64_t world_id(enum world_kind kind, unsigned i);
struct rpc_text world_text(const char *text);
void world_hash(const struct world_key *key, uint8_t ret[COPY_HASH_LEN]);

#endif
