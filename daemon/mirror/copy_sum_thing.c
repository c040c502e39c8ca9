#include "daemon/mirror/copy_sum_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what refers to other things: by their own ids and names, sorted by these. 0 and "": to nothing ---- */

static int64_t organization_id(const struct copy *copy, rule_handle handle)
{
	struct copy_organization organization;

	return copy_organization(copy, handle, &organization) ? organization.id : 0;
}

static int64_t page_id(const struct copy *copy, rule_handle handle)
{
	struct copy_page page;

	return copy_page(copy, handle, &page) ? page.id : 0;
}

/* One of another place is none, though it may have the same name. */
static const char *role_name(const struct copy *copy, rule_role role, enum rule_role_place place)
{
	const struct rule_catalog *catalog = copy_catalog(copy);

	return role < catalog->role_count && catalog->roles[role].place == place ? catalog->roles[role].name : "";
}

struct role_at {
	int64_t id;
	const char *role;
};

static int compare_roles(const void *a, const void *b)
{
	const struct role_at *x = a, *y = b;

	return (x->id > y->id) - (x->id < y->id);
}

typedef bool (*role_each)(const struct copy *copy, rule_handle user, uint32_t i, rule_handle *ret_handle,
			  rule_role *ret_role);

static void put_roles(struct copy_sums *sums, const struct copy *copy, rule_handle user, enum rule_role_place place)
{
	role_each each = place == RULE_ROLE_PAGE ? copy_user_page_at : copy_user_organization_at;
	struct role_at *roles;
	rule_handle at;
	rule_role role;
	uint32_t count = 0;
	size_t array;

	while (each(copy, user, count, &at, &role))
		count++;
	roles = row_sort_room(sums, count, sizeof(*roles));
	if (!roles)
		return;
	for (uint32_t i = 0; i < count && each(copy, user, i, &at, &role); i++)
		roles[i] = (struct role_at){place == RULE_ROLE_PAGE ? page_id(copy, at) : organization_id(copy, at),
					    role_name(copy, role, place)};
	qsort(roles, count, sizeof(*roles), compare_roles);
	array = row_array_begin(sums, ROW_TEXTS, ROW_TEXT, count);
	for (uint32_t i = 0; i < count; i++) {
		char text[64];
		int len = snprintf(text, sizeof(text), "%" PRId64 " %.32s", roles[i].id, roles[i].role);

		row_put_item(sums, text, (size_t)len);
	}
	row_array_end(sums, array);
}

static int compare_ids(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static void put_pages(struct copy_sums *sums, const struct copy *copy, const struct rule_who *who)
{
	int64_t *ids;
	size_t array;

	if (!(who->flags & RULE_NARROWED_PAGES)) {
		row_put_null(sums, ROW_INT8S);
		return;
	}
	ids = row_sort_room(sums, who->page_count, sizeof(*ids));
	if (!ids)
		return;
	for (uint32_t i = 0; i < who->page_count; i++)
		ids[i] = page_id(copy, who->pages[i]);
	qsort(ids, who->page_count, sizeof(*ids), compare_ids);
	array = row_array_begin(sums, ROW_INT8S, ROW_INT8, who->page_count);
	for (uint32_t i = 0; i < who->page_count; i++) {
		row_put_number(sums, 8, 4);
		row_put_number(sums, (uint64_t)ids[i], 8);
	}
	row_array_end(sums, array);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void put_scopes(struct copy_sums *sums, const struct copy *copy, const struct rule_who *who)
{
	const struct rule_catalog *catalog = copy_catalog(copy);
	const char **names;
	size_t array;

	if (!(who->flags & RULE_NARROWED_SCOPES)) {
		row_put_null(sums, ROW_TEXTS);
		return;
	}
	names = row_sort_room(sums, who->scope_count, sizeof(*names));
	if (!names)
		return;
	for (uint32_t i = 0; i < who->scope_count; i++) {
		rule_scope scope = who->scopes[i];

		names[i] =
			scope < catalog->scope_count && catalog->scopes[scope].known ? catalog->scopes[scope].name : "";
	}
	qsort(names, who->scope_count, sizeof(*names), compare_names);
	array = row_array_begin(sums, ROW_TEXTS, ROW_TEXT, who->scope_count);
	for (uint32_t i = 0; i < who->scope_count; i++)
		row_put_item(sums, names[i], strlen(names[i]));
	row_array_end(sums, array);
}

static int compare_networks(const void *a, const void *b)
{
	const struct rule_network *x = a, *y = b;
	int order = (int)x->family - (int)y->family;

	if (!order)
		order = memcmp(x->bytes, y->bytes, sizeof(x->bytes));
	return order ? order : (int)x->prefix - (int)y->prefix;
}

static void put_networks(struct copy_sums *sums, const struct rule_who *who)
{
	struct rule_network *networks;
	size_t array;

	if (!(who->flags & RULE_NARROWED_NETWORKS)) {
		row_put_null(sums, ROW_CIDRS);
		return;
	}
	networks = row_sort_room(sums, who->network_count, sizeof(*networks));
	if (!networks)
		return;
	if (who->network_count > 0)
		memcpy(networks, who->networks, who->network_count * sizeof(*networks));
	qsort(networks, who->network_count, sizeof(*networks), compare_networks);
	array = row_array_begin(sums, ROW_CIDRS, ROW_CIDR, who->network_count);
	for (uint32_t i = 0; i < who->network_count; i++) {
		uint8_t bytes = networks[i].family == 4 ? 4 : 16;
		/* Family by the server's own number, prefix, "it is a network", bytes that follow. */
		uint8_t head[4] = {networks[i].family == 4 ? 2 : 3, networks[i].prefix, 1, bytes};

		row_put_number(sums, sizeof(head) + bytes, 4);
		row_put_bytes(sums, head, sizeof(head));
		row_put_bytes(sums, networks[i].bytes, bytes);
	}
	row_array_end(sums, array);
}

/* ---- things ---- */

int sum_organization(struct copy_sums *sums, const struct copy *copy, int64_t id, rule_handle *ret_handle,
		     uint8_t ret[COPY_SUM_LEN])
{
	struct copy_organization organization, named;

	if (!copy_organization(copy, copy_organization_by_id(copy, id), &organization))
		return 0;
	*ret_handle = organization.handle;
	row_begin(sums, 3);
	row_put_int(sums, ROW_INT8, organization.id);
	row_put_text(sums, ROW_TEXT, organization.slug.data, organization.slug.len);
	row_put_bool(sums, organization.suspended);
	/* Who asks knows it by its slug: one that leads elsewhere is another thing to them. */
	if (!copy_find_organization(copy, organization.slug, &named) || named.handle != organization.handle)
		row_put_number(sums, 0, 1);
	return row_end(sums, ret);
}

int sum_page(struct copy_sums *sums, const struct copy *copy, int64_t id, rule_handle *ret_handle,
	     uint8_t ret[COPY_SUM_LEN])
{
	struct copy_page page, named;

	if (!copy_page(copy, copy_page_by_id(copy, id), &page))
		return 0;
	*ret_handle = page.handle;
	row_begin(sums, 4);
	row_put_int(sums, ROW_INT8, page.id);
	row_put_int(sums, ROW_INT8, organization_id(copy, page.organization));
	row_put_text(sums, ROW_TEXT, page.slug.data, page.slug.len);
	row_put_bool(sums, page.archived);
	copy_find_pages(copy, &page.slug, 1, &named);
	if (named.handle != page.handle)
		row_put_number(sums, 0, 1);
	return row_end(sums, ret);
}

int sum_user(struct copy_sums *sums, const struct copy *copy, int64_t id, rule_handle *ret_handle,
	     uint8_t ret[COPY_SUM_LEN])
{
	struct copy_user user;

	if (!copy_find_user(copy, id, &user))
		return 0;
	*ret_handle = user.handle;
	row_begin(sums, 5);
	row_put_int(sums, ROW_INT8, user.id);
	row_put_text(sums, ROW_TEXT, user.email.data, user.email.len);
	row_put_bool(sums, user.suspended);
	put_roles(sums, copy, user.handle, RULE_ROLE_ORGANIZATION);
	put_roles(sums, copy, user.handle, RULE_ROLE_PAGE);
	return row_end(sums, ret);
}

static void put_key_id(struct copy_sums *sums, keytext_id id)
{
	char text[KEYTEXT_ID_LEN + 1];

	keytext_id_format(id, text);
	row_put_text(sums, ROW_TEXT, text, KEYTEXT_ID_LEN);
}

int sum_key(struct copy_sums *sums, const struct copy *copy, const struct copy_key *key, uint8_t ret[COPY_SUM_LEN])
{
	bool of_organization = key->kind == KEY_KIND_ORGANIZATION;
	int64_t retired_at = key->more ? key->more->retired_at : INT64_MAX;
	struct copy_user user;
	struct rule_who who;
	keytext_id successor;
	const char *access;

	copy_who(copy, key, &who, &user);
	access = role_name(copy, who.access, RULE_ROLE_KEY);
	row_begin(sums, 21);
	put_key_id(sums, copy_key_id(key));
	row_put_bool(sums, of_organization);
	row_put_int(sums, ROW_INT8, of_organization ? organization_id(copy, who.organization) : user.id);
	if (of_organization)
		row_put_text(sums, ROW_TEXT, access, strlen(access));
	else
		row_put_null(sums, ROW_TEXT);
	row_put_text(sums, ROW_BYTES, copy_key_hash(copy, key), COPY_HASH_LEN);
	row_put_int(sums, ROW_INT2, copy_key_pepper(key));
	row_put_bool(sums, who.flags & RULE_NARROWED_PAGES);
	row_put_bool(sums, who.flags & RULE_NARROWED_SCOPES);
	row_put_bool(sums, who.flags & RULE_NARROWED_NETWORKS);
	row_put_bool(sums, who.flags & RULE_NARROWED_RATE);
	row_put_time(sums, who.not_before);
	row_put_time(sums, who.expires_at);
	/* From the record: what is denied on top of what the store says is not the store's. */
	if (retired_at == INT64_MAX)
		row_put_null(sums, ROW_TIME);
	else
		row_put_time(sums, retired_at);
	if (copy_key_successor(copy, key, &successor))
		put_key_id(sums, successor);
	else
		row_put_null(sums, ROW_TEXT);
	row_put_bool(sums, key->flags & RULE_DISABLED);
	row_put_bool(sums, key->flags & RULE_REVOKED);
	if (who.flags & RULE_NARROWED_RATE) {
		row_put_int(sums, ROW_INT4, who.rate_count);
		row_put_int(sums, ROW_INT4, who.rate_period_s);
	} else {
		row_put_null(sums, ROW_INT4);
		row_put_null(sums, ROW_INT4);
	}
	put_pages(sums, copy, &who);
	put_scopes(sums, copy, &who);
	put_networks(sums, &who);
	return row_end(sums, ret);
}
