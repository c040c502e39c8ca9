/* user: people. */
#include "client/apikeyctl/nouns.h"
#include "client/apikeyctl/rows.h"

static const struct show_column user_columns[] = {
	{"USER", "user", 0, NULL},
	{"NAME", "name", SHOW_WRAP, NULL},
	{"STANDING", "standing", SHOW_STATE, NULL},
	{"CREATED", "created_at", 0, show_when},
	{NULL, NULL, 0, NULL},
};

static const struct show_column user_record[] = {
	{"user", "user", 0, NULL},
	{"name", "name", 0, NULL},
	{"standing", "standing", SHOW_STATE, NULL},
	{"created", "created_at", 0, show_when},
	{NULL, NULL, 0, NULL},
};

static const struct rows_param user_add_params[] = {{"user", NULL}, {"name", "name"}, {NULL, NULL}};
static const struct rows_param user_one_params[] = {{"user", NULL}, {NULL, NULL}};
static const struct rows_param user_set_params[] = {
	{"user", NULL}, {"email", "email"}, {"name", "name"}, {"standing", "standing"}, {NULL, NULL}};

static int user_add(struct ctl *ctl, const struct args *args)
{
	return rows_change(ctl, args, "user_add", user_add_params, user_record);
}

static int user_list(struct ctl *ctl, const struct args *args)
{
	return rows_list(ctl, args, "user_list", NULL, user_columns);
}

static int user_show(struct ctl *ctl, const struct args *args)
{
	return rows_show(ctl, args, "user_show", user_one_params, user_record);
}

static int user_set(struct ctl *ctl, const struct args *args)
{
	if (!args_has(args, "email") && !args_has(args, "name") && !args_has(args, "standing"))
		return ctl_say(ctl, CTL_USAGE, "user set changes nothing: give --email, --name or --standing");
	return rows_change(ctl, args, "user_set", user_set_params, user_record);
}

static int user_remove(struct ctl *ctl, const struct args *args)
{
	return rows_remove(ctl, args, "user_remove", user_one_params, "Remove user %s with all memberships?",
			   "removed");
}

static const struct operand user_new[] = {{"EMAIL", "the user's email address", false, false},
					  {NULL, NULL, false, false}};
static const struct operand user_one[] = {{"USER", "a user's email address", false, false}, {NULL, NULL, false, false}};

static const struct option user_add_options[] = {
	{.name = "name", .value = "TEXT", .help = "the person's name"},
	{.name = NULL},
};

static const struct option user_set_options[] = {
	{.name = "email", .value = "EMAIL", .help = "a new email address"},
	{.name = "name", .value = "TEXT", .help = "the person's name"},
	{.name = "standing",
	 .value = "active|suspended",
	 .help = "suspended: all keys that act as this user are refused, with user_suspended"},
	{.name = NULL},
};

static const struct command user_verb_add = {.name = "add",
					     .summary = "add a user",
					     .operands = user_new,
					     .options = user_add_options,
					     .takes = COMMAND_CHANGE,
					     .run = user_add};
static const struct command user_verb_list = {
	.name = "list", .summary = "list users", .takes = COMMAND_LIST, .run = user_list};
static const struct command user_verb_show = {
	.name = "show", .summary = "show one user", .operands = user_one, .run = user_show};
static const struct command user_verb_set = {.name = "set",
					     .summary = "rename, suspend or reactivate a user",
					     .operands = user_one,
					     .options = user_set_options,
					     .takes = COMMAND_CHANGE,
					     .run = user_set};
static const struct command user_verb_remove = {
	.name = "remove",
	.summary = "remove a user",
	.details = "A user who has keys is not removed: those keys and what they did must stay known. Suspend the user "
		   "instead: apikeyctl user set USER --standing suspended.",
	.operands = user_one,
	.takes = COMMAND_CONFIRM | COMMAND_CHANGE,
	.run = user_remove};

static const struct command *const user_verbs[] = {&user_verb_add, &user_verb_list,   &user_verb_show,
						   &user_verb_set, &user_verb_remove, NULL};

const struct command command_user = {.name = "user", .summary = "people", .commands = user_verbs};
