/*
 * Requests: what a caller asked, judged and answered.
 *
 * Owns the scratch memory of a batch, the requests that wait (for a revision, or for a module), with their deadlines,
 * and the calls that modules have not answered yet. Who calls it: session.c, with the requests of one read; the
 * mirror's on_rev (through server.c) when the copy has moved; modules, when they have an answer. Reads the mirror and
 * the policy; knows neither sessions nor the database.
 *
 * Always holds:
 * - A batch is judged in passes over one revision of the copy: all keys looked up, then caller, key and account of
 *   each, then all pages looked up, then page and scope of each, then all answered in the order of the batch. Nothing
 *   is allocated for it once warm, where no module is asynchronous.
 * - In each group the core judges its own part first, then the stack's lines; the first group that does not pass is
 *   the answer; audit sees every verdict. No line makes a group pass in which the core's part did not.
 * - An answer from a copy older than max_stale_ms is one that offline_grace of its scope allows, made from what the copy
 *   holds and marked stale; what the copy does not hold, it does not deny.
 * - A request that waited is judged again from the start, on the copy as it is then, by the policy it began with; what
 *   modules answered is kept, but for those that look at the copy. Each request is answered once, or forgotten with
 *   its owner.
 */
#ifndef APIKEYD_DAEMON_REQUEST_H
#define APIKEYD_DAEMON_REQUEST_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "daemon/audit/rollup.h"
#include "daemon/config.h"
#include "daemon/freshness.h"
#include "daemon/latency.h"
#include "daemon/mirror/mirror.h"
#include "daemon/modules/ledger.h"
#include "daemon/policy.h"
#include "daemon/secret.h"
#include "proto/rpc.h"

enum {
	REQUEST_BATCH_MAX = 128, /* requests judged together */
	REQUEST_PAIRS_MAX = RPC_PAIRS_MAX + REQUEST_BATCH_MAX,
};

struct request_waiting;
struct request_call;
struct request_completion;

/* Who asked: embedded in a session. Zeroed but for `answer` is valid. */
struct request_owner {
	/* the peer, as the kernel says */
	uid_t uid;
	gid_t gid; /* (gid_t)-1: one that has no translation here */
	pid_t pid;
	gid_t *gids; /* supplementary groups, without those that have no translation here; the owner's own */
	uint32_t gid_count;
	bool gids_known;   /* false: they could not be read */
	const char *stack; /* the one that its socket is bound to; NULL: its own choice */

	uint64_t read_ns; /* latency_now when the bytes came that are being taken */
	int64_t boot_us;  /* at which µs of CLOCK_BOOTTIME they are judged; 0: whenever that is */

	struct request_waiting *waiting; /* list */
	uint32_t in_flight; /* requests that wait for anything; administration counts its own in here too */
	/* Takes the bytes of a late answer (copies them). Never called from inside request_batch. */
	void (*answer)(struct request_owner *owner, const struct rpc_buffer *bytes);
};

struct request_counters {
	uint64_t verdicts[REASON_COUNT];
	uint64_t stale;		    /* of these, made from a copy that is stale */
	uint64_t proofs_remembered; /* keys proven without the keyed hash */
	uint64_t proofs_hashed;	    /* keyed hashes made */
	uint64_t waited;	    /* requests that had to wait */
	uint64_t waited_timeout;    /* of these, whose deadline came first */
	uint64_t waited_forgotten;  /* of these, whose connection went away */
	uint64_t overload;	    /* requests refused since too many wait: limits.waiting, limits.waiting_bytes */
	uint64_t overload_bytes;    /* of these, by limits.waiting_bytes */
	uint64_t in_flight;	    /* the same, of one connection: limits.in_flight_per_connection */
	uint64_t deadlines_cut;	    /* requests that had to wait and named more than limits.deadline_max_ms */
	uint64_t pages_cut;	    /* answers to `pages` that ended at limits.pages_per_answer */
	uint64_t calls;		    /* modules' PENDING */
	uint64_t calls_late;	    /* answers of modules that nobody waited for: too late, twice, or made up */
	uint64_t calls_cancelled;   /* whose request ended before the module's answer */
	uint64_t calls_overload;    /* refused: limits.module_pending */
	uint64_t module_faults; /* what a module must not do: a number that is no code, a success without a grant... */
};

struct request_callbacks {
	void (*hurry)(void *data); /* somebody waits for a newer revision */
	void (*flush)(void *data); /* late answers were handed out: a good time to write them */
	/* The copy is in another state than it was for the batch before, and answers follow. NULL: does not care. */
	void (*aged)(void *data);
	/* Until a copy that is missing, stale or behind may be a better one, in ms. NULL: poll_ms is said. */
	uint64_t (*retry_ms)(void *data);
	void *data;
};

struct request_heap {
	struct request_waiting **items;
	uint32_t count, cap;
};

/* Calls of modules, by the number in their token. */
struct request_calls {
	struct request_call **slots;
	uint32_t count, cap;
	uint32_t free; /* slot + 1 of the first free one; 0: none */
	uint32_t *next_free, *generations;
};

struct request_scratch;
struct request_principal;

struct request_core {
	/* Borrowed; server.c changes these on a reload. `policy` is a reference of the core's own. */
	const struct config *config;
	const struct secret *secret;
	struct policy *policy;
	struct mirror *mirror;
	struct rollup *ledger; /* takes every verdict that is to be recorded; NULL: nobody does */
	struct request_callbacks callbacks;
	struct request_counters counters;
	struct latency waited; /* from the read to the write of the answer, of requests that had to wait */

	/* private */
	enum freshness_state freshness; /* of the copy, when a batch last looked */
	uv_loop_t *loop;
	struct request_scratch *scratch;
	struct rpc_buffer late;
	struct arena arena;		      /* whoami, pages, explain */
	struct request_principal *principals; /* granted in the batch in hand */
	struct request_heap by_deadline, by_rev;
	size_t waiting_bytes;	       /* of all requests that wait */
	struct request_waiting *ready; /* list: whose modules have answered */
	uint32_t answered_count;       /* late answers that were handed out and are not written yet */
	struct request_calls calls;
	uv_timer_t deadline;
	uv_idle_t wake;
	bool finishing;
	unsigned closing;

	/* what modules bring, from any thread */
	pthread_mutex_t lock;
	struct request_completion *completions, **completions_end; /* under the lock */
	bool closed;						   /* under the lock */
	uv_async_t completed;
};

/* 0, or -ENOMEM, with nothing to undo. */
int request_core_init(struct request_core *core, uv_loop_t *loop, const struct config *config,
		      const struct secret *secret, struct mirror *mirror, const struct request_callbacks *callbacks);
/* Judges by this policy from now on (takes a reference). NULL: none yet, every stack is unknown. */
void request_set_policy(struct request_core *core, struct policy *policy);
/*
 * Gives the policy back and starts to close the handles; when the loop has run on, request_core_deinit may be called.
 * Nothing may wait.
 */
void request_core_close(struct request_core *core);
void request_core_deinit(struct request_core *core);

/*
 * Judges requests (check, check_many, pages, whoami, explain; no notifications) and appends their answers to `out`,
 * but for those that must wait. `requests` and what they borrow are not needed after. At most REQUEST_BATCH_MAX
 * requests with REQUEST_PAIRS_MAX pairs together (a check is one pair). Returns how many were answered; `waited` counts
 * the others, when they are.
 */
uint32_t request_batch(struct request_core *core, struct request_owner *owner, const struct rpc_request *requests,
		       uint32_t count, struct rpc_buffer *out);
/* The owner goes: whatever it waits for is forgotten. */
void request_forget(struct request_core *core, struct request_owner *owner);
/* The mirror has a new revision: those who waited for it are judged from the loop's next turn on. */
void request_revised(struct request_core *core);
/* The daemon stops: all who wait are answered now, and nobody waits any more. */
void request_finish(struct request_core *core);

/* The part of what modules may call (struct apikeyd_host) that is about requests; apikeyd_self.data is the core. */
void request_host_fill(struct apikeyd_host *host);
/* And what the module `ledger` may. */
void request_ledger_fill(struct ledger_host *host);

static inline uint32_t request_waiting_count(const struct request_core *core)
{
	return core->by_deadline.count;
}

#endif
