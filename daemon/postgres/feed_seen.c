/* The daemon's registration and its lease: who waits for a revision looks there for those who may not have it. */
#include "daemon/postgres/feed_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/log.h"

enum {
	FEED_SEEN_GAP_US = 100000
}; /* between two registrations of a daemon that applies one revision after the other */

/* What it has applied. 0 while it loads, and until this session's log has shown that what it has still stands in it. */
static uint64_t feed_seen_rev(const struct feed *feed)
{
	return feed->sure && !feed->suspect ? mirror_rev(feed->mirror) : 0;
}

void feed_seen_begin(struct feed *feed)
{
	feed->sure = false;
	feed->seen.sent_at = feed->seen.held_at = 0;
}

int64_t feed_seen_due(const struct feed *feed)
{
	const struct feed_seen *seen = &feed->seen;
	int64_t heartbeat = (int64_t)feed->config->heartbeat_ms * 1000;

	if (seen->sent_at == 0)
		return 0;
	if (feed_seen_rev(feed) != seen->rev && heartbeat > FEED_SEEN_GAP_US)
		heartbeat = FEED_SEEN_GAP_US;
	return seen->sent_at + heartbeat;
}

bool feed_seen_push(struct feed *feed, int64_t now)
{
	struct feed_seen *seen = &feed->seen;
	char id[UUID_TEXT], pid[16], rev[24], lease[40];
	const char *params[6] = {id, feed->host, pid, APIKEYD_VERSION, rev, lease};

	seen->sent_at = now;
	seen->rev = feed_seen_rev(feed);
	seen->lease_ms = config_lease_ms(feed->config);
	uuid_text(feed->id, id);
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	snprintf(rev, sizeof(rev), "%" PRIu64, seen->rev);
	snprintf(lease, sizeof(lease), "%" PRIu64 " milliseconds", seen->lease_ms);
	return feed_queue(feed, FEED_STEP_SEEN,
			  PQsendQueryPrepared(connection_pq(feed->link), "seen", 6, params, NULL, NULL, 1)) &&
	       feed_push(feed, FEED_STEP_SYNC_SEEN);
}

void feed_seen_end(struct feed *feed)
{
	struct feed_seen *seen = &feed->seen;
	char *error = feed->batch.error;

	if (error[0]) {
		feed->count.seen_failures++;
		if (strcmp(error, seen->reported) != 0)
			log_error("database feed: %s; without a lease the copy is not confirmed", error);
		snprintf(seen->reported, sizeof(seen->reported), "%s", error);
		error[0] = '\0';
		return;
	}
	if (seen->reported[0])
		log_info("database feed: this daemon is registered again");
	seen->reported[0] = '\0';
	seen->held_at = seen->sent_at;
	seen->held_ms = seen->lease_ms;
	feed->count.seen++;
	feed_load_begin(feed);
}

bool feed_seen_holds(struct feed *feed, int64_t sent_at)
{
	const struct feed_seen *seen = &feed->seen;

	if (seen->held_at == 0 || sent_at - seen->held_at > (int64_t)config_margin_ms(feed->config) * 1000)
		return false;
	/* The settings may promise more now than was told then. */
	mirror_lease(feed->mirror, seen->held_at + (int64_t)seen->held_ms * 1000);
	return true;
}

bool feed_gone_push(struct feed *feed)
{
	char id[UUID_TEXT];
	const char *params[1] = {id};

	if (!feed->following || feed->seen.sent_at == 0 || !connection_pq(feed->link))
		return false;
	uuid_text(feed->id, id);
	return feed_queue(feed, FEED_STEP_GONE,
			  PQsendQueryPrepared(connection_pq(feed->link), "gone", 1, params, NULL, NULL, 1)) &&
	       feed_push(feed, FEED_STEP_SYNC_GONE);
}
