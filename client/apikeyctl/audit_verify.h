/*
 * One verification of the ledger: shared by audit_verify.c, which looks and owns it, and audit_verify_show.c, which says
 * what was found. Nobody else includes it.
 */
#ifndef APIKEYCTL_AUDIT_VERIFY_H
#define APIKEYCTL_AUDIT_VERIFY_H

#include <time.h>

#include "client/apikeyctl/anchors.h"
#include "client/apikeyctl/db_session.h"
#include "client/apikeyctl/talk.h"

struct verify {
	const struct ctl *ctl;
	PGconn *connection;
	struct talk talk;
	struct anchors anchors; /* of journals */
	struct anchors own;	/* the last batch of the daemon that is asked, as its spool knows it */
	struct arena arena;
	struct value findings;
	char *since, *until; /* as SQL */
	int64_t faults, notes;
	/* what was looked at: chains and heads, of these the batches in the time that was asked about, and what is in them */
	int64_t chains, batches, batches_within, partitions, rows, verdicts, macs, no_pepper;
	bool ask_macs, ask_anchors, is_part; /* is_part: of a time only */
	struct timespec begin;
};

/* Prints the findings, and notes what was not looked at. Returns a ctl_exit: CTL_DENY where there are faults. */
int audit_verify_show(const struct verify *verify);

#endif
