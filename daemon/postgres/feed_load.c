#include "daemon/postgres/feed_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/log.h"

/* What is too big to be freed on the loop's thread. */
struct feed_waste {
	uv_work_t work;
	struct copy *copy;
	struct denials *denials;
};

static void feed_free_waste(struct feed_waste *waste)
{
	copy_free(waste->copy);
	if (waste->denials)
		denials_deinit(waste->denials);
	free(waste->denials);
	waste->copy = NULL;
	waste->denials = NULL;
}

static void feed_free_work(uv_work_t *work)
{
	feed_free_waste(work->data);
}

static void feed_free_done(uv_work_t *work, int status)
{
	if (status == UV_ECANCELED)
		feed_free_waste(work->data);
	free(work->data);
}

static void feed_give_up(struct feed *feed, struct copy *copy, struct denials *denials)
{
	struct feed_waste here = {.copy = copy, .denials = denials}, *waste = calloc(1, sizeof(*waste));

	if (!waste) {
		feed_free_waste(&here);
		return;
	}
	*waste = here;
	waste->work.data = waste;
	if (uv_queue_work(feed->loop, &waste->work, feed_free_work, feed_free_done) < 0) {
		feed_free_waste(waste);
		free(waste);
	}
}

void feed_drop_fresh(struct feed *feed)
{
	if (!feed->fresh)
		return;
	if (feed->batch.target == feed->fresh)
		feed->batch.target = NULL;
	feed_history_drop(feed);
	feed_give_up(feed, feed->fresh, feed->history.fresh);
	feed->fresh = NULL;
	feed->history.fresh = NULL;
}

static const char *feed_reload_line(enum feed_reload reload)
{
	switch (reload) {
	case FEED_RELOAD_NONE:
	case FEED_RELOAD_FIRST:
		return "the first copy";
	case FEED_RELOAD_SERVER:
		return "another server, or another life of it, than the copy was loaded from";
	case FEED_RELOAD_HISTORY:
		return "HISTORY LOST: the applied revision is not in the change log any more (a failover that lost "
		       "transactions, or a restore): changes that were seen may be gone";
	case FEED_RELOAD_REVOKED:
		return "HISTORY LOST: a key that was revoked is not revoked any more";
	case FEED_RELOAD_FLOOR:
		return "the log's floor is above what was applied (force_reload, a restore, or a log that was cut)";
	case FEED_RELOAD_FAULTS:
		return "change triggers were off";
	case FEED_RELOAD_CHANGES:
		return "more changes at once than are worth following";
	case FEED_RELOAD_WORN:
		return "much of the copy is dead";
	case FEED_RELOAD_COPY:
		return "the copy is not what the store has";
	}
	return "";
}

bool feed_same_life(const struct connection_identity *a, const struct connection_identity *b)
{
	return a->system == b->system && a->timeline == b->timeline && a->database == b->database &&
	       a->started == b->started;
}

static void feed_on_load_timer(uv_timer_t *timer)
{
	feed_load_begin(timer->data);
}

static void feed_load_again(struct feed *feed, const char *line)
{
	feed->count.load_failures++;
	if (strcmp(line, feed->load_reported) != 0)
		log_error("database load: %s: %s; trying again", connection_describe(feed->link), line);
	else
		log_debug("database load: %s", line);
	snprintf(feed->load_reported, sizeof(feed->load_reported), "%s", line);
	if (feed->load_backoff_ms < feed->config->backoff_min_ms)
		feed->load_backoff_ms = feed->config->backoff_min_ms;
	uv_timer_start(&feed->load_timer, feed_on_load_timer, feed->load_backoff_ms, 0);
	feed->load_backoff_ms *= 2;
	if (feed->load_backoff_ms > feed->config->backoff_max_ms)
		feed->load_backoff_ms = feed->config->backoff_max_ms;
}

static void feed_on_loaded(void *data, const struct load_result *result)
{
	struct feed *feed = data;
	bool stale = feed->load_stale || result->cancelled;

	feed->load = NULL;
	feed->load_stale = false;
	if (feed->stopping) {
		feed_give_up(feed, result->copy, result->denials);
		feed_closed(feed);
		return;
	}
	if (stale) {
		feed_give_up(feed, result->copy, result->denials);
		feed_load_begin(feed);
		return;
	}
	if (!result->copy) {
		feed_load_again(feed, result->line);
		return;
	}
	if (feed->following && !feed_same_life(&result->identity, connection_identity(feed->link))) {
		feed_give_up(feed, result->copy, result->denials);
		feed_load_again(feed, "it came from another server than the one that is followed");
		return;
	}
	log_info("database load: %" PRIu64 " keys in %" PRIu64 " ms, revision %" PRIu64, result->keys, result->took_ms,
		 copy_rev(result->copy));
	feed->count.last_load_ms = result->took_ms;
	feed->count.last_load_keys = result->keys;
	feed->load_reported[0] = '\0';
	feed->load_backoff_ms = 0;
	feed->fresh = result->copy;
	feed->history.fresh = result->denials;
	feed->history.fresh_lacks = result->lacks;
	feed->fresh_identity = result->identity;
	feed_poll(feed);
}

void feed_load_begin(struct feed *feed)
{
	struct load_settings settings = {.role = feed->config->role,
					 .connect_timeout_ms = feed->config->connect_timeout_ms,
					 .statement_timeout_ms = feed->config->load_timeout_ms,
					 .silence_ms = 3 * feed->config->statement_timeout_ms,
					 .beside = feed->mirror->copy != NULL,
					 .denials = feed->config->denials};

	if (feed->reload == FEED_RELOAD_NONE || feed->load || feed->fresh || !feed->following || feed->stopping ||
	    feed->guard.fault_count > 0 || feed->seen.held_at == 0)
		return;
	uv_timer_stop(&feed->load_timer);
	settings.params = connection_params(feed->link);
	feed->load = load_start(feed->loop, &settings, feed_on_loaded, feed);
	feed->count.loads++;
	if (!feed->load)
		feed_load_again(feed, "no memory or thread for it");
}

void feed_want_reload(struct feed *feed, enum feed_reload reload, bool suspect)
{
	bool wanted = feed->reload != FEED_RELOAD_NONE;

	/* A load that is on its way serves these too; that it came from the right server is seen at its end. */
	if (wanted && (!suspect || reload == FEED_RELOAD_SERVER || reload == FEED_RELOAD_COPY)) {
		feed->suspect |= suspect;
		return;
	}
	feed->count.reloads += feed->mirror->copy != NULL;
	feed->count.histories += reload == FEED_RELOAD_HISTORY;
	feed->history.evidence |= reload == FEED_RELOAD_REVOKED;
	feed->count.forced += reload == FEED_RELOAD_FLOOR;
	if (reload == FEED_RELOAD_HISTORY || reload == FEED_RELOAD_REVOKED)
		log_error("database feed: loading anew: %s", feed_reload_line(reload));
	else if (reload == FEED_RELOAD_FIRST || reload == FEED_RELOAD_WORN)
		log_info("database feed: loading: %s", feed_reload_line(reload));
	else
		log_warning("database feed: loading anew: %s", feed_reload_line(reload));
	if (!wanted || reload == FEED_RELOAD_HISTORY ||
	    (reload == FEED_RELOAD_FLOOR && feed->reload != FEED_RELOAD_HISTORY))
		feed->reload = reload;
	feed->suspect |= suspect;
	if (feed->load) {
		feed->load_stale = true;
		load_cancel(feed->load);
	}
	feed_drop_fresh(feed);
	feed_load_begin(feed);
}

void feed_swap(struct feed *feed, const struct feed_batch *batch)
{
	struct copy *old;

	copy_hold(feed->fresh, journal_held(feed->journal));
	old = mirror_swap(feed->mirror, feed->fresh, batch->sent_at, batch->database_time);
	feed->fresh = NULL;
	feed->identity = feed->fresh_identity;
	feed->reload = FEED_RELOAD_NONE;
	feed->suspect = false;
	feed->sure = true;
	feed->tidying = true;
	feed_history_swapped(feed);
	feed_verify_swapped(feed);
	log_info("database feed: the copy of revision %" PRIu64 " is in place", batch->rev);
	feed_give_up(feed, old, feed->history.fresh);
	feed->history.fresh = NULL;
	if (!feed->ready) {
		feed->ready = true;
		feed->callbacks.ready(feed->callbacks.data);
	}
}
