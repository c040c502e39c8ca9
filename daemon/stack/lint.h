/*
 * What is probably not meant in a stack that compiles: each finding with its place and what to do. Pure.
 *
 * Who calls it: `apikeyctl stack check`, and policy.c, which logs warnings at load. An error here is a stack that can
 * never allow anything; the daemon loads it all the same (it is safe), and says so. apikeyd-stacks(5) lists the
 * findings' names; they are stable.
 *
 * It knows modules by their names: `permit` always says success, `deny` always refuses, `debug` decides nothing, so
 * that nothing is said where it is ignored, and `penalty` is about keys that are not good.
 */
#ifndef APIKEYD_DAEMON_STACK_LINT_H
#define APIKEYD_DAEMON_STACK_LINT_H

#include "daemon/stack/program.h"

enum stack_severity { STACK_WARNING = 0, STACK_ERROR };

/*
 * `name` is a short word for the kind of finding, such as "never-reached"; `line` NULL: about the whole stack; `text`
 * reads well behind the line's place and name: "what is so; what to do".
 */
typedef void (*stack_finding)(void *data, enum stack_severity severity, const char *name, const struct stack_line *line,
			      const char *text);

/* Returns how many findings there were. */
unsigned stack_lint(const struct stack_program *program, stack_finding found, void *data);

#endif
