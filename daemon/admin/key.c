/*
 * Administration of keys. A key's text is made here, out of the kernel's random numbers, shown in the one answer and
 * kept nowhere: the database gets the id and the keyed hash.
 */
#include <stdio.h>
#include <string.h>

#include "daemon/admin/table.h"

#define PARAM_KEY_ID                                                                                                   \
	{                                                                                                              \
		"key_id", ADMIN_TEXT, true, admin_fits_key_id, ADMIN_KEY_ID_RIGHT, 0, 0, NULL                          \
	}

static const struct admin_param rate_fields[] = {
	{"count", ADMIN_INT, true, NULL, NULL, 1, 1000000000, NULL},
	{"period_s", ADMIN_INT, true, NULL, NULL, 1, 31536000, NULL},
	ADMIN_PARAM_END,
};

static const struct admin_param mint_params[] = {
	{"kind", ADMIN_TEXT, true, admin_fits_key_kind, "user or organization", 0, 0, NULL},
	ADMIN_PARAM_USER(false),
	ADMIN_PARAM_ORG(false),
	{"access", ADMIN_TEXT, false, admin_fits_word, "read or write", 0, 0, NULL},
	ADMIN_PARAM_NAME,
	{"pages", ADMIN_TEXTS, false, admin_fits_slug, "a page's slug: " ADMIN_SLUG_RIGHT, 0, 0, NULL},
	{"scopes", ADMIN_TEXTS, false, admin_fits_scope, ADMIN_SCOPE_RIGHT, 0, 0, NULL},
	{"networks", ADMIN_TEXTS, false, admin_fits_network, ADMIN_NETWORK_RIGHT, 0, 0, NULL},
	{"not_before", ADMIN_TIME, false, NULL, NULL, 0, 0, NULL},
	{"expires_at", ADMIN_TIME, false, NULL, NULL, 0, 0, NULL},
	{"rate", ADMIN_MAP, false, NULL, "a map of count and period_s", 0, 0, rate_fields},
	ADMIN_PARAM_END,
};
static const struct admin_param list_params[] = {
	ADMIN_PARAM_ORG(false), ADMIN_PARAM_USER(false), ADMIN_PARAM_AFTER, ADMIN_PARAM_LIMIT, ADMIN_PARAM_END,
};
static const struct admin_param one_params[] = {PARAM_KEY_ID, ADMIN_PARAM_END};

/* What the administration role may read of a key: everything but the hash. */
#define COLUMNS                                                                                                        \
	"key.id, key.kind, key.organization_id, key.user_id, key.access, key.name, key.narrowed_pages,"                \
	" key.narrowed_scopes, key.narrowed_networks, key.narrowed_rate, key.rate_count, key.rate_period_s,"           \
	" key.not_before, key.expires_at, key.retired_at, key.disabled_at, key.revoked_at, key.created_at,"            \
	" key.created_by"

/* A row of k as answers show it, but for the narrowing. */
#define ROW                                                                                                            \
	"k.id as cursor, k.id as key_id, k.kind,"                                                                      \
	" (select o.slug from apikeyd.organization o where o.id = k.organization_id) as org,"                          \
	" (select u.email from apikeyd.user u where u.id = k.user_id) as \"user\","                                    \
	" k.access, k.name, case when k.revoked_at is not null then 'revoked'"                                         \
	" when k.retired_at <= now() then 'retired' when k.disabled_at is not null then 'disabled'"                    \
	" when k.not_before > now() then 'not_yet_valid' when k.expires_at <= now() then 'expired'"                    \
	" else 'live' end as state"
#define ROW_TIMES                                                                                                      \
	ADMIN_SQL_TIME("k.not_before")                                                                                 \
	" as not_before, " ADMIN_SQL_TIME("k.expires_at") " as expires_at, " ADMIN_SQL_TIME(                           \
		"k.created_at") " as created_at, k.created_by"
#define NARROWING_RATE "k.rate_count as \"narrowing.rate.count\", k.rate_period_s as \"narrowing.rate.period_s\""
/* The narrowing, from the tables; a flag without rows is an empty list. */
#define NARROWING                                                                                                      \
	"case when k.narrowed_pages then array(select p.slug from apikeyd.key_page kp"                                 \
	" join apikeyd.page p on p.id = kp.page_id where kp.key_id = k.id order by 1) end"                             \
	" as \"narrowing.pages\","                                                                                     \
	" case when k.narrowed_scopes then array(select s.scope::text from apikeyd.key_scope s"                        \
	" where s.key_id = k.id order by 1) end as \"narrowing.scopes\","                                              \
	" case when k.narrowed_networks then array(select n.network::text from apikeyd.key_network n"                  \
	" where n.key_id = k.id order by 1) end as \"narrowing.networks\", " NARROWING_RATE

#define TIME_SHOWN(value) "to_char(" value " at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"

/* $1..$11 as in mint_params; $12 id, $13 hash, $14 pepper version, $15 its check value, $16 actor. */
static const char mint_sql[] =
	"with u as (select id, email from apikeyd.user where lower(email) = lower($2::text)),"
	" o as (select id, slug from apikeyd.organization where slug = $3::text),"
	" wp as (select distinct w.slug, p.id, p.organization_id from jsonb_array_elements_text($6::jsonb) as w (slug)"
	" left join apikeyd.page p on p.slug = w.slug),"
	" ws as (select distinct w.scope, s.name from jsonb_array_elements_text($7::jsonb) as w (scope)"
	" left join apikeyd.scope s on s.name = w.scope),"
	" wn as (select distinct w.network::cidr as network from jsonb_array_elements_text($8::jsonb) as w (network)),"
	" fault (n, code, message) as ("
	"select 1, 'not_found', format('no user ''%s''', $2::text)"
	" where $2::text is not null and not exists (select from u)"
	" union all select 2, 'not_found', format('no organization ''%s''', $3::text)"
	" where $3::text is not null and not exists (select from o)"
	" union all select 3, 'not_found', format('no access ''%s'': there are %s', $4::text,"
	" (select string_agg(r.name, ', ' order by r.rank) from apikeyd.role r where r.place = 'key'))"
	" where $4::text is not null and not exists (select from apikeyd.role r where r.place = 'key'"
	" and r.name = $4::text)"
	" union all select 4, 'not_found', format('no page ''%s''', wp.slug) from wp where wp.id is null"
	" union all select 5, 'not_found', format('no page ''%s'' in organization ''%s''', wp.slug, o.slug)"
	" from wp, o where wp.organization_id <> o.id"
	" union all select 6, 'not_found', format('no scope ''%s''', ws.scope) from ws where ws.name is null"
	" union all select 7, 'invalid', format('expires_at is %s, and not_before %s: it must be later than that, or be left"
	" out', " TIME_SHOWN("$10::timestamptz") ", " TIME_SHOWN(
		"$9::timestamptz") ")"
				   " where $10::timestamptz <= $9::timestamptz"
				   " union all select 8, 'invalid', format('expires_at is %s, and it is %s now: the key would never be good; give a"
				   " later time, or leave it out', " TIME_SHOWN("$10::timestamptz") ", " TIME_SHOWN(
					   "now()") ")"
						    " where $10::timestamptz <= now()),"
						    " k as (insert into apikeyd.key (id, kind, organization_id, user_id, access, name, hash, pepper_version,"
						    " narrowed_pages, narrowed_scopes, narrowed_networks, narrowed_rate, rate_count, rate_period_s,"
						    " not_before, expires_at, created_by)"
						    " select $12::text, $1::text, o.id, u.id, case when $1::text = 'organization'"
						    " then coalesce($4::text, 'read') end, coalesce($5::text, ''), $13::bytea, $14::smallint,"
						    " $6::text is not null, $7::text is not null, $8::text is not null, $11::text is not null,"
						    " ($11::jsonb->>'count')::int, ($11::jsonb->>'period_s')::int,"
						    " coalesce($9::timestamptz, '-infinity'), coalesce($10::timestamptz, 'infinity'), $16::text"
						    " from apikeyd.register_pepper($14::smallint, $15::bytea) as registered"
						    " left join o on true left join u on true where not exists (select from fault)"
						    " on conflict (id) do nothing returning " COLUMNS "),"
						    " kp as (insert into apikeyd.key_page (key_id, page_id) select k.id, wp.id from k, wp),"
						    " ks as (insert into apikeyd.key_scope (key_id, scope) select k.id, ws.name from k, ws),"
						    " kn as (insert into apikeyd.key_network (key_id, network) select k.id, wn.network from k, wn),"
						    " done as (select " ROW ","
						    " case when k.narrowed_pages then array(select slug from wp order by 1) end as \"narrowing.pages\","
						    " case when k.narrowed_scopes then array(select name::text from ws order by 1) end as \"narrowing.scopes\","
						    " case when k.narrowed_networks then array(select network::text from wn order by 1) end"
						    " as \"narrowing.networks\", " NARROWING_RATE ", " ROW_TIMES
						    " from k)" ADMIN_SQL_ANSWER;

static const char list_sql[] = "with u as (select id from apikeyd.user where lower(email) = lower($2::text)),"
			       " o as (select id from apikeyd.organization where slug = $1::text),"
			       " fault (n, code, message) as ("
			       "select 1, 'not_found', format('no organization ''%s''', $1::text)"
			       " where $1::text is not null and not exists (select from o)"
			       " union all select 2, 'not_found', format('no user ''%s''', $2::text)"
			       " where $2::text is not null and not exists (select from u)),"
			       " k as (select " COLUMNS " from apikeyd.key"
			       " where ($1::text is null or key.organization_id = (select id from o))"
			       " and ($2::text is null or key.user_id = (select id from u))"
			       " and ($3::text is null or key.id > $3::text collate \"C\")"
			       " order by key.id limit $4::bigint),"
			       " done as (select " ROW ", " NARROWING ", " ROW_TIMES " from k)" ADMIN_SQL_ANSWER;

/* Of each list the first so many: a key may reach thousands of pages. */
#define USED_MOST "100"
#define USED(what)                                                                                                     \
	"array(select used." what " from used where used.verdict = 'allow' and used." what                             \
	" is not null group by 1 order by 1 limit " USED_MOST ")"

static const char show_sql[] =
	"with k as (select " COLUMNS " from apikeyd.key where key.id = $1::text),"
	" used as materialized (select * from apikeyd.key_usage where key_usage.key_id = $1::text),"
	" pages as materialized (select n.page from apikeyd.never_used_pages n where n.key_id = $1::text)"
	" select " ROW ", " NARROWING ", " ROW_TIMES ","
	" " ADMIN_SQL_TIME(
		"(select max(used.last_at) from used where used.verdict = 'allow')") " as \"usage.last_used_at\","
										     " (select coalesce(sum(used.count), 0)::bigint from used where used.verdict = 'allow') as \"usage.allowed\","
										     " (select coalesce(sum(used.count), 0)::bigint from used where used.verdict <> 'allow') as \"usage.refused\","
										     " " USED("caller_uid") " as \"usage.callers\", " USED(
											     "scope") " as \"usage.scopes\","
												      " " USED(
													      "page") " as \"usage.pages\","
														      " array(select n.scope from apikeyd.never_used_scopes n where n.key_id = $1::text order by 1 limit " USED_MOST
														      ")"
														      " as \"usage.never_used_scopes\","
														      " array(select n.page from pages n order by 1 limit " USED_MOST
														      ") as \"usage.never_used_pages\","
														      " (select count(*) from pages) as \"usage.never_used_pages_count\""
														      " from k";

static const char disable_sql[] =
	"with k as (update apikeyd.key set disabled_at = coalesce(disabled_at, now()) where id = $1::text"
	" returning " COLUMNS ") select " ROW ", " NARROWING ", " ROW_TIMES " from k";

static const char enable_sql[] =
	"with fault (n, code, message) as ("
	"select 1, 'refused', format('key ''%s'' is revoked: that is final', $1::text)"
	" from apikeyd.key where key.id = $1::text and key.revoked_at is not null),"
	" k as (update apikeyd.key set disabled_at = null where id = $1::text and not exists (select from fault)"
	" returning " COLUMNS "),"
	" done as (select " ROW ", " NARROWING ", " ROW_TIMES " from k)" ADMIN_SQL_ANSWER;

static const char revoke_sql[] =
	"with k as (update apikeyd.key set revoked_at = coalesce(revoked_at, now()) where id = $1::text"
	" returning " COLUMNS ") select " ROW ", " NARROWING ", " ROW_TIMES " from k";

/* Whose key it is agrees with its kind. */
static bool one_owner(const struct admin_request *request, struct rpc_error *error)
{
	bool personal = !strcmp(request->params[0], "user");
	const char *owner = personal ? "user" : "org";
	const char *foreign = personal ? "org" : "user";

	if (!admin_given(request, owner)) {
		admin_error(error, RPC_BAD_PARAMS, "%s: %s is missing: %s key has one", request->method->name, owner,
			    personal ? "a user" : "an organization");
		return false;
	}
	if (admin_given(request, foreign) || (personal && admin_given(request, "access"))) {
		admin_error(error, RPC_BAD_PARAMS, "%s: %s is given: %s key has none", request->method->name,
			    admin_given(request, foreign) ? foreign : "access",
			    personal ? "a user" : "an organization");
		return false;
	}
	return true;
}

static bool at_most_one_owner(const struct admin_request *request, struct rpc_error *error)
{
	if (!admin_given(request, "org") || !admin_given(request, "user"))
		return true;
	admin_error(error, RPC_BAD_PARAMS, "%s: give at most one of org and user", request->method->name);
	return false;
}

/* bytea's text form. */
static const char *hex(struct arena *arena, const uint8_t bytes[SECRET_HASH_LEN])
{
	char *text = arena_alloc(arena, 2 + 2 * SECRET_HASH_LEN + 1);

	if (!text)
		return NULL;
	text[0] = '\\';
	text[1] = 'x';
	for (size_t i = 0; i < SECRET_HASH_LEN; i++)
		snprintf(text + 2 + 2 * i, 3, "%02x", bytes[i]);
	return text;
}

/* Makes a key: its text for the answer, its id and hash for the database. */
static bool make_key(struct admin_request *request)
{
	const struct secret *secret = request->admin->secret;
	uint16_t version = secret_newest(secret);
	uint8_t random[16], secret_bytes[KEYTEXT_SECRET_BYTES], hash[SECRET_HASH_LEN], check[SECRET_HASH_LEN];
	char *text = arena_alloc(&request->arena, KEYTEXT_MAX + 1), id[KEYTEXT_ID_LEN + 1], number[8];
	const char **extra = request->params + 11;
	bool personal = !strcmp(request->params[0], "user"), made = false;
	keytext_id packed;
	size_t len;

	if (!text)
		return false;
	secret_random(random, sizeof(random));
	secret_random(secret_bytes, sizeof(secret_bytes));
	packed = keytext_id_from_random(random);
	keytext_id_format(packed, id);
	len = keytext_format(request->admin->config->brand, personal ? KEY_KIND_USER : KEY_KIND_ORGANIZATION, packed,
			     secret_bytes, text);
	if (!len || !secret_hash(secret, version, text, len, hash) || !secret_check_value(secret, version, check))
		goto out;
	snprintf(number, sizeof(number), "%u", version);
	extra[0] = arena_text(&request->arena, id, strlen(id));
	extra[1] = hex(&request->arena, hash);
	extra[2] = arena_text(&request->arena, number, strlen(number));
	extra[3] = hex(&request->arena, check);
	extra[4] = request->actor;
	request->param_count = 16;
	request->key = text;
	made = extra[0] && extra[1] && extra[2] && extra[3];
out:
	secret_wipe(secret_bytes, sizeof(secret_bytes));
	secret_wipe(random, sizeof(random));
	secret_wipe(hash, sizeof(hash));
	return made;
}

const struct admin_method admin_key_methods[] = {
	{.name = "key_mint",
	 .help = "makes a key and shows its text, once",
	 .params = mint_params,
	 .sql = mint_sql,
	 .change = true,
	 .noun = "key",
	 .agree = one_owner,
	 .extra = make_key},
	{.name = "key_list",
	 .help = "lists keys by key_id, of one organization or user or of all",
	 .params = list_params,
	 .sql = list_sql,
	 .answer = ADMIN_ROWS,
	 .noun = "key",
	 .agree = at_most_one_owner},
	{.name = "key_show",
	 .help = "shows one key: everything but its text",
	 .params = one_params,
	 .sql = show_sql,
	 .noun = "key"},
	{.name = "key_disable",
	 .help = "makes a key deny until it is enabled again",
	 .params = one_params,
	 .sql = disable_sql,
	 .change = true,
	 .noun = "key"},
	{.name = "key_enable",
	 .help = "makes a disabled key work again",
	 .params = one_params,
	 .sql = enable_sql,
	 .change = true,
	 .noun = "key"},
	{.name = "key_revoke",
	 .help = "makes a key deny for ever",
	 .params = one_params,
	 .sql = revoke_sql,
	 .change = true,
	 .noun = "key"},
	{.name = NULL},
};
