/*
 * audit verify: whether the ledger is what the daemons wrote. The database says what does not agree in itself; the
 * daemon, which has the pepper, whether the MACs of the heads are right; journals, whether heads are missing.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/apikeyctl/audit.h"
#include "client/apikeyctl/audit_verify.h"
#include "client/apikeyctl/db_audit.h"

enum { VERIFY_HEADS = 256, VERIFY_QUIET_MS = 1000, VERIFY_SQL_SIZE = 512 };

/* What it is at, where it takes longer than a second. */
static void verify_at(const struct verify *verify, const char *what, uint64_t number)
{
	const struct ctl *ctl = verify->ctl;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (!ctl->err_terminal || ctl->quiet ||
	    (now.tv_sec - verify->begin.tv_sec) * 1000 + (now.tv_nsec - verify->begin.tv_nsec) / 1000000 <
		    VERIFY_QUIET_MS)
		return;
	fprintf(ctl->err, "\r\033[K%s", what);
	if (number)
		fprintf(ctl->err, " %" PRIu64, number);
	fputs(" …", ctl->err);
	fflush(ctl->err);
}

static int verify_add(struct verify *verify, const char *severity, const char *chain, int64_t batch, const char *place,
		      const char *problem)
{
	struct value *row = value_add(&verify->arena, &verify->findings);

	if (!row)
		return ctl_no_memory(verify->ctl);
	value_map(row);
	if (strcmp(severity, "note") == 0)
		verify->notes++;
	else
		verify->faults++;
	if (!value_set_text(&verify->arena, row, "severity", severity) ||
	    !value_set_text(&verify->arena, row, "chain", chain) ||
	    !(batch ? value_set_int(&verify->arena, row, "batch", batch)
		    : value_set_text(&verify->arena, row, "batch", NULL)) ||
	    !value_set_text(&verify->arena, row, "place", place) ||
	    !value_set_text(&verify->arena, row, "problem", problem))
		return ctl_no_memory(verify->ctl);
	return CTL_DONE;
}

/* Findings as the functions of the schema answer them. */
static int verify_findings(struct verify *verify, const char *sql)
{
	PGresult *result = NULL;
	int code = db_audit_query(verify->ctl, verify->connection, sql, &result);

	if (code)
		return code;
	for (int i = 0; !code && i < PQntuples(result); i++)
		code = verify_add(verify, PQgetvalue(result, i, 0),
				  PQgetisnull(result, i, 1) ? NULL : PQgetvalue(result, i, 1),
				  strtoll(PQgetvalue(result, i, 2), NULL, 10), PQgetvalue(result, i, 3),
				  PQgetvalue(result, i, 4));
	PQclear(result);
	return code;
}

#define VERIFY_FINDING "select severity, chain, batch, place, problem from apikeyd."

static int verify_tables(struct verify *verify)
{
	PGresult *partitions = NULL;
	char sql[VERIFY_SQL_SIZE];
	int code;

	verify_at(verify, "chains", 0);
	snprintf(sql, sizeof(sql), VERIFY_FINDING "ledger_verify_chains(%s, %s)", verify->since, verify->until);
	code = verify_findings(verify, sql);
	if (code)
		return code;
	verify_at(verify, "administration", 0);
	snprintf(sql, sizeof(sql), VERIFY_FINDING "ledger_verify_admin(%s, %s)", verify->since, verify->until);
	code = verify_findings(verify, sql);
	if (code)
		return code;
	snprintf(sql, sizeof(sql), "select tbl, day from apikeyd.ledger_partitions(%s, %s)", verify->since,
		 verify->until);
	code = db_audit_query(verify->ctl, verify->connection, sql, &partitions);
	if (code)
		return code;
	for (int i = 0; !code && i < PQntuples(partitions); i++) {
		const char *tbl = PQgetvalue(partitions, i, 0), *day = PQgetvalue(partitions, i, 1);
		char what[64];

		snprintf(what, sizeof(what), "%.10s of %.20s", tbl, day);
		verify_at(verify, what, 0);
		snprintf(sql, sizeof(sql), VERIFY_FINDING "ledger_verify_rows('%.10s', '%.20s')", tbl, day);
		code = verify_findings(verify, sql);
	}
	verify->partitions = PQntuples(partitions);
	PQclear(partitions);
	return code;
}

/* How much that is. */
static int verify_count(struct verify *verify)
{
	char sql[VERIFY_SQL_SIZE];
	PGresult *counts = NULL;
	int code;

	verify_at(verify, "rows", 0);
	snprintf(sql, sizeof(sql),
		 "select count(*), coalesce(sum(count), 0) from apikeyd.verdicts where at >= %s and at < %s",
		 verify->since, verify->until);
	code = db_audit_query(verify->ctl, verify->connection, sql, &counts);
	if (code)
		return code;
	verify->rows = strtoll(PQgetvalue(counts, 0, 0), NULL, 10);
	verify->verdicts = strtoll(PQgetvalue(counts, 0, 1), NULL, 10);
	PQclear(counts);
	return CTL_DONE;
}

/* The MACs of one page of heads, asked of the daemon. */
static int verify_macs(struct verify *verify, const PGresult *heads)
{
	struct arena arena = {0};
	struct value params = {0}, *list;
	const struct value *answer = NULL, *wrong, *unknown;
	int code = CTL_DONE;

	value_map(&params);
	list = value_set(&arena, &params, "macs");
	if (list)
		value_list(list);
	for (int i = 0; list && i < PQntuples(heads); i++) {
		struct value *item = value_add(&arena, list);
		char text[2 * ANCHOR_HEAD_LEN + 16];
		int len = snprintf(text, sizeof(text), "%s %s %s", PQgetvalue(heads, i, 2), PQgetvalue(heads, i, 3),
				   PQgetvalue(heads, i, 4));

		if (!item || !value_text(&arena, item, text, (size_t)len))
			list = NULL;
	}
	code = list ? talk_run(&verify->talk, "ledger_macs", &params, &answer) : ctl_no_memory(verify->ctl);
	wrong = code ? NULL : value_get(answer, "wrong");
	unknown = code ? NULL : value_get(answer, "no_pepper");
	for (uint32_t i = 0; wrong && !code && wrong->type == VALUE_LIST && i < wrong->count; i++) {
		int at = (int)value_as_int(&wrong->items[i], -1);

		if (at >= 0 && at < PQntuples(heads))
			code = verify_add(
				verify, "fault", PQgetvalue(heads, at, 0), strtoll(PQgetvalue(heads, at, 1), NULL, 10),
				"ledger_batch",
				"no daemon with this pepper made its MAC: the head was made by somebody else");
	}
	if (!code) {
		verify->no_pepper += unknown && unknown->type == VALUE_LIST ? unknown->count : 0;
		verify->macs += PQntuples(heads);
	}
	arena_clear(&arena);
	return code;
}

/* Its last batch, before the database is looked at, which has that one since. */
static int verify_ask_own(struct verify *verify)
{
	const struct value *answer = NULL, *ledger;
	char line[512];
	int code = talk_open(&verify->talk, verify->ctl, TALK_ADMIN);

	if (!code)
		code = talk_run(&verify->talk, "stats", NULL, &answer);
	if (code) {
		ctl_note(verify->ctl, "--no-macs does without the daemon, and checks no MAC");
		return code;
	}
	ledger = value_get(answer, "ledger");
	snprintf(line, sizeof(line), ANCHOR_BEGINS "%.64s batch=%" PRIu64 " head=%.128s",
		 value_as_text(value_get(ledger, "chain"), ""), value_as_uint(value_get(ledger, "batch"), 0),
		 value_as_text(value_get(ledger, "head"), ""));
	/* Of one that has written none yet it is no anchor. */
	return audit_anchors_of(verify->ctl, line, &verify->own);
}

/* All heads, page by page: in the order of chain and batch. */
static int verify_heads(struct verify *verify)
{
	char after[ANCHOR_CHAIN_LEN + 1] = "00000000-0000-0000-0000-000000000000", sql[VERIFY_SQL_SIZE];
	int64_t batch = 0;
	int code = CTL_DONE, rows = VERIFY_HEADS;

	while (!code && rows == VERIFY_HEADS) {
		PGresult *heads = NULL;

		verify_at(verify, "heads", (uint64_t)verify->batches);
		snprintf(sql, sizeof(sql),
			 "select chain, batch, head, pepper_version, mac, made_at >= %s and made_at < %s"
			 " from apikeyd.ledger_heads('%s', %" PRId64 ", %d)",
			 verify->since, verify->until, after, batch, VERIFY_HEADS);
		code = db_audit_query(verify->ctl, verify->connection, sql, &heads);
		if (code)
			return code;
		rows = PQntuples(heads);
		for (int i = 0; i < rows; i++) {
			batch = strtoll(PQgetvalue(heads, i, 1), NULL, 10);
			verify->chains += strcmp(after, PQgetvalue(heads, i, 0)) != 0;
			verify->batches_within += strcmp(PQgetvalue(heads, i, 5), "t") == 0;
			snprintf(after, sizeof(after), "%s", PQgetvalue(heads, i, 0));
			anchors_meet(&verify->anchors, after, batch, PQgetvalue(heads, i, 2));
			anchors_meet(&verify->own, after, batch, PQgetvalue(heads, i, 2));
		}
		verify->batches += rows;
		if (rows > 0 && verify->ask_macs)
			code = verify_macs(verify, heads);
		PQclear(heads);
	}
	return code;
}

/* Anchors that no head agrees with. What was pruned is gone by a statement, which was verified. */
static int verify_anchors(struct verify *verify, const struct anchors *anchors, const char *who)
{
	char problem[160];
	int code = CTL_DONE;

	for (size_t i = 0; !code && i < anchors->count; i++) {
		const struct anchor *anchor = &anchors->items[i];
		char sql[VERIFY_SQL_SIZE];
		PGresult *result = NULL;

		if (anchor->met && anchor->same)
			continue;
		if (anchor->met) {
			snprintf(problem, sizeof(problem), "its head is not the one that %s knows", who);
			code = verify_add(verify, "fault", anchor->chain, anchor->batch, "ledger_batch", problem);
			continue;
		}
		snprintf(sql, sizeof(sql), "select pruned_batch from apikeyd.chains where chain = '%s'", anchor->chain);
		code = db_audit_query(verify->ctl, verify->connection, sql, &result);
		if (code)
			return code;
		snprintf(
			problem, sizeof(problem),
			PQntuples(result) == 0
				? "%s knows this chain, and the database does not: it was removed"
				: "%s knows this batch, and the database does not: it was cut off, or the database went back to "
				  "an older state",
			who);
		if (PQntuples(result) == 0 || strtoll(PQgetvalue(result, 0, 0), NULL, 10) < anchor->batch)
			code = verify_add(verify, "fault", anchor->chain, anchor->batch,
					  PQntuples(result) == 0 ? "ledger_chain" : "ledger_batch", problem);
		PQclear(result);
	}
	return code;
}

/* --since and --until as SQL; the server says what is no time. */
static char *verify_time(struct verify *verify, const struct args *args, const char *option, const char *otherwise)
{
	const char *text = args_text(args, option);

	text = text ? text : otherwise;
	return PQescapeLiteral(verify->connection, text, strlen(text));
}

static int verify_run(struct ctl *ctl, const struct args *args)
{
	const char *anchors = args_text(args, "anchors");
	struct verify verify = {.ctl = ctl,
				.ask_macs = !args_has(args, "no-macs"),
				.ask_anchors = anchors,
				.is_part = args_text(args, "since") || args_text(args, "until")};
	int code = anchors ? audit_anchors_read(ctl, anchors, &verify.anchors) : CTL_DONE;

	clock_gettime(CLOCK_MONOTONIC, &verify.begin);
	value_list(&verify.findings);
	if (!code)
		code = db_connect(ctl, args, &verify.connection);
	if (code)
		goto out;
	verify.since = verify_time(&verify, args, "since", "-infinity");
	verify.until = verify_time(&verify, args, "until", "infinity");
	if (!verify.since || !verify.until)
		code = ctl_no_memory(ctl);
	if (!code && verify.ask_macs)
		code = verify_ask_own(&verify);
	/* One snapshot: daemons go on writing. */
	if (!code) {
		PQclear(PQexec(verify.connection, "begin isolation level repeatable read, read only"));
		code = verify_tables(&verify);
	}
	if (!code)
		code = verify_count(&verify);
	if (!code)
		code = verify_heads(&verify);
	if (!code)
		code = verify_anchors(&verify, &verify.anchors, "the journal");
	if (!code)
		code = verify_anchors(&verify, &verify.own, "the daemon that was asked");
	if (ctl->err_terminal && !ctl->quiet)
		fputs("\r\033[K", ctl->err);
	if (!code)
		code = audit_verify_show(&verify);
out:
	PQfreemem(verify.since);
	PQfreemem(verify.until);
	PQfinish(verify.connection);
	if (verify.ask_macs)
		talk_close(&verify.talk);
	anchors_deinit(&verify.anchors);
	anchors_deinit(&verify.own);
	arena_clear(&verify.arena);
	return code;
}

static const struct option verify_options[] = {
	{.name = "anchors",
	 .value = "FILE|-",
	 .help = "compare with the anchors in a log of the daemons, or an export of their journal"},
	{.name = "no-macs", .help = "do not ask a daemon whether the MACs are right"},
	{.name = "since", .value = "TIME", .help = "only batches and rows from then on"},
	{.name = "until", .value = "TIME", .help = "only those before"},
	{.name = NULL},
};

const struct command audit_verb_verify = {
	.name = "verify",
	.summary = "whether the ledger is what the daemons wrote, and where it is not",
	.details =
		"The database finds what was changed, removed, reordered, inserted or cut off without the heads being made "
		"anew. The daemon, which holds the pepper, says whether the heads' MACs are right. Anchors from journals "
		"tell whether batches are gone together with all that knew of them: `journalctl -u apikeyd | apikeyctl audit "
		"verify --anchors -`. Administration that is not sealed yet is noted.\n"
		"Says how much it has looked at. With --since or --until that is the rows, batches and administration of a "
		"time; of what was before or after it MACs and anchors alone.\n"
		"Ends with 0 where the ledger is whole, with 1 where it is not, with 2 where there are no anchors in FILE or a "
		"TIME is none, with 3 where the database or the daemon cannot be asked.",
	.options = verify_options,
	.run = verify_run};
