/* What findings ask about lines, and about units: a module's line, or a substack as a whole. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "daemon/stack/lint_internal.h"

enum { TEXT_SIZE = 768 };

void lint_tell(struct lint *lint, enum stack_severity severity, const char *name, const struct stack_line *line,
	       const char *format, ...)
{
	char text[TEXT_SIZE];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	lint->count++;
	lint->found(lint->data, severity, name, line, text);
}

const char *lint_where(const struct stack_line *line, char out[LINT_WHERE_SIZE])
{
	snprintf(out, LINT_WHERE_SIZE, "%s%s (%s:%u)", line->op == STACK_OP_MODULE ? "" : "substack ", line->name,
		 line->stack, line->place.line);
	return out;
}

unsigned lint_unit_after(const struct lint *lint, unsigned i)
{
	const struct stack_line *line = lint_line(lint, i);

	return line->op == STACK_OP_ENTER ? line->end + 1u : i + 1;
}

bool lint_unit_before(const struct lint *lint, unsigned i, unsigned *ret)
{
	unsigned first = lint->program->first[lint->group], at;

	if (i == first || lint_line(lint, i - 1)->op == STACK_OP_ENTER)
		return false;
	at = i - 1;
	if (lint_line(lint, at)->op == STACK_OP_LEAVE) {
		while (lint_line(lint, at)->op != STACK_OP_ENTER || lint_line(lint, at)->end != i - 1)
			at--;
	}
	*ret = at;
	return true;
}

bool lint_is_module(const struct stack_line *line, const char *name)
{
	return line->op == STACK_OP_MODULE && strcmp(line->module->name, name) == 0;
}

bool lint_enforces(const struct lint *lint, const struct stack_line *line)
{
	return lint->group == STACK_ACCOUNT && line->op == STACK_OP_MODULE &&
	       line->module->flags & APIKEYD_ENFORCES_RATE;
}

bool lint_can_fail(const struct lint *lint, unsigned i)
{
	const struct stack_line *line = lint_line(lint, i);
	unsigned actions = 0;

	if (line->op == STACK_OP_ENTER)
		return lint_any(lint->all.after[i], LINT_FAILED, 0);
	for (unsigned kind = STACK_CLASS_SUCCESS; kind <= STACK_CLASS_FAULT; kind++)
		actions |= lint_actions(line, (enum stack_class)kind);
	return actions & LINT_BITS_FAIL;
}

bool lint_can_refuse(const struct lint *lint, unsigned i)
{
	const struct stack_line *line = lint_line(lint, i);

	if (line->op == STACK_OP_ENTER)
		return lint_any(lint->decided.after[i], LINT_FAILED, 0);
	return lint_actions(line, STACK_CLASS_DENY) & LINT_BITS_FAIL;
}

bool lint_can_pass(const struct lint *lint, unsigned i)
{
	const struct stack_line *line = lint_line(lint, i);

	if (line->op == STACK_OP_ENTER)
		return lint_any(lint->all.after[i], LINT_PASSED, LINT_FAILED);
	return !line->optional && lint_actions(line, STACK_CLASS_SUCCESS) & LINT_BITS_PASS;
}

bool lint_is_sufficient(const struct stack_line *line)
{
	return line->op == STACK_OP_MODULE && lint_actions(line, STACK_CLASS_SUCCESS) == LINT_BIT_DONE &&
	       lint_actions(line, STACK_CLASS_DENY) == LINT_BIT_IGNORE;
}

bool lint_is_strict(const struct stack_line *line)
{
	unsigned deny = line->op == STACK_OP_MODULE ? lint_actions(line, STACK_CLASS_DENY) : 0;

	return deny != 0 && (deny & ~(unsigned)LINT_BITS_FAIL) == 0;
}

bool lint_is_binding(const struct stack_line *line)
{
	return lint_is_strict(line) && lint_actions(line, STACK_CLASS_SUCCESS) == LINT_BIT_DONE;
}

bool lint_can_fail_after(const struct lint *lint, unsigned i, unsigned *ret)
{
	unsigned end = lint_line(lint, i)->end;

	for (unsigned j = i + 1; j < end; j = lint_unit_after(lint, j)) {
		if (lint_can_fail(lint, j)) {
			*ret = j;
			return true;
		}
	}
	return false;
}

const struct stack_line *lint_ends_before(const struct lint *lint, unsigned i, enum stack_class kind, unsigned actions)
{
	for (unsigned j = lint->program->first[lint->group]; j < i; j++) {
		const struct stack_line *line = lint_line(lint, j);

		/* Where something has failed already, `done` ends nothing, and nothing else matters. */
		if (line->op == STACK_OP_MODULE && line->end > i && lint_any(lint->all.before[j], 0, LINT_FAILED) &&
		    lint_actions(line, kind) & actions)
			return line;
	}
	return NULL;
}
