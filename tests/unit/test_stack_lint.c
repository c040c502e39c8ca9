/*
 * Findings: each kind of them, by its name and the line it is about, and what must give none. And the mistakes of
 * people who know PAM, as files (tests/stacks/mistakes): each says in its first line what it must be told.
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "daemon/stack/lint.h"
#include "daemon/stack/lint_internal.h"
#include "daemon/stack/run.h"
#include "tests/unit/stack_world.h"

#define DIRECTORY "tests/stacks/mistakes"
#define MANUAL	  "daemon/man/apikeyd-stacks.5.scd"

static struct world world;

struct findings {
	char names[512];  /* "name, name" */
	char places[512]; /* "name:2 name:-" by the lines' numbers, "name:s:2" in an included stack */
	char texts[4096];
	unsigned count, errors;
};

static void on_finding(void *data, enum stack_severity severity, const char *name, const struct stack_line *line,
		       const char *text)
{
	struct findings *f = data;
	char place[96] = "-";

	if (line && strcmp(line->stack, "default") == 0)
		snprintf(place, sizeof(place), "%u", line->place.line);
	else if (line)
		snprintf(place, sizeof(place), "%s:%u", line->stack, line->place.line);
	snprintf(f->names + strlen(f->names), sizeof(f->names) - strlen(f->names), "%s%s", f->count ? ", " : "", name);
	snprintf(f->places + strlen(f->places), sizeof(f->places) - strlen(f->places), "%s%s:%s", f->count ? " " : "",
		 name, place);
	snprintf(f->texts + strlen(f->texts), sizeof(f->texts) - strlen(f->texts), "%s\n", text);
	f->count++;
	f->errors += severity == STACK_ERROR;
	/* A finding says what is so, and what to do about it; it is not cut. */
	assert_non_null(strchr(text, ';'));
	assert_true(strlen(text) < 500);
	for (const char *p = name; *p; p++)
		assert_true((*p >= 'a' && *p <= 'z') || *p == '-');
}

static unsigned lint(const struct stack_program *program, struct findings *ret)
{
	unsigned count;

	memset(ret, 0, sizeof(*ret));
	count = stack_lint(program, on_finding, ret);
	assert_int_equal(count, ret->count);
	return count;
}

static char *read_file(const char *path)
{
	char *text = calloc(1, STACK_FILE_MAX);
	FILE *file = fopen(path, "r");

	assert_non_null(text);
	if (!file)
		fail_msg("%s cannot be read", path);
	assert_true(fread(text, 1, STACK_FILE_MAX - 1, file) > 0);
	fclose(file);
	return text;
}

/* ---- each kind ---- */

#define C "caller required peer user=x\n" /* 1 */
#define K "key required store\n"	  /* 2 */
#define A "account required rate\n"	  /* 3 */
#define L "audit required ledger\n"	  /* 4 */
#define H "hours between=1-2"
#define E "exec command=/x"

static const struct {
	const char *text, *s; /* of the stacks `default` and `s` */
	const char *places;
} rows[] = {
	/* nothing to be found */
	{C K A L, NULL, ""},
	{"caller none\n" K A "audit none\n", NULL, ""},
	{"caller required permit\nkey sufficient file path=/x\n" K "account required curb\n" A "scope requisite " H
	 "\n" L,
	 NULL, ""},
	{"caller sufficient peer user=x\ncaller required peer group=y\n" K A L, NULL, ""},
	{"caller sufficient peer user=x\ncaller required deny\n" K A L, NULL, ""},
	{C "key sufficient file path=/x\nkey sufficient file path=/y\n" K A L, NULL, ""},
	{C "key substack s\n" K A L, "key sufficient file path=/x\n", "needs-both:3"},
	{C "key substack s\nkey optional id\n" A L, "key sufficient file path=/x\n", "grants-nothing:3"},
	{C "key substack s\n" A L, "key sufficient file path=/x\nkey required id\n", ""},
	{C "key include s\n" A L, "key sufficient file path=/x\nkey required store\n", ""},
	{C K A "scope required " H "\nscope optional debug\n" L, NULL, ""},
	{C K A "page required any\npage required exec command=/a\npage required exec command=/b\n" L, NULL, ""},
	{C K "account required curb\naccount requisite rate\n" L, NULL, ""},
	{C K "account binding rate\n" L, NULL, ""},
	/* never-reached */
	{C K A "scope sufficient " H "\nscope [default=die] any\nscope required " E "\n" L, NULL,
	 "skipped:5 success-refused:5 never-reached:6"},
	{"caller binding permit\ncaller required any\ncaller required any\n" K A L, NULL,
	 "never-reached:2 never-reached:3"},
	{"caller sufficient permit\ncaller substack s\n" K A L, "caller required any\ncaller required any\n",
	 "never-reached:2"},
	{"caller substack s\ncaller required any\n" K A L, "caller sufficient permit\ncaller required any\n",
	 "never-reached:s:2 duplicate:2"},
	{C K A "page requisite deny\npage required any\n" L, NULL, "never-passes:4 never-reached:5"},
	/* never-passes */
	{C K A "scope required deny\n" L, NULL, "never-passes:4"},
	{C K A "scope substack s\n" L, "scope optional any\nscope required deny\n",
	 "never-passes:4 refusal-ignored:s:1"},
	{"caller sufficient peer user=x\ncaller required deny\nscope optional debug\n" K A L, NULL, "order:3"},
	{C K A "scope sufficient " H "\nscope required deny\n" L, NULL, ""},
	{C "key optional store\n" A L, NULL, "never-passes:2 grants-nothing:2"},
	{C "key substack s\n" A L, "key optional store\nkey [success=ignore default=bad] id\n",
	 "never-passes:2 grants-nothing:s:1 grants-nothing:s:2"},
	{C "key [success=bad default=ignore] store\n" A L, NULL, "never-passes:2 grants-nothing:2 success-refused:2"},
	{C K A "audit [default=bad] ledger\n", NULL, "never-passes:4 success-refused:4"},
	{C K A "page required deny\npage required deny\n" L, NULL, "never-passes:4"},
	/* duplicate */
	{C K A "scope required " H "\nscope requisite  " H "\npage required " H "\n" L, NULL, "duplicate:5 order:4"},
	{C "key sufficient store\n" K A L, NULL, "duplicate:3"},
	{C K A "scope substack s\nscope required any\n" L, "scope required any\n", "duplicate:5"},
	/* success-refused */
	{C K A "scope [success=bad default=ignore] any\n" L, NULL, "success-refused:4"},
	/* grants-nothing, needs-both, too-late, sufficient-last */
	{C "key optional file path=/x\n" K A L, NULL, "grants-nothing:2"},
	{C K "key optional file path=/x\n" A L, NULL, "grants-nothing:3"},
	{C "key required file path=/x\n" K A L, NULL, "needs-both:3"},
	{C "key requisite file path=/x\n" K A L, NULL, "needs-both:3"},
	{C "key substack s\n" K A L, "key required file path=/x\n", "needs-both:3"},
	{C "key substack s\n" K A L, "key sufficient file path=/x\nkey sufficient id\n", "needs-both:3"},
	{C K "key substack s\n" A L, "key sufficient file path=/x\nkey required id\n", "needs-both:3"},
	{C "key required file path=/x\nkey optional id\n" K A L, NULL, "grants-nothing:3 needs-both:4"},
	{C K "key sufficient file path=/x\n" A L, NULL, "too-late:3"},
	{C K "key substack s\n" A L, "key sufficient file path=/x\n", "too-late:3"},
	{C "key binding file path=/x\n" K A L, NULL, "too-late:3"},
	{C K "key substack s\n" A L, "key optional id\n", "grants-nothing:s:1"},
	{C "key sufficient store\n" A L, NULL, "sufficient-last:2"},
	{C "key [success=done default=ignore] store\n" A L, NULL, "sufficient-last:2"},
	/* rates */
	{C K L, NULL, "no-rate:-"},
	{C K "account required curb\n" L, NULL, "no-rate:-"},
	{C K "account sufficient curb\n" A L, NULL, "rate-skipped:4"},
	{C K "account include s\n" A L, "account sufficient curb\n", "rate-skipped:4"},
	{C K "account substack s\n" A L, "account sufficient curb\n", "refusal-ignored:s:1"},
	{C K "account sufficient curb\naccount substack s\n" L, "account required rate\n",
	 "skipped:4 rate-skipped:s:1"},
	{C K "account [success=bad default=die] exec command=/x\naccount sufficient curb\n" A L, NULL,
	 "never-passes:3 success-refused:3 rate-unspent:5"},
	{C K "account requisite curb\n" A L, NULL, "rate-unspent:4"},
	{C K "account substack s\n" A L, "account requisite curb\n", ""},
	{C K "account substack s\n" L, "account requisite curb\naccount required rate\n", "rate-unspent:s:2"},
	{C K "account optional rate\n" L, NULL, "rate-not-counted:3"},
	{C K "account [success=ignore default=bad] rate\n" L, NULL, "rate-not-counted:3"},
	{C K A "account sufficient curb\naccount required rate limit=5/s\n" L, NULL, "rate-skipped:5"},
	{C K "account sufficient curb\n" A "account required rate limit=5/s\n" L, NULL,
	 "rate-skipped:4 rate-skipped:5"},
	{C K "account required curb\naccount requisite deny\n" A L, NULL, "never-passes:4 never-reached:5"},
	/* refusal-ignored */
	{"caller sufficient peer user=x\n" K A L, NULL, "refusal-ignored:1"},
	{"caller optional peer user=x\n" K A L, NULL, "refusal-ignored:1"},
	{"caller sufficient peer user=x\ncaller required permit\n" K A L, NULL, "refusal-ignored:1"},
	{"caller sufficient peer user=x\ncaller optional peer group=x\n" K A L, NULL,
	 "refusal-ignored:1 refusal-ignored:2"},
	{C K A "scope [default=ignore] any\n" L, NULL, "refusal-ignored:4"},
	{C K A "scope sufficient any\nscope substack s\n" L, "scope required " H "\n", "skipped:5"},
	{C K A "scope substack s\nscope required " H "\n" L, "scope sufficient any\n", "refusal-ignored:s:1"},
	{C K A "scope optional deny\n" L, NULL, "refusal-ignored:4"},
	/* tells-live */
	{"caller required penalty\n" K A L, NULL, ""},
	{C K "account required penalty\n" A L, NULL, "tells-live:3"},
	{C K "account substack s\n" A L, "account optional penalty\n", "tells-live:s:1 refusal-ignored:s:1"},
	/* fault-ignored */
	{C K A "scope [success=ok ignore=ignore timeout=ignore default=bad] " E "\n" L, NULL, "fault-ignored:4"},
	{C K A "scope [success=ok timeout=ignore default=die] " E "\n" L, NULL, "fault-ignored:4"},
	{C K A "scope [success=ok policy=die default=ignore] " E "\n" L, NULL, "fault-ignored:4"},
	/* after-binding, skipped */
	{C K A "scope binding " H "\nscope required any\n" L, NULL, "after-binding:5"},
	{C K A "scope binding " H "\nscope optional any\nscope required any\n" L, NULL,
	 "after-binding:6 refusal-ignored:5 duplicate:6"},
	{C K A "scope sufficient " H "\nscope required any\n" L, NULL, "skipped:5"},
	{C K A "page sufficient " H "\npage requisite any\n" L, NULL, "skipped:5"},
	{"caller binding peer user=x\ncaller required any\n" K A L, NULL, "after-binding:2"},
	/* needs-both of callers */
	{"caller required peer user=x\ncaller required peer group=y\n" K A L, NULL, "needs-both:2"},
	{"caller binding peer user=x\ncaller required peer group=y\n" K A L, NULL, "after-binding:2"},
	{"caller required peer user=x\ncaller required any\ncaller requisite peer group=y\n" K A L, NULL,
	 "needs-both:3"},
	/* audit */
	{C K A "audit optional ledger\n", NULL, "audit-not-required:4"},
	{C K A "audit sufficient ledger\n", NULL, "audit-not-required:4"},
	{C K A "audit [success=ok audit_full=ignore default=bad] ledger\n", NULL, "audit-not-required:4"},
	{C K A "audit requisite ledger\naudit required any\n", NULL, "audit-cut-short:4"},
	{C K A "audit sufficient ledger\naudit required any\n", NULL, "audit-not-required:4 audit-cut-short:4"},
	{C K A "audit required ledger\naudit binding any\n", NULL, ""},
	{C K A "audit substack s\naudit required any\n", "audit requisite ledger\n", ""},
	/* order */
	{K C A L, NULL, "order:1"},
	{L A K C, NULL, "order:3 order:2 order:1"},
	{C A "key include s\n" L, "key required store\n", ""},
	{C A K L "account required curb\n", NULL, "order:2 order:4"},
};

static void test_each(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct world_file files[] = {{"default", rows[i].text}, {rows[i].s ? "s" : NULL, rows[i].s}, {0}};
		struct stack_program *program = world_compile(&world, files, "default");
		struct findings f;

		if (!program)
			fail_msg("%s%s", rows[i].text, world.text);
		lint(program, &f);
		if (strcmp(f.places, rows[i].places) != 0)
			fail_msg("row %u:\n%sfinds \"%s\", not \"%s\":\n%s", i, rows[i].text, f.places, rows[i].places,
				 f.texts);
		/* An error is a stack that can never allow anything, and nothing else is. */
		assert_int_equal(f.errors, strstr(f.places, "never-passes") ? 1 : 0);
		stack_program_free(program);
	}
}

/* The manual lists all of them, and none besides. */
static void test_manual(void **state)
{
	char *manual = read_file(MANUAL), *at = strstr(manual, "# WHAT CHECK FINDS"), *end, name[64];
	unsigned listed = 0;

	(void)state;
	assert_non_null(at);
	end = strstr(at, "\n# ");
	assert_non_null(end);
	*end = '\0';
	for (at = strstr(at, "\n|  *"); at; at = strstr(at + 1, "\n|  *"), listed++) {
		bool found = false;

		assert_int_equal(sscanf(at, "\n|  *%63[a-z-]*", name), 1);
		for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
			found |= strstr(rows[i].places, name) != NULL;
		if (!found)
			fail_msg("%s is in the manual and never found", name);
	}
	at = strstr(manual, "# WHAT CHECK FINDS");
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (const char *p = rows[i].places; *p; p += strcspn(p, " "), p += *p == ' ') {
			snprintf(name, sizeof(name), "|  *%.*s*\n", (int)strcspn(p, ":"), p);
			if (!strstr(at, name))
				fail_msg("the manual does not list %s", name);
		}
	}
	assert_int_equal(listed, 20);
	free(manual);
}

/* The line that is named is the one that grants. */
static void test_who_granted(void **state)
{
	static const struct world_file files[] = {
		{"default", C "key required file path=/x\nkey optional id\n" K A L},
		{0},
	};
	struct stack_program *program = world_compile(&world, files, "default");
	struct findings f;

	(void)state;
	assert_non_null(program);
	lint(program, &f);
	assert_string_equal(f.places, "grants-nothing:3 needs-both:4");
	assert_non_null(strstr(f.texts, "\nis asked about keys that file (default:2) has granted, and "));
	stack_program_free(program);
}

static void test_texts(void **state)
{
	static const struct world_file files[] = {
		{"default", "caller required permit\n" K "account substack s\naccount required rate\n"
			    "scope [success=ok ignore=ignore timeout=ignore overload=ignore default=bad] " E "\n" L},
		{"s", "account optional curb\n"},
		{0},
	};
	struct stack_program *program = world_compile(&world, files, "default");
	struct findings f;

	(void)state;
	assert_non_null(program);
	lint(program, &f);
	assert_string_equal(f.places, "refusal-ignored:s:1 fault-ignored:5");
	assert_string_equal(
		f.texts,
		"may refuse, and that counts for nothing: account begins as passed, and this line does not fail "
		"it; write required\n"
		"fails open: what it would refuse passes where it has a fault (timeout, overload); leave those to "
		"default=bad, unless the line may be missing\n");
	stack_program_free(program);
}

/* ---- what can come of a line, beside the engine ---- */

static const char *const controls[] = {
	"required",
	"requisite",
	"sufficient",
	"optional",
	"binding",
	"[success=bad default=ignore]",
	"[success=done default=die]",
	"[success=ignore default=die]",
	"substack",
};
enum { CONTROLS = sizeof(controls) / sizeof(controls[0]), LINES = 3, INNER = 2 };

static const enum apikeyd_code codes[] = {APIKEYD_SUCCESS, APIKEYD_IGNORE, APIKEYD_EXPIRED, APIKEYD_STALE,
					  APIKEYD_OVERLOAD};
enum { CODES = sizeof(codes) / sizeof(codes[0]) };

struct play {
	unsigned choice; /* a number to the base of CODES: what each module says */
	bool asked[LINT_LINES_MAX];
	const struct stack_program *program;
	unsigned first;
};

static enum apikeyd_code on_ask(void *data, const struct stack_line *line)
{
	struct play *play = data;
	unsigned choice = play->choice;

	play->asked[line - play->program->lines] = true;
	for (unsigned i = play->first; i < line->module_number; i++)
		choice /= CODES;
	return codes[choice % CODES];
}

/*
 * All runs of a program: which lines are ever asked, and whether it ever passes, must be just what the walk says. With
 * fewer lines than the walk is there for, but with every control and a substack.
 */
static void compare(const struct stack_program *program, enum stack_group group)
{
	static struct lint_walk walk;
	struct play play = {.program = program};
	const struct stack_runner runner = {.ask = on_ask, .data = &play};
	bool passes = false, can_pass;
	unsigned modules = 0, runs = 1;

	for (unsigned i = program->first[group]; i < program->first[group + 1]; i++)
		modules += program->lines[i].op == STACK_OP_MODULE;
	play.first = program->lines[program->first[group]].op == STACK_OP_MODULE
			     ? program->lines[program->first[group]].module_number
			     : program->lines[program->first[group] + 1].module_number;
	for (unsigned i = 0; i < modules; i++)
		runs *= CODES;
	for (; play.choice < runs; play.choice++) {
		struct stack_result result;

		stack_run(program, group, &runner, &result);
		passes |= result.outcome == STACK_PASSED;
	}
	lint_walk(&walk, program, group, false);
	can_pass = lint_any(walk.end, group == STACK_KEY ? LINT_PASSED : 0, LINT_FAILED);
	assert_int_equal(can_pass, passes);
	for (unsigned i = program->first[group]; i < program->first[group + 1]; i++) {
		if (program->lines[i].op == STACK_OP_MODULE)
			assert_int_equal(walk.before[i] != 0, play.asked[i]);
	}
}

static void write_line(char *out, size_t size, const char *group, unsigned control)
{
	bool substack = strcmp(controls[control], "substack") == 0;

	snprintf(out + strlen(out), size - strlen(out), "%s %s %s\n", group, controls[control],
		 substack		     ? "s"
		 : strcmp(group, "key") == 0 ? "id"
					     : "any");
}

static void test_walk(void **state)
{
	enum { INNERS = 9, OUTERS = CONTROLS * CONTROLS * CONTROLS };
	static const unsigned inner[INNERS][INNER] = {{0, 0}, {2, 0}, {1, 3}, {3, 3}, {4, 1},
						      {5, 2}, {6, 0}, {7, 4}, {2, 2}};
	unsigned compared = 0;

	(void)state;
	for (unsigned n = 0; n < 2 * OUTERS; n++) {
		const char *group = n % 2 ? "key" : "page";
		unsigned outer = n / 2;
		char text[1024] = "caller none\naudit none\n", s[512] = "";
		const struct world_file files[] = {{"default", text}, {"s", s}, {0}};
		struct stack_program *program;

		if (n % 2 == 0)
			strcat(text, "key required id\n");
		for (unsigned i = 0; i < LINES; i++, outer /= CONTROLS)
			write_line(text, sizeof(text), group, outer % CONTROLS);
		for (unsigned i = 0; i < INNER; i++)
			write_line(s, sizeof(s), group, inner[n % INNERS][i]);
		if (strstr(text, "substack") && strstr(strstr(text, "substack") + 1, "substack"))
			continue; /* one is enough: with three lines more, the runs are too many */
		program = world_compile(&world, files, "default");
		assert_non_null(program);
		compare(program, n % 2 ? STACK_KEY : STACK_PAGE);
		compared++;
		stack_program_free(program);
	}
	assert_int_equal(compared, 2 * (512 + 3 * 64));
}

/* A stack as deep and as long as can be: the walk ends soon, and finds the line at the bottom. */
static void test_deep(void **state)
{
	static char names[STACK_DEPTH_MAX][8], texts[STACK_DEPTH_MAX][4096];
	struct world_file files[STACK_DEPTH_MAX + 1] = {{0}};
	struct stack_program *program;
	struct findings f;

	(void)state;
	for (unsigned i = 0; i < STACK_DEPTH_MAX; i++) {
		snprintf(names[i], sizeof(names[i]), i ? "d%u" : "default", i);
		snprintf(texts[i], sizeof(texts[i]), "%s", i ? "" : C K A L);
		for (unsigned j = 0; j < 50; j++)
			strcat(texts[i], "scope required debug\n");
		if (i + 1 < STACK_DEPTH_MAX)
			snprintf(texts[i] + strlen(texts[i]), 64, "scope substack d%u\n", i + 1);
		else
			strcat(texts[i], "scope required deny\n");
		files[i] = (struct world_file){names[i], texts[i]};
	}
	program = world_compile(&world, files, "default");
	assert_string_equal(world.text, "");
	assert_non_null(program);
	lint(program, &f);
	assert_int_equal(f.errors, 1);
	stack_program_free(program);
}

/* ---- the mistakes ---- */

/* `# expect: a-name, another` are the findings, all of them; else it is in the words of the first fault. */
static void check_mistake(const char *name)
{
	char path[512], *text, *common = read_file(DIRECTORY "/common"), *expect;
	struct world_file files[] = {{name, NULL}, {"common", common}, {0}};
	struct stack_program *program;
	struct findings f;

	snprintf(path, sizeof(path), DIRECTORY "/%s", name);
	files[0].text = text = read_file(path);
	program = world_compile(&world, files, name);
	assert_int_equal(strncmp(text, "# expect: ", 10), 0);
	expect = strndup(text + 10, strcspn(text + 10, "\n"));
	assert_non_null(expect);
	if (program) {
		lint(program, &f);
		/* Their order is the linter's own. */
		for (char *save = NULL, *one = strtok_r(expect, ", ", &save); one; one = strtok_r(NULL, ", ", &save)) {
			if (!strstr(f.names, one))
				fail_msg("%s: %s is not found in \"%s\"", name, one, f.names);
			f.count--;
		}
		if (f.count != 0)
			fail_msg("%s: finds %s", name, f.names);
	} else {
		world.text[strcspn(world.text, "\n")] = '\0';
		if (!strstr(world.text, expect))
			fail_msg("%s: is told \"%s\", not \"%s\"", name, world.text, expect);
	}
	stack_program_free(program);
	free(expect);
	free(common);
	free(text);
}

static void test_mistakes(void **state)
{
	DIR *directory = opendir(DIRECTORY);
	struct dirent *entry;
	unsigned count = 0;

	(void)state;
	assert_non_null(directory);
	while ((entry = readdir(directory))) {
		const char *end = strrchr(entry->d_name, '.');

		if (!end || strcmp(end, ".stack") != 0)
			continue;
		check_mistake(entry->d_name);
		count++;
	}
	closedir(directory);
	assert_true(count >= 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each),	 cmocka_unit_test(test_manual), cmocka_unit_test(test_who_granted),
		cmocka_unit_test(test_texts),	 cmocka_unit_test(test_walk),	cmocka_unit_test(test_deep),
		cmocka_unit_test(test_mistakes),
	};

	return cmocka_run_group_tests_name("stack_lint", tests, NULL, NULL);
}
