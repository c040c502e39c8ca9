#include "tests/unit/stack_world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	OTHERS = APIKEYD_GROUP_ACCOUNT | APIKEYD_GROUP_PAGE | APIKEYD_GROUP_SCOPE,
	NOT_KEY = APIKEYD_GROUP_CALLER | OTHERS | APIKEYD_GROUP_AUDIT,
	ALL = NOT_KEY | APIKEYD_GROUP_KEY,
};

static const struct apikeyd_argument peer_arguments[] = {
	{.name = "user", .type = APIKEYD_TYPE_LIST},
	{.name = "group", .type = APIKEYD_TYPE_LIST},
	{0},
};

static int peer_check(enum apikeyd_group group, const struct apikeyd_value *values, char *error, size_t error_size)
{
	(void)group;
	if (values[0].given || values[1].given)
		return 0;
	snprintf(error, error_size, "names nobody; give user or group");
	return -EINVAL;
}

static const struct apikeyd_argument file_arguments[] = {
	{.name = "path", .type = APIKEYD_TYPE_PATH, .required = true, .help = "the file of keys"},
	{0},
};

static const struct apikeyd_argument rate_arguments[] = {
	{.name = "limit", .type = APIKEYD_TYPE_RATE},
	{.name = "burst", .type = APIKEYD_TYPE_COUNT, .min = 1, .max = 1000},
	{.name = "by", .type = APIKEYD_TYPE_WORD, .fallback = "key", .words = "key|user|org|addr"},
	{0},
};

static int rate_check(enum apikeyd_group group, const struct apikeyd_value *values, char *error, size_t error_size)
{
	(void)group;
	if (!values[1].given || values[0].given)
		return 0;
	snprintf(error, error_size, "burst: says how much of limit; give limit,\ntoo");
	return -EINVAL;
}

static const struct apikeyd_argument hours_arguments[] = {
	{.name = "only", .type = APIKEYD_TYPE_SCOPES, .fallback = "*"},
	{.name = "between", .type = APIKEYD_TYPE_LIST, .required = true, .help = "windows"},
	{.name = "zone", .type = APIKEYD_TYPE_TEXT},
	{0},
};

static int hours_check(enum apikeyd_group group, const struct apikeyd_value *values, char *error, size_t error_size)
{
	if (group & (APIKEYD_GROUP_PAGE | APIKEYD_GROUP_SCOPE) || strcmp(values[0].text, "*") == 0)
		return 0;
	snprintf(error, error_size, "only: %s: the scope is not known yet in this group", values[0].text);
	return -EINVAL;
}

static const struct apikeyd_argument penalty_arguments[] = {
	{.name = "allow", .type = APIKEYD_TYPE_RATE, .fallback = "10/min"},
	{0},
};

static const struct apikeyd_argument deny_arguments[] = {
	{.name = "reason", .type = APIKEYD_TYPE_WORD, .fallback = "policy", .words = "policy|expired"},
	{0},
};

static const struct apikeyd_argument exec_arguments[] = {
	{.name = "command", .type = APIKEYD_TYPE_PATH, .required = true},
	{.name = "timeout", .type = APIKEYD_TYPE_TIME, .fallback = "1s", .min = 1, .max = 60000},
	{0},
};

static const struct apikeyd_argument ledger_arguments[] = {
	{.name = "denials", .type = APIKEYD_TYPE_WORD, .fallback = "full", .words = "full|rollup"},
	{0},
};

static const struct apikeyd_argument typed_arguments[] = {
	{.name = "text", .type = APIKEYD_TYPE_TEXT},
	{.name = "word", .type = APIKEYD_TYPE_WORD, .words = "one|two"},
	{.name = "flag", .type = APIKEYD_TYPE_BOOL, .fallback = "no"},
	{.name = "count", .type = APIKEYD_TYPE_COUNT, .min = 2, .max = 10},
	{.name = "free", .type = APIKEYD_TYPE_COUNT, .min = 1},
	{.name = "time", .type = APIKEYD_TYPE_TIME, .min = 1500, .max = 172800000},
	{.name = "path", .type = APIKEYD_TYPE_PATH},
	{.name = "list", .type = APIKEYD_TYPE_LIST},
	{.name = "scopes", .type = APIKEYD_TYPE_SCOPES},
	{.name = "rate", .type = APIKEYD_TYPE_RATE},
	{0},
};

static const struct apikeyd_argument broken_arguments[] = {
	{.name = "count", .type = APIKEYD_TYPE_COUNT, .fallback = "many"},
	{0},
};

static const struct apikeyd_argument crowd_arguments[] = {
	[0 ... STACK_ARGUMENTS_MAX] = {.name = "one"},
	{0},
};

static const struct apikeyd_argument picky_arguments[] = {
	{.name = "re", .type = APIKEYD_TYPE_TEXT},
	{0},
};

static int picky_check(enum apikeyd_group group, const struct apikeyd_value *values, char *error, size_t error_size)
{
	(void)group;
	(void)values;
	snprintf(error, error_size, "refuses all; leave it out");
	return -EINVAL;
}

static int hollow_check(enum apikeyd_group group, const struct apikeyd_value *values, char *error, size_t error_size)
{
	(void)group;
	(void)values;
	(void)error;
	(void)error_size;
	return -EINVAL;
}

static const struct apikeyd_module modules[] = {
	{.name = "peer", .groups = APIKEYD_GROUP_CALLER, .arguments = peer_arguments, .check = peer_check},
	{.name = "permit", .groups = APIKEYD_GROUP_CALLER},
	{.name = "file", .groups = APIKEYD_GROUP_KEY, .flags = APIKEYD_IDENTIFIES, .arguments = file_arguments},
	{.name = "store", .groups = APIKEYD_GROUP_KEY, .flags = APIKEYD_IDENTIFIES | APIKEYD_ASK_AGAIN},
	{.name = "id", .groups = APIKEYD_GROUP_KEY, .flags = APIKEYD_IDENTIFIES},
	{.name = "rate",
	 .groups = APIKEYD_GROUP_ACCOUNT,
	 .flags = APIKEYD_ENFORCES_RATE,
	 .arguments = rate_arguments,
	 .check = rate_check},
	{.name = "curb", .groups = APIKEYD_GROUP_ACCOUNT},
	{.name = "penalty", .groups = APIKEYD_GROUP_CALLER | APIKEYD_GROUP_ACCOUNT, .arguments = penalty_arguments},
	{.name = "hours", .groups = OTHERS, .arguments = hours_arguments, .check = hours_check},
	{.name = "deny", .groups = APIKEYD_GROUP_CALLER | OTHERS, .arguments = deny_arguments},
	{.name = "exec", .groups = NOT_KEY, .flags = APIKEYD_ASYNCHRONOUS, .arguments = exec_arguments},
	{.name = "ledger", .groups = APIKEYD_GROUP_AUDIT, .arguments = ledger_arguments},
	{.name = "any", .groups = NOT_KEY},
	{.name = "debug", .groups = NOT_KEY},
	{.name = "typed", .groups = APIKEYD_GROUP_SCOPE, .arguments = typed_arguments},
	{.name = "broken", .groups = NOT_KEY, .arguments = broken_arguments},
	{.name = "crowd", .groups = NOT_KEY, .arguments = crowd_arguments},
	{.name = "picky", .groups = NOT_KEY, .arguments = picky_arguments, .check = picky_check},
	{.name = "nowhere"},
	{.name = "greedy", .groups = ALL, .flags = APIKEYD_IDENTIFIES},
	{.name = "hollow", .groups = ALL, .check = hollow_check},
};

const struct apikeyd_module *world_module(const char *name)
{
	for (unsigned i = 0; i < sizeof(modules) / sizeof(modules[0]); i++) {
		if (strcmp(modules[i].name, name) == 0)
			return &modules[i];
	}
	return NULL;
}

static const struct apikeyd_module *find_module(void *data, const char *name, const char **ret_why)
{
	(void)data;
	*ret_why = "there is none of that name";
	return world_module(name);
}

static bool find_stack(void *data, const char *name, char **ret_text, size_t *ret_len, const char **ret_path,
		       const char **ret_why)
{
	const struct world *world = data;

	for (const struct world_file *file = world->files; file && file->name; file++) {
		if (strcmp(file->name, name) != 0)
			continue;
		*ret_len = strlen(file->text);
		*ret_text = malloc(*ret_len + 1);
		if (!*ret_text) {
			*ret_why = "no memory";
			return false;
		}
		memcpy(*ret_text, file->text, *ret_len + 1);
		*ret_path = file->name;
		return true;
	}
	*ret_why = "there is no such file";
	return false;
}

void world_init(struct world *world, const struct world_file *files)
{
	world->files = files;
	world->text[0] = '\0';
	world->faults = (struct stack_faults){.text = world->text, .size = sizeof(world->text)};
	world->finder = (struct stack_finder){.module = find_module, .stack = find_stack, .data = world};
}

struct stack_program *world_compile(struct world *world, const struct world_file *files, const char *name)
{
	world_init(world, files);
	return stack_compile(name, &world->finder, &world->faults);
}
