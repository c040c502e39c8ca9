/*
 * Denials: by key id, what denies a key for its own sake (revoked, retired, disabled), of the few keys that have it.
 *
 * Owns its memory. Who uses it: journal.c keeps one of what the daemon knows and one of what it holds on to after a
 * lost history; postgres/load.c fills one beside a new copy; the copy is told of the second and denies by it.
 *
 * Always holds: a place is stable while its key stands there; no call moves more than a thousandth of the whole; no
 * more than `limit` keys. No loop, no log, no file.
 */
#ifndef APIKEYD_DAEMON_MIRROR_DENIALS_H
#define APIKEYD_DAEMON_MIRROR_DENIALS_H

#include "daemon/mirror/table.h"
#include "daemon/rule.h"

enum { DENIAL_FLAGS = RULE_REVOKED | RULE_DISABLED };

struct denial {
	uint8_t flags;	    /* of DENIAL_FLAGS */
	int64_t retired_at; /* as in rule_who; INT64_MAX: not retired */
};

static inline struct denial denial_none(void)
{
	return (struct denial){.retired_at = INT64_MAX};
}
static inline bool denial_is_none(struct denial denial)
{
	return !denial.flags && denial.retired_at == INT64_MAX;
}
static inline bool denial_is_same(struct denial a, struct denial b)
{
	return a.flags == b.flags && a.retired_at == b.retired_at;
}
/* All that either denies. */
static inline struct denial denial_join(struct denial a, struct denial b)
{
	return (struct denial){.flags = a.flags | b.flags,
			       .retired_at = a.retired_at < b.retired_at ? a.retired_at : b.retired_at};
}
/* Whether there is a time at which `a` lets a key live that `b` does not. What is revoked lets none. */
static inline bool denial_is_weaker(struct denial a, struct denial b)
{
	return !(a.flags & RULE_REVOKED) && !denial_is_same(denial_join(a, b), a);
}

struct denials {
	struct table places;
	struct index ids;
	struct hash_seed seed;
	uint32_t count, limit;
	uint32_t spare; /* a place that is free, and names the next; 0: none */
};

/* Empty. 0, or -errno where there are no random bytes for the seed; then there is nothing to deinit. */
int denials_init(struct denials *denials, uint32_t limit);
void denials_deinit(struct denials *denials); /* all zero is fine */
void denials_clear(struct denials *denials);  /* nobody stands there any more */

/* denial_none() where the key does not stand there. */
struct denial denials_of(const struct denials *denials, keytext_id id);
/* Puts the key, or takes it out where it is denial_none(). 0, -ENOSPC at the limit or -ENOMEM: nothing has changed. */
int denials_put(struct denials *denials, keytext_id id, struct denial denial);

/* Places go from 1 to below this. */
static inline uint32_t denials_end(const struct denials *denials)
{
	return denials->places.next;
}
/* False: nobody stands there. */
bool denials_at(const struct denials *denials, uint32_t place, keytext_id *ret_id, struct denial *ret);
size_t denials_bytes(const struct denials *denials);

#endif
