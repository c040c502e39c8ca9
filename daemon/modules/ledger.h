/*
 * What a line `ledger` tells the daemon, and no other module can: how the verdict is to be recorded.
 *
 * Owns nothing. Who includes it: ledger.c; request*.c, which is the host; audit/rollup.c, which records.
 */
#ifndef APIKEYD_DAEMON_MODULES_LEDGER_H
#define APIKEYD_DAEMON_MODULES_LEDGER_H

#include "daemon/apikeyd-module.h"

enum ledger_how {			   /* bits */
		  LEDGER_RECORD = 1,	   /* a line said so */
		  LEDGER_ALLOWS_FULL = 2,  /* each ALLOW is an event */
		  LEDGER_DENIALS_FULL = 4, /* each DENY of a proven key and each UNAVAILABLE, up to a rate */
		  LEDGER_GO_ON = 8,	   /* an ALLOW that finds no room is given all the same, and only counted */
};

/* The daemon's own host: a module whose host is of this size has one. */
struct ledger_host {
	struct apikeyd_host host;
	/*
	 * From `start` of a line in audit: the verdict is to be recorded so, once all lines of audit have been asked.
	 * APIKEYD_SUCCESS, or APIKEYD_AUDIT_FULL for an ALLOW for which there is no room.
	 */
	enum apikeyd_code (*record)(struct apikeyd_self *self, const struct apikeyd_request *request, unsigned how);
};

#endif
