/* What compile.c and bind.c share: the one line that a module's line becomes. Nobody else includes this. */
#ifndef APIKEYD_DAEMON_STACK_COMPILE_INTERNAL_H
#define APIKEYD_DAEMON_STACK_COMPILE_INTERNAL_H

#include "daemon/stack/program.h"

struct bind {
	struct arena *arena; /* the program's */
	const struct stack_finder *finder;
	struct stack_faults *faults;
	const char *path; /* of the file; lives as long as the program */
	bool no_memory;	  /* set where it ran out; the caller tells */
};

/*
 * Finds the module of a parsed line, looks whether it may stand there, and reads its arguments. True with *ret filled
 * (but for `end`, `stack` and `module_number`); false with faults told, or no_memory.
 */
bool bind_line(struct bind *bind, const struct stack_parsed_line *parsed, struct stack_line *ret);

#endif
