#include "daemon/postgres/feed_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/postgres/pgrow.h"

/* Room for `count` things of that size, kept for the next row; NULL without memory. Each place has one size. */
static void *feed_scratch(struct feed *feed, unsigned place, uint32_t count, size_t size)
{
	if (feed->scratch_cap[place] < count || !feed->scratch[place]) {
		void *grown = reallocarray(feed->scratch[place], count + 16U, size);

		if (!grown)
			return NULL;
		feed->scratch[place] = grown;
		feed->scratch_cap[place] = count + 16U;
	}
	return feed->scratch[place];
}

void feed_rows_deinit(struct feed *feed)
{
	for (unsigned i = 0; i < sizeof(feed->scratch) / sizeof(feed->scratch[0]); i++) {
		free(feed->scratch[i]);
		feed->scratch[i] = NULL;
		feed->scratch_cap[i] = 0;
	}
}

/* Two arrays of the same length: where, and which role. */
static int feed_roles(struct feed *feed, unsigned place, const struct pgfield *fields, const struct copy_role_at **ret,
		      uint32_t *ret_count)
{
	struct pgarray ids, roles;
	struct copy_role_at *at;
	struct pgfield field;
	uint32_t count;

	if (!pgarray_open(&fields[0], &ids) || !pgarray_open(&fields[1], &roles) || ids.count != roles.count)
		return -EBADMSG;
	count = ids.count;
	at = feed_scratch(feed, place, count, sizeof(*at));
	if (!at)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++) {
		if (!pgarray_next(&ids, &field) || !pgfield_int64(&field, &at[i].id))
			return -EBADMSG;
		if (!pgarray_next(&roles, &field) || !pgfield_text(&field, &at[i].role))
			return -EBADMSG;
	}
	*ret = at;
	*ret_count = count;
	return 0;
}

static int feed_row_user(struct feed *feed, const struct pgfield *fields)
{
	struct copy_user_row row;
	int r;

	if (pgrow_user(fields, &row) < 0)
		return -EBADMSG;
	r = feed_roles(feed, 0, fields + PGROW_USER, &row.organizations, &row.organization_count);
	if (r == 0)
		r = feed_roles(feed, 1, fields + PGROW_USER + 2, &row.pages, &row.page_count);
	return r < 0 ? r : copy_put_user(feed->batch.target, &row);
}

static int feed_key_pages(struct feed *feed, const struct pgfield *field, struct copy_key_row *row)
{
	struct pgarray array;
	struct pgfield item;
	int64_t *pages;

	if (!pgarray_open(field, &array))
		return -EBADMSG;
	row->page_count = array.count;
	row->pages = pages = feed_scratch(feed, 2, array.count, sizeof(*pages));
	for (uint32_t i = 0; pages && i < row->page_count; i++)
		if (!pgarray_next(&array, &item) || !pgfield_int64(&item, &pages[i]))
			return -EBADMSG;
	return pages ? 0 : -ENOMEM;
}

static int feed_key_scopes(struct feed *feed, const struct pgfield *field, struct copy_key_row *row)
{
	struct pgarray array;
	struct pgfield item;
	struct rpc_text *scopes;

	if (!pgarray_open(field, &array))
		return -EBADMSG;
	row->scope_count = array.count;
	row->scopes = scopes = feed_scratch(feed, 3, array.count, sizeof(*scopes));
	for (uint32_t i = 0; scopes && i < row->scope_count; i++)
		if (!pgarray_next(&array, &item) || !pgfield_text(&item, &scopes[i]))
			return -EBADMSG;
	return scopes ? 0 : -ENOMEM;
}

static int feed_key_networks(struct feed *feed, const struct pgfield *field, struct copy_key_row *row)
{
	struct pgarray array;
	struct pgfield item;
	struct rule_network *networks;

	if (!pgarray_open(field, &array))
		return -EBADMSG;
	row->network_count = array.count;
	row->networks = networks = feed_scratch(feed, 4, array.count, sizeof(*networks));
	for (uint32_t i = 0; networks && i < row->network_count; i++)
		if (!pgarray_next(&array, &item) || !pgfield_network(&item, &networks[i]))
			return -EBADMSG;
	return networks ? 0 : -ENOMEM;
}

static int feed_row_key(struct feed *feed, const struct pgfield *fields)
{
	struct copy_key_row row;
	int r = pgrow_key(fields, &row);

	if (r == 0)
		r = feed_history_row(feed, row.id, copy_key_denial(&row));
	/* As in the load: rows of a narrowing that is not in force do not count. */
	if (r == 0 && (row.flags & RULE_NARROWED_PAGES))
		r = feed_key_pages(feed, fields + PGROW_KEY, &row);
	if (r == 0 && (row.flags & RULE_NARROWED_SCOPES))
		r = feed_key_scopes(feed, fields + PGROW_KEY + 1, &row);
	if (r == 0 && (row.flags & RULE_NARROWED_NETWORKS))
		r = feed_key_networks(feed, fields + PGROW_KEY + 2, &row);
	return r < 0 ? r : copy_put_key(feed->batch.target, &row);
}

static int feed_row_remove(struct feed *feed, enum feed_step step, const struct pgfield *changed)
{
	struct copy *copy = feed->batch.target;
	keytext_id key;
	int64_t id;
	int r;

	if (step == FEED_STEP_KEYS) {
		if (!pgfield_key_id(changed, &key))
			return -EBADMSG;
		r = feed_history_row(feed, key, denial_none());
		return r < 0 ? r : copy_remove_key(copy, key);
	}
	if (!pgfield_int64(changed, &id))
		return -EBADMSG;
	switch (step) {
	case FEED_STEP_ORGANIZATIONS:
		return copy_remove_organization(copy, id);
	case FEED_STEP_PAGES:
		return copy_remove_page(copy, id);
	default:
		return copy_remove_user(copy, id);
	}
}

int feed_row(struct feed *feed, enum feed_step step, const PGresult *result, int row)
{
	static const uint8_t widths[] = {
		[FEED_STEP_SCOPES] = PGROW_SCOPE,     [FEED_STEP_ROLES] = PGROW_ROLE,
		[FEED_STEP_GRANTS] = PGROW_GRANT,     [FEED_STEP_ORGANIZATIONS] = 1 + PGROW_ORGANIZATION,
		[FEED_STEP_PAGES] = 1 + PGROW_PAGE,   [FEED_STEP_USERS] = 1 + PGROW_USER + 4,
		[FEED_STEP_KEYS] = 1 + PGROW_KEY + 3,
	};
	struct pgfield fields[PGROW_FIELDS_MAX] = {0};
	struct copy_organization_row organization;
	struct copy_page_row page;

	if (PQnfields(result) != widths[step])
		return -EBADMSG;
	for (int i = 0; i < widths[step]; i++) {
		fields[i].data = (const uint8_t *)PQgetvalue(result, row, i);
		fields[i].len = PQgetisnull(result, row, i) ? -1 : PQgetlength(result, row, i);
	}
	switch (step) {
	case FEED_STEP_SCOPES:
		return catalog_add_scope(&feed->batch.catalog, fields);
	case FEED_STEP_ROLES:
		return catalog_add_role(&feed->batch.catalog, fields);
	case FEED_STEP_GRANTS:
		return catalog_add_grant(&feed->batch.catalog, fields);
	default:
		break;
	}
	if (pgfield_is_null(&fields[1]))
		return feed_row_remove(feed, step, &fields[0]);
	switch (step) {
	case FEED_STEP_ORGANIZATIONS:
		return pgrow_organization(fields + 1, &organization) < 0
			       ? -EBADMSG
			       : copy_put_organization(feed->batch.target, &organization);
	case FEED_STEP_PAGES:
		return pgrow_page(fields + 1, &page) < 0 ? -EBADMSG : copy_put_page(feed->batch.target, &page);
	case FEED_STEP_USERS:
		return feed_row_user(feed, fields + 1);
	case FEED_STEP_KEYS:
		return feed_row_key(feed, fields + 1);
	default:
		return -EBADMSG;
	}
}
