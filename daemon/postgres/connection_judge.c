#include "daemon/postgres/connection_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of the cluster last seen, the highest timeline: shared by all connections, on the loop's thread only. */
static struct {
	uint64_t system;
	uint32_t timeline;
} connection_newest;

const char connection_identity_sql[] =
	"SELECT pg_is_in_recovery(), CASE WHEN pg_is_in_recovery() THEN 0 ELSE "
	"('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int8 END, c.system_identifier, "
	"(extract(epoch FROM pg_postmaster_start_time()) * 1000000)::int8, d.oid "
	"FROM pg_control_system() c, pg_database d WHERE d.datname = current_database()";

bool connection_identity_read(const PGresult *result, struct connection_identity *ret, bool *ret_standby)
{
	if (PQresultStatus(result) != PGRES_TUPLES_OK || PQntuples(result) != 1 || PQnfields(result) != 5)
		return false;
	*ret_standby = PQgetvalue(result, 0, 0)[0] == 't';
	*ret = (struct connection_identity){0};
	if (*ret_standby)
		return true;
	ret->timeline = (uint32_t)strtoul(PQgetvalue(result, 0, 1), NULL, 10);
	ret->system = strtoull(PQgetvalue(result, 0, 2), NULL, 10);
	ret->started = strtoll(PQgetvalue(result, 0, 3), NULL, 10);
	ret->database = (uint32_t)strtoul(PQgetvalue(result, 0, 4), NULL, 10);
	return true;
}

bool connection_is_deposed(const struct connection *c)
{
	return c->identity.system == connection_newest.system && c->identity.timeline < connection_newest.timeline;
}

/* The server is a primary, and not one that another has taken over from. */
static bool connection_judge(struct connection *c, const PGresult *result)
{
	char line[256];
	bool standby = false;

	if (!connection_identity_read(result, &c->identity, &standby)) {
		connection_fail(c, "did not say which server it is");
		return false;
	}
	if (standby) {
		snprintf(line, sizeof(line), "is a standby (in recovery); name the primary, or all hosts, in %s",
			 c->setting);
		connection_fail(c, line);
		return false;
	}
	if (connection_is_deposed(c)) {
		snprintf(line, sizeof(line),
			 "calls itself primary on timeline %u, but timeline %u of the same cluster was seen; stop the "
			 "deposed server, or restart apikeyd to accept it",
			 c->identity.timeline, connection_newest.timeline);
		connection_fail(c, line);
		return false;
	}
	connection_newest.system = c->identity.system;
	connection_newest.timeline = c->identity.timeline;
	return true;
}

void connection_set_up(struct connection *c)
{
	char *session = conninfo_session_sql(c->role, c->statement_timeout_ms, c->session);
	char *sql = NULL;
	int r = session ? asprintf(&sql, "%s%s", session, connection_identity_sql) : -1;

	free(session);
	c->state = CONNECTION_SETTING_UP; /* under the timer of the attempt */
	if (r < 0) {
		connection_fail(c, "no memory");
		return;
	}
	if (PQserverVersion(c->pq) < 130000) {
		connection_fail(c, "is older than PostgreSQL 13; upgrade it");
	} else if (PQsetnonblocking(c->pq, 1) < 0 || !PQsendQuery(c->pq, sql)) {
		connection_fail_libpq(c, "cannot set the session up");
	} else {
		if (connection_poll_begin(c, UV_READABLE) < 0)
			connection_fail(c, "cannot watch the socket");
		else
			connection_flush(c);
	}
	free(sql);
}

static void connection_refused(struct connection *c, const PGresult *result)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	char message[320], line[512];

	connection_result_line(result, message, sizeof(message));
	/* 22023: no such role; 42501: not a member of it. */
	if (c->role && c->role[0] && state && (strcmp(state, "22023") == 0 || strcmp(state, "42501") == 0))
		snprintf(line, sizeof(line),
			 "cannot take the role %s: %s; run `apikeyctl db install` and grant %s to %s", c->role, message,
			 c->role, c->info->user);
	else
		snprintf(line, sizeof(line), "cannot set the session up: %s", message);
	connection_fail(c, line);
}

void connection_on_setting_up(struct connection *c)
{
	while (!PQisBusy(c->pq)) {
		PGresult *result = PQgetResult(c->pq);
		ExecStatusType status = PQresultStatus(result);
		bool good = true;

		if (!result) {
			/* All of it is done. */
			uv_timer_stop(&c->timer);
			c->state = CONNECTION_UP;
			c->callbacks.up(c->callbacks.data);
			return;
		}
		if (status == PGRES_TUPLES_OK) {
			good = connection_judge(c, result);
		} else if (status != PGRES_COMMAND_OK) {
			connection_refused(c, result);
			good = false;
		}
		PQclear(result);
		if (!good)
			return;
	}
}
