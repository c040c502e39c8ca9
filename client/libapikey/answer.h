/*
 * Replies -> what apikey.h promises in its results. Shared by the blocking and the event-loop form.
 *
 * Always holds: whatever answer_read or answer_fail did, every result is a whole answer of the daemon, or zeroed
 * (which is DENY), or zeroed but for UNAVAILABLE; never something in between.
 */
#ifndef APIKEY_LIBAPIKEY_ANSWER_H
#define APIKEY_LIBAPIKEY_ANSWER_H

#include <stddef.h>

#include "client/apikey.h"
#include "client/libapikey/ask.h"
#include "proto/rpc.h"
#include "proto/value.h"

/* Where the answer to a question goes. The memory is the caller's. */
struct answer {
	enum ask_kind kind;
	size_t count; /* results: 1 but for ASK_CHECK_MANY */
	union {
		struct apikey_result *results; /* ASK_CHECK, ASK_CHECK_MANY */
		struct apikey_page_list *list;
		struct apikey_identity *identity;
	};
};

/* Leaves every result as a failure with `err` does, without memory; returns `err`. */
int answer_fail(const struct answer *answer, int err);

/*
 * Fills in from a reply that is no notice. Lists take the arena's memory over: it is empty then. 0, or a negative
 * errno with error.h's line set and answer_fail done.
 */
int answer_read(const struct answer *answer, struct arena *arena, const struct rpc_reply *reply);

/* The errno for a reply with an error, or for a notice; sets error.h's line. */
int answer_error(const struct rpc_reply *reply);

#endif
