/*
 * The scope and role tables on their way into a copy: they are small, and the copy takes them whole.
 *
 * Owns the rows and their texts. Who calls it: load.c and feed_rows.c. Zeroed is empty and valid.
 */
#ifndef APIKEYD_DAEMON_POSTGRES_CATALOG_H
#define APIKEYD_DAEMON_POSTGRES_CATALOG_H

#include "daemon/mirror/copy.h"
#include "daemon/postgres/pgrow.h"
#include "proto/value.h"

struct catalog {
	struct arena texts;
	struct copy_scope_row *scopes;
	struct copy_role_row *roles;
	struct copy_grant_row *grants;
	uint32_t scope_count, role_count, grant_count;
	uint32_t scope_cap, role_cap, grant_cap;
};

void catalog_deinit(struct catalog *catalog); /* leaves it empty */

/* A row of each table: 0, -EBADMSG, -E2BIG or -ENOMEM. */
int catalog_add_scope(struct catalog *catalog, const struct pgfield *fields);
int catalog_add_role(struct catalog *catalog, const struct pgfield *fields);
int catalog_add_grant(struct catalog *catalog, const struct pgfield *fields);

int catalog_put(const struct catalog *catalog, struct copy *copy); /* as copy_put_catalog */

#endif
