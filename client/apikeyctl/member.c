/* member: the roles of users in organizations and on pages. */
#include "client/apikeyctl/nouns.h"
#include "client/apikeyctl/rows.h"

static const struct show_column member_columns[] = {
	{"USER", "user", 0, NULL}, {"ORG", "org", 0, NULL}, {"PAGE", "page", 0, NULL},
	{"ROLE", "role", 0, NULL}, {NULL, NULL, 0, NULL},
};

static const struct show_column member_record[] = {
	{"user", "user", 0, NULL}, {"org", "org", 0, NULL}, {"page", "page", 0, NULL},
	{"role", "role", 0, NULL}, {NULL, NULL, 0, NULL},
};

static const struct rows_param member_set_params[] = {
	{"user", NULL}, {"role", NULL}, {"org", "org"}, {"page", "page"}, {NULL, NULL}};
static const struct rows_param member_list_params[] = {
	{"org", "org"}, {"page", "page"}, {"user", "user"}, {NULL, NULL}};
static const struct rows_param member_remove_params[] = {
	{"user", NULL}, {"org", "org"}, {"page", "page"}, {NULL, NULL}};

static int member_place(const struct ctl *ctl, const struct args *args)
{
	if (args_has(args, "org") != args_has(args, "page"))
		return CTL_DONE;
	return ctl_say(ctl, CTL_USAGE, "a membership is of one place: give either --org ORG or --page PAGE");
}

static int member_set(struct ctl *ctl, const struct args *args)
{
	int code = member_place(ctl, args);

	return code ? code : rows_change(ctl, args, "member_set", member_set_params, member_record);
}

static int member_list(struct ctl *ctl, const struct args *args)
{
	return rows_list(ctl, args, "member_list", member_list_params, member_columns);
}

static int member_remove(struct ctl *ctl, const struct args *args)
{
	int code = member_place(ctl, args);

	if (code)
		return code;
	return rows_remove(ctl, args, "member_remove", member_remove_params,
			   args_has(args, "org") ? "Remove user %s from the organization?"
						 : "Remove the page role of user %s?",
			   "removed");
}

static const struct operand member_set_operands[] = {
	{"USER", "a user's email address", false, false},
	{"ROLE", "owner, admin, editor or viewer; in an organization also billing", false, false},
	{NULL, NULL, false, false},
};
static const struct operand member_one[] = {{"USER", "a user's email address", false, false},
					    {NULL, NULL, false, false}};

static const struct option member_place_options[] = {
	{.name = "org", .value = "ORG", .help = "the organization"},
	{.name = "page", .value = "PAGE", .help = "the page; a role on it overrides the one in its organization"},
	{.name = NULL},
};

static const struct option member_list_options[] = {
	{.name = "org", .value = "ORG", .help = "the members of this organization and of its pages"},
	{.name = "page", .value = "PAGE", .help = "the members of this page"},
	{.name = "user", .value = "USER", .help = "the memberships of this user"},
	{.name = NULL},
};

static const struct command member_verb_set = {
	.name = "set",
	.summary = "give a user a role, or another role",
	.details =
		"A role on a page overrides the user's role in its organization on that page, upwards and downwards. "
		"The user's keys follow at once.",
	.operands = member_set_operands,
	.options = member_place_options,
	.takes = COMMAND_CHANGE,
	.run = member_set};
static const struct command member_verb_list = {.name = "list",
						.summary = "list memberships",
						.options = member_list_options,
						.takes = COMMAND_LIST,
						.run = member_list};
static const struct command member_verb_remove = {.name = "remove",
						  .summary = "take a user's role away",
						  .operands = member_one,
						  .options = member_place_options,
						  .takes = COMMAND_CONFIRM | COMMAND_CHANGE,
						  .run = member_remove};

static const struct command *const member_verbs[] = {&member_verb_set, &member_verb_list, &member_verb_remove, NULL};

const struct command command_member = {
	.name = "member", .summary = "roles of users in organizations and on pages", .commands = member_verbs};
