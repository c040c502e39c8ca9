#include "daemon/postgres/ledger.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/log.h"
#include "daemon/postgres/connection.h"
#include "daemon/secret.h"

enum { LEDGER_GRACE_MS = 1000, LEDGER_CHUNK = 65536, LEDGER_SEALS = 10000, LEDGER_PARAMS_MAX = 16 };

enum ledger_step {
	LEDGER_STEP_NONE = 0,
	LEDGER_STEP_AHEAD, /* outside of the transaction */
	LEDGER_STEP_BEGIN,
	LEDGER_STEP_CHAIN,
	LEDGER_STEP_ROLLUPS,
	LEDGER_STEP_EVENTS,
	LEDGER_STEP_TAKE, /* compaction, pruning */
	LEDGER_STEP_SEAL,
	LEDGER_STEP_HEAD, /* of these: the database's */
	LEDGER_STEP_CLOSE,
	LEDGER_STEP_COMMIT,
	LEDGER_STEP_ROLLBACK,
	LEDGER_STEP_DUE,
};

static const char copy_rollups[] =
	"COPY apikeyd.ledger_rollup (chain, batch, n, minute, verdict, reason, stack, caller_uid, key_id, scope, page, "
	"addr, count, first_at, last_at) FROM STDIN";
static const char copy_events[] =
	"COPY apikeyd.ledger_event (chain, batch, n, at, verdict, reason, method, stack, caller_uid, key_id, scope, page, "
	"org, addr, rev, age_ms, stale, explain) FROM STDIN";

struct ledger {
	uv_loop_t *loop;
	const struct config *config;
	struct ledger_callbacks callbacks;
	struct connection *link;
	uv_timer_t watch;
	unsigned closing;
	void (*closed)(void *data);

	bool up, renew, failed; /* failed: the last attempt did, so that the next one waits */
	bool active, asks;
	const struct ledger_batch *batch; /* NULL: asks */
	enum ledger_step step;
	bool in_transaction, left;
	char first_day[16], last_day[16]; /* for these days partitions were made in this session */
	char line[512], sqlstate[8];	  /* what failed */

	/* of the batch under way */
	char *statement, *parts; /* compaction, pruning */
	uint64_t rows, seals;
	uint8_t seals_digest[LEDGER_DIGEST_LEN], head[LEDGER_DIGEST_LEN], mac[LEDGER_DIGEST_LEN];
};

static void ledger_go(struct ledger *ledger, enum ledger_step step);

/* ---- parameters ---- */

struct ledger_params {
	const char *values[LEDGER_PARAMS_MAX];
	char room[LEDGER_PARAMS_MAX][2 * LEDGER_DIGEST_LEN + 3];
	unsigned count;
};

static void ledger_text(struct ledger_params *params, const char *text)
{
	params->values[params->count++] = text;
}

static void ledger_number(struct ledger_params *params, int64_t number)
{
	snprintf(params->room[params->count], sizeof(params->room[0]), "%" PRId64, number);
	params->values[params->count] = params->room[params->count];
	params->count++;
}

static void ledger_bytes(struct ledger_params *params, const uint8_t *bytes)
{
	char *at = params->room[params->count];

	at += sprintf(at, "\\x");
	for (unsigned i = 0; i < LEDGER_DIGEST_LEN; i++)
		at += sprintf(at, "%02x", bytes[i]);
	params->values[params->count] = params->room[params->count];
	params->count++;
}

static bool ledger_read_bytes(const char *text, uint8_t *ret)
{
	return strncmp(text, "\\x", 2) == 0 && secret_from_hex(text + 2, strlen(text + 2), ret, LEDGER_DIGEST_LEN);
}

/* ---- ends ---- */

static void ledger_forget(struct ledger *ledger)
{
	free(ledger->statement);
	free(ledger->parts);
	ledger->statement = ledger->parts = NULL;
	ledger->active = ledger->in_transaction = ledger->left = false;
	ledger->batch = NULL;
	ledger->step = LEDGER_STEP_NONE;
}

static void ledger_end(struct ledger *ledger, enum ledger_outcome outcome)
{
	char line[512], sqlstate[8];

	snprintf(line, sizeof(line), "%s", ledger->line);
	snprintf(sqlstate, sizeof(sqlstate), "%s", ledger->sqlstate);
	uv_timer_stop(&ledger->watch);
	ledger_forget(ledger);
	ledger->line[0] = ledger->sqlstate[0] = '\0';
	ledger->callbacks.ended(ledger->callbacks.data, outcome, line, sqlstate);
}

/* It is not to be, or cannot be: back to before it. */
static void ledger_give_up(struct ledger *ledger)
{
	if (ledger->in_transaction)
		ledger_go(ledger, LEDGER_STEP_ROLLBACK);
	else
		ledger_end(ledger, ledger->left ? LEDGER_LEFT : LEDGER_FAILED);
}

static void ledger_fail(struct ledger *ledger, const char *line)
{
	if (!ledger->line[0])
		snprintf(ledger->line, sizeof(ledger->line), "%s", line);
}

static void ledger_fail_result(struct ledger *ledger, const PGresult *result)
{
	const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	char line[400];

	connection_result_line(result, line, sizeof(line));
	ledger_fail(ledger, line);
	snprintf(ledger->sqlstate, sizeof(ledger->sqlstate), "%s", sqlstate ? sqlstate : "");
	/* A partition may have gone since it was made. */
	ledger->first_day[0] = ledger->last_day[0] = '\0';
}

/* ---- steps: sent ---- */

static int ledger_query(struct ledger *ledger, const char *sql, const struct ledger_params *params)
{
	return PQsendQueryParams(connection_pq(ledger->link), sql, (int)params->count, NULL, params->values, NULL, NULL,
				 0);
}

static int ledger_send_begin(struct ledger *ledger)
{
	char sql[96] = "BEGIN";

	if (ledger->batch->timeout_ms > ledger->config->statement_timeout_ms)
		snprintf(sql, sizeof(sql), "BEGIN; SET LOCAL statement_timeout = %u", ledger->batch->timeout_ms);
	return PQsendQuery(connection_pq(ledger->link), sql);
}

static int ledger_send_head(struct ledger *ledger)
{
	const struct ledger_batch *batch = ledger->batch;
	struct ledger_params params = {.count = 0};

	ledger_text(&params, batch->chain);
	ledger_number(&params, (int64_t)batch->number);
	ledger_text(&params, batch->kind);
	ledger_number(&params, batch->made_at);
	ledger_number(&params, (int64_t)ledger->rows);
	ledger_number(&params, (int64_t)batch->lost);
	ledger_text(&params, ledger->statement);
	ledger_number(&params, batch->pepper);
	ledger_bytes(&params, batch->prev_head);
	ledger_number(&params, (int64_t)ledger->seals);
	ledger_bytes(&params, ledger->seals_digest);
	ledger_text(&params, ledger->parts);
	return ledger_query(ledger, "SELECT apikeyd.ledger_head($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
			    &params);
}

static int ledger_send_close(struct ledger *ledger)
{
	const struct ledger_batch *batch = ledger->batch;
	struct ledger_params params = {.count = 0};

	ledger_text(&params, batch->chain);
	ledger_number(&params, (int64_t)batch->number);
	ledger_text(&params, batch->kind);
	ledger_number(&params, batch->made_at);
	ledger_number(&params, (int64_t)ledger->rows);
	ledger_number(&params, (int64_t)batch->lost);
	ledger_text(&params, ledger->statement);
	ledger_number(&params, batch->pepper);
	ledger_bytes(&params, batch->prev_head);
	ledger_text(&params, ledger->parts ? ledger->parts : batch->parts);
	ledger_number(&params, (int64_t)ledger->seals);
	ledger_bytes(&params, ledger->head);
	ledger_bytes(&params, ledger->mac);
	return ledger_query(
		ledger, "SELECT apikeyd.ledger_close($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)", &params);
}

static int ledger_send_step(struct ledger *ledger)
{
	const struct ledger_batch *batch = ledger->batch;
	PGconn *pq = connection_pq(ledger->link);
	struct ledger_params params = {.count = 0};

	if (!batch && ledger->step != LEDGER_STEP_AHEAD && ledger->step != LEDGER_STEP_DUE)
		return 0; /* without a batch nothing else is asked */
	switch (ledger->step) {
	case LEDGER_STEP_AHEAD:
		ledger_text(&params, batch ? batch->first_day : NULL);
		ledger_text(&params, batch ? batch->last_day : NULL);
		return ledger_query(ledger, "SELECT apikeyd.ledger_ahead($1, $2)", &params);
	case LEDGER_STEP_BEGIN:
		return ledger_send_begin(ledger);
	case LEDGER_STEP_CHAIN:
		ledger_text(&params, batch->chain);
		ledger_text(&params, batch->host);
		ledger_number(&params, (int64_t)batch->number);
		return ledger_query(ledger, "SELECT state, last_batch, last_head FROM apikeyd.ledger_begin($1, $2, $3)",
				    &params);
	case LEDGER_STEP_ROLLUPS:
		return PQsendQuery(pq, copy_rollups);
	case LEDGER_STEP_EVENTS:
		return PQsendQuery(pq, copy_events);
	case LEDGER_STEP_TAKE:
		ledger_text(&params, batch->chain);
		ledger_number(&params, (int64_t)batch->number);
		ledger_text(&params, batch->tbl);
		ledger_text(&params, batch->day);
		return ledger_query(
			ledger,
			strcmp(batch->kind, "compaction") == 0
				? "SELECT statement, rows, parts FROM apikeyd.ledger_compact($1, $2, $3, $4)"
				: "SELECT statement, rows, parts FROM apikeyd.ledger_prune($1, $2, $3, $4)",
			&params);
	case LEDGER_STEP_SEAL:
		ledger_text(&params, batch->chain);
		ledger_number(&params, (int64_t)batch->number);
		ledger_number(&params, LEDGER_SEALS);
		return ledger_query(ledger, "SELECT seals, seals_digest FROM apikeyd.ledger_seal($1, $2, $3)", &params);
	case LEDGER_STEP_HEAD:
		return ledger_send_head(ledger);
	case LEDGER_STEP_CLOSE:
		return ledger_send_close(ledger);
	case LEDGER_STEP_COMMIT:
		return PQsendQuery(pq, "COMMIT");
	case LEDGER_STEP_ROLLBACK:
		return PQsendQuery(pq, "ROLLBACK");
	case LEDGER_STEP_DUE:
		return PQsendQuery(pq, "SELECT kind, tbl, day FROM apikeyd.ledger_due()");
	default:
		return 0;
	}
}

static void ledger_on_watch(uv_timer_t *timer)
{
	struct ledger *ledger = timer->data;

	connection_fail(ledger->link, "no answer within twice the timeout of a statement");
}

static void ledger_go(struct ledger *ledger, enum ledger_step step)
{
	uint64_t ms = ledger->config->statement_timeout_ms;

	if (ledger->batch && ledger->batch->timeout_ms > ms)
		ms = ledger->batch->timeout_ms;
	ledger->step = step;
	if (!ledger_send_step(ledger)) {
		connection_fail_libpq(ledger->link, "cannot send");
		return;
	}
	uv_timer_start(&ledger->watch, ledger_on_watch, 2 * ms + LEDGER_GRACE_MS, 0);
	connection_flush(ledger->link);
}

/* ---- steps: answered ---- */

static bool ledger_chain_answered(struct ledger *ledger, const PGresult *result)
{
	const char *state = PQgetvalue(result, 0, 0);
	enum ledger_known known = strcmp(state, "go") == 0     ? LEDGER_GO
				  : strcmp(state, "done") == 0 ? LEDGER_DONE
							       : LEDGER_GAP;
	uint8_t last_head[LEDGER_DIGEST_LEN];

	if (!ledger_read_bytes(PQgetvalue(result, 0, 2), last_head))
		return false;
	ledger->left = !ledger->callbacks.begun(ledger->callbacks.data, known,
						strtoull(PQgetvalue(result, 0, 1), NULL, 10), last_head);
	return true;
}

static bool ledger_taken(struct ledger *ledger, const PGresult *result)
{
	ledger->statement = strdup(PQgetvalue(result, 0, 0));
	ledger->rows = strtoull(PQgetvalue(result, 0, 1), NULL, 10);
	ledger->parts = strdup(PQgetvalue(result, 0, 2));
	return ledger->statement && ledger->parts;
}

/* What the row says of this step. False: it is no answer. */
static bool ledger_row(struct ledger *ledger, const PGresult *result)
{
	if (ledger->step == LEDGER_STEP_DUE) {
		for (int i = 0; i < PQntuples(result); i++)
			ledger->callbacks.due(ledger->callbacks.data, PQgetvalue(result, i, 0),
					      PQgetvalue(result, i, 1), PQgetvalue(result, i, 2));
		return true;
	}
	if (PQntuples(result) != 1)
		return false;
	switch (ledger->step) {
	case LEDGER_STEP_CHAIN:
		return ledger_chain_answered(ledger, result);
	case LEDGER_STEP_TAKE:
		return ledger_taken(ledger, result);
	case LEDGER_STEP_SEAL:
		ledger->seals = strtoull(PQgetvalue(result, 0, 0), NULL, 10);
		return ledger_read_bytes(PQgetvalue(result, 0, 1), ledger->seals_digest);
	case LEDGER_STEP_HEAD:
		return ledger_read_bytes(PQgetvalue(result, 0, 0), ledger->head);
	default:
		return true;
	}
}

/* The head is known: the rest is to write it down. */
static void ledger_go_close(struct ledger *ledger)
{
	struct ledger_callbacks *callbacks = &ledger->callbacks;

	if (ledger->batch->tbl || callbacks->head(callbacks->data, ledger->seals, ledger->seals_digest, ledger->head)) {
		if (callbacks->tried(callbacks->data, ledger->head, ledger->seals, ledger->mac)) {
			ledger_go(ledger, LEDGER_STEP_CLOSE);
			return;
		}
	}
	ledger_fail(ledger, "no memory, or no pepper, for the head of a batch");
	ledger_give_up(ledger);
}

/* From one step, which went well, to the next. */
static void ledger_go_on(struct ledger *ledger)
{
	const struct ledger_batch *batch = ledger->batch;

	switch (ledger->step) {
	case LEDGER_STEP_AHEAD:
		if (batch) {
			snprintf(ledger->first_day, sizeof(ledger->first_day), "%s", batch->first_day);
			snprintf(ledger->last_day, sizeof(ledger->last_day), "%s", batch->last_day);
		}
		ledger_go(ledger, batch ? LEDGER_STEP_BEGIN : LEDGER_STEP_DUE);
		break;
	case LEDGER_STEP_BEGIN:
		ledger->in_transaction = true;
		ledger_go(ledger, LEDGER_STEP_CHAIN);
		break;
	case LEDGER_STEP_CHAIN:
		if (ledger->left)
			ledger_go(ledger, LEDGER_STEP_ROLLBACK);
		else
			ledger_go(ledger, batch->tbl	       ? LEDGER_STEP_TAKE
					  : batch->rollups_len ? LEDGER_STEP_ROLLUPS
					  : batch->events_len  ? LEDGER_STEP_EVENTS
							       : LEDGER_STEP_SEAL);
		break;
	case LEDGER_STEP_ROLLUPS:
		ledger_go(ledger, batch->events_len ? LEDGER_STEP_EVENTS : LEDGER_STEP_SEAL);
		break;
	case LEDGER_STEP_EVENTS:
	case LEDGER_STEP_TAKE:
		ledger_go(ledger, LEDGER_STEP_SEAL);
		break;
	case LEDGER_STEP_SEAL:
		if (batch->tbl)
			ledger_go(ledger, LEDGER_STEP_HEAD);
		else
			ledger_go_close(ledger);
		break;
	case LEDGER_STEP_HEAD:
		ledger_go_close(ledger);
		break;
	case LEDGER_STEP_CLOSE:
		ledger_go(ledger, LEDGER_STEP_COMMIT);
		break;
	case LEDGER_STEP_ROLLBACK:
		ledger_end(ledger, ledger->left ? LEDGER_LEFT : LEDGER_FAILED);
		break;
	default:
		ledger_end(ledger, LEDGER_COMMITTED);
		break;
	}
}

/* The server takes rows: it gets all of them, and libpq keeps what the socket does not take yet. */
static bool ledger_copy(struct ledger *ledger)
{
	bool rollups = ledger->step == LEDGER_STEP_ROLLUPS;
	const char *data = rollups ? ledger->batch->rollups : ledger->batch->events;
	size_t len = rollups ? ledger->batch->rollups_len : ledger->batch->events_len;
	PGconn *pq = connection_pq(ledger->link);

	while (len > 0) {
		size_t n = len < LEDGER_CHUNK ? len : LEDGER_CHUNK;

		if (PQputCopyData(pq, data, (int)n) != 1)
			return false;
		data += n;
		len -= n;
	}
	if (PQputCopyEnd(pq, NULL) != 1)
		return false;
	connection_flush(ledger->link);
	return true;
}

/* False: the connection has failed. */
static bool ledger_result(struct ledger *ledger, PGresult *result)
{
	switch (PQresultStatus(result)) {
	case PGRES_COPY_IN:
		if (ledger_copy(ledger))
			return true;
		connection_fail_libpq(ledger->link, "cannot send rows");
		return false;
	case PGRES_TUPLES_OK:
		if (!ledger_row(ledger, result))
			ledger_fail(ledger, "the database gave an answer that is none");
		return true;
	case PGRES_COMMAND_OK:
		if (ledger->step == LEDGER_STEP_COMMIT && strcmp(PQcmdStatus(result), "COMMIT") != 0)
			ledger_fail(ledger, "the transaction was rolled back");
		return true;
	default:
		ledger_fail_result(ledger, result);
		return true;
	}
}

/* All of a step was answered. */
static void ledger_stepped(struct ledger *ledger)
{
	if (!ledger->line[0] || ledger->step == LEDGER_STEP_ROLLBACK) {
		ledger_go_on(ledger);
		return;
	}
	/* What COMMIT refuses is rolled back already. */
	if (ledger->step == LEDGER_STEP_COMMIT || ledger->step == LEDGER_STEP_BEGIN)
		ledger->in_transaction = ledger->step == LEDGER_STEP_BEGIN;
	ledger_give_up(ledger);
}

static void ledger_on_io(void *data)
{
	struct ledger *ledger = data;
	PGconn *pq;

	while ((pq = connection_pq(ledger->link)) && ledger->step != LEDGER_STEP_NONE && !PQisBusy(pq)) {
		PGresult *result = PQgetResult(pq);
		bool copying = PQresultStatus(result) == PGRES_COPY_IN, good = true;

		if (result)
			good = ledger_result(ledger, result);
		else
			ledger_stepped(ledger);
		PQclear(result);
		/* Until the server has taken the rows there is nothing to read. */
		if (!good || copying)
			return;
	}
}

/* ---- the session ---- */

static bool ledger_needs_days(const struct ledger *ledger)
{
	const struct ledger_batch *batch = ledger->batch;

	return batch->first_day && (!ledger->first_day[0] || strcmp(batch->first_day, ledger->first_day) < 0 ||
				    strcmp(batch->last_day, ledger->last_day) > 0);
}

static void ledger_start(struct ledger *ledger)
{
	/* What is written to a primary that was deposed would be lost. */
	if (ledger->up && (ledger->renew || connection_is_deposed(ledger->link))) {
		connection_disconnect(ledger->link);
		ledger->up = false;
	}
	if (!ledger->up) {
		if (connection_is_busy(ledger->link))
			return;
		if (ledger->failed)
			connection_retry(ledger->link);
		else
			connection_open(ledger->link, 0);
		return;
	}
	ledger->rows = ledger->batch ? ledger->batch->rows : 0;
	ledger_go(ledger, !ledger->batch || ledger_needs_days(ledger) ? LEDGER_STEP_AHEAD : LEDGER_STEP_BEGIN);
}

static void ledger_on_up(void *data)
{
	struct ledger *ledger = data;

	connection_settle(ledger->link);
	ledger->up = true;
	ledger->renew = ledger->failed = false;
	ledger->first_day[0] = ledger->last_day[0] = '\0';
	if (ledger->active)
		ledger_start(ledger);
}

static void ledger_on_failed(void *data, const char *line)
{
	struct ledger *ledger = data;

	ledger->up = false;
	ledger->failed = true;
	ledger->line[0] = '\0';
	if (!ledger->active)
		return;
	ledger_fail(ledger, line);
	ledger_end(ledger, LEDGER_LOST);
}

void ledger_send(struct ledger *ledger, const struct ledger_batch *batch)
{
	ledger->active = true;
	ledger->batch = batch;
	ledger_start(ledger);
}

void ledger_ask(struct ledger *ledger)
{
	ledger->active = true;
	ledger->batch = NULL;
	ledger_start(ledger);
}

bool ledger_is_up(const struct ledger *ledger)
{
	return ledger->up;
}

bool ledger_is_busy(const struct ledger *ledger)
{
	return ledger->active;
}

/* ---- life ---- */

static void ledger_configure(struct ledger *ledger)
{
	const struct config *config = ledger->config;
	struct connection_settings settings = {.name = "ledger",
					       .setting = "database.conninfo",
					       .conninfo = config->conninfo,
					       .role = config->role,
					       .insecure_remote = config->insecure_remote,
					       .connect_timeout_ms = config->connect_timeout_ms,
					       .statement_timeout_ms = config->statement_timeout_ms,
					       .keepalive_ms = config->keepalive_ms,
					       .backoff_min_ms = config->backoff_min_ms,
					       .backoff_max_ms = config->backoff_max_ms};

	if (connection_configure(ledger->link, &settings) < 0)
		log_error("database ledger: no memory");
}

struct ledger *ledger_new(uv_loop_t *loop, const struct config *config, const struct ledger_callbacks *callbacks)
{
	struct ledger *ledger = calloc(1, sizeof(*ledger));
	struct connection_callbacks own = {
		.up = ledger_on_up, .io = ledger_on_io, .failed = ledger_on_failed, .data = ledger};

	if (!ledger)
		return NULL;
	ledger->link = connection_new(loop, &own);
	if (!ledger->link) {
		free(ledger);
		return NULL;
	}
	ledger->loop = loop;
	ledger->config = config;
	ledger->callbacks = *callbacks;
	uv_timer_init(loop, &ledger->watch);
	ledger->watch.data = ledger;
	ledger_configure(ledger);
	return ledger;
}

void ledger_reconfigure(struct ledger *ledger, const struct config *config)
{
	ledger->config = config;
	ledger_configure(ledger);
	ledger->renew = true;
}

static void ledger_let_go(struct ledger *ledger)
{
	if (--ledger->closing == 0)
		ledger->closed(ledger->callbacks.data);
}

static void ledger_on_handle_closed(uv_handle_t *handle)
{
	ledger_let_go(handle->data);
}

static void ledger_on_link_closed(void *data)
{
	ledger_let_go(data);
}

void ledger_close(struct ledger *ledger, void (*closed)(void *data))
{
	ledger_forget(ledger);
	ledger->up = false;
	ledger->closed = closed;
	ledger->closing = 2;
	uv_close((uv_handle_t *)&ledger->watch, ledger_on_handle_closed);
	connection_close(ledger->link, ledger_on_link_closed);
}

void ledger_free(struct ledger *ledger)
{
	if (!ledger)
		return;
	ledger_forget(ledger);
	connection_free(ledger->link);
	free(ledger);
}
