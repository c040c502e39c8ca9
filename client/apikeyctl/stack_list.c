/* stack list: the stacks of a directory, and which modules stand in their groups. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/apikeyctl/jsonout.h"
#include "client/apikeyctl/show.h"
#include "client/apikeyctl/stack_source.h"
#include "client/apikeyctl/stack_verbs.h"

enum { FAULTS_SIZE = 65536 };

struct listing {
	const struct ctl *ctl;
	struct arena arena;
	struct value rows; /* a list */
	unsigned faulty;
};

/* The modules of a group, included ones too, in their order; nil where the stack has no line of it. */
static bool put_group(struct arena *arena, struct value *row, const struct stack_program *program, unsigned group)
{
	struct value *list = value_set(arena, row, group_word((enum stack_group)group)), *item;
	unsigned at = program->first[group], end = program->first[group + 1];

	if (!list)
		return false;
	if (at == end && !program->none[group])
		return true;
	value_list(list);
	for (; at < end; at++) {
		const struct stack_line *line = &program->lines[at];

		if (line->op != STACK_OP_MODULE)
			continue;
		item = value_add(arena, list);
		if (!item || !value_text(arena, item, line->name, strlen(line->name)))
			return false;
	}
	return true;
}

static bool put_row(struct arena *arena, struct value *row, const struct stack_entry *entry,
		    const struct stack_program *program)
{
	bool good;

	value_map(row);
	good = value_set_text(arena, row, "stack", entry->name) && value_set_text(arena, row, "file", entry->path) &&
	       value_set_bool(arena, row, "loads", program != NULL);
	for (unsigned group = 0; good && group < STACK_GROUPS; group++)
		good = program ? put_group(arena, row, program, group)
			       : value_set_text(arena, row, group_word((enum stack_group)group), NULL);
	return good;
}

/* Returns a ctl_exit. */
static int list_stack(struct listing *listing, struct stack_source *source, const struct stack_entry *entry)
{
	char *lines = calloc(1, FAULTS_SIZE);
	struct stack_faults faults = {.text = lines, .size = FAULTS_SIZE};
	struct stack_program *program = lines ? stack_compile(entry->name, &source->finder, &faults) : NULL;
	struct value *row = lines ? value_add(&listing->arena, &listing->rows) : NULL;
	bool good = row && put_row(&listing->arena, row, entry, program);

	if (good && !program) {
		listing->faulty++;
		ctl_note(listing->ctl, "%.*s", (int)strcspn(lines, "\n"), lines);
	}
	stack_program_free(program);
	free(lines);
	return good ? CTL_DONE : ctl_no_memory(listing->ctl);
}

static const struct show_column columns[] = {
	{"STACK", "stack", 0, NULL},
	{"LOADS", "loads", 0, NULL},
	{"CALLER", "caller", SHOW_WRAP, NULL},
	{"KEY", "key", SHOW_WRAP, NULL},
	{"ACCOUNT", "account", SHOW_WRAP, NULL},
	{"PAGE", "page", SHOW_WRAP, NULL},
	{"SCOPE", "scope", SHOW_WRAP, NULL},
	{"AUDIT", "audit", SHOW_WRAP, NULL},
	{NULL, NULL, 0, NULL},
};

static int show(const struct ctl *ctl, const struct value *rows)
{
	struct show_table *table;
	bool added = true;

	if (ctl->json)
		return jsonout_show(ctl, rows);
	table = show_table_new(ctl, columns);
	for (uint32_t i = 0; table && added && i < rows->count; i++)
		added = show_table_add(table, &rows->items[i]);
	if (table && added)
		show_table_print(table);
	show_table_free(table);
	return table && added ? CTL_DONE : ctl_no_memory(ctl);
}

static int stack_list_run(struct ctl *ctl, const struct args *args)
{
	struct listing listing = {.ctl = ctl};
	struct stack_source source;
	struct stack_entry *entries;
	size_t count;
	int code = CTL_DONE;

	stack_source_init(&source, args, NULL);
	if (stack_source_entries(&source, &entries, &count) != 0)
		return ctl_say(ctl, CTL_USAGE, "%s: %s; name another with --dir", source.directory, strerror(errno));
	value_list(&listing.rows);
	for (size_t i = 0; !code && i < count; i++) {
		if (entries[i].kind == STACK_ENTRY_STACK)
			code = list_stack(&listing, &source, &entries[i]);
	}
	if (!code)
		code = show(ctl, &listing.rows);
	if (!code && listing.faulty > 0) {
		ctl_note(ctl, "%u of them cannot be loaded; apikeyctl stack check says all that is wrong",
			 listing.faulty);
		code = CTL_DENY;
	}
	stack_source_entries_free(entries, count);
	stack_source_deinit(&source);
	arena_clear(&listing.arena);
	return code;
}

static const struct option list_options[] = {STACK_SOURCE_OPTIONS, {.name = NULL}};

const struct command command_stack_list = {
	.name = "list",
	.summary = "the stacks of a directory, and the modules of their groups",
	.details =
		"Those of --dir, as the daemon would read them; included modules stand where they are asked. \"none\": nobody is "
		"asked, and that is written; \"-\": the stack says nothing of the group. Exit code: 0, or 1 where one cannot be loaded.",
	.options = list_options,
	.run = stack_list_run};
