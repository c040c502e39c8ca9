/* What the feed says of itself to others: what keeps the copy from being confirmed, and when that may change. */
#include "daemon/postgres/feed_internal.h"

#include <inttypes.h>
#include <stdio.h>

void feed_trouble(const struct feed *feed, char *out, size_t size)
{
	const char *line = connection_trouble(feed->link);

	if (!feed->following)
		snprintf(out, size, "%s", *line ? line : "the database is being connected to");
	else if (feed->guard.fault_count > 0)
		snprintf(out, size, "change triggers are off: %s", feed->guard.faults);
	else if (feed->guard.wrong_pepper)
		snprintf(out, size, "pepper %u is not the database's", feed->guard.wrong_pepper);
	else if (feed->seen.reported[0])
		snprintf(out, size, "no lease: %s", feed->seen.reported);
	else if (feed->mirror->refused)
		snprintf(out, size, "the database has lost history: run `apikeyctl history show`");
	else if (feed->stuck[0])
		snprintf(out, size, "%s", feed->stuck);
	else if (feed->reload != FEED_RELOAD_NONE && feed->load_reported[0])
		snprintf(out, size, "a new copy cannot be loaded: %s", feed->load_reported);
	else if (feed->suspect || !feed->mirror->copy)
		snprintf(out, size, "a new copy is being loaded");
	else if (feed->step_count > 0)
		snprintf(out, size, "no answer to the poll that was sent %" PRId64 " ms ago",
			 (mirror_boot_now() - feed->polled_at) / 1000);
	else
		snprintf(out, size, "no poll was confirmed");
}

uint32_t feed_retry_ms(const struct feed *feed)
{
	uint64_t wait = 0;

	if (!feed->following)
		wait = connection_retry_ms(feed->link);
	else if (feed->reload != FEED_RELOAD_NONE && uv_is_active((const uv_handle_t *)&feed->load_timer))
		wait = uv_timer_get_due_in(&feed->load_timer);
	return wait > feed->config->poll_ms ? (uint32_t)wait : feed->config->poll_ms;
}
