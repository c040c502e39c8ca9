/*
 * MessagePack-RPC as apikeyd speaks it: requests and answers <-> structs. The contract for people
 * is PROTOCOL.md.
 *
 * The daemon decodes requests and encodes answers; clients the other way about. Only this file's
 * implementation (and value.c's neighbour in it) knows MessagePack. No I/O, no logging.
 *
 * Always holds: what is decoded was first passed by scan_message. Decoded text is borrowed: it
 * points into the message or into the decoder and is good until rpc_decoder_reset or until the
 * message's bytes go, whichever is first. Whoever must wait copies. Specification:
 * https://github.com/msgpack-rpc/msgpack-rpc/blob/master/spec.md
 */
#ifndef APIKEYD_PROTO_RPC_H
#define APIKEYD_PROTO_RPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/keytext.h"
#include "proto/value.h"
#include "proto/verdict.h"

enum {
	RPC_PROTOCOL = 1, /* the number that `hello` names; it changes when an old client could
			     misread an answer */
	RPC_MESSAGE_MAX = 65536,
	RPC_KEY_MAX = 128,
	RPC_SCOPE_MAX = 64,
	RPC_PAGE_MAX = 255,
	RPC_NAME_MAX = 255, /* org, stack, client, version, after */
	RPC_PAIRS_MAX = 1024,
	RPC_COST_MAX = 1000000,
	RPC_DEADLINE_MAX_MS = 600000,
};

/* Text of known length, not terminated; data NULL: not there. Empty text has data and len 0. */
struct rpc_text {
	const char *data;
	uint32_t len;
};

/* An IP address. family 0: none given; 4: bytes[0..3]; 6: bytes[0..15]. ::ffff:a.b.c.d is the IPv4
 * address a.b.c.d. */
struct rpc_addr {
	uint8_t family;
	uint8_t bytes[16];
};

/* Parses an address in its text form, as inet_pton does (no zone, no prefix length). False leaves
 * *ret untouched. */
bool rpc_addr_parse(const char *text, size_t len, struct rpc_addr *ret);

/* ---- errors: a request that could not be understood, or an administrative one that could not be
 * done ---- */

enum rpc_error_code {
	RPC_OK = 0,
	RPC_MALFORMED,	    /* "malformed": not MessagePack-RPC, or past a limit of the scanner; the
			       connection ends */
	RPC_UNKNOWN_METHOD, /* "unknown_method" */
	RPC_BAD_PARAMS,	    /* "bad_params": the message names the parameter, what it holds and what
			       would be right */
	RPC_LIMIT,	    /* "limit": a limit of the configuration was passed; the message names the
		      setting */
	/* administration only */
	RPC_NOT_FOUND,	 /* "not_found" */
	RPC_EXISTS,	 /* "exists" */
	RPC_INVALID,	 /* "invalid": the database's constraints refuse the value */
	RPC_REFUSED,	 /* "refused": never allowed, such as un-revoking */
	RPC_UNAVAILABLE, /* "unavailable": the database cannot be asked now, or the outcome is not
			    known */
	RPC_INTERNAL,	 /* "internal" */
	RPC_ERROR_COUNT
};

const char *rpc_error_word(enum rpc_error_code code); /* never NULL */

struct rpc_error {
	enum rpc_error_code code;
	char message[240]; /* one line for people; never holds a key */
};

/* ---- requests ---- */

enum rpc_method {
	RPC_METHOD_HELLO = 0,
	RPC_METHOD_CHECK,
	RPC_METHOD_CHECK_MANY,
	RPC_METHOD_PAGES,
	RPC_METHOD_WHOAMI,
	RPC_METHOD_EXPLAIN, /* as check; the daemon says to whom */
	RPC_METHOD_STATS,
	RPC_METHOD_ADMIN, /* any other name, on an administration socket */
	RPC_METHOD_COUNT
};

const char *rpc_method_word(enum rpc_method method); /* "check", ...; "admin" for RPC_METHOD_ADMIN */

/* Which methods a socket knows: hello and stats are on both; the others on one. */
enum rpc_service {
	RPC_SERVICE_CHECK = 0,
	RPC_SERVICE_ADMIN,
};

struct rpc_context {
	struct rpc_text stack; /* absent: the listening socket's, else `default` */
	struct rpc_text org;   /* slug */
	struct rpc_text after; /* `pages`: slugs after this one */
	struct rpc_addr addr;
	uint64_t min_rev;     /* 0: any */
	uint32_t deadline_ms; /* 0: the daemon's default */
	uint32_t cost;	      /* 1 where absent */
};

struct rpc_pair {
	struct rpc_text scope;
	struct rpc_text page; /* absent: organization level */
};

struct rpc_request {
	uint32_t msgid;
	enum rpc_method method;
	bool notification; /* no answer is wanted; only read to be counted and dropped */
	struct rpc_text key;
	struct rpc_pair pair;	      /* check, explain; pages uses pair.scope alone */
	const struct rpc_pair *pairs; /* check_many */
	uint32_t pair_count;
	struct rpc_context context;
	struct rpc_text client, client_version; /* hello */
	struct rpc_text admin_method;		/* RPC_METHOD_ADMIN */
	const struct value *admin_params;	/* RPC_METHOD_ADMIN: one map (an empty one where params was []) */
};

/* Memory that decoding uses again and again: nothing is allocated once warm. One per reader. */
struct rpc_decoder;
struct rpc_decoder *rpc_decoder_new(void);
void rpc_decoder_free(struct rpc_decoder *decoder); /* NULL is fine; wipes */
/* Everything decoded since the last reset goes. Call once the answers of one read are encoded. */
void rpc_decoder_reset(struct rpc_decoder *decoder);

/*
 * Decodes one whole message that scan_message has passed.
 * Returns RPC_OK with *ret filled. Otherwise *ret_error says what is wrong, and *ret has a right
 * msgid where one could be read: RPC_MALFORMED has none (the stream is at fault: send
 * rpc_put_notice and close), the other codes do. Unknown keys of the context are an RPC_BAD_PARAMS,
 * since a misspelt restriction must not be ignored.
 */
enum rpc_error_code rpc_decode_request(struct rpc_decoder *decoder, enum rpc_service service, const uint8_t *message,
				       size_t size, struct rpc_request *ret, struct rpc_error *ret_error);

/* ---- bytes out ---- */

/* Bytes that grow. Zeroed is valid and empty. After a failed allocation `failed` stays true and len
 * means nothing. */
struct rpc_buffer {
	uint8_t *data;
	size_t len, cap;
	bool failed;
};
void rpc_buffer_deinit(struct rpc_buffer *buffer); /* wipes, frees, leaves it zeroed */

/* ---- answers (daemon) ---- */

struct rpc_answer {
	enum reason reason; /* the verdict follows from it */
	uint64_t rev;
	uint64_t age_ms;
	bool stale;
	/* About the key: set only where the key was proven. */
	bool proven;
	char key_id[KEYTEXT_ID_LEN + 1];
	enum key_kind kind;
	struct rpc_text org, user, page; /* slug, email, slug */
	struct rpc_text missing_scope, needs_role;
	bool has_retry;
	uint64_t retry_after_ms; /* also of UNAVAILABLE */
	bool has_expiry;
	int64_t expires_at;		    /* seconds since 1970 UTC, rounded down */
	char successor[KEYTEXT_ID_LEN + 1]; /* empty: none */
	/* pages */
	bool has_pages;
	const struct rpc_text *pages;
	uint32_t page_count;
	struct rpc_text next; /* present: more pages stand after this slug; give it as `after` */
	/* whoami: further fields of the map, a VALUE_MAP; NULL: none */
	const struct value *more;
	/* explain: a VALUE_LIST, which says why also of a key that was not proven; NULL: none. Not read. */
	const struct value *trace;
};

/* [1, msgid, nil, map]. Fields that do not apply are left out; nothing about the key where `proven`
 * is false. */
void rpc_put_answer(struct rpc_buffer *out, uint32_t msgid, const struct rpc_answer *answer);
/* check_many: the head of the array, then `count` maps by rpc_put_answer_map. */
void rpc_put_answers_head(struct rpc_buffer *out, uint32_t msgid, uint32_t count);
void rpc_put_answer_map(struct rpc_buffer *out, const struct rpc_answer *answer);
/* [1, msgid, nil, result] for hello, stats and administration. */
void rpc_put_result(struct rpc_buffer *out, uint32_t msgid, const struct value *result);
/* [1, msgid, [code, message], nil] */
void rpc_put_error(struct rpc_buffer *out, uint32_t msgid, const struct rpc_error *error);
/* [2, "error", [code, message]]: why the daemon is about to close a connection whose stream it
 * cannot follow. */
void rpc_put_notice(struct rpc_buffer *out, const struct rpc_error *error);

/* ---- requests (clients) ---- */

void rpc_put_hello(struct rpc_buffer *out, uint32_t msgid, struct rpc_text client, struct rpc_text version);
/* context NULL: left out. Absent fields of it are left out. `addr` is given as text by the caller:
 * see below. */
struct rpc_context_text {
	struct rpc_text stack, org, after, addr;
	uint64_t min_rev;
	uint32_t deadline_ms;
	uint32_t cost; /* 0 and 1: left out */
};
void rpc_put_check(struct rpc_buffer *out, uint32_t msgid, struct rpc_text key, struct rpc_pair pair,
		   const struct rpc_context_text *context);
void rpc_put_explain(struct rpc_buffer *out, uint32_t msgid, struct rpc_text key, struct rpc_pair pair,
		     const struct rpc_context_text *context);
void rpc_put_check_many(struct rpc_buffer *out, uint32_t msgid, struct rpc_text key, const struct rpc_pair *pairs,
			uint32_t count, const struct rpc_context_text *context);
void rpc_put_pages(struct rpc_buffer *out, uint32_t msgid, struct rpc_text key, struct rpc_text scope,
		   const struct rpc_context_text *context);
void rpc_put_whoami(struct rpc_buffer *out, uint32_t msgid, struct rpc_text key,
		    const struct rpc_context_text *context);
/* [0, msgid, method, [params]], or [0, msgid, method, []] where params is NULL. stats and
 * administration. */
void rpc_put_call(struct rpc_buffer *out, uint32_t msgid, const char *method, const struct value *params);

/* ---- answers (clients) ---- */

struct rpc_reply {
	bool notice; /* [2, "error", ...]: the daemon is about to close; error is set, msgid is not
		      */
	uint32_t msgid;
	struct rpc_error error; /* code RPC_OK: there is a result. An unknown code word reads as
				   RPC_INTERNAL */
	struct value result;	/* in the arena */
};

/*
 * Decodes one whole message that scan_message has passed. Returns true and fills *ret, everything
 * in it living in `arena`; false where it is no response, or memory ran out.
 */
bool rpc_decode_reply(struct arena *arena, const uint8_t *message, size_t size, struct rpc_reply *ret);

/*
 * Reads a verdict map; text is borrowed from it, `more` is the whole map (for whoami), `pages`
 * lives in `arena`. A reason that this version does not know reads as REASON_POLICY with a DENY and
 * as REASON_MODULE_FAULT with an UNAVAILABLE (the word itself is in `more`). Returns false, with
 * *ret zeroed (which is DENY), where it is no map, lacks verdict, reason, rev or age_ms, says a
 * verdict that is unknown or not the one of its reason, or has a field of a wrong type: a client
 * treats that as a fault. Fields that are not known are passed over.
 */
bool rpc_read_answer(struct arena *arena, const struct value *map, struct rpc_answer *ret);

#endif
