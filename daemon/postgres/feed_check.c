#include "daemon/postgres/feed_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/log.h"
#include "daemon/postgres/pgrow.h"
#include "daemon/postgres/queries.h"
#include "daemon/postgres/schema.h"

/*
 * A new session: everything that will be asked is prepared and asked once past the end of the log, so that a table
 * that is missing or not readable is found here, by name, and not in the middle of a poll.
 */
bool feed_check_send(struct feed *feed)
{
	static const enum feed_step dry[] = {FEED_STEP_PEPPERS, FEED_STEP_FAULTS,	 FEED_STEP_HEAD,
					     FEED_STEP_PAST,	FEED_STEP_SCOPES,	 FEED_STEP_ROLES,
					     FEED_STEP_GRANTS,	FEED_STEP_ORGANIZATIONS, FEED_STEP_PAGES,
					     FEED_STEP_USERS,	FEED_STEP_KEYS};
	PGconn *pq = connection_pq(feed->link);

	feed->checking = true;
	feed->batch.applied = INT64_MAX;
	feed_guard_begin(feed);
	if (!PQenterPipelineMode(pq))
		return false;
	if (!feed_queue(feed, FEED_STEP_SCHEMA, PQsendQueryParams(pq, QUERY_SCHEMA, 0, NULL, NULL, NULL, NULL, 1)) ||
	    !feed_queue(feed, FEED_STEP_LISTEN, PQsendQueryParams(pq, QUERY_LISTEN, 0, NULL, NULL, NULL, NULL, 1)))
		return false;
	for (enum feed_step step = 0; step < FEED_STEP_PREPARED; step++)
		if (!feed_queue(feed, FEED_STEP_PREPARE,
				PQsendPrepare(pq, feed_step_name(step), feed_step_sql(step), 0, NULL)))
			return false;
	for (unsigned i = 0; i < sizeof(dry) / sizeof(dry[0]); i++)
		if (!feed_push(feed, dry[i]))
			return false;
	return feed_verify_try(feed) && feed_push(feed, FEED_STEP_SYNC_CHECK);
}

void feed_check_end(struct feed *feed)
{
	char line[256];

	feed->checking = false;
	if (feed->batch.error[0]) {
		connection_fail(feed->link, feed->batch.error);
		return;
	}
	if (!feed_guard_end(feed) && feed->guard.wrong_pepper && !feed->mirror->copy) {
		snprintf(
			line, sizeof(line),
			"the pepper of version %u in %s is not the one that the database's keys were made with; put the "
			"right one there",
			feed->guard.wrong_pepper, feed->config->pepper_file);
		feed->dead = true;
		connection_disconnect(feed->link);
		feed->callbacks.fatal(feed->callbacks.data, line);
		return;
	}
	feed_follow(feed);
}

/* ---- the guard: peppers and change triggers ---- */

void feed_guard_begin(struct feed *feed)
{
	feed->looked = (struct feed_guard){0};
	feed->guarded_at = mirror_boot_now();
}

static void feed_guard_pepper(struct feed *feed, const PGresult *result, int row)
{
	struct pgfield version = {.data = (const uint8_t *)PQgetvalue(result, row, 0),
				  .len = PQgetlength(result, row, 0)};
	uint8_t value[SECRET_HASH_LEN];
	int16_t number;

	if (PQnfields(result) != 2 || !pgfield_int16(&version, &number) || number < 1)
		return;
	if (!secret_check_value(feed->secret, (uint16_t)number, value)) {
		feed->looked.not_held = (uint16_t)number;
		return;
	}
	if (PQgetlength(result, row, 1) != SECRET_HASH_LEN ||
	    !secret_equal(value, PQgetvalue(result, row, 1), SECRET_HASH_LEN))
		feed->looked.wrong_pepper = (uint16_t)number;
	secret_wipe(value, sizeof(value));
}

void feed_guard_row(struct feed *feed, enum feed_step step, const PGresult *result, int row)
{
	struct feed_guard *looked = &feed->looked;
	size_t used = strlen(looked->faults);

	if (step == FEED_STEP_PEPPERS) {
		feed_guard_pepper(feed, result, row);
		return;
	}
	looked->fault_count++;
	snprintf(looked->faults + used, sizeof(looked->faults) - used, "%s%.*s", used ? "; " : "",
		 PQgetlength(result, row, 0), PQgetvalue(result, row, 0));
}

bool feed_guard_end(struct feed *feed)
{
	struct feed_guard was = feed->guard;

	feed->guard = feed->looked;
	if (feed->guard.fault_count > 0 && strcmp(feed->guard.faults, was.faults) != 0) {
		feed->count.faults++;
		log_error("database feed: changes can pass unseen, so the copy is not confirmed: %s",
			  feed->guard.faults);
	}
	if (feed->guard.wrong_pepper && feed->guard.wrong_pepper != was.wrong_pepper &&
	    (feed->mirror->copy || feed->following))
		log_error("database feed: the pepper of version %u is not the one that the database's keys were made "
			  "with; put the right one into %s and reload; until then the copy is not confirmed",
			  feed->guard.wrong_pepper, feed->config->pepper_file);
	if (feed->guard.not_held && feed->guard.not_held != was.not_held)
		log_warning("database feed: keys under pepper version %u cannot be proven: %s does not hold it",
			    feed->guard.not_held, feed->config->pepper_file);
	if (was.fault_count > 0 && feed->guard.fault_count == 0) {
		log_info("database feed: the change triggers are right again");
		feed_want_reload(feed, FEED_RELOAD_FAULTS, true);
	}
	feed->guard_bad = feed->guard.fault_count > 0 || feed->guard.wrong_pepper;
	return !feed->guard_bad;
}

/* ---- the local clock ---- */

/* Differs from the first on; is right again from the second down, so that one in between is not told of twice. */
enum { FEED_CLOCK_US = 1000000, FEED_CLOCK_RIGHT_US = 500000 };

int64_t feed_clock_ahead(int64_t there, int64_t before, int64_t after)
{
	if (there > after)
		return there - after;
	return there < before ? there - before : 0;
}

void feed_clock_look(struct feed *feed)
{
	struct timespec now;
	int64_t after, off, tenths;

	clock_gettime(CLOCK_REALTIME, &now);
	after = (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
	feed->clock_ahead =
		feed_clock_ahead(feed->batch.database_time, after - (mirror_boot_now() - feed->batch.sent_at), after);
	off = llabs(feed->clock_ahead);
	tenths = (off + 50000) / 100000;
	if (!feed->clock_differs && off >= FEED_CLOCK_US) {
		feed->clock_differs = true;
		log_warning("database feed: the clock of this host is %" PRId64 ".%" PRId64
			    " s %s the database's, by which keys begin and expire; "
			    "set the one that is wrong",
			    tenths / 10, tenths % 10, feed->clock_ahead > 0 ? "behind" : "ahead of");
	} else if (feed->clock_differs && off <= FEED_CLOCK_RIGHT_US) {
		feed->clock_differs = false;
		log_info("database feed: the clock of this host is as the database's again");
	}
}
