/*
 * What a configuration names, looked up: pepper, users, stacks with their modules, sockets and connection strings.
 *
 * Owns what it found until somebody takes it out. Who calls it: server.c, at the start, on a reload and for -t.
 *
 * Always holds: every fault is found and told, not the first alone; nothing that is in use is touched.
 */
#ifndef APIKEYD_DAEMON_LOOKUP_H
#define APIKEYD_DAEMON_LOOKUP_H

#include <stddef.h>

#include "daemon/config.h"
#include "daemon/passed.h"
#include "daemon/policy.h"
#include "daemon/secret.h"
#include "daemon/session.h"

struct lookup {
	struct secret *secret; /* NULL where the pepper is at fault, or left out */
	struct session_users users;
	struct policy *policy; /* a reference; NULL where a stack is at fault */
};

/*
 * Looks up all that `config` names. Returns how many faults there are, with a line for each
 * in `errors`. lookup_deinit must follow in any case. `before`: the policy in use, NULL: none. `passed`: the sockets that
 * the service manager passed, NULL: none.
 */
unsigned lookup_make(struct lookup *ret, const struct config *config, const struct passed *passed,
		     const struct policy_host *host, const struct policy *before, char *errors, size_t error_size);
void lookup_deinit(struct lookup *found);

/* Logs what is probably not meant in the stacks of a policy. */
void lookup_log_findings(const struct policy *policy);

#endif
