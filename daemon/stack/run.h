/*
 * The engine: runs the lines of one group. Pure: no loop, no database, no memory of its own, no clock.
 *
 * Who calls it: request.c (the daemon), stack/simulate.c (apikeyctl), the tests' enumeration: the same code for all.
 * What apikeyd-stacks(5) says, this does; an oracle in another language, written from that page, is compared with it.
 *
 * Always holds: a zeroed result has not passed; a group passes only where no line failed, and in `key` only where a
 * line granted; a fault never makes a group pass that would not pass without it.
 */
#ifndef APIKEYD_DAEMON_STACK_RUN_H
#define APIKEYD_DAEMON_STACK_RUN_H

#include "daemon/stack/program.h"

/* What came of one line, for explain. */
enum stack_effect {
	STACK_EFFECT_NOTHING = 0, /* ignored */
	STACK_EFFECT_OK,
	STACK_EFFECT_GRANT,   /* it named the principal */
	STACK_EFFECT_ENDED,   /* done: passed, and ended its block */
	STACK_EFFECT_FAILED,  /* bad */
	STACK_EFFECT_DIED,    /* die: failed, and ended its block */
	STACK_EFFECT_PENDING, /* it is being waited for */
};
const char *effect_word(enum stack_effect effect);

struct stack_runner {
	/* Asks the module of a line. May return APIKEYD_PENDING: the run ends there, and is started anew later. */
	enum apikeyd_code (*ask)(void *data, const struct stack_line *line);
	/* Group key: the success just asked for is the grant. NULL: nobody wants to know. */
	void (*grant)(void *data, const struct stack_line *line);
	/*
	 * Told of each line that speaks against the group: a denial that its control counts, and any fault. Which of
	 * them made the group fail, if it does, says the class of the result's code. NULL: nobody wants to know.
	 */
	void (*against)(void *data, const struct stack_line *line, enum stack_class class);
	/*
	 * Told of each module line and each end of a substack (code then is the substack's own result). NULL: nobody
	 * wants to know.
	 */
	void (*trace)(void *data, const struct stack_line *line, enum apikeyd_code code, enum stack_action action,
		      enum stack_effect effect);
	void *data;
};

enum stack_outcome { STACK_FAILED = 0, STACK_PASSED, STACK_WAITS };

struct stack_result {
	enum stack_outcome outcome;
	enum apikeyd_code code;	       /* STACK_FAILED: why; a deny or a fault, never success, ignore or pending */
	const struct stack_line *line; /* which line said so; NULL: none did (nothing granted, a success that is bad) */
	bool charged; /* a module that enforces rates had its success counted (not optional, not ignored) */
};

void stack_run(const struct stack_program *program, enum stack_group group, const struct stack_runner *runner,
	       struct stack_result *ret);

#endif
