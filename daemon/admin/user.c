/* Administration of users. An e-mail address names its user in any letter case. */
#include <stddef.h>

#include "daemon/admin/table.h"

#define ROW "email as \"user\", name, standing, " ADMIN_SQL_TIME("created_at") " as created_at"

static const struct admin_param add_params[] = {ADMIN_PARAM_USER(true), ADMIN_PARAM_NAME, ADMIN_PARAM_END};
static const struct admin_param list_params[] = {ADMIN_PARAM_AFTER, ADMIN_PARAM_LIMIT, ADMIN_PARAM_END};
static const struct admin_param one_params[] = {ADMIN_PARAM_USER(true), ADMIN_PARAM_END};
static const struct admin_param set_params[] = {
	ADMIN_PARAM_USER(true), {"email", ADMIN_TEXT, false, admin_fits_email, ADMIN_EMAIL_RIGHT, 0, 0, NULL},
	ADMIN_PARAM_NAME,	{"standing", ADMIN_TEXT, false, admin_fits_standing, ADMIN_STANDING_RIGHT, 0, 0, NULL},
	ADMIN_PARAM_END,
};

static const char add_sql[] = "insert into apikeyd.user (email, name)"
			      " values ($1::text, coalesce($2::text, $1::text)) returning " ROW;

static const char list_sql[] = "select lower(email) collate \"C\" as cursor, " ROW " from apikeyd.user"
			       " where $1::text is null or lower(email) collate \"C\" > lower($1::text)"
			       " order by lower(email) collate \"C\" limit $2::bigint";

static const char show_sql[] =
	"select " ROW ","
	" (select count(*) from apikeyd.organization_member m where m.user_id = u.id) as organizations,"
	" (select count(*) from apikeyd.page_member m where m.user_id = u.id) as pages,"
	" (select count(*) from apikeyd.key k where k.user_id = u.id) as keys"
	" from apikeyd.user u where lower(email) = lower($1::text)";

static const char set_sql[] =
	"update apikeyd.user set email = coalesce($2::text, email), name = coalesce($3::text, name),"
	" standing = coalesce($4::text, standing) where lower(email) = lower($1::text) returning " ROW;

static const char remove_sql[] =
	"with u as (select id from apikeyd.user where lower(email) = lower($1::text)),"
	" fault (n, code, message) as ("
	"select 1, 'not_found', format('no user ''%s''', $1::text) where not exists (select from u)"
	" union all select 2, 'refused', format('user ''%s'' has keys: suspend them instead', $1::text)"
	" from u where exists (select from apikeyd.key k where k.user_id = u.id)),"
	" done as (delete from apikeyd.user as t using u where t.id = u.id and not exists (select from fault)"
	" returning email as cursor, " ROW ")" ADMIN_SQL_ANSWER;

const struct admin_method admin_user_methods[] = {
	{.name = "user_add",
	 .help = "adds a user",
	 .params = add_params,
	 .sql = add_sql,
	 .change = true,
	 .noun = "user",
	 .naming = "user",
	 .named = "user"},
	{.name = "user_list",
	 .help = "lists users by e-mail address",
	 .params = list_params,
	 .sql = list_sql,
	 .answer = ADMIN_ROWS,
	 .noun = "user"},
	{.name = "user_show",
	 .help = "shows one user and how much hangs on them",
	 .params = one_params,
	 .sql = show_sql,
	 .noun = "user"},
	{.name = "user_set",
	 .help = "changes a user's e-mail address, name or standing; what is not given stays",
	 .params = set_params,
	 .sql = set_sql,
	 .change = true,
	 .noun = "user",
	 .naming = "email",
	 .named = "user",
	 .any_from = 1},
	{.name = "user_remove",
	 .help = "removes a user without keys, and their memberships",
	 .params = one_params,
	 .sql = remove_sql,
	 .change = true,
	 .noun = "user"},
	{.name = NULL},
};
