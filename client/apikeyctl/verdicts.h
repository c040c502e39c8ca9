/* Verdicts on the terminal: the exit code, the sentences, the facts. */
#ifndef APIKEYCTL_VERDICTS_H
#define APIKEYCTL_VERDICTS_H

#include "client/apikeyctl/talk.h"
#include "client/apikeyctl/words.h"

/* allow: CTL_DONE, deny: CTL_DENY, unavailable: CTL_UNAVAILABLE. */
int verdicts_exit(enum reason reason);

/* Reads a verdict map of the daemon's. Says so and returns CTL_UNAVAILABLE where it is none. */
int verdicts_read(struct talk *talk, const struct value *map, struct rpc_answer *ret);

/*
 * "allow: ok", why, what to do, and the facts of the answer, on out; nothing with --quiet. A program in a pipe finds
 * verdict and reason on the first line.
 */
void verdicts_show(const struct ctl *ctl, const struct rpc_answer *answer, const struct words_question *question);

#endif
