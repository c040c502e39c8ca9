/* From files to a program: order, includes, substacks, modules, arguments, and each fault by its very words. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "daemon/stack/program.h"
#include "proto/value.h"
#include "tests/unit/stack_world.h"

static struct world world;

/* ---- the linker puts these between the stacks and the C library: one allocation fails, the blocks are counted ---- */

static struct {
	bool armed;
	uint32_t left; /* allocations that still succeed */
	int64_t blocks;
} memory;

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__real_realloc(void *block, size_t size);
void *__wrap_realloc(void *block, size_t size);
void __real_free(void *block);
void __wrap_free(void *block);

static bool runs_out(void)
{
	return memory.armed && memory.left-- == 0;
}

static void *counted(void *block)
{
	memory.blocks += memory.armed && block;
	return block;
}

void *__wrap_malloc(size_t size)
{
	return runs_out() ? NULL : counted(__real_malloc(size));
}

void *__wrap_calloc(size_t count, size_t size)
{
	return runs_out() ? NULL : counted(__real_calloc(count, size));
}

void *__wrap_realloc(void *block, size_t size)
{
	if (runs_out())
		return NULL;
	return block ? __real_realloc(block, size) : counted(__real_realloc(NULL, size));
}

void __wrap_free(void *block)
{
	memory.blocks -= memory.armed && block;
	__real_free(block);
}

/* ---- a program as text, to compare ---- */

static char shown[32 * 1024];

static const char *show(const struct stack_program *program)
{
	size_t used = 0;

	shown[0] = '\0';
	for (unsigned group = 0; group < STACK_GROUPS; group++) {
		for (unsigned i = program->first[group]; i < program->first[group + 1]; i++) {
			const struct stack_line *line = &program->lines[i];
			const char *mark = line->op == STACK_OP_ENTER ? "{" : line->op == STACK_OP_LEAVE ? "}" : "";

			used += (size_t)snprintf(shown + used, sizeof(shown) - used, "%u %s%s %s %s > %u | %s:%u:%u\n",
						 i, mark, group_word((enum stack_group)group), line->control,
						 line->text, line->op == STACK_OP_LEAVE ? 0 : line->end, line->path,
						 line->place.line, line->place.column);
			assert_string_equal(line->path, line->stack);
		}
	}
	return shown;
}

static void compiles_to(const struct world_file *files, const char *want)
{
	struct stack_program *program = world_compile(&world, files, "default");

	assert_string_equal(world.text, "");
	assert_non_null(program);
	assert_string_equal(program->name, "default");
	assert_string_equal(show(program), want);
	stack_program_free(program);
}

static void test_order(void **state)
{
	static const struct world_file files[] = {
		{"default", "audit required ledger\n"
			    "  account required penalty\n"
			    "caller none\n"
			    "key sufficient file path=/x\n"
			    "account required rate\n"
			    "key required store\n"
			    "page none\n"},
		{0},
	};
	struct stack_program *program;

	(void)state;
	compiles_to(files, "0 key sufficient file path=/x > 2 | default:4:1\n"
			   "1 key required store > 2 | default:6:1\n"
			   "2 account required penalty > 4 | default:2:3\n"
			   "3 account required rate > 4 | default:5:1\n"
			   "4 audit required ledger > 5 | default:1:1\n");
	program = world_compile(&world, files, "default");
	assert_non_null(program);
	assert_int_equal(program->module_count, 5);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(program->lines[i].module_number, i);
	assert_false(program->may_wait);
	assert_true(program->none[STACK_CALLER]);
	assert_true(program->none[STACK_PAGE]);
	assert_false(program->none[STACK_SCOPE]);
	assert_false(program->none[STACK_KEY]);
	assert_false(program->none[STACK_AUDIT]);
	assert_ptr_equal(program->lines[1].module, world_module("store"));
	assert_int_equal(program->lines[0].actions[APIKEYD_SUCCESS], STACK_DONE);
	assert_int_equal(program->lines[1].actions[APIKEYD_STALE], STACK_BAD);
	assert_false(program->lines[0].optional);
	stack_program_free(program);
	stack_program_free(NULL);
}

static void test_includes(void **state)
{
	static const struct world_file files[] = {
		{"default", "caller include common\n"
			    "key substack keys\n"
			    "key optional id\n"
			    "scope required any\n"
			    "scope substack rules\n"
			    "scope include rules\n"
			    "scope required any\n"
			    "page substack common\n"
			    "audit required exec command=/c\n"},
		{"common", "page none\ncaller none\naccount required rate\n"},
		{"keys", "key sufficient store\nkey include more\n"},
		{"more", "key required file path=/y\n"},
		{"rules", "scope requisite any\nscope substack deep\nscope requisite deny\n"},
		{"deep", "scope sufficient any\nscope required any"},
		{0},
	};
	struct stack_program *program;

	(void)state;
	compiles_to(files, "0 {key substack keys > 3 | default:2:1\n"
			   "1 key sufficient store > 3 | keys:1:1\n"
			   "2 key required file path=/y > 3 | more:1:1\n"
			   "3 }key substack keys > 0 | default:2:1\n"
			   "4 key optional id > 5 | default:3:1\n"
			   "5 scope required any > 21 | default:4:1\n"
			   "6 {scope substack rules > 13 | default:5:1\n"
			   "7 scope requisite any > 13 | rules:1:1\n"
			   "8 {scope substack deep > 11 | rules:2:1\n"
			   "9 scope sufficient any > 11 | deep:1:1\n"
			   "10 scope required any > 11 | deep:2:1\n"
			   "11 }scope substack deep > 0 | rules:2:1\n"
			   "12 scope requisite deny > 13 | rules:3:1\n"
			   "13 }scope substack rules > 0 | default:5:1\n"
			   "14 scope requisite any > 21 | rules:1:1\n"
			   "15 {scope substack deep > 18 | rules:2:1\n"
			   "16 scope sufficient any > 18 | deep:1:1\n"
			   "17 scope required any > 18 | deep:2:1\n"
			   "18 }scope substack deep > 0 | rules:2:1\n"
			   "19 scope requisite deny > 21 | rules:3:1\n"
			   "20 scope required any > 21 | default:7:1\n"
			   "21 audit required exec command=/c > 22 | default:9:1\n");
	program = world_compile(&world, files, "default");
	assert_non_null(program);
	assert_true(program->may_wait);
	assert_true(program->none[STACK_CALLER]);
	assert_true(program->none[STACK_PAGE]);
	assert_int_equal(program->module_count, 14);
	stack_program_free(program);
}

/* ---- the line in one form ---- */

static const char *text_of(const char *line)
{
	static char file[8192], text[8192];
	const struct world_file files[] = {{"default", file}, {0}};
	struct stack_program *program;

	snprintf(file, sizeof(file), "caller none\nkey required id\naudit none\n%s\n", line);
	program = world_compile(&world, files, "default");
	assert_string_equal(world.text, "");
	assert_non_null(program);
	snprintf(text, sizeof(text), "%s %s", program->lines[1].control, program->lines[1].text);
	stack_program_free(program);
	return text;
}

static void test_text(void **state)
{
	static const struct {
		const char *line, *text;
	} rows[] = {
		{"scope \t required   typed # comment", "required typed"},
		{"scope [ success=ok\tdefault=bad  ] typed rate=1/s  text=x",
		 "[success=ok default=bad] typed text=x rate=1/s"},
		{"scope required typed [text=a b]", "required typed [text=a b]"},
		{"scope required typed [text=ab]", "required typed text=ab"},
		{"scope required typed text=", "required typed text="},
		{"scope required typed [text=\\]a\\\\ b]", "required typed [text=\\]a\\\\ b]"},
		{"scope required typed text=a]b\\c", "required typed text=a]b\\c"},
		{"scope required typed [text=\"x\"]", "required typed [text=\"x\"]"},
		{"scope required typed [text=[x]", "required typed [text=[x]"},
		{"scope required typed [text=x\\\\]", "required typed [text=x\\\\]"},
		{"scope required typed flag=no count=2", "required typed flag=no count=2"},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char again[8192];

		assert_string_equal(text_of(rows[i].line), rows[i].text);
		/* What explain shows can be put into a file, and says the same there. */
		snprintf(again, sizeof(again), "scope %s", rows[i].text);
		assert_string_equal(text_of(again), rows[i].text);
	}
}

/* ---- values ---- */

static const struct apikeyd_argument *typed(const char *name, unsigned *ret)
{
	const struct apikeyd_argument *arguments = world_module("typed")->arguments;
	unsigned i = 0;

	while (strcmp(arguments[i].name, name) != 0)
		i++;
	if (ret)
		*ret = i;
	return &arguments[i];
}

static const struct {
	const char *name, *text, *right; /* right NULL: it is a value */
	uint64_t number, period_us;
	const char *items;
} values[] = {
	{"text", "anything at all", NULL, 0, 0, NULL},
	{"text", "", NULL, 0, 0, NULL},
	{"word", "two", NULL, 0, 0, NULL},
	{"word", "three", "one or two", 0, 0, NULL},
	{"word", "one|two", "one or two", 0, 0, NULL},
	{"word", "", "one or two", 0, 0, NULL},
	{"flag", "yes", NULL, 1, 0, NULL},
	{"flag", "no", NULL, 0, 0, NULL},
	{"flag", "true", "yes or no", 0, 0, NULL},
	{"count", "2", NULL, 2, 0, NULL},
	{"count", "10", NULL, 10, 0, NULL},
	{"count", "1", "a whole number from 2 to 10", 0, 0, NULL},
	{"count", "11", "a whole number from 2 to 10", 0, 0, NULL},
	{"count", "+3", "a whole number from 2 to 10", 0, 0, NULL},
	{"count", "3.0", "a whole number from 2 to 10", 0, 0, NULL},
	{"count", "0x3", "a whole number from 2 to 10", 0, 0, NULL},
	{"count", " 3", "a whole number from 2 to 10", 0, 0, NULL},
	{"count", "", "a whole number from 2 to 10", 0, 0, NULL},
	{"free", "18446744073709551615", NULL, UINT64_MAX, 0, NULL},
	{"free", "18446744073709551616", "a whole number, at least 1", 0, 0, NULL},
	{"free", "0", "a whole number, at least 1", 0, 0, NULL},
	{"time", "1500ms", NULL, 1500, 0, NULL},
	{"time", "2s", NULL, 2000, 0, NULL},
	{"time", "3min", NULL, 180000, 0, NULL},
	{"time", "4h", NULL, 14400000, 0, NULL},
	{"time", "2d", NULL, 172800000, 0, NULL},
	{"time", "1s", "a time from 1500ms to 2d, with its unit: ms, s, min, h or d", 0, 0, NULL},
	{"time", "3d", "a time from 1500ms to 2d, with its unit: ms, s, min, h or d", 0, 0, NULL},
	{"time", "5", "a time from 1500ms to 2d, with its unit: ms, s, min, h or d", 0, 0, NULL},
	{"time", "5m", "a time from 1500ms to 2d, with its unit: ms, s, min, h or d", 0, 0, NULL},
	{"time", "5 s", "a time from 1500ms to 2d, with its unit: ms, s, min, h or d", 0, 0, NULL},
	{"time", "1h30min", "a time from 1500ms to 2d, with its unit: ms, s, min, h or d", 0, 0, NULL},
	{"time", "213503982335d", "a time from 1500ms to 2d, with its unit: ms, s, min, h or d", 0, 0, NULL},
	{"path", "/a/b c", NULL, 0, 0, NULL},
	{"path", "a/b", "an absolute path", 0, 0, NULL},
	{"path", "", "an absolute path", 0, 0, NULL},
	{"list", "a,b c,d", NULL, 0, 0, "a|b c|d"},
	{"list", "a", NULL, 0, 0, "a"},
	{"list", "a,,b", "words with commas between, none of them empty", 0, 0, NULL},
	{"list", "a,", "words with commas between, none of them empty", 0, 0, NULL},
	{"list", ",a", "words with commas between, none of them empty", 0, 0, NULL},
	{"list", "", "words with commas between, none of them empty", 0, 0, NULL},
	{"scopes", "*", NULL, 0, 0, "*"},
	{"scopes", "incident:*,*:write,a_b-1:c", NULL, 0, 0, "incident:*|*:write|a_b-1:c"},
	{"scopes", "incident:*,", "scopes with commas between, none of them empty", 0, 0, NULL},
	{"scopes", "incident",
	 "scopes such as incident:write, incident:*, *:write or *, with commas between, and `incident` is none", 0, 0,
	 NULL},
	{"scopes", "*:*x",
	 "scopes such as incident:write, incident:*, *:write or *, with commas between, and `*:*x` is none", 0, 0,
	 NULL},
	{"scopes", "a:",
	 "scopes such as incident:write, incident:*, *:write or *, with commas between, and `a:` is none", 0, 0, NULL},
	{"scopes", "A:b",
	 "scopes such as incident:write, incident:*, *:write or *, with commas between, and `A:b` is none", 0, 0, NULL},
	{"scopes", "a:b:c",
	 "scopes such as incident:write, incident:*, *:write or *, with commas between, and `a:b:c` is none", 0, 0,
	 NULL},
	{"rate", "100/s", NULL, 100, 1000000, NULL},
	{"rate", "5/min", NULL, 5, 60000000, NULL},
	{"rate", "1000/h", NULL, 1000, UINT64_C(3600000000), NULL},
	{"rate", "1/5s", NULL, 1, 5000000, NULL},
	{"rate", "3/250ms", NULL, 3, 250000, NULL},
	{"rate", "1000000000/365d", NULL, 1000000000, UINT64_C(31536000000000), NULL},
#define RIGHT_RATE "how many in which time, such as 100/s, 5/min, 1000/h, 1/5s: 1 to 1000000000, in at most 365d"
	{"rate", "0/s", RIGHT_RATE, 0, 0, NULL},
	{"rate", "1000000001/s", RIGHT_RATE, 0, 0, NULL},
	{"rate", "1/366d", RIGHT_RATE, 0, 0, NULL},
	{"rate", "1/0s", RIGHT_RATE, 0, 0, NULL},
	{"rate", "1", RIGHT_RATE, 0, 0, NULL},
	{"rate", "1/", RIGHT_RATE, 0, 0, NULL},
	{"rate", "1/5", RIGHT_RATE, 0, 0, NULL},
	{"rate", "/s", RIGHT_RATE, 0, 0, NULL},
	{"rate", "1/sec", RIGHT_RATE, 0, 0, NULL},
	{"rate", "1 /s", RIGHT_RATE, 0, 0, NULL},
	{"rate", "1/18446744073709551615d", RIGHT_RATE, 0, 0, NULL},
	{"rate", "1/99999999999999999999s", RIGHT_RATE, 0, 0, NULL},
};

static void test_values(void **state)
{
	struct arena arena = {0};

	(void)state;
	for (unsigned i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		struct apikeyd_value value = {.number = 77};
		char right[256] = "", items[256] = "";
		int rc = stack_value(&arena, typed(values[i].name, NULL), values[i].text, &value, right, sizeof(right));

		if (values[i].right) {
			assert_int_equal(rc, -EINVAL);
			assert_string_equal(right, values[i].right);
			assert_int_equal(value.number, 77); /* untouched */
			continue;
		}
		assert_string_equal(right, "");
		assert_int_equal(rc, 0);
		assert_true(value.given);
		assert_string_equal(value.text, values[i].text);
		assert_ptr_not_equal(value.text, values[i].text);
		assert_true(value.number == values[i].number);
		assert_true(value.period_us == values[i].period_us);
		for (uint32_t j = 0; j < value.item_count; j++)
			snprintf(items + strlen(items), sizeof(items) - strlen(items), "%s%s", j ? "|" : "",
				 value.items[j]);
		assert_string_equal(items, values[i].items ? values[i].items : "");
	}
	arena_clear(&arena);
}

/* A daemon that is older than its module. */
static void test_unknown_type(void **state)
{
	struct apikeyd_argument argument = {.name = "x", .type = (enum apikeyd_type)99};
	struct apikeyd_value value;
	struct arena arena = {0};
	char right[128] = "";

	(void)state;
	assert_int_equal(stack_value(&arena, &argument, "1", &value, right, sizeof(right)), -EINVAL);
	assert_string_equal(right, "nothing: the module declares a type that this daemon does not know");
	arena_clear(&arena);
}

static void test_given(void **state)
{
	static const struct world_file files[] = {
		{"default", "caller none\nkey required id\naudit none\n"
			    "scope required typed rate=5/s count=3 [text=a b]\n"
			    "account required rate\n"},
		{0},
	};
	struct stack_program *program = world_compile(&world, files, "default");
	const struct apikeyd_value *line;
	unsigned at;

	(void)state;
	assert_non_null(program);
	line = program->lines[program->first[STACK_SCOPE]].values;
	assert_string_equal(line[0].text, "a b");
	typed("word", &at);
	assert_false(line[at].given);
	assert_null(line[at].text);
	typed("flag", &at);
	assert_true(line[at].given); /* by its fallback */
	assert_string_equal(line[at].text, "no");
	typed("count", &at);
	assert_int_equal(line[at].number, 3);
	typed("rate", &at);
	assert_int_equal(line[at].period_us, 1000000);
	line = program->lines[program->first[STACK_ACCOUNT]].values;
	assert_false(line[0].given);
	assert_true(line[2].given);
	assert_string_equal(line[2].text, "key");
	/* Who takes none has a place to look at all the same. */
	assert_non_null(program->lines[0].values);
	stack_program_free(program);
}

/* ---- faults ---- */

#define STACK "caller none\nkey required id\naudit none\n"

static const struct {
	const char *text, *other; /* of the stacks `default` and `other` */
	const char *faults;
} wrong[] = {
	/* what a stack must have */
	{"", NULL, "default: holds no line; a stack has lines of caller, key and audit at least\n"},
	{"# nothing\n", NULL, "default: holds no line; a stack has lines of caller, key and audit at least\n"},
	{"page none", NULL,
	 "default:1:1: caller: has no line; write one, or `caller none` where anybody may ask\n"
	 "default:1:1: key: has no line; write one with a module that says whose key it is\n"
	 "default:1:1: audit: has no line; write one, or `audit none` where nothing is to be written down\n"},
	/* where a module may stand */
	{STACK "key required rate", NULL,
	 "default:4:14: rate: does not say whose key it is, and in key only modules that do may stand; it may stand in "
	 "account\n"},
	{STACK "scope required id", NULL, "default:4:16: id: may not stand in scope; it may stand in key\n"},
	{STACK "scope required permit", NULL, "default:4:16: permit: may not stand in scope; it may stand in caller\n"},
	{"caller none\nkey required id\naudit required hours between=x", NULL,
	 "default:3:16: hours: may not stand in audit; it may stand in account, page or scope\n"},
	{STACK "scope required nowhere", NULL,
	 "default:4:16: nowhere: may not stand in scope; it may stand in no group\n"},
	{STACK "scope required greedy", NULL, "default:4:16: greedy: may not stand in scope; it may stand in key\n"},
	{STACK "scope required frob", NULL, "default:4:16: frob: is no module; there is none of that name\n"},
	/* arguments */
	{STACK "scope required any x=1", NULL, "default:4:20: x: is no argument of any; it takes none\n"},
	{STACK "account required rate limt=1/s", NULL,
	 "default:4:23: limt: is no argument of rate; did you mean limit?\n"},
	{STACK "account required rate nonsense=1", NULL,
	 "default:4:23: nonsense: is no argument of rate; it takes limit, burst, by\n"},
	{STACK "account required rate limit=1/s [limit=2/s]", NULL,
	 "default:4:34: limit: is given a second time, first in column 23; give it once\n"},
	{STACK "account required rate limit=often", NULL,
	 "default:4:29: often: is no value of limit; right is how many in which time, such as 100/s, 5/min, 1000/h, 1/5s: 1 "
	 "to 1000000000, in at most 365d\n"},
	{STACK "account required rate by=", NULL, "default:4:23: by=: has no value; right is key, user, org or addr\n"},
	{STACK "account required rate by=all", NULL,
	 "default:4:26: all: is no value of by; right is key, user, org or addr\n"},
	{STACK "scope required exec timeout=1s", NULL,
	 "default:4:16: exec: lacks command; write command=..., which it needs\n"},
	{STACK "scope required hours", NULL, "default:4:16: hours: lacks between; write between=..., windows\n"},
	/* what is misspelt may be what is missing, and is not told as both */
	{STACK "scope required hours betwen=1", NULL,
	 "default:4:22: betwen: is no argument of hours; did you mean between?\n"},
	{STACK "scope required exec command=x timeout=0ms", NULL,
	 "default:4:29: x: is no value of command; right is an absolute path\n"
	 "default:4:39: 0ms: is no value of timeout; right is a time from 1ms to 1min, with its unit: ms, s, min, h or d\n"},
	/* what the module says itself, at the argument that it names */
	{STACK "account required rate burst=5", NULL, "default:4:23: burst: says how much of limit; give limit,?too\n"},
	{"caller required peer\nkey required id\naudit none", NULL,
	 "default:1:17: peer: names nobody; give user or group\n"},
	{STACK "scope required picky re=1", NULL, "default:4:16: picky: refuses all; leave it out\n"},
	{STACK "scope required hollow", NULL, "default:4:16: hollow: refuses its arguments\n"},
	{STACK "scope required broken", NULL,
	 "default:4:16: broken: is built wrong: what it takes where count is not given is no value of it; right is a whole "
	 "number, at least 0\n"},
	{STACK "scope required crowd", NULL,
	 "default:4:16: crowd: is built wrong: it declares 33 arguments; at most 32 are right\n"},
	/* includes */
	{STACK "scope include nobody", NULL, "default:4:15: nobody: is no stack; there is no such file\n"},
	{STACK "scope include other", "page required any",
	 "default:4:15: other: says nothing of scope; put a line of that group there, or leave this one out\n"},
	{STACK "scope substack default", NULL,
	 "default:4:16: default: goes round: default includes default; leave one of them out\n"},
	{STACK "scope include other", "scope required any\nscope substack default",
	 "other:2:16: default: goes round: default includes other includes default; leave one of them out\n"},
	{STACK "scope include other", "scope required any\nscope include other",
	 "other:2:15: other: goes round: other includes other; leave one of them out\n"},
	/* what is wrong in an included file is told once, where it stands */
	{STACK "scope include other\npage substack other\naccount include other",
	 "scope required frob\npage required any\nx",
	 "other:3:1: x: is no group; caller, key, account, page, scope or audit\n"},
	{STACK "scope include other\nscope include other", "scope required frob",
	 "other:1:16: frob: is no module; there is none of that name\n"},
};

static void test_faults(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		const struct world_file files[] = {
			{"default", wrong[i].text}, {wrong[i].other ? "other" : NULL, wrong[i].other}, {0}};

		assert_null(world_compile(&world, files, "default"));
		assert_string_equal(world.text, wrong[i].faults);
		assert_true(world.faults.count > 0);
	}
}

static void test_names(void **state)
{
	static const struct world_file files[] = {{"../x", STACK}, {0}};

	(void)state;
	assert_null(world_compile(&world, files, "../x"));
	assert_string_equal(world.text,
			    "../x: cannot be a stack's name; letters, digits, -, _ and ., at most 64, and no "
			    "backup's ending\n");
	assert_null(world_compile(&world, files, "x"));
	assert_string_equal(world.text, "x: there is no such file\n");
}

/* Lines of one group make a cycle, and no others. */
static void test_no_cycle(void **state)
{
	static const struct world_file files[] = {
		{"default", STACK "account include other\npage required any\n"},
		{"other", "account required rate\npage include default\n"},
		{0},
	};

	(void)state;
	compiles_to(files, "0 key required id > 1 | default:2:1\n"
			   "1 account required rate > 2 | other:1:1\n"
			   "2 page required any > 3 | default:5:1\n");
}

/* ---- limits, each from both sides ---- */

static struct stack_program *compile_chain(unsigned depth)
{
	static char names[STACK_DEPTH_MAX + 1][8], texts[STACK_DEPTH_MAX + 1][128];
	static struct world_file files[STACK_DEPTH_MAX + 2];

	memset(files, 0, sizeof(files));
	for (unsigned i = 0; i < depth; i++) {
		snprintf(names[i], sizeof(names[i]), "d%u", i + 1);
		snprintf(texts[i], sizeof(texts[i]),
			 i + 1 < depth ? STACK "page include d%u\n" : "page required any # %u\n", i + 2);
		files[i] = (struct world_file){names[i], texts[i]};
	}
	return world_compile(&world, files, "d1");
}

static void test_depth(void **state)
{
	struct stack_program *program = compile_chain(STACK_DEPTH_MAX);

	(void)state;
	assert_string_equal(world.text, "");
	assert_non_null(program);
	assert_int_equal(program->module_count, 2);
	stack_program_free(program);
	assert_null(compile_chain(STACK_DEPTH_MAX + 1));
	assert_string_equal(world.text, "d16:4:14: d17: would be file 17, one in the other; at most 16 go\n");
}

/* 1024 lines of files: `used` of them before the many that are included. */
static struct stack_program *compile_many(unsigned lines)
{
	static const char first[] = STACK "page substack many\n", line[] = "page required any\n";
	static char text[STACK_PROGRAM_MAX * sizeof(line)];
	static const struct world_file files[] = {{"default", first}, {"many", text}, {0}};

	text[0] = '\0';
	for (unsigned i = 0; i < lines; i++)
		memcpy(text + i * (sizeof(line) - 1), line, sizeof(line));
	return world_compile(&world, files, "default");
}

static void test_many_lines(void **state)
{
	enum { BEFORE = 3 }; /* caller, key, and the substack; audit comes after */
	struct stack_program *program = compile_many(STACK_PROGRAM_MAX - BEFORE - 1);

	(void)state;
	assert_string_equal(world.text, "");
	assert_non_null(program);
	assert_int_equal(program->module_count, STACK_PROGRAM_MAX - BEFORE);
	stack_program_free(program);
	assert_null(compile_many(STACK_PROGRAM_MAX - BEFORE));
	assert_string_equal(world.text,
			    "default:3:1: audit: is one line too many, with all that is included; at most 1024 "
			    "make a stack\n");
	assert_null(compile_many(STACK_PROGRAM_MAX - BEFORE + 1));
	assert_string_equal(world.text,
			    "many:1022:1: page: is one line too many, with all that is included; at most 1024 "
			    "make a stack\n");
}

/* Files that include nothing many times over, each the next one: it ends soon. */
static void test_many_includes(void **state)
{
	static char names[15][8], texts[15][128];
	static struct world_file files[16];

	(void)state;
	for (unsigned i = 0; i < 15; i++) {
		snprintf(names[i], sizeof(names[i]), "d%u", i + 1);
		if (i + 1 < 15)
			snprintf(texts[i], sizeof(texts[i]), STACK "page include d%u\npage substack d%u\n", i + 2,
				 i + 2);
		else
			snprintf(texts[i], sizeof(texts[i]), "page none\n");
		files[i] = (struct world_file){names[i], texts[i]};
	}
	assert_null(world_compile(&world, files, "d1"));
	assert_non_null(
		strstr(world.text, "is one line too many, with all that is included; at most 1024 make a stack\n"));
	assert_int_equal(world.faults.count, 1);
}

/* ---- where memory runs out ---- */

static void test_memory(void **state)
{
	static char big[24 * 1024];
	static const struct world_file files[] = {
		{"default", STACK "scope substack other\nscope required typed list=a,b,c [text=x y]\n"},
		{"other", "scope include big\nscope required any\n"},
		{"big", big},
		{0},
	};
	struct stack_program *program = NULL;
	unsigned failures = 0;

	(void)state;
	for (unsigned i = 0; i < 60; i++)
		strcat(big,
		       "scope required typed scopes=a:b,c:d,*:e,f:* path=/a/rather/long/path/of/a/file rate=100/5s "
		       "[text=of many words]\n");
	for (uint32_t n = 0; !program; n++) {
		world_init(&world, files);
		memory.armed = true;
		memory.left = n;
		memory.blocks = 0;
		program = stack_compile("default", &world.finder, &world.faults);
		memory.armed = false;
		if (program)
			break;
		failures++;
		assert_int_equal(memory.blocks, 0);
		assert_int_equal(world.faults.count, 1);
		assert_non_null(strstr(world.text, "no memory\n"));
	}
	assert_string_equal(world.text, "");
	assert_true(failures > 10);
	memory.armed = true;
	memory.left = UINT32_MAX;
	stack_program_free(program);
	memory.armed = false;
	assert_int_equal(memory.blocks, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),	     cmocka_unit_test(test_includes),
		cmocka_unit_test(test_text),	     cmocka_unit_test(test_values),
		cmocka_unit_test(test_unknown_type), cmocka_unit_test(test_given),
		cmocka_unit_test(test_faults),	     cmocka_unit_test(test_names),
		cmocka_unit_test(test_no_cycle),     cmocka_unit_test(test_depth),
		cmocka_unit_test(test_many_lines),   cmocka_unit_test(test_many_includes),
		cmocka_unit_test(test_memory),
	};

	return cmocka_run_group_tests_name("stack_compile", tests, NULL, NULL);
}
