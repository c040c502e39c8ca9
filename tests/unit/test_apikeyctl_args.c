/* apikeyctl's tables of commands: what is parsed by them, suggested from them, and whether they hold together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/apikeyctl/args.h"
#include "client/apikeyctl/help.h"
#include "client/apikeyctl/root.h"

static char error[ARGS_ERROR_SIZE];

/* Splits a line at spaces and parses it. */
static enum args_result parse(const char *line, struct args *args)
{
	static char copy[500];
	static char *words[40];
	size_t count = 0;
	char *save = NULL;

	snprintf(copy, sizeof(copy), "%s", line);
	for (char *word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save))
		words[count++] = word;
	return args_parse(&command_root, count, words, args, error);
}

static void assert_runs(const char *line, const char *title, struct args *args)
{
	char got[80];

	if (parse(line, args) != ARGS_OK)
		fail_msg("\"%s\": %s", line, error);
	command_title(&args->path, got, sizeof(got));
	assert_string_equal(got, title);
}

static void assert_wrong(const char *line, const char *part)
{
	struct args args;

	if (parse(line, &args) != ARGS_WRONG)
		fail_msg("\"%s\" is taken", line);
	if (!strstr(error, part))
		fail_msg("\"%s\" gives \"%s\"", line, error);
	assert_null(strchr(error, '\n'));
	args_deinit(&args);
}

static void test_options_stand_anywhere(void **state)
{
	struct args args;

	(void)state;
	assert_runs("--json check incident:write acme --org o -q --addr=::1", "apikeyctl check", &args);
	assert_string_equal(args_operand(&args, 0), "incident:write");
	assert_string_equal(args_operand(&args, 1), "acme");
	assert_null(args_operand(&args, 2));
	assert_true(args_has(&args, "json"));
	assert_true(args_has(&args, "quiet"));
	assert_string_equal(args_text(&args, "org"), "o");
	assert_string_equal(args_text(&args, "addr"), "::1");
	assert_null(args_text(&args, "stack"));
	args_deinit(&args);

	assert_runs("key list -jq --limit 5", "apikeyctl key list", &args);
	assert_true(args_has(&args, "json"));
	assert_true(args_has(&args, "quiet"));
	args_deinit(&args);

	assert_runs("check -- --org -q", "apikeyctl check", &args);
	assert_string_equal(args_operand(&args, 0), "--org");
	assert_string_equal(args_operand(&args, 1), "-q");
	assert_false(args_has(&args, "quiet"));
	args_deinit(&args);

	assert_runs("check --key-file - a:b", "apikeyctl check", &args);
	assert_string_equal(args_text(&args, "key-file"), "-");
	args_deinit(&args);

	assert_runs("db install --database host=/tmp", "apikeyctl db install", &args); /* the noun's option */
	assert_string_equal(args_text(&args, "database"), "host=/tmp");
	args_deinit(&args);
}

static void test_options_that_repeat(void **state)
{
	struct args args;

	(void)state;
	assert_runs("key mint --page a --page=b --org o --page c", "apikeyctl key mint", &args);
	assert_string_equal(args_nth(&args, "page", 0), "a");
	assert_string_equal(args_nth(&args, "page", 1), "b");
	assert_string_equal(args_nth(&args, "page", 2), "c");
	assert_null(args_nth(&args, "page", 3));
	assert_null(args_nth(&args, "scope", 0));
	args_deinit(&args);
	assert_wrong("key mint --org a --org b", "--org is given twice");
}

static void test_what_is_wrong_is_said(void **state)
{
	(void)state;
	assert_wrong("org", "needs a command: add, list, show, set, remove");
	assert_wrong("orgs list", "did you mean \"org\"?");
	assert_wrong("org lst", "did you mean \"list\"?");
	assert_wrong("mint", "did you mean \"key mint\"?");
	assert_wrong("frobnicate", "has no command \"frobnicate\" (see apikeyctl --help)");
	assert_wrong("org list --jsno", "did you mean --json?");
	assert_wrong("key mint --scpoe x", "did you mean --scope?");
	assert_wrong("org list --frobnicate", "has no option --frobnicate (see apikeyctl org list --help)");
	assert_wrong("org list -x", "has no option -x");
	assert_wrong("org show", "needs ORG");
	assert_wrong("org show a b", "\"b\" is one argument too many");
	assert_wrong("org list --json=yes", "--json takes no value");
	assert_wrong("org list --limit", "--limit needs a value");
	assert_wrong("key mint --org a --access admin", "--access is one of read|write, not \"admin\"");
	assert_wrong("key mint --org a --access=", "--access is one of read|write");
	assert_wrong("key mint --org a --access rea", "--access is one of");
	assert_wrong("check --yes a", "has no option --yes"); /* nothing is destroyed there */
	assert_wrong("--limit 3 org list", "has no option --limit");
}

static void test_help_is_found(void **state)
{
	static const char *const lines[] = {"--help",	       "-h",	      "key --help",
					    "key mint --help", "org show -h", "check --org --help -h"};
	static const size_t depths[] = {1, 1, 2, 3, 3, 2};
	struct args args;

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		assert_int_equal(parse(lines[i], &args), ARGS_HELP);
		assert_int_equal(args.path.depth, depths[i]);
		args_deinit(&args);
	}
}

static void test_distance(void **state)
{
	(void)state;
	assert_int_equal(command_distance("", ""), 0);
	assert_int_equal(command_distance("list", "list"), 0);
	assert_int_equal(command_distance("list", "lst"), 1);
	assert_int_equal(command_distance("list", "lits"), 1); /* swapped */
	assert_int_equal(command_distance("list", ""), 4);
	assert_int_equal(command_distance("kitten", "sitting"), 3);
	/* Longer than any word of ours: never near. */
	assert_true(command_distance("a", "0123456789012345678901234567890123456789") >= 40);
}

/* Walks the whole tree with a function. */
static void walk(struct command_path *path, void (*visit)(const struct command_path *path))
{
	const struct command *here = path->at[path->depth - 1];

	visit(path);
	for (size_t i = 0; here->commands && here->commands[i]; i++) {
		assert_true(path->depth < COMMAND_DEPTH);
		path->at[path->depth++] = here->commands[i];
		walk(path, visit);
		path->depth--;
	}
}

static size_t visited;

static void visit_sound(const struct command_path *path)
{
	const struct command *here = path->at[path->depth - 1];
	const struct option *tables[COMMAND_DEPTH * 5];
	size_t count = command_tables(path, tables), operands = 0;
	bool optional = false;

	visited++;
	assert_non_null(here->summary);
	assert_true((here->run != NULL) != (here->commands != NULL));
	if (path->depth > 1) /* its name finds it, and nothing before it */
		assert_ptr_equal(command_child(path->at[path->depth - 2], here->name), here);
	for (size_t i = 0; here->commands && here->commands[i];
	     i++) { /* each once, so that help and completion say it once */
		for (size_t k = 0; k < i; k++)
			assert_ptr_not_equal(here->commands[k], here->commands[i]);
	}
	for (const struct operand *o = here->operands; o && o->name; o++, operands++) {
		assert_non_null(o->help);
		assert_false(optional && !o->optional);
		optional = o->optional;
	}
	assert_true(operands <= ARGS_OPERANDS_MAX);
	/* No option hides another, by name or by letter. */
	for (size_t i = 0; i < count; i++) {
		for (const struct option *o = tables[i]; o->name; o++) {
			assert_non_null(o->help);
			assert_ptr_equal(command_option(path, o->name, strlen(o->name), 0), o);
			if (o->letter)
				assert_ptr_equal(command_option(path, NULL, 0, o->letter), o);
		}
	}
}

static void test_the_tables_are_sound(void **state)
{
	struct command_path path = {.at = {&command_root}, .depth = 1};

	(void)state;
	visited = 0;
	walk(&path, visit_sound);
	assert_true(visited > 30);
}

static void visit_help(const struct command_path *path)
{
	const struct command *here = path->at[path->depth - 1];
	char *text = NULL, title[80];
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	help_print(out, path);
	fclose(out);
	command_title(path, title, sizeof(title));
	assert_non_null(strstr(text, title));
	for (size_t i = 0; here->commands && here->commands[i]; i++)
		assert_non_null(strstr(text, here->commands[i]->name));
	for (const struct option *o = here->options; o && o->name; o++)
		assert_non_null(strstr(text, o->name));
	for (const char *line = text; *line; line = strchr(line, '\n') + 1) {
		if (strcspn(line, "\n") > 110)
			fail_msg("%s --help has a long line: %.*s", title, (int)strcspn(line, "\n"), line);
	}
	free(text);
}

static void test_help_is_whole(void **state)
{
	struct command_path path = {.at = {&command_root}, .depth = 1};

	(void)state;
	walk(&path, visit_help);
}

/* What completes a line whose last word is still being typed; words split at spaces, "|" stands for an empty last one. */
static char *complete(const char *line)
{
	static char copy[200];
	char *words[20], *text = NULL, *save = NULL;
	size_t count = 0, size = 0;
	FILE *out = open_memstream(&text, &size);

	snprintf(copy, sizeof(copy), "%s", line);
	for (char *word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
		static char empty[] = "";

		words[count++] = strcmp(word, "|") == 0 ? empty : word;
	}
	help_complete(out, &command_root, count, words);
	fclose(out);
	return text;
}

static void assert_completes(const char *line, const char *wanted)
{
	char *got = complete(line);

	assert_string_equal(got, wanted);
	free(got);
}

static void test_completion(void **state)
{
	(void)state;
	assert_completes("ke", "key\n");
	assert_completes("key |", "mint\nlist\nshow\ndisable\nenable\nrevoke\nbreak-glass\n");
	assert_completes("key mint --acc", "--access\n");
	assert_completes("key mint --access |", "read\nwrite\n");
	assert_completes("key mint --access w", "write\n");
	assert_completes("key mint --out |", ":files\n");
	assert_completes("org set acme --standing s", "suspended\n");
	assert_completes("db status --sql-dir |", ":files\n");
	assert_completes("--json pa", "pages\npage\n");
	assert_completes("--socket x ch", "check\n");
	assert_completes("check --yes", ""); /* not an option of check */
	assert_completes("key revoke --ye", "--yes\n");
	assert_completes("org show |", "");
	/* operands that are files, wherever they stand */
	assert_completes("stack check |", ":files\n");
	assert_completes("stack check one |", ":files\n");
	assert_completes("stack check --strict --dir /x o", ":files\n");
	assert_completes("stack explain |", ":files\n");
	assert_completes("stack explain one |", "");
	assert_completes("stack li", "list\n");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_options_stand_anywhere),
		cmocka_unit_test(test_options_that_repeat),
		cmocka_unit_test(test_what_is_wrong_is_said),
		cmocka_unit_test(test_help_is_found),
		cmocka_unit_test(test_distance),
		cmocka_unit_test(test_the_tables_are_sound),
		cmocka_unit_test(test_help_is_whole),
		cmocka_unit_test(test_completion),
	};

	return cmocka_run_group_tests_name("apikeyctl_args", tests, NULL, NULL);
}
