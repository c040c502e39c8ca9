#include "daemon/postgres/catalog.h"

#include <errno.h>
#include <stdlib.h>

enum { CATALOG_ROWS_MAX = RULE_ROLES_MAX * RULE_SCOPES_MAX };

void catalog_deinit(struct catalog *catalog)
{
	arena_clear(&catalog->texts);
	free(catalog->scopes);
	free(catalog->roles);
	free(catalog->grants);
	*catalog = (struct catalog){0};
}

/* Room for one more row: the new place, or NULL. */
static void *catalog_room(void **rows, uint32_t *count, uint32_t *cap, size_t size)
{
	if (*count == *cap) {
		uint32_t grown = *cap ? *cap * 2 : 64;
		void *moved = reallocarray(*rows, grown, size);

		if (!moved)
			return NULL;
		*rows = moved;
		*cap = grown;
	}
	return (char *)*rows + (*count)++ * size;
}

static bool catalog_keep(struct catalog *catalog, struct rpc_text *text)
{
	text->data = arena_text(&catalog->texts, text->data, text->len);
	return text->data != NULL;
}

int catalog_add_scope(struct catalog *catalog, const struct pgfield *fields)
{
	struct copy_scope_row row, *room;

	if (pgrow_scope(fields, &row) < 0)
		return -EBADMSG;
	if (catalog->scope_count >= CATALOG_ROWS_MAX)
		return -E2BIG;
	room = catalog_room((void **)&catalog->scopes, &catalog->scope_count, &catalog->scope_cap, sizeof(row));
	if (!room)
		return -ENOMEM;
	*room = row;
	return catalog_keep(catalog, &room->name) ? 0 : -ENOMEM;
}

int catalog_add_role(struct catalog *catalog, const struct pgfield *fields)
{
	struct copy_role_row row, *room;

	if (pgrow_role(fields, &row) < 0)
		return -EBADMSG;
	if (catalog->role_count >= CATALOG_ROWS_MAX)
		return -E2BIG;
	room = catalog_room((void **)&catalog->roles, &catalog->role_count, &catalog->role_cap, sizeof(row));
	if (!room)
		return -ENOMEM;
	*room = row;
	return catalog_keep(catalog, &room->name) ? 0 : -ENOMEM;
}

int catalog_add_grant(struct catalog *catalog, const struct pgfield *fields)
{
	struct copy_grant_row row, *room;

	if (pgrow_grant(fields, &row) < 0)
		return -EBADMSG;
	if (catalog->grant_count >= CATALOG_ROWS_MAX)
		return -E2BIG;
	room = catalog_room((void **)&catalog->grants, &catalog->grant_count, &catalog->grant_cap, sizeof(row));
	if (!room)
		return -ENOMEM;
	*room = row;
	return catalog_keep(catalog, &room->role) && catalog_keep(catalog, &room->scope) ? 0 : -ENOMEM;
}

int catalog_put(const struct catalog *catalog, struct copy *copy)
{
	return copy_put_catalog(copy, catalog->scopes, catalog->scope_count, catalog->roles, catalog->role_count,
				catalog->grants, catalog->grant_count);
}
