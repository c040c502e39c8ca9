/* page: status pages. */
#include "client/apikeyctl/nouns.h"
#include "client/apikeyctl/rows.h"

static const struct show_column page_columns[] = {
	{"PAGE", "page", 0, NULL},
	{"ORG", "org", 0, NULL},
	{"NAME", "name", SHOW_WRAP, NULL},
	{"STANDING", "standing", SHOW_STATE, NULL},
	{"CREATED", "created_at", 0, show_when},
	{NULL, NULL, 0, NULL},
};

static const struct show_column page_record[] = {
	{"page", "page", 0, NULL},
	{"org", "org", 0, NULL},
	{"name", "name", 0, NULL},
	{"standing", "standing", SHOW_STATE, NULL},
	{"created", "created_at", 0, show_when},
	{NULL, NULL, 0, NULL},
};

static const struct rows_param page_add_params[] = {{"page", NULL}, {"org", "org"}, {"name", "name"}, {NULL, NULL}};
static const struct rows_param page_list_params[] = {{"org", "org"}, {NULL, NULL}};
static const struct rows_param page_one_params[] = {{"page", NULL}, {NULL, NULL}};
static const struct rows_param page_set_params[] = {
	{"page", NULL}, {"slug", "slug"}, {"name", "name"}, {"standing", "standing"}, {NULL, NULL}};

static int page_add(struct ctl *ctl, const struct args *args)
{
	if (!args_has(args, "org"))
		return ctl_say(ctl, CTL_USAGE, "a page belongs to an organization: give --org ORG");
	return rows_change(ctl, args, "page_add", page_add_params, page_record);
}

static int page_list(struct ctl *ctl, const struct args *args)
{
	return rows_list(ctl, args, "page_list", page_list_params, page_columns);
}

static int page_show(struct ctl *ctl, const struct args *args)
{
	return rows_show(ctl, args, "page_show", page_one_params, page_record);
}

static int page_set(struct ctl *ctl, const struct args *args)
{
	if (!args_has(args, "slug") && !args_has(args, "name") && !args_has(args, "standing"))
		return ctl_say(ctl, CTL_USAGE, "page set changes nothing: give --slug, --name or --standing");
	return rows_change(ctl, args, "page_set", page_set_params, page_record);
}

static int page_remove(struct ctl *ctl, const struct args *args)
{
	return rows_remove(ctl, args, "page_remove", page_one_params,
			   "Remove page %s, its memberships, and its mention in keys that are narrowed to pages?",
			   "removed");
}

static const struct operand page_new[] = {
	{"PAGE", "the page's slug, one of its kind on the whole platform", false, false}, {NULL, NULL, false, false}};
static const struct operand page_one[] = {{"PAGE", "a page's slug", false, false}, {NULL, NULL, false, false}};

static const struct option page_add_options[] = {
	{.name = "org", .value = "ORG", .help = "the organization that it belongs to, for good"},
	{.name = "name", .value = "TEXT", .help = "what people call it (default: the slug)"},
	{.name = NULL},
};

static const struct option page_list_options[] = {
	{.name = "org", .value = "ORG", .help = "only the pages of this organization"},
	{.name = NULL},
};

static const struct option page_set_options[] = {
	{.name = "slug", .value = "SLUG", .help = "a new slug"},
	{.name = "name", .value = "TEXT", .help = "what people call it"},
	{.name = "standing", .value = "active|archived", .help = "archived: keys may only read it"},
	{.name = NULL},
};

static const struct command page_verb_add = {.name = "add",
					     .summary = "add a status page to an organization",
					     .operands = page_new,
					     .options = page_add_options,
					     .takes = COMMAND_CHANGE,
					     .run = page_add};
static const struct command page_verb_list = {.name = "list",
					      .summary = "list status pages",
					      .options = page_list_options,
					      .takes = COMMAND_LIST,
					      .run = page_list};
static const struct command page_verb_show = {
	.name = "show", .summary = "show one status page", .operands = page_one, .run = page_show};
static const struct command page_verb_set = {.name = "set",
					     .summary = "rename, archive or reactivate a status page",
					     .operands = page_one,
					     .options = page_set_options,
					     .takes = COMMAND_CHANGE,
					     .run = page_set};
static const struct command page_verb_remove = {
	.name = "remove",
	.summary = "remove a status page",
	.details = "A key that was narrowed to this page alone stays narrowed, and allows nothing any more.",
	.operands = page_one,
	.takes = COMMAND_CONFIRM | COMMAND_CHANGE,
	.run = page_remove};

static const struct command *const page_verbs[] = {&page_verb_add, &page_verb_list,   &page_verb_show,
						   &page_verb_set, &page_verb_remove, NULL};

const struct command command_page = {.name = "page", .summary = "status pages", .commands = page_verbs};
