/* stack: files of policy, looked at before they are deployed, and played through. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/apikeyctl/jsonout.h"
#include "client/apikeyctl/nouns.h"
#include "client/apikeyctl/show.h"
#include "client/apikeyctl/stack_source.h"
#include "daemon/stack/lint.h"
#include "daemon/stack/simulate.h"

enum { STACK_FAULTS_SIZE = 65536 };

/* ---- check ---- */

struct checking {
	const struct ctl *ctl;
	const char *stack;
	json_t *found; /* --json: what was found, one object each */
	unsigned errors, warnings;
	bool no_memory;
};

static void checking_add(struct checking *checking, bool error, const char *name, const char *place, const char *text)
{
	const char *severity = error ? "error" : "warning";

	checking->errors += error;
	checking->warnings += !error;
	if (checking->ctl->quiet)
		return;
	if (!checking->ctl->json)
		ctl_print(checking->ctl, "%s: %s: %s [%s]", place, severity, text, name);
	else if (json_array_append_new(checking->found,
				       json_pack("{s:s, s:s, s:s, s:s, s:s}", "stack", checking->stack, "severity",
						 severity, "name", name, "place", place, "text", text)) != 0)
		checking->no_memory = true;
}

static void checking_finding(void *data, enum stack_severity severity, const char *name, const struct stack_line *line,
			     const char *text)
{
	struct checking *checking = data;
	char place[512];

	if (line)
		snprintf(place, sizeof(place), "%s:%u:%u", line->path, line->place.line, line->place.column);
	else
		snprintf(place, sizeof(place), "%s", checking->stack);
	checking_add(checking, severity == STACK_ERROR, name, place, text);
}

/* What refuses to load stands in lines of "<place>: <what>". */
static void checking_faults(struct checking *checking, char *lines)
{
	char *line;

	while ((line = strsep(&lines, "\n"))) {
		char *gap = strstr(line, ": ");

		if (!gap)
			continue;
		*gap = '\0';
		checking_add(checking, true, "does-not-load", line, gap + 2);
	}
}

/* One stack; `directory` NULL: the one of the options. */
static int check_stack(struct checking *checking, const struct args *args, const char *directory, const char *name)
{
	char *lines = calloc(1, STACK_FAULTS_SIZE);
	struct stack_faults faults = {.text = lines, .size = STACK_FAULTS_SIZE};
	struct stack_source source;
	struct stack_program *program;

	if (!lines)
		return ctl_no_memory(checking->ctl);
	checking->stack = name;
	stack_source_init(&source, args, directory);
	program = stack_compile(name, &source.finder, &faults);
	if (program)
		stack_lint(program, checking_finding, checking);
	else
		checking_faults(checking, lines);
	stack_program_free(program);
	stack_source_deinit(&source);
	free(lines);
	return CTL_DONE;
}

/* A file by its path: what it includes is looked for beside it. */
static int check_file(struct checking *checking, const struct args *args, const char *path)
{
	char *copy = strdup(path), *slash = copy ? strrchr(copy, '/') : NULL;
	const char *name = slash ? slash + 1 : copy;
	int code;

	if (!copy)
		return ctl_no_memory(checking->ctl);
	if (access(path, R_OK) != 0) {
		code = ctl_say(checking->ctl, CTL_USAGE, "%s: %s", path, strerror(errno));
		free(copy);
		return code;
	}
	if (slash)
		*slash = '\0';
	code = check_stack(checking, args, !slash ? "." : slash == copy ? "/" : copy, name);
	free(copy);
	return code;
}

static int select_stack(const struct dirent *entry)
{
	return stack_name_ok(entry->d_name, strlen(entry->d_name)) && !strstr(entry->d_name, ".dpkg-") &&
	       !strstr(entry->d_name, ".bak") && !strstr(entry->d_name, ".orig");
}

static int check_directory(struct checking *checking, const struct args *args)
{
	struct stack_source source;
	struct dirent **entries;
	int code = CTL_DONE, count;

	stack_source_init(&source, args, NULL);
	count = scandir(source.directory, &entries, select_stack, alphasort);
	if (count < 0)
		return ctl_say(checking->ctl, CTL_USAGE, "%s: %s; name the files, or --dir", source.directory,
			       strerror(errno));
	for (int i = 0; i < count; i++) {
		if (!code)
			code = check_stack(checking, args, NULL, entries[i]->d_name);
		free(entries[i]);
	}
	free(entries);
	return code;
}

static int stack_check_run(struct ctl *ctl, const struct args *args)
{
	struct checking checking = {.ctl = ctl, .found = json_array()};
	int code = checking.found ? CTL_DONE : ctl_no_memory(ctl);

	if (!code && !args_operand(args, 0))
		code = check_directory(&checking, args);
	for (size_t i = 0; !code && args_operand(args, i); i++)
		code = check_file(&checking, args, args_operand(args, i));
	if (!code && checking.no_memory)
		code = ctl_no_memory(ctl);
	if (!code && ctl->json && !ctl->quiet)
		code = jsonout_print(ctl, json_incref(checking.found));
	json_decref(checking.found);
	if (!code && !ctl->json)
		ctl_note(ctl, "%u errors, %u warnings", checking.errors, checking.warnings);
	if (!code && (checking.errors || (args_has(args, "strict") && checking.warnings)))
		code = CTL_DENY;
	return code;
}

static const struct operand check_operands[] = {{"FILE", "a stack's file; none: all of --dir", true, true},
						{NULL, NULL, false, false}};

static const struct option check_options[] = {
	STACK_SOURCE_OPTIONS, {.name = "strict", .help = "warnings are enough for exit code 1"}, {.name = NULL}};

static const struct command command_stack_check = {
	.name = "check",
	.summary = "says what is wrong in stacks, and what is probably not meant",
	.details =
		"What keeps a stack from being loaded is an error, and so is a stack that can never allow anything; lines that "
		"are never reached, refusals that do not count and the like are warnings. apikeyd-stacks(5) lists them.\n"
		"Files of a working copy may be looked at: whether they can be trusted, and what must be asked of this host, "
		"apikeyd -t says. Exit code: 0 nothing wrong, 1 errors (with --strict, warnings too).",
	.operands = check_operands,
	.options = check_options,
	.run = stack_check_run};

/* ---- explain ---- */

struct explaining {
	const struct ctl *ctl;
	struct arena arena;
	struct value steps; /* a list of rows */
	bool no_memory;
};

static void explaining_step(void *data, const struct stack_step *step)
{
	struct explaining *explaining = data;
	struct arena *arena = &explaining->arena;
	const struct stack_line *line = step->line;
	const char *slash = strrchr(line->path, '/');
	struct value *row;
	char where[128];
	bool good;

	if (line->op == STACK_OP_ENTER)
		return;
	row = value_add(arena, &explaining->steps);
	if (!row) {
		explaining->no_memory = true;
		return;
	}
	snprintf(where, sizeof(where), "%s:%u", slash ? slash + 1 : line->path, line->place.line);
	value_map(row);
	good = value_set_text(arena, row, "group", group_word(step->group)) &&
	       value_set_text(arena, row, "line", where) &&
	       value_set_text(arena, row, "module", line->op == STACK_OP_MODULE ? line->name : "substack") &&
	       value_set_text(arena, row, "control", line->control ? line->control : "") &&
	       value_set_bool(arena, row, "asked", step->asked) &&
	       value_set_text(arena, row, "code", step->asked ? code_word(step->code) : NULL) &&
	       value_set_text(arena, row, "action", step->asked ? action_word(step->action) : NULL) &&
	       value_set_text(arena, row, "effect", step->asked ? effect_word(step->effect) : "not asked");
	explaining->no_memory |= !good;
}

static const struct show_column explain_columns[] = {
	{"GROUP", "group", 0, NULL},	 {"LINE", "line", 0, NULL}, {"MODULE", "module", 0, NULL},
	{"CONTROL", "control", 0, NULL}, {"CODE", "code", 0, NULL}, {"ACTION", "action", 0, NULL},
	{"EFFECT", "effect", 0, NULL},	 {NULL, NULL, 0, NULL},
};

static int explaining_show(struct explaining *explaining, const struct stack_simulated *simulated)
{
	const struct ctl *ctl = explaining->ctl;
	struct show_table *table;
	struct value whole, *steps;
	bool added = true;

	if (ctl->quiet)
		return CTL_DONE;
	if (ctl->json) {
		value_map(&whole);
		added = value_set_text(&explaining->arena, &whole, "verdict", verdict_word(simulated->verdict)) &&
			value_set_text(&explaining->arena, &whole, "reason", reason_word(simulated->reason)) &&
			value_set_text(&explaining->arena, &whole, "why", simulated->why) &&
			(steps = value_set(&explaining->arena, &whole, "steps"));
		if (!added)
			return ctl_no_memory(ctl);
		*steps = explaining->steps;
		return jsonout_show(ctl, &whole);
	}
	table = show_table_new(ctl, explain_columns);
	for (uint32_t i = 0; table && added && i < explaining->steps.count; i++)
		added = show_table_add(table, &explaining->steps.items[i]);
	if (table && added) {
		show_table_print(table);
		ctl_print(ctl, "%s: %s", verdict_word(simulated->verdict), reason_word(simulated->reason));
		ctl_print(ctl, "  %s", simulated->why);
	}
	show_table_free(table);
	return table && added ? CTL_DONE : ctl_no_memory(ctl);
}

static int explain_program(struct explaining *explaining, const struct stack_program *program, const char *as)
{
	struct stack_simulated simulated;
	char error[512];
	int rc, code;

	value_list(&explaining->steps);
	rc = stack_simulate(program, as, explaining_step, explaining, &simulated, error, sizeof(error));
	if (rc == -EINVAL)
		return ctl_say(explaining->ctl, CTL_USAGE, "--as: %s", error);
	if (rc != 0 || explaining->no_memory)
		return ctl_no_memory(explaining->ctl);
	code = explaining_show(explaining, &simulated);
	if (code)
		return code;
	return simulated.verdict == VERDICT_ALLOW	  ? CTL_DONE
	       : simulated.verdict == VERDICT_UNAVAILABLE ? CTL_UNAVAILABLE
							  : CTL_DENY;
}

static int stack_explain_run(struct ctl *ctl, const struct args *args)
{
	struct explaining explaining = {.ctl = ctl};
	char *lines = calloc(1, STACK_FAULTS_SIZE);
	struct stack_faults faults = {.text = lines, .size = STACK_FAULTS_SIZE};
	struct stack_source source;
	struct stack_program *program;
	char *rest = lines, *line;
	int code = CTL_DONE;

	if (!lines)
		return ctl_no_memory(ctl);
	stack_source_init(&source, args, NULL);
	program = stack_compile(args_operand(args, 0), &source.finder, &faults);
	while (!program && (line = strsep(&rest, "\n"))) {
		if (*line)
			code = ctl_say(ctl, CTL_USAGE, "%s", line);
	}
	if (program)
		code = explain_program(&explaining, program, args_text(args, "as"));
	stack_program_free(program);
	stack_source_deinit(&source);
	arena_clear(&explaining.arena);
	free(lines);
	return code;
}

static const struct operand explain_operands[] = {{"STACK", "its name", false, false}, {NULL, NULL, false, false}};

static const struct option explain_options[] = {
	STACK_SOURCE_OPTIONS,
	{.name = "as",
	 .value = "CODE,…",
	 .help = "what each module line says, in their order; or LINE=CODE,… for those that do not say success"},
	{.name = NULL}};

static const struct command command_stack_explain = {
	.name = "explain",
	.summary = "plays a stack through with codes of your choice, without a daemon",
	.details =
		"The core's own parts are taken as passed. Shows each line, what its control makes of its code, and why the "
		"verdict follows. Exit code: 0 allow, 1 deny, 3 unavailable.",
	.operands = explain_operands,
	.options = explain_options,
	.run = stack_explain_run};

static const struct command *const stack_commands[] = {&command_stack_check, &command_stack_explain, NULL};

const struct command command_stack = {
	.name = "stack", .summary = "policy: check stacks, play them through", .commands = stack_commands};
