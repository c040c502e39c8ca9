/* What the verbs of `apikeyctl audit` share: findings, and the anchors that journals hold. */
#ifndef APIKEYCTL_AUDIT_H
#define APIKEYCTL_AUDIT_H

#include "client/apikeyctl/command.h"
#include "client/apikeyctl/ctl.h"

enum { AUDIT_CHAIN_LEN = 36, AUDIT_HEAD_LEN = 64 };

/* One line of a journal: `ledger: anchor chain=… batch=… head=…`. */
struct audit_anchor {
	char chain[AUDIT_CHAIN_LEN + 1];
	int64_t batch;
	char head[AUDIT_HEAD_LEN + 1];
	bool met;  /* the database has that batch */
	bool same; /* ... with that head */
};

/* Owns the list, in the order of chain and batch. */
struct audit_anchors {
	struct audit_anchor *items;
	size_t count;
};

/* Reads all anchors of a log or an export of the journal; "-" is standard input. Returns a ctl_exit. */
int audit_anchors_read(const struct ctl *ctl, const char *path, struct audit_anchors *ret);
void audit_anchors_deinit(struct audit_anchors *anchors);

/* Compares the anchors of this batch, if there are any, with the head that the database has. */
void audit_anchors_meet(struct audit_anchors *anchors, const char *chain, int64_t batch, const char *head);

extern const struct command audit_verb_verify;

#endif
