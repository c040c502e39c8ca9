#include "daemon/postgres/connection_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "daemon/log.h"

void connection_result_line(const PGresult *result, char *out, size_t size)
{
	const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	const char *hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);

	if (primary)
		snprintf(out, size, "%s%s%s%s", primary, hint ? " (" : "", hint ? hint : "", hint ? ")" : "");
	else
		snprintf(out, size, "%s", PQresultErrorMessage(result));
	conninfo_one_line(out);
}

/* ---- polling the socket ---- */

void connection_let_go(struct connection *c)
{
	if (--c->handles == 0 && c->state == CONNECTION_CLOSING)
		c->closed(c->callbacks.data);
}

static void connection_on_poll_closed(uv_handle_t *handle)
{
	struct connection_poll *poll = handle->data;
	struct connection *c = poll->owner;

	free(poll);
	connection_let_go(c);
}

void connection_poll_end(struct connection *c)
{
	if (!c->poll)
		return;
	uv_close((uv_handle_t *)&c->poll->handle, connection_on_poll_closed);
	c->poll = NULL;
}

static void connection_on_poll(uv_poll_t *handle, int status, int events);

int connection_poll_begin(struct connection *c, int events)
{
	struct connection_poll *poll = calloc(1, sizeof(*poll));
	int r;

	if (!poll)
		return -ENOMEM;
	r = uv_poll_init(c->loop, &poll->handle, PQsocket(c->pq));
	if (r < 0) {
		free(poll);
		return r;
	}
	poll->handle.data = poll;
	poll->owner = c;
	c->handles++;
	c->poll = poll;
	return uv_poll_start(&poll->handle, events, connection_on_poll);
}

/* ---- ending an attempt ---- */

void connection_end(struct connection *c)
{
	connection_poll_end(c);
	uv_timer_stop(&c->timer);
	if (c->lookup) {
		/* If it cannot be cancelled any more, its answer is thrown away when it comes. */
		c->lookup->abandoned = true;
		uv_cancel((uv_req_t *)&c->lookup->request);
		c->lookup = NULL;
	}
	PQfinish(c->pq);
	c->pq = NULL;
	c->last_words[0] = '\0';
	conninfo_params_deinit(&c->params);
}

void connection_drop_addresses(struct connection *c)
{
	if (c->addresses)
		uv_freeaddrinfo(c->addresses);
	c->addresses = c->address = NULL;
}

static void connection_log(struct connection *c)
{
	bool news = c->settled || strcmp(c->errors, c->reported) != 0;

	if (news && !c->quiet) {
		if (c->settled)
			log_warning("database %s: lost: %s", c->name, c->errors);
		else
			log_error("database %s: %s; trying again at most %u ms apart", c->name, c->errors,
				  c->backoff_max_ms);
		snprintf(c->reported, sizeof(c->reported), "%s", c->errors);
	} else {
		log_debug("database %s: %s", c->name, c->errors);
	}
	c->settled = false;
}

static void connection_on_timer(uv_timer_t *timer)
{
	struct connection *c = timer->data;

	switch (c->state) {
	case CONNECTION_WAITING:
		connection_open(c, 0);
		return;
	case CONNECTION_NEXT:
		connection_next(c);
		return;
	case CONNECTION_RESOLVING:
	case CONNECTION_CONNECTING:
	case CONNECTION_SETTING_UP:
		connection_fail(
			c, "no answer within connect_timeout_ms; check the network and that the server is not stopped");
		return;
	case CONNECTION_REPORTING:
		c->state = CONNECTION_IDLE;
		connection_log(c);
		c->callbacks.failed(c->callbacks.data, c->errors);
		return;
	case CONNECTION_IDLE:
	case CONNECTION_UP:
	case CONNECTION_CLOSING:
		return;
	}
}

void connection_later(struct connection *c, enum connection_state state, uint32_t ms)
{
	c->state = state;
	uv_timer_start(&c->timer, connection_on_timer, ms, 0);
}

void connection_fail(struct connection *c, const char *line)
{
	size_t used = strlen(c->errors);
	bool was_good = c->settled;

	if (c->state == CONNECTION_IDLE || c->state == CONNECTION_CLOSING || c->state == CONNECTION_REPORTING)
		return;
	snprintf(c->errors + used, sizeof(c->errors) - used, "%s%s: %s", used ? "; " : "", c->where, line);
	conninfo_one_line(c->errors);
	connection_end(c);
	/* What was good until now is reported at once: the owner decides when to look for another. */
	connection_later(c, was_good ? CONNECTION_REPORTING : CONNECTION_NEXT, 0);
}

/* What to do about it, for the cases that libpq has no SQLSTATE for. */
static const char *connection_advice(const char *message)
{
	if (strstr(message, "password") || strstr(message, "pg_hba.conf") || strstr(message, "authentication"))
		return "check the user, PGPASSFILE and the server's pg_hba.conf";
	if (strstr(message, "database \"") && strstr(message, "does not exist"))
		return "create the database, then run `apikeyctl db install`";
	if (strstr(message, "role \"") && strstr(message, "does not exist"))
		return "create the login role and grant it apikeyd_check and apikeyd_admin";
	if (strstr(message, "certificate") || strstr(message, "SSL"))
		return "check sslmode, sslrootcert and the server's certificate";
	if (strstr(message, "Is the server running"))
		return "start the server, or name the right one in the connection string";
	return NULL;
}

/* How much of libpq's message there is to tell: without the line end, and without its question about the server. */
static int connection_message_len(const char *message)
{
	enum { LONGEST = 480 };
	const char *question = strstr(message, "\n\t");
	size_t len = question ? (size_t)(question - message) : strlen(message);

	if (len > LONGEST)
		len = LONGEST;
	while (len > 0 && strchr("\r\n ", message[len - 1]))
		len--;
	return (int)len;
}

void connection_fail_libpq(struct connection *c, const char *doing)
{
	char line[640];
	const char *advice;
	const char *message = c->last_words[0] ? c->last_words : c->pq ? PQerrorMessage(c->pq) : "no memory";

	advice = connection_advice(message);
	snprintf(line, sizeof(line), "%s%s%.*s%s%s", doing, doing[0] ? ": " : "", connection_message_len(message),
		 message, advice ? "; " : "", advice ? advice : "");
	connection_fail(c, line);
}

static void connection_on_poll(uv_poll_t *handle, int status, int events)
{
	struct connection_poll *poll = handle->data;
	struct connection *c = poll->owner;

	if (c->poll != poll)
		return;
	if (c->state == CONNECTION_CONNECTING) {
		connection_on_connecting(c);
		return;
	}
	if (status >= 0 && (events & UV_WRITABLE))
		connection_flush(c);
	if (c->poll != poll || (status >= 0 && !(events & UV_READABLE)))
		return;
	if (!PQconsumeInput(c->pq)) {
		PQisBusy(c->pq); /* lets a FATAL that came first be heard */
		connection_fail_libpq(c, "");
		return;
	}
	if (c->state == CONNECTION_SETTING_UP)
		connection_on_setting_up(c);
	else if (c->state == CONNECTION_UP)
		c->callbacks.io(c->callbacks.data);
}

void connection_flush(struct connection *c)
{
	int left, events;

	if (!c->poll || (c->state != CONNECTION_UP && c->state != CONNECTION_SETTING_UP))
		return;
	left = PQflush(c->pq);
	if (left < 0) {
		connection_fail_libpq(c, "cannot send");
		return;
	}
	events = (c->reading ? UV_READABLE : 0) | (left > 0 ? UV_WRITABLE : 0);
	if (events)
		uv_poll_start(&c->poll->handle, events, connection_on_poll);
	else
		uv_poll_stop(&c->poll->handle);
}

void connection_set_reading(struct connection *c, bool on)
{
	if (c->reading == on)
		return;
	c->reading = on;
	connection_flush(c);
}

/* ---- what the owner calls ---- */

struct connection *connection_new(uv_loop_t *loop, const struct connection_callbacks *callbacks)
{
	struct connection *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->loop = loop;
	c->callbacks = *callbacks;
	c->reading = true;
	uv_timer_init(loop, &c->timer);
	c->timer.data = c;
	c->handles = 1;
	return c;
}

static void connection_forget(struct connection *c)
{
	conninfo_free(c->info);
	c->info = NULL;
	free(c->name);
	free(c->setting);
	free(c->role);
	free(c->session);
	c->name = c->setting = c->role = c->session = NULL;
}

int connection_configure(struct connection *c, const struct connection_settings *settings)
{
	int r;

	connection_drop_addresses(c);
	connection_forget(c);
	c->name = strdup(settings->name);
	c->setting = strdup(settings->setting);
	c->role = strdup(settings->role ? settings->role : "");
	c->session = strdup(settings->session ? settings->session : "");
	if (!c->name || !c->setting || !c->role || !c->session)
		return -ENOMEM;
	c->insecure_remote = settings->insecure_remote;
	c->quiet = settings->quiet;
	c->connect_timeout_ms = settings->connect_timeout_ms;
	c->statement_timeout_ms = settings->statement_timeout_ms;
	c->keepalive_ms = settings->keepalive_ms;
	c->backoff_min_ms = settings->backoff_min_ms;
	c->backoff_max_ms = settings->backoff_max_ms;
	r = conninfo_parse(settings->conninfo ? settings->conninfo : "", &c->info, c->info_error,
			   sizeof(c->info_error));
	/* An attempt that is under way was for other hosts. */
	if (connection_is_busy(c) && c->state != CONNECTION_WAITING && c->state != CONNECTION_REPORTING)
		connection_open(c, 0);
	return r == -EINVAL ? 0 : r;
}

static void connection_begin(struct connection *c, unsigned first_host, unsigned count)
{
	if (c->state == CONNECTION_CLOSING)
		return;
	connection_end(c);
	connection_drop_addresses(c);
	c->errors[0] = '\0';
	c->reading = true;
	c->hosts_left = count;
	if (c->info) /* connection_next goes one on first */
		c->host = (first_host + c->info->host_count - 1) % c->info->host_count;
	connection_later(c, CONNECTION_NEXT, 0);
}

void connection_open(struct connection *c, unsigned first_host)
{
	connection_begin(c, first_host, c->info ? c->info->host_count : 0);
}

void connection_open_one(struct connection *c, unsigned host)
{
	connection_begin(c, host, 1);
}

void connection_retry(struct connection *c)
{
	uint32_t delay = c->backoff_ms, random = 0;

	if (c->state == CONNECTION_CLOSING)
		return;
	connection_end(c);
	if (delay < c->backoff_min_ms)
		delay = c->backoff_min_ms;
	c->backoff_ms = delay < c->backoff_max_ms / 2 ? delay * 2 : c->backoff_max_ms;
	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
		random = (uint32_t)uv_hrtime();
	connection_later(c, CONNECTION_WAITING, delay / 2 + random % (delay / 2 + 1));
}

void connection_settle(struct connection *c)
{
	c->settled = true;
	c->backoff_ms = 0;
	c->errors[0] = c->reported[0] = '\0';
}

void connection_disconnect(struct connection *c)
{
	if (c->state == CONNECTION_CLOSING)
		return;
	connection_end(c);
	connection_drop_addresses(c);
	c->settled = false;
	c->state = CONNECTION_IDLE;
}

static void connection_on_timer_closed(uv_handle_t *handle)
{
	connection_let_go(handle->data);
}

void connection_close(struct connection *c, void (*closed)(void *data))
{
	connection_disconnect(c);
	c->closed = closed;
	c->state = CONNECTION_CLOSING;
	uv_close((uv_handle_t *)&c->timer, connection_on_timer_closed);
}

void connection_free(struct connection *c)
{
	if (!c)
		return;
	connection_forget(c);
	free(c);
}

bool connection_is_up(const struct connection *c)
{
	return c->state == CONNECTION_UP;
}

bool connection_is_busy(const struct connection *c)
{
	return c->state != CONNECTION_IDLE && c->state != CONNECTION_UP && c->state != CONNECTION_CLOSING;
}

PGconn *connection_pq(const struct connection *c)
{
	return c->state == CONNECTION_UP ? c->pq : NULL;
}

const struct connection_identity *connection_identity(const struct connection *c)
{
	return &c->identity;
}

const struct conninfo_params *connection_params(const struct connection *c)
{
	return &c->params;
}

unsigned connection_host(const struct connection *c)
{
	return c->host;
}

unsigned connection_host_count(const struct connection *c)
{
	return c->info ? c->info->host_count : 0;
}

const char *connection_describe(const struct connection *c)
{
	return c->where;
}

uint64_t connection_attempts(const struct connection *c)
{
	return c->attempts;
}

const char *connection_trouble(const struct connection *c)
{
	return c->errors[0] ? c->errors : c->reported;
}

uint64_t connection_retry_ms(const struct connection *c)
{
	return c->state == CONNECTION_WAITING ? uv_timer_get_due_in(&c->timer) : 0;
}
