/* A line meets its module: may it stand there, what do its arguments say. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/stack/compile_internal.h"
#include "daemon/stack/word.h"
#include "proto/value.h"

enum { RIGHT_SIZE = 256, ERROR_SIZE = 512 };

static bool no_memory(struct bind *bind)
{
	bind->no_memory = true;
	return false;
}

/* ---- where it may stand ---- */

static void list_groups(unsigned groups, char *out, size_t size)
{
	size_t used = 0;

	out[0] = '\0';
	for (unsigned i = 0; i < STACK_GROUPS && used < size; i++) {
		bool last = groups >> i == 1;

		if (groups & group_bit((enum stack_group)i))
			used += (size_t)snprintf(out + used, size - used, "%s%s",
						 used == 0 ? ""
						 : last	   ? " or "
							   : ", ",
						 group_word((enum stack_group)i));
	}
}

static bool may_stand(const struct bind *bind, const struct stack_parsed_line *parsed,
		      const struct apikeyd_module *module)
{
	bool identifies = module->flags & APIKEYD_IDENTIFIES;
	unsigned groups = module->groups & (group_bit(STACK_GROUPS) - 1);
	char list[64];

	/* What it declares beyond this is its own fault, and counts for nothing. */
	groups &= identifies ? group_bit(STACK_KEY) : ~group_bit(STACK_KEY);
	if (groups & group_bit(parsed->group))
		return true;
	list_groups(groups, list, sizeof(list));
	if (parsed->group == STACK_KEY && !identifies)
		stack_fault(
			bind->faults, bind->path, parsed->name_place,
			"%s: does not say whose key it is, and in key only modules that do may stand; it may stand in %s",
			parsed->name, list);
	else
		stack_fault(bind->faults, bind->path, parsed->name_place, "%s: may not stand in %s; it may stand in %s",
			    parsed->name, group_word(parsed->group), *list ? list : "no group");
	return false;
}

/* ---- arguments ---- */

static uint32_t argument_count(const struct apikeyd_module *module)
{
	uint32_t count = 0;

	while (module->arguments && module->arguments[count].name)
		count++;
	return count;
}

static const char *argument_at(const void *data, unsigned i)
{
	const struct apikeyd_argument *arguments = data;

	return arguments ? arguments[i].name : NULL;
}

static void fault_unknown(const struct bind *bind, const struct apikeyd_module *module,
			  const struct stack_parsed_argument *parsed)
{
	const char *near = word_nearest(parsed->name, strlen(parsed->name), argument_at, module->arguments), *name;
	char shown[WORD_SHOWN_SIZE], list[RIGHT_SIZE] = "";
	size_t used = 0;

	for (unsigned i = 0; !near && used < sizeof(list) && (name = argument_at(module->arguments, i)); i++)
		used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", i == 0 ? "" : ", ", name);
	word_shown(parsed->name, strlen(parsed->name), shown);
	if (near)
		stack_fault(bind->faults, bind->path, parsed->place, "%s: is no argument of %s; did you mean %s?",
			    shown, module->name, near);
	else if (*list)
		stack_fault(bind->faults, bind->path, parsed->place, "%s: is no argument of %s; it takes %s", shown,
			    module->name, list);
	else
		stack_fault(bind->faults, bind->path, parsed->place, "%s: is no argument of %s; it takes none", shown,
			    module->name);
}

static bool read_value(struct bind *bind, const struct apikeyd_argument *argument,
		       const struct stack_parsed_argument *parsed, struct apikeyd_value *ret)
{
	char right[RIGHT_SIZE] = "", shown[WORD_SHOWN_SIZE];
	int rc = stack_value(bind->arena, argument, parsed->value, ret, right, sizeof(right));

	if (rc == 0)
		return true;
	if (rc == -ENOMEM)
		return no_memory(bind);
	if (*parsed->value)
		stack_fault(bind->faults, bind->path, parsed->value_place, "%s: is no value of %s; right is %s",
			    word_shown(parsed->value, strlen(parsed->value), shown), argument->name, right);
	else
		stack_fault(bind->faults, bind->path, parsed->place, "%s=: has no value; right is %s", argument->name,
			    right);
	return false;
}

/* What the line does not say. */
static bool read_fallback(struct bind *bind, const struct stack_parsed_line *parsed,
			  const struct apikeyd_argument *argument, struct apikeyd_value *ret)
{
	char right[RIGHT_SIZE] = "";
	int rc;

	if (argument->required) {
		stack_fault(bind->faults, bind->path, parsed->name_place, "%s: lacks %s; write %s=..., %s",
			    parsed->name, argument->name, argument->name,
			    argument->help ? argument->help : "which it needs");
		return false;
	}
	if (!argument->fallback)
		return true;
	rc = stack_value(bind->arena, argument, argument->fallback, ret, right, sizeof(right));
	if (rc == -ENOMEM)
		return no_memory(bind);
	if (rc != 0)
		stack_fault(bind->faults, bind->path, parsed->name_place,
			    "%s: is built wrong: what it takes where %s is not given is no value of it; right is %s",
			    parsed->name, argument->name, right);
	return rc == 0;
}

/* given[i]: which word of the line gives the module's i-th argument. */
static bool match(const struct bind *bind, const struct stack_parsed_line *parsed, const struct apikeyd_module *module,
		  uint32_t count, const struct stack_parsed_argument **given)
{
	bool good = true;

	for (uint32_t i = 0; i < parsed->argument_count; i++) {
		const struct stack_parsed_argument *argument = &parsed->arguments[i];
		uint32_t at = 0;

		while (at < count && strcmp(module->arguments[at].name, argument->name) != 0)
			at++;
		if (at == count) {
			fault_unknown(bind, module, argument);
			good = false;
		} else if (given[at]) {
			stack_fault(bind->faults, bind->path, argument->place,
				    "%s: is given a second time, first in column %u; give it once", argument->name,
				    given[at]->place.column);
			good = false;
		} else {
			given[at] = argument;
		}
	}
	return good;
}

void stack_line_fault(struct stack_faults *faults, const struct stack_line *line, const char *error)
{
	const char *name;

	for (unsigned i = 0; (name = argument_at(line->module->arguments, i)); i++) {
		size_t len = strlen(name);

		if (line->places[i].line != 0 && strncmp(error, name, len) == 0 && error[len] == ':') {
			stack_fault(faults, line->path, line->places[i], "%s", error);
			return;
		}
	}
	stack_fault(faults, line->path, line->name_place, "%s: %s", line->name, error);
}

/* The module's own look at its arguments. */
static bool look(const struct bind *bind, enum stack_group group, const struct stack_line *line)
{
	const struct apikeyd_module *module = line->module;
	char error[ERROR_SIZE] = "";

	if (!module->check ||
	    module->check((enum apikeyd_group)group_bit(group), line->values, error, sizeof(error)) == 0)
		return true;
	error[sizeof(error) - 1] = '\0';
	stack_line_fault(bind->faults, line, *error ? error : "refuses its arguments");
	return false;
}

/* ---- the line in one form ---- */

/* Whether a value must stand in brackets to be read back as it is. */
static bool needs_brackets(const char *value)
{
	size_t len = strlen(value);

	return strpbrk(value, " \t") || (len > 0 && (strchr("\"'[", value[0]) || value[len - 1] == '\\'));
}

static char *line_text(struct bind *bind, const char *name, const struct apikeyd_module *module, uint32_t count,
		       const struct stack_parsed_argument *const *given)
{
	size_t size = strlen(name) + 1;
	char *text, *p;

	for (uint32_t i = 0; i < count; i++) {
		if (given[i])
			size += strlen(given[i]->name) + 2 * strlen(given[i]->value) + 4;
	}
	text = arena_alloc(bind->arena, size);
	if (!text)
		return NULL;
	p = stpcpy(text, name);
	for (uint32_t i = 0; i < count; i++) {
		bool brackets = given[i] && needs_brackets(given[i]->value);

		if (!given[i])
			continue;
		p = stpcpy(stpcpy(stpcpy(p, brackets ? " [" : " "), module->arguments[i].name), "=");
		for (const char *c = given[i]->value; *c; c++) {
			if (brackets && (*c == ']' || *c == '\\'))
				*p++ = '\\';
			*p++ = *c;
		}
		p = stpcpy(p, brackets ? "]" : "");
	}
	return text;
}

/* ---- the whole ---- */

static bool read_arguments(struct bind *bind, const struct stack_parsed_line *parsed,
			   const struct apikeyd_module *module, struct stack_line *line)
{
	const struct stack_parsed_argument *given[STACK_ARGUMENTS_MAX] = {NULL};
	uint32_t count = argument_count(module);
	struct apikeyd_value *values;
	struct stack_place *places;
	bool good, matched;

	if (count > STACK_ARGUMENTS_MAX) {
		stack_fault(bind->faults, bind->path, parsed->name_place,
			    "%s: is built wrong: it declares %u arguments; at most %d are right", parsed->name, count,
			    STACK_ARGUMENTS_MAX);
		return false;
	}
	values = arena_alloc(bind->arena, (count + 1) * sizeof(*values));
	places = arena_alloc(bind->arena, (count + 1) * sizeof(*places));
	if (!values || !places)
		return no_memory(bind);
	good = matched = match(bind, parsed, module, count, given);
	for (uint32_t i = 0; i < count; i++) {
		const struct apikeyd_argument *argument = &module->arguments[i];

		places[i] = given[i] ? given[i]->place : (struct stack_place){0, 0};
		if (given[i])
			good &= read_value(bind, argument, given[i], &values[i]);
		else if (matched) /* else the one that is missing may be the one that is not known */
			good &= read_fallback(bind, parsed, argument, &values[i]);
	}
	line->values = values;
	line->places = places;
	if (!good || !look(bind, parsed->group, line))
		return false;
	line->text = line_text(bind, line->name, module, count, given);
	return line->text || no_memory(bind);
}

bool bind_line(struct bind *bind, const struct stack_parsed_line *parsed, struct stack_line *ret)
{
	const char *why = NULL;
	const struct apikeyd_module *module = bind->finder->module(bind->finder->data, parsed->name, &why);
	struct stack_line line = {
		.op = STACK_OP_MODULE,
		.optional = parsed->control.optional,
		.module = module,
		.path = bind->path,
		.place = parsed->place,
		.name_place = parsed->name_place,
	};

	if (!module) {
		stack_fault(bind->faults, bind->path, parsed->name_place, "%s: is no module; %s", parsed->name,
			    why ? why : "`apikeyctl modules` lists them");
		return false;
	}
	if (!may_stand(bind, parsed, module))
		return false;
	memcpy(line.actions, parsed->control.actions, sizeof(line.actions));
	line.name = arena_text(bind->arena, parsed->name, strlen(parsed->name));
	line.control = arena_text(bind->arena, parsed->control_text, strlen(parsed->control_text));
	if (!line.name || !line.control)
		return no_memory(bind);
	if (!read_arguments(bind, parsed, module, &line))
		return false;
	*ret = line;
	return true;
}
