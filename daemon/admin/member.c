/* Administration of memberships: of a user in an organization, or on a page, where it overrides. */
#include <stddef.h>

#include "daemon/admin/table.h"

#define PARAM_ROLE                                                                                                     \
	{                                                                                                              \
		"role", ADMIN_TEXT, true, admin_fits_word, ADMIN_WORD_RIGHT, 0, 0, NULL                                \
	}

static const struct admin_param set_params[] = {
	ADMIN_PARAM_USER(true), ADMIN_PARAM_ORG(false), ADMIN_PARAM_PAGE(false), PARAM_ROLE, ADMIN_PARAM_END,
};
static const struct admin_param list_params[] = {
	ADMIN_PARAM_USER(false), ADMIN_PARAM_ORG(false), ADMIN_PARAM_PAGE(false),
	ADMIN_PARAM_AFTER,	 ADMIN_PARAM_LIMIT,	 ADMIN_PARAM_END,
};
static const struct admin_param remove_params[] = {
	ADMIN_PARAM_USER(true),
	ADMIN_PARAM_ORG(false),
	ADMIN_PARAM_PAGE(false),
	ADMIN_PARAM_END,
};

static bool one_place(const struct admin_request *request, struct rpc_error *error)
{
	if (!admin_given(request, "org") != !admin_given(request, "page"))
		return true;
	admin_error(error, RPC_BAD_PARAMS, "%s: give org or page, exactly one of them", request->method->name);
	return false;
}

static bool one_filter(const struct admin_request *request, struct rpc_error *error)
{
	if (!!admin_given(request, "user") + !!admin_given(request, "org") + !!admin_given(request, "page") <= 1)
		return true;
	admin_error(error, RPC_BAD_PARAMS, "%s: give at most one of user, org and page", request->method->name);
	return false;
}

/* $1 user, $2 org, $3 page: found as u, o, p; and the faults where one is named that does not exist. */
#define NAMED                                                                                                          \
	"u as (select id, email from apikeyd.user where lower(email) = lower($1::text)),"                              \
	" o as (select id, slug from apikeyd.organization where slug = $2::text),"                                     \
	" p as (select page.id, page.slug, page.organization_id, organization.slug as org from apikeyd.page"           \
	" join apikeyd.organization on organization.id = page.organization_id where page.slug = $3::text),"            \
	" missing (n, code, message) as ("                                                                             \
	"select 1, 'not_found', format('no user ''%s''', $1::text)"                                                    \
	" where $1::text is not null and not exists (select from u)"                                                   \
	" union all select 2, 'not_found', format('no organization ''%s''', $2::text)"                                 \
	" where $2::text is not null and not exists (select from o)"                                                   \
	" union all select 3, 'not_found', format('no page ''%s''', $3::text)"                                         \
	" where $3::text is not null and not exists (select from p))"

static const char set_sql[] =
	"with " NAMED ", place (place) as (select case when $3::text is null then 'organization' else 'page' end),"
	" fault as (select * from missing"
	" union all select 4, 'not_found', format('no %s role ''%s'': there are %s', place.place, $4::text,"
	" (select string_agg(r.name, ', ' order by r.rank) from apikeyd.role r where r.place = place.place))"
	" from place where not exists (select from apikeyd.role r where r.place = place.place"
	" and r.name = $4::text)),"
	" om as (insert into apikeyd.organization_member (organization_id, user_id, role)"
	" select o.id, u.id, $4::text from o, u where not exists (select from fault)"
	" on conflict (organization_id, user_id) do update set role = excluded.role returning role),"
	" pm as (insert into apikeyd.page_member (page_id, organization_id, user_id, role)"
	" select p.id, p.organization_id, u.id, $4::text from p, u where not exists (select from fault)"
	" on conflict (page_id, user_id) do update set role = excluded.role returning role),"
	" done as (select u.email as cursor, u.email as \"user\", o.slug as org, null::text as page, om.role"
	" from om, u, o"
	" union all select u.email, u.email, p.org, p.slug, pm.role from pm, u, p)" ADMIN_SQL_ANSWER;

static const char remove_sql[] =
	"with " NAMED ","
	" om as (delete from apikeyd.organization_member m using o, u"
	" where m.organization_id = o.id and m.user_id = u.id returning m.role),"
	" pm as (delete from apikeyd.page_member m using p, u"
	" where m.page_id = p.id and m.user_id = u.id returning m.role),"
	" done as (select u.email as cursor, u.email as \"user\", o.slug as org, null::text as page, om.role"
	" from om, u, o"
	" union all select u.email, u.email, p.org, p.slug, pm.role from pm, u, p),"
	" fault as (select * from missing"
	" union all select 4, 'not_found', format('user ''%s'' is not a member of %s ''%s''', $1::text,"
	" case when $3::text is null then 'organization' else 'page' end, coalesce($3::text, $2::text))"
	" where not exists (select from done))" ADMIN_SQL_ANSWER;

/* With org: its own members and those of its pages. The cursor's spaces cannot stand in what they divide. */
static const char list_sql[] =
	"with " NAMED ", fault as (select * from missing),"
	" every as ("
	"select u2.email, o2.slug as org, null::text as page, m.role from apikeyd.organization_member m"
	" join apikeyd.user u2 on u2.id = m.user_id join apikeyd.organization o2 on o2.id = m.organization_id"
	" where $3::text is null and ($1::text is null or m.user_id = (select id from u))"
	" and ($2::text is null or m.organization_id = (select id from o))"
	" union all select u2.email, o2.slug, p2.slug, m.role from apikeyd.page_member m"
	" join apikeyd.user u2 on u2.id = m.user_id join apikeyd.page p2 on p2.id = m.page_id"
	" join apikeyd.organization o2 on o2.id = p2.organization_id"
	" where ($3::text is null or m.page_id = (select id from p))"
	" and ($1::text is null or m.user_id = (select id from u))"
	" and ($2::text is null or p2.organization_id = (select id from o))),"
	" placed as (select (lower(email) || ' ' || org || ' ' || coalesce(page, '')) collate \"C\" as cursor,"
	" email as \"user\", org, page, role from every),"
	" done as (select * from placed where $4::text is null or cursor > $4::text"
	" order by cursor limit $5::bigint)" ADMIN_SQL_ANSWER;

const struct admin_method admin_member_methods[] = {
	{.name = "member_set",
	 .help = "gives a user a role in an organization, or on a page where it overrides",
	 .params = set_params,
	 .sql = set_sql,
	 .change = true,
	 .noun = "member",
	 .agree = one_place},
	{.name = "member_list",
	 .help = "lists memberships of a user, of an organization with its pages, of a page, or all",
	 .params = list_params,
	 .sql = list_sql,
	 .answer = ADMIN_ROWS,
	 .noun = "member",
	 .agree = one_filter},
	{.name = "member_remove",
	 .help = "takes a user's role in an organization, or on a page",
	 .params = remove_params,
	 .sql = remove_sql,
	 .change = true,
	 .noun = "member",
	 .agree = one_place},
	{.name = NULL},
};
