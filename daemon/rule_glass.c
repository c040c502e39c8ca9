#include "daemon/rule_glass.h"

#include <string.h>

#define US_PER_HOUR ((int64_t)3600 * 1000000)

static bool same(struct rpc_text a, struct rpc_text b)
{
	return a.data && b.data && a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
}

static bool listed(const struct rpc_text *texts, uint32_t count, struct rpc_text text)
{
	for (uint32_t i = 0; i < count; i++) {
		if (same(texts[i], text))
			return true;
	}
	return false;
}

/* resource:action, cut at its colon. */
static bool cut(struct rpc_text scope, struct rpc_text *ret_resource, struct rpc_text *ret_action)
{
	const char *colon = scope.data ? memchr(scope.data, ':', scope.len) : NULL;

	if (!colon)
		return false;
	*ret_resource = (struct rpc_text){scope.data, (uint32_t)(colon - scope.data)};
	*ret_action = (struct rpc_text){colon + 1, scope.len - ret_resource->len - 1};
	return true;
}

static bool is(struct rpc_text text, const char *word)
{
	return text.len == strlen(word) && memcmp(text.data, word, text.len) == 0;
}

enum reason rule_glass_account(const struct rule_glass *glass, int64_t now, const struct rpc_addr *addr)
{
	if (glass->expires_at <= 0 || !glass->organization.data)
		return REASON_POLICY;
	if (now >= glass->expires_at)
		return REASON_EXPIRED;
	/* Whatever a module said: a day at most. */
	if (glass->expires_at - now > RULE_GLASS_HOURS_MAX * US_PER_HOUR)
		return REASON_POLICY;
	if (now < glass->not_before)
		return REASON_NOT_YET_VALID;
	if (glass->narrowed_networks && !rule_in_networks(glass->networks, glass->network_count, addr))
		return REASON_NETWORK;
	return REASON_OK;
}

enum reason rule_glass_place(const struct rule_glass *glass, const struct rule_glass_where *where)
{
	struct rpc_text resource, action;

	if (!cut(where->scope, &resource, &action) || (where->known && !where->scope_known))
		return REASON_UNKNOWN_SCOPE;
	if (!where->page.data)
		return where->org.data && !same(where->org, glass->organization) ? REASON_NOT_MEMBER
										 : REASON_PAGE_NOT_GRANTED;
	if (where->org.data && !same(where->org, glass->organization))
		return REASON_UNKNOWN_PAGE;
	if (where->page_known && !same(where->page_organization, glass->organization))
		return REASON_UNKNOWN_PAGE;
	/* A copy that is too old may not know a page yet; one that is not knows them all. */
	if (where->fresh && !where->page_known)
		return REASON_UNKNOWN_PAGE;
	if (where->organization_suspended)
		return REASON_ORG_SUSPENDED;
	if (where->page_archived && !is(action, "read"))
		return REASON_PAGE_ARCHIVED;
	if (!listed(glass->pages, glass->page_count, where->page))
		return REASON_PAGE_NOT_GRANTED;
	return REASON_OK;
}

/* Whether a scope list names X:write for this X:read. */
static bool brought_by_write(const struct rule_glass *glass, struct rpc_text resource, struct rpc_text action)
{
	struct rpc_text other_resource, other_action;

	if (!is(action, "read"))
		return false;
	for (uint32_t i = 0; i < glass->scope_count; i++) {
		if (cut(glass->scopes[i], &other_resource, &other_action) && is(other_action, "write") &&
		    same(other_resource, resource))
			return true;
	}
	return false;
}

enum reason rule_glass_right(const struct rule_glass *glass, const struct rule_glass_where *where)
{
	struct rpc_text resource, action;

	if (!cut(where->scope, &resource, &action))
		return REASON_UNKNOWN_SCOPE;
	if (is(resource, "member") || is(resource, "apikey") || is(resource, "org"))
		return REASON_SCOPE_NOT_GRANTED;
	if (!listed(glass->scopes, glass->scope_count, where->scope) && !brought_by_write(glass, resource, action))
		return REASON_SCOPE_NOT_GRANTED;
	return REASON_OK;
}
