/*
 * Stack files: whatever they hold, they are refused with a word, or make a program that is well formed, that can be
 * linted and run, and whose lines say the same when they are read again. The input is several files, parted by 0x1e:
 * `default`, then `a`, `b`, and so on.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/stack/lint_internal.h"
#include "daemon/stack/simulate.h"
#include "tests/unit/stack_world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FILES = 8, PART = 0x1e };

struct part {
	const char *name, *text;
	size_t len;
};

struct input {
	struct part parts[FILES];
	char text[64 * 1024];
	struct stack_faults faults;
	unsigned steps;
	uint32_t random;
	const struct stack_program *program;
	struct lint_walk walk;
};

static void insist(bool holds)
{
	if (!holds)
		abort();
}

static void split(struct input *in, const char *text, size_t size)
{
	static const char *const names[FILES] = {"default", "a", "b", "c", "d", "e", "f", "g"};

	for (unsigned i = 0; i < FILES; i++) {
		const char *end = i + 1 < FILES ? memchr(text, PART, size) : NULL;
		size_t len = end ? (size_t)(end - text) : size;

		in->parts[i] = (struct part){names[i], text, len};
		if (!end)
			return;
		text += len + 1;
		size -= len + 1;
	}
}

static const struct apikeyd_module *find_module(void *data, const char *name, const char **ret_why)
{
	(void)data;
	*ret_why = "there is none";
	return world_module(name);
}

static bool find_stack(void *data, const char *name, char **ret_text, size_t *ret_len, const char **ret_path,
		       const char **ret_why)
{
	const struct input *in = data;

	for (unsigned i = 0; i < FILES && in->parts[i].name; i++) {
		const struct part *part = &in->parts[i];

		if (strcmp(part->name, name) != 0)
			continue;
		*ret_text = malloc(part->len + 1);
		insist(*ret_text);
		memcpy(*ret_text, part->text, part->len);
		*ret_len = part->len;
		*ret_path = part->name;
		return true;
	}
	*ret_why = "there is none";
	return false;
}

/* ---- faults ---- */

/* As many as are counted, each a line with its place. */
static void check_faults(const struct input *in)
{
	unsigned lines = 0;

	insist(strlen(in->text) == in->faults.len);
	for (const char *p = in->text; *p; lines++) {
		const char *end = strchr(p, '\n');

		insist(end && end > p && memchr(p, ':', (size_t)(end - p)));
		p = end + 1;
	}
	insist(in->faults.count >= lines && (lines > 0 || in->faults.count == 0));
}

static void reset_faults(struct input *in)
{
	in->text[0] = '\0';
	in->faults = (struct stack_faults){.text = in->text, .size = sizeof(in->text)};
}

static void parse_alone(struct input *in, const struct part *part)
{
	struct stack_parsed *parsed;

	reset_faults(in);
	parsed = stack_parse(part->name, part->text, part->len, &in->faults);
	check_faults(in);
	insist((parsed != NULL) == (in->faults.count == 0));
	for (uint32_t i = 0; parsed && i < parsed->line_count; i++) {
		const struct stack_parsed_line *line = &parsed->lines[i];

		insist(line->place.line > 0 && (i == 0 || line->place.line > parsed->lines[i - 1].place.line));
		insist((unsigned)line->group < STACK_GROUPS && line->control_text);
		insist((line->kind == STACK_NONE) == (line->name == NULL));
	}
	stack_parsed_free(parsed);
}

/* ---- programs ---- */

/* The line that explain shows, put into a file, is the same line. */
static void read_again(struct input *in, const struct stack_line *line, enum stack_group group)
{
	char *text = NULL;
	int len = asprintf(&text, "%s %s %s", group_word(group), line->control, line->text);
	struct stack_parsed *parsed;

	insist(len > 0);
	reset_faults(in);
	parsed = len <= STACK_LINE_MAX ? stack_parse("again", text, (size_t)len, &in->faults) : NULL;
	if (len <= STACK_LINE_MAX) {
		insist(parsed && parsed->line_count == 1);
		insist(parsed->lines[0].group == group && strcmp(parsed->lines[0].name, line->name) == 0);
		insist(memcmp(parsed->lines[0].control.actions, line->actions, sizeof(line->actions)) == 0);
		insist(parsed->lines[0].control.optional == line->optional);
	}
	for (uint32_t i = 0; parsed && i < parsed->lines[0].argument_count; i++) {
		const struct stack_parsed_argument *argument = &parsed->lines[0].arguments[i];
		unsigned at = 0;

		while (strcmp(line->module->arguments[at].name, argument->name) != 0)
			at++;
		insist(line->values[at].given && strcmp(line->values[at].text, argument->value) == 0);
	}
	stack_parsed_free(parsed);
	free(text);
}

/* Blocks are nested and closed, and whoever ends one goes on behind its last line. */
static void check_group(struct input *in, const struct stack_program *program, enum stack_group group)
{
	unsigned ends[STACK_DEPTH_MAX], depth = 0;

	ends[0] = program->first[group + 1];
	insist(program->first[group] <= program->first[group + 1]);
	for (unsigned i = program->first[group]; i < program->first[group + 1]; i++) {
		const struct stack_line *line = &program->lines[i];

		insist(line->path && line->stack && line->name && line->text && line->place.line > 0);
		if (line->op == STACK_OP_ENTER) {
			insist(++depth < STACK_DEPTH_MAX);
			ends[depth] = line->end;
			insist(line->end > i + 1 && line->end < ends[depth - 1] &&
			       program->lines[line->end].op == STACK_OP_LEAVE);
		} else if (line->op == STACK_OP_LEAVE) {
			insist(depth > 0 && ends[depth] == i);
			depth--;
		} else {
			insist(line->end == ends[depth] && line->end > i && line->module && line->values);
			insist(line->module->groups & group_bit(group));
			insist(((line->module->flags & APIKEYD_IDENTIFIES) != 0) == (group == STACK_KEY));
			read_again(in, line, group);
		}
	}
	insist(depth == 0);
	insist(!program->none[group] || program->first[group] == program->first[group + 1]);
}

/* ---- runs ---- */

static uint32_t next(struct input *in)
{
	in->random = in->random * 1664525u + 1013904223u;
	return in->random >> 8;
}

static enum apikeyd_code on_ask(void *data, const struct stack_line *line)
{
	struct input *in = data;
	enum apikeyd_code code = APIKEYD_SUCCESS;

	/* What the linter takes for impossible must be so. */
	insist(in->walk.before[line - in->program->lines] != 0);
	if (strcmp(line->name, "permit") == 0)
		return APIKEYD_SUCCESS;
	if (strcmp(line->name, "deny") == 0)
		return APIKEYD_EXPIRED;
	if (next(in) % 2)
		return APIKEYD_SUCCESS;
	insist(code_at(next(in) % (REASON_COUNT + 1), &code));
	return code;
}

static void on_trace(void *data, const struct stack_line *line, enum apikeyd_code code, enum stack_action action,
		     enum stack_effect effect)
{
	(void)data;
	(void)line;
	(void)code;
	insist((unsigned)action < STACK_ACTIONS && *effect_word(effect));
}

static void run(struct input *in, const struct stack_program *program, enum stack_group group)
{
	const struct stack_runner runner = {.ask = on_ask, .trace = on_trace, .data = in};
	struct stack_result result;

	lint_walk(&in->walk, program, group, false);
	for (unsigned i = 0; i < 8; i++) {
		stack_run(program, group, &runner, &result);
		insist(result.outcome == STACK_PASSED || result.outcome == STACK_FAILED);
		if (result.outcome == STACK_PASSED)
			insist(lint_any(in->walk.end, group == STACK_KEY ? LINT_PASSED : 0, LINT_FAILED));
		else
			insist(lint_any(in->walk.end, LINT_FAILED, 0) ||
			       (group == STACK_KEY && lint_any(in->walk.end, 0, LINT_PASSED)));
	}
}

static void on_finding(void *data, enum stack_severity severity, const char *name, const struct stack_line *line,
		       const char *text)
{
	(void)data;
	(void)severity;
	(void)line;
	insist(*name && *text);
}

static void on_step(void *data, const struct stack_step *step)
{
	struct input *in = data;

	insist(step->depth < STACK_DEPTH_MAX);
	in->steps++;
}

static void play(struct input *in, const struct stack_program *program)
{
	struct stack_simulated got;
	char error[512];

	in->steps = 0;
	insist(stack_simulate(program, NULL, on_step, in, &got, error, sizeof(error)) == 0);
	insist(in->steps == program->first[STACK_GROUPS]);
	insist(*got.why && (got.verdict == VERDICT_ALLOW) == (got.group == STACK_GROUPS));
	/* Codes that are given may be anything as well. */
	if (in->parts[1].name && in->parts[1].len < 256) {
		char as[256];

		memcpy(as, in->parts[1].text, in->parts[1].len);
		as[in->parts[1].len] = '\0';
		error[0] = '\0';
		insist(stack_simulate(program, as, on_step, in, &got, error, sizeof(error)) == 0 || *error);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct input in;
	struct stack_finder finder = {.module = find_module, .stack = find_stack, .data = &in};
	struct stack_program *program;

	memset(in.parts, 0, sizeof(in.parts));
	in.random = (uint32_t)size;
	split(&in, (const char *)data, size);
	for (unsigned i = 0; i < FILES && in.parts[i].name; i++)
		parse_alone(&in, &in.parts[i]);
	reset_faults(&in);
	program = stack_compile("default", &finder, &in.faults);
	check_faults(&in);
	insist((program != NULL) == (in.faults.count == 0));
	if (!program)
		return 0;
	in.program = program;
	insist(program->first[0] == 0 && program->first[STACK_KEY] < program->first[STACK_KEY + 1]);
	for (unsigned group = 0; group < STACK_GROUPS; group++) {
		check_group(&in, program, (enum stack_group)group);
		run(&in, program, (enum stack_group)group);
	}
	stack_lint(program, on_finding, NULL);
	play(&in, program);
	stack_program_free(program);
	return 0;
}
