#include "daemon/postgres/connection_internal.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/log.h"

static void connection_dial(struct connection *c);

/* ---- name resolution ---- */

static void connection_on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *addresses)
{
	struct connection_lookup *lookup = request->data;
	struct connection *c = lookup->owner;
	bool abandoned = lookup->abandoned;
	char line[256];

	free(lookup);
	if (abandoned) {
		uv_freeaddrinfo(addresses);
		connection_let_go(c);
		return;
	}
	c->handles--;
	c->lookup = NULL;
	if (status < 0) {
		snprintf(line, sizeof(line), "cannot resolve the host's name: %s; check host in %s",
			 uv_strerror(status), c->setting);
		connection_fail(c, line);
		return;
	}
	c->addresses = c->address = addresses;
	connection_dial(c);
}

static void connection_resolve(struct connection *c)
{
	const struct conninfo_host *host = &c->info->hosts[c->host];
	struct connection_lookup *lookup = calloc(1, sizeof(*lookup));
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	int r;

	if (!lookup) {
		connection_fail(c, "no memory");
		return;
	}
	hints.ai_flags = host->address ? AI_NUMERICHOST : AI_ADDRCONFIG;
	lookup->request.data = lookup;
	lookup->owner = c;
	r = uv_getaddrinfo(c->loop, &lookup->request, connection_on_resolved,
			   host->address ? host->address : host->name, NULL, &hints);
	if (r < 0) {
		free(lookup);
		connection_fail(c, uv_strerror(r));
		return;
	}
	c->handles++;
	c->lookup = lookup;
	connection_later(c, CONNECTION_RESOLVING, c->connect_timeout_ms);
}

/* ---- one attempt ---- */

static void connection_notice(void *data, const PGresult *result)
{
	struct connection *c = data;
	const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
	char line[sizeof(c->last_words)];

	connection_result_line(result, line, sizeof(line));
	if (severity && (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0))
		snprintf(c->last_words, sizeof(c->last_words), "%s", line);
	log_debug("database %s: server says: %s", c->name, line);
}

/* The address is one that may be talked to as it is configured. */
static bool connection_is_safe(struct connection *c)
{
	if (!c->address)
		return conninfo_is_socket(&c->info->hosts[c->host]);
	return c->info->verified || c->insecure_remote || conninfo_is_loopback(c->address->ai_addr);
}

/* Connects to the present address (or the socket directory). */
static void connection_dial(struct connection *c)
{
	char address[INET6_ADDRSTRLEN + 32], line[256];

	if (!connection_is_safe(c)) {
		snprintf(line, sizeof(line),
			 "is not this machine, and sslmode is not verify-full; set sslmode=verify-full and "
			 "sslrootcert in %s, or allow it by database.insecure_remote = yes",
			 c->setting);
		connection_fail(c, line);
		return;
	}
	if (c->address && getnameinfo(c->address->ai_addr, c->address->ai_addrlen, address, sizeof(address), NULL, 0,
				      NI_NUMERICHOST) != 0) {
		connection_fail(c, "has an address that cannot be written");
		return;
	}
	if (conninfo_params_init(&c->params, c->info, c->host, c->address ? address : NULL, c->keepalive_ms) < 0) {
		connection_fail(c, "no memory");
		return;
	}
	c->attempts++;
	c->pq = PQconnectStartParams((const char *const *)c->params.names, (const char *const *)c->params.values, 0);
	if (!c->pq || PQstatus(c->pq) == CONNECTION_BAD) {
		connection_fail_libpq(c, "");
		return;
	}
	PQsetNoticeReceiver(c->pq, connection_notice, c);
	connection_later(c, CONNECTION_CONNECTING, c->connect_timeout_ms);
	if (connection_poll_begin(c, UV_WRITABLE) < 0)
		connection_fail(c, "cannot watch the socket");
}

void connection_next(struct connection *c)
{
	if (!c->info) {
		snprintf(c->errors, sizeof(c->errors), "%s %s", c->setting, c->info_error);
		connection_later(c, CONNECTION_REPORTING, 0);
		return;
	}
	if (c->address && c->address->ai_next) {
		c->address = c->address->ai_next;
		connection_dial(c);
		return;
	}
	connection_drop_addresses(c);
	if (c->hosts_left == 0) {
		connection_later(c, CONNECTION_REPORTING, 0);
		return;
	}
	c->hosts_left--;
	c->host = (c->host + 1) % c->info->host_count;
	conninfo_describe(c->info, c->host, c->where, sizeof(c->where));
	if (conninfo_is_socket(&c->info->hosts[c->host]))
		connection_dial(c);
	else
		connection_resolve(c);
}

void connection_on_connecting(struct connection *c)
{
	int r = 0;

	/* PQconnectPoll may close this socket and open another, even of the same number. */
	connection_poll_end(c);
	switch (PQconnectPoll(c->pq)) {
	case PGRES_POLLING_OK:
		connection_set_up(c);
		return;
	case PGRES_POLLING_READING:
		r = connection_poll_begin(c, UV_READABLE);
		break;
	case PGRES_POLLING_WRITING:
		r = connection_poll_begin(c, UV_WRITABLE);
		break;
	case PGRES_POLLING_FAILED:
	case PGRES_POLLING_ACTIVE:
		connection_fail_libpq(c, "");
		return;
	}
	if (r < 0)
		connection_fail(c, "cannot watch the socket");
}
