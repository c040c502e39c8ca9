/*
 * libapikey: asks apikeyd whether an API key may do a scope on a status page.
 *
 *     struct apikey *handle;
 *     struct apikey_result result;
 *
 *     if (apikey_open(NULL, &handle))
 *             die(apikey_error());
 *     apikey_check(handle, key, "incident:write", "acme", NULL, &result);
 *     if (result.verdict == APIKEY_ALLOW)
 *             ...
 *     apikey_close(handle);
 *
 * VERDICTS. ALLOW and DENY are decisions. UNAVAILABLE is a fault: nobody could decide; answer 503, not 403. A result is
 * never ALLOW unless the daemon said so for this very question: it is zeroed first, zero is DENY, and each failure
 * leaves it DENY (-EINVAL: the call itself is wrong) or UNAVAILABLE (everything else). Code that forgets to look at the
 * returned number is therefore safe.
 *
 * FRESHNESS. The daemon answers from a copy of the store; age_ms says how long ago that was last known to be complete. A
 * result with `stale` set is as good a decision as any where the daemon's administrators have allowed that (offline_grace),
 * made while the store cannot be reached: what was revoked since, it does not know. A caller to whom that is not good
 * enough for a question takes it for UNAVAILABLE. Every kind of question has both fields.
 *
 * ASKING AGAIN. The library asks no question again because of its verdict. Where retry_after_ms is set, asking again
 * before that is in vain, or most likely; it is there with DENY rate_limited, and with UNAVAILABLE not_loaded, stale and
 * behind. What waits longer than the caller's own client does is better answered with 503 and Retry-After.
 *
 * RETURNS. 0: an answer came, the verdict is in the result. Otherwise a negative errno:
 *   -EINVAL           an argument is wrong; the same call will never work
 *   -E2BIG            options or a context made for a newer library have a field set that this one does not know
 *   -EMSGSIZE         the question does not fit into one message of 64 KiB (check_many)
 *   -ETIMEDOUT        no answer within the time allowed
 *   -EBUSY            all connections of the handle stayed in use, its queue is full, or a limit of the daemon is passed
 *   -ENOENT, -ECONNREFUSED, -EACCES
 *                     nobody listens at the socket, or not for us
 *   -ECONNRESET       the daemon closed before it answered, three times in a row
 *   -EPROTO           what came is no answer
 *   -EPROTONOSUPPORT  the daemon speaks another version of the protocol
 *   -EOPNOTSUPP       the daemon does not know this kind of question
 *   -EREMOTEIO        the daemon answered with a fault of its own
 *   -ECANCELED        apikey_async_cancel or apikey_async_close came first
 *   -ECHILD           a struct apikey_async was taken through fork()
 *   -ENOMEM, -EMFILE and the like, as everywhere
 * apikey_error() is one line for people about the last failure in the calling thread.
 *
 * TIME. Each call has one deadline, on the monotonic clock, over everything: waiting for a free connection, connecting,
 * sending, waiting, receiving. A call never blocks past it (but for the scheduler). A full listen backlog, a daemon
 * that is stopped, or one that sends half an answer make no difference.
 *
 * CONNECTIONS. Kept and reused, remade when the daemon has gone and come back. When a connection turns out to be dead
 * before the answer, the question is asked again on a new one, twice at most and within the same deadline: questions
 * change nothing but rate counters, which a daemon that was restarted begins anew, so that is safe. A socket that the
 * service manager holds takes connections while the daemon is restarted, and then nobody notices; where the daemon makes
 * its own, nobody listens meanwhile, which is reported at once.
 *
 * THREADS. A struct apikey may be used by any number of threads at once: it is a small pool of connections, and each
 * call has one to itself. What is passed to a call (results, contexts, lists) belongs to the caller and is not shared.
 * apikey_close must be the last call on a handle. A struct apikey_async belongs to one thread at a time.
 *
 * FORK. A struct apikey works in the child, too, where no other thread was inside a call on it at the moment of fork():
 * the child makes connections of its own. A struct apikey_async does not: in the child, call nothing but
 * apikey_async_close, which then calls no callback and does not disturb the parent's connection.
 *
 * SIGNALS. No signal is raised (SIGPIPE neither), and EINTR never comes out. Descriptors are close-on-exec.
 *
 * KEYS. The secret text of a key is copied into send buffers only, which are wiped once sent (struct apikey_async: once
 * answered). It is never in an error text.
 *
 * VERSIONS. Names that begin with apikey_ and APIKEY_ are the library's. Options and contexts carry their size, so that
 * they may grow at their end without a new soname: begin with APIKEY_OPTIONS_INIT and APIKEY_CONTEXT_INIT. Results have
 * reserved room. Enumerations may grow: treat a reason that you do not know as its verdict says.
 */
#ifndef APIKEY_H
#define APIKEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- verdicts and reasons ---- */

enum apikey_verdict {
	APIKEY_DENY = 0,    /* a decision */
	APIKEY_ALLOW,	    /* a decision */
	APIKEY_UNAVAILABLE, /* a fault: nobody could decide */
};

enum apikey_reason {
	APIKEY_REASON_NO_ANSWER = 0, /* there was none: the call returned non-zero; what zeroed memory says */
	APIKEY_REASON_OTHER = 1,     /* one that this library does not know: see reason_word */
	/* ALLOW */
	APIKEY_REASON_OK = 2,
	/* DENY: the key */
	APIKEY_REASON_MALFORMED_KEY = 3, /* no key's text at all: wrong length, alphabet or checksum */
	APIKEY_REASON_UNKNOWN_KEY = 4,	 /* no such id, or a wrong secret */
	APIKEY_REASON_REVOKED = 5,
	APIKEY_REASON_RETIRED = 6, /* rotated away: see successor */
	APIKEY_REASON_DISABLED = 7,
	APIKEY_REASON_NOT_YET_VALID = 8,
	APIKEY_REASON_EXPIRED = 9,
	APIKEY_REASON_USER_SUSPENDED = 10,
	APIKEY_REASON_NETWORK = 11, /* outside the key's networks, or no `addr` was given */
	/* DENY: the place */
	APIKEY_REASON_UNKNOWN_SCOPE = 12, /* no such scope, or not at this level */
	APIKEY_REASON_UNKNOWN_PAGE = 13,  /* no such page for this key */
	APIKEY_REASON_NOT_MEMBER = 14,
	APIKEY_REASON_ORG_SUSPENDED = 15,
	APIKEY_REASON_PAGE_ARCHIVED = 16,
	APIKEY_REASON_PAGE_NOT_GRANTED = 17, /* outside the pages that the key is narrowed to */
	/* DENY: the right */
	APIKEY_REASON_SCOPE_NOT_GRANTED = 18, /* see missing_scope and needs_role */
	/* DENY: policy */
	APIKEY_REASON_RATE_LIMITED = 19, /* see retry_after_ms */
	APIKEY_REASON_CALLER = 20,	 /* this process may not ask */
	APIKEY_REASON_NO_STACK = 21,	 /* context.stack names none */
	APIKEY_REASON_POLICY = 22,
	/* UNAVAILABLE */
	APIKEY_REASON_NOT_LOADED = 23, /* the daemon has no copy yet */
	APIKEY_REASON_STALE = 24,      /* its copy is too old, or too old to say so of what it does not hold */
	APIKEY_REASON_BEHIND = 25,     /* min_rev was not reached in time */
	APIKEY_REASON_TIMEOUT = 26,
	APIKEY_REASON_OVERLOAD = 27,
	APIKEY_REASON_MODULE_FAULT = 28,
	APIKEY_REASON_AUDIT_FULL = 29,
	APIKEY_REASON_NO_PEPPER = 30,
};

/* "deny", "allow", "unavailable"; "deny" for a value that is none. Never NULL. */
const char *apikey_verdict_word(enum apikey_verdict verdict);
/* The word of the protocol, such as "page_not_granted"; "no_answer", "other". Never NULL. */
const char *apikey_reason_word(enum apikey_reason reason);

/* Room for texts, the terminator included. A daemon that sends a longer one is -EPROTO; nothing is ever cut off. */
#define APIKEY_WORD_MAX	  80 /* reason, scope, role */
#define APIKEY_KEY_ID_MAX 16
#define APIKEY_SLUG_MAX	  256 /* organization, page */
#define APIKEY_USER_MAX	  324 /* e-mail address */

#define APIKEY_PAIRS_MAX      1024   /* of one apikey_check_many */
#define APIKEY_TIMEOUT_MAX_MS 600000 /* the longest timeout that can be set */

/*
 * One answer; plain memory, nothing to free. Texts are "" where they do not apply; numbers 0. What is about the key is
 * there only where the caller presented the right secret.
 */
struct apikey_result {
	enum apikey_verdict verdict;
	enum apikey_reason reason;
	char reason_word[APIKEY_WORD_MAX]; /* "" only where no answer came */
	uint64_t rev;			   /* the store's revision that the answer was made from */
	uint64_t age_ms;		   /* how long ago that was last known to be complete */
	uint64_t retry_after_ms;	   /* asking again before that is in vain; 0: not said */
	int64_t expires_at;		   /* of the key: seconds since 1970 UTC; 0: never, or not said */
	bool stale;			   /* ALLOW, DENY: answered from a copy that is older than it should be */
	char key_id[APIKEY_KEY_ID_MAX];	   /* the key's public name: good for logs */
	char kind[APIKEY_KEY_ID_MAX];	   /* "user", "organization" or "break_glass" */
	char successor[APIKEY_KEY_ID_MAX]; /* key_id of the key that replaces a rotated one */
	char org[APIKEY_SLUG_MAX];
	char page[APIKEY_SLUG_MAX];
	char user[APIKEY_USER_MAX];
	char missing_scope[APIKEY_WORD_MAX];
	char needs_role[APIKEY_WORD_MAX]; /* the smallest role that holds it */
	char reserved[64];		  /* zero */
};

/* ---- a handle ---- */

struct apikey;

struct apikey_options {
	/* sizeof(struct apikey_options), as APIKEY_OPTIONS_INIT sets it. */
	size_t size;
	/* The daemon's socket; NULL: $APIKEYD_SOCKET (not in set-uid programs), then the usual one. */
	const char *socket;
	/* Of each call, where its context sets none. 0: 1000. */
	int timeout_ms;
	/* apikey_open: connections at once. 0: 8; at most 1024. */
	unsigned connections;
	/* apikey_async_open: questions on the connection at once. 0: 256; at most 32768. */
	unsigned in_flight;
	/* apikey_async_open: questions started and unanswered in all. 0: 16384; at most 65535. */
	unsigned queue;
	/* The program's name, which the daemon may log. NULL: "libapikey"; at most 64 bytes. */
	const char *client;
};
#define APIKEY_SOCKET "/run/apikeyd/check.sock" /* the usual one */
#define APIKEY_OPTIONS_INIT                                                                                            \
	{                                                                                                              \
		sizeof(struct apikey_options), NULL, 0, 0, 0, 0, NULL                                                  \
	}

/*
 * Makes a handle. Connects to nothing yet: a daemon that is not there is reported by the first question, and a service
 * may start before the daemon. `options` NULL: the defaults. What options point to is copied. Returns 0 with *ret set,
 * or -EINVAL, -E2BIG (options made for a newer library, with a field set that this one does not know), -ENAMETOOLONG
 * (socket), -ENOMEM with *ret NULL.
 */
int apikey_open(const struct apikey_options *options, struct apikey **ret);
void apikey_close(struct apikey *handle); /* NULL is fine */

/* One line about the last failure in this thread, "" where the last call was none. Good until the next call. */
const char *apikey_error(void);

/* ---- questions ---- */

/* What else a question may say. Every field may be left zero. Only read during the call. */
struct apikey_context {
	/* sizeof(struct apikey_context), as APIKEY_CONTEXT_INIT sets it. */
	size_t size;
	/* Of this call; 0: the handle's. */
	int timeout_ms;
	/* What the question costs of a rate; 0 and 1: one; at most 1000000. */
	uint32_t cost;
	/* The policy stack to judge it by; NULL: the daemon's default. */
	const char *stack;
	/* The remote client's IP address, for keys that are narrowed to networks. */
	const char *addr;
	/* The organization meant: a user key of several organizations must name it. */
	const char *org;
	/* Answer from this revision or a later one, or UNAVAILABLE `behind`. */
	uint64_t min_rev;
	/* apikey_pages: slugs after this one. */
	const char *after;
};
#define APIKEY_CONTEXT_INIT                                                                                            \
	{                                                                                                              \
		sizeof(struct apikey_context), 0, 0, NULL, NULL, NULL, 0, NULL                                         \
	}

/*
 * May `key` do `scope` on `page` (a slug; NULL: at the organization's level)?
 *
 * `key` is what the remote client sent, as it is: a text that can be no key gets DENY malformed_key, however long it
 * is. `context` may be NULL. *ret is overwritten whatever happens.
 */
int apikey_check(struct apikey *handle, const char *key, const char *scope, const char *page,
		 const struct apikey_context *context, struct apikey_result *ret);

struct apikey_pair {
	const char *scope;
	const char *page; /* NULL: at the organization's level */
};

/*
 * `count` questions (1 to APIKEY_PAIRS_MAX) about one key, answered from one revision in one message. `ret` is an array
 * of `count` results in the order of `pairs`, all overwritten whatever happens.
 */
int apikey_check_many(struct apikey *handle, const char *key, const struct apikey_pair *pairs, size_t count,
		      const struct apikey_context *context, struct apikey_result *ret);

/* The pages on which a key may do a scope. Free with apikey_page_list_free. */
struct apikey_page_list {
	struct apikey_result result;
	size_t count;
	const char *const *pages; /* slugs, sorted by bytes; NULL where count is 0 */
	const char *next;	  /* not NULL: there are more; ask again with context.after set to it */
	void *memory;		  /* the library's */
	char reserved[64];	  /* zero */
};

/*
 * ALLOW with a list, which may be empty, where the key is live and the scope is one for pages. *ret is overwritten (a
 * list that it held must have been freed) and may be freed whatever is returned.
 */
int apikey_pages(struct apikey *handle, const char *key, const char *scope, const struct apikey_context *context,
		 struct apikey_page_list *ret);
void apikey_page_list_free(struct apikey_page_list *list); /* leaves it zeroed; NULL and zeroed are fine */

struct apikey_role {
	const char *place; /* slug of an organization or page */
	const char *role;
};

/* One way in which a key may be narrowed: where `narrowed` is true, to those names only (none: to nothing). */
struct apikey_narrowing {
	bool narrowed;
	size_t count;
	const char *const *names;
};

/* What a key is. Free with apikey_identity_free. */
struct apikey_identity {
	struct apikey_result result; /* ALLOW: the key is live (which says nothing of any scope) */
	const char *access;	     /* organization key: "read" or "write"; else NULL */
	size_t organization_count;   /* user key: where its user has a role */
	const struct apikey_role *organizations;
	size_t page_count;
	const struct apikey_role *page_roles;
	bool truncated; /* there are more roles than the daemon lists */
	struct apikey_narrowing pages, scopes, networks;
	bool narrowed_rate;
	uint64_t rate_count, rate_period_s; /* where narrowed_rate: how often in how many seconds */
	void *memory;			    /* the library's */
	char reserved[48];		    /* zero */
};

/* Whose key is this, and what is it narrowed to? *ret as in apikey_pages. */
int apikey_whoami(struct apikey *handle, const char *key, const struct apikey_context *context,
		  struct apikey_identity *ret);
void apikey_identity_free(struct apikey_identity *identity); /* leaves it zeroed; NULL and zeroed are fine */

/* ---- for event loops ---- */

/*
 * The same questions without blocking, any number in flight on one connection.
 *
 * The loop watches one descriptor, apikey_async_fd, for being readable (apikey_async_events: always POLLIN), and calls
 * apikey_async_dispatch when it is. That is all: the descriptor stands for the connection, its reconnecting and the
 * deadlines together, and is the same from apikey_async_open to apikey_async_close. It may be put into poll, select,
 * epoll (level-triggered), uv_poll_t, sd_event and so on.
 *
 * Each question that was started (0 returned) gets its callback exactly once: from apikey_async_dispatch,
 * apikey_async_cancel or apikey_async_close, never from inside the call that started it. A callback may start
 * questions, cancel others and close the handle (which then goes at the end of the dispatch).
 *
 * `err` is what the blocking form returns, and the result it fills in is behind the pointer, never NULL, good for the
 * time of the callback; apikey_error() is its line then. `data` is the caller's.
 */
struct apikey_async;

typedef void (*apikey_check_cb)(void *data, int err, const struct apikey_result *result);
typedef void (*apikey_check_many_cb)(void *data, int err, const struct apikey_result *results, size_t count);
typedef void (*apikey_pages_cb)(void *data, int err, const struct apikey_page_list *list);
typedef void (*apikey_whoami_cb)(void *data, int err, const struct apikey_identity *identity);

/* As apikey_open, and -EMFILE and the like. */
int apikey_async_open(const struct apikey_options *options, struct apikey_async **ret);
/* Calls the callbacks of all unanswered questions with -ECANCELED, closes, frees. NULL is fine. */
void apikey_async_close(struct apikey_async *handle);

int apikey_async_fd(const struct apikey_async *handle);
short apikey_async_events(const struct apikey_async *handle); /* POLLIN */

/*
 * Does what can be done now: connects, sends, receives, gives up what is past its deadline; calls callbacks. Calling it
 * when nothing is to be done is harmless. Returns 0, or -ECHILD (fork) or another errno when the handle is of no
 * further use: close it.
 */
int apikey_async_dispatch(struct apikey_async *handle);

/*
 * Start a question. Return 0, with *ret_id (where not NULL) set to a number that is not 0 and names it until its
 * callback; or -EINVAL, -EMSGSIZE, -EBUSY (options.queue), -ENOMEM, -ECHILD, and no callback will come. Everything
 * passed is copied. The deadline runs from here.
 */
int apikey_async_check(struct apikey_async *handle, const char *key, const char *scope, const char *page,
		       const struct apikey_context *context, apikey_check_cb callback, void *data, uint64_t *ret_id);
int apikey_async_check_many(struct apikey_async *handle, const char *key, const struct apikey_pair *pairs, size_t count,
			    const struct apikey_context *context, apikey_check_many_cb callback, void *data,
			    uint64_t *ret_id);
int apikey_async_pages(struct apikey_async *handle, const char *key, const char *scope,
		       const struct apikey_context *context, apikey_pages_cb callback, void *data, uint64_t *ret_id);
int apikey_async_whoami(struct apikey_async *handle, const char *key, const struct apikey_context *context,
			apikey_whoami_cb callback, void *data, uint64_t *ret_id);

/*
 * Calls the question's callback with -ECANCELED before it returns: after it, nothing refers to the callback's data.
 * -ENOENT: the callback was called already (or is running), or there never was such a question.
 */
int apikey_async_cancel(struct apikey_async *handle, uint64_t id);

#ifdef __cplusplus
}
#endif

#endif
