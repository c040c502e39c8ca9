#include "client/apikeyctl/db_audit.h"

#include <string.h>

int db_audit_refused(const struct ctl *ctl, PGconn *connection, const PGresult *result)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

	if (!state || !message) {
		message = PQerrorMessage(connection);
		return ctl_say(ctl, CTL_UNAVAILABLE, "the database gives no answer: %.*s", (int)strcspn(message, "\n"),
			       message);
	}
	/* Class 22: what was typed. Times are all that the server reads of it. */
	if (strncmp(state, "22", 2) == 0)
		return ctl_say(ctl, CTL_USAGE, "%s; a TIME is as PostgreSQL reads it: 2026-11-30, yesterday", message);
	if (strcmp(state, "42501") == 0)
		return ctl_say(ctl, CTL_UNAVAILABLE, "%s: connect as a role that is granted apikeyd_auditor (PGUSER)",
			       message);
	/* A schema, table or function that is not there. */
	if (strcmp(state, "3F000") == 0 || strcmp(state, "42P01") == 0 || strcmp(state, "42883") == 0)
		return ctl_say(ctl, CTL_UNAVAILABLE,
			       "%s: is this apikeyd's database, and its schema of this version? See --database, and "
			       "apikeyctl db status",
			       message);
	return ctl_say(ctl, CTL_UNAVAILABLE, "the database refuses: %s", message);
}

int db_audit_query(const struct ctl *ctl, PGconn *connection, const char *sql, PGresult **ret)
{
	PGresult *result = PQexec(connection, sql);
	int code;

	if (PQresultStatus(result) == PGRES_TUPLES_OK) {
		*ret = result;
		return CTL_DONE;
	}
	code = db_audit_refused(ctl, connection, result);
	PQclear(result);
	return code;
}
