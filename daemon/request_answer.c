/* What an answer says beside its reason. */
#include "daemon/request_internal.h"

#include <string.h>

static struct rpc_text text_of(const char *text)
{
	return (struct rpc_text){.data = text, .len = (uint32_t)strlen(text)};
}

/* Rounded down, as for times before 1970 too. */
static int64_t seconds_of(int64_t us)
{
	return us / 1000000 - (us % 1000000 < 0);
}

void request_answer_head(const struct request_view *view, const struct request *request, enum reason reason,
			 struct rpc_answer *ret)
{
	const struct rule_who *who = &request->who;
	struct copy_organization organization;
	keytext_id successor;

	memset(ret, 0, sizeof(*ret));
	ret->reason = reason;
	ret->rev = view->rev;
	ret->age_ms = view->age_ms;
	if (!request->proven)
		return;
	ret->stale = request_is_stale(view, request, reason);
	ret->proven = true;
	ret->kind = who->kind;
	memcpy(ret->key_id, request->text.id_text, sizeof(ret->key_id));
	if (request->glass)
		ret->org = request->glass->organization;
	else if (who->kind == KEY_KIND_USER)
		ret->user = request->user.email;
	else if (copy_organization(view->copy, who->organization, &organization))
		ret->org = organization.slug;
	if (who->expires_at != INT64_MAX) {
		ret->has_expiry = true;
		ret->expires_at = seconds_of(who->expires_at);
	}
	if (request->grant.from == GRANT_STORE && copy_key_successor(view->copy, request->key, &successor))
		keytext_id_format(successor, ret->successor);
}

void request_answer_retry(struct request_core *core, uint64_t ms, struct rpc_answer *answer)
{
	enum reason reason = answer->reason;

	if (reason == REASON_OK)
		return;
	if (ms == 0 && (reason == REASON_STALE || reason == REASON_NOT_LOADED || reason == REASON_BEHIND)) {
		ms = core->callbacks.retry_ms ? core->callbacks.retry_ms(core->callbacks.data) : 0;
		if (ms == 0)
			ms = core->config->poll_ms;
	}
	answer->has_retry = ms > 0;
	answer->retry_after_ms = ms;
}

/* Whether the caller has come close enough to a place to be told which one it is. */
static bool may_name_place(enum reason reason)
{
	switch (reason) {
	case REASON_OK:
	case REASON_ORG_SUSPENDED:
	case REASON_PAGE_ARCHIVED:
	case REASON_PAGE_NOT_GRANTED:
	case REASON_SCOPE_NOT_GRANTED:
		return true;
	default:
		return false;
	}
}

/* A break-glass key is told what it named itself. */
static void place_by_name(const struct request_outcome *outcome, const struct rpc_pair *pair, struct rpc_answer *answer)
{
	answer->page = pair->page;
	if (outcome->reason == REASON_SCOPE_NOT_GRANTED)
		answer->missing_scope = pair->scope;
}

void request_answer_place(const struct request_view *view, const struct request *request,
			  const struct request_outcome *outcome, const struct rpc_pair *pair,
			  const struct copy_page *page, struct rpc_answer *answer)
{
	const struct rule_where *where = &outcome->where;
	const struct rule_missing *missing = &outcome->missing;
	struct copy_organization organization;
	rule_handle about;

	if (!may_name_place(answer->reason))
		return;
	if (request->glass) {
		place_by_name(outcome, pair, answer);
		return;
	}
	if (where->page)
		answer->page = page->slug;
	if (request->who.kind == KEY_KIND_USER) {
		about = rule_organization(&request->who, where);
		if (about && copy_organization(view->copy, about, &organization))
			answer->org = organization.slug;
	}
	if (missing->scope)
		answer->missing_scope = text_of(view->catalog->scopes[missing->scope].name);
	if (missing->needs)
		answer->needs_role = text_of(view->catalog->roles[missing->needs].name);
}
