/* `pages` and `whoami`: what a key may do, rather than whether. */
#include "daemon/request_internal.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WHOAMI_LIST_MAX = 500 };

/* ---- pages ---- */

/*
 * The first `max` allowed pages by slug, of those met so far: a heap with the greatest slug at 0, so that a walk can
 * end where nothing better can come.
 */
struct found {
	const struct request_view *view;
	const struct request *request;
	rule_scope scope;
	struct rpc_text after;
	struct rpc_text *slugs;
	uint32_t count, max;
};

static int compare(const struct rpc_text *a, const struct rpc_text *b)
{
	uint32_t shorter = a->len < b->len ? a->len : b->len;
	int order = shorter ? memcmp(a->data, b->data, shorter) : 0;

	return order ? order : (a->len > b->len) - (a->len < b->len);
}

static int compare_slugs(const void *a, const void *b)
{
	return compare(a, b);
}

static void sift_down(struct found *found)
{
	struct rpc_text moved = found->slugs[0];
	uint32_t at = 0;

	for (;;) {
		uint32_t child = 2 * at + 1;

		if (child >= found->count)
			break;
		if (child + 1 < found->count && compare(&found->slugs[child], &found->slugs[child + 1]) < 0)
			child++;
		if (compare(&moved, &found->slugs[child]) >= 0)
			break;
		found->slugs[at] = found->slugs[child];
		at = child;
	}
	found->slugs[at] = moved;
}

static void sift_up(struct found *found, uint32_t at)
{
	struct rpc_text moved = found->slugs[at];

	while (at > 0 && compare(&found->slugs[(at - 1) / 2], &moved) < 0) {
		found->slugs[at] = found->slugs[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	found->slugs[at] = moved;
}

/* Whether this page could still be among the first. */
static bool is_wanted(const struct found *found, struct rpc_text slug)
{
	if (found->after.data && compare(&slug, &found->after) <= 0)
		return false;
	return found->count < found->max || compare(&slug, &found->slugs[0]) < 0;
}

/* The whole of groups page and scope for one page. */
static bool is_allowed(const struct found *found, const struct copy_page *page)
{
	const struct request_view *view = found->view;
	struct rule_missing missing;
	struct rule_where where;

	request_where(view, found->request, found->scope, true, page, &where);
	return rule_place(view->catalog, &found->request->who, &where) == REASON_OK &&
	       rule_right(view->catalog, &found->request->who, &where, &missing) == REASON_OK;
}

static void put(struct found *found, struct rpc_text slug)
{
	if (found->count < found->max) {
		found->slugs[found->count] = slug;
		sift_up(found, found->count++);
	} else {
		found->slugs[0] = slug;
		sift_down(found);
	}
}

static bool is_found(const struct found *found, struct rpc_text slug)
{
	for (uint32_t i = 0; i < found->count; i++) {
		if (compare(&found->slugs[i], &slug) == 0)
			return true;
	}
	return false;
}

static void offer(struct found *found, const struct copy_page *page)
{
	if (is_wanted(found, page->slug) && is_allowed(found, page))
		put(found, page->slug);
}

static bool on_page(void *data, const struct copy_page *page)
{
	struct found *found = data;

	if (found->count == found->max && compare(&page->slug, &found->slugs[0]) >= 0)
		return false; /* they come in order: nothing better follows */
	offer(found, page);
	return true;
}

static void offer_handle(struct found *found, rule_handle handle)
{
	struct copy_page page;

	if (copy_page(found->view->copy, handle, &page))
		offer(found, &page);
}

/* Whether the role in this organization alone holds the scope; else only the user's own page roles can. */
static bool organization_holds(const struct found *found, rule_handle organization)
{
	struct rule_where where = {.scope = found->scope,
				   .page_asked = true,
				   .page_organization = organization,
				   .organization_role = copy_user_organization_role(
					   found->view->copy, found->request->user.handle, organization)};
	struct rule_missing missing;

	return rule_right(found->view->catalog, &found->request->who, &where, &missing) == REASON_OK;
}

static void find_of_user(struct found *found, rule_handle only)
{
	const struct copy *copy = found->view->copy;
	rule_handle user = found->request->user.handle, handle;
	rule_role role;

	for (uint32_t i = 0; copy_user_organization_at(copy, user, i, &handle, &role); i++) {
		if ((!only || handle == only) && organization_holds(found, handle))
			copy_walk_pages(copy, handle, found->after, on_page, found);
	}
	for (uint32_t i = 0; copy_user_page_at(copy, user, i, &handle, &role); i++) {
		struct copy_page page;

		/* What a walk has seen already must not be offered twice. */
		if (copy_page(copy, handle, &page) && (!only || page.organization == only) &&
		    (!copy_user_organization_role(copy, user, page.organization) ||
		     !organization_holds(found, page.organization)))
			offer(found, &page);
	}
}

static void find_all(struct found *found, rule_handle only)
{
	const struct rule_who *who = &found->request->who;

	if (who->flags & RULE_NARROWED_PAGES) {
		/* Nothing else can be allowed, and these are few beside an organization's. */
		for (uint32_t i = 0; i < who->page_count; i++)
			offer_handle(found, who->pages[i]);
	} else if (who->kind == KEY_KIND_USER) {
		find_of_user(found, only);
	} else {
		copy_walk_pages(found->view->copy, who->organization, found->after, on_page, found);
	}
}

/* Whether context.org may restrict: the key must have something to do with it. */
static bool may_restrict(const struct request_view *view, const struct request *request)
{
	rule_handle named = request->organization_named, handle;
	struct copy_page page;
	rule_role role;

	if (!request->rpc->context.org.data)
		return true;
	if (!named)
		return false;
	if (request->who.kind == KEY_KIND_ORGANIZATION)
		return named == request->who.organization;
	if (copy_user_organization_role(view->copy, request->user.handle, named))
		return true;
	for (uint32_t i = 0; copy_user_page_at(view->copy, request->user.handle, i, &handle, &role); i++) {
		if (copy_page(view->copy, handle, &page) && page.organization == named)
			return true;
	}
	return false;
}

/* A break-glass key's own list is all that there is. */
static void find_of_glass(struct found *found)
{
	const struct rule_glass *glass = found->request->glass;

	for (uint32_t i = 0; i < glass->page_count; i++) {
		if (is_wanted(found, glass->pages[i]) && !is_found(found, glass->pages[i]))
			put(found, glass->pages[i]);
	}
}

static bool is_page_scope(const struct request_view *view, const struct found *found)
{
	/* Without a copy nobody knows the scopes: each page is judged by the key's own list. */
	if (!view->copy)
		return true;
	return found->scope && view->catalog->scopes[found->scope].levels & RULE_LEVEL_PAGE;
}

enum reason request_pages_find(struct request_core *core, const struct request_view *view, struct request *request)
{
	const struct rpc_request *rpc = request->rpc;
	/* They are judged as pairs: a batch has room for that many of one request. */
	uint32_t limit =
		core->config->pages_per_answer < RPC_PAIRS_MAX ? core->config->pages_per_answer : RPC_PAIRS_MAX;
	struct found found = {.view = view,
			      .request = request,
			      .scope = view->copy ? copy_find_scope(view->copy, rpc->pair.scope) : 0,
			      .after = rpc->context.after,
			      .max = limit + 1};
	struct rpc_pair *pairs;

	if (request->pairs)
		return REASON_OK; /* found before it waited */
	if (!is_page_scope(view, &found))
		return request->glass ? REASON_UNKNOWN_SCOPE : request_known(view, REASON_UNKNOWN_SCOPE);
	if (!request->glass && !may_restrict(view, request))
		return request_known(view, REASON_NOT_MEMBER);
	found.slugs = arena_alloc(&core->arena, found.max * sizeof(struct rpc_text));
	pairs = arena_alloc(&core->arena, found.max * sizeof(struct rpc_pair));
	if (!found.slugs || !pairs)
		return REASON_OVERLOAD;
	if (request->glass)
		find_of_glass(&found);
	else
		find_all(&found, request->organization_named);
	qsort(found.slugs, found.count, sizeof(struct rpc_text), compare_slugs);
	request->pages_more = found.count > limit;
	request->pair_count = request->pages_more ? limit : found.count;
	for (uint32_t i = 0; i < request->pair_count; i++)
		pairs[i] = (struct rpc_pair){.scope = rpc->pair.scope, .page = found.slugs[i]};
	request->pairs = pairs;
	return request_memo_grow(request) ? REASON_OK : REASON_OVERLOAD;
}

void request_pages_answer(struct request_core *core, const struct request_view *view, struct request *request,
			  const struct request_outcome *outcomes, struct rpc_buffer *out)
{
	uint32_t limit = request->pair_count, count = 0;
	struct rpc_text *slugs = arena_alloc(&core->arena, (limit + 1u) * sizeof(*slugs));
	enum reason reason = slugs ? REASON_OK : REASON_OVERLOAD;
	uint64_t retry_after_ms = 0;
	struct rpc_answer answer;

	for (uint32_t i = 0; slugs && i < limit; i++) {
		/* One that nobody could decide about makes the list one that nobody can give. */
		if (verdict_of(outcomes[i].reason) == VERDICT_UNAVAILABLE) {
			if (reason == REASON_OK)
				reason = outcomes[i].reason;
			if (outcomes[i].retry_after_ms > retry_after_ms)
				retry_after_ms = outcomes[i].retry_after_ms;
		}
		if (outcomes[i].reason == REASON_OK)
			slugs[count++] = request->pairs[i].page;
	}
	reason = request_audit(core, view, request, &request->rpc->pair, NULL, reason);
	request_answer_head(view, request, reason, &answer);
	if (reason == REASON_OK) {
		core->counters.pages_cut += request->pages_more;
		answer.has_pages = true;
		answer.pages = slugs;
		answer.page_count = count;
		if (request->pages_more)
			answer.next = request->pairs[limit - 1].page;
	}
	request_answer_retry(core, retry_after_ms, &answer);
	rpc_put_answer(out, request->rpc->msgid, &answer);
}

/* ---- whoami ---- */

static bool set_text(struct arena *arena, struct value *map, const char *name, struct rpc_text text)
{
	struct value *v = value_set(arena, map, name);

	return v && value_text(arena, v, text.data ? text.data : "", text.len);
}

/* One entry of a list of places and roles. */
static bool add_role(struct arena *arena, struct value *list, const char *what, struct rpc_text slug, const char *role)
{
	struct value *v = value_add(arena, list);

	if (!v)
		return false;
	value_map(v);
	return set_text(arena, v, what, slug) && value_set_text(arena, v, "role", role);
}

static bool put_roles(struct arena *arena, const struct request_view *view, rule_handle user, struct value *map)
{
	const struct rule_role_row *roles = view->catalog->roles;
	struct copy_organization organization;
	struct copy_page page;
	bool truncated = false;
	rule_handle handle;
	struct value *list;
	rule_role role;

	list = value_set(arena, map, "organizations");
	if (!list)
		return false;
	value_list(list);
	for (uint32_t i = 0; copy_user_organization_at(view->copy, user, i, &handle, &role); i++) {
		if (!copy_organization(view->copy, handle, &organization))
			continue;
		truncated |= list->count == WHOAMI_LIST_MAX;
		if (truncated)
			break;
		if (!add_role(arena, list, "org", organization.slug, roles[role].name))
			return false;
	}
	list = value_set(arena, map, "pages");
	if (!list)
		return false;
	value_list(list);
	for (uint32_t i = 0; copy_user_page_at(view->copy, user, i, &handle, &role); i++) {
		if (!copy_page(view->copy, handle, &page))
			continue;
		if (list->count == WHOAMI_LIST_MAX) {
			truncated = true;
			break;
		}
		if (!add_role(arena, list, "page", page.slug, roles[role].name))
			return false;
	}
	return !truncated || value_set_bool(arena, map, "truncated", true);
}

static bool put_networks(struct arena *arena, const struct rule_who *who, struct value *list)
{
	for (uint32_t i = 0; i < who->network_count; i++) {
		const struct rule_network *network = &who->networks[i];
		char address[INET6_ADDRSTRLEN] = "", text[INET6_ADDRSTRLEN + 8];
		struct value *v = value_add(arena, list);
		int len;

		inet_ntop(network->family == 4 ? AF_INET : AF_INET6, network->bytes, address, sizeof(address));
		len = snprintf(text, sizeof(text), "%s/%u", address, network->prefix);
		if (!v || !value_text(arena, v, text, (size_t)len))
			return false;
	}
	return true;
}

static bool put_page_names(struct arena *arena, const struct request_view *view, const struct rule_who *who,
			   struct value *list, bool *truncated)
{
	struct copy_page page;

	for (uint32_t i = 0; i < who->page_count; i++) {
		struct value *v;

		if (!copy_page(view->copy, who->pages[i], &page))
			continue;
		if (list->count == WHOAMI_LIST_MAX) {
			*truncated = true;
			break;
		}
		v = value_add(arena, list);
		if (!v || !value_text(arena, v, page.slug.data, page.slug.len))
			return false;
	}
	return true;
}

static bool put_scope_names(struct arena *arena, const struct request_view *view, const struct rule_who *who,
			    struct value *list)
{
	for (uint32_t i = 0; i < who->scope_count; i++) {
		struct value *v = value_add(arena, list);
		const char *name = view->catalog->scopes[who->scopes[i]].name;

		if (!v || !value_text(arena, v, name, strlen(name)))
			return false;
	}
	return true;
}

/* How often in how many seconds. */
static bool put_rate(struct arena *arena, const struct rule_who *who, struct value *narrowing)
{
	struct value *rate = value_set(arena, narrowing, "rate");

	if (!rate)
		return false;
	value_map(rate);
	return value_set_uint(arena, rate, "count", who->rate_count) &&
	       value_set_uint(arena, rate, "period_s", who->rate_period_s);
}

static bool put_texts(struct arena *arena, const char *name, const struct rpc_text *texts, uint32_t count,
		      struct value *map)
{
	struct value *list = value_set(arena, map, name);

	if (!list)
		return false;
	value_list(list);
	for (uint32_t i = 0; i < count; i++) {
		struct value *v = value_add(arena, list);

		if (!v || !value_text(arena, v, texts[i].data, texts[i].len))
			return false;
	}
	return true;
}

/* A break-glass key is what its line says. */
static bool put_glass(struct arena *arena, const struct rule_glass *glass, struct value *map)
{
	struct value *narrowing;

	value_map(map);
	narrowing = value_set(arena, map, "narrowing");
	if (!narrowing)
		return false;
	value_map(narrowing);
	return put_texts(arena, "pages", glass->pages, glass->page_count, narrowing) &&
	       put_texts(arena, "scopes", glass->scopes, glass->scope_count, narrowing);
}

/* A dimension stands in the map where the key is narrowed in it: an empty list allows nothing. */
static bool put_narrowing(struct arena *arena, const struct request_view *view, const struct rule_who *who,
			  struct value *map)
{
	struct value *narrowing = value_set(arena, map, "narrowing"), *list;
	bool truncated = false;

	if (!narrowing)
		return false;
	value_map(narrowing);
	if (who->flags & RULE_NARROWED_PAGES) {
		list = value_set(arena, narrowing, "pages");
		if (!list)
			return false;
		value_list(list);
		if (!put_page_names(arena, view, who, list, &truncated))
			return false;
	}
	if (who->flags & RULE_NARROWED_SCOPES) {
		list = value_set(arena, narrowing, "scopes");
		if (!list)
			return false;
		value_list(list);
		if (!put_scope_names(arena, view, who, list))
			return false;
	}
	if (who->flags & RULE_NARROWED_NETWORKS) {
		list = value_set(arena, narrowing, "networks");
		if (!list)
			return false;
		value_list(list);
		if (!put_networks(arena, who, list))
			return false;
	}
	if (who->flags & RULE_NARROWED_RATE && !put_rate(arena, who, narrowing))
		return false;
	return !truncated || value_set_bool(arena, narrowing, "truncated", true);
}

static bool put_self(struct arena *arena, const struct request_view *view, const struct request *request,
		     struct value *map)
{
	const struct rule_who *who = &request->who;

	if (request->glass)
		return put_glass(arena, request->glass, map);
	value_map(map);
	if (who->kind == KEY_KIND_USER) {
		if (!put_roles(arena, view, request->user.handle, map))
			return false;
	} else if (!value_set_text(arena, map, "access", view->catalog->roles[who->access].name)) {
		return false;
	}
	return put_narrowing(arena, view, who, map);
}

void request_whoami(struct request_core *core, const struct request_view *view, struct request *request,
		    struct rpc_buffer *out)
{
	enum reason reason = REASON_OK;
	struct rpc_answer answer;
	struct value more;

	if (!put_self(&core->arena, view, request, &more))
		reason = REASON_OVERLOAD;
	reason = request_audit(core, view, request, NULL, NULL, reason);
	request_answer_head(view, request, reason, &answer);
	if (reason == REASON_OK)
		answer.more = &more;
	rpc_put_answer(out, request->rpc->msgid, &answer);
}
