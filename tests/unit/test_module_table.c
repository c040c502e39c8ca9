/* The modules that are built in: what each must be, their words, and that apikeyd-modules(7) says what their tables do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "daemon/modules/reasons.h"
#include "daemon/modules/table.h"
#include "daemon/stack/code.h"
#include "daemon/stack/program.h"
#include "proto/value.h"

/* ---- tables ---- */

static void check_argument(const struct apikeyd_module *module, const struct apikeyd_argument *argument)
{
	struct arena arena = {0};
	struct apikeyd_value value;
	char right[1024];

	assert_true(strlen(argument->name) == strspn(argument->name, "abcdefghijklmnopqrstuvwxyz0123456789_"));
	assert_non_null(argument->help);
	assert_null(strchr(argument->help, '\n'));
	assert_int_equal(argument->type == APIKEYD_TYPE_WORD, argument->words != NULL);
	assert_false(argument->required && argument->fallback);
	if (argument->fallback && stack_value(&arena, argument, argument->fallback, &value, right, sizeof(right)) != 0)
		fail_msg("%s: the default of %s must be %s", module->name, argument->name, right);
	for (const struct apikeyd_argument *other = module->arguments; other != argument; other++)
		assert_string_not_equal(other->name, argument->name);
	arena_clear(&arena);
}

static void test_modules(void **state)
{
	unsigned all = APIKEYD_GROUP_CALLER | APIKEYD_GROUP_KEY | APIKEYD_GROUP_ACCOUNT | APIKEYD_GROUP_PAGE |
		       APIKEYD_GROUP_SCOPE | APIKEYD_GROUP_AUDIT;

	(void)state;
	for (const struct apikeyd_module *const *at = modules_built_in; *at; at++) {
		const struct apikeyd_module *module = *at;
		unsigned count = 0;

		assert_int_equal(module->abi, APIKEYD_ABI);
		assert_int_equal(module->size, sizeof(*module));
		assert_in_range(strlen(module->name), 1, STACK_MODULE_NAME_MAX);
		assert_true(strlen(module->name) == strspn(module->name, "abcdefghijklmnopqrstuvwxyz0123456789_"));
		assert_non_null(module->help);
		assert_non_null(module->start);
		assert_true(module->groups != 0 && (module->groups & ~all) == 0);
		/* What identifies stands in key alone, and nothing else does. */
		assert_int_equal(module->flags & APIKEYD_IDENTIFIES, module->groups & APIKEYD_GROUP_KEY ? 1 : 0);
		assert_true(!(module->groups & APIKEYD_GROUP_KEY) || module->groups == APIKEYD_GROUP_KEY);
		assert_true(!(module->flags & APIKEYD_ASYNCHRONOUS) || module->cancel);
		assert_true(!(module->flags & APIKEYD_ENFORCES_RATE) || module->groups == APIKEYD_GROUP_ACCOUNT);
		for (const struct apikeyd_argument *a = module->arguments; a && a->name; a++, count++)
			check_argument(module, a);
		assert_true(count <= STACK_ARGUMENTS_MAX);
		for (const struct apikeyd_module *const *other = modules_built_in; other != at; other++)
			assert_string_not_equal((*other)->name, module->name);
	}
}

/* Who could say what in audit: no module there is asked for anything but whether it is written down. */
static void test_enforcing(void **state)
{
	(void)state;
	assert_int_equal(module_rate.flags, APIKEYD_ENFORCES_RATE);
	assert_int_equal(module_penalty.flags, 0);
	assert_int_equal(module_hours.flags, 0);
	assert_non_null(module_penalty.ended);
}

static void test_words(void **state)
{
	enum apikeyd_code code, other;
	char words[1024], *rest = words, *word;
	unsigned count = 0;

	(void)state;
	/* Each code but `pending` has its word here, and it is the engine's. */
	for (unsigned i = 0; code_at(i, &code); i++, count++) {
		assert_true(reasons_code(code_word(code), &other));
		assert_int_equal(other, code);
		assert_int_equal(reasons_is_fault(code), code_class(code) == STACK_CLASS_FAULT);
	}
	assert_int_equal(count, 30);
	code = APIKEYD_STALE;
	assert_false(reasons_code("pending", &code));
	assert_false(reasons_code("ok", &code));
	assert_false(reasons_code("", &code));
	assert_int_equal(code, APIKEYD_STALE);
	/* The lists name every one of their class. */
	count = 0;
	snprintf(words, sizeof(words), "%s", REASONS_DENY);
	while ((word = strsep(&rest, "|")) != NULL) {
		assert_true(code_from_word(word, strlen(word), &code));
		assert_int_equal(code_class(code), STACK_CLASS_DENY);
		count++;
	}
	assert_int_equal(count, 20);
	snprintf(words, sizeof(words), "%s", REASONS_FAULT);
	for (rest = words; (word = strsep(&rest, "|")) != NULL; count++) {
		assert_true(code_from_word(word, strlen(word), &code));
		assert_int_equal(code_class(code), STACK_CLASS_FAULT);
	}
	assert_int_equal(count, 28);
}

/* ---- the manual ---- */

enum { LINE = 1024, CELLS = 4 };

static FILE *page;
static unsigned line_number;
static char line[LINE];

/* The next line without its end; false at the end, or before the next section. */
static bool next_line(void)
{
	long before = ftell(page);

	if (!fgets(line, sizeof(line), page))
		return false;
	assert_non_null(strchr(line, '\n'));
	*strchr(line, '\n') = '\0';
	if (strncmp(line, "# ", 2) == 0 || strncmp(line, "## ", 3) == 0) {
		fseek(page, before, SEEK_SET);
		return false;
	}
	line_number++;
	return true;
}

/* What a reader sees of it: without backslashes, and without the stars of bold. */
static void plain(const char *text, char *out)
{
	for (; *text; text++) {
		if (*text == '\\' && text[1])
			text++;
		else if (*text == '*')
			continue;
		*out++ = *text;
	}
	*out = '\0';
}

static const char *unit_of(uint64_t ms, char *out)
{
	static const struct {
		uint64_t ms;
		const char *word;
	} units[] = {{86400000, "d"}, {3600000, "h"}, {60000, "min"}, {1000, "s"}, {1, "ms"}};
	unsigned i = 0;

	while (ms % units[i].ms != 0)
		i++;
	sprintf(out, "%" PRIu64 "%s", ms / units[i].ms, units[i].word);
	return out;
}

/* The type, as the page's column `value` has it. */
static void type_text(const struct apikeyd_argument *argument, char *out, size_t size)
{
	char least[32], most[32];
	size_t len;

	switch (argument->type) {
	case APIKEYD_TYPE_TEXT:
		snprintf(out, size, "text");
		break;
	case APIKEYD_TYPE_WORD:
		len = (size_t)snprintf(out, size, "word: ");
		for (const char *p = argument->words; *p; p++)
			len += (size_t)snprintf(out + len, size - len, *p == '|' ? ", " : "%c", *p);
		assert_true(len < size);
		break;
	case APIKEYD_TYPE_BOOL:
		snprintf(out, size, "yes or no");
		break;
	case APIKEYD_TYPE_COUNT:
		snprintf(out, size, "count, %" PRIu64 " to %" PRIu64, argument->min, argument->max);
		break;
	case APIKEYD_TYPE_TIME:
		snprintf(out, size, "time, %s to %s", unit_of(argument->min, least), unit_of(argument->max, most));
		break;
	case APIKEYD_TYPE_PATH:
		snprintf(out, size, "path");
		break;
	case APIKEYD_TYPE_LIST:
		snprintf(out, size, "list");
		break;
	case APIKEYD_TYPE_SCOPES:
		snprintf(out, size, "scopes");
		break;
	case APIKEYD_TYPE_RATE:
		snprintf(out, size, "rate");
		break;
	}
}

static void compare_row(const struct apikeyd_module *module, const struct apikeyd_argument *argument,
			char cells[CELLS][LINE])
{
	char wanted[LINE];

	if (!argument || !argument->name)
		fail_msg("line %u: %s has no argument %s", line_number, module->name, cells[0]);
	type_text(argument, wanted, sizeof(wanted));
	assert_string_equal(cells[0], argument->name);
	assert_string_equal(cells[1], wanted);
	assert_string_equal(cells[2], argument->required ? "required" : argument->fallback ? argument->fallback : "-");
	assert_string_equal(cells[3], argument->help);
}

/* A table whose heading is just read. Returns what follows the last argument it names. */
static const struct apikeyd_argument *compare_table(const struct apikeyd_module *module)
{
	static const char *const heads[CELLS] = {"[[ *argument*", ":[ *value*", ":[ *default*", ":[ *meaning*"};
	const struct apikeyd_argument *argument = module->arguments;
	char cells[CELLS][LINE];
	unsigned cell = 0;

	for (unsigned i = 0; i < CELLS; i++) {
		assert_string_equal(line, heads[i]);
		assert_true(next_line());
	}
	while (line[0]) {
		assert_true(strncmp(line, cell == 0 ? "|  " : ":  ", 3) == 0);
		plain(line + 3, cells[cell]);
		/* A star by itself is escaped, so what is plain has it; a name is bold. */
		if (cell == 0)
			assert_true(line[3] == '*' && line[strlen(line) - 1] == '*');
		if (++cell == CELLS) {
			compare_row(module, argument++, cells);
			cell = 0;
		}
		if (!next_line())
			break;
	}
	assert_int_equal(cell, 0);
	return argument;
}

/* "Groups: *caller*, *account*." */
static void compare_groups(const struct apikeyd_module *module)
{
	char words[LINE] = "Groups: ";

	for (unsigned group = 0; group < STACK_GROUPS; group++) {
		if (!(module->groups & group_bit((enum stack_group)group)))
			continue;
		if (strchr(words, '*'))
			strcat(words, ", ");
		sprintf(words + strlen(words), "*%s*", group_word((enum stack_group)group));
	}
	strcat(words, ".");
	assert_string_equal(line, words);
}

/* "Answers: *success* *caller*.": words that there are. */
static void check_answers(void)
{
	char words[LINE], *rest = words, *word;
	enum apikeyd_code code;

	plain(line + strlen("Answers: "), words);
	if (strcmp(words, "what it is told to.") == 0)
		return;
	assert_int_equal(words[strlen(words) - 1], '.');
	words[strlen(words) - 1] = '\0';
	while ((word = strsep(&rest, " ")) != NULL) {
		if (!code_from_word(word, strlen(word), &code))
			fail_msg("line %u: %s is no code", line_number, word);
	}
}

static void compare_section(const struct apikeyd_module *module)
{
	const struct apikeyd_argument *rest = module->arguments;
	bool groups = false;

	printf("# %s\n", module->name);
	while (next_line()) {
		if (strncmp(line, "[[ *argument*", 13) == 0)
			rest = compare_table(module);
		if (strncmp(line, "Groups: ", 8) == 0) {
			compare_groups(module);
			groups = true;
		}
		if (strncmp(line, "Answers: ", 9) == 0)
			check_answers();
	}
	assert_true(groups);
	if (rest && rest->name)
		fail_msg("%s: argument %s stands nowhere in its section", module->name, rest->name);
}

static void test_manual(void **state)
{
	const struct apikeyd_module *const *at = modules_built_in;
	bool in_modules = false;

	(void)state;
	page = fopen("daemon/man/apikeyd-modules.7.scd", "r");
	assert_non_null(page);
	line_number = 0;
	for (;;) {
		while (next_line())
			;
		if (!fgets(line, sizeof(line), page))
			break;
		line_number++;
		*strchr(line, '\n') = '\0';
		if (strncmp(line, "# ", 2) == 0) {
			in_modules = strcmp(line, "# MODULES") == 0;
		} else if (in_modules) {
			assert_non_null(*at);
			assert_string_equal(line + 3, (*at)->name);
			compare_section(*at++);
		}
	}
	if (*at)
		fail_msg("%s has no section in its place", (*at)->name);
	fclose(page);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_modules),
		cmocka_unit_test(test_enforcing),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_manual),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
