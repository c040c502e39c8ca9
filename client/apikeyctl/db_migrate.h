/* Running migrations, one at a time, under a lock that keeps a second apikeyctl out. */
#ifndef APIKEYCTL_DB_MIGRATE_H
#define APIKEYCTL_DB_MIGRATE_H

#include "client/apikeyctl/db_directory.h"
#include "client/apikeyctl/db_session.h"

/* Waits for the lock; it goes with the connection. Returns a ctl_exit. */
int db_lock(const struct ctl *ctl, PGconn *connection);

/*
 * Runs one migration, a transaction as its file says, and looks whether it recorded itself. After a failure nothing
 * of it is kept and the connection is outside a transaction. Returns a ctl_exit, having said file, line and reason.
 */
int db_migrate(const struct ctl *ctl, PGconn *connection, const struct db_migration *migration);

#endif
