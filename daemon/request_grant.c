/* Principals that modules grant: copied, looked up in the copy, made into what the rule judges. */
#include "daemon/request_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- copying ---- */

/* A user's key names none; what stands there then was never looked at. */
static bool has_organization(const struct apikeyd_principal *p)
{
	return p->kind != APIKEYD_KIND_USER;
}

static bool can_be(const struct apikeyd_principal *p)
{
	bool glass = p->kind == APIKEYD_KIND_BREAK_GLASS;

	if (p->size < sizeof(*p) || p->kind < APIKEYD_KIND_USER || p->kind > APIKEYD_KIND_BREAK_GLASS)
		return false;
	if (p->page_count > APIKEYD_NARROWING_MAX || p->scope_count > APIKEYD_NARROWING_MAX ||
	    p->network_count > APIKEYD_NARROWING_MAX)
		return false;
	/* Rows without their flag would be a narrowing that is not one. */
	if ((p->page_count && (!p->narrowed_pages || !p->pages)) ||
	    (p->scope_count && (!p->narrowed_scopes || !p->scopes)) ||
	    (p->network_count && (!p->narrowed_networks || !p->networks)))
		return false;
	if (has_organization(p) && (!p->organization.data || p->organization.len > RPC_NAME_MAX))
		return false;
	if (glass && (!p->narrowed_pages || !p->narrowed_scopes || p->expires_at_us <= 0))
		return false;
	return p->not_before_us >= 0 && p->expires_at_us >= 0;
}

/* Texts of a list; false where one cannot be a name. */
static bool texts_fit(const struct apikeyd_text *texts, uint32_t count, uint32_t max, size_t *size)
{
	for (uint32_t i = 0; i < count; i++) {
		if (!texts[i].data || texts[i].len > max)
			return false;
		*size += texts[i].len;
	}
	return true;
}

static struct rpc_text keep(struct apikeyd_text text, char **room)
{
	struct rpc_text kept = {.data = *room, .len = text.len};

	memcpy(*room, text.data, text.len);
	*room += text.len;
	return kept;
}

struct request_principal *request_principal_new(const struct apikeyd_principal *p, int *ret_rc)
{
	size_t size = sizeof(struct request_principal), texts = 0;
	struct request_principal *made;
	struct rule_network *networks;
	struct rpc_text *list;
	char *room;

	*ret_rc = -EINVAL;
	if (!can_be(p) || !texts_fit(p->pages, p->page_count, RPC_PAGE_MAX, &texts) ||
	    !texts_fit(p->scopes, p->scope_count, RPC_SCOPE_MAX, &texts))
		return NULL;
	texts += has_organization(p) ? p->organization.len : 0;
	size += ((size_t)p->page_count + p->scope_count) * sizeof(struct rpc_text);
	size += p->page_count * sizeof(rule_handle) + p->scope_count * sizeof(rule_scope);
	size += p->network_count * sizeof(struct rule_network);
	*ret_rc = -ENOMEM;
	made = calloc(1, size + texts);
	if (!made)
		return NULL;
	*ret_rc = 0;
	made->refs = 1;
	/* From the wider alignment to the narrower. */
	list = (struct rpc_text *)(void *)(made + 1);
	made->page_handles = (rule_handle *)(void *)(list + p->page_count + p->scope_count);
	made->scope_handles = (rule_scope *)(void *)(made->page_handles + p->page_count);
	networks = (struct rule_network *)(void *)(made->scope_handles + p->scope_count);
	room = (char *)(networks + p->network_count);
	made->kind = p->kind;
	made->user_id = p->user_id;
	made->writes = p->writes;
	made->flags = (uint16_t)((p->narrowed_pages ? RULE_NARROWED_PAGES : 0) |
				 (p->narrowed_scopes ? RULE_NARROWED_SCOPES : 0) |
				 (p->narrowed_networks ? RULE_NARROWED_NETWORKS : 0));
	for (uint32_t i = 0; i < p->page_count; i++)
		list[i] = keep(p->pages[i], &room);
	for (uint32_t i = 0; i < p->scope_count; i++)
		list[p->page_count + i] = keep(p->scopes[i], &room);
	for (uint32_t i = 0; i < p->network_count; i++) {
		networks[i].family = p->networks[i].family;
		networks[i].prefix = p->networks[i].prefix;
		memcpy(networks[i].bytes, p->networks[i].bytes, sizeof(networks[i].bytes));
	}
	made->glass = (struct rule_glass){.pages = list,
					  .scopes = list + p->page_count,
					  .page_count = p->page_count,
					  .scope_count = p->scope_count,
					  .networks = networks,
					  .network_count = p->network_count,
					  .narrowed_networks = p->narrowed_networks,
					  .not_before = p->not_before_us ? p->not_before_us : INT64_MIN,
					  .expires_at = p->expires_at_us};
	if (has_organization(p))
		made->glass.organization = keep(p->organization, &room);
	return made;
}

struct request_principal *request_principal_ref(struct request_principal *principal)
{
	if (principal)
		principal->refs++;
	return principal;
}

void request_principal_unref(struct request_principal *principal)
{
	if (principal && --principal->refs == 0)
		free(principal);
}

void request_principals_drop(struct request_core *core)
{
	while (core->principals) {
		struct request_principal *principal = core->principals;

		core->principals = principal->next;
		request_principal_unref(principal);
	}
}

/* ---- looking up ---- */

static int compare_handles(const void *a, const void *b)
{
	rule_handle x = *(const rule_handle *)a, y = *(const rule_handle *)b;

	return (x > y) - (x < y);
}

static int compare_scopes(const void *a, const void *b)
{
	rule_scope x = *(const rule_scope *)a, y = *(const rule_scope *)b;

	return (x > y) - (x < y);
}

/* Names that the copy does not have grant nothing: the flag stays, the row does not. */
static void narrow(const struct copy *copy, const struct request_principal *p, struct rule_who *who)
{
	struct copy_page page;
	rule_scope scope;

	for (uint32_t i = 0; i < p->glass.page_count; i++) {
		copy_find_pages(copy, &p->glass.pages[i], 1, &page);
		if (page.handle)
			p->page_handles[who->page_count++] = page.handle;
	}
	for (uint32_t i = 0; i < p->glass.scope_count; i++) {
		scope = copy_find_scope(copy, p->glass.scopes[i]);
		if (scope)
			p->scope_handles[who->scope_count++] = scope;
	}
	qsort(p->page_handles, who->page_count, sizeof(rule_handle), compare_handles);
	qsort(p->scope_handles, who->scope_count, sizeof(rule_scope), compare_scopes);
	who->pages = p->page_handles;
	who->scopes = p->scope_handles;
	who->networks = p->glass.networks;
	who->network_count = p->glass.network_count;
}

static rule_role access_of(const struct rule_catalog *catalog, const char *word)
{
	for (unsigned i = 1; i < catalog->role_count; i++) {
		if (catalog->roles[i].place == RULE_ROLE_KEY && strcmp(catalog->roles[i].name, word) == 0)
			return (rule_role)i;
	}
	return 0;
}

static bool find_whose(const struct request_view *view, const struct request_principal *p, struct request *request)
{
	struct rule_who *who = &request->who;
	struct copy_organization organization;

	if (p->kind == APIKEYD_KIND_ORGANIZATION) {
		if (!copy_find_organization(view->copy, p->glass.organization, &organization))
			return false;
		who->kind = KEY_KIND_ORGANIZATION;
		who->organization = organization.handle;
		who->access = access_of(view->catalog, p->writes ? "write" : "read");
		return true;
	}
	who->kind = KEY_KIND_USER;
	if (!copy_find_user(view->copy, p->user_id, &request->user))
		return false;
	if (request->user.suspended)
		who->flags |= RULE_USER_SUSPENDED;
	return true;
}

enum reason request_resolve(const struct request_view *view, struct request *request)
{
	const struct request_principal *p = request->grant.principal;
	struct rule_who *who = &request->who;

	request->glass = NULL;
	memset(&request->user, 0, sizeof(request->user));
	if (request->grant.from == GRANT_STORE) {
		copy_who(view->copy, request->key, who, &request->user);
		return REASON_OK;
	}
	memset(who, 0, sizeof(*who));
	if (p->kind == APIKEYD_KIND_BREAK_GLASS) {
		request->glass = &p->glass;
		who->kind = KEY_KIND_BREAK_GLASS;
		who->expires_at = p->glass.expires_at;
		return REASON_OK;
	}
	if (view->fault != REASON_OK)
		return view->fault;
	who->flags = p->flags | RULE_LIVE;
	if (!find_whose(view, p, request))
		return request_known(view, REASON_UNKNOWN_KEY);
	who->not_before = p->glass.not_before;
	who->expires_at = p->glass.expires_at ? p->glass.expires_at : INT64_MAX;
	who->retired_at = INT64_MAX;
	narrow(view->copy, p, who);
	return REASON_OK;
}
