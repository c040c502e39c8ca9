/* stack explain: a stack played through with codes of one's choice. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/apikeyctl/jsonout.h"
#include "client/apikeyctl/show.h"
#include "client/apikeyctl/stack_source.h"
#include "client/apikeyctl/stack_verbs.h"
#include "daemon/stack/simulate.h"

enum { FAULTS_SIZE = 65536 };

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
	const char *given = args_operand(args, 0);
	char *lines = calloc(1, FAULTS_SIZE), *directory = NULL, *name = NULL;
	struct stack_faults faults = {.text = lines, .size = FAULTS_SIZE};
	struct stack_source source;
	struct stack_program *program;
	char *rest = lines, *line;
	int code = CTL_DONE;

	/* A name has no slash. */
	if (!lines || (strchr(given, '/') && !stack_source_split(given, &directory, &name))) {
		free(lines);
		return ctl_no_memory(ctl);
	}
	stack_source_init(&source, args, directory);
	program = stack_compile(name ? name : given, &source.finder, &faults);
	while (!program && (line = strsep(&rest, "\n"))) {
		if (*line)
			code = ctl_say(ctl, CTL_USAGE, "%s", line);
	}
	if (program)
		code = explain_program(&explaining, program, args_text(args, "as"));
	stack_program_free(program);
	stack_source_deinit(&source);
	arena_clear(&explaining.arena);
	free(directory);
	free(name);
	free(lines);
	return code;
}

static const struct operand explain_operands[] = {
	{"STACK|FILE", "its name in --dir, or the path of its file", false, false}, {NULL, NULL, false, false}};

static const struct option explain_options[] = {
	STACK_SOURCE_OPTIONS,
	{.name = "as",
	 .value = "CODE,…",
	 .help = "what each module line says, in their order; or LINE=CODE,… for those that do not say success"},
	{.name = NULL}};

const struct command command_stack_explain = {
	.name = "explain",
	.summary = "plays a stack through with codes of your choice, without a daemon",
	.details =
		"The core's own parts are taken as passed. Shows each line, what its control makes of its code, and why the "
		"verdict follows. Exit code: 0 allow, 1 deny, 3 unavailable.",
	.operands = explain_operands,
	.options = explain_options,
	.run = stack_explain_run};
