/* The six groups: what the core judges itself, and the stack's lines after it. */
#include "daemon/request_internal.h"

#include <string.h>

/* ---- caller, key, account ---- */

static enum reason judge_caller(struct request_facts *facts)
{
	struct request *request = facts->request;
	bool charged;

	request_trace_core(request, &facts->core->arena, STACK_CALLER, REASON_OK);
	return request_run(facts, STACK_CALLER, &charged);
}

/* Form, checksum, and whether the copy is as new as the question wants it. */
static enum reason core_key(const struct request_core *core, const struct request_view *view, struct request *request)
{
	const struct rpc_text *text = &request->rpc->key;
	const char *brand = core->config->brand;
	bool of_store = request->text.kind != KEY_KIND_BREAK_GLASS;

	if (!request->is_key)
		return REASON_MALFORMED_KEY;
	/*
	 * That a text is no key can be said without the copy. The store's own keys have their checksum looked at where
	 * no proof is remembered: request_prove.
	 */
	if ((!of_store || view->fault != REASON_OK) &&
	    !keytext_parse(text->data, text->len, brand, strlen(brand), &request->text))
		return REASON_MALFORMED_KEY;
	/* A copy that is too old is its own fault, which the store tells; waiting would not mend it. */
	if (request->rpc->context.min_rev > view->rev && (!of_store || view->fault == REASON_OK)) {
		request->waits = request->may_wait;
		request->rev_wanted = request->rpc->context.min_rev;
		return REASON_BEHIND;
	}
	return REASON_OK;
}

static enum reason judge_key(struct request_facts *facts)
{
	struct request *request = facts->request;
	struct apikeyd_text *shown = &facts->shown.key;
	enum reason reason = core_key(facts->core, facts->view, request);
	bool charged;

	request_trace_core(request, &facts->core->arena, STACK_KEY, reason);
	request_trace_age(facts->core, facts->view, request);
	if (reason != REASON_OK)
		return reason;
	request->grant = (struct request_grant){.from = GRANT_NONE};
	*shown = (struct apikeyd_text){request->rpc->key.data, request->rpc->key.len};
	reason = request_run(facts, STACK_KEY, &charged);
	*shown = (struct apikeyd_text){0};
	if (reason == REASON_OK && request->grant.from == GRANT_NONE)
		reason = REASON_UNKNOWN_KEY; /* the engine sees to it; nothing hangs on that */
	return reason;
}

static enum reason core_account(const struct request_view *view, struct request *request)
{
	const struct rpc_context *context = &request->rpc->context;
	struct copy_organization organization;
	enum reason reason = request_resolve(view, request);

	if (reason != REASON_OK)
		return reason;
	request->proven = true;
	request->organization_named = 0;
	if (context->org.data && view->copy && copy_find_organization(view->copy, context->org, &organization))
		request->organization_named = organization.handle;
	if (request->glass)
		return rule_glass_account(request->glass, view->now, &context->addr);
	return rule_account(&request->who, view->now, &context->addr);
}

static enum reason judge_account(struct request_facts *facts)
{
	struct request *request = facts->request;
	enum reason reason = core_account(facts->view, request);
	bool charged;

	request_trace_core(request, &facts->core->arena, STACK_ACCOUNT, reason);
	if (reason == REASON_STALE && facts->view->stale)
		request_trace_unknown(request, &facts->core->arena, REASON_UNKNOWN_KEY);
	if (reason != REASON_OK)
		return reason;
	request_facts_whose(facts);
	reason = request_run(facts, STACK_ACCOUNT, &charged);
	if (reason != REASON_OK)
		return reason;
	reason = rule_rate(&request->who, charged);
	if (reason != REASON_OK)
		request_trace_core(request, &facts->core->arena, STACK_ACCOUNT, reason);
	return reason;
}

void request_judge_account(struct request_core *core, const struct request_view *view, struct request *request)
{
	struct request_facts *facts = &core->scratch->facts[request - core->scratch->requests];

	request_facts_init(core, view, request, facts);
	request->facts = facts;
	request->reason = judge_caller(facts);
	if (request->reason == REASON_OK)
		request->reason = judge_key(facts);
	request->granted = request->reason == REASON_OK;
	if (request->granted)
		request->reason = judge_account(facts);
}

/* ---- page, scope ---- */

void request_where(const struct request_view *view, const struct request *request, rule_scope scope, bool page_asked,
		   const struct copy_page *page, struct rule_where *ret)
{
	const struct copy *copy = view->copy;
	bool is_user = request->who.kind == KEY_KIND_USER;
	struct copy_organization organization;
	rule_handle about;

	*ret = (struct rule_where){.scope = scope,
				   .page_asked = page_asked,
				   .organization_asked = request->rpc->context.org.data != NULL,
				   .organization_named = request->organization_named};
	if (page_asked && page->handle) {
		ret->page = page->handle;
		ret->page_organization = page->organization;
		ret->page_archived = page->archived;
	}
	if (is_user && !page_asked && !ret->organization_asked)
		ret->organization_only = copy_user_only_organization(copy, request->user.handle);
	about = rule_organization(&request->who, ret);
	if (is_user && ret->page)
		ret->page_role = copy_user_page_role(copy, request->user.handle, ret->page);
	if (is_user && about)
		ret->organization_role = copy_user_organization_role(copy, request->user.handle, about);
	if (about && copy_organization(copy, about, &organization))
		ret->organization_suspended = organization.suspended;
}

static void glass_where(const struct request_view *view, const struct request *request, const struct rpc_pair *pair,
			const struct copy_page *page, struct rule_glass_where *ret)
{
	struct copy_organization organization;
	rule_scope scope;

	*ret = (struct rule_glass_where){.scope = pair->scope,
					 .page = pair->page,
					 .org = request->rpc->context.org,
					 .known = view->copy != NULL};
	if (!view->copy)
		return;
	ret->fresh = view->fault == REASON_OK && !view->stale;
	scope = copy_find_scope(view->copy, pair->scope);
	ret->scope_known = scope && view->catalog->scopes[scope].levels & RULE_LEVEL_PAGE;
	if (page->handle && copy_organization(view->copy, page->organization, &organization)) {
		ret->page_known = true;
		ret->page_archived = page->archived;
		ret->page_organization = organization.slug;
		ret->organization_suspended = organization.suspended;
	}
}

void request_judge_pair(struct request_core *core, const struct request_view *view, struct request *request,
			uint32_t pair, const struct copy_page *page, struct request_outcome *ret)
{
	const struct rpc_pair *asked = &request->pairs[pair];
	const struct stack_program *program = request->stack->program;
	bool lines = program->first[STACK_PAGE] != program->first[STACK_AUDIT], charged;
	struct request_facts *facts = request->facts;
	struct rule_glass_where glass;
	enum reason found;

	memset(ret, 0, sizeof(*ret));
	request->retry_after_ms = 0;
	if (request->glass) {
		glass_where(view, request, asked, page, &glass);
		ret->reason = found = rule_glass_place(request->glass, &glass);
	} else {
		request_where(view, request, copy_find_scope(view->copy, asked->scope), asked->page.data != NULL, page,
			      &ret->where);
		found = rule_place(view->catalog, &request->who, &ret->where);
		ret->reason = request_known(view, found);
	}
	request_trace_core(request, &core->arena, STACK_PAGE, ret->reason);
	if (found != ret->reason)
		request_trace_unknown(request, &core->arena, found);
	if (ret->reason == REASON_OK && lines) {
		request_facts_pair(facts, asked, pair);
		ret->reason = request_run(facts, STACK_PAGE, &charged);
	}
	if (ret->reason == REASON_OK) {
		ret->reason = request->glass ? rule_glass_right(request->glass, &glass)
					     : rule_right(view->catalog, &request->who, &ret->where, &ret->missing);
		request_trace_core(request, &core->arena, STACK_SCOPE, ret->reason);
		if (ret->reason == REASON_OK && lines)
			ret->reason = request_run(facts, STACK_SCOPE, &charged);
	}
	ret->retry_after_ms = request->retry_after_ms;
}

/* ---- audit ---- */

static void tell_ended(const struct policy_stack *stack, struct request_facts *facts)
{
	for (uint32_t i = 0; i < stack->ended_count; i++)
		stack->ended[i]->module->ended(stack->ended[i]->instance, &facts->shown);
}

static void show_verdict(struct apikeyd_request *shown, enum reason reason)
{
	const char *verdict = verdict_word(verdict_of(reason)), *word = reason_word(reason);

	shown->verdict = (struct apikeyd_text){verdict, (uint32_t)strlen(verdict)};
	shown->reason = (struct apikeyd_text){word, (uint32_t)strlen(word)};
	shown->reason_code = code_of_reason(reason);
}

enum reason request_audit(struct request_core *core, const struct request_view *view, struct request *request,
			  const struct rpc_pair *pair, const struct rule_where *where, enum reason reason)
{
	struct policy_stack *stack = request->stack;
	struct request_facts own, *facts = request->facts;
	bool charged;

	if (!stack)
		request_record_no_stack(core, view, request, reason);
	if (stack && (request_has_audit(stack) || stack->ended_count > 0)) {
		if (!facts) {
			facts = &own;
			request_facts_init(core, view, request, facts);
		}
		request_facts_pair(facts, pair, 0);
		show_verdict(&facts->shown, reason);
		facts->shown.stale = request_is_stale(view, request, reason);
		request_record_about(facts, pair, where, reason);
		if (request_run(facts, STACK_AUDIT, &charged) != REASON_OK && reason == REASON_OK) {
			reason = REASON_AUDIT_FULL;
			show_verdict(&facts->shown, reason);
			facts->shown.stale = false;
		}
		if (facts->record_how)
			request_record(facts, reason);
		if (!request->explains)
			tell_ended(stack, facts);
	}
	if (request->explains)
		return reason;
	core->counters.verdicts[reason]++;
	core->counters.stale += request_is_stale(view, request, reason);
	if (stack)
		stack->verdicts[reason]++;
	return reason;
}
