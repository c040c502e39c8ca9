#include "daemon/postgres/load_internal.h"

#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/postgres/queries.h"
#include "daemon/postgres/schema.h"

enum { LOAD_PROGRESS_MS = 5000, LOAD_ROWS_PER_LOOK = 4096, LOAD_NICE = 10 };

static uint64_t load_now_ms(void)
{
	return uv_hrtime() / 1000000;
}

/* The first failure is the one that is told. */
int load_fail(struct load *load, const char *format, ...)
{
	va_list args;

	if (!load->result.line[0]) {
		va_start(args, format);
		vsnprintf(load->result.line, sizeof(load->result.line), format, args);
		va_end(args);
		conninfo_one_line(load->result.line);
	}
	return -EIO;
}

static int load_fail_result(struct load *load, const PGresult *result)
{
	char line[400];

	if (PQresultErrorField(result, PG_DIAG_SQLSTATE))
		schema_error_line(result, load->doing, line, sizeof(line));
	else
		snprintf(line, sizeof(line), "%s: %s", load->doing, PQerrorMessage(load->pq));
	return load_fail(load, "%s", line);
}

/* Waits for the socket, at most so long; -ECANCELED, -ETIMEDOUT. */
static int load_wait(struct load *load, short events, uint32_t timeout_ms)
{
	struct pollfd fds[2] = {{.fd = PQsocket(load->pq), .events = events}, {.fd = load->wake, .events = POLLIN}};
	int r;

	do {
		r = poll(fds, 2, (int)timeout_ms);
	} while (r < 0 && errno == EINTR);
	if (atomic_load(&load->cancelled)) {
		load_fail(load, "cancelled");
		return -ECANCELED;
	}
	if (r == 0) {
		load_fail(load, "%s: no answer for %u ms", load->doing, timeout_ms);
		return -ETIMEDOUT;
	}
	return r < 0 ? -errno : 0;
}

static int load_connect(struct load *load)
{
	PostgresPollingStatusType next = PGRES_POLLING_WRITING;
	uint64_t end = load_now_ms() + load->connect_timeout_ms;

	load->doing = "connecting";
	load->pq = PQconnectStartParams((const char *const *)load->params.names,
					(const char *const *)load->params.values, 0);
	if (!load->pq)
		return load_fail(load, "no memory");
	while (PQstatus(load->pq) != CONNECTION_BAD && next != PGRES_POLLING_OK && next != PGRES_POLLING_FAILED) {
		uint64_t now = load_now_ms();
		int r = load_wait(load, next == PGRES_POLLING_READING ? POLLIN : POLLOUT,
				  now < end ? (uint32_t)(end - now) : 0);

		if (r < 0)
			return r;
		next = PQconnectPoll(load->pq);
	}
	if (PQstatus(load->pq) != CONNECTION_OK)
		return load_fail(load, "%s: %s", load->doing, PQerrorMessage(load->pq));
	return 0;
}

static void load_on_notice(void *data, const PGresult *result)
{
	char line[256];

	(void)data;
	connection_result_line(result, line, sizeof(line));
	log_debug("database load: server says: %s", line);
}

/* The next result of what was sent; NULL in *ret at the end. */
static int load_result_next(struct load *load, PGresult **ret)
{
	int r;

	while (PQisBusy(load->pq)) {
		r = load_wait(load, POLLIN, load->silence_ms);
		if (r < 0)
			return r;
		if (!PQconsumeInput(load->pq))
			return load_fail(load, "%s: %s", load->doing, PQerrorMessage(load->pq));
	}
	*ret = PQgetResult(load->pq);
	return 0;
}

/* Runs a query and keeps its last result, which must be of that status. */
static int load_ask(struct load *load, const char *sql, ExecStatusType wanted, PGresult **ret)
{
	PGresult *last = NULL, *result = NULL;
	int r;

	if (!PQsendQuery(load->pq, sql))
		return load_fail(load, "%s: %s", load->doing, PQerrorMessage(load->pq));
	for (;;) {
		r = load_result_next(load, &result);
		if (r < 0 || !result)
			break;
		PQclear(last);
		last = result;
		if (PQresultStatus(result) == PGRES_FATAL_ERROR) {
			r = load_fail_result(load, result);
			break;
		}
		/* A COPY's rows come before there is another result. */
		if (PQresultStatus(result) == PGRES_COPY_OUT)
			break;
	}
	if (r == 0 && PQresultStatus(last) != wanted)
		r = load_fail(load, "%s: an answer that was not asked for", load->doing);
	if (r == 0 && ret)
		*ret = last;
	else
		PQclear(last);
	return r;
}

static void load_progress(struct load *load)
{
	uint64_t now = load_now_ms();

	if (now - load->said < LOAD_PROGRESS_MS)
		return;
	load->said = now;
	log_info("database load: %s, %llu rows after %llu s", load->doing, (unsigned long long)load->rows,
		 (unsigned long long)((now - load->started) / 1000));
}

static int load_message(struct load *load, struct pgcopy *copy, const char *data, int size, unsigned field_count,
			load_row each)
{
	struct pgfield fields[PGROW_FIELDS_MAX];
	int r;

	pgcopy_put(copy, data, (size_t)size);
	while ((r = pgcopy_next(copy, fields, field_count)) > 0) {
		r = each(load, fields);
		if (r < 0)
			break;
		if (++load->rows % LOAD_ROWS_PER_LOOK == 0) {
			load_progress(load);
			if (atomic_load(&load->cancelled))
				return load_fail(load, "cancelled");
		}
	}
	return r < 0 ? load_fail(load, "%s: %s", load->doing, schema_put_error(r)) : 0;
}

int load_table(struct load *load, const char *doing, const char *sql, unsigned field_count, load_row each)
{
	struct pgcopy copy = {0};
	PGresult *result = NULL;
	char *data = NULL;
	int r;

	load->doing = doing;
	r = load_ask(load, sql, PGRES_COPY_OUT, NULL);
	while (r == 0) {
		int size = PQgetCopyData(load->pq, &data, 1);

		if (size > 0) {
			r = load_message(load, &copy, data, size, field_count, each);
			PQfreemem(data);
		} else if (size == 0) {
			r = load_wait(load, POLLIN, load->silence_ms);
			if (r == 0 && !PQconsumeInput(load->pq))
				r = load_fail(load, "%s: %s", load->doing, PQerrorMessage(load->pq));
		} else {
			break;
		}
	}
	while (r == 0 && (r = load_result_next(load, &result)) == 0 && result) {
		if (PQresultStatus(result) != PGRES_COMMAND_OK)
			r = load_fail_result(load, result);
		PQclear(result);
	}
	if (r == 0 && !copy.ended)
		r = load_fail(load, "%s: the rows broke off", load->doing);
	return r;
}

/* ---- the whole ---- */

static int load_begin(struct load *load)
{
	PGresult *result = NULL;
	bool standby = false;
	char line[256];
	int r;

	load->doing = "setting the session up";
	r = load_ask(load, load->session, PGRES_TUPLES_OK, &result);
	if (r < 0)
		return r;
	if (!connection_identity_read(result, &load->result.identity, &standby) || standby)
		r = load_fail(load, "%s: the server is no primary any more", load->doing);
	PQclear(result);
	load->doing = "beginning";
	if (r == 0)
		r = load_ask(load, QUERY_LOAD_BEGIN, PGRES_COMMAND_OK, NULL);
	load->doing = "reading the revision";
	if (r == 0)
		r = load_ask(load, QUERY_LOAD_HEAD, PGRES_TUPLES_OK, &result);
	if (r < 0)
		return r;
	load->rev = strtoull(PQgetvalue(result, 0, 0), NULL, 10);
	if (!schema_is_ours(atoi(PQgetvalue(result, 0, 1)), line, sizeof(line)))
		r = load_fail(load, "%s", line);
	else if (load->rev == 0)
		r = load_fail(load, "the change log is empty: run `apikeyctl db status`, then "
				    "`select apikeyd.force_reload()` as the schema's owner");
	load->copy =
		copy_new(strtoull(PQgetvalue(result, 0, 2), NULL, 10), strtoull(PQgetvalue(result, 0, 3), NULL, 10),
			 strtoull(PQgetvalue(result, 0, 4), NULL, 10));
	PQclear(result);
	load->denials = calloc(1, sizeof(*load->denials));
	if (r == 0 && (!load->copy || !load->denials || denials_init(load->denials, load->denial_limit) < 0))
		r = load_fail(load, "no memory for a copy");
	return r;
}

/* This thread gives way to the one that answers, and never takes its turn on waking. Refused: then it does not. */
static void load_give_way(void)
{
	struct sched_param param = {0};

	if (sched_setscheduler(0, SCHED_BATCH, &param) < 0 || setpriority(PRIO_PROCESS, 0, LOAD_NICE) < 0)
		log_debug("database load: cannot give way to the checks: %s", strerror(errno));
}

static void load_run(void *data)
{
	struct load *load = data;
	int r;

	if (load->beside)
		load_give_way();
	load->started = load->said = load_now_ms();
	r = load_connect(load);
	if (r == 0) {
		PQsetNoticeReceiver(load->pq, load_on_notice, load);
		r = load_begin(load);
	}
	if (r == 0)
		r = load_tables(load);
	load->doing = "ending";
	if (r == 0)
		r = load_ask(load, "COMMIT", PGRES_COMMAND_OK, NULL);
	if (r == 0) {
		copy_publish(load->copy, load->rev);
		while (copy_tidy(load->copy, 1 << 16))
			;
		load->result.copy = load->copy;
		load->result.denials = load->denials;
		load->copy = NULL;
		load->denials = NULL;
	}
	PQfinish(load->pq);
	load->pq = NULL;
	copy_free(load->copy);
	load->copy = NULL;
	if (load->denials)
		denials_deinit(load->denials);
	free(load->denials);
	load->denials = NULL;
	load->result.keys = load->keys;
	load->result.took_ms = load_now_ms() - load->started;
	uv_async_send(&load->finished);
}

static void load_free(struct load *load)
{
	load_rows_deinit(load);
	conninfo_params_deinit(&load->params);
	free(load->session);
	if (load->wake >= 0)
		close(load->wake);
	free(load);
}

static void load_on_closed(uv_handle_t *handle)
{
	struct load *load = handle->data;
	struct load_result result = load->result;
	load_done done = load->done;
	void *done_data = load->data;

	result.cancelled = atomic_load(&load->cancelled);
	load_free(load);
	done(done_data, &result);
}

static void load_join(uv_work_t *work)
{
	struct load *load = work->data;

	uv_thread_join(&load->thread);
}

static void load_on_joined(uv_work_t *work, int status)
{
	struct load *load = work->data;

	if (status < 0)
		uv_thread_join(&load->thread);
	uv_close((uv_handle_t *)&load->finished, load_on_closed);
}

/* A thread that gives way comes to its end when it may: the loop does not wait for that. */
static void load_on_finished(uv_async_t *async)
{
	struct load *load = async->data;

	load->join.data = load;
	if (uv_queue_work(async->loop, &load->join, load_join, load_on_joined) < 0)
		load_on_joined(&load->join, UV_ENOMEM);
}

static void load_on_unstarted(uv_handle_t *handle)
{
	load_free(handle->data);
}

struct load *load_start(uv_loop_t *loop, const struct load_settings *settings, load_done done, void *data)
{
	struct load *load = calloc(1, sizeof(*load));
	char *session;
	int r;

	if (!load)
		return NULL;
	load->done = done;
	load->data = data;
	load->connect_timeout_ms = settings->connect_timeout_ms;
	load->silence_ms = settings->silence_ms;
	load->beside = settings->beside;
	load->denial_limit = settings->denials;
	load->doing = "starting";
	load->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	session = conninfo_session_sql(settings->role, settings->statement_timeout_ms, NULL);
	r = session ? asprintf(&load->session, "%s%s", session, connection_identity_sql) : -1;
	free(session);
	if (r < 0)
		load->session = NULL;
	if (load->wake < 0 || r < 0 || conninfo_params_copy(&load->params, settings->params) < 0 ||
	    uv_async_init(loop, &load->finished, load_on_finished) < 0) {
		load_free(load);
		return NULL;
	}
	load->finished.data = load;
	if (uv_thread_create(&load->thread, load_run, load) < 0) {
		uv_close((uv_handle_t *)&load->finished, load_on_unstarted);
		return NULL;
	}
	return load;
}

void load_cancel(struct load *load)
{
	uint64_t one = 1;

	atomic_store(&load->cancelled, true);
	if (write(load->wake, &one, sizeof(one)) < 0)
		log_debug("database load: cannot be woken: it ends at its next row");
}
