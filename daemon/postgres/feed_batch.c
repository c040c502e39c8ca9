#include "daemon/postgres/feed_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/log.h"
#include "daemon/postgres/pgrow.h"
#include "daemon/postgres/queries_verify.h"
#include "daemon/postgres/schema.h"

/* The prepared statements: name, text, whether $1 is the applied revision, and what a failure is said to be of. */
static const struct feed_statement {
	const char *name, *sql, *doing;
	bool applied;
} feed_statements[FEED_STEP_PREPARED] = {
	[FEED_STEP_BEGIN] = {"begin", QUERY_BEGIN, "beginning a poll", false},
	[FEED_STEP_HEAD] = {"head", QUERY_HEAD, "reading the change log", true},
	[FEED_STEP_PAST] = {"past", QUERY_PAST, "looking for the applied revision in the change log", true},
	[FEED_STEP_PEPPERS] = {"peppers", QUERY_PEPPERS, "reading apikeyd.pepper", false},
	[FEED_STEP_FAULTS] = {"faults", QUERY_FAULTS, "looking at the change triggers", false},
	[FEED_STEP_SCOPES] = {"scopes", QUERY_SCOPES, "reading apikeyd.scope", true},
	[FEED_STEP_ROLES] = {"roles", QUERY_ROLES, "reading apikeyd.role", true},
	[FEED_STEP_GRANTS] = {"grants", QUERY_GRANTS, "reading apikeyd.role_scope", true},
	[FEED_STEP_ORGANIZATIONS] = {"organizations", QUERY_ORGANIZATIONS, "reading apikeyd.organization", true},
	[FEED_STEP_PAGES] = {"pages", QUERY_PAGES, "reading apikeyd.page", true},
	[FEED_STEP_USERS] = {"users", QUERY_USERS, "reading apikeyd.user", true},
	[FEED_STEP_KEYS] = {"keys", QUERY_KEYS, "reading apikeyd.key", true},
	[FEED_STEP_COMMIT] = {"commit", QUERY_COMMIT, "ending a poll", false},
	[FEED_STEP_SEEN] = {"seen", QUERY_SEEN, "registering this daemon", false},
	[FEED_STEP_GONE] = {"gone", QUERY_GONE, "taking this daemon's registration back", false},
	[FEED_STEP_TRIM] = {"trim", QUERY_TRIM, "trimming the change log", false},
	[FEED_STEP_LOST] = {"lost", QUERY_LOST, "entering lost history in the ledger", false},
	[FEED_STEP_ACCEPTED] = {"accepted", QUERY_ACCEPTED, "entering accepted history in the ledger", false},
	[FEED_STEP_VERIFY_CATALOG] = {"verify_catalog", QUERY_VERIFY_CATALOG, "verifying the catalog", false},
	[FEED_STEP_VERIFY_ORGANIZATIONS] = {"verify_organizations", QUERY_VERIFY_ORGANIZATIONS,
					    "verifying organizations", false},
	[FEED_STEP_VERIFY_PAGES] = {"verify_pages", QUERY_VERIFY_PAGES, "verifying pages", false},
	[FEED_STEP_VERIFY_USERS] = {"verify_users", QUERY_VERIFY_USERS, "verifying users", false},
	[FEED_STEP_VERIFY_KEYS] = {"verify_keys", QUERY_VERIFY_KEYS, "verifying keys", false},
};

const char *feed_step_sql(enum feed_step step)
{
	return feed_statements[step].sql;
}

const char *feed_step_name(enum feed_step step)
{
	return feed_statements[step].name;
}

static const char *feed_step_doing(enum feed_step step)
{
	switch (step) {
	case FEED_STEP_LISTEN:
		return "listening for changes";
	case FEED_STEP_SCHEMA:
		return "reading the schema's version";
	case FEED_STEP_PREPARE:
		return "preparing the polls";
	default:
		return step < FEED_STEP_PREPARED ? feed_statements[step].doing : "ending a poll";
	}
}

static bool feed_step_is_verify(enum feed_step step)
{
	return step >= FEED_STEP_VERIFY_CATALOG && step <= FEED_STEP_VERIFY_KEYS;
}

/* Its answer is a stream of rows that may be long. */
static bool feed_step_is_rows(enum feed_step step)
{
	return (step >= FEED_STEP_ORGANIZATIONS && step <= FEED_STEP_KEYS) || feed_step_is_verify(step);
}

static bool feed_step_is_sync(enum feed_step step)
{
	return step >= FEED_STEP_SYNC_CHECK;
}

static void feed_single_rows(struct feed *feed)
{
	if (feed->step_at < feed->step_count && feed_step_is_rows(feed->steps[feed->step_at]))
		PQsetSingleRowMode(connection_pq(feed->link));
}

bool feed_queue(struct feed *feed, enum feed_step step, int sent)
{
	if (!sent || feed->step_count == FEED_STEPS_MAX)
		return false;
	feed->steps[feed->step_count++] = (uint8_t)step;
	return true;
}

bool feed_push(struct feed *feed, enum feed_step step)
{
	PGconn *pq = connection_pq(feed->link);
	char applied[24];
	const char *params[1] = {applied};

	if (!pq)
		return false;
	if (feed_step_is_sync(step))
		return feed_queue(feed, step, PQpipelineSync(pq));
	snprintf(applied, sizeof(applied), "%" PRIu64,
		 step == FEED_STEP_PAST ? feed->history.applied.rev : feed->batch.applied);
	return feed_queue(feed, step,
			  PQsendQueryPrepared(pq, feed_statements[step].name, feed_statements[step].applied ? 1 : 0,
					      params, NULL, NULL, 1));
}

/* ---- sending ---- */

static bool feed_due(int64_t now, int64_t last, uint32_t ms)
{
	return last == 0 || now - last >= (int64_t)ms * 1000;
}

/* The copy that this poll is for; NULL: none may be followed. */
static struct copy *feed_target(const struct feed *feed)
{
	if (feed->fresh)
		return feed->fresh;
	return feed->suspect ? NULL : feed->mirror->copy;
}

static bool feed_send(struct feed *feed, int64_t now)
{
	struct feed_batch *batch = &feed->batch;
	unsigned before;
	bool good = true;

	/* First: it is committed before the poll's snapshot is taken. */
	if (now >= feed_seen_due(feed))
		good = feed_seen_push(feed, now);
	before = feed->step_count;
	if (batch->guarded)
		feed_guard_begin(feed);
	if (batch->target) {
		good = good && feed_push(feed, FEED_STEP_BEGIN) && feed_push(feed, FEED_STEP_HEAD);
		if (batch->target == feed->fresh)
			good = good && feed_push(feed, FEED_STEP_PAST);
		if (good && batch->guarded)
			good = feed_push(feed, FEED_STEP_PEPPERS) && feed_push(feed, FEED_STEP_FAULTS);
		for (enum feed_step step = FEED_STEP_SCOPES; good && step <= FEED_STEP_KEYS; step++)
			good = feed_push(feed, step);
		good = good && (!batch->verified || feed_verify_push(feed)) && feed_push(feed, FEED_STEP_COMMIT);
	} else if (batch->guarded) {
		good = good && feed_push(feed, FEED_STEP_PEPPERS) && feed_push(feed, FEED_STEP_FAULTS);
	}
	batch->active = good && feed->step_count > before;
	if (batch->active)
		good = feed_push(feed, FEED_STEP_SYNC_BATCH);
	if (good && feed_entry_is_due(feed, now))
		good = feed_entry_push(feed);
	if (good && feed_trim_is_due(feed, now))
		good = feed_trim_push(feed, now);
	return good;
}

void feed_poll(struct feed *feed)
{
	int64_t now = mirror_boot_now();
	struct feed_batch *batch = &feed->batch;

	feed->again = true;
	if (!feed->following || feed->step_count > 0 || feed->tidying || feed_verify_is_busy(feed) ||
	    feed_history_is_busy(feed) || feed->stopping || !connection_pq(feed->link))
		return;
	if (connection_is_deposed(feed->link)) {
		connection_fail(feed->link, "deposed: another server is primary on a higher timeline");
		return;
	}
	feed->again = false;
	*batch = (struct feed_batch){.sent_at = now};
	feed_history_forget(feed);
	batch->target = feed_target(feed);
	batch->applied = batch->target ? copy_rev(batch->target) : 0;
	/* While something is wrong each poll looks again, so that it heals as soon as it is put right. */
	batch->guarded = feed->guard_bad || feed_due(now, feed->guarded_at, feed->config->guard_ms);
	batch->verified = batch->target && batch->target == feed->mirror->copy && feed_verify_is_due(feed, now);
	feed->polled_at = now;
	if (!feed_send(feed, now)) {
		feed_batch_drop(feed);
		connection_fail_libpq(feed->link, "cannot send a poll");
		return;
	}
	if (feed->step_count == 0) {
		feed_next(feed);
		return;
	}
	feed->count.polls += batch->active;
	feed_single_rows(feed);
	connection_flush(feed->link);
	feed_next(feed);
}

/* What was staged is cleared away by the worker: no poll until then. */
static void feed_discard(struct feed *feed, struct copy *copy)
{
	copy_discard(copy);
	feed->tidying = true;
}

void feed_batch_drop(struct feed *feed)
{
	if (feed->batch.active && feed->batch.target && !feed->checking)
		feed_discard(feed, feed->batch.target);
	catalog_deinit(&feed->batch.catalog);
	feed_verify_drop(feed);
	if (!feed->history.waiting)
		feed_history_forget(feed);
	feed->batch = (struct feed_batch){0};
	feed->step_at = feed->step_count = 0;
	feed->backlog = false;
	feed->checking = false;
}

/* ---- reading ---- */

static void feed_head(struct feed *feed, const PGresult *result)
{
	struct feed_batch *batch = &feed->batch;
	struct pgfield fields[7];
	int64_t floor, rev, changes, lsn;

	if (PQntuples(result) != 1 || PQnfields(result) != 7)
		goto wrong;
	for (int i = 0; i < 7; i++)
		fields[i] = (struct pgfield){.data = (const uint8_t *)PQgetvalue(result, 0, i),
					     .len = PQgetlength(result, 0, i)};
	if (!pgfield_int64(&fields[0], &floor) || !pgfield_int64(&fields[1], &rev) ||
	    !pgfield_time(&fields[2], &batch->database_time) || !pgfield_bool(&fields[3], &batch->in_log) ||
	    !pgfield_bool(&fields[4], &batch->catalog_changed) || !pgfield_int64(&fields[5], &changes) ||
	    !pgfield_int64(&fields[6], &lsn) || floor < 0 || rev < 0 || lsn < 0)
		goto wrong;
	batch->floor = (uint64_t)floor;
	batch->rev = (uint64_t)rev;
	batch->changes = (uint64_t)changes;
	batch->lsn = (uint64_t)lsn;
	return;
wrong:
	if (!batch->error[0])
		snprintf(batch->error, sizeof(batch->error), "reading the change log: %s", schema_put_error(-EBADMSG));
}

static void feed_put_failed(struct feed *feed, int r, enum feed_step step)
{
	feed->batch.put_error = r;
	feed->batch.put_table = feed_statements[step].doing;
}

/* The rows of this poll are for nothing: it will end in a reload, or not at all. */
static bool feed_is_moot(const struct feed *feed)
{
	const struct feed_batch *batch = &feed->batch;

	return feed->checking || !batch->target || batch->error[0] || batch->put_error || !batch->in_log ||
	       batch->floor > batch->applied || batch->changes > FEED_CHANGES_MAX;
}

static void feed_rows(struct feed *feed, enum feed_step step, const PGresult *result)
{
	for (int i = 0; i < PQntuples(result) && !feed_is_moot(feed); i++) {
		int r = 0;

		if (feed_step_is_verify(step))
			feed_verify_row(feed, step, result, i);
		else
			r = feed_row(feed, step, result, i);
		if (r < 0)
			feed_put_failed(feed, r, step);
		feed->batch.rows += !feed_step_is_verify(step);
		feed->budget -= feed->budget > 0;
	}
}

static void feed_failed(struct feed *feed, enum feed_step step, const PGresult *result)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	if (feed->batch.error[0])
		return;
	/* Only what the changes took says that they are too many. */
	feed->batch.timed_out = state && strcmp(state, "57014") == 0 && !feed_step_is_verify(step);
	schema_error_line(result, feed_step_doing(step), feed->batch.error, sizeof(feed->batch.error));
	if (feed_step_is_verify(step))
		feed_verify_failed(feed, feed->batch.error);
}

static void feed_result(struct feed *feed, enum feed_step step, const PGresult *result)
{
	struct pgfield field;
	int32_t version = 0;

	switch (PQresultStatus(result)) {
	case PGRES_PIPELINE_ABORTED:
		return;
	case PGRES_COMMAND_OK:
		/* A COMMIT of a transaction that failed answers ROLLBACK, and no error. */
		if (step == FEED_STEP_COMMIT && strcmp(PQcmdStatus((PGresult *)(uintptr_t)result), "COMMIT") != 0 &&
		    !feed->batch.error[0])
			snprintf(feed->batch.error, sizeof(feed->batch.error),
				 "the poll's transaction was rolled back");
		return;
	case PGRES_TUPLES_OK:
	case PGRES_SINGLE_TUPLE:
		break;
	default:
		feed_failed(feed, step, result);
		return;
	}
	switch (step) {
	case FEED_STEP_HEAD:
		feed_head(feed, result);
		break;
	case FEED_STEP_PAST:
		feed_history_past(feed, result);
		break;
	case FEED_STEP_SCHEMA:
		field = (struct pgfield){.data = (const uint8_t *)PQgetvalue(result, 0, 0),
					 .len = PQntuples(result) == 1 ? PQgetlength(result, 0, 0) : -1};
		pgfield_int32(&field, &version);
		if (!feed->batch.error[0])
			schema_is_ours(version, feed->batch.error, sizeof(feed->batch.error));
		break;
	case FEED_STEP_PEPPERS:
	case FEED_STEP_FAULTS:
		for (int i = 0; i < PQntuples(result); i++)
			feed_guard_row(feed, step, result, i);
		break;
	case FEED_STEP_SEEN:
	case FEED_STEP_GONE:
		break;
	case FEED_STEP_TRIM:
		feed_trim_row(feed, result);
		break;
	case FEED_STEP_LOST:
	case FEED_STEP_ACCEPTED:
		feed_entry_row(feed, result);
		break;
	default:
		feed_rows(feed, step, result);
	}
}

void feed_apply(struct feed *feed, const struct feed_batch *batch)
{
	feed->sure = true;
	if (batch->rev == batch->applied) {
		if (batch->leased)
			mirror_confirm(feed->mirror, batch->sent_at, batch->database_time);
		feed_history_applied(feed, batch);
		return;
	}
	feed->count.publishes++;
	log_debug("database feed: revision %" PRIu64 ", %" PRIu64 " changed", batch->rev, batch->rows);
	/* Without a lease what changed is taken over all the same, but does not make the copy any younger. */
	mirror_publish(feed->mirror, batch->rev, batch->leased ? batch->sent_at : INT64_MIN, batch->database_time);
	feed->tidying = true;
	feed_history_applied(feed, batch);
	if (copy_is_worn(feed->mirror->copy))
		feed_want_reload(feed, FEED_RELOAD_WORN, false);
}

/* The poll ended well and its target stands as of `sent_at`. */
static void feed_take(struct feed *feed)
{
	struct feed_batch *batch = &feed->batch;

	batch->leased = feed_seen_holds(feed, batch->sent_at);
	feed->stuck[0] = '\0';
	feed->count.changes += batch->rows;
	feed_clock_look(feed);
	if (batch->target == feed->fresh) {
		if (batch->rev > batch->applied) {
			copy_publish(feed->fresh, batch->rev);
			feed->tidying = true;
		}
		/* Without a lease it goes on being followed, out of sight. */
		if (batch->leased)
			feed_history_settle(feed);
	} else if (!feed_history_write(feed)) {
		feed_apply(feed, batch);
	}
}

static void feed_stuck(struct feed *feed)
{
	struct feed_batch *batch = &feed->batch;
	char line[sizeof(feed->stuck)];

	snprintf(line, sizeof(line), "%s: %s", batch->put_table, schema_put_error(batch->put_error));
	feed->count.failures++;
	if (strcmp(line, feed->stuck) != 0)
		log_error("database feed: %s; the copy is not confirmed while this lasts", line);
	snprintf(feed->stuck, sizeof(feed->stuck), "%s", line);
}

/* All of a poll was answered. */
static void feed_batch_end(struct feed *feed)
{
	struct feed_batch *batch = &feed->batch;
	enum feed_reload reload = FEED_RELOAD_NONE;
	struct copy *target = batch->target;
	bool good;

	batch->active = false;
	if (batch->error[0]) {
		feed->count.failures++;
		feed->failure_counted = true;
		if (target)
			feed_discard(feed, target);
		/* What is too much for one poll is not too much for a load. */
		if (batch->timed_out)
			feed_want_reload(feed, FEED_RELOAD_CHANGES, true);
		connection_fail(feed->link, batch->error);
		return;
	}
	good = !batch->guarded || feed_guard_end(feed);
	target = batch->target; /* the guard may have found that all is to be loaded anew */
	if (!target)
		return;
	if (!good || target != feed_target(feed)) {
		feed_discard(feed, target);
		return;
	}
	if (batch->floor > batch->applied)
		reload = FEED_RELOAD_FLOOR;
	else if (!batch->in_log)
		reload = FEED_RELOAD_HISTORY;
	else if (batch->changes > FEED_CHANGES_MAX)
		reload = FEED_RELOAD_CHANGES;
	else if (feed->history.unrevoked)
		reload = FEED_RELOAD_REVOKED;
	if (reload != FEED_RELOAD_NONE || batch->put_error) {
		feed_discard(feed, target);
		if (reload != FEED_RELOAD_NONE)
			feed_want_reload(feed, reload, true);
		else
			feed_stuck(feed);
		return;
	}
	feed_take(feed);
	if (batch->verified && !feed->history.waiting)
		feed_verify_begin(feed);
}

static void feed_sync(struct feed *feed, enum feed_step step)
{
	switch (step) {
	case FEED_STEP_SYNC_CHECK:
		feed_check_end(feed);
		break;
	case FEED_STEP_SYNC_BATCH:
		feed_batch_end(feed);
		if (!feed->history.waiting)
			feed_verify_drop(feed);
		feed->batch.target = NULL;
		catalog_deinit(&feed->batch.catalog);
		feed->batch.error[0] = '\0';
		break;
	case FEED_STEP_SYNC_SEEN: /* neither this nor what follows is worth the session */
		feed_seen_end(feed);
		break;
	case FEED_STEP_SYNC_ENTRY:
		feed_entry_end(feed);
		break;
	case FEED_STEP_SYNC_TRIM:
		feed_trim_end(feed);
		break;
	default: /* FEED_STEP_SYNC_GONE */
		feed_leave(feed);
	}
}

/* The whole answer to this step was read. */
static void feed_step_end(struct feed *feed, enum feed_step step)
{
	int r;

	if (step == FEED_STEP_GRANTS && feed->batch.catalog_changed && !feed_is_moot(feed)) {
		r = catalog_put(&feed->batch.catalog, feed->batch.target);
		if (r < 0)
			feed_put_failed(feed, r, step);
	}
	feed->step_at++;
	feed_single_rows(feed);
}

static void feed_pause(struct feed *feed, bool on)
{
	feed->backlog = on;
	connection_set_reading(feed->link, !on);
	if (on)
		feed_next(feed);
}

void feed_slice_begin(struct feed *feed)
{
	feed->budget = feed->config->apply_slice;
	feed->slice_end = uv_hrtime() + FEED_SLICE_NS;
}

bool feed_slice_is_over(const struct feed *feed)
{
	/* Who leaves has no worker to go on with the rest; nothing is taken over any more. */
	return !feed->leaving && (feed->budget == 0 || uv_hrtime() >= feed->slice_end);
}

void feed_read(struct feed *feed)
{
	PGconn *pq;

	while ((pq = connection_pq(feed->link)) && feed->step_at < feed->step_count && !PQisBusy(pq)) {
		enum feed_step step = feed->steps[feed->step_at];
		PGresult *result;

		if (feed_slice_is_over(feed)) {
			feed_pause(feed, true);
			return;
		}
		result = PQgetResult(pq);
		if ((PQresultStatus(result) == PGRES_PIPELINE_SYNC) != feed_step_is_sync(step)) {
			PQclear(result);
			connection_fail_libpq(feed->link, "answers are out of order");
			return;
		}
		if (!result) {
			feed_step_end(feed, step);
		} else if (feed_step_is_sync(step)) {
			PQclear(result);
			feed->step_at++;
			feed_single_rows(feed);
			if (feed->step_at == feed->step_count)
				feed->step_at = feed->step_count = 0;
			feed_sync(feed, step);
		} else {
			feed_result(feed, step, result);
			PQclear(result);
		}
	}
	/* The server tells of changes between a poll's last answer and its end: behind what was read just now. */
	if (pq)
		feed_hear(feed, pq);
	if (pq && feed->backlog)
		feed_pause(feed, false);
	if (feed->step_count == 0)
		feed_next(feed);
}
