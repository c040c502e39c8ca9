#include "daemon/rule.h"

#include <string.h>

/* ---- small questions ---- */

/* Whether `addr` lies in `network`: its first `prefix` bits are the same. */
static bool network_holds(const struct rule_network *network, const struct rpc_addr *addr)
{
	unsigned whole = network->prefix / 8, rest = network->prefix % 8;

	if (network->prefix > (addr->family == 4 ? 32 : 128))
		return false;

	/* clause: network_family */
	if (!addr->family || network->family != addr->family)
		return false;

	/* clause: network_whole_bytes */
	if (memcmp(network->bytes, addr->bytes, whole) != 0)
		return false;

	/* clause: network_last_bits */
	if (rest && (network->bytes[whole] ^ addr->bytes[whole]) >> (8 - rest))
		return false;

	return true;
}

bool rule_in_networks(const struct rule_network *networks, uint32_t count, const struct rpc_addr *addr)
{
	for (uint32_t i = 0; i < count; i++)
		if (network_holds(&networks[i], addr))
			return true;
	return false;
}

static bool page_listed(const struct rule_who *who, rule_handle page)
{
	uint32_t low = 0, high = who->page_count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (who->pages[middle] < page)
			low = middle + 1;
		else
			high = middle;
	}
	return low < who->page_count && who->pages[low] == page;
}

static bool scope_named(const struct rule_who *who, rule_scope scope)
{
	if (!scope || !(who->flags & RULE_NARROWED_SCOPES))
		return false;
	for (uint32_t i = 0; i < who->scope_count; i++)
		if (who->scopes[i] == scope)
			return true;
	return false;
}

static bool bit(const uint64_t *bits, rule_scope scope)
{
	return bits[scope / 64] >> scope % 64 & 1;
}

/* The role by which the principal acts in this place; 0: none. A role on the page itself overrides, either way. */
static rule_role acting_role(const struct rule_who *who, const struct rule_where *where)
{
	/* clause: access */
	if (who->kind == KEY_KIND_ORGANIZATION)
		return who->access;

	/* clause: page_role_overrides */
	if (where->page_asked && where->page_role)
		return where->page_role;

	return where->organization_role;
}

/* The lowest-ranked role of a place that holds a scope without conditions; 0: none. */
static rule_role smallest_role(const struct rule_catalog *catalog, uint8_t place, rule_scope scope)
{
	rule_role found = 0;

	for (unsigned i = 1; i < catalog->role_count; i++) {
		const struct rule_role_row *role = &catalog->roles[i];

		/* clause: needs_role_of_that_place */
		if (role->place != place)
			continue;

		/* clause: needs_role_that_holds */
		if (!bit(role->holds, scope))
			continue;

		/* clause: needs_role_that_holds_always */
		if (bit(role->when_named, scope))
			continue;

		/* clause: needs_smallest_role */
		if (found && role->rank >= catalog->roles[found].rank)
			continue;

		found = (rule_role)i;
	}
	return found;
}

/*
 * ---- the rule ----
 * Each clause can be taken out alone and is then missed: none leans on the one before it. A test does so.
 */

enum reason rule_account(const struct rule_who *who, int64_t now, const struct rpc_addr *addr)
{
	/* Facts that nobody filled in are no principal. */
	if (!(who->flags & RULE_LIVE))
		return REASON_POLICY;

	/* Break-glass keys have a rule of their own: this one would take them for whatever is filled in. */
	if (who->kind != KEY_KIND_USER && who->kind != KEY_KIND_ORGANIZATION)
		return REASON_POLICY;

	/* clause: revoked */
	if (who->flags & RULE_REVOKED)
		return REASON_REVOKED;

	/* clause: retired */
	if (who->retired_at <= now)
		return REASON_RETIRED;

	/* clause: disabled */
	if (who->flags & RULE_DISABLED)
		return REASON_DISABLED;

	/* clause: not_yet_valid */
	if (now < who->not_before)
		return REASON_NOT_YET_VALID;

	/* clause: expired */
	if (now >= who->expires_at)
		return REASON_EXPIRED;

	/* clause: user_suspended */
	if (who->kind == KEY_KIND_USER && who->flags & RULE_USER_SUSPENDED)
		return REASON_USER_SUSPENDED;

	/* clause: network */
	if (who->flags & RULE_NARROWED_NETWORKS && !rule_in_networks(who->networks, who->network_count, addr))
		return REASON_NETWORK;

	return REASON_OK;
}

enum reason rule_rate(const struct rule_who *who, bool charged)
{
	return who->flags & RULE_NARROWED_RATE && !charged ? REASON_POLICY : REASON_OK;
}

rule_handle rule_organization(const struct rule_who *who, const struct rule_where *where)
{
	/* clause: organization_of_page */
	if (where->page_asked)
		return where->page ? where->page_organization : 0;

	/* clause: organization_of_key */
	if (who->kind == KEY_KIND_ORGANIZATION)
		return who->organization;

	/* clause: organization_named */
	if (where->organization_asked)
		return where->organization_named;

	return where->organization_only;
}

enum reason rule_place(const struct rule_catalog *catalog, const struct rule_who *who, const struct rule_where *where)
{
	const struct rule_scope_row *scope = &catalog->scopes[where->scope];
	rule_handle organization = rule_organization(who, where);

	/* clause: unknown_scope */
	if (!where->scope || !scope->known)
		return REASON_UNKNOWN_SCOPE;

	/* clause: scope_not_of_pages */
	if (scope->known && where->page_asked && !(scope->levels & RULE_LEVEL_PAGE))
		return REASON_UNKNOWN_SCOPE;

	/* clause: scope_not_of_organizations */
	if (scope->known && !where->page_asked && !(scope->levels & RULE_LEVEL_ORGANIZATION))
		return REASON_UNKNOWN_SCOPE;

	/* clause: unknown_page */
	if (where->page_asked && !where->page)
		return REASON_UNKNOWN_PAGE;

	/* clause: page_of_named_organization */
	if (where->page && where->organization_asked && where->organization_named != organization)
		return REASON_UNKNOWN_PAGE;

	/* clause: page_of_other_organization */
	if (where->page && who->kind == KEY_KIND_ORGANIZATION && who->organization != organization)
		return REASON_UNKNOWN_PAGE;

	/* clause: page_without_membership */
	if (where->page && who->kind == KEY_KIND_USER && !where->page_role && !where->organization_role)
		return REASON_UNKNOWN_PAGE;

	/* clause: other_organization_named */
	if (!where->page_asked && who->kind == KEY_KIND_ORGANIZATION && where->organization_asked &&
	    where->organization_named != who->organization)
		return REASON_NOT_MEMBER;

	/* clause: not_member */
	if (!where->page_asked && who->kind == KEY_KIND_USER && (!organization || !where->organization_role))
		return REASON_NOT_MEMBER;

	/* clause: org_suspended */
	if (where->organization_suspended)
		return REASON_ORG_SUSPENDED;

	/* clause: page_archived */
	if (where->page_asked && where->page_archived && !scope->reads)
		return REASON_PAGE_ARCHIVED;

	/* clause: page_not_granted */
	if (who->flags & RULE_NARROWED_PAGES && where->page_asked && !page_listed(who, where->page))
		return REASON_PAGE_NOT_GRANTED;

	/* clause: page_narrowed_at_organization_level */
	if (who->flags & RULE_NARROWED_PAGES && !where->page_asked)
		return REASON_PAGE_NOT_GRANTED;

	return REASON_OK;
}

enum reason rule_right(const struct rule_catalog *catalog, const struct rule_who *who, const struct rule_where *where,
		       struct rule_missing *ret_missing)
{
	rule_role role = acting_role(who, where);
	const struct rule_role_row *row = &catalog->roles[role];
	rule_scope scope = where->scope, write = catalog->scopes[scope].write_of;
	bool named = scope_named(who, scope), listed = named;

	*ret_missing = (struct rule_missing){.scope = scope};

	/* clause: role_lacks_scope */
	if (!role || !row->place || !bit(row->holds, scope)) {
		ret_missing->needs = row->place ? smallest_role(catalog, row->place, scope) : 0;
		return REASON_SCOPE_NOT_GRANTED;
	}

	/* clause: only_when_named */
	if (bit(row->when_named, scope) && !named)
		return REASON_SCOPE_NOT_GRANTED;

	/* clause: write_brings_read */
	listed |= scope_named(who, write);

	/* clause: key_scopes */
	if (who->flags & RULE_NARROWED_SCOPES && !listed)
		return REASON_SCOPE_NOT_GRANTED;

	*ret_missing = (struct rule_missing){0};
	return REASON_OK;
}
