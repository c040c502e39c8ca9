/* The daemons that follow the database, and what there is to wait for until all have applied a revision. */
#include <stddef.h>

#include "daemon/admin/table.h"

static const struct admin_param list_params[] = {
	ADMIN_PARAM_AFTER,
	ADMIN_PARAM_LIMIT,
	ADMIN_PARAM_END,
};
static const struct admin_param wait_params[] = {
	{"rev", ADMIN_INT, true, NULL, "a revision, as a change answered it", 1, INT64_MAX, NULL},
	ADMIN_PARAM_END,
};

#define LEFT "greatest(0, ceil(extract(epoch from d.lease_until - clock_timestamp()) * 1000))::bigint as left_ms"

static const char list_sql[] =
	"with every as (select concat_ws(' ', d.host, to_char(d.pid, 'FM0000000000'), d.id) collate \"C\" as cursor,"
	" d.id::text, d.host, d.pid, d.version, d.applied_rev, d.current_rev, d.behind, d.live, " LEFT ","
	" " ADMIN_SQL_TIME("d.started_at") " as started_at, " ADMIN_SQL_TIME(
		"d.seen_at") " as seen_at"
			     " from apikeyd.daemons d)"
			     " select * from every where $1::text is null or cursor > $1::text order by cursor limit $2::bigint";

/* What is still open comes first: a long list that is cut is never one that looks done. */
static const char wait_sql[] =
	"select w.what, w.done, w.left_ms, w.id::text, w.host, w.pid, w.version, w.applied_rev"
	" from apikeyd.wait_for($1::bigint) with ordinality as w (what, done, left_ms, id, host, pid, version,"
	" applied_rev, n) order by w.done, w.n";

const struct admin_method admin_daemon_methods[] = {
	{.name = "daemon_list",
	 .help = "lists the daemons that follow the database, and how far each is",
	 .params = list_params,
	 .sql = list_sql,
	 .answer = ADMIN_ROWS,
	 .noun = "daemon"},
	{.name = "wait_for",
	 .help = "lists what there is to wait for until no daemon answers from before a revision",
	 .params = wait_params,
	 .sql = wait_sql,
	 .writes = true,
	 .answer = ADMIN_ROWS,
	 .noun = "revision"},
	{.name = NULL},
};
