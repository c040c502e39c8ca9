/* Verdicts into the ledger: what of them is known, and how the stack's line `ledger` wants them. */
#include "daemon/request_internal.h"

#include <stddef.h>

static inline uint64_t hint_of(rule_scope scope, rule_handle page)
{
	return (uint64_t)page << 16 | scope;
}

void request_record_ahead(struct request_core *core, uint32_t count)
{
	struct request_scratch *scratch = core->scratch;
	const struct rollup *ledger = core->ledger;
	uint32_t aims = 0;

	if (!ledger || (count == 1 && scratch->requests[0].pair_count < 2))
		return;
	for (uint32_t i = 0; i < count; i++) {
		const struct request *request = &scratch->requests[i];
		keytext_id id = request->text.id;
		uint32_t uid = request->owner->uid;

		/* Only a line of audit records. */
		if (request->reason != REASON_OK || !request_has_audit(request->stack))
			continue;
		for (uint32_t j = 0; j < request->pair_count; j++) {
			const struct request_outcome *outcome = &scratch->outcomes[request->first_pair + j];
			uint64_t hint = hint_of(outcome->where.scope, outcome->where.page);
			enum reason reason = outcome->reason;

			scratch->aims[aims++] = rollup_aim(ledger, reason, id, hint, uid, request->stack->name_len);
			if (reason != REASON_OK)
				scratch->aims[aims++] =
					rollup_aim(ledger, reason, id, 0, uid, request->stack->name_len);
		}
	}
	for (uint32_t i = 0; i < aims; i++)
		rollup_fetch(ledger, scratch->aims[i]);
}

/* Names that the copy knows; others are nobody's, and there may be any number of them. */
static void name_place(const struct request_view *view, const struct rpc_pair *pair, const struct rule_where *where,
		       struct rollup_verdict *v)
{
	rule_scope scope = where ? where->scope : 0;
	rule_handle page = where ? where->page : 0;
	struct copy_page found;

	if (!scope)
		scope = copy_find_scope(view->copy, pair->scope);
	if (!page && pair->page.data) {
		copy_find_pages(view->copy, &pair->page, 1, &found);
		page = found.handle;
	}
	if (scope)
		v->scope = pair->scope;
	if (page)
		v->page = pair->page;
	v->hint = hint_of(scope, page);
}

static void fill(const struct request_view *view, const struct request *request, const struct rpc_pair *pair,
		 const struct rule_where *where, enum reason reason, struct rollup_verdict *v)
{
	const struct rpc_context *context = &request->rpc->context;

	v->reason = reason;
	v->method = request->rpc->method;
	v->scope = v->page = v->org = (struct rpc_text){0};
	v->hint = 0;
	v->key_id = 0;
	v->addr = &context->addr;
	v->uid = request->owner->uid;
	v->stale = request_is_stale(view, request, reason);
	v->explain = request->explains;
	v->rev = view->rev;
	v->age_ms = view->age_ms;
	v->now = view->now;
	v->boot = view->boot;
	if (!request->proven)
		return;
	v->key_id = request->text.id;
	if (pair && view->copy)
		name_place(view, pair, where, v);
	if (request->organization_named)
		v->org = context->org;
}

void request_record(struct request_facts *facts, enum reason reason)
{
	const struct request *request = facts->request;
	struct rollup_verdict v;

	if (!facts->core->ledger)
		return;
	/* The lines have been asked: whoever is let pass without room for it is lost count of, and passes. */
	v.how = facts->record_how | LEDGER_GO_ON;
	v.stack = (struct rpc_text){request->stack->name, request->stack->name_len};
	fill(facts->view, request, facts->record_pair, facts->record_where, reason, &v);
	rollup_record(facts->core->ledger, &v);
}

void request_record_no_stack(struct request_core *core, const struct request_view *view, const struct request *request,
			     enum reason reason)
{
	struct rollup_verdict v = {.how = LEDGER_RECORD};

	if (!core->ledger)
		return;
	fill(view, request, NULL, NULL, reason, &v);
	rollup_record(core->ledger, &v);
}

/* ---- what the module `ledger` may call ---- */

static enum apikeyd_code host_record(struct apikeyd_self *self, const struct apikeyd_request *shown, unsigned how)
{
	struct request_facts *facts =
		(struct request_facts *)((uintptr_t)shown - offsetof(struct request_facts, shown));
	struct rollup *ledger = facts->core->ledger;
	struct rollup_verdict v;

	(void)self;
	/* Of several lines the strictest counts. */
	if (facts->record_how)
		how = (how | facts->record_how) & ~(~(how & facts->record_how) & LEDGER_GO_ON);
	facts->record_how = how;
	if (__builtin_expect(!ledger || rollup_is_open(ledger), 1) || facts->record_reason != REASON_OK ||
	    how & LEDGER_GO_ON)
		return APIKEYD_SUCCESS;
	v.how = how;
	v.stack = (struct rpc_text){facts->request->stack->name, facts->request->stack->name_len};
	fill(facts->view, facts->request, facts->record_pair, facts->record_where, REASON_OK, &v);
	return rollup_has_room(ledger, &v) ? APIKEYD_SUCCESS : APIKEYD_AUDIT_FULL;
}

void request_ledger_fill(struct ledger_host *host)
{
	host->host.size = sizeof(*host);
	host->record = host_record;
}
