#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "daemon/audit/flush_internal.h"

/*
 * PACE: so many records more are worth waiting for another flush_ms, up to WAIT_MS, when no roll-up counts on. REST: how
 * much longer than a batch took is the pause before the next one that is due with it, up to REST_MS.
 */
enum { TICK_MS = 200, ASK_MS = 60000, SPAN_PARTS = 16, PACE = 1000, WAIT_MS = 60000, REST = 3, REST_MS = 5000 };

static void next(struct flush *flush);

static int64_t database_now(struct flush *flush)
{
	struct timespec t;

	if (flush->mirror->copy)
		return mirror_database_now(flush->mirror, mirror_boot_now());
	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static bool is_over(const struct flush *flush, uint64_t since, uint64_t ms)
{
	return since == 0 || uv_now(flush->loop) - since >= ms;
}

/* ---- anchors ---- */

static void anchor(struct flush *flush)
{
	char head[2 * SPOOL_HEAD_LEN + 1];
	uint64_t batch = spool_number(flush->spool) - 1;

	flush->anchored_at = uv_now(flush->loop);
	/* The chain has no batch yet, or the last one was told. */
	if (batch == 0 || spool_number(flush->spool) == flush->anchored)
		return;
	uuid_text(spool_chain(flush->spool), flush->chain);
	batch_hex(spool_head(flush->spool), SPOOL_HEAD_LEN, head);
	/* The last words of a process that ends go by stderr: of an entry of its own the journal might not find the unit. */
	log_said(LOG_LEVEL_INFO,
		 (const struct log_field[]){log_text(LOG_CHAIN, flush->chain), log_number(LOG_BATCH, batch),
					    log_text(LOG_HEAD, head)},
		 flush->closed ? 0 : 3, "ledger: anchor chain=%s batch=%" PRIu64 " head=%s", flush->chain, batch, head);
	flush->anchored = spool_number(flush->spool);
	flush->count.anchors++;
}

/* ---- a batch ends ---- */

void flush_drop_made(struct flush *flush)
{
	if (flush->made)
		batch_deinit(&flush->batch);
	flush->made = false;
	free(flush->parts);
	flush->parts = NULL;
}

static void good(struct flush *flush)
{
	if (flush->trouble[0])
		log_info("ledger: verdicts come into the database again");
	flush->trouble[0] = '\0';
	flush->backoff_ms = 0;
	flush->retry_at = 0;
}

/* The database has others to serve: many batches at once are sent with pauses between them. */
static void rest(struct flush *flush)
{
	uint64_t now = uv_now(flush->loop), ms = REST * (now - flush->sealed_at);

	flush->rest_until = now + (ms < REST_MS ? ms : REST_MS);
}

static void release(struct flush *flush)
{
	spool_release(flush->spool);
	flush->count.batches++;
	flush->count.rows += flush->sent.tbl ? 0 : flush->sent.rows;
	flush->count.statements += flush->sent.tbl != NULL;
	if (flush->sent.tbl)
		flush->asked_at = 0; /* there may be more */
	flush->committed_at = uv_now(flush->loop);
	if (flush->sealed.is_statement) {
		/* One follows another while there are any: verdicts do not wait for the last of them. */
		flush->kind[0] = '\0';
		flush->empty = false;
		flush->statement_trouble[0] = '\0';
	} else {
		rest(flush);
		flush_in_time(flush);
	}
	flush_drop_made(flush);
	good(flush);
	if (flush->anchored == 0 || is_over(flush, flush->anchored_at, flush->config->ledger_anchor_ms))
		anchor(flush);
}

static void new_chain(struct flush *flush)
{
	uint8_t chain[SPOOL_CHAIN_LEN];
	char text[UUID_TEXT];

	uuid_random(chain);
	uuid_text(chain, text);
	log_said(LOG_LEVEL_ERROR, FLUSH_ABOUT(flush->chain, flush->sealed.number),
		 "ledger: the database has another batch %" PRIu64 " of chain %s than this spool knows (the spool was "
		 "copied or restored, or the host lost what was not on its disk yet): going on in a new chain, %s",
		 flush->sealed.number, flush->chain, text);
	if (flush->sealed.is_statement)
		spool_unseal(flush->spool);
	spool_new_chain(flush->spool, chain);
	flush->anchored = 0;
	flush->count.chains++;
	flush_drop_made(flush);
}

static void wait_a_while(struct flush *flush)
{
	const struct config *config = flush->config;

	flush->backoff_ms = flush->backoff_ms ? flush->backoff_ms * 2 : config->backoff_min_ms;
	if (flush->backoff_ms > config->backoff_max_ms)
		flush->backoff_ms = config->backoff_max_ms;
	flush->retry_at = uv_now(flush->loop) + flush->backoff_ms;
}

/* The statement cannot be made now: the next one, and rows, go on. */
static void leave_statement(struct flush *flush, const char *line, const char *sqlstate)
{
	if (strcmp(flush->statement_trouble, line) != 0)
		log_said(LOG_LEVEL_ERROR, FLUSH_ABOUT(flush->chain, flush->sealed.number), "ledger: %s of %s of %s: %s",
			 flush->kind, flush->tbl, flush->day, line);
	snprintf(flush->statement_trouble, sizeof(flush->statement_trouble), "%s", line);
	spool_unseal(flush->spool);
	/* What is not as its parts say will not be so later: the others are not held up by it. */
	if (strcmp(sqlstate, "XX001") == 0) {
		flush->skip++;
		flush->asked_at = 0;
	} else {
		flush->skip = 0;
	}
	flush->kind[0] = '\0';
}

static void failed(struct flush *flush, enum ledger_outcome outcome, const char *line, const char *sqlstate)
{
	flush->count.failures++;
	flush->count.retries += outcome == LEDGER_LOST;
	if (outcome == LEDGER_FAILED && flush->sent.tbl) {
		leave_statement(flush, line, sqlstate);
		return;
	}
	/* A statement that may be there is asked about; what it was is not known any more. */
	if (flush->sealed.is_statement)
		flush->kind[0] = '\0';
	/* What the session itself lost or did not get, it logs. */
	if (outcome == LEDGER_FAILED && strcmp(flush->trouble, line) != 0)
		log_said(LOG_LEVEL_ERROR, FLUSH_ABOUT(flush->chain, flush->sealed.number),
			 "ledger: verdicts do not come into the database, and stay in the spool: %s", line);
	snprintf(flush->trouble, sizeof(flush->trouble), "%s", line);
	if (outcome != LEDGER_FAILED)
		return;
	if (strcmp(sqlstate, LEDGER_TIMED_OUT) == 0)
		flush_too_slow(flush);
	wait_a_while(flush);
}

/* ---- what the session says ---- */

static bool on_begun(void *data, enum ledger_known known, uint64_t last_batch, const uint8_t *last_head)
{
	static const uint8_t none[SPOOL_HEAD_LEN];
	struct flush *flush = data;
	const uint8_t *tried = spool_tried(flush->spool);
	bool is_old_statement = flush->sealed.is_statement && !flush->kind[0] && !flush->empty;

	flush->fate = FLUSH_SEND;
	if (known == LEDGER_DONE) {
		bool ours = last_batch == flush->sealed.number && memcmp(tried, none, sizeof(none)) != 0 &&
			    memcmp(tried, last_head, SPOOL_HEAD_LEN) == 0;

		flush->fate = ours ? FLUSH_RELEASE : FLUSH_NEW_CHAIN;
	} else if (known == LEDGER_GO && memcmp(last_head, spool_head(flush->spool), SPOOL_HEAD_LEN) != 0) {
		flush->fate = FLUSH_NEW_CHAIN;
	} else if (is_old_statement) {
		flush->fate = FLUSH_UNSEAL;
	} else if (known == LEDGER_GAP) {
		flush->count.gaps++;
		log_said(LOG_LEVEL_ERROR, FLUSH_ABOUT(flush->chain, last_batch),
			 "ledger: the database has batches of chain %s only up to %" PRIu64 ", and had them up to "
			 "%" PRIu64 ": it has lost history; going on, and apikeyctl audit verify shows the gap",
			 flush->chain, last_batch, flush->sealed.number - 1);
	}
	flush->begun = flush->fate == FLUSH_SEND;
	return flush->begun;
}

static bool on_head(void *data, uint64_t seals, const uint8_t *seals_digest, uint8_t *ret_head)
{
	struct flush *flush = data;
	const struct batch_head head = {.chain = flush->chain,
					.number = flush->sealed.number,
					.kind = "rows",
					.made_at = flush->sealed.made_at,
					.rows = flush->sent.rows,
					.lost = flush->sealed.lost,
					.pepper = flush->sent.pepper,
					.prev_head = flush->prev_head,
					.seals = seals,
					.seals_digest = seals_digest};

	return batch_head(&head, flush->batch.parts, flush->made ? flush->batch.part_count : 0, ret_head);
}

static bool on_tried(void *data, const uint8_t *head, uint64_t seals, uint8_t *ret_mac)
{
	struct flush *flush = data;

	flush->seals = seals;
	if (!secret_ledger_mac(flush->secret, flush->sent.pepper, head, ret_mac))
		return false;
	spool_try(flush->spool, head);
	return true;
}

static void on_due(void *data, const char *kind, const char *tbl, const char *day)
{
	struct flush *flush = data;

	if (flush->due++ != flush->skip)
		return;
	flush->empty = strcmp(kind, "rows") == 0;
	snprintf(flush->kind, sizeof(flush->kind), "%s", flush->empty ? "" : kind);
	snprintf(flush->tbl, sizeof(flush->tbl), "%s", tbl);
	snprintf(flush->day, sizeof(flush->day), "%s", day);
}

static void batch_ended(struct flush *flush, enum ledger_outcome outcome, const char *line, const char *sqlstate)
{
	switch (outcome) {
	case LEDGER_COMMITTED:
		flush->count.seals += flush->seals;
		release(flush);
		break;
	case LEDGER_LEFT:
		if (flush->fate == FLUSH_RELEASE)
			release(flush);
		else if (flush->fate == FLUSH_UNSEAL)
			spool_unseal(flush->spool);
		else
			new_chain(flush);
		break;
	default:
		failed(flush, outcome, line, sqlstate);
		break;
	}
}

static void on_ended(void *data, enum ledger_outcome outcome, const char *line, const char *sqlstate)
{
	struct flush *flush = data;
	enum flush_doing doing = flush->doing;

	flush->doing = FLUSH_IDLE;
	if (doing == FLUSH_SENDING) {
		batch_ended(flush, outcome, line, sqlstate);
	} else {
		flush->asked_at = uv_now(flush->loop);
		/* All that was due has been passed over: from the first again, another time. */
		if (flush->skip >= flush->due)
			flush->skip = 0;
		if (outcome == LEDGER_FAILED && strcmp(flush->trouble, line) != 0)
			log_warning("ledger: cannot ask what is due: %s", line);
		if (outcome == LEDGER_COMMITTED)
			good(flush);
		else
			snprintf(flush->trouble, sizeof(flush->trouble), "%s", line);
	}
	next(flush);
}

/* ---- making, sending ---- */

/* On a thread. The batch is sealed: nobody changes it. */
static void on_work(uv_work_t *work)
{
	struct flush *flush = work->data;

	flush->work_result = batch_make(flush->spool, &flush->sealed, &flush->batch);
}

static void close_if_idle(struct flush *flush);

static void on_worked(uv_work_t *work, int status)
{
	struct flush *flush = work->data;

	flush->working = false;
	flush->doing = FLUSH_IDLE;
	if (status == 0 && flush->work_result == 0) {
		flush->made = true;
		flush->parts = batch_parts_json(flush->batch.parts, flush->batch.part_count);
	}
	if (!flush->closed && !flush->parts) {
		log_error("ledger: no memory for a batch");
		flush_drop_made(flush);
		wait_a_while(flush);
	}
	if (flush->closed)
		close_if_idle(flush);
	else
		next(flush);
}

static void make(struct flush *flush)
{
	flush->work.data = flush;
	if (uv_queue_work(flush->loop, &flush->work, on_work, on_worked) != 0)
		return;
	flush->working = true;
	flush->doing = FLUSH_MAKING;
}

static void send_batch(struct flush *flush)
{
	struct ledger_batch *sent = &flush->sent;
	bool takes = flush->sealed.is_statement && flush->kind[0];

	uuid_text(spool_chain(flush->spool), flush->chain);
	memcpy(flush->prev_head, spool_head(flush->spool), sizeof(flush->prev_head));
	*sent = (struct ledger_batch){.chain = flush->chain,
				      .host = flush->host,
				      .number = flush->sealed.number,
				      .kind = takes ? flush->kind : "rows",
				      .made_at = flush->sealed.made_at,
				      .lost = flush->sealed.lost,
				      .pepper = secret_newest(flush->secret),
				      .prev_head = flush->prev_head,
				      /* Taking a whole partition away may take as long as a load. */
				      .timeout_ms = takes ? flush->config->load_timeout_ms : flush_timeout_ms(flush),
				      .parts = flush->parts ? flush->parts : "[]"};
	if (takes) {
		sent->tbl = flush->tbl;
		sent->day = flush->day;
	} else if (flush->made) {
		sent->rows = flush->batch.rows;
		sent->rollups = flush->batch.rollups.data;
		sent->rollups_len = flush->batch.rollups.len;
		sent->events = flush->batch.events.data;
		sent->events_len = flush->batch.events.len;
		if (flush->batch.first_day <= flush->batch.last_day) {
			batch_day_text(flush->batch.first_day, flush->first_day);
			batch_day_text(flush->batch.last_day, flush->last_day);
			sent->first_day = flush->first_day;
			sent->last_day = flush->last_day;
		}
	}
	flush->seals = 0;
	flush->begun = false;
	flush->doing = FLUSH_SENDING;
	ledger_send(flush->ledger, sent);
}

/*
 * How long roll-ups count on before they are sent. Each time costs a row for each that is met again, in the database for
 * good: where there are few, they come soon; where there are many, once a minute.
 */
static uint64_t wait_ms(const struct flush *flush, uint64_t open)
{
	uint64_t least = flush->config->ledger_flush_ms, ms = least + least * open / PACE;

	return ms <= WAIT_MS ? ms : least > WAIT_MS ? least : WAIT_MS;
}

/* Whether records are to be sealed now. All that there were when it was time are; then it is time again from then on. */
static bool is_time(struct flush *flush)
{
	uint64_t from = spool_open_from(flush->spool), end = spool_end(flush->spool);

	/* A spool that fills is not left to wait for its time. */
	if (flush->stopping || end - from >= spool_capacity(flush->spool) / 2)
		return true;
	if (from < flush->due_end)
		return uv_now(flush->loop) >= flush->rest_until;
	if (!is_over(flush, flush->flushed_at, wait_ms(flush, end - from)))
		return false;
	flush->due_end = end;
	flush->flushed_at = uv_now(flush->loop);
	return true;
}

/* Whether there is something to send, seals it, and sends it or has it made. */
static bool advance(struct flush *flush)
{
	if (!spool_sealed(flush->spool, &flush->sealed)) {
		if (is_time(flush) && spool_seal(flush->spool, database_now(flush), flush_rows(flush), SPAN_PARTS)) {
			flush->sealed_at = uv_now(flush->loop);
			flush_drop_made(flush);
		} else if (flush->stopping || (!flush->kind[0] && !flush->empty) ||
			   !spool_seal_statement(flush->spool, database_now(flush))) {
			return false;
		}
		flush->unsynced = true;
		spool_sealed(flush->spool, &flush->sealed);
	}
	if (!flush->sealed.is_statement && !flush->made)
		make(flush);
	else
		send_batch(flush);
	return true;
}

static void finish(struct flush *flush);

/* Nothing is under way: what comes next? */
static void next(struct flush *flush)
{
	uint64_t now = uv_now(flush->loop);

	if (!flush->started || flush->closed || flush->doing != FLUSH_IDLE)
		return;
	if (flush->stopping && flush->trouble[0]) {
		finish(flush); /* trying again would be waiting */
		return;
	}
	if (flush->retry_at > now)
		return;
	if (advance(flush))
		return;
	if (flush->stopping) {
		finish(flush);
		return;
	}
	if (is_over(flush, flush->asked_at, ASK_MS) && flush->mirror->copy) {
		flush->doing = FLUSH_ASKING;
		flush->due = 0;
		ledger_ask(flush->ledger);
	} else if (flush->anchored && is_over(flush, flush->committed_at, flush->config->ledger_anchor_ms)) {
		/* For what was administered meanwhile, and so that the end of the chain is known. */
		flush->empty = true;
		advance(flush);
	}
}

/* ---- the disk ---- */

static void on_sync(uv_work_t *work)
{
	struct flush *flush = work->data;

	flush->sync_result = spool_sync(flush->spool);
}

static void on_synced(uv_work_t *work, int status)
{
	struct flush *flush = work->data;

	flush->syncing = false;
	flush->count.syncs++;
	if (status == 0 && flush->sync_result < 0) {
		if (flush->count.sync_failures++ == 0)
			log_error(
				"ledger: the spool cannot be written to the disk: %s; it is still in memory, which the loss "
				"of the host would lose",
				strerror(-flush->sync_result));
	}
	if (flush->closed)
		close_if_idle(flush);
}

static void sync_if_due(struct flush *flush)
{
	uint32_t ms = flush->config->ledger_sync_ms;

	if (ms == 0 || flush->syncing || spool_in_memory(flush->spool) || !is_over(flush, flush->synced_at, ms))
		return;
	/* Where nothing is in it there is nothing to lose. */
	if (!flush->unsynced && spool_used(flush->spool) == 0)
		return;
	flush->sync.data = flush;
	if (uv_queue_work(flush->loop, &flush->sync, on_sync, on_synced) != 0)
		return;
	flush->syncing = true;
	flush->unsynced = false;
	flush->synced_at = uv_now(flush->loop);
}

/* ---- what finds no room ---- */

#define LOST(count) (const struct log_field[]){log_number(LOG_LOST, (count))}, 1

/* Told when it begins and when it is over. */
static void tell_lost(struct flush *flush)
{
	uint64_t lost = spool_lost(flush->spool);

	if (lost != flush->lost_seen && !flush->losing) {
		flush->losing = true;
		log_error(
			"ledger: the spool is full: verdicts find no room, of which only the number is known; mend what "
			"keeps them from the database, or raise [ledger] spool_bytes");
	} else if (lost == flush->lost_seen && flush->losing &&
		   spool_room(flush->spool) > spool_capacity(flush->spool) / 2) {
		flush->losing = false;
		log_said(LOG_LEVEL_WARNING, LOST(lost - flush->lost_before),
			 "ledger: the spool has room again; %" PRIu64 " verdicts found none",
			 lost - flush->lost_before);
		flush->lost_before = lost;
	}
	flush->lost_seen = lost;
}

static void on_tick(uv_timer_t *timer)
{
	struct flush *flush = timer->data;

	tell_lost(flush);
	sync_if_due(flush);
	next(flush);
}

/* ---- life ---- */

struct flush *flush_new(uv_loop_t *loop, const struct config *config, const struct secret *secret,
			struct mirror *mirror, struct spool *spool, const struct rollup *rollup)
{
	struct flush *flush = calloc(1, sizeof(*flush));
	struct ledger_callbacks callbacks = {
		.begun = on_begun, .head = on_head, .tried = on_tried, .due = on_due, .ended = on_ended, .data = flush};

	if (!flush)
		return NULL;
	flush->ledger = ledger_new(loop, config, &callbacks);
	if (!flush->ledger) {
		free(flush);
		return NULL;
	}
	flush->loop = loop;
	flush->config = config;
	flush->secret = secret;
	flush->mirror = mirror;
	flush->spool = spool;
	flush->rollup = rollup;
	if (gethostname(flush->host, sizeof(flush->host) - 1) != 0)
		flush->host[0] = '\0';
	uv_timer_init(loop, &flush->tick);
	uv_timer_init(loop, &flush->stop_timer);
	flush->tick.data = flush->stop_timer.data = flush;
	return flush;
}

static void set_tick(struct flush *flush)
{
	uint64_t ms = flush->config->ledger_flush_ms < TICK_MS ? flush->config->ledger_flush_ms : TICK_MS;

	uv_timer_start(&flush->tick, on_tick, ms, ms);
}

void flush_start(struct flush *flush)
{
	if (spool_in_memory(flush->spool))
		log_warning(
			"ledger: [state] directory is empty: verdicts that are not yet in the database are lost where the "
			"daemon ends");
	if (spool_damaged(flush->spool))
		log_said(LOG_LEVEL_ERROR, LOST(spool_damaged(flush->spool)),
			 "ledger: %" PRIu64
			 " records of the spool are damaged, and left out: the host lost what was not on "
			 "its disk yet",
			 spool_damaged(flush->spool));
	if (spool_unsized(flush->spool))
		log_error("ledger: there is no room for a spool of [ledger] spool_bytes = %" PRIu64
			  ": %s; going on with the "
			  "one that is there, of %" PRIu64
			  " records: make room, and restart, or set the size from before",
			  (uint64_t)flush->config->ledger_spool_bytes, strerror(-spool_unsized(flush->spool)),
			  spool_capacity(flush->spool));
	if (spool_used(flush->spool))
		log_info("ledger: %" PRIu64 " records wait in the spool for the database", spool_used(flush->spool));
	flush->lost_seen = flush->lost_before = spool_lost(flush->spool);
	flush->started = true;
	flush->flushed_at = uv_now(flush->loop);
	set_tick(flush);
}

void flush_reconfigure(struct flush *flush, const struct config *config, const struct secret *secret)
{
	flush->config = config;
	flush->secret = secret;
	if (flush->closed)
		return;
	ledger_reconfigure(flush->ledger, config);
	set_tick(flush);
}

/* ---- stop ---- */

static void let_go(struct flush *flush)
{
	if (--flush->closing == 0)
		flush->stopped(flush->stopped_data);
}

static void on_handle_closed(uv_handle_t *handle)
{
	let_go(handle->data);
}

static void on_ledger_closed(void *data)
{
	let_go(data);
}

/* What runs on a thread is waited for; then the last sync; then all is closed. */
static void close_if_idle(struct flush *flush)
{
	if (flush->working || flush->syncing)
		return;
	flush->closing = 3;
	uv_close((uv_handle_t *)&flush->tick, on_handle_closed);
	uv_close((uv_handle_t *)&flush->stop_timer, on_handle_closed);
	ledger_close(flush->ledger, on_ledger_closed);
}

static void finish(struct flush *flush)
{
	uint64_t left = spool_used(flush->spool);

	if (flush->closed)
		return;
	flush->closed = true;
	uv_timer_stop(&flush->tick);
	uv_timer_stop(&flush->stop_timer);
	anchor(flush);
	if (left > 0 && spool_in_memory(flush->spool))
		log_said(LOG_LEVEL_ERROR, LOST(left),
			 "ledger: %" PRIu64
			 " records of verdicts are lost, which did not come into the database: a [state] "
			 "directory keeps them for the next start",
			 left);
	else if (left > 0)
		log_info("ledger: %" PRIu64 " records stay in the spool until the next start", left);
	flush->synced_at = 0;
	flush->unsynced = true;
	sync_if_due(flush);
	close_if_idle(flush);
}

static void on_stop_timer(uv_timer_t *timer)
{
	finish(timer->data);
}

void flush_stop(struct flush *flush, uint32_t ms, void (*stopped)(void *data), void *data)
{
	bool away = flush->trouble[0] && !ledger_is_up(flush->ledger);

	flush->stopping = true;
	flush->started = true;
	/* One more attempt, where it may be of use. */
	if (!away)
		flush->trouble[0] = '\0';
	flush->stopped = stopped;
	flush->stopped_data = data;
	flush->retry_at = 0;
	uv_timer_start(&flush->stop_timer, on_stop_timer, away ? 0 : ms, 0);
	/* From the loop, so that `stopped` does not come from in here. */
	uv_timer_start(&flush->tick, on_tick, 0, TICK_MS);
}

void flush_hurry(struct flush *flush)
{
	if (flush->stopping && !flush->closed)
		uv_timer_start(&flush->stop_timer, on_stop_timer, 0, 0);
}

void flush_free(struct flush *flush)
{
	if (!flush)
		return;
	ledger_free(flush->ledger);
	flush_drop_made(flush);
	free(flush);
}
