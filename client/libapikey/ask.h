/*
 * A question as the caller put it -> checked -> the bytes of a request. Shared by the blocking and the event-loop form.
 *
 * Owns the list of pairs; all text stays the caller's and must live until ask_deinit.
 * Always holds: a question that ask_init passed is one that the daemon understands, but for what only it knows.
 */
#ifndef APIKEY_LIBAPIKEY_ASK_H
#define APIKEY_LIBAPIKEY_ASK_H

#include <stddef.h>
#include <stdint.h>

#include "client/apikey.h"
#include "proto/rpc.h"

enum { ASK_TRIES = 3 }; /* how often one question is asked, where its connection dies each time */

enum ask_kind {
	ASK_CHECK = 0,
	ASK_CHECK_MANY,
	ASK_PAGES,  /* one pair, its scope alone */
	ASK_WHOAMI, /* no pair */
};

struct ask {
	enum ask_kind kind;
	int timeout_ms; /* of the whole call */
	struct rpc_text key;
	struct rpc_pair one, *pairs; /* pairs: &one, or a block of ours */
	uint32_t count;
	struct rpc_context_text context;
};

/* 0, -EINVAL, -E2BIG, -ENOMEM with error.h's line set. ask_deinit is right after failure too. */
int ask_init(struct ask *ask, enum ask_kind kind, const char *key, const struct apikey_pair *pairs, size_t count,
	     const struct apikey_context *context, int timeout_ms);
void ask_deinit(struct ask *ask);

/*
 * Adds the request to `out`, telling the daemon a deadline a little before ours, `left_ms` from now. 0, -EMSGSIZE
 * (more than one message may hold) or -ENOMEM with error.h's line set; `out` is then of no use.
 */
int ask_encode(const struct ask *ask, uint32_t msgid, int64_t left_ms, struct rpc_buffer *out);

#endif
