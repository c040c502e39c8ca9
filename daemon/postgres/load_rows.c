#include "daemon/postgres/load_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/postgres/queries.h"
#include "daemon/postgres/schema.h"

static int load_scope(struct load *load, const struct pgfield *fields)
{
	return catalog_add_scope(&load->catalog, fields);
}

static int load_role(struct load *load, const struct pgfield *fields)
{
	return catalog_add_role(&load->catalog, fields);
}

static int load_grant(struct load *load, const struct pgfield *fields)
{
	return catalog_add_grant(&load->catalog, fields);
}

static int load_organization(struct load *load, const struct pgfield *fields)
{
	struct copy_organization_row row;
	int r = pgrow_organization(fields, &row);

	return r < 0 ? r : copy_put_organization(load->copy, &row);
}

static int load_page(struct load *load, const struct pgfield *fields)
{
	struct copy_page_row row;
	int r = pgrow_page(fields, &row);

	return r < 0 ? r : copy_put_page(load->copy, &row);
}

static int load_member(struct load *load, struct load_list *list, const struct pgfield *fields)
{
	struct copy_role_at at;
	int64_t user;
	int word;

	if (pgrow_member(fields, &user, &at) < 0)
		return -EBADMSG;
	word = load_words_add(&load->roles, at.role);
	if (word < 0)
		return word;
	return load_list_add(list, (struct load_item){.owner = (uint64_t)user, .value = at.id, .word = (uint32_t)word});
}

static int load_organization_member(struct load *load, const struct pgfield *fields)
{
	return load_member(load, &load->organizations_of, fields);
}

static int load_page_member(struct load *load, const struct pgfield *fields)
{
	return load_member(load, &load->pages_of, fields);
}

/* Room for `count` things of that size, kept for the next owner. */
static void *load_scratch(struct load *load, unsigned i, uint32_t count, size_t size)
{
	if (load->scratch_cap[i] < count) {
		void *grown = reallocarray(load->scratch[i], count + 16, size);

		if (!grown)
			return NULL;
		load->scratch[i] = grown;
		load->scratch_cap[i] = count + 16;
	}
	return load->scratch[i];
}

static struct copy_role_at *load_roles(struct load *load, unsigned i, const struct load_item *items, uint32_t count)
{
	struct copy_role_at *roles = load_scratch(load, i, count, sizeof(*roles));

	for (uint32_t k = 0; roles && k < count; k++)
		roles[k] = (struct copy_role_at){.id = items[k].value,
						 .role = load_words_text(&load->roles, items[k].word)};
	return roles;
}

static int load_user(struct load *load, const struct pgfield *fields)
{
	const struct load_item *items;
	struct copy_user_row row;

	if (pgrow_user(fields, &row) < 0)
		return -EBADMSG;
	items = load_list_find(&load->organizations_of, (uint64_t)row.id, &row.organization_count);
	if (row.organization_count > 0) {
		row.organizations = load_roles(load, 0, items, row.organization_count);
		if (!row.organizations)
			return -ENOMEM;
	}
	items = load_list_find(&load->pages_of, (uint64_t)row.id, &row.page_count);
	if (row.page_count > 0) {
		row.pages = load_roles(load, 1, items, row.page_count);
		if (!row.pages)
			return -ENOMEM;
	}
	return copy_put_user(load->copy, &row);
}

static int load_key_page(struct load *load, const struct pgfield *fields)
{
	struct load_item item = {0};

	if (!pgfield_key_id(&fields[0], &item.owner) || !pgfield_int64(&fields[1], &item.value))
		return -EBADMSG;
	return load_list_add(&load->key_pages, item);
}

static int load_key_scope(struct load *load, const struct pgfield *fields)
{
	struct load_item item = {0};
	struct rpc_text scope;
	int word;

	if (!pgfield_key_id(&fields[0], &item.owner) || !pgfield_text(&fields[1], &scope))
		return -EBADMSG;
	word = load_words_add(&load->scopes, scope);
	if (word < 0)
		return word;
	item.word = (uint32_t)word;
	return load_list_add(&load->key_scopes, item);
}

static int load_key_network(struct load *load, const struct pgfield *fields)
{
	struct load_item item = {.value = (int64_t)load->network_count};
	struct rule_network network;

	if (!pgfield_key_id(&fields[0], &item.owner) || !pgfield_network(&fields[1], &network))
		return -EBADMSG;
	if (load->network_count == load->network_cap) {
		size_t cap = load->network_cap ? load->network_cap * 2 : 256;
		struct rule_network *grown = reallocarray(load->networks, cap, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		load->networks = grown;
		load->network_cap = cap;
	}
	load->networks[load->network_count++] = network;
	return load_list_add(&load->key_networks, item);
}

/* The rows of a narrowed key. One that is not narrowed in that way has none that count. */
static int load_narrowing(struct load *load, struct copy_key_row *row)
{
	const struct load_item *items;

	if (row->flags & RULE_NARROWED_PAGES) {
		items = load_list_find(&load->key_pages, row->id, &row->page_count);
		int64_t *pages = load_scratch(load, 0, row->page_count + 1, sizeof(struct copy_role_at));

		for (uint32_t i = 0; pages && i < row->page_count; i++)
			pages[i] = items[i].value;
		row->pages = pages;
	}
	if (row->flags & RULE_NARROWED_SCOPES) {
		items = load_list_find(&load->key_scopes, row->id, &row->scope_count);
		struct rpc_text *scopes = load_scratch(load, 2, row->scope_count + 1, sizeof(*scopes));

		for (uint32_t i = 0; scopes && i < row->scope_count; i++)
			scopes[i] = load_words_text(&load->scopes, items[i].word);
		row->scopes = scopes;
	}
	if (row->flags & RULE_NARROWED_NETWORKS) {
		items = load_list_find(&load->key_networks, row->id, &row->network_count);
		struct rule_network *networks = load_scratch(load, 3, row->network_count + 1, sizeof(*networks));

		for (uint32_t i = 0; networks && i < row->network_count; i++)
			networks[i] = load->networks[items[i].value];
		row->networks = networks;
	}
	if ((row->page_count && !row->pages) || (row->scope_count && !row->scopes) ||
	    (row->network_count && !row->networks))
		return -ENOMEM;
	return 0;
}

static int load_denial(struct load *load, const struct copy_key_row *row)
{
	int r = denials_put(load->denials, row->id, copy_key_denial(row));

	if (r != -ENOSPC)
		return r;
	load->result.lacks = true;
	return 0;
}

static int load_key(struct load *load, const struct pgfield *fields)
{
	struct copy_key_row row;
	int r = pgrow_key(fields, &row);

	if (r == 0)
		r = load_denial(load, &row);
	if (r == 0 && (row.flags & (RULE_NARROWED_PAGES | RULE_NARROWED_SCOPES | RULE_NARROWED_NETWORKS)))
		r = load_narrowing(load, &row);
	if (r < 0)
		return r;
	load->keys++;
	return copy_put_key(load->copy, &row);
}

/* ---- the tables, in the order that the copy wants ---- */

int load_tables(struct load *load)
{
	static const struct {
		const char *doing, *sql;
		unsigned fields;
		load_row row;
	} parts[] = {
		{"reading apikeyd.scope", QUERY_COPY_SCOPES, PGROW_SCOPE, load_scope},
		{"reading apikeyd.role", QUERY_COPY_ROLES, PGROW_ROLE, load_role},
		{"reading apikeyd.role_scope", QUERY_COPY_GRANTS, PGROW_GRANT, load_grant},
		{"reading apikeyd.organization", QUERY_COPY_ORGANIZATIONS, PGROW_ORGANIZATION, load_organization},
		{"reading apikeyd.page", QUERY_COPY_PAGES, PGROW_PAGE, load_page},
		{"reading apikeyd.organization_member", QUERY_COPY_MEMBERS, PGROW_MEMBER, load_organization_member},
		{"reading apikeyd.page_member", QUERY_COPY_PAGE_MEMBERS, PGROW_MEMBER, load_page_member},
		{"reading apikeyd.user", QUERY_COPY_USERS, PGROW_USER, load_user},
		{"reading apikeyd.key_page", QUERY_COPY_KEY_PAGES, 2, load_key_page},
		{"reading apikeyd.key_scope", QUERY_COPY_KEY_SCOPES, 2, load_key_scope},
		{"reading apikeyd.key_network", QUERY_COPY_KEY_NETWORKS, 2, load_key_network},
		{"reading apikeyd.key", QUERY_COPY_KEYS, PGROW_KEY, load_key},
	};
	int r = 0;

	for (unsigned i = 0; r == 0 && i < sizeof(parts) / sizeof(parts[0]); i++) {
		r = load_table(load, parts[i].doing, parts[i].sql, parts[i].fields, parts[i].row);
		/* What was gathered is sorted just before the table that it belongs to is read. */
		if (r == 0 && parts[i].row == load_grant) {
			r = catalog_put(&load->catalog, load->copy);
			if (r < 0)
				r = load_fail(load, "the role table: %s", schema_put_error(r));
		}
		if (r == 0 && ((parts[i].row == load_page_member &&
				(load_list_sort(&load->organizations_of) < 0 || load_list_sort(&load->pages_of) < 0)) ||
			       (parts[i].row == load_key_network &&
				(load_list_sort(&load->key_pages) < 0 || load_list_sort(&load->key_scopes) < 0 ||
				 load_list_sort(&load->key_networks) < 0))))
			r = load_fail(load, "no memory to sort what was read");
		if (r == 0 && parts[i].row == load_user) {
			load_list_deinit(&load->organizations_of);
			load_list_deinit(&load->pages_of);
		}
	}
	return r;
}

void load_rows_deinit(struct load *load)
{
	catalog_deinit(&load->catalog);
	load_words_deinit(&load->roles);
	load_words_deinit(&load->scopes);
	load_list_deinit(&load->organizations_of);
	load_list_deinit(&load->pages_of);
	load_list_deinit(&load->key_pages);
	load_list_deinit(&load->key_scopes);
	load_list_deinit(&load->key_networks);
	free(load->networks);
	for (unsigned i = 0; i < sizeof(load->scratch_cap) / sizeof(load->scratch_cap[0]); i++)
		free(load->scratch[i]);
}
