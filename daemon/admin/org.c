/* Administration of organizations. */
#include <stddef.h>

#include "daemon/admin/table.h"

#define ROW "slug as org, name, standing, " ADMIN_SQL_TIME("created_at") " as created_at"

static const struct admin_param add_params[] = {ADMIN_PARAM_ORG(true), ADMIN_PARAM_NAME, ADMIN_PARAM_END};
static const struct admin_param list_params[] = {ADMIN_PARAM_AFTER, ADMIN_PARAM_LIMIT, ADMIN_PARAM_END};
static const struct admin_param one_params[] = {ADMIN_PARAM_ORG(true), ADMIN_PARAM_END};
static const struct admin_param set_params[] = {
	ADMIN_PARAM_ORG(true), ADMIN_PARAM_SLUG,
	ADMIN_PARAM_NAME,      {"standing", ADMIN_TEXT, false, admin_fits_standing, ADMIN_STANDING_RIGHT, 0, 0, NULL},
	ADMIN_PARAM_END,
};

static const char add_sql[] = "insert into apikeyd.organization (slug, name)"
			      " values ($1::text, coalesce($2::text, $1::text)) returning " ROW;

static const char list_sql[] = "select slug collate \"C\" as cursor, " ROW " from apikeyd.organization"
			       " where $1::text is null or slug collate \"C\" > $1::text"
			       " order by slug collate \"C\" limit $2::bigint";

static const char show_sql[] =
	"select " ROW ","
	" (select count(*) from apikeyd.page p where p.organization_id = o.id) as pages,"
	" (select count(*) from apikeyd.organization_member m where m.organization_id = o.id) as members,"
	" (select count(*) from apikeyd.key k where k.organization_id = o.id) as keys"
	" from apikeyd.organization o where slug = $1::text";

static const char set_sql[] =
	"update apikeyd.organization set slug = coalesce($2::text, slug), name = coalesce($3::text, name),"
	" standing = coalesce($4::text, standing) where slug = $1::text returning " ROW;

static const char remove_sql[] =
	"with o as (select id from apikeyd.organization where slug = $1::text),"
	" fault (n, code, message) as ("
	"select 1, 'not_found', format('no organization ''%s''', $1::text) where not exists (select from o)"
	" union all select 2, 'refused', format('organization ''%s'' has keys: suspend it instead', $1::text)"
	" from o where exists (select from apikeyd.key k where k.organization_id = o.id)"
	" union all select 3, 'refused', format('organization ''%s'' has pages: remove them first', $1::text)"
	" from o where exists (select from apikeyd.page p where p.organization_id = o.id)),"
	" done as (delete from apikeyd.organization using o where organization.id = o.id"
	" and not exists (select from fault)"
	" returning slug as cursor, " ROW ")" ADMIN_SQL_ANSWER;

const struct admin_method admin_org_methods[] = {
	{.name = "org_add",
	 .help = "adds an organization",
	 .params = add_params,
	 .sql = add_sql,
	 .change = true,
	 .noun = "organization",
	 .naming = "org",
	 .named = "organization"},
	{.name = "org_list",
	 .help = "lists organizations by slug",
	 .params = list_params,
	 .sql = list_sql,
	 .answer = ADMIN_ROWS,
	 .noun = "organization"},
	{.name = "org_show",
	 .help = "shows one organization and how much it has",
	 .params = one_params,
	 .sql = show_sql,
	 .noun = "organization"},
	{.name = "org_set",
	 .help = "changes an organization's slug, name or standing; what is not given stays",
	 .params = set_params,
	 .sql = set_sql,
	 .change = true,
	 .noun = "organization",
	 .naming = "slug",
	 .named = "organization",
	 .any_from = 1},
	{.name = "org_remove",
	 .help = "removes an organization that has neither keys nor pages",
	 .params = one_params,
	 .sql = remove_sql,
	 .change = true,
	 .noun = "organization"},
	{.name = NULL},
};
