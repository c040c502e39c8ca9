#include "client/apikeyctl/db_migrate.h"

#include <stdlib.h>
#include <string.h>

#include "client/apikeyctl/db_text.h"

/* "apikeyd" in ASCII: the number of the advisory lock. */
#define DB_LOCK "27426670816622948"

int db_lock(const struct ctl *ctl, PGconn *connection)
{
	PGresult *result =
		db_query(ctl, connection,
			 "select pg_catalog.pg_try_advisory_lock(" DB_LOCK "),"
			 " (select l.pid from pg_catalog.pg_locks l where l.locktype = 'advisory' and l.granted"
			 " and l.database = (select d.oid from pg_catalog.pg_database d"
			 " where d.datname = pg_catalog.current_database())"
			 " and (l.classid::bigint << 32 | l.objid::bigint) = " DB_LOCK " limit 1)");
	bool locked;

	if (!result)
		return CTL_UNAVAILABLE;
	locked = PQgetvalue(result, 0, 0)[0] == 't';
	if (!locked)
		ctl_note(ctl, "another apikeyctl changes this schema (server process %s): waiting for it",
			 PQgetvalue(result, 0, 1));
	PQclear(result);
	if (locked)
		return CTL_DONE;
	result = db_query(ctl, connection, "select pg_catalog.pg_advisory_lock(" DB_LOCK ")");
	if (!result)
		return CTL_UNAVAILABLE;
	PQclear(result);
	return CTL_DONE;
}

/* psql's FILE:LINE: ERROR: message, with detail and hint on the same line. */
static int db_migrate_failed(const struct ctl *ctl, const struct db_migration *migration, const char *text,
			     size_t statement, const PGresult *result)
{
	const char *position = PQresultErrorField(result, PG_DIAG_STATEMENT_POSITION);
	const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	const char *detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);
	const char *hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	size_t line = position ? db_text_line_of(text, (size_t)strtoul(position, NULL, 10))
			       : db_text_line_of_statement(text, statement);
	bool rights = state && strcmp(state, "42501") == 0;

	if (!message) /* the connection went, not the statement */
		return ctl_say(ctl, CTL_UNAVAILABLE, "%s:%zu: %s", migration->path, line, PQresultErrorMessage(result));
	return ctl_say(ctl, CTL_REFUSED, "%s:%zu: ERROR: %s%s%s%s%s%s", migration->path, line, message,
		       detail ? "; " : "", detail ? detail : "", hint ? "; hint: " : "", hint ? hint : "",
		       rights ? "; connect as a superuser, who may make roles and schemas (PGUSER)" : "");
}

/* Sends the whole file and takes its statements' results one by one: how many there were tells which one failed. */
static int db_migrate_run(const struct ctl *ctl, PGconn *connection, const struct db_migration *migration,
			  const char *text)
{
	PGresult *result;
	size_t statement = 0;
	int code = CTL_DONE;

	if (!PQsendQuery(connection, text))
		return ctl_say(ctl, CTL_UNAVAILABLE, "the database cannot be asked: %s", PQerrorMessage(connection));
	while ((result = PQgetResult(connection)) != NULL) {
		ExecStatusType status = PQresultStatus(result);

		if (!code && (status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH)) {
			code = ctl_say(ctl, CTL_REFUSED, "%s:%zu: a migration cannot use COPY with a client",
				       migration->path, db_text_line_of_statement(text, statement));
			PQclear(result);
			/* There is no way out of a COPY of unknown direction but to end the connection. */
			PQreset(connection);
			return code;
		}
		if (!code && (status == PGRES_FATAL_ERROR || status == PGRES_BAD_RESPONSE))
			code = db_migrate_failed(ctl, migration, text, statement, result);
		statement++;
		PQclear(result);
	}
	if (!code && PQtransactionStatus(connection) != PQTRANS_IDLE)
		code = ctl_say(ctl, CTL_REFUSED, "%s does not end its transaction", migration->path);
	if (code && PQtransactionStatus(connection) != PQTRANS_IDLE &&
	    PQtransactionStatus(connection) != PQTRANS_UNKNOWN)
		PQclear(PQexec(connection, "rollback"));
	return code;
}

int db_migrate(const struct ctl *ctl, PGconn *connection, const struct db_migration *migration)
{
	char *text = db_migration_text(ctl, migration);
	int version = 0;
	int code;

	if (!text)
		return CTL_USAGE;
	code = db_migrate_run(ctl, connection, migration, text);
	free(text);
	if (!code)
		code = db_schema_version(ctl, connection, &version);
	if (!code && version != migration->version)
		code = ctl_say(ctl, CTL_REFUSED, "%s ran, but did not record itself in apikeyd.schema_migration",
			       migration->path);
	return code;
}
