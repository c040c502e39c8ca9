/*
 * What the request*.c files share; included by them alone.
 */
#ifndef APIKEYD_DAEMON_REQUEST_INTERNAL_H
#define APIKEYD_DAEMON_REQUEST_INTERNAL_H

#include "daemon/request.h"
#include "daemon/rule_glass.h"
#include "daemon/stack/run.h"

/* The copy as one batch sees it. */
struct request_view {
	const struct copy *copy; /* NULL: never loaded */
	const struct rule_catalog *catalog;
	uint64_t rev;
	uint64_t age_ms;
	int64_t now;	   /* the database's time, µs since 1970 UTC; this host's where nothing was ever loaded */
	int64_t boot;	   /* µs of CLOCK_BOOTTIME */
	enum reason fault; /* why nothing can be said from the copy; REASON_OK: something can */
	/* It is older than max_stale_ms, and answers go on for scopes whose offline_grace is long enough. */
	bool stale;
	const struct request_view *beyond; /* where stale: the same for the other scopes */
};

/*
 * What the core finds by looking into the copy: a copy that is stale is no witness of what it does not hold. Of a thing
 * that is not there, not there for this key, and not this key's secret alike, so that none of them can be told apart.
 */
static inline enum reason request_known(const struct request_view *view, enum reason reason)
{
	if (__builtin_expect(!view->stale, 1))
		return reason;
	switch (reason) {
	case REASON_UNKNOWN_KEY:
	case REASON_UNKNOWN_SCOPE:
	case REASON_UNKNOWN_PAGE:
	case REASON_NOT_MEMBER:
		return REASON_STALE;
	default:
		return reason;
	}
}

/* What a module granted: a copy of its struct apikeyd_principal, in one piece of memory. */
struct request_principal {
	struct request_principal *next; /* of the batch in hand, which holds a reference */
	unsigned refs;			/* that batch, and memo entries */
	enum apikeyd_kind kind;
	int64_t user_id;
	bool writes;
	uint16_t flags;		 /* RULE_NARROWED_* */
	struct rule_glass glass; /* organization, pages, scopes, networks, times: for all kinds */
	/* room for what the rule wants, filled in on each run: handles of the copy */
	rule_handle *page_handles;
	rule_scope *scope_handles;
};

/* Whose key it is, as a line of `key` said. */
struct request_grant {
	enum { GRANT_NONE = 0, GRANT_STORE, GRANT_PRINCIPAL } from;
	struct request_principal *principal; /* GRANT_PRINCIPAL */
};

/* What a module has answered already, for a request that may have to wait. */
struct request_memo {
	enum { MEMO_NONE = 0, MEMO_PENDING, MEMO_DONE } state : 8;
	bool late; /* it was brought by complete(), so it is never asked again */
	uint8_t code;
	uint64_t retry_after_ms;
	uint64_t ns;		    /* explain: that its start took, or that it was waited for */
	struct request_grant grant; /* with a reference to the principal */
	struct request_call *call;  /* MEMO_PENDING */
	const char *detail;	    /* explain; from malloc */
};

/* One request on its way through the groups. */
struct request {
	const struct rpc_request *rpc;
	const struct request_owner *owner;
	const struct request_view *view; /* of the batch's: what its scope may be judged by (check_many: any of them) */
	struct policy_stack *stack;	 /* NULL: there is none of that name */
	enum reason reason;		 /* REASON_OK: nothing against it so far */
	bool granted;			 /* the group key has passed */
	bool is_key;			 /* `text` holds the public part of something that looks like a key */
	bool proven;
	bool explains;
	bool waits;	     /* it must: for `rev_wanted`, or for the calls in its memo */
	bool may_wait;	     /* false: its deadline has come, or the daemon stops */
	uint64_t rev_wanted; /* 0: it does not wait for a revision */
	struct keytext text;
	const struct copy_key *key; /* NULL: no such id */
	struct request_grant candidate, grant;
	struct rule_who who; /* from here on: where proven */
	struct copy_user user;
	const struct rule_glass *glass; /* a break-glass key: judged by this instead of `who` */
	rule_handle organization_named; /* of context.org; 0: none such */
	uint64_t retry_after_ms;
	uint32_t first_pair, pair_count; /* in the scratch */
	const struct rpc_pair *pairs;	 /* of check, check_many, explain, and what `pages` found */
	bool pages_more;		 /* pages: more follow than these */
	struct request_memo *memo;	 /* NULL: nothing is kept */
	uint32_t memo_count;
	struct request_waiting *waiting; /* it waited already */
	struct value *trace;		 /* explain: a list in the core's arena */
	struct request_facts *facts;	 /* what modules see of it, in the scratch; NULL: no group was run */
};

/* What came of one pair. */
struct request_outcome {
	enum reason reason;
	struct rule_missing missing;
	struct rule_where where;
	uint64_t retry_after_ms;
};

/* A request as modules see it, with what the host needs to find its way back. */
struct request_facts {
	struct apikeyd_request shown;
	struct request_core *core;
	const struct request_view *view;
	struct request *request;
	uint32_t pair;
	uint64_t against_ms[STACK_CLASS_FAULT + 1]; /* the longest that a line of the group said, by class */
	/* of the line that is being asked */
	uint64_t retry_after_ms;
	char *detail; /* from malloc */
	uint64_t ns;
	/* in audit: how the verdict is to be recorded, bits of enum ledger_how, and what it is about */
	unsigned record_how;
	const struct rpc_pair *record_pair;
	const struct rule_where *record_where;
	enum reason record_reason;
};

/* Late answers of one turn of the loop, or nearly. */
enum { REQUEST_ANSWERED_MAX = 256 };

struct request_scratch {
	struct request requests[REQUEST_BATCH_MAX];
	struct request_facts facts[REQUEST_BATCH_MAX]; /* the place of each request's, made as it is needed */
	keytext_id ids[REQUEST_BATCH_MAX];
	const struct copy_key *keys[REQUEST_BATCH_MAX];
	struct rpc_text slugs[REQUEST_PAIRS_MAX];
	struct copy_page pages[REQUEST_PAIRS_MAX];
	struct request_outcome outcomes[REQUEST_PAIRS_MAX];
	uint64_t aims[2 * REQUEST_PAIRS_MAX];	/* where the ledger counts them */
	uint64_t read_ns[REQUEST_ANSWERED_MAX]; /* of core->answered_count late answers: when the question was read */
};

/* ---- request_groups.c: what the core judges itself, and the stack after it ---- */

/* Groups caller, key and account of a request, whose key was looked up. Sets `reason` and all that follows from it. */
void request_judge_account(struct request_core *core, const struct request_view *view, struct request *request);
/* Groups page and scope of one of its pairs. */
void request_judge_pair(struct request_core *core, const struct request_view *view, struct request *request,
			uint32_t pair, const struct copy_page *page, struct request_outcome *ret);
/*
 * Group audit: every verdict. `where`: what was looked up for it, NULL: nothing was. Returns the reason, which becomes
 * `audit_full` where an ALLOW could not be written down.
 */
enum reason request_audit(struct request_core *core, const struct request_view *view, struct request *request,
			  const struct rpc_pair *pair, const struct rule_where *where, enum reason reason);

/* The first half of group page: looks up what a question names. `page`: found by copy_find_pages, handle 0: none. */
void request_where(const struct request_view *view, const struct request *request, rule_scope scope, bool page_asked,
		   const struct copy_page *page, struct rule_where *ret);

/* ---- request_record.c: verdicts into the ledger ---- */

/* Whether lines of the stack are asked what becomes of a verdict. */
static inline bool request_has_audit(const struct policy_stack *stack)
{
	return stack->program->first[STACK_AUDIT] != stack->program->first[STACK_GROUPS];
}

/* Before many are answered: fetches where they will be counted. */
void request_record_ahead(struct request_core *core, uint32_t count);
/* Before the lines of audit are asked: what they may have recorded. */
static inline void request_record_about(struct request_facts *facts, const struct rpc_pair *pair,
					const struct rule_where *where, enum reason reason)
{
	facts->record_how = 0;
	facts->record_pair = pair;
	facts->record_where = where;
	facts->record_reason = reason;
}
/* Once they have been: records the verdict as they said. */
void request_record(struct request_facts *facts, enum reason reason);
/* The same where no stack was found to ask. */
void request_record_no_stack(struct request_core *core, const struct request_view *view, const struct request *request,
			     enum reason reason);

/* ---- request_ask.c: the engine's runner ---- */

void request_facts_init(struct request_core *core, const struct request_view *view, struct request *request,
			struct request_facts *ret);
/* The key is proven: they now say whose it is. */
void request_facts_whose(struct request_facts *facts);
/* They are about this pair (NULL: about none). */
static inline void request_facts_pair(struct request_facts *facts, const struct rpc_pair *pair, uint32_t number)
{
	facts->pair = number;
	facts->shown.scope = pair ? (struct apikeyd_text){pair->scope.data, pair->scope.len} : (struct apikeyd_text){0};
	facts->shown.page = pair ? (struct apikeyd_text){pair->page.data, pair->page.len} : (struct apikeyd_text){0};
}
/* Runs the stack's lines of one group. REASON_OK: passed. Sets request->waits where a module must be waited for. */
enum reason request_run(struct request_facts *facts, enum stack_group group, bool *ret_charged);
/* One line of explain's trace about the core's own part of a group. */
void request_put_trace_core(struct request *request, struct arena *arena, enum stack_group group, enum reason reason);
static inline void request_trace_core(struct request *request, struct arena *arena, enum stack_group group,
				      enum reason reason)
{
	if (__builtin_expect(request->trace != NULL, 0))
		request_put_trace_core(request, arena, group, reason);
}
/* To the last of these: that the copy is stale, and what holds for the scope; nothing where it is fresh. */
void request_trace_age(struct request_core *core, const struct request_view *view, struct request *request);
/* To the last of these: which reason it would have been, were the copy not stale. */
void request_trace_unknown(struct request *request, struct arena *arena, enum reason reason);
/* Memory for what modules answer. False without memory. */
bool request_memo_new(struct request *request);
/* `pages` knows its pairs later than others. */
bool request_memo_grow(struct request *request);
void request_memo_free(struct request_memo *memo, uint32_t count);

/* ---- request_grant.c: principals of modules ---- */

/* One reference, or NULL with *ret_rc -EINVAL or -ENOMEM. May be called on any thread. */
struct request_principal *request_principal_new(const struct apikeyd_principal *principal, int *ret_rc);
struct request_principal *request_principal_ref(struct request_principal *principal); /* NULL is fine */
void request_principal_unref(struct request_principal *principal);		      /* NULL is fine */
/* Those of the batch that was judged. */
void request_principals_drop(struct request_core *core);
/*
 * Fills who, user and glass of the request from what was granted. REASON_OK, `unknown_key`, or the fault that the
 * copy has.
 */
enum reason request_resolve(const struct request_view *view, struct request *request);

/* ---- request_prove.c: the store's own keys ---- */

enum reason request_prove(struct request_core *core, const struct request_view *view, struct request *request);

/* ---- request_call.c: what modules have not answered yet ---- */

/* NULL without memory. Its token names it until request_call_free. */
struct request_call *request_call_new(struct request_core *core, struct apikeyd_self *self, uint64_t *ret_token);
/* Puts the call under a memo entry of a request, which is then pending. */
void request_call_keep(struct request_call *call, struct request_memo *memo);
void request_call_free(struct request_core *core, struct request_call *call);
/* Ends all pending calls of a memo: each module is told, and its code is now `code`. */
void request_calls_cancel(struct request_core *core, struct request_memo *memo, uint32_t count, enum apikeyd_code code);
/* The memo's pending calls will wake this one. Returns how many there are. */
uint32_t request_calls_adopt(struct request_memo *memo, uint32_t count, struct request_waiting *waiting);

int request_call_init(struct request_core *core);
void request_call_close(struct request_core *core);
void request_call_deinit(struct request_core *core);

/* ---- request_answer.c, request_list.c, request_explain.c ---- */

/*
 * Whether this answer was made from a copy that is stale. What the copy had no part in is as good as ever: the denial
 * of a text that is no key, a break-glass key.
 */
static inline bool request_is_stale(const struct request_view *view, const struct request *request, enum reason reason)
{
	return view->stale && request->proven && !request->glass && verdict_of(reason) != VERDICT_UNAVAILABLE;
}
/* What stands in every answer, and what is about the key. */
void request_answer_head(const struct request_view *view, const struct request *request, enum reason reason,
			 struct rpc_answer *ret);
/*
 * How long to wait before asking again: `ms` where a line of the stack said so (0: none did), else until a copy that is
 * missing, stale or behind may be a better one.
 */
void request_answer_retry(struct request_core *core, uint64_t ms, struct rpc_answer *answer);
/* An answer about one place: adds organization, page and what is missing. */
void request_answer_place(const struct request_view *view, const struct request *request,
			  const struct request_outcome *outcome, const struct rpc_pair *pair,
			  const struct copy_page *page, struct rpc_answer *answer);
/*
 * `pages`: finds by the rule the pages that may be answered, as the request's pairs (in the arena); modules may still
 * take some away. REASON_OK, or why there is no list at all.
 */
enum reason request_pages_find(struct request_core *core, const struct request_view *view, struct request *request);
void request_pages_answer(struct request_core *core, const struct request_view *view, struct request *request,
			  const struct request_outcome *outcomes, struct rpc_buffer *out);
void request_whoami(struct request_core *core, const struct request_view *view, struct request *request,
		    struct rpc_buffer *out);

/* ---- request_wait.c ---- */

/*
 * Takes over a request that must wait, with a copy of all that it borrowed and with its memo. False where it cannot
 * wait: *ret_reason says why, and its calls are cancelled.
 */
bool request_wait(struct request_core *core, struct request_owner *owner, struct request *request,
		  enum reason *ret_reason);
/* A pending call of it has come: called by request_call.c. */
void request_call_came(struct request_core *core, struct request_waiting *waiting);
/* What a waiting request is, for being judged again. */
struct request_late {
	struct request_owner *owner;
	struct policy_stack *stack;
	const struct rpc_request *rpc;
	struct request_memo *memo;
	uint32_t memo_count;
	bool may_wait;
	const struct rpc_pair *pairs; /* `pages`: what was found before it waited; NULL: nothing yet */
	uint32_t pair_count;
	bool pages_more;
};
/* Judges one request that waited. False where it waits on: nothing was appended to `out`. */
bool request_judge_late(struct request_core *core, struct request_waiting *waiting, struct request_late *late,
			struct rpc_buffer *out);

int request_wait_init(struct request_core *core);

#endif
