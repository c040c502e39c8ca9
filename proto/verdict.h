/*
 * Verdicts and reasons, and their words on the wire.
 *
 * The one list of them: the daemon, the library, the command line and the SQL oracle use these
 * words and no others. Each reason belongs to exactly one verdict, so a reason alone is a whole
 * answer. No state, no I/O.
 *
 * Always holds: zeroed memory is VERDICT_DENY with REASON_POLICY; a fault is never VERDICT_ALLOW.
 */
#ifndef APIKEYD_PROTO_VERDICT_H
#define APIKEYD_PROTO_VERDICT_H

#include <stdbool.h>
#include <stddef.h>

enum verdict {
	VERDICT_DENY = 0,    /* a decision */
	VERDICT_ALLOW,	     /* a decision */
	VERDICT_UNAVAILABLE, /* a fault: nobody could decide */
};

/* In the order of the rule; see PROTOCOL.md for which of them a host service may show to the world.
 */
enum reason {
	REASON_POLICY = 0, /* deny: a module's own, and what zeroed memory says */
	/* allow */
	REASON_OK,
	/* deny: the key */
	REASON_MALFORMED_KEY,
	REASON_UNKNOWN_KEY,
	REASON_REVOKED,
	REASON_RETIRED,
	REASON_DISABLED,
	REASON_NOT_YET_VALID,
	REASON_EXPIRED,
	REASON_USER_SUSPENDED,
	REASON_NETWORK,
	/* deny: the place */
	REASON_UNKNOWN_SCOPE,
	REASON_UNKNOWN_PAGE,
	REASON_NOT_MEMBER,
	REASON_ORG_SUSPENDED,
	REASON_PAGE_ARCHIVED,
	REASON_PAGE_NOT_GRANTED,
	/* deny: the right */
	REASON_SCOPE_NOT_GRANTED,
	/* deny: policy about the question */
	REASON_RATE_LIMITED,
	REASON_CALLER,
	REASON_NO_STACK,
	/* unavailable */
	REASON_NOT_LOADED,
	REASON_STALE,
	REASON_BEHIND,
	REASON_TIMEOUT,
	REASON_OVERLOAD,
	REASON_MODULE_FAULT,
	REASON_AUDIT_FULL,
	REASON_NO_PEPPER,
	REASON_COUNT /* not a reason: how many there are */
};

/* The verdict that a reason stands for. A value outside the enumeration is VERDICT_DENY. */
enum verdict verdict_of(enum reason reason);

/* Wire words: "allow", "deny", "unavailable"; never NULL ("deny" for a value outside the
 * enumeration). */
const char *verdict_word(enum verdict verdict);

/* Wire words such as "page_not_granted"; never NULL ("policy" for a value outside the enumeration).
 */
const char *reason_word(enum reason reason);

/*
 * The other way about, for those who read answers. `word` need not be terminated.
 * Returns true and sets *ret, or false with *ret untouched for a word that is not in the list.
 */
bool verdict_from_word(const char *word, size_t len, enum verdict *ret);
bool reason_from_word(const char *word, size_t len, enum reason *ret);

#endif
