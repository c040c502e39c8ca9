#include "daemon/server.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <uv.h>

#include "daemon/admin/admin.h"
#include "daemon/audit/flush.h"
#include "daemon/broker.h"
#include "daemon/confine/confine.h"
#include "daemon/freshness.h"
#include "daemon/journal.h"
#include "daemon/listeners.h"
#include "daemon/log.h"
#include "daemon/lookup.h"
#include "daemon/mirror/mirror.h"
#include "daemon/module_host.h"
#include "daemon/modules/load.h"
#include "daemon/notify.h"
#include "daemon/postgres/feed.h"
#include "daemon/postgres/writer.h"
#include "daemon/request.h"
#include "daemon/secret.h"
#include "daemon/session.h"
#include "daemon/stats.h"

enum { ERRORS_SIZE = 8192 };

struct server {
	uv_loop_t loop;
	const char *path; /* of the configuration */
	const struct passed *passed;
	struct config *config;
	struct secret *secret;
	struct mirror mirror;
	struct journal *journal;
	struct spool *spool;
	struct rollup *rollup;
	struct flush *flush;
	struct freshness freshness;
	struct feed *feed;
	struct writer *writer;
	struct admin admin;
	struct request_core core;
	struct sessions sessions;
	struct listeners listeners;
	struct ledger_host host;
	struct policy_host policy_host;
	struct confine *confine;
	uv_signal_t term, interrupt, hangup;
	uv_timer_t stop_timer, start_timer;
	struct notify notify;
	uint64_t started_at;	   /* loop ms */
	uint64_t started_at_clock; /* seconds since 1970 UTC */
	uint64_t reloads, reloads_failed, starts_without_copy;
	bool config_wrong; /* what the last reload found */
	bool stopping, sessions_empty, writer_stopped, flush_stopping;
	uint64_t stop_by; /* loop ms */
	int code;
};

static void log_lines(char *lines)
{
	char *line;

	while ((line = strsep(&lines, "\n"))) {
		if (*line)
			log_error("%s", line);
	}
}

/* ---- stop ---- */

static void on_flush_stopped(void *data)
{
	struct server *server = data;

	feed_stop(server->feed);
}

/* All answers are given: what they were is recorded, as far as the time allows, and then the rest ends. */
static void end_if_idle(struct server *server)
{
	uint64_t now = uv_now(&server->loop);

	if (!server->sessions_empty || !server->writer_stopped || server->flush_stopping)
		return;
	server->flush_stopping = true;
	flush_stop(server->flush, server->stop_by > now ? (uint32_t)(server->stop_by - now) : 0, on_flush_stopped,
		   server);
}

/* The loop ends when nothing is left in it. */
static void on_journal_closed(void *data)
{
	(void)data;
}

static void on_feed_stopped(void *data)
{
	struct server *server = data;

	uv_close((uv_handle_t *)&server->term, NULL);
	uv_close((uv_handle_t *)&server->interrupt, NULL);
	uv_close((uv_handle_t *)&server->hangup, NULL);
	uv_close((uv_handle_t *)&server->stop_timer, NULL);
	uv_close((uv_handle_t *)&server->start_timer, NULL);
	notify_close(&server->notify);
	freshness_close(&server->freshness);
	request_core_close(&server->core);
	sessions_close(&server->sessions);
	journal_close(server->journal, on_journal_closed, server);
}

static void on_writer_stopped(void *data)
{
	struct server *server = data;

	server->writer_stopped = true;
	end_if_idle(server);
}

static void on_sessions_empty(void *data)
{
	struct server *server = data;

	server->sessions_empty = true;
	end_if_idle(server);
}

/* What still waits is told so, and what does not read is left. */
static void on_stop_timeout(uv_timer_t *timer)
{
	struct server *server = timer->data;

	if (server->sessions.count > 0)
		log_warning("%u connections had not come to their end after limits.stop_ms", server->sessions.count);
	request_finish(&server->core);
	sessions_abort(&server->sessions);
	flush_hurry(server->flush);
}

static void stop(struct server *server)
{
	if (server->stopping) {
		uv_timer_start(&server->stop_timer, on_stop_timeout, 0, 0);
		return;
	}
	server->stopping = true;
	server->stop_by = uv_now(&server->loop) + server->config->stop_ms;
	notify_stopping(&server->notify, server->config->stop_ms);
	log_info("stopping: %u connections, %u requests wait", server->sessions.count,
		 request_waiting_count(&server->core));
	listeners_stop(&server->listeners);
	uv_timer_stop(&server->start_timer);
	uv_timer_start(&server->stop_timer, on_stop_timeout, server->config->stop_ms, 0);
	sessions_stop(&server->sessions);
	writer_stop(server->writer, server->config->stop_ms, on_writer_stopped, server);
}

static void on_stop_signal(uv_signal_t *handle, int number)
{
	(void)number;
	stop(handle->data);
}

static void on_fatal_now(uv_timer_t *timer)
{
	stop(timer->data);
}

/* From inside the feed, which must not be stopped from there. */
static void on_fatal(void *data, const char *line)
{
	struct server *server = data;

	log_error("%s", line);
	server->code = 1;
	if (!server->stopping)
		uv_timer_start(&server->stop_timer, on_fatal_now, 0, 0);
}

/* ---- reload ---- */

static struct rollup_limits limits_of(const struct config *config)
{
	return (struct rollup_limits){.events_per_second = config->ledger_events_per_second,
				      .sources_per_minute = config->ledger_sources_per_minute,
				      .denials_per_minute = config->ledger_denials_per_minute};
}

/* Takes over `config` and what was found; on failure neither. */
static int apply(struct server *server, struct config *config, struct lookup *found)
{
	struct secret *old_secret = server->secret;
	struct config *old_config = server->config;
	struct rollup_limits limits;
	int rc = sessions_configure(&server->sessions, config, &found->users);

	if (rc != 0)
		return rc;
	server->config = config;
	server->secret = found->secret;
	server->core.config = config;
	server->core.secret = found->secret;
	server->admin.config = config;
	server->admin.secret = found->secret;
	/* All stacks at once; what waits keeps the ones that it began with. */
	request_set_policy(&server->core, found->policy);
	lookup_log_findings(found->policy);
	feed_reconfigure(server->feed, config, found->secret);
	writer_reconfigure(server->writer, config);
	limits = limits_of(config);
	rollup_configure(server->rollup, &limits);
	flush_reconfigure(server->flush, config, found->secret);
	log_set_level(config->log_level);
	freshness_configure(&server->freshness, config);
	found->secret = NULL;
	lookup_deinit(found);
	config_free(old_config);
	secret_free(old_secret);
	return 0;
}

static bool reload(struct server *server)
{
	char errors[ERRORS_SIZE], names[512];
	struct config *config = config_load(server->path, errors, sizeof(errors));
	struct lookup found = {0};

	if (!config)
		goto failed;
	/* First, since what is out of reach looks like a file that may not be read. */
	if (confine_check(server->confine, server->path, config, NULL, errors, sizeof(errors)) > 0)
		goto failed;
	if (lookup_make(&found, config, server->passed, &server->policy_host, server->core.policy, errors,
			sizeof(errors)) > 0)
		goto failed;
	if (confine_check(server->confine, server->path, config, found.policy, errors, sizeof(errors)) > 0)
		goto failed;
	if (config_needs_restart(server->config, config, names, sizeof(names)) > 0)
		log_warning("takes effect at the next start: %s", names);
	if (apply(server, config, &found) != 0) {
		snprintf(errors, sizeof(errors), "no memory");
		goto failed;
	}
	return true;
failed:
	log_lines(errors);
	config_free(config);
	lookup_deinit(&found);
	return false;
}

static void on_hangup(uv_signal_t *handle, int number)
{
	struct server *server = handle->data;

	(void)number;
	if (server->stopping)
		return;
	notify_reloading(&server->notify);
	server->config_wrong = !reload(server);
	if (!server->config_wrong) {
		server->reloads++;
		log_info("configuration read again");
	} else {
		server->reloads_failed++;
		log_error("the configuration is wrong; going on with the one from before");
	}
	notify_reloaded(&server->notify);
}

/* ---- callbacks of the parts ---- */

static void on_ready(void *data)
{
	struct server *server = data;

	log_info("ready: revision %llu", (unsigned long long)mirror_rev(&server->mirror));
	if (server->stopping)
		return;
	uv_timer_stop(&server->start_timer);
	listeners_go_on(&server->listeners);
	notify_ready(&server->notify);
}

static void on_rev(void *data)
{
	struct server *server = data;

	request_revised(&server->core);
}

static void on_hurry(void *data)
{
	struct server *server = data;

	feed_hurry(server->feed);
}

static void on_aged(void *data)
{
	struct server *server = data;

	freshness_look(&server->freshness, mirror_boot_now());
}

static uint64_t on_retry_ms(void *data)
{
	const struct server *server = data;

	return feed_retry_ms(server->feed);
}

static void on_why(void *data, char *out, size_t size)
{
	const struct server *server = data;

	feed_trouble(server->feed, out, size);
}

static void on_flush(void *data)
{
	struct server *server = data;

	sessions_flush(&server->sessions);
}

static void on_accepted(void *data, int fd, enum rpc_service service, const char *stack)
{
	struct server *server = data;

	sessions_accept(&server->sessions, fd, service, stack);
}

static bool on_stats(void *data, struct arena *arena, struct value *map)
{
	struct server *server = data;
	struct stats_sources sources = {.sessions = &server->sessions,
					.core = &server->core,
					.mirror = &server->mirror,
					.freshness = &server->freshness,
					.feed = server->feed,
					.writer = server->writer,
					.flush = server->flush,
					.admin = &server->admin,
					.confine = server->confine,
					.started_at = server->started_at_clock,
					.uptime_ms = uv_now(&server->loop) - server->started_at,
					.reloads = server->reloads,
					.reloads_failed = server->reloads_failed,
					.starts_without_copy = server->starts_without_copy,
					.stopping = server->stopping};

	return stats_fill(&sources, arena, map);
}

/* ---- what the service manager is told ---- */

static void on_describe(void *data, char *out, size_t size)
{
	const struct server *server = data;
	static const char *const marks[FRESHNESS_STATES] = {"", "", "GRACE: ", "STALE: "};
	int64_t age = mirror_age_us(&server->mirror, mirror_boot_now());
	struct copy_counts counts;
	int len;

	if (server->stopping) {
		snprintf(out, size, "stopping: %u connections, %u requests wait", server->sessions.count,
			 request_waiting_count(&server->core));
		return;
	}
	if (!server->mirror.copy) {
		len = snprintf(out, size, "no copy yet: %s", feed_state(server->feed));
	} else {
		copy_count(server->mirror.copy, &counts);
		len = snprintf(out, size, "%srevision %llu, confirmed %lld s ago, %llu keys",
			       marks[server->freshness.state], (unsigned long long)mirror_rev(&server->mirror),
			       (long long)(age / 1000000), (unsigned long long)counts.keys);
	}
	if (journal_loss(server->journal)->why != JOURNAL_WHY_NONE && len > 0 && (size_t)len < size)
		len += snprintf(out + len, size - (size_t)len,
				"; HISTORY LOST, %u keys kept denied: apikeyctl history show",
				journal_held(server->journal)->count);
	if (server->config_wrong && len > 0 && (size_t)len < size)
		snprintf(out + len, size - (size_t)len,
			 "; the configuration is wrong, and the one from before in effect (see the log)");
}

/* ---- start ---- */

static void on_start_timeout(uv_timer_t *timer)
{
	struct server *server = timer->data;

	log_warning("no copy yet after limits.start_ms: who asks is told so");
	server->starts_without_copy++;
	listeners_go_on(&server->listeners);
}

/* Who stands in the queue of a passed socket stood there before us, and waits a little longer for a real answer. */
static void hold_queues(struct server *server)
{
	if (server->config->start_ms > 0 && listeners_hold(&server->listeners))
		uv_timer_start(&server->start_timer, on_start_timeout, server->config->start_ms, 0);
}

static void init_handles(struct server *server)
{
	struct {
		uv_signal_t *handle;
		uv_signal_cb cb;
		int number;
	} signals[] = {{&server->term, on_stop_signal, SIGTERM},
		       {&server->interrupt, on_stop_signal, SIGINT},
		       {&server->hangup, on_hangup, SIGHUP}};

	for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		uv_signal_init(&server->loop, signals[i].handle);
		signals[i].handle->data = server;
		uv_signal_start(signals[i].handle, signals[i].cb, signals[i].number);
	}
	uv_timer_init(&server->loop, &server->stop_timer);
	server->stop_timer.data = server;
	uv_timer_init(&server->loop, &server->start_timer);
	server->start_timer.data = server;
	server->started_at = uv_now(&server->loop);
	server->started_at_clock = (uint64_t)time(NULL);
	freshness_init(&server->freshness, &server->loop, server->config, &server->mirror, on_why, server);
}

/* The parts, from the bottom up. False, with a line in `error`: nothing runs, and end() frees what there is. */
static bool init_parts(struct server *server, char *error, size_t error_size)
{
	struct feed_callbacks feed = {.ready = on_ready, .fatal = on_fatal, .stopped = on_feed_stopped, .data = server};
	struct session_callbacks sessions = {.stats = on_stats, .empty = on_sessions_empty, .data = server};
	const struct rollup_limits limits = limits_of(server->config);

	server->mirror.on_rev = on_rev;
	server->mirror.on_rev_data = server;
	server->feed = feed_new(&server->loop, server->config, server->secret, &server->mirror, server->journal, &feed);
	server->writer = writer_new(&server->loop, server->config);
	server->rollup = rollup_new(server->spool, &limits);
	server->core.ledger = server->rollup;
	if (server->rollup)
		server->flush = flush_new(&server->loop, server->config, server->secret, &server->mirror, server->spool,
					  server->rollup);
	server->admin.writer = server->writer;
	server->admin.feed = server->feed;
	server->admin.config = server->config;
	server->admin.secret = server->secret;
	if (server->feed && server->writer && server->flush &&
	    sessions_init(&server->sessions, &server->loop, server->config, &server->core, &server->admin, &sessions) ==
		    0)
		return true;
	snprintf(error, error_size, "no memory");
	return false;
}

/* What stacks need in order to be opened: the loop, and the core that modules speak to. */
static void begin(struct server *server, struct broker *broker)
{
	struct request_callbacks core = {
		.hurry = on_hurry, .flush = on_flush, .aged = on_aged, .retry_ms = on_retry_ms, .data = server};

	if (uv_loop_init(&server->loop) != 0)
		abort(); /* out of memory or descriptors before the first request: nothing to save */
	mirror_init(&server->mirror);
	if (request_core_init(&server->core, &server->loop, server->config, NULL, &server->mirror, &core) != 0)
		abort(); /* the same */
	request_ledger_fill(&server->host);
	request_host_fill(&server->host.host);
	module_host_fill(&server->host.host, &server->loop, broker);
	server->policy_host =
		(struct policy_host){.host = &server->host.host, .data = &server->core, .closing = module_host_closing};
}

/* Ends what begin() made, where nothing else was made. */
static void end_early(struct server *server)
{
	request_core_close(&server->core);
	uv_run(&server->loop, UV_RUN_DEFAULT);
	request_core_deinit(&server->core);
	mirror_deinit(&server->mirror);
	uv_loop_close(&server->loop);
}

unsigned server_check(const char *path, struct config *config, char *errors, size_t error_size)
{
	struct server server = {.path = path, .config = config};
	struct lookup found;
	unsigned faults;

	begin(&server, NULL);
	faults = lookup_make(&found, config, NULL, &server.policy_host, NULL, errors, error_size);
	if (found.policy)
		lookup_log_findings(found.policy);
	lookup_deinit(&found);
	end_early(&server);
	return faults;
}

static void free_all(struct server *server)
{
	sessions_deinit(&server->sessions);
	request_core_deinit(&server->core);
	feed_free(server->feed);
	journal_free(server->journal);
	writer_free(server->writer);
	flush_free(server->flush);
	rollup_free(server->rollup);
	spool_close(server->spool);
	mirror_deinit(&server->mirror);
	if (uv_loop_close(&server->loop) != 0)
		log_error("the loop still had handles at the end");
	listeners_deinit(&server->listeners);
	secret_free(server->secret);
	confine_free(server->confine);
	config_free(server->config);
}

/* From here on no other programs can be started than those that the stacks named, and no other modules come in. */
static bool seal(struct broker *broker, char *error, size_t error_size)
{
	modules_seal();
	return !broker || broker_seal(broker, error, error_size) == 0;
}

/* The last of what is done by right: what follows is what a daemon that runs does. */
static bool confine(struct server *server, const struct policy *policy, const struct broker *broker, char *error,
		    size_t error_size)
{
	return confine_start(server->path, server->config, policy, broker ? broker_pid(broker) : 0, &server->confine,
			     error, error_size) == 0;
}

int server_run(const char *path, struct config *config, const struct passed *passed, struct broker *broker)
{
	struct server server = {.path = path, .config = config, .passed = passed};
	char errors[ERRORS_SIZE];
	struct lookup found;

	log_set_level(config->log_level);
	begin(&server, broker);
	if (lookup_make(&found, config, passed, &server.policy_host, NULL, errors, sizeof(errors)) > 0 ||
	    !seal(broker, errors, sizeof(errors)) ||
	    listeners_open(&server.listeners, config, passed, errors, sizeof(errors)) != 0 ||
	    journal_open(config->state_dir, config->denials, &server.journal, errors) < 0 ||
	    spool_open(config->state_dir, config->ledger_spool_bytes, &server.spool, errors) < 0 ||
	    !confine(&server, found.policy, broker, errors, sizeof(errors))) {
		log_lines(errors);
		listeners_stop(&server.listeners);
		listeners_deinit(&server.listeners);
		journal_free(server.journal);
		spool_close(server.spool);
		lookup_deinit(&found);
		end_early(&server);
		config_free(config);
		return 1;
	}
	server.secret = found.secret;
	found.secret = NULL;
	server.core.secret = server.secret;
	request_set_policy(&server.core, found.policy);
	lookup_log_findings(found.policy);
	if (!init_parts(&server, errors, sizeof(errors)))
		abort(); /* out of memory before the first request: nothing to save */
	sessions_configure(&server.sessions, config, &found.users);
	lookup_deinit(&found);
	init_handles(&server);
	log_info("apikeyd " APIKEYD_VERSION);
	journal_start(server.journal, &server.loop);
	if (listeners_start(&server.listeners, &server.loop, on_accepted, &server) != 0)
		abort(); /* the same */
	hold_queues(&server);
	notify_start(&server.notify, &server.loop, on_describe, &server);
	flush_start(server.flush);
	feed_start(server.feed);
	uv_run(&server.loop, UV_RUN_DEFAULT);
	log_info("stopped");
	free_all(&server);
	return server.code;
}
