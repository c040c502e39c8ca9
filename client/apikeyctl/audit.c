/* audit: what the ledger says; audit_verify.c asks whether that is so. */
#include "client/apikeyctl/audit.h"

#include <stdlib.h>
#include <string.h>

#include "client/apikeyctl/db_audit.h"
#include "client/apikeyctl/db_session.h"
#include "client/apikeyctl/jsonout.h"
#include "client/apikeyctl/nouns.h"
#include "client/apikeyctl/show.h"

enum { AUDIT_SHOWN_MAX = 100000 };

static const struct show_column audit_columns[] = {
	{"AT", "at", 0, NULL},
	{"WHAT", "what", SHOW_STATE, NULL},
	{"COUNT", "count", 0, NULL},
	{"KEY OR WHO", "who", 0, NULL},
	{"ABOUT", "about", SHOW_WRAP, NULL},
	{"WHY", "why", SHOW_WRAP, NULL},
	{"FROM", "source", 0, NULL},
	{NULL, NULL, 0, NULL},
};

/* What was refused, and what was changed. $1 since, $2 key or null, $3 how many. */
static const char audit_sql[] =
	"select to_char(e.at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') as at, e.what, e.count, e.who, e.about,"
	" e.why, e.source from ("
	"select * from (select d.at, d.verdict as what, d.count::text as count, d.key_id as who,"
	" concat_ws(' on ', d.scope, d.page) as about, d.reason as why, abbrev(d.addr) as source"
	" from apikeyd.denials d where d.at >= $1::timestamptz and ($2::text is null or d.key_id = $2::text)"
	" order by d.at desc limit $3::bigint) as refused"
	" union all "
	"select * from (select a.at, a.action, '1', a.who, concat_ws(' ', a.tbl, a.thing), a.changed, abbrev(a.client_addr)"
	" from apikeyd.administration a where a.at >= $1::timestamptz"
	" and ($2::text is null or (a.tbl = 'key' and a.thing = $2::text) or (a.tbl in ('key_page', 'key_scope',"
	" 'key_network') and a.thing like $2::text || '/%')"
	" or (a.tbl = 'history' and a.after -> 'key_ids' ? $2::text))"
	" order by a.at desc limit $3::bigint) as changed"
	") as e order by e.at desc limit $3::bigint";

static int audit_rows(const struct ctl *ctl, const PGresult *result)
{
	struct arena arena = {0};
	struct value rows = {0};
	struct show_table *table = NULL;
	bool done = true;
	int code;

	value_list(&rows);
	for (int i = 0; done && i < PQntuples(result); i++) {
		struct value *row = value_add(&arena, &rows);

		if (row)
			value_map(row);
		done = row;
		for (int c = 0; done && c < PQnfields(result); c++)
			done = value_set_text(&arena, row, PQfname(result, c),
					      PQgetisnull(result, i, c) ? NULL : PQgetvalue(result, i, c));
	}
	if (done && !ctl->json)
		table = show_table_new(ctl, audit_columns);
	for (uint32_t i = 0; done && table && i < rows.count; i++)
		done = show_table_add(table, &rows.items[i]);
	if (done && table)
		show_table_print(table);
	code = done && (table || ctl->json) ? CTL_DONE : ctl_no_memory(ctl);
	if (!code && ctl->json)
		code = jsonout_show(ctl, &rows);
	show_table_free(table);
	arena_clear(&arena);
	return code;
}

static int audit_show(struct ctl *ctl, const struct args *args)
{
	const char *limit = args_text(args, "limit"), *since = args_text(args, "since");
	const char *params[3] = {since ? since : "yesterday", args_text(args, "key"), limit ? limit : "50"};
	PGconn *connection = NULL;
	PGresult *result;
	char *end = NULL;
	int code;

	if (limit && (strtol(limit, &end, 10) < 1 || *end || strtol(limit, NULL, 10) > AUDIT_SHOWN_MAX))
		return ctl_say(ctl, CTL_USAGE, "--limit is \"%s\": it must be a number from 1 to %d", limit,
			       AUDIT_SHOWN_MAX);
	code = db_connect(ctl, args, &connection);
	if (code)
		return code;
	result = PQexecParams(connection, audit_sql, 3, NULL, params, NULL, NULL, 0);
	code = PQresultStatus(result) == PGRES_TUPLES_OK ? audit_rows(ctl, result)
							 : db_audit_refused(ctl, connection, result);
	PQclear(result);
	PQfinish(connection);
	return code;
}

static const struct option audit_show_options[] = {
	{.name = "key", .value = "KEY_ID", .help = "only what is about this key"},
	{.name = "since", .value = "TIME", .help = "from then on, as PostgreSQL reads times (default: yesterday)"},
	{.name = "limit", .value = "N", .help = "at most so many, the newest (default: 50)"},
	{.name = NULL},
};

static const struct command audit_verb_show = {
	.name = "show",
	.summary = "what was refused and what was changed of late, the newest first",
	.details =
		"Reads the views denials and administration as a role that is granted apikeyd_auditor; psql shows more of "
		"them.",
	.options = audit_show_options,
	.run = audit_show};

static const struct option audit_options[] = {
	{.name = "database",
	 .value = "CONNINFO",
	 .help = "libpq's connection string (default: the environment, PGHOST and others)"},
	{.name = NULL},
};

static const struct command *const audit_verbs[] = {&audit_verb_show, &audit_verb_verify, NULL};

const struct command command_audit = {.name = "audit",
				      .summary = "the ledger of verdicts and administration",
				      .options = audit_options,
				      .commands = audit_verbs};
