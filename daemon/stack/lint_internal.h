/*
 * What lint.c, lint_line.c and lint_walk.c share: all runs of a group at once, and what is asked about its lines.
 * Nobody else includes this but tests.
 *
 * A walk runs the lines of a group with every code that their modules could say, and keeps which states of a block can
 * be there before and after each line. The engine's own rules, over sets of states in place of one.
 */
#ifndef APIKEYD_DAEMON_STACK_LINT_INTERNAL_H
#define APIKEYD_DAEMON_STACK_LINT_INTERNAL_H

#include "daemon/stack/lint.h"

enum { LINT_LINES_MAX = 2 * STACK_PROGRAM_MAX }; /* a substack makes two */

/* A state of a block: a sum of these. A set of states: bit n stands for state n. */
enum lint_state {
	LINT_FAILED = 1,
	LINT_PASSED = 2, /* a line was ok or done; in key: granted */
	LINT_STATES = 4
};

static inline uint8_t lint_set(unsigned state)
{
	return (uint8_t)(1u << state);
}

/* Whether a state of the set has all bits of `has` and none of `lacks`. */
bool lint_any(uint8_t set, unsigned has, unsigned lacks);

struct lint_walk {
	const struct stack_program *program;
	enum stack_group group;
	bool decided; /* modules say success or a deny, nothing else */
	/* MODULE, ENTER: before the line. After it: MODULE: where the block goes on; ENTER: what the substack ends with */
	uint8_t before[LINT_LINES_MAX], after[LINT_LINES_MAX];
	uint8_t end; /* what the group ends with */
};

void lint_walk(struct lint_walk *walk, const struct stack_program *program, enum stack_group group, bool decided);

/* What a module's line does with the codes of a class that its module can say: bit n stands for enum stack_action n. */
unsigned lint_actions(const struct stack_line *line, enum stack_class kind);

enum {
	LINT_BIT_BAD = 1 << STACK_BAD,
	LINT_BIT_OK = 1 << STACK_OK,
	LINT_BIT_DONE = 1 << STACK_DONE,
	LINT_BIT_DIE = 1 << STACK_DIE,
	LINT_BIT_IGNORE = 1 << STACK_IGNORE,
	LINT_BITS_FAIL = LINT_BIT_BAD | LINT_BIT_DIE,
	LINT_BITS_PASS = LINT_BIT_OK | LINT_BIT_DONE,
};

/* ---- lint_line.c ---- */

enum { LINT_WHERE_SIZE = 192 };

struct lint {
	const struct stack_program *program;
	stack_finding found;
	void *data;
	unsigned count;
	enum stack_group group; /* that is looked at */
	struct lint_walk all, decided;
};

__attribute__((format(printf, 5, 6))) void lint_tell(struct lint *lint, enum stack_severity severity, const char *name,
						     const struct stack_line *line, const char *format, ...);
/* "rate (default:4)", in `out`, which it returns. */
const char *lint_where(const struct stack_line *line, char out[LINT_WHERE_SIZE]);

static inline const struct stack_line *lint_line(const struct lint *lint, unsigned i)
{
	return &lint->program->lines[i];
}

static inline unsigned lint_group_end(const struct lint *lint)
{
	return lint->program->first[lint->group + 1];
}

/* A unit is a module's line, or a substack as a whole (its ENTER). The one behind `i`: none from the block's end on. */
unsigned lint_unit_after(const struct lint *lint, unsigned i);
/* The one before `i` in its block; false where `i` is the first. */
bool lint_unit_before(const struct lint *lint, unsigned i, unsigned *ret);

/* Of a unit. To refuse is to fail where the module knew what to say. */
bool lint_can_fail(const struct lint *lint, unsigned i);
bool lint_can_refuse(const struct lint *lint, unsigned i);
bool lint_can_pass(const struct lint *lint, unsigned i);
/* The first unit behind a module's line, in the same block, that can fail; false where there is none. */
bool lint_can_fail_after(const struct lint *lint, unsigned i, unsigned *ret);
/* The first module's line before `i` that can end a block that both stand in, by one of `actions` for the class. */
const struct stack_line *lint_ends_before(const struct lint *lint, unsigned i, enum stack_class kind, unsigned actions);

/* Of any line; a substack's is none of these. */
bool lint_is_module(const struct stack_line *line, const char *name);
bool lint_enforces(const struct lint *lint, const struct stack_line *line);
bool lint_is_sufficient(const struct stack_line *line); /* every success ends its block, every refusal is ignored */
bool lint_is_strict(const struct stack_line *line);	/* every refusal fails */
bool lint_is_binding(const struct stack_line *line);	/* that, and every success ends its block */

#endif
