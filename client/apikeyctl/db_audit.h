/*
 * An auditor's questions to the database, and what to do where it does not take them.
 *
 * Owns nothing. Who calls it: audit.c and audit_verify.c, as a role that is granted apikeyd_auditor.
 */
#ifndef APIKEYCTL_DB_AUDIT_H
#define APIKEYCTL_DB_AUDIT_H

#include <libpq-fe.h>

#include "client/apikeyctl/ctl.h"

/* Says why it did not, and what to do. Returns a ctl_exit: CTL_USAGE where it is about what was typed. */
int db_audit_refused(const struct ctl *ctl, PGconn *connection, const PGresult *result);
/* CTL_DONE with rows, which the caller clears; else what db_audit_refused returns. */
int db_audit_query(const struct ctl *ctl, PGconn *connection, const char *sql, PGresult **ret);

#endif
