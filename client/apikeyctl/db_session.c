#include "client/apikeyctl/db_session.h"

#include <stdlib.h>
#include <string.h>

#include "client/apikeyctl/keyin.h"

enum { DB_SERVER_MIN = 130000 };

/* Notices of the server's are for whoever writes migrations; warnings are for whoever runs them. */
static void db_on_notice(void *data, const PGresult *result)
{
	const struct ctl *ctl = data;
	const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
	const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

	if (severity && message && strcmp(severity, "WARNING") == 0)
		ctl_note(ctl, "the database warns: %s", message);
}

static PGconn *db_start(const char *conninfo, const char *password)
{
	const char *names[] = {"dbname", "fallback_application_name", "client_encoding", password ? "password" : NULL,
			       NULL};
	const char *values[] = {conninfo ? conninfo : "", "apikeyctl", "UTF8", password, NULL};

	/* A first dbname that is a connection string is taken apart (the 1); an empty one is as if it were not there. */
	return PQconnectdbParams(names, values, 1);
}

static PGconn *db_start_with_password(const struct ctl *ctl, const char *conninfo, PGconn *refused)
{
	char password[256];
	PGconn *connection = NULL;

	if (!PQconnectionNeedsPassword(refused) || !ctl->in_terminal || !ctl->err_terminal)
		return refused;
	if (keyin_prompt(ctl, "Password of the database", password, sizeof(password)) >= 0)
		connection = db_start(conninfo, password);
	explicit_bzero(password, sizeof(password));
	if (!connection)
		return refused;
	PQfinish(refused);
	return connection;
}

/* libpq ends its messages with a line end, and may ask in a second line whether the server is running. */
static int db_say_trimmed(const struct ctl *ctl, const char *before, const char *message, const char *after)
{
	const char *question = strstr(message, "\n\t");
	size_t len = question ? (size_t)(question - message) : strlen(message);

	while (len > 0 && strchr("\n .", message[len - 1]))
		len--;
	return ctl_say(ctl, CTL_UNAVAILABLE, "%s%.*s%s", before, (int)len, message, after);
}

int db_connect(const struct ctl *ctl, const struct args *args, PGconn **ret)
{
	const char *conninfo = args_text(args, "database");
	PGconn *connection = db_start(conninfo, NULL);
	int code;

	if (!connection)
		return ctl_no_memory(ctl);
	if (PQstatus(connection) != CONNECTION_OK)
		connection = db_start_with_password(ctl, conninfo, connection);
	if (PQstatus(connection) != CONNECTION_OK) {
		code = db_say_trimmed(ctl, "the database cannot be reached: ", PQerrorMessage(connection),
				      "; see --database, or PGHOST, PGUSER, PGDATABASE");
		PQfinish(connection);
		return code;
	}
	if (PQserverVersion(connection) < DB_SERVER_MIN) {
		code = ctl_say(ctl, CTL_REFUSED, "the server is PostgreSQL %s: apikeyd needs PostgreSQL 13 or later",
			       PQparameterStatus(connection, "server_version"));
		PQfinish(connection);
		return code;
	}
	PQsetNoticeReceiver(connection, db_on_notice, (void *)(uintptr_t)ctl);
	*ret = connection;
	return CTL_DONE;
}

PGresult *db_query(const struct ctl *ctl, PGconn *connection, const char *sql)
{
	PGresult *result = PQexec(connection, sql);
	const char *state, *message;

	if (result && PQresultStatus(result) == PGRES_TUPLES_OK)
		return result;
	state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	if (state && message && strcmp(state, "42501") == 0)
		db_say_trimmed(ctl, "", message, ": connect as the database's owner or as a superuser (PGUSER)");
	else
		db_say_trimmed(ctl, "the database refuses: ", message ? message : PQerrorMessage(connection), "");
	PQclear(result);
	return NULL;
}

int db_schema_version(const struct ctl *ctl, PGconn *connection, int *ret_version)
{
	PGresult *result = db_query(ctl, connection,
				    "select to_regclass('apikeyd.schema_migration') is not null, exists (select from "
				    "pg_catalog.pg_namespace where nspname = 'apikeyd')");
	bool installed, schema;

	if (!result)
		return CTL_UNAVAILABLE;
	installed = PQgetvalue(result, 0, 0)[0] == 't';
	schema = PQgetvalue(result, 0, 1)[0] == 't';
	PQclear(result);
	if (!installed && schema)
		return ctl_say(
			ctl, CTL_REFUSED,
			"there is a schema named apikeyd without the table schema_migration: it is not ours to change");
	if (!installed) {
		*ret_version = 0;
		return CTL_DONE;
	}
	result = db_query(ctl, connection, "select coalesce(max(version), 0) from apikeyd.schema_migration");
	if (!result)
		return CTL_UNAVAILABLE;
	*ret_version = atoi(PQgetvalue(result, 0, 0));
	PQclear(result);
	return CTL_DONE;
}
