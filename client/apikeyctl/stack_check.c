/* stack check: what keeps stacks from being loaded, and what is probably not meant in them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/apikeyctl/stack_finding.h"
#include "client/apikeyctl/stack_source.h"
#include "client/apikeyctl/stack_verbs.h"
#include "daemon/stack/lint.h"

struct checking {
	const struct ctl *ctl;
	const struct args *args;
	const struct stack_source *source;
	const char *stack;
	struct findings findings;
};

/* ---- one stack ---- */

static void on_finding(void *data, enum stack_severity severity, const char *name, const struct stack_line *line,
		       const char *text)
{
	struct checking *checking = data;
	struct finding finding = {.severity = severity == STACK_ERROR ? FINDING_ERROR : FINDING_WARNING, .code = name};
	char *path = NULL;

	if (line) {
		finding.file = line->path;
		finding.place = line->op == STACK_OP_MODULE ? line->name_place : line->place;
		finding.word = line->name;
	} else {
		finding.file = path = stack_source_path(checking->source, checking->stack);
	}
	if (finding.file)
		findings_add_text(&checking->findings, checking->stack, finding, text);
	else
		checking->findings.no_memory = true;
	free(path);
}

static void on_fault(void *data, const char *path, struct stack_place place, const char *word, size_t word_len,
		     const char *what)
{
	struct checking *checking = data;
	struct finding finding = {.severity = FINDING_ERROR, .code = "does-not-load", .file = path, .place = place};
	char *own = NULL, *copy = NULL;

	/* The stack itself, before a file of it was found. */
	if (!strchr(path, '/'))
		finding.file = own = stack_source_path(checking->source, path);
	if (word_len > 0)
		finding.word = copy = strndup(word, word_len);
	if (finding.file && (word_len == 0 || copy))
		findings_add_text(&checking->findings, checking->stack, finding, what);
	else
		checking->findings.no_memory = true;
	free(own);
	free(copy);
}

/* `directory` NULL: the one of the options. */
static void check_stack(struct checking *checking, const char *directory, const char *name)
{
	char none[1] = "";
	struct stack_faults faults = {.text = none, .size = sizeof(none), .part = on_fault, .data = checking};
	struct stack_source source;
	struct stack_program *program;

	stack_source_init(&source, checking->args, directory);
	checking->source = &source;
	checking->stack = name;
	program = stack_compile(name, &source.finder, &faults);
	if (program)
		stack_lint(program, on_finding, checking);
	stack_program_free(program);
	stack_source_deinit(&source);
}

/* ---- a directory, as the daemon reads it ---- */

static int check_directory(struct checking *checking, const char *directory)
{
	static const char *const whys[] = {
		[STACK_ENTRY_LEFT_OVER] =
			"is passed over, as what an editor or a package manager leaves; give it another "
			"name if it is to be a stack",
		[STACK_ENTRY_BAD_NAME] =
			"is no name of a stack; letters, digits, -, _ and ., the first a letter or digit, "
			"at most 64",
		[STACK_ENTRY_NO_FILE] = "is no file; move it elsewhere: everything in this directory is a stack",
	};
	struct stack_source source;
	struct stack_entry *entries;
	size_t count, stacks = 0;
	bool has_default = false;
	char many[96];

	stack_source_init(&source, checking->args, directory);
	if (stack_source_entries(&source, &entries, &count) != 0)
		return ctl_say(checking->ctl, CTL_USAGE, "%s: %s; name the files, or --dir", source.directory,
			       strerror(errno));
	for (size_t i = 0; i < count; i++) {
		struct stack_entry *entry = &entries[i];
		struct finding finding = {
			.severity = entry->kind == STACK_ENTRY_LEFT_OVER ? FINDING_NOTE : FINDING_ERROR,
			.code = entry->kind == STACK_ENTRY_LEFT_OVER ? "passed-over" : "does-not-load",
			.file = entry->path};

		if (entry->kind == STACK_ENTRY_STACK)
			check_stack(checking, directory, entry->name);
		else
			findings_add_text(&checking->findings, NULL, finding, whys[entry->kind]);
		stacks += entry->kind != STACK_ENTRY_LEFT_OVER;
		has_default |= strcmp(entry->name, "default") == 0;
	}
	if (!has_default)
		findings_add_text(
			&checking->findings, NULL,
			(struct finding){.severity = FINDING_ERROR, .code = "no-default", .file = source.directory},
			"there is no stack default; add one: it is what everybody gets who names none");
	if (stacks > STACK_FILES_MAX) {
		snprintf(many, sizeof(many), "holds %zu stacks, and the daemon reads at most %d; move some elsewhere",
			 stacks, STACK_FILES_MAX);
		findings_add_text(
			&checking->findings, NULL,
			(struct finding){.severity = FINDING_ERROR, .code = "does-not-load", .file = source.directory},
			many);
	}
	stack_source_entries_free(entries, count);
	return CTL_DONE;
}

/* A file by its path: what it includes is looked for beside it. */
static int check_path(struct checking *checking, const char *path)
{
	char *directory, *name;
	int code = CTL_DONE;

	if (stack_source_is_directory(path))
		return check_directory(checking, path);
	if (access(path, R_OK) != 0)
		return ctl_say(checking->ctl, CTL_USAGE, "%s: %s", path, strerror(errno));
	if (!stack_source_split(path, &directory, &name))
		return ctl_no_memory(checking->ctl);
	check_stack(checking, directory, name);
	free(directory);
	free(name);
	return code;
}

/* ---- the command ---- */

static int stack_check_run(struct ctl *ctl, const struct args *args)
{
	struct checking checking = {.ctl = ctl, .args = args};
	const unsigned *counts = checking.findings.counts;
	int code = CTL_DONE;

	if (!args_operand(args, 0))
		code = check_directory(&checking, NULL);
	for (size_t i = 0; !code && args_operand(args, i); i++)
		code = check_path(&checking, args_operand(args, i));
	if (!code)
		code = findings_show(&checking.findings, ctl);
	if (!code && !ctl->json)
		ctl_note(ctl, "%u errors, %u warnings", counts[FINDING_ERROR], counts[FINDING_WARNING]);
	if (!code && (counts[FINDING_ERROR] || (args_has(args, "strict") && counts[FINDING_WARNING])))
		code = CTL_DENY;
	findings_deinit(&checking.findings);
	return code;
}

static const struct operand check_operands[] = {
	{"FILE", "a stack's file, or a directory of them; none: all of --dir", true, true}, {NULL, NULL, false, false}};

static const struct option check_options[] = {
	STACK_SOURCE_OPTIONS, {.name = "strict", .help = "warnings are enough for exit code 1"}, {.name = NULL}};

const struct command command_stack_check = {
	.name = "check",
	.summary = "says what is wrong in stacks, and what is probably not meant",
	.details =
		"What keeps a stack from being loaded is an error, and so is a stack that can never allow anything; lines that "
		"are never reached, refusals that do not count and the like are warnings. apikeyd-stacks(5) lists them. A "
		"directory is looked at as the daemon reads it.\n"
		"Files of a working copy may be looked at: whether they can be trusted, and what must be asked of this host, "
		"apikeyd -t says. Exit code: 0 nothing wrong, 1 errors (with --strict, warnings too).",
	.operands = check_operands,
	.options = check_options,
	.run = stack_check_run};
