/* The engine's runner: asks modules, keeps what they answered, and says it in explain's trace. */
#include "daemon/request_internal.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- facts ---- */

static struct apikeyd_text text_of(struct rpc_text text)
{
	return (struct apikeyd_text){.data = text.data, .len = text.len};
}

static struct apikeyd_text word_of(const char *word)
{
	return (struct apikeyd_text){.data = word, .len = (uint32_t)strlen(word)};
}

void request_facts_whose(struct request_facts *facts)
{
	const struct request *request = facts->request;
	struct apikeyd_request *shown = &facts->shown;
	struct copy_organization organization;

	if (request->glass) {
		shown->kind = APIKEYD_KIND_BREAK_GLASS;
		shown->key_org = text_of(request->glass->organization);
		return;
	}
	if (request->who.kind == KEY_KIND_USER) {
		shown->kind = APIKEYD_KIND_USER;
		shown->key_user = text_of(request->user.email);
	} else {
		shown->kind = APIKEYD_KIND_ORGANIZATION;
		if (copy_organization(facts->view->copy, request->who.organization, &organization))
			shown->key_org = text_of(organization.slug);
	}
	if (request->who.flags & RULE_NARROWED_RATE) {
		shown->rate_count = request->who.rate_count;
		shown->rate_period_us = (uint64_t)request->who.rate_period_s * 1000000;
	}
}

void request_facts_init(struct request_core *core, const struct request_view *view, struct request *request,
			struct request_facts *ret)
{
	const struct rpc_request *rpc = request->rpc;
	const struct request_owner *owner = request->owner;
	struct apikeyd_request *shown = &ret->shown;

	memset(ret, 0, sizeof(*ret));
	ret->core = core;
	ret->view = view;
	ret->request = request;
	shown->size = sizeof(*shown);
	shown->method = word_of(rpc_method_word(rpc->method == RPC_METHOD_EXPLAIN ? RPC_METHOD_CHECK : rpc->method));
	shown->stack = (struct apikeyd_text){request->stack->name, request->stack->name_len};
	shown->explain = request->explains;
	shown->uid = owner->uid;
	shown->gid = owner->gid;
	shown->pid = owner->pid;
	shown->gids = owner->gids;
	shown->gid_count = owner->gid_count;
	shown->gids_known = owner->gids_known;
	if (request->is_key) {
		shown->key_id = (struct apikeyd_text){request->text.id_text, KEYTEXT_ID_LEN};
		shown->key_letter = key_kind_letter(request->text.kind);
	}
	shown->org = text_of(rpc->context.org);
	shown->addr.family = rpc->context.addr.family;
	memcpy(shown->addr.bytes, rpc->context.addr.bytes, sizeof(shown->addr.bytes));
	shown->cost = rpc->context.cost;
	if (rpc->method == RPC_METHOD_CHECK_MANY)
		shown->cost *= rpc->pair_count;
	shown->now_us = view->now;
	shown->boot_us = view->boot;
	shown->rev = view->rev;
	shown->age_ms = view->age_ms;
	shown->stale = view->stale;
	if (request->proven)
		request_facts_whose(ret);
}

/* ---- what is kept ---- */

/* How many entries a request needs: the modules of a stack once, those of page and scope once a pair. */
static uint32_t memo_size(const struct policy_stack *stack, uint32_t pairs)
{
	uint32_t each = stack->pair_end - stack->pair_first;

	return stack->program->module_count - each + each * pairs;
}

static struct request_memo *memo_at(const struct request *request, uint16_t number, uint32_t pair)
{
	const struct policy_stack *stack = request->stack;
	uint32_t each = stack->pair_end - stack->pair_first, at = number;

	if (!request->memo)
		return NULL;
	/* Once for the request first, then page and scope a pair after the other; audit is never kept. */
	if (number >= stack->pair_end)
		return NULL;
	if (number >= stack->pair_first)
		at += each * pair;
	return at < request->memo_count ? &request->memo[at] : NULL;
}

bool request_memo_new(struct request *request)
{
	request->memo_count = memo_size(request->stack, request->pair_count ? request->pair_count : 1);
	request->memo = calloc(request->memo_count + 1u, sizeof(*request->memo));
	return request->memo != NULL;
}

bool request_memo_grow(struct request *request)
{
	uint32_t count = memo_size(request->stack, request->pair_count ? request->pair_count : 1);
	struct request_memo *memo;

	if (!request->memo || count <= request->memo_count)
		return true;
	memo = realloc(request->memo, (count + 1u) * sizeof(*memo));
	if (!memo)
		return false;
	memset(memo + request->memo_count, 0, (count + 1u - request->memo_count) * sizeof(*memo));
	request->memo = memo;
	request->memo_count = count;
	return true;
}

void request_memo_free(struct request_memo *memo, uint32_t count)
{
	for (uint32_t i = 0; memo && i < count; i++) {
		request_principal_unref(memo[i].grant.principal);
		free((char *)(uintptr_t)memo[i].detail);
	}
	free(memo);
}

/* ---- asking ---- */

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* What was answered before. */
static enum apikeyd_code recall(struct request_facts *facts, const struct request_memo *memo)
{
	enum reason reason;

	facts->request->candidate = memo->grant;
	facts->ns = memo->ns;
	free(facts->detail);
	facts->detail = memo->detail ? strdup(memo->detail) : NULL;
	facts->retry_after_ms = memo->retry_after_ms;
	if (memo->code == APIKEYD_SUCCESS && memo->grant.from == GRANT_STORE) {
		/* By the copy as it is now. A module that proved the key and still said no has said no. */
		reason = request_prove(facts->core, facts->view, facts->request);
		return code_of_reason(reason);
	}
	return (enum apikeyd_code)memo->code;
}

static void keep(const struct request_facts *facts, struct request_memo *memo, enum apikeyd_code code)
{
	memo->state = MEMO_DONE;
	memo->code = (uint8_t)code;
	memo->retry_after_ms = facts->retry_after_ms;
	memo->ns = facts->ns;
	request_principal_unref(memo->grant.principal);
	memo->grant = facts->request->candidate;
	request_principal_ref(memo->grant.principal);
	free((char *)(uintptr_t)memo->detail);
	memo->detail = facts->detail ? strdup(facts->detail) : NULL;
}

/* Asks the module itself. */
static enum apikeyd_code start(struct request_facts *facts, const struct stack_line *line, struct apikeyd_self *self,
			       struct request_memo *memo)
{
	struct request_core *core = facts->core;
	struct request *request = facts->request;
	struct request_call *call = NULL;
	enum apikeyd_code code;
	uint64_t token = 0, began = request->explains ? now_ns() : 0;

	free(facts->detail);
	facts->detail = NULL;
	request->candidate = (struct request_grant){.from = GRANT_NONE};
	if (line->module->flags & APIKEYD_ASYNCHRONOUS && memo) {
		if (!request->may_wait)
			return APIKEYD_TIMEOUT;
		if (self->pending >= core->config->module_pending) {
			core->counters.calls_overload++;
			return APIKEYD_OVERLOAD;
		}
		call = request_call_new(core, self, &token);
		if (!call)
			return APIKEYD_OVERLOAD;
	}
	self->asked++;
	code = code_clean((int)line->module->start(self->instance, &facts->shown, token));
	if (request->explains)
		facts->ns = now_ns() - began;
	if (code == APIKEYD_PENDING && call) {
		request_call_keep(call, memo);
		core->counters.calls++;
		memo->ns = facts->ns;
		return code;
	}
	request_call_free(core, call);
	if (code == APIKEYD_PENDING || (code == APIKEYD_SUCCESS && line->module->flags & APIKEYD_IDENTIFIES &&
					request->candidate.from == GRANT_NONE)) {
		core->counters.module_faults++;
		code = APIKEYD_MODULE_FAULT;
	}
	if (memo)
		keep(facts, memo, code);
	return code;
}

static enum apikeyd_code on_ask(void *data, const struct stack_line *line)
{
	struct request_facts *facts = data;
	struct request *request = facts->request;
	struct request_memo *memo = memo_at(request, line->module_number, facts->pair);
	enum apikeyd_code code;

	facts->ns = 0;
	facts->retry_after_ms = 0;
	if (memo && memo->state == MEMO_PENDING)
		return APIKEYD_PENDING;
	if (memo && memo->state == MEMO_DONE && (memo->late || !(line->module->flags & APIKEYD_ASK_AGAIN)))
		code = recall(facts, memo);
	else
		code = start(facts, line, request->stack->instances[line->module_number], memo);
	return code;
}

static void on_grant(void *data, const struct stack_line *line)
{
	struct request_facts *facts = data;

	(void)line;
	facts->request->grant = facts->request->candidate;
}

/* Who asks again must get past all of these lines: the longest time is the one to wait. */
static void on_against(void *data, const struct stack_line *line, enum stack_class class)
{
	struct request_facts *facts = data;

	(void)line;
	if (facts->retry_after_ms > facts->against_ms[class])
		facts->against_ms[class] = facts->retry_after_ms;
}

/* ---- explain ---- */

static bool put_trace(struct arena *arena, struct value *list, const char *group, const char *module, const char *code)
{
	struct value *entry = value_add(arena, list);

	if (!entry)
		return false;
	value_map(entry);
	return value_set_text(arena, entry, "group", group) && value_set_text(arena, entry, "module", module) &&
	       value_set_text(arena, entry, "code", code);
}

void request_put_trace_core(struct request *request, struct arena *arena, enum stack_group group, enum reason reason)
{
	enum apikeyd_code code = code_of_reason(reason);

	if (!put_trace(arena, request->trace, group_word(group), "core", code_word(code)))
		request->trace = NULL;
}

static void trace_detail(struct request *request, struct arena *arena, const char *detail)
{
	struct value *list = request->trace;

	if (list && !value_set_text(arena, &list->items[list->count - 1], "detail", detail))
		request->trace = NULL;
}

void request_trace_age(struct request_core *core, const struct request_view *view, struct request *request)
{
	const struct rpc_text *scope = &request->rpc->pair.scope;
	char detail[160];

	if (!request->trace || (!view->stale && view->fault != REASON_STALE))
		return;
	snprintf(detail, sizeof(detail),
		 "the copy is stale: confirmed %" PRIu64 " ms ago, max_stale_ms is %" PRIu32
		 ", offline_grace of this scope %" PRIu32 " ms",
		 view->age_ms, core->config->max_stale_ms,
		 config_grace_ms(core->config->grace, scope->data, scope->len));
	trace_detail(request, &core->arena, detail);
}

void request_trace_unknown(struct request *request, struct arena *arena, enum reason reason)
{
	char detail[96];

	snprintf(detail, sizeof(detail), "%s by a copy that is stale: a newer one may know it", reason_word(reason));
	trace_detail(request, arena, detail);
}

static enum stack_group group_of(const struct stack_program *program, const struct stack_line *line)
{
	unsigned at = (unsigned)(line - program->lines), group = STACK_AUDIT;

	while (group > 0 && at < program->first[group])
		group--;
	return (enum stack_group)group;
}

static void on_trace(void *data, const struct stack_line *line, enum apikeyd_code code, enum stack_action action,
		     enum stack_effect effect)
{
	struct request_facts *facts = data;
	struct request *request = facts->request;
	struct arena *arena = &facts->core->arena;
	const struct stack_program *program = request->stack->program;
	struct value *entry, *list = request->trace;
	const char *slash = strrchr(line->path, '/');
	char where[STACK_NAME_MAX + 32];
	bool good;

	if (!list)
		return;
	good = put_trace(arena, list, group_word(group_of(program, line)),
			 line->op == STACK_OP_MODULE ? line->name : "substack", code_word(code));
	if (good) {
		entry = &list->items[list->count - 1];
		snprintf(where, sizeof(where), "%s:%u", slash ? slash + 1 : line->path, line->place.line);
		good = value_set_text(arena, entry, "line", where) &&
		       value_set_text(arena, entry, "control", line->control ? line->control : "") &&
		       value_set_text(arena, entry, "action", action_word(action)) &&
		       value_set_text(arena, entry, "effect", effect_word(effect)) &&
		       value_set_uint(arena, entry, "ns", facts->ns);
		if (good && line->op == STACK_OP_MODULE && facts->detail)
			good = value_set_text(arena, entry, "detail", facts->detail);
	}
	if (!good)
		request->trace = NULL;
}

/* ---- running ---- */

enum reason request_run(struct request_facts *facts, enum stack_group group, bool *ret_charged)
{
	static const enum apikeyd_group bits[STACK_GROUPS] = {
		APIKEYD_GROUP_CALLER, APIKEYD_GROUP_KEY,   APIKEYD_GROUP_ACCOUNT,
		APIKEYD_GROUP_PAGE,   APIKEYD_GROUP_SCOPE, APIKEYD_GROUP_AUDIT,
	};
	struct request *request = facts->request;
	const struct stack_program *program = request->stack->program;
	struct stack_runner runner = {.ask = on_ask, .grant = on_grant, .against = on_against, .data = facts};
	struct stack_result result;

	*ret_charged = false;
	/* A group without lines passes, but for key, which must be granted. */
	if (program->first[group] == program->first[group + 1] && group != STACK_KEY)
		return REASON_OK;
	if (request->trace)
		runner.trace = on_trace;
	facts->shown.group = bits[group];
	memset(facts->against_ms, 0, sizeof(facts->against_ms));
	stack_run(program, group, &runner, &result);
	free(facts->detail);
	facts->detail = NULL;
	switch (result.outcome) {
	case STACK_PASSED:
		*ret_charged = result.charged;
		return REASON_OK;
	case STACK_WAITS:
		request->waits = true;
		return REASON_TIMEOUT;
	default:
		request->retry_after_ms = facts->against_ms[code_class(result.code)];
		return code_reason(result.code);
	}
}
