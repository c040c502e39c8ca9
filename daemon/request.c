#include "daemon/request_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- the start ---- */

static int64_t host_now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* What is seen of the copy: by scopes that it may still answer, and (`beyond`, where these are not all) by the others. */
static void look(struct request_core *core, int64_t boot, struct request_view *ret, struct request_view *ret_beyond)
{
	enum freshness_state state = FRESHNESS_NOT_LOADED;
	struct mirror *mirror = core->mirror;
	int64_t age;

	*ret = (struct request_view){.copy = mirror->copy, .fault = REASON_NOT_LOADED, .boot = boot};
	if (mirror->copy) {
		age = mirror_age_us(mirror, boot);
		ret->catalog = copy_catalog(mirror->copy);
		ret->rev = mirror_rev(mirror);
		ret->age_ms = age > 0 ? ((uint64_t)age + 999) / 1000 : 0;
		ret->now = mirror_database_now(mirror, boot);
		state = freshness_of(core->config, mirror, boot, ret->age_ms);
		ret->fault = state == FRESHNESS_STALE ? REASON_STALE : REASON_OK;
	} else {
		ret->now = host_now_us();
	}
	if (state == FRESHNESS_GRACE) {
		*ret_beyond = *ret;
		ret_beyond->fault = REASON_STALE;
		ret->stale = true;
		ret->beyond = ret_beyond;
	}
	if (state != core->freshness) {
		core->freshness = state;
		if (core->callbacks.aged)
			core->callbacks.aged(core->callbacks.data);
	}
}

/* The view by which questions of this scope (absent: none) are judged. */
static const struct request_view *view_of(const struct request_core *core, const struct request_view *view,
					  const struct rpc_text *scope)
{
	uint64_t grace;

	if (__builtin_expect(!view->stale, 1))
		return view;
	grace = config_grace_ms(core->config->grace, scope->data, scope->len);
	return view->age_ms <= core->config->max_stale_ms + grace ? view : view->beyond;
}

/* The same of a whole request. The key of check_many is judged once, for whichever of its pairs may be answered. */
static const struct request_view *view_of_request(const struct request_core *core, const struct request_view *view,
						  const struct rpc_request *rpc)
{
	const struct request_view *found = view->beyond;

	if (__builtin_expect(!view->stale, 1))
		return view;
	if (rpc->method != RPC_METHOD_CHECK_MANY)
		return view_of(core, view, &rpc->pair.scope);
	for (uint32_t i = 0; i < rpc->pair_count && found == view->beyond; i++)
		found = view_of(core, view, &rpc->pairs[i].scope);
	return found;
}

/* A bound socket has its one stack; elsewhere the request names it, or gets the usual one. */
static struct policy_stack *choose(struct policy *policy, const struct request_owner *owner,
				   const struct rpc_text *named)
{
	if (!policy)
		return NULL;
	if (!owner->stack)
		return policy_find(policy, named->data, named->len);
	if (named->data && (named->len != strlen(owner->stack) || memcmp(named->data, owner->stack, named->len) != 0))
		return NULL;
	return policy_find(policy, owner->stack, strlen(owner->stack));
}

static void start_trace(struct request_core *core, struct request *request)
{
	request->trace = arena_alloc(&core->arena, sizeof(*request->trace));
	if (request->trace)
		value_list(request->trace);
}

static void begin(struct request_core *core, const struct request_view *view, struct request *request,
		  const struct request_owner *owner, const struct rpc_request *rpc, struct request_late *late)
{
	memset(request, 0, sizeof(*request));
	request->rpc = rpc;
	request->owner = owner;
	request->view = view_of_request(core, view, rpc);
	request->stack = late ? late->stack : choose(core->policy, owner, &rpc->context.stack);
	request->may_wait = late ? late->may_wait : !core->finishing;
	request->explains = rpc->method == RPC_METHOD_EXPLAIN;
	request->reason = request->stack ? REASON_OK : REASON_NO_STACK;
	request->is_key = keytext_peek(rpc->key.data, rpc->key.len, core->config->brand, strlen(core->config->brand),
				       &request->text);
	if (rpc->method == RPC_METHOD_CHECK || rpc->method == RPC_METHOD_EXPLAIN) {
		request->pairs = &rpc->pair;
		request->pair_count = 1;
	} else if (rpc->method == RPC_METHOD_CHECK_MANY) {
		request->pairs = rpc->pairs;
		request->pair_count = rpc->pair_count;
	}
	if (request->explains)
		start_trace(core, request);
	if (late) {
		request->memo = late->memo;
		request->memo_count = late->memo_count;
		if (late->pairs) {
			request->pairs = late->pairs;
			request->pair_count = late->pair_count;
			request->pages_more = late->pages_more;
		}
	} else if (request->stack && (request->stack->keeps || rpc->context.min_rev > view->rev) &&
		   !request_memo_new(request)) {
		request->reason = REASON_OVERLOAD;
	}
}

/* ---- passes ---- */

/* Caller, key and account of all requests, their keys looked up before in passes. */
static void judge_accounts(struct request_core *core, const struct request_view *view, uint32_t count)
{
	struct request_scratch *scratch = core->scratch;

	for (uint32_t i = 0; i < count; i++) {
		const struct request *request = &scratch->requests[i];
		bool of_store = request->is_key && request->text.kind != KEY_KIND_BREAK_GLASS;

		scratch->ids[i] = of_store ? request->text.id : 0;
	}
	if (view->fault == REASON_OK) {
		copy_find_keys(view->copy, scratch->ids, count, scratch->keys);
		for (uint32_t i = 0; i < count; i++)
			scratch->requests[i].key = scratch->keys[i];
	}
	for (uint32_t i = 0; i < count; i++) {
		if (scratch->requests[i].reason == REASON_OK)
			request_judge_account(core, scratch->requests[i].view, &scratch->requests[i]);
	}
}

/* All pages that the requests name which have come this far. Returns how many pairs there are. */
static uint32_t find_pages(struct request_core *core, const struct request_view *view, uint32_t count)
{
	struct request_scratch *scratch = core->scratch;
	uint32_t pairs = 0;

	for (uint32_t i = 0; i < count; i++) {
		struct request *request = &scratch->requests[i];

		request->first_pair = pairs;
		if (request->reason == REASON_OK && request->rpc->method == RPC_METHOD_PAGES)
			request->reason = request_pages_find(core, request->view, request);
		if (request->reason != REASON_OK)
			continue;
		for (uint32_t j = 0; j < request->pair_count; j++)
			scratch->slugs[pairs++] = request->pairs[j].page;
	}
	if (view->copy && pairs > 0)
		copy_find_pages(view->copy, scratch->slugs, pairs, scratch->pages);
	else
		memset(scratch->pages, 0, pairs * sizeof(scratch->pages[0]));
	return pairs;
}

/* Whether the copy is too old for this pair of check_many, though not for all of them. */
static bool is_beyond(const struct request_core *core, const struct request *request, const struct rpc_pair *pair)
{
	return request->view->stale && request->rpc->method == RPC_METHOD_CHECK_MANY && !request->glass &&
	       view_of(core, request->view, &pair->scope) != request->view;
}

static void judge_pairs(struct request_core *core, struct request *request)
{
	struct request_scratch *scratch = core->scratch;

	/* All of them are asked, so that modules which must be waited for are waited for together. */
	for (uint32_t i = 0; i < request->pair_count; i++) {
		uint32_t at = request->first_pair + i;

		if (is_beyond(core, request, &request->pairs[i]))
			scratch->outcomes[at] = (struct request_outcome){.reason = REASON_STALE};
		else
			request_judge_pair(core, request->view, request, i, &scratch->pages[at],
					   &scratch->outcomes[at]);
	}
}

/* ---- answers ---- */

static void answer_pair(struct request_core *core, struct request *request, const struct rpc_pair *pair,
			const struct request_outcome *outcome, const struct copy_page *page, struct rpc_answer *ret)
{
	enum reason reason = request_audit(core, request->view, request, pair, &outcome->where, outcome->reason);

	request_answer_head(request->view, request, reason, ret);
	request_answer_retry(core, outcome->retry_after_ms, ret);
	if (request->reason == REASON_OK)
		request_answer_place(request->view, request, outcome, pair, page, ret);
}

/*
 * A pair for which the copy is too old has the answer that `check` would give: what was found with the copy's help
 * counts for nothing, and the key is not proven.
 */
static void answer_beyond(struct request_core *core, struct request *request, const struct rpc_pair *pair,
			  enum reason early, struct rpc_answer *ret)
{
	bool of_copy = request->granted || early == REASON_BEHIND || early == REASON_NO_PEPPER;
	struct request_outcome outcome = {.reason = of_copy ? REASON_STALE : early};
	struct request unproven = *request;

	unproven.view = request->view->beyond;
	unproven.facts = NULL; /* they say more */
	unproven.proven = false;
	unproven.reason = outcome.reason;
	if (!of_copy)
		outcome.retry_after_ms = request->retry_after_ms;
	answer_pair(core, &unproven, pair, &outcome, NULL, ret);
}

static void answer_check(struct request_core *core, struct request *request, const struct request_outcome *outcomes,
			 struct rpc_buffer *out)
{
	const struct rpc_request *rpc = request->rpc;
	struct rpc_answer made;

	answer_pair(core, request, &rpc->pair, outcomes, &core->scratch->pages[request->first_pair], &made);
	made.trace = request->trace;
	rpc_put_answer(out, rpc->msgid, &made);
}

static void answer_many(struct request_core *core, struct request *request, const struct request_outcome *outcomes,
			const struct request_outcome *early, struct rpc_buffer *out)
{
	const struct rpc_request *rpc = request->rpc;
	struct rpc_answer made;

	rpc_put_answers_head(out, rpc->msgid, rpc->pair_count);
	for (uint32_t i = 0; i < rpc->pair_count; i++) {
		if (is_beyond(core, request, &rpc->pairs[i]))
			answer_beyond(core, request, &rpc->pairs[i], request->reason, &made);
		else
			answer_pair(core, request, &rpc->pairs[i], early ? early : &outcomes[i],
				    &core->scratch->pages[request->first_pair + i], &made);
		rpc_put_answer_map(out, &made);
	}
}

static void answer(struct request_core *core, struct request *request, struct rpc_buffer *out)
{
	const struct request_outcome *outcomes = core->scratch->outcomes + request->first_pair;
	struct request_outcome early = {.reason = request->reason, .retry_after_ms = request->retry_after_ms};
	bool passed = request->reason == REASON_OK;

	switch (request->rpc->method) {
	case RPC_METHOD_CHECK_MANY:
		answer_many(core, request, outcomes, passed ? NULL : &early, out);
		return;
	case RPC_METHOD_PAGES:
		if (passed) {
			request_pages_answer(core, request->view, request, outcomes, out);
			return;
		}
		break;
	case RPC_METHOD_WHOAMI:
		if (passed) {
			request_whoami(core, request->view, request, out);
			return;
		}
		break;
	default:
		break;
	}
	answer_check(core, request, passed ? outcomes : &early, out);
}

/* ---- a batch ---- */

/* Puts aside what must wait. What cannot has its reason after. */
static void put_aside(struct request_core *core, struct request_owner *owner, struct request *request)
{
	enum reason reason;

	if (!request->waits)
		return;
	if (request_wait(core, owner, request, &reason))
		return;
	request->waits = false;
	request->reason = reason;
	request->retry_after_ms = 0;
}

/* Returns how many were answered: the others wait. */
static uint32_t judge(struct request_core *core, struct request_owner *owner, const struct rpc_request *rpcs,
		      uint32_t count, struct request_waiting *waiting, struct request_late *late,
		      struct rpc_buffer *out)
{
	struct request *requests = core->scratch->requests;
	struct request_view view, beyond;
	uint32_t waiting_count = 0;

	/* The time of a read is as good as any until its answer, and was looked at already. */
	look(core, owner->boot_us && !late ? owner->boot_us : mirror_boot_now(), &view, &beyond);
	for (uint32_t i = 0; i < count; i++) {
		begin(core, &view, &requests[i], owner, &rpcs[i], late);
		requests[i].waiting = waiting;
	}
	judge_accounts(core, &view, count);
	find_pages(core, &view, count);
	for (uint32_t i = 0; i < count; i++) {
		if (requests[i].reason == REASON_OK)
			judge_pairs(core, &requests[i]);
	}
	request_record_ahead(core, count);
	for (uint32_t i = 0; i < count; i++)
		put_aside(core, owner, &requests[i]);
	for (uint32_t i = 0; i < count; i++) {
		if (!requests[i].waits)
			answer(core, &requests[i], out);
		else
			waiting_count++;
		if (late) {
			late->memo = requests[i].memo;
			late->memo_count = requests[i].memo_count;
		} else if (requests[i].memo) {
			request_memo_free(requests[i].memo, requests[i].memo_count);
		}
	}
	request_principals_drop(core);
	arena_clear(&core->arena);
	return count - waiting_count;
}

uint32_t request_batch(struct request_core *core, struct request_owner *owner, const struct rpc_request *requests,
		       uint32_t count, struct rpc_buffer *out)
{
	return judge(core, owner, requests, count, NULL, NULL, out);
}

bool request_judge_late(struct request_core *core, struct request_waiting *waiting, struct request_late *late,
			struct rpc_buffer *out)
{
	return judge(core, late->owner, late->rpc, 1, waiting, late, out) > 0;
}

/* ---- life ---- */

void request_set_policy(struct request_core *core, struct policy *policy)
{
	struct policy *before = core->policy;

	core->policy = policy ? policy_ref(policy) : NULL;
	if (policy)
		policy_enter(policy);
	policy_unref(before);
}

int request_core_init(struct request_core *core, uv_loop_t *loop, const struct config *config,
		      const struct secret *secret, struct mirror *mirror, const struct request_callbacks *callbacks)
{
	int rc;

	memset(core, 0, sizeof(*core));
	core->loop = loop;
	core->config = config;
	core->secret = secret;
	core->mirror = mirror;
	core->callbacks = *callbacks;
	rc = request_call_init(core);
	if (rc != 0)
		return rc;
	core->scratch = calloc(1, sizeof(*core->scratch));
	if (core->scratch)
		return request_wait_init(core);
	request_call_close(core);
	uv_close((uv_handle_t *)&core->completed, NULL);
	request_call_deinit(core);
	return -ENOMEM;
}

void request_core_deinit(struct request_core *core)
{
	policy_unref(core->policy);
	request_call_deinit(core);
	free(core->scratch);
	free(core->by_deadline.items);
	free(core->by_rev.items);
	rpc_buffer_deinit(&core->late);
	arena_clear(&core->arena);
}
