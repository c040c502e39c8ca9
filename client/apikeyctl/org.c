/* org: organizations. */
#include "client/apikeyctl/nouns.h"
#include "client/apikeyctl/rows.h"

static const struct show_column org_columns[] = {
	{"ORG", "org", 0, NULL},
	{"NAME", "name", SHOW_WRAP, NULL},
	{"STANDING", "standing", SHOW_STATE, NULL},
	{"CREATED", "created_at", 0, show_when},
	{NULL, NULL, 0, NULL},
};

static const struct show_column org_record[] = {
	{"org", "org", 0, NULL},
	{"name", "name", 0, NULL},
	{"standing", "standing", SHOW_STATE, NULL},
	{"created", "created_at", 0, show_when},
	{"pages", "pages", 0, NULL},
	{"members", "members", 0, NULL},
	{"keys", "keys", 0, NULL},
	{NULL, NULL, 0, NULL},
};

static const struct rows_param org_add_params[] = {{"org", NULL}, {"name", "name"}, {NULL, NULL}};
static const struct rows_param org_one_params[] = {{"org", NULL}, {NULL, NULL}};
static const struct rows_param org_set_params[] = {
	{"org", NULL}, {"slug", "slug"}, {"name", "name"}, {"standing", "standing"}, {NULL, NULL}};

static int org_add(struct ctl *ctl, const struct args *args)
{
	return rows_change(ctl, args, "org_add", org_add_params, org_record);
}

static int org_list(struct ctl *ctl, const struct args *args)
{
	return rows_list(ctl, args, "org_list", NULL, org_columns);
}

static int org_show(struct ctl *ctl, const struct args *args)
{
	return rows_show(ctl, args, "org_show", org_one_params, org_record);
}

static int org_set(struct ctl *ctl, const struct args *args)
{
	if (!args_has(args, "slug") && !args_has(args, "name") && !args_has(args, "standing"))
		return ctl_say(ctl, CTL_USAGE, "org set changes nothing: give --slug, --name or --standing");
	return rows_change(ctl, args, "org_set", org_set_params, org_record);
}

static int org_remove(struct ctl *ctl, const struct args *args)
{
	return rows_remove(ctl, args, "org_remove", org_one_params,
			   "Remove organization %s with its pages and memberships?", "removed");
}

static const struct operand org_new[] = {
	{"SLUG", "the organization's short name, as it stands in commands and addresses", false, false},
	{NULL, NULL, false, false}};
static const struct operand org_one[] = {{"ORG", "an organization's slug", false, false}, {NULL, NULL, false, false}};

static const struct option org_add_options[] = {
	{.name = "name", .value = "TEXT", .help = "what people call it (default: the slug)"},
	{.name = NULL},
};

static const struct option org_set_options[] = {
	{.name = "slug", .value = "SLUG", .help = "a new slug"},
	{.name = "name", .value = "TEXT", .help = "what people call it"},
	{.name = "standing",
	 .value = "active|suspended",
	 .help = "suspended: every key is refused in this organization, with org_suspended"},
	{.name = NULL},
};

static const struct command org_verb_add = {.name = "add",
					    .summary = "add an organization",
					    .operands = org_new,
					    .options = org_add_options,
					    .takes = COMMAND_CHANGE,
					    .run = org_add};
static const struct command org_verb_list = {
	.name = "list", .summary = "list organizations", .takes = COMMAND_LIST, .run = org_list};
static const struct command org_verb_show = {
	.name = "show", .summary = "show one organization", .operands = org_one, .run = org_show};
static const struct command org_verb_set = {.name = "set",
					    .summary = "rename, suspend or reactivate an organization",
					    .operands = org_one,
					    .options = org_set_options,
					    .takes = COMMAND_CHANGE,
					    .run = org_set};
static const struct command org_verb_remove = {
	.name = "remove",
	.summary = "remove an organization",
	.details =
		"An organization that has keys is not removed: its keys and what they did must stay known. Suspend it "
		"instead: apikeyctl org set ORG --standing suspended.",
	.operands = org_one,
	.takes = COMMAND_CONFIRM | COMMAND_CHANGE,
	.run = org_remove};

static const struct command *const org_verbs[] = {&org_verb_add, &org_verb_list,   &org_verb_show,
						  &org_verb_set, &org_verb_remove, NULL};

const struct command command_org = {.name = "org", .summary = "organizations", .commands = org_verbs};
