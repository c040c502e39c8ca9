/* modules: what can stand in a stack, and with which arguments. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "client/apikeyctl/jsonout.h"
#include "client/apikeyctl/nouns.h"
#include "client/apikeyctl/show.h"
#include "client/apikeyctl/stack_source.h"
#include "daemon/modules/load.h"
#include "daemon/stack/code.h"

struct listing {
	const struct ctl *ctl;
	struct arena arena;
	struct value rows; /* a list */
	bool no_memory;
};

static const char *type_word(enum apikeyd_type type)
{
	static const char *const words[] = {
		[APIKEYD_TYPE_TEXT] = "text",	 [APIKEYD_TYPE_WORD] = "word",	   [APIKEYD_TYPE_BOOL] = "yes|no",
		[APIKEYD_TYPE_COUNT] = "number", [APIKEYD_TYPE_TIME] = "time",	   [APIKEYD_TYPE_PATH] = "path",
		[APIKEYD_TYPE_LIST] = "list",	 [APIKEYD_TYPE_SCOPES] = "scopes", [APIKEYD_TYPE_RATE] = "rate",
	};

	return (unsigned)type < sizeof(words) / sizeof(words[0]) ? words[type] : "text";
}

static bool put_groups(struct arena *arena, struct value *row, unsigned groups)
{
	struct value *list = value_set(arena, row, "groups"), *item;

	if (!list)
		return false;
	value_list(list);
	for (unsigned group = 0; group < STACK_GROUPS; group++) {
		if (!(groups & group_bit((enum stack_group)group)))
			continue;
		item = value_add(arena, list);
		if (!item)
			return false;
		value_borrow(item, group_word((enum stack_group)group), strlen(group_word((enum stack_group)group)));
	}
	return true;
}

/* What a number may be; NULL: no such bounds. */
static const char *range_text(const struct apikeyd_argument *argument, char *out, size_t size)
{
	const char *unit = argument->type == APIKEYD_TYPE_TIME ? " ms" : "";

	if (argument->max == 0 || (argument->type != APIKEYD_TYPE_COUNT && argument->type != APIKEYD_TYPE_TIME))
		return NULL;
	snprintf(out, size, "%" PRIu64 " to %" PRIu64 "%s", argument->min, argument->max, unit);
	return out;
}

static bool put_argument(struct arena *arena, struct value *list, const struct apikeyd_argument *argument)
{
	struct value *row = value_add(arena, list);
	char range[64];

	if (!row)
		return false;
	value_map(row);
	return value_set_text(arena, row, "range", range_text(argument, range, sizeof(range))) &&
	       value_set_text(arena, row, "name", argument->name) &&
	       value_set_text(arena, row, "type", argument->words ? argument->words : type_word(argument->type)) &&
	       value_set_bool(arena, row, "required", argument->required) &&
	       value_set_text(arena, row, "default", argument->fallback) &&
	       value_set_text(arena, row, "help", argument->help);
}

static bool put_module(struct arena *arena, struct value *row, const struct apikeyd_module *module, bool built_in)
{
	struct value *list;

	value_map(row);
	if (!value_set_text(arena, row, "name", module->name) ||
	    !value_set_text(arena, row, "from", built_in ? "built in" : "module directory") ||
	    !put_groups(arena, row, module->groups) || !value_set_text(arena, row, "help", module->help))
		return false;
	list = value_set(arena, row, "arguments");
	if (!list)
		return false;
	value_list(list);
	for (const struct apikeyd_argument *a = module->arguments; a && a->name; a++) {
		if (!put_argument(arena, list, a))
			return false;
	}
	return true;
}

static void on_module(void *data, const char *name, const struct apikeyd_module *module, bool built_in,
		      const char *text)
{
	struct listing *listing = data;
	struct value *row;

	if (*text)
		ctl_note(listing->ctl, "%s: %s", name, text);
	if (!module)
		return;
	row = value_add(&listing->arena, &listing->rows);
	if (!row || !put_module(&listing->arena, row, module, built_in))
		listing->no_memory = true;
}

static const struct show_column module_columns[] = {
	{"MODULE", "name", 0, NULL}, {"GROUPS", "groups", 0, NULL},
	{"FROM", "from", 0, NULL},   {"WHAT IT DOES", "help", SHOW_WRAP, NULL},
	{NULL, NULL, 0, NULL},
};
static const struct show_column argument_columns[] = {
	{"ARGUMENT", "name", 0, NULL},	 {"TYPE", "type", SHOW_WRAP, NULL}, {"RANGE", "range", 0, NULL},
	{"DEFAULT", "default", 0, NULL}, {"REQUIRED", "required", 0, NULL}, {"WHAT IT DOES", "help", SHOW_WRAP, NULL},
	{NULL, NULL, 0, NULL},
};

static int show_rows(const struct ctl *ctl, const struct show_column *columns, const struct value *rows)
{
	struct show_table *table = show_table_new(ctl, columns);
	bool added = true;

	for (uint32_t i = 0; table && added && i < rows->count; i++)
		added = show_table_add(table, &rows->items[i]);
	if (table && added)
		show_table_print(table);
	show_table_free(table);
	return table && added ? CTL_DONE : ctl_no_memory(ctl);
}

static int show_one(const struct ctl *ctl, const struct value *row)
{
	int code = show_record(ctl, module_columns, row);

	if (!code && value_get(row, "arguments")->count > 0) {
		fputc('\n', ctl->out);
		code = show_rows(ctl, argument_columns, value_get(row, "arguments"));
	}
	return code;
}

static const struct value *find_row(const struct listing *listing, const char *name)
{
	for (uint32_t i = 0; i < listing->rows.count; i++) {
		if (strcmp(value_as_text(value_get(&listing->rows.items[i], "name"), ""), name) == 0)
			return &listing->rows.items[i];
	}
	return NULL;
}

static int modules_run(struct ctl *ctl, const struct args *args)
{
	const char *name = args_operand(args, 0), *directory = stack_source_modules(args);
	struct listing listing = {.ctl = ctl};
	const struct value *row = NULL;
	char error[512];
	int code = CTL_DONE;

	value_list(&listing.rows);
	/* That there is no directory of modules is nothing unusual, unless it was named. */
	if (modules_each(directory, on_module, &listing, error, sizeof(error)) != 0 && args_has(args, "module-dir"))
		code = ctl_say(ctl, CTL_USAGE, "%s", error);
	if (!code && listing.no_memory)
		code = ctl_no_memory(ctl);
	if (!code && name) {
		row = find_row(&listing, name);
		if (!row)
			code = ctl_say(ctl, CTL_REFUSED, "there is no module %s; apikeyctl modules lists them", name);
	}
	if (!code && ctl->json)
		code = jsonout_show(ctl, row ? row : &listing.rows);
	else if (!code)
		code = row ? show_one(ctl, row) : show_rows(ctl, module_columns, &listing.rows);
	arena_clear(&listing.arena);
	return code;
}

static const struct operand modules_operands[] = {{"NAME", "one of them, with its arguments", true, false},
						  {NULL, NULL, false, false}};

static const struct option modules_options[] = {
	{.name = "module-dir", .value = "DIR", .help = "where modules of others are (default: as installed)"},
	{.name = NULL}};

const struct command command_modules = {
	.name = "modules",
	.summary = "the modules that can stand in a stack, and their arguments",
	.details =
		"Those built in and those of the module directory, as this program finds them; apikeyd-modules(7) tells more.",
	.operands = modules_operands,
	.options = modules_options,
	.run = modules_run};
