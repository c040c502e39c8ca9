#include "daemon/postgres/writer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/log.h"
#include "daemon/postgres/connection.h"
#include "daemon/postgres/writer_value.h"

enum { WRITER_PARAMS_MAX = 64, WRITER_GRACE_MS = 1000 };

enum writer_step {
	WRITER_STEP_BEGIN = 0,
	WRITER_STEP_ACTOR,
	WRITER_STEP_STATEMENT,
	WRITER_STEP_REVISION,
	WRITER_STEP_SYNC,
	WRITER_STEP_END, /* COMMIT or ROLLBACK */
	WRITER_STEP_END_SYNC,
};

struct writer_job {
	struct writer_job *next;
	const char *sql;
	char *params[WRITER_PARAMS_MAX];
	unsigned param_count;
	bool change, writes;
	bool tried; /* was begun on a session that turned out to be dead */
	char *actor;
	writer_done done;
	void *data;
};

struct writer {
	uv_loop_t *loop;
	const struct config *config;
	struct connection *link;
	bool up;    /* the session is there and in pipeline mode */
	bool renew; /* the settings have changed since */
	bool used;  /* it has done something, so that it may have died since */

	struct writer_job *first, **last, *current;
	unsigned waiting;
	uint8_t steps[8];
	unsigned step_at, step_count;
	bool committing; /* COMMIT was sent */
	PGresult *rows;
	uint64_t rev;
	struct rpc_error error;

	uv_timer_t kick, watch;
	unsigned closing;
	bool stopping, closed;
	void (*stopped)(void *data);
	void *stopped_data;

	struct {
		uint64_t calls, changes, errors, unknown, sessions;
	} count;
};

static void writer_next(struct writer *writer);
static void writer_close(struct writer *writer);

/* ---- jobs ---- */

static void writer_job_free(struct writer_job *job)
{
	for (unsigned i = 0; i < job->param_count; i++) {
		if (job->params[i])
			explicit_bzero(job->params[i], strlen(job->params[i]));
		free(job->params[i]);
	}
	free(job->actor);
	free(job);
}

static struct writer_job *writer_job_new(const struct writer_call *call)
{
	struct writer_job *job = calloc(1, sizeof(*job));
	bool good = job != NULL;

	if (!good)
		return NULL;
	job->sql = call->sql;
	job->change = call->change;
	job->writes = call->writes;
	job->done = call->done;
	job->data = call->data;
	job->actor = strdup(call->actor ? call->actor : "");
	good = job->actor != NULL;
	for (; good && job->param_count < call->param_count; job->param_count++) {
		const char *param = call->params[job->param_count];

		job->params[job->param_count] = param ? strdup(param) : NULL;
		good = !param || job->params[job->param_count];
	}
	if (good)
		return job;
	writer_job_free(job);
	return NULL;
}

/* The job is over: tells its caller. `error` RPC_OK takes the rows that were read. */
static void writer_deliver(struct writer *writer, struct writer_job *job, const struct rpc_error *error, PGresult *rows,
			   uint64_t rev)
{
	struct writer_result result = {.error = *error, .rev = rev};
	struct arena arena = {0};
	struct value list;

	value_list(&list);
	if (error->code == RPC_OK && rows && !writer_value_rows(&arena, rows, &list)) {
		value_list(&list);
		writer_value_fail(&result.error, RPC_INTERNAL,
				  job->change ? "no memory for the answer; the change was made"
					      : "no memory for the answer");
	}
	result.arena = &arena;
	result.rows = &list;
	writer->count.errors += result.error.code != RPC_OK;
	job->done(job->data, &result);
	arena_clear(&arena);
	writer_job_free(job);
}

static void writer_finish(struct writer *writer)
{
	struct writer_job *job = writer->current;
	struct rpc_error error = writer->error;
	PGresult *rows = writer->rows;
	uint64_t rev = error.code == RPC_OK ? writer->rev : 0;

	uv_timer_stop(&writer->watch);
	writer->current = NULL;
	writer->rows = NULL;
	writer->rev = 0;
	writer->error = (struct rpc_error){0};
	writer->committing = false;
	writer->step_at = writer->step_count = 0;
	writer->count.changes += job->change && error.code == RPC_OK;
	writer_deliver(writer, job, &error, rows, rev);
	PQclear(rows);
}

/* Fails all that waits. */
static void writer_fail_waiting(struct writer *writer, const char *line)
{
	struct writer_job *job = writer->first;
	struct rpc_error error;

	writer_value_fail(&error, RPC_UNAVAILABLE, line);
	/* Taken off first: a caller may ask again from its callback. */
	writer->first = NULL;
	writer->last = &writer->first;
	writer->waiting = 0;
	while (job) {
		struct writer_job *next = job->next;

		writer_deliver(writer, job, &error, NULL, 0);
		job = next;
	}
}

static void writer_on_kick(uv_timer_t *timer)
{
	writer_next(timer->data);
}

static void writer_kick(struct writer *writer)
{
	if (!writer->closed)
		uv_timer_start(&writer->kick, writer_on_kick, 0, 0);
}

int writer_run(struct writer *writer, const struct writer_call *call)
{
	struct writer_job *job;

	if (writer->stopping || writer->waiting >= writer->config->admin_queue)
		return -EAGAIN;
	if (call->param_count > WRITER_PARAMS_MAX)
		return -EINVAL;
	job = writer_job_new(call);
	if (!job)
		return -ENOMEM;
	writer->count.calls++;
	writer->waiting++;
	*writer->last = job;
	writer->last = &job->next;
	writer_kick(writer);
	return 0;
}

/* ---- one transaction ---- */

static bool writer_push(struct writer *writer, enum writer_step step, int sent)
{
	if (sent)
		writer->steps[writer->step_count++] = (uint8_t)step;
	return sent;
}

static bool writer_push_sql(struct writer *writer, enum writer_step step, const char *sql, unsigned count,
			    const char *const *params)
{
	return writer_push(
		writer, step,
		PQsendQueryParams(connection_pq(writer->link), sql, (int)count, NULL, params, NULL, NULL, 0));
}

static void writer_on_watch(uv_timer_t *timer)
{
	struct writer *writer = timer->data;

	connection_fail(writer->link, "no answer within twice statement_timeout_ms");
}

static void writer_sent(struct writer *writer, bool good)
{
	if (!good) {
		connection_fail_libpq(writer->link, "cannot send");
		return;
	}
	/* While stopping, the end of the patience is set already. */
	if (!writer->stopping)
		uv_timer_start(&writer->watch, writer_on_watch,
			       2 * writer->config->statement_timeout_ms + WRITER_GRACE_MS, 0);
	connection_flush(writer->link);
}

static void writer_begin(struct writer *writer)
{
	struct writer_job *job = writer->current;
	const char *actor = job->actor;
	bool good;

	writer->step_at = writer->step_count = 0;
	good = writer_push_sql(writer, WRITER_STEP_BEGIN, job->change || job->writes ? "BEGIN" : "BEGIN READ ONLY", 0,
			       NULL) &&
	       writer_push_sql(writer, WRITER_STEP_ACTOR, "SELECT set_config('apikeyd.actor', $1, true)", 1, &actor) &&
	       writer_push_sql(writer, WRITER_STEP_STATEMENT, job->sql, job->param_count,
			       (const char *const *)job->params);
	if (good && job->change)
		good = writer_push_sql(writer, WRITER_STEP_REVISION, "SELECT apikeyd.revision()", 0, NULL);
	good = good && writer_push(writer, WRITER_STEP_SYNC, PQpipelineSync(connection_pq(writer->link)));
	writer_sent(writer, good);
}

/* All but the end was answered: now COMMIT, or ROLLBACK where something failed. */
static void writer_end(struct writer *writer)
{
	bool good = writer->error.code == RPC_OK;

	writer->step_at = writer->step_count = 0;
	/* From here on its outcome is the server's to know. */
	writer->committing = good && writer->current->change;
	good = writer_push_sql(writer, WRITER_STEP_END, good ? "COMMIT" : "ROLLBACK", 0, NULL) &&
	       writer_push(writer, WRITER_STEP_END_SYNC, PQpipelineSync(connection_pq(writer->link)));
	writer_sent(writer, good);
}

static void writer_next(struct writer *writer)
{
	if (writer->stopping)
		writer_fail_waiting(writer, "the daemon is stopping; nothing was changed");
	if (writer->current)
		return;
	if (writer->stopping) {
		if (!writer->closed)
			writer_close(writer);
		return;
	}
	if (!writer->first)
		return;
	/* What is written to a primary that was deposed would be lost. */
	if (writer->up && (writer->renew || connection_is_deposed(writer->link))) {
		connection_disconnect(writer->link);
		writer->up = false;
	}
	if (!writer->up) {
		if (!connection_is_busy(writer->link))
			connection_open(writer->link, 0);
		return;
	}
	writer->current = writer->first;
	writer->first = writer->first->next;
	if (!writer->first)
		writer->last = &writer->first;
	writer->current->next = NULL;
	writer->waiting--;
	writer_begin(writer);
}

static void writer_result(struct writer *writer, enum writer_step step, PGresult *result)
{
	switch (PQresultStatus(result)) {
	case PGRES_PIPELINE_ABORTED:
		break;
	case PGRES_TUPLES_OK:
		if (step == WRITER_STEP_STATEMENT) {
			PQclear(writer->rows);
			writer->rows = result;
			return;
		}
		if (step == WRITER_STEP_REVISION && PQntuples(result) == 1)
			writer->rev = strtoull(PQgetvalue(result, 0, 0), NULL, 10);
		break;
	case PGRES_COMMAND_OK:
		if (step == WRITER_STEP_END && writer->error.code == RPC_OK &&
		    strcmp(PQcmdStatus(result), "COMMIT") != 0)
			writer_value_fail(&writer->error, RPC_INTERNAL, "the transaction was rolled back");
		break;
	default:
		if (writer->error.code == RPC_OK)
			writer_value_error(result, &writer->error);
	}
	PQclear(result);
}

static void writer_on_io(void *data)
{
	struct writer *writer = data;
	PGconn *pq = connection_pq(writer->link);
	PGnotify *notify;

	while (pq && (notify = PQnotifies(pq)))
		PQfreemem(notify);
	while ((pq = connection_pq(writer->link)) && writer->step_at < writer->step_count && !PQisBusy(pq)) {
		enum writer_step step = writer->steps[writer->step_at];
		bool sync = step == WRITER_STEP_SYNC || step == WRITER_STEP_END_SYNC;
		PGresult *result = PQgetResult(pq);

		if ((PQresultStatus(result) == PGRES_PIPELINE_SYNC) != sync) {
			PQclear(result);
			connection_fail_libpq(writer->link, "answers are out of order");
			return;
		}
		if (!result) {
			writer->step_at++;
		} else if (!sync) {
			writer_result(writer, step, result);
		} else {
			PQclear(result);
			writer->used = true;
			if (step == WRITER_STEP_SYNC) {
				writer_end(writer);
			} else {
				writer_finish(writer);
				writer_kick(writer);
			}
		}
	}
}

/* ---- the session ---- */

static void writer_on_up(void *data)
{
	struct writer *writer = data;

	if (!PQenterPipelineMode(connection_pq(writer->link))) {
		connection_fail_libpq(writer->link, "cannot pipeline");
		return;
	}
	connection_settle(writer->link);
	writer->count.sessions++;
	writer->up = true;
	writer->renew = writer->used = false;
	writer_next(writer);
}

/* The session went away under a transaction. */
static void writer_lost(struct writer *writer, const char *line)
{
	struct writer_job *job = writer->current;
	char message[400];

	if (!writer->committing && writer->used && !job->tried && !writer->stopping) {
		/* It may have died long before: nothing was committed, so once more on a fresh one. */
		job->tried = true;
		writer->current = NULL;
		PQclear(writer->rows);
		writer->rows = NULL;
		writer->rev = 0;
		writer->error = (struct rpc_error){0};
		writer->step_at = writer->step_count = 0;
		uv_timer_stop(&writer->watch);
		job->next = writer->first;
		writer->first = job;
		if (!job->next)
			writer->last = &job->next;
		writer->waiting++;
		return;
	}
	writer->count.unknown += writer->committing;
	/* What must be known stands first: the end of a long line is cut. */
	snprintf(message, sizeof(message), "%s; the database connection was lost: %.250s",
		 writer->committing	   ? "the change may have been made"
		 : writer->current->change ? "the change was not made"
					   : "nothing was read",
		 line);
	writer_value_fail(&writer->error, RPC_UNAVAILABLE, message);
	writer_finish(writer);
}

static void writer_on_failed(void *data, const char *line)
{
	struct writer *writer = data;
	bool was_up = writer->up;
	char message[600];

	writer->up = false;
	uv_timer_stop(&writer->watch);
	if (writer->current)
		writer_lost(writer, line);
	if (!was_up) {
		snprintf(message, sizeof(message), "the database cannot be reached: %.500s", line);
		writer_fail_waiting(writer, message);
	}
	writer_kick(writer);
}

/* ---- life ---- */

static void writer_configure(struct writer *writer)
{
	const struct config *config = writer->config;
	bool own = config->admin_conninfo && config->admin_conninfo[0];
	struct connection_settings settings = {.name = "writer",
					       .setting = own ? "database.admin_conninfo" : "database.conninfo",
					       .conninfo = own ? config->admin_conninfo : config->conninfo,
					       .role = config->admin_role,
					       .insecure_remote = config->insecure_remote,
					       .connect_timeout_ms = config->connect_timeout_ms,
					       .statement_timeout_ms = config->statement_timeout_ms,
					       .keepalive_ms = config->keepalive_ms,
					       .backoff_min_ms = config->backoff_min_ms,
					       .backoff_max_ms = config->backoff_max_ms};

	if (connection_configure(writer->link, &settings) < 0)
		log_error("database writer: no memory");
}

struct writer *writer_new(uv_loop_t *loop, const struct config *config)
{
	struct writer *writer = calloc(1, sizeof(*writer));
	struct connection_callbacks callbacks = {
		.up = writer_on_up, .io = writer_on_io, .failed = writer_on_failed, .data = writer};

	if (!writer)
		return NULL;
	writer->link = connection_new(loop, &callbacks);
	if (!writer->link) {
		free(writer);
		return NULL;
	}
	writer->loop = loop;
	writer->config = config;
	writer->last = &writer->first;
	uv_timer_init(loop, &writer->kick);
	uv_timer_init(loop, &writer->watch);
	writer->kick.data = writer->watch.data = writer;
	writer_configure(writer);
	return writer;
}

void writer_reconfigure(struct writer *writer, const struct config *config)
{
	writer->config = config;
	if (writer->stopping)
		return;
	writer_configure(writer);
	writer->renew = true;
	writer_kick(writer);
}

static void writer_let_go(struct writer *writer)
{
	if (--writer->closing == 0)
		writer->stopped(writer->stopped_data);
}

static void writer_on_handle_closed(uv_handle_t *handle)
{
	writer_let_go(handle->data);
}

static void writer_on_link_closed(void *data)
{
	writer_let_go(data);
}

static void writer_close(struct writer *writer)
{
	writer->closed = true;
	writer->closing = 3;
	uv_close((uv_handle_t *)&writer->kick, writer_on_handle_closed);
	uv_close((uv_handle_t *)&writer->watch, writer_on_handle_closed);
	connection_close(writer->link, writer_on_link_closed);
}

static void writer_on_stop_timer(uv_timer_t *timer)
{
	struct writer *writer = timer->data;

	connection_disconnect(writer->link);
	writer->up = false;
	if (writer->current)
		writer_lost(writer, "the daemon is stopping");
	writer_next(writer);
}

void writer_stop(struct writer *writer, uint32_t stop_ms, void (*stopped)(void *data), void *data)
{
	if (writer->stopping)
		return;
	writer->stopping = true;
	writer->stopped = stopped;
	writer->stopped_data = data;
	writer_kick(writer);
	if (writer->current)
		uv_timer_start(&writer->watch, writer_on_stop_timer, stop_ms, 0);
}

void writer_free(struct writer *writer)
{
	if (!writer)
		return;
	connection_free(writer->link);
	free(writer);
}

bool writer_stats(const struct writer *writer, struct arena *arena, struct value *map)
{
	struct value *sub = value_set(arena, map, "writer");

	if (!sub)
		return false;
	value_map(sub);
	return value_set_text(arena, sub, "state",
			      writer->up			 ? "connected"
			      : connection_is_busy(writer->link) ? "connecting"
								 : "idle") &&
	       value_set_uint(arena, sub, "calls", writer->count.calls) &&
	       value_set_uint(arena, sub, "changes", writer->count.changes) &&
	       value_set_uint(arena, sub, "errors", writer->count.errors) &&
	       value_set_uint(arena, sub, "outcome_unknown", writer->count.unknown) &&
	       value_set_uint(arena, sub, "sessions", writer->count.sessions) &&
	       value_set_uint(arena, sub, "waiting", writer->waiting + (writer->current ? 1U : 0U));
}
