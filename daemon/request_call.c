/*
 * Calls: what modules have not answered yet, and the way their answers come in, from whatever thread.
 *
 * A token is the number of a slot and its generation, so that an answer which comes late, twice, or was made up finds
 * nothing. Answers are put on a list under a lock and taken off it on the loop's thread; the lock is held for no more
 * than that.
 */
#include "daemon/request_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct request_call {
	struct apikeyd_self *self;
	struct request_memo *memo;	 /* once it is kept */
	struct request_waiting *waiting; /* once its request waits */
	uint64_t began;			 /* µs of CLOCK_BOOTTIME */
	uint32_t slot;
};

struct request_completion {
	struct request_completion *next;
	struct apikeyd_self *self; /* only compared */
	uint64_t token;
	enum apikeyd_code code;
	uint64_t retry_after_ms;
	struct request_principal *principal;
	char *detail;
};

/* ---- slots ---- */

static bool grow(struct request_calls *calls)
{
	uint32_t cap = calls->cap ? calls->cap * 2 : 64;
	struct request_call **slots = realloc(calls->slots, cap * sizeof(struct request_call *));
	uint32_t *next_free, *generations;

	if (slots)
		calls->slots = slots;
	next_free = slots ? realloc(calls->next_free, cap * sizeof(uint32_t)) : NULL;
	if (next_free)
		calls->next_free = next_free;
	generations = next_free ? realloc(calls->generations, cap * sizeof(uint32_t)) : NULL;
	if (!generations)
		return false;
	calls->generations = generations;
	for (uint32_t i = cap; i-- > calls->cap;) {
		calls->slots[i] = NULL;
		calls->generations[i] = 1;
		calls->next_free[i] = calls->free;
		calls->free = i + 1;
	}
	calls->cap = cap;
	return true;
}

struct request_call *request_call_new(struct request_core *core, struct apikeyd_self *self, uint64_t *ret_token)
{
	struct request_calls *calls = &core->calls;
	struct request_call *call;
	uint32_t slot;

	if (!calls->free && !grow(calls))
		return NULL;
	call = calloc(1, sizeof(*call));
	if (!call)
		return NULL;
	slot = calls->free - 1;
	calls->free = calls->next_free[slot];
	calls->slots[slot] = call;
	calls->count++;
	call->self = self;
	call->slot = slot;
	*ret_token = (uint64_t)calls->generations[slot] << 32 | slot;
	return call;
}

static uint64_t token_of(const struct request_core *core, const struct request_call *call)
{
	return (uint64_t)core->calls.generations[call->slot] << 32 | call->slot;
}

static struct request_call *find(const struct request_core *core, uint64_t token, const struct apikeyd_self *self)
{
	uint32_t slot = (uint32_t)token;
	struct request_call *call = slot < core->calls.cap ? core->calls.slots[slot] : NULL;

	return call && call->memo && call->self == self && token_of(core, call) == token ? call : NULL;
}

void request_call_free(struct request_core *core, struct request_call *call)
{
	struct request_calls *calls = &core->calls;

	if (!call)
		return;
	calls->slots[call->slot] = NULL;
	if (++calls->generations[call->slot] == 0)
		calls->generations[call->slot] = 1;
	calls->next_free[call->slot] = calls->free;
	calls->free = call->slot + 1;
	calls->count--;
	free(call);
}

void request_call_keep(struct request_call *call, struct request_memo *memo)
{
	call->memo = memo;
	call->began = (uint64_t)mirror_boot_now();
	call->self->pending++;
	memo->state = MEMO_PENDING;
	memo->call = call;
}

void request_calls_cancel(struct request_core *core, struct request_memo *memo, uint32_t count, enum apikeyd_code code)
{
	for (uint32_t i = 0; memo && i < count; i++) {
		struct request_call *call = memo[i].call;
		struct apikeyd_self *self;
		uint64_t token;

		if (memo[i].state != MEMO_PENDING)
			continue;
		self = call->self;
		token = token_of(core, call);
		memo[i].state = MEMO_DONE;
		memo[i].late = true;
		memo[i].code = (uint8_t)code;
		memo[i].call = NULL;
		self->pending--;
		core->counters.calls_cancelled++;
		request_call_free(core, call);
		if (self->module->cancel)
			self->module->cancel(self->instance, token);
	}
}

uint32_t request_calls_adopt(struct request_memo *memo, uint32_t count, struct request_waiting *waiting)
{
	uint32_t pending = 0;

	for (uint32_t i = 0; memo && i < count; i++) {
		if (memo[i].state != MEMO_PENDING)
			continue;
		memo[i].call->memo = &memo[i];
		memo[i].call->waiting = waiting;
		pending++;
	}
	return pending;
}

/* ---- answers ---- */

static void completion_free(struct request_completion *completion)
{
	if (!completion)
		return;
	request_principal_unref(completion->principal);
	free(completion->detail);
	free(completion);
}

static void take(struct request_core *core, struct request_completion *completion)
{
	struct request_call *call = find(core, completion->token, completion->self);
	struct request_waiting *waiting;
	struct request_memo *memo;

	if (!call || !call->waiting) {
		core->counters.calls_late++;
		return;
	}
	memo = call->memo;
	waiting = call->waiting;
	memo->state = MEMO_DONE;
	memo->late = true;
	memo->code = (uint8_t)completion->code;
	memo->retry_after_ms = completion->retry_after_ms;
	memo->ns += ((uint64_t)mirror_boot_now() - call->began) * 1000;
	memo->call = NULL;
	free((char *)(uintptr_t)memo->detail);
	memo->detail = completion->detail;
	completion->detail = NULL;
	if (completion->principal) {
		memo->grant = (struct request_grant){.from = GRANT_PRINCIPAL, .principal = completion->principal};
		completion->principal = NULL;
	}
	call->self->pending--;
	request_call_free(core, call);
	request_call_came(core, waiting);
}

static void on_completed(uv_async_t *async)
{
	struct request_core *core = async->data;
	struct request_completion *completion;

	pthread_mutex_lock(&core->lock);
	completion = core->completions;
	core->completions = NULL;
	core->completions_end = &core->completions;
	pthread_mutex_unlock(&core->lock);
	while (completion) {
		struct request_completion *next = completion->next;

		take(core, completion);
		completion_free(completion);
		completion = next;
	}
}

/* What a module says in the end: a success of one that identifies must say whose key it is. */
static void read_answer(const struct apikeyd_self *self, const struct apikeyd_answer *answer,
			struct request_completion *ret)
{
	bool identifies = self->module->flags & APIKEYD_IDENTIFIES;
	int rc;

	ret->code = APIKEYD_MODULE_FAULT;
	if (!answer || answer->size < sizeof(*answer))
		return;
	ret->code = code_clean((int)answer->code);
	ret->retry_after_ms = answer->retry_after_ms;
	if (answer->detail)
		ret->detail = strdup(answer->detail);
	if (ret->code == APIKEYD_PENDING)
		ret->code = APIKEYD_MODULE_FAULT;
	if (ret->code != APIKEYD_SUCCESS || !identifies)
		return;
	if (answer->principal)
		ret->principal = request_principal_new(answer->principal, &rc);
	if (!ret->principal)
		ret->code = APIKEYD_MODULE_FAULT;
}

static void host_complete(struct apikeyd_self *self, uint64_t token, const struct apikeyd_answer *answer)
{
	struct request_core *core = self->data;
	struct request_completion *completion = calloc(1, sizeof(*completion));
	bool dropped;

	/* Without memory for its answer, the request ends at its deadline. */
	if (!completion)
		return;
	completion->self = self;
	completion->token = token;
	read_answer(self, answer, completion);
	pthread_mutex_lock(&core->lock);
	dropped = core->closed;
	if (!dropped) {
		*core->completions_end = completion;
		core->completions_end = &completion->next;
		uv_async_send(&core->completed);
	}
	pthread_mutex_unlock(&core->lock);
	if (dropped)
		completion_free(completion);
}

/* ---- what else modules may call about a request ---- */

static struct request_facts *facts_of(const struct apikeyd_request *shown)
{
	return (struct request_facts *)((uintptr_t)shown - offsetof(struct request_facts, shown));
}

static void host_retry_after(struct apikeyd_self *self, const struct apikeyd_request *shown, uint64_t ms)
{
	(void)self;
	facts_of(shown)->retry_after_ms = ms;
}

static void host_detail(struct apikeyd_self *self, const struct apikeyd_request *shown, const char *line)
{
	struct request_facts *facts = facts_of(shown);

	(void)self;
	if (!facts->request->explains)
		return;
	free(facts->detail);
	facts->detail = strdup(line);
}

/* Whether this module may speak about keys now. */
static bool may_identify(const struct apikeyd_self *self, const struct apikeyd_request *shown)
{
	return self->module->flags & APIKEYD_IDENTIFIES && shown->group == APIKEYD_GROUP_KEY && shown->key.data;
}

static int host_grant(struct apikeyd_self *self, const struct apikeyd_request *shown,
		      const struct apikeyd_principal *principal)
{
	struct request_facts *facts = facts_of(shown);
	struct request_principal *made;
	int rc;

	if (!may_identify(self, shown))
		return -EINVAL;
	made = request_principal_new(principal, &rc);
	if (!made)
		return rc;
	made->next = facts->core->principals;
	facts->core->principals = made;
	facts->request->candidate = (struct request_grant){.from = GRANT_PRINCIPAL, .principal = made};
	return 0;
}

static enum apikeyd_code host_store(struct apikeyd_self *self, const struct apikeyd_request *shown)
{
	struct request_facts *facts = facts_of(shown);
	enum reason reason;

	if (!may_identify(self, shown))
		return APIKEYD_MODULE_FAULT;
	/* The store has keys of users and organizations alone. */
	if (facts->request->text.kind == KEY_KIND_BREAK_GLASS)
		return APIKEYD_UNKNOWN_KEY;
	reason = request_prove(facts->core, facts->view, facts->request);
	if (reason == REASON_OK)
		facts->request->candidate = (struct request_grant){.from = GRANT_STORE};
	if (reason == REASON_STALE && facts->view->stale)
		host_detail(self, shown, "unknown_key by a copy that is stale: a newer one may know it");
	return code_of_reason(reason);
}

static int host_hash(struct apikeyd_self *self, const struct apikeyd_request *shown, uint16_t pepper,
		     uint8_t ret[APIKEYD_HASH_LEN])
{
	const struct request_facts *facts = facts_of(shown);

	_Static_assert((int)APIKEYD_HASH_LEN == (int)SECRET_HASH_LEN, "the ABI's hash is the store's");
	if (!may_identify(self, shown))
		return -EINVAL;
	return secret_hash(facts->core->secret, pepper, shown->key.data, shown->key.len, ret) ? 0 : -ENOENT;
}

void request_host_fill(struct apikeyd_host *host)
{
	host->complete = host_complete;
	host->retry_after = host_retry_after;
	host->detail = host_detail;
	host->grant = host_grant;
	host->store = host_store;
	host->hash = host_hash;
}

/* ---- life ---- */

int request_call_init(struct request_core *core)
{
	core->completions_end = &core->completions;
	if (pthread_mutex_init(&core->lock, NULL) != 0)
		return -ENOMEM;
	if (uv_async_init(core->loop, &core->completed, on_completed) != 0) {
		pthread_mutex_destroy(&core->lock);
		return -ENOMEM;
	}
	core->completed.data = core;
	/* By itself it is no reason to go on. */
	uv_unref((uv_handle_t *)&core->completed);
	return 0;
}

void request_call_close(struct request_core *core)
{
	pthread_mutex_lock(&core->lock);
	core->closed = true;
	pthread_mutex_unlock(&core->lock);
}

void request_call_deinit(struct request_core *core)
{
	while (core->completions) {
		struct request_completion *next = core->completions->next;

		completion_free(core->completions);
		core->completions = next;
	}
	free(core->calls.slots);
	free(core->calls.next_free);
	free(core->calls.generations);
	pthread_mutex_destroy(&core->lock);
}
