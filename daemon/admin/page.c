/* Administration of status pages. */
#include <stddef.h>

#include "daemon/admin/table.h"

/* In RETURNING and select lists alike: `page` is the table, whose organization never changes. */
#define ROW                                                                                                            \
	"page.slug as page, (select o.slug from apikeyd.organization o where o.id = page.organization_id) as org, "    \
	"page.name, page.standing, " ADMIN_SQL_TIME("page.created_at") " as created_at"

static const struct admin_param add_params[] = {
	ADMIN_PARAM_ORG(true),
	ADMIN_PARAM_PAGE(true),
	ADMIN_PARAM_NAME,
	ADMIN_PARAM_END,
};
static const struct admin_param list_params[] = {
	ADMIN_PARAM_ORG(false),
	ADMIN_PARAM_AFTER,
	ADMIN_PARAM_LIMIT,
	ADMIN_PARAM_END,
};
static const struct admin_param one_params[] = {ADMIN_PARAM_PAGE(true), ADMIN_PARAM_END};
static const struct admin_param set_params[] = {
	ADMIN_PARAM_PAGE(true),
	ADMIN_PARAM_SLUG,
	ADMIN_PARAM_NAME,
	{"standing", ADMIN_TEXT, false, admin_fits_page_standing, "active or archived", 0, 0, NULL},
	ADMIN_PARAM_END,
};

static const char add_sql[] =
	"insert into apikeyd.page (organization_id, slug, name)"
	" select o.id, $2::text, coalesce($3::text, $2::text) from apikeyd.organization o where o.slug = $1::text"
	" returning " ROW;

static const char list_sql[] =
	"with fault (n, code, message) as ("
	"select 1, 'not_found', format('no organization ''%s''', $1::text) where $1::text is not null"
	" and not exists (select from apikeyd.organization where slug = $1::text)),"
	" done as (select page.slug collate \"C\" as cursor, " ROW " from apikeyd.page"
	" where ($1::text is null or organization_id = (select id from apikeyd.organization where slug = $1::text))"
	" and ($2::text is null or page.slug collate \"C\" > $2::text)"
	" order by page.slug collate \"C\" limit $3::bigint)" ADMIN_SQL_ANSWER;

static const char show_sql[] = "select " ROW ","
			       " (select count(*) from apikeyd.page_member m where m.page_id = page.id) as members,"
			       " (select count(*) from apikeyd.key_page k where k.page_id = page.id) as keys"
			       " from apikeyd.page where slug = $1::text";

static const char set_sql[] =
	"update apikeyd.page set slug = coalesce($2::text, slug), name = coalesce($3::text, name),"
	" standing = coalesce($4::text, standing) where slug = $1::text returning " ROW;

static const char remove_sql[] = "delete from apikeyd.page where slug = $1::text returning " ROW;

const struct admin_method admin_page_methods[] = {
	{.name = "page_add",
	 .help = "adds a status page to an organization",
	 .params = add_params,
	 .sql = add_sql,
	 .change = true,
	 .noun = "organization",
	 .naming = "page",
	 .named = "page"},
	{.name = "page_list",
	 .help = "lists pages by slug, of one organization or of all",
	 .params = list_params,
	 .sql = list_sql,
	 .answer = ADMIN_ROWS,
	 .noun = "page"},
	{.name = "page_show",
	 .help = "shows one page, and how many members it has and keys that name it",
	 .params = one_params,
	 .sql = show_sql,
	 .noun = "page"},
	{.name = "page_set",
	 .help = "changes a page's slug, name or standing; what is not given stays",
	 .params = set_params,
	 .sql = set_sql,
	 .change = true,
	 .noun = "page",
	 .naming = "slug",
	 .named = "page",
	 .any_from = 1},
	{.name = "page_remove",
	 .help = "removes a page, its memberships, and itself from the keys that name it",
	 .params = one_params,
	 .sql = remove_sql,
	 .change = true,
	 .noun = "page"},
	{.name = NULL},
};
