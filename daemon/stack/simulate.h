/*
 * Plays a stack through with codes of one's choice, by the engine that the daemon has. Pure.
 *
 * Who calls it: `apikeyctl stack explain`, the tests. The core's own parts are taken as passed, and nobody waits.
 *
 * Always holds: each line of the program is told of exactly once, in the program's order, be it asked or not.
 */
#ifndef APIKEYD_DAEMON_STACK_SIMULATE_H
#define APIKEYD_DAEMON_STACK_SIMULATE_H

#include "daemon/stack/run.h"

/* What came of one line: a module's, or the beginning (ENTER) or the end (LEAVE) of a substack. */
struct stack_step {
	enum stack_group group;
	const struct stack_line *line;
	unsigned depth;		/* how many substacks it stands in */
	bool asked;		/* false: the run did not come here, and what follows means nothing */
	enum apikeyd_code code; /* that it said; LEAVE: what the substack came to; ENTER: nothing */
	enum stack_action action;
	enum stack_effect effect;
};
typedef void (*stack_told)(void *data, const struct stack_step *step);

enum { STACK_WHY_SIZE = 512 };

struct stack_simulated {
	enum verdict verdict;
	enum reason reason;
	enum stack_group group;		  /* that decided; STACK_GROUPS: all passed */
	const struct stack_line *line;	  /* whose word is the reason; NULL: none */
	const struct stack_line *granted; /* that said whose key it is; NULL: none */
	bool charged; /* a key that is narrowed to a rate would have been charged; else it would be denied with `policy` */
	char why[STACK_WHY_SIZE]; /* one sentence for people; terminated */
};

/*
 * `as`: a code for each module line in the program's order, with commas between ("success,unknown_key"); or the lines
 * that say something else than success, by the number that they have in their file ("3=unknown_key,common:2=stale",
 * with the stack's name for a line that is included). NULL: all say success.
 * Returns 0 with *ret filled and all steps told; -EINVAL with one line in `error`; -ENOMEM.
 */
int stack_simulate(const struct stack_program *program, const char *as, stack_told told, void *data,
		   struct stack_simulated *ret, char *error, size_t error_size);

#endif
