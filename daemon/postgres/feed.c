#include "daemon/postgres/feed.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/postgres/feed_internal.h"
#include "daemon/postgres/queries.h"

static void feed_on_worker(uv_idle_t *worker);
static void feed_on_probe_timer(uv_timer_t *timer);

/* ---- what comes next ---- */

static int64_t feed_poll_due(const struct feed *feed)
{
	bool soon = feed->again || feed_verify_hurries(feed);

	return feed->polled_at + (soon ? FEED_GAP_MS : feed->config->poll_ms) * INT64_C(1000);
}

/* The heartbeat alone: who polls seldom registers in between. */
static void feed_beat(struct feed *feed)
{
	int64_t now = mirror_boot_now();

	if (now >= feed_seen_due(feed)) {
		if (!feed_seen_push(feed, now)) {
			feed_batch_drop(feed);
			connection_fail_libpq(feed->link, "cannot send");
			return;
		}
		connection_flush(feed->link);
	}
	feed_next(feed);
}

static void feed_on_poll_timer(uv_timer_t *timer)
{
	struct feed *feed = timer->data;

	/* Timers are a little early: a poll that is due within a millisecond is due. */
	if (mirror_boot_now() + 1000 >= feed_poll_due(feed) && !feed_history_is_busy(feed))
		feed_poll(feed);
	else
		feed_beat(feed);
}

static void feed_on_silence(uv_timer_t *timer)
{
	struct feed *feed = timer->data;

	if (feed->leaving) {
		feed_leave(feed);
		return;
	}
	/* A session that failed its check is gone, and the connection tries another host already. */
	if (feed->step_count == 0 || !connection_pq(feed->link))
		return;
	connection_fail(feed->link,
			"no answer to a poll within statement_timeout_ms; check that the server is not stopped");
}

void feed_next(struct feed *feed)
{
	int64_t due = feed_poll_due(feed), beat = feed_seen_due(feed), wait;

	if (feed->stopping || feed->leaving)
		return;
	if (feed->backlog || feed->tidying || feed_history_has_work(feed) || feed_verify_has_work(feed))
		uv_idle_start(&feed->worker, feed_on_worker);
	else
		uv_idle_stop(&feed->worker);
	if (feed->step_count > 0)
		uv_timer_start(&feed->silence_timer, feed_on_silence,
			       feed->config->statement_timeout_ms + FEED_SILENCE_MS, 0);
	else
		uv_timer_stop(&feed->silence_timer);
	/* While no poll may be sent the heart goes on beating. */
	wait = (beat < due || feed_history_is_busy(feed) ? beat : due) - mirror_boot_now();
	if (feed->following && feed->step_count == 0 && !feed->tidying && !feed_verify_is_busy(feed))
		uv_timer_start(&feed->poll_timer, feed_on_poll_timer, wait > 0 ? (uint64_t)(wait + 999) / 1000 : 0, 0);
	else
		uv_timer_stop(&feed->poll_timer);
}

static bool feed_tidy(struct feed *feed)
{
	bool more = true;

	while (more && !feed_slice_is_over(feed)) {
		uint32_t piece = feed->budget < FEED_PIECE ? feed->budget : FEED_PIECE;

		more = (feed->mirror->copy && copy_tidy(feed->mirror->copy, piece)) ||
		       (feed->fresh && copy_tidy(feed->fresh, piece));
		feed->budget -= piece;
	}
	return more;
}

/* One slice of what is too much for one turn of the loop. */
static void feed_on_worker(uv_idle_t *worker)
{
	struct feed *feed = worker->data;

	feed_slice_begin(feed);
	if (feed->backlog) {
		uv_timer_start(&feed->silence_timer, feed_on_silence,
			       feed->config->statement_timeout_ms + FEED_SILENCE_MS, 0);
		feed_read(feed);
	} else if (feed->tidying) {
		feed->tidying = feed_tidy(feed);
	} else if (feed_history_has_work(feed)) {
		feed_history_slice(feed);
	} else {
		feed_verify_slice(feed);
	}
	feed_next(feed);
}

/* ---- the session ---- */

void feed_follow(struct feed *feed)
{
	const struct connection_identity *identity = connection_identity(feed->link);
	const int version = PQserverVersion(connection_pq(feed->link));

	feed->following = true;
	feed->again = true;
	feed->polled_at = 0;
	feed_seen_begin(feed);
	feed->count.sessions++;
	connection_settle(feed->link);
	log_info("database feed: following %s (PostgreSQL %d.%d, timeline %u)", connection_describe(feed->link),
		 version / 10000, version % 10000, identity->timeline);
	if (feed->fresh && !feed_same_life(identity, &feed->fresh_identity)) {
		feed_drop_fresh(feed);
		feed_load_begin(feed);
	}
	if (!feed->mirror->copy)
		feed_want_reload(feed, FEED_RELOAD_FIRST, false);
	else if (!feed_same_life(identity, &feed->identity))
		/* The same history may still be followed, if the log agrees, while the load goes on. */
		feed_want_reload(feed, FEED_RELOAD_SERVER,
				 identity->system != feed->identity.system ||
					 identity->database != feed->identity.database);
	feed_load_begin(feed);
	feed_poll(feed);
	feed_next(feed);
	if (connection_host_count(feed->link) > 1 && !connection_is_busy(feed->probe))
		uv_timer_start(&feed->probe_timer, feed_on_probe_timer, 0,
			       feed->config->guard_ms < FEED_PROBE_MS ? feed->config->guard_ms : FEED_PROBE_MS);
}

static void feed_on_up(void *data)
{
	struct feed *feed = data;

	feed->failure_counted = false;
	feed_batch_drop(feed);
	if (!feed_check_send(feed)) {
		connection_fail_libpq(feed->link, "cannot send");
		return;
	}
	connection_flush(feed->link);
	feed_next(feed);
}

void feed_hear(struct feed *feed, PGconn *pq)
{
	PGnotify *notify;

	while ((notify = PQnotifies(pq))) {
		PQfreemem(notify);
		feed->count.notifications++;
		feed->again = true;
	}
}

static void feed_on_io(void *data)
{
	struct feed *feed = data;

	feed_hear(feed, connection_pq(feed->link));
	feed_slice_begin(feed);
	feed_read(feed);
	if (connection_pq(feed->link))
		feed_next(feed);
}

static void feed_on_failed(void *data, const char *line)
{
	struct feed *feed = data;

	(void)line; /* the connection has logged it */
	feed->count.failures += !feed->failure_counted;
	feed->failure_counted = false;
	feed->following = false;
	feed_batch_drop(feed);
	if (feed->leaving) {
		feed_leave(feed);
		return;
	}
	feed_next(feed);
	if (feed->switch_host != UINT32_MAX)
		connection_open(feed->link, feed->switch_host);
	else
		connection_retry(feed->link);
	feed->switch_host = UINT32_MAX;
}

/* ---- the other hosts: a primary on a higher timeline wins at once ---- */

static void feed_on_probe_timer(uv_timer_t *timer)
{
	struct feed *feed = timer->data;
	unsigned count = connection_host_count(feed->link);

	if (!feed->following || count < 2 || connection_is_busy(feed->probe))
		return;
	feed->probe_host = (feed->probe_host + 1) % count;
	if (feed->probe_host == connection_host(feed->link))
		feed->probe_host = (feed->probe_host + 1) % count;
	connection_open_one(feed->probe, feed->probe_host);
}

static void feed_on_probe_up(void *data)
{
	struct feed *feed = data;
	const struct connection_identity *found = connection_identity(feed->probe);
	const struct connection_identity *ours = connection_identity(feed->link);

	if (feed->following && found->system == ours->system && found->timeline > ours->timeline) {
		log_warning("database feed: %s is the primary on timeline %u: leaving the one on timeline %u",
			    connection_describe(feed->probe), found->timeline, ours->timeline);
		feed->switch_host = feed->probe_host;
		connection_fail(feed->link, "deposed: another server is primary on a higher timeline");
	}
	connection_disconnect(feed->probe);
}

static void feed_on_probe_io(void *data)
{
	(void)data;
}

static void feed_on_probe_failed(void *data, const char *line)
{
	(void)data;
	(void)line;
}

/* ---- life ---- */

void feed_closed(struct feed *feed)
{
	if (--feed->closing == 0)
		feed->callbacks.stopped(feed->callbacks.data);
}

static int feed_configure(struct feed *feed)
{
	const struct config *config = feed->config;
	struct connection_settings settings = {.name = "feed",
					       .setting = "database.conninfo",
					       .conninfo = config->conninfo,
					       .role = config->role,
					       .session = FEED_SESSION,
					       .insecure_remote = config->insecure_remote,
					       .connect_timeout_ms = config->connect_timeout_ms,
					       .statement_timeout_ms = config->statement_timeout_ms,
					       .keepalive_ms = config->keepalive_ms,
					       .backoff_min_ms = config->backoff_min_ms,
					       .backoff_max_ms = config->backoff_max_ms};
	int r = connection_configure(feed->link, &settings);

	settings.name = "probe";
	settings.quiet = true;
	return r < 0 ? r : connection_configure(feed->probe, &settings);
}

struct feed *feed_new(uv_loop_t *loop, const struct config *config, const struct secret *secret, struct mirror *mirror,
		      struct journal *journal, const struct feed_callbacks *callbacks)
{
	struct feed *feed = calloc(1, sizeof(*feed));
	struct connection_callbacks link = {.up = feed_on_up, .io = feed_on_io, .failed = feed_on_failed, .data = feed};
	struct connection_callbacks probe = {
		.up = feed_on_probe_up, .io = feed_on_probe_io, .failed = feed_on_probe_failed, .data = feed};

	if (!feed)
		return NULL;
	feed->loop = loop;
	feed->config = config;
	feed->secret = secret;
	feed->mirror = mirror;
	feed->journal = journal;
	feed->callbacks = *callbacks;
	feed->switch_host = UINT32_MAX;
	feed->link = connection_new(loop, &link);
	feed->probe = connection_new(loop, &probe);
	feed->verify = feed_verify_new();
	if (!feed->link || !feed->probe || !feed->verify) {
		connection_free(feed->link);
		connection_free(feed->probe);
		feed_verify_free(feed->verify);
		free(feed);
		return NULL;
	}
	uuid_random(feed->id);
	if (gethostname(feed->host, sizeof(feed->host) - 1) < 0)
		snprintf(feed->host, sizeof(feed->host), "unknown");
	uv_timer_init(loop, &feed->poll_timer);
	uv_timer_init(loop, &feed->silence_timer);
	uv_timer_init(loop, &feed->load_timer);
	uv_timer_init(loop, &feed->probe_timer);
	uv_timer_init(loop, &feed->late_timer);
	uv_idle_init(loop, &feed->worker);
	feed->poll_timer.data = feed->silence_timer.data = feed->load_timer.data = feed->probe_timer.data = feed;
	feed->worker.data = feed->late_timer.data = feed;
	feed_history_start(feed);
	return feed;
}

void feed_start(struct feed *feed)
{
	if (feed_configure(feed) < 0)
		log_error("database feed: no memory");
	feed->started = true;
	connection_open(feed->link, 0);
}

static bool feed_differs(const char *a, const char *b)
{
	return strcmp(a ? a : "", b ? b : "") != 0;
}

void feed_reconfigure(struct feed *feed, const struct config *config, const struct secret *secret)
{
	const struct config *was = feed->config;
	bool moved = feed_differs(was->conninfo, config->conninfo) || feed_differs(was->role, config->role) ||
		     was->insecure_remote != config->insecure_remote;

	feed->config = config;
	feed->secret = secret;
	feed->guarded_at = feed->seen.sent_at = 0;
	feed_history_refuse(feed);
	if (feed->stopping || feed->leaving || feed->dead)
		return;
	if (feed_configure(feed) < 0)
		log_error("database feed: no memory");
	if (moved) {
		feed->following = false;
		feed_batch_drop(feed);
		feed->switch_host = UINT32_MAX;
		if (feed->load) {
			feed->load_stale = true;
			load_cancel(feed->load);
		}
		connection_open(feed->link, 0);
		feed_next(feed);
		return;
	}
	feed_poll(feed);
}

static void feed_on_handle_closed(uv_handle_t *handle)
{
	feed_closed(handle->data);
}

static void feed_on_connection_closed(void *data)
{
	feed_closed(data);
}

void feed_leave(struct feed *feed)
{
	if (feed->stopping)
		return;
	feed->stopping = true;
	feed->following = false;
	feed_history_leave(feed);
	feed_batch_drop(feed);
	feed->closing = 8; /* six handles, two connections */
	uv_close((uv_handle_t *)&feed->poll_timer, feed_on_handle_closed);
	uv_close((uv_handle_t *)&feed->silence_timer, feed_on_handle_closed);
	uv_close((uv_handle_t *)&feed->load_timer, feed_on_handle_closed);
	uv_close((uv_handle_t *)&feed->probe_timer, feed_on_handle_closed);
	uv_close((uv_handle_t *)&feed->late_timer, feed_on_handle_closed);
	uv_close((uv_handle_t *)&feed->worker, feed_on_handle_closed);
	connection_close(feed->link, feed_on_connection_closed);
	connection_close(feed->probe, feed_on_connection_closed);
	if (feed->load) {
		feed->closing++;
		load_cancel(feed->load);
	}
	feed_drop_fresh(feed);
	journal_forget(feed->journal);
}

void feed_stop(struct feed *feed)
{
	if (feed->stopping || feed->leaving)
		return;
	feed->leaving = true;
	uv_timer_stop(&feed->poll_timer);
	uv_idle_stop(&feed->worker);
	/* What is under way is answered first, and is for nothing. */
	if (feed->batch.active && feed->batch.target)
		copy_discard(feed->batch.target);
	feed->batch.target = NULL;
	feed->batch.guarded = false;
	if (!feed_gone_push(feed)) {
		feed_leave(feed);
		return;
	}
	feed->following = false;
	feed->backlog = false;
	uv_timer_start(&feed->silence_timer, feed_on_silence, FEED_GONE_MS, 0);
	connection_set_reading(feed->link, true);
	connection_flush(feed->link);
	feed_slice_begin(feed);
	feed_read(feed);
}

void feed_free(struct feed *feed)
{
	if (!feed)
		return;
	connection_free(feed->link);
	connection_free(feed->probe);
	feed_rows_deinit(feed);
	feed_history_deinit(feed);
	feed_verify_free(feed->verify);
	free(feed);
}

void feed_hurry(struct feed *feed)
{
	feed->again = true;
	if (feed->following && feed->step_count == 0)
		feed_next(feed);
}

/* ---- stats ---- */

const char *feed_state(const struct feed *feed)
{
	if (feed->stopping || feed->leaving)
		return "stopping";
	if (!feed->following)
		return "connecting";
	if (feed->guard_bad)
		return "unsure";
	if (feed->seen.reported[0])
		return "unregistered";
	if (feed->reload != FEED_RELOAD_NONE)
		return "loading";
	return "following";
}

bool feed_stats(const struct feed *feed, struct arena *arena, struct value *map)
{
	const struct {
		const char *name;
		uint64_t value;
	} counters[] = {
		{"polls", feed->count.polls},
		{"publishes", feed->count.publishes},
		{"changes", feed->count.changes},
		{"notifications", feed->count.notifications},
		{"connects", connection_attempts(feed->link)},
		{"sessions", feed->count.sessions},
		{"failures", feed->count.failures},
		{"loads", feed->count.loads},
		{"load_failures", feed->count.load_failures},
		{"reloads", feed->count.reloads},
		{"history_lost", feed->count.histories},
		{"forced_reloads", feed->count.forced},
		{"trigger_faults", feed->guard.fault_count},
		{"trigger_fault_events", feed->count.faults},
		{"registrations", feed->count.seen},
		{"registration_failures", feed->count.seen_failures},
		{"lease_ms", config_lease_ms(feed->config)},
		{"trims", feed->count.trims},
		{"trim_failures", feed->count.trim_failures},
		{"trimmed_revisions", feed->count.trimmed_revisions},
		{"trimmed_changes", feed->count.trimmed_changes},
		{"last_load_ms", feed->count.last_load_ms},
		{"last_load_keys", feed->count.last_load_keys},
		{"timeline", feed->following ? connection_identity(feed->link)->timeline : 0},
	};
	struct value *sub = value_set(arena, map, "feed");

	if (!sub)
		return false;
	value_map(sub);
	if (!value_set_text(arena, sub, "state", feed_state(feed)) ||
	    !value_set_text(arena, sub, "server", connection_describe(feed->link)))
		return false;
	for (unsigned i = 0; i < sizeof(counters) / sizeof(counters[0]); i++)
		if (!value_set_uint(arena, sub, counters[i].name, counters[i].value))
			return false;
	return feed_verify_stats(feed, arena, sub) && feed_history_stats(feed, arena, sub) &&
	       value_set_int(arena, sub, "clock_behind_ms", feed->clock_ahead / 1000);
}
