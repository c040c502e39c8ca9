/*
 * One blocking connection to the database, for the nouns db and audit: the daemon's are in daemon/postgres.
 *
 * Owns the connection. Errors are said in one line, with what to do.
 */
#ifndef APIKEYCTL_DB_SESSION_H
#define APIKEYCTL_DB_SESSION_H

#include <libpq-fe.h>

#include "client/apikeyctl/args.h"
#include "client/apikeyctl/ctl.h"

/*
 * Connects as --database says, and libpq's PG… environment; asks for a password on a terminal where one is wanted.
 * Refuses servers before PostgreSQL 13. Returns a ctl_exit; PQfinish(*ret) when done.
 */
int db_connect(const struct ctl *ctl, const struct args *args, PGconn **ret);

/* Runs a query that answers rows. NULL having said what went wrong. PQclear it. */
PGresult *db_query(const struct ctl *ctl, PGconn *connection, const char *sql);

/* What the schema is at: 0 where it is not installed. Returns a ctl_exit. */
int db_schema_version(const struct ctl *ctl, PGconn *connection, int *ret_version);

#endif
