/* The end of the change log that nobody needs any more: deleted now and then, a little at a time. */
#include "daemon/postgres/feed_internal.h"

#include <inttypes.h>
#include <stdio.h>

#include "daemon/log.h"
#include "daemon/postgres/pgrow.h"

bool feed_trim_is_due(const struct feed *feed, int64_t now)
{
	const struct config *config = feed->config;

	return config->trim_ms > 0 && feed->seen.held_at != 0 &&
	       (feed->trim_more || feed->trimmed_at == 0 || now - feed->trimmed_at >= (int64_t)config->trim_ms * 1000);
}

bool feed_trim_push(struct feed *feed, int64_t now)
{
	const struct config *config = feed->config;
	char keep[40], rows[24], every[40];
	const char *params[3] = {keep, rows, every};

	feed->trimmed_at = now;
	feed->trim_more = false;
	snprintf(keep, sizeof(keep), "%" PRIu32 " milliseconds", config->log_keep_ms);
	snprintf(rows, sizeof(rows), "%" PRIu32, config->log_rows);
	/* Of several daemons the first one does it. Somewhat less: their clocks do not tick together. */
	snprintf(every, sizeof(every), "%" PRIu32 " milliseconds", config->trim_ms - config->trim_ms / 4);
	return feed_queue(feed, FEED_STEP_TRIM,
			  PQsendQueryPrepared(connection_pq(feed->link), "trim", 3, params, NULL, NULL, 1)) &&
	       feed_push(feed, FEED_STEP_SYNC_TRIM);
}

void feed_trim_row(struct feed *feed, const PGresult *result)
{
	struct pgfield fields[4];
	int64_t revisions, changes;
	bool ran, more;

	if (PQntuples(result) != 1 || PQnfields(result) != 4)
		return;
	for (int i = 0; i < 4; i++)
		fields[i] = (struct pgfield){.data = (const uint8_t *)PQgetvalue(result, 0, i),
					     .len = PQgetlength(result, 0, i)};
	if (!pgfield_bool(&fields[0], &ran) || !pgfield_int64(&fields[1], &revisions) ||
	    !pgfield_int64(&fields[2], &changes) || !pgfield_bool(&fields[3], &more))
		return;
	feed->trim_more = more;
	feed->count.trims += ran;
	feed->count.trimmed_revisions += (uint64_t)revisions;
	feed->count.trimmed_changes += (uint64_t)changes;
}

void feed_trim_end(struct feed *feed)
{
	if (feed->batch.error[0] && feed->count.trim_failures++ == 0)
		log_warning("database feed: %s", feed->batch.error);
	feed->batch.error[0] = '\0';
	feed->batch.timed_out = false;
}
