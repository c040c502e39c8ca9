#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "daemon/modules/load.h"
#include "daemon/stack/program.h"
#include "proto/value.h"

static const unsigned groups_known = APIKEYD_GROUP_CALLER | APIKEYD_GROUP_KEY | APIKEYD_GROUP_ACCOUNT |
				     APIKEYD_GROUP_PAGE | APIKEYD_GROUP_SCOPE | APIKEYD_GROUP_AUDIT;
static const unsigned flags_known =
	APIKEYD_IDENTIFIES | APIKEYD_ASYNCHRONOUS | APIKEYD_ASK_AGAIN | APIKEYD_ENFORCES_RATE;

/* Where a finding goes. */
struct finding {
	char *error;
	size_t size;
	const char *argument; /* NULL: it is about the module as a whole */
};

__attribute__((format(printf, 2, 3))) static int wrong(const struct finding *finding, const char *format, ...)
{
	va_list list;
	int len = 0;

	if (finding->argument)
		len = snprintf(finding->error, finding->size, "argument %s: ", finding->argument);
	if (len >= 0 && (size_t)len < finding->size) {
		va_start(list, format);
		vsnprintf(finding->error + len, finding->size - (size_t)len, format, list);
		va_end(list);
	}
	return -EINVAL;
}

bool modules_name_ok(const char *name)
{
	size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_");

	return len > 0 && len <= STACK_MODULE_NAME_MAX && name[len] == '\0';
}

/* One line for people: there, not empty, nothing in it that a terminal would take for a command. */
static bool line_ok(const char *line)
{
	if (!line || !*line)
		return false;
	for (; *line; line++)
		if ((unsigned char)*line < ' ' || *line == 0x7f)
			return false;
	return true;
}

/* ---- arguments ---- */

/* "one|or|another": at least one, none empty, none twice. */
static int check_words(const struct finding *finding, const char *words)
{
	if (!words)
		return wrong(finding, "is one of some words, and does not say which");
	for (const char *word = words;; word++) {
		size_t len = strcspn(word, "|");

		if (len == 0)
			return wrong(finding, "has an empty word in \"%s\"", words);
		for (const char *other = words; other < word; other += strcspn(other, "|") + 1)
			if (strcspn(other, "|") == len && strncmp(other, word, len) == 0)
				return wrong(finding, "has the word %.*s twice", (int)len, word);
		word += len;
		if (!*word)
			return 0;
	}
}

static int check_fallback(const struct finding *finding, const struct apikeyd_argument *argument)
{
	struct arena arena = {0};
	struct apikeyd_value value = {0};
	char right[256] = "";
	int rc;

	if (!argument->fallback)
		return 0;
	if (argument->required)
		return wrong(finding, "is required, and has the fallback \"%s\", which nobody would ever use",
			     argument->fallback);
	rc = stack_value(&arena, argument, argument->fallback, &value, right, sizeof(right));
	arena_clear(&arena);
	if (rc == -EINVAL)
		return wrong(finding, "has the fallback \"%s\", which it would not take itself; right is %s",
			     argument->fallback, right);
	return rc != 0 ? wrong(finding, "%s", strerror(-rc)) : 0;
}

static int check_argument(struct finding *finding, const struct apikeyd_argument *arguments, unsigned at)
{
	const struct apikeyd_argument *argument = &arguments[at];

	if (!modules_name_ok(argument->name))
		return wrong(finding, "argument %u: its name is not 1 to %d lower case letters, digits and '_'", at + 1,
			     STACK_MODULE_NAME_MAX);
	finding->argument = argument->name;
	for (unsigned i = 0; i < at; i++)
		if (strcmp(arguments[i].name, argument->name) == 0)
			return wrong(finding, "stands there twice");
	if ((unsigned)argument->type > APIKEYD_TYPE_RATE)
		return wrong(finding, "is of type %d, which is none", (int)argument->type);
	if (argument->max != 0 && argument->min > argument->max)
		return wrong(finding, "can have no value: its least is %llu, its most %llu",
			     (unsigned long long)argument->min, (unsigned long long)argument->max);
	if (!line_ok(argument->help))
		return wrong(finding, "has no line of help");
	if (argument->type == APIKEYD_TYPE_WORD && check_words(finding, argument->words) != 0)
		return -EINVAL;
	if (check_fallback(finding, argument) != 0)
		return -EINVAL;
	finding->argument = NULL;
	return 0;
}

/* ---- the module ---- */

/* Whether the code speaks to us at all: nothing past these two fields is read before. */
static int check_shape(const struct finding *finding, const struct apikeyd_module *module)
{
	const unsigned least = offsetof(struct apikeyd_module, close) + sizeof(module->close);

	if (module->abi != APIKEYD_ABI)
		return wrong(finding,
			     "is made for ABI %u, and this program has ABI %u; build it with the header of "
			     "this release",
			     module->abi, (unsigned)APIKEYD_ABI);
	/* All releases of this ABI have at least the fields of its first one. */
	if (module->size < least)
		return wrong(finding,
			     "says that its struct has %u bytes, and the smallest has %u; .size must be "
			     "sizeof(struct apikeyd_module)",
			     module->size, least);
	return 0;
}

static int check_place(const struct finding *finding, const struct apikeyd_module *module)
{
	bool identifies = module->flags & APIKEYD_IDENTIFIES;

	if (module->groups == 0)
		return wrong(finding, "may stand in no group");
	if (module->groups & ~groups_known)
		return wrong(finding, "may stand in groups that there are not (0x%x)", module->groups & ~groups_known);
	if (module->flags & ~flags_known)
		return wrong(finding, "has flags that there are not (0x%x)", module->flags & ~flags_known);
	if (identifies && module->groups != APIKEYD_GROUP_KEY)
		return wrong(finding, "identifies, so it may stand in group key and there alone");
	if (!identifies && (module->groups & APIKEYD_GROUP_KEY))
		return wrong(finding, "does not identify, so it may not stand in group key");
	return 0;
}

int modules_check(const struct apikeyd_module *module, char *error, size_t error_size)
{
	struct finding finding = {.error = error, .size = error_size};
	unsigned count = 0;
	int rc = check_shape(&finding, module);

	if (rc != 0)
		return rc;
	if (!module->name || !modules_name_ok(module->name))
		return wrong(&finding, "its name is not 1 to %d lower case letters, digits and '_'",
			     STACK_MODULE_NAME_MAX);
	if (!line_ok(module->help))
		return wrong(&finding, "has no line of help");
	rc = check_place(&finding, module);
	if (rc == 0 && !module->start)
		rc = wrong(&finding, "has no start, so it could judge nothing");
	while (rc == 0 && module->arguments && module->arguments[count].name) {
		if (count == STACK_ARGUMENTS_MAX)
			rc = wrong(&finding, "takes more than %d arguments, or their table has no end",
				   STACK_ARGUMENTS_MAX);
		else
			rc = check_argument(&finding, module->arguments, count++);
	}
	return rc;
}
