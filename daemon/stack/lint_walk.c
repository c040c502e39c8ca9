#include <string.h>

#include "daemon/stack/lint_internal.h"

bool lint_any(uint8_t set, unsigned has, unsigned lacks)
{
	for (unsigned state = 0; state < LINT_STATES; state++) {
		if (set & lint_set(state) && (state & has) == has && (state & lacks) == 0)
			return true;
	}
	return false;
}

/* Two modules that come with the daemon say the same whatever is asked. */
static bool can_say(const struct stack_line *line, enum stack_class kind)
{
	if (strcmp(line->module->name, "permit") == 0)
		return kind == STACK_CLASS_SUCCESS;
	if (strcmp(line->module->name, "deny") == 0)
		return kind == STACK_CLASS_DENY;
	return true;
}

unsigned lint_actions(const struct stack_line *line, enum stack_class kind)
{
	enum apikeyd_code code;
	unsigned actions = 0;

	for (unsigned i = 0; can_say(line, kind) && code_at(i, &code); i++) {
		if (code_class(code) == kind)
			actions |= 1u << line->actions[code];
	}
	return actions;
}

/* The states after a module's line: *ret_on of runs that go on, *ret_out of those that end the block. */
static void step(const struct lint_walk *walk, const struct stack_line *line, uint8_t *ret_on, uint8_t *ret_out,
		 uint8_t before)
{
	bool grants = walk->group != STACK_KEY || !line->optional;
	unsigned actions = 0;
	uint8_t on = 0, out = 0;

	for (unsigned kind = STACK_CLASS_SUCCESS; kind <= STACK_CLASS_FAULT; kind++) {
		if (!walk->decided || kind == STACK_CLASS_SUCCESS || kind == STACK_CLASS_DENY)
			actions |= lint_actions(line, (enum stack_class)kind);
	}
	for (unsigned state = 0; state < LINT_STATES; state++) {
		unsigned passed = state | (grants ? LINT_PASSED : 0u);

		if (!(before & lint_set(state)))
			continue;
		if (actions & LINT_BIT_IGNORE)
			on |= lint_set(state);
		if (actions & LINT_BIT_OK)
			on |= lint_set(passed);
		if (actions & LINT_BIT_DONE)
			*(state & LINT_FAILED ? &on : &out) |= lint_set(passed);
		if (actions & LINT_BIT_BAD)
			on |= lint_set(state | LINT_FAILED);
		if (actions & LINT_BIT_DIE)
			out |= lint_set(state | LINT_FAILED);
	}
	*ret_on = on;
	*ret_out = out;
}

/* The states of the block around a substack, once that has ended. */
static uint8_t leave(uint8_t outer, uint8_t inner)
{
	uint8_t set = 0;

	for (unsigned o = 0; o < LINT_STATES; o++) {
		for (unsigned i = 0; i < LINT_STATES; i++) {
			/* Where it failed, it does not matter what else passed. */
			if (outer & lint_set(o) && inner & lint_set(i))
				set |= lint_set(o | i);
		}
	}
	return set;
}

/* Returns what the block of lines [from, to) ends with. */
static uint8_t walk_block(struct lint_walk *walk, unsigned from, unsigned to, uint8_t now)
{
	uint8_t ended = 0, out;

	for (unsigned i = from; i < to; i++) {
		const struct stack_line *line = &walk->program->lines[i];

		walk->before[i] = now;
		if (line->op == STACK_OP_ENTER) {
			/* What is in there begins anew, whatever was before. */
			walk->after[i] = walk_block(walk, i + 1, line->end, now ? lint_set(0) : 0);
			now = leave(now, walk->after[i]);
			i = line->end;
			continue;
		}
		step(walk, line, &now, &out, walk->before[i]);
		ended |= out;
		walk->after[i] = now;
	}
	return ended | now;
}

void lint_walk(struct lint_walk *walk, const struct stack_program *program, enum stack_group group, bool decided)
{
	*walk = (struct lint_walk){.program = program, .group = group, .decided = decided};
	walk->end = walk_block(walk, program->first[group], program->first[group + 1], lint_set(0));
}
