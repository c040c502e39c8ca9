/*
 * The engine, sentence by sentence of apikeyd-stacks(5). Each row is a group: its controls, what its modules say, and
 * what must come of it: the outcome, who was asked, which line is named, who granted, whether a rate was charged.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "daemon/stack/run.h"
#include "tests/unit/stack_world.h"

/*
 * Controls stand with semicolons between; "@" before one means a module that enforces rates; "substack s" and
 * "include t" name the stacks `s` and `t` of the row. Modules are counted from 0 in the order of the program.
 */
struct row {
	const char *group, *controls, *s, *t;
	const char *codes;   /* of the modules */
	const char *outcome; /* "passed", "waits", or the code */
	const char *asked;   /* the modules that were, in order */
	const char *line;    /* failed: the number of the module whose line is named; "s": a substack; "-": none */
	const char *granted; /* key: the number, or "-" */
	bool charged;
};

/* ---- one row ---- */

struct play {
	enum apikeyd_code codes[32];
	char asked[32];
	char granted[4];
	unsigned grants;
	const struct stack_line *last; /* that was asked */
	unsigned traced;
	char leaves[64]; /* what came of the substacks, in the order of their ends */
};

static enum apikeyd_code on_ask(void *data, const struct stack_line *line)
{
	struct play *play = data;
	size_t len = strlen(play->asked);

	assert_int_equal(line->op, STACK_OP_MODULE);
	assert_non_null(line->module);
	play->asked[len] = (char)('0' + line->module_number);
	play->last = line;
	return play->codes[line->module_number];
}

static void on_grant(void *data, const struct stack_line *line)
{
	struct play *play = data;

	/* The grant is of the success that was just asked for. */
	assert_ptr_equal(line, play->last);
	play->grants++;
	play->granted[0] = (char)('0' + line->module_number);
}

static void on_trace(void *data, const struct stack_line *line, enum apikeyd_code code, enum stack_action action,
		     enum stack_effect effect)
{
	struct play *play = data;

	if (line->op != STACK_OP_MODULE) {
		size_t used = strlen(play->leaves);

		assert_int_equal(line->op, STACK_OP_LEAVE);
		snprintf(play->leaves + used, sizeof(play->leaves) - used, "%s%s %s %s %s", used ? ", " : "",
			 line->name, code_word(code), action_word(action), effect_word(effect));
		return;
	}
	play->traced++;
	assert_ptr_equal(line, play->last);
	assert_int_equal(code, code_clean((int)play->codes[line->module_number]));
	if (effect != STACK_EFFECT_PENDING)
		assert_int_equal(action, line->actions[code]);
}

static void write_lines(char *out, size_t size, const char *group, const char *controls)
{
	char copy[1024], *save = NULL;

	snprintf(copy, sizeof(copy), "%s", controls);
	for (char *one = strtok_r(copy, ";", &save); one; one = strtok_r(NULL, ";", &save)) {
		bool rate = *one == '@';
		bool names = strncmp(one, "include ", 8) == 0 || strncmp(one, "substack ", 9) == 0 ||
			     strcmp(one, "none") == 0;
		size_t used = strlen(out);

		snprintf(out + used, size - used, "%s %s %s\n", group, one + rate,
			 names			     ? ""
			 : strcmp(group, "key") == 0 ? "id"
			 : rate			     ? "rate"
						     : "any");
	}
}

static struct stack_program *program_of(const struct row *row)
{
	static struct world world;
	static char text[4096], s[4096], t[4096];
	struct world_file files[] = {{"default", text}, {"s", s}, {"t", t}, {0}};
	struct stack_program *program;

	text[0] = s[0] = t[0] = '\0';
	write_lines(text, sizeof(text), row->group, row->controls);
	if (strcmp(row->group, "caller") != 0)
		strcat(text, "caller none\n");
	if (strcmp(row->group, "key") != 0)
		strcat(text, "key required id\n");
	if (strcmp(row->group, "audit") != 0)
		strcat(text, "audit none\n");
	write_lines(s, sizeof(s), row->group, row->s ? row->s : "");
	write_lines(t, sizeof(t), row->group, row->t ? row->t : "");
	program = world_compile(&world, files, "default");
	if (!program)
		fail_msg("%s%s", text, world.text);
	return program;
}

static unsigned first_module(const struct stack_program *program, enum stack_group group)
{
	for (unsigned i = program->first[group]; i < program->first[group + 1]; i++) {
		if (program->lines[i].op == STACK_OP_MODULE)
			return program->lines[i].module_number;
	}
	return 0;
}

static const char *line_name(const struct stack_line *line, unsigned first)
{
	static char name[2];

	if (!line)
		return "-";
	if (line->op != STACK_OP_MODULE)
		return "s";
	name[0] = (char)('0' + line->module_number - first);
	return name;
}

/* The modules of the row are not always the program's first ones: numbers are made to begin with 0. */
static void renumber(char *text, unsigned first)
{
	for (; *text; text++)
		*text = (char)(*text - (char)first);
}

static void read_codes(struct play *play, unsigned first, const char *codes)
{
	for (unsigned i = first; *codes; i++) {
		size_t len = strcspn(codes, " ");

		if (len == 7 && strncmp(codes, "pending", len) == 0)
			play->codes[i] = APIKEYD_PENDING;
		else if (len == 4 && strncmp(codes, "junk", len) == 0)
			play->codes[i] = (enum apikeyd_code)55;
		else
			assert_true(code_from_word(codes, len, &play->codes[i]));
		codes += len;
		codes += *codes == ' ';
	}
}

static void check_row(const struct row *row, const char *file, int at)
{
	static const char *const outcomes[] = {"failed", "passed", "waits"};
	struct stack_program *program = program_of(row);
	struct play play = {.granted = "-"};
	const struct stack_runner runner = {.ask = on_ask, .grant = on_grant, .trace = on_trace, .data = &play};
	const struct stack_runner silent = {.ask = on_ask, .data = &play};
	struct stack_result result, again;
	enum stack_group group;
	const char *outcome;
	unsigned first;

	assert_true(group_from_word(row->group, strlen(row->group), &group));
	first = first_module(program, group);
	read_codes(&play, first, row->codes);
	stack_run(program, group, &runner, &result);
	renumber(play.asked, first);
	if (play.grants)
		renumber(play.granted, first);
	outcome = result.outcome == STACK_FAILED ? code_word(result.code) : outcomes[result.outcome];
#define SAME(what, got, want)                                                                                          \
	do {                                                                                                           \
		if (strcmp(got, want) != 0)                                                                            \
			fail_msg("%s:%d: %s: %s: is %s, not %s", file, at, row->controls, what, got, want);            \
	} while (0)
	SAME("outcome", outcome, row->outcome);
	SAME("asked", play.asked, row->asked);
	if (result.outcome == STACK_FAILED)
		SAME("line", line_name(result.line, first), row->line);
	SAME("granted", play.granted, row->granted ? row->granted : "-");
	SAME("charged", result.charged ? "yes" : "no", row->charged ? "yes" : "no");
#undef SAME
	assert_true(play.grants <= 1);
	assert_int_equal(play.traced, strlen(play.asked));
	/* Nobody who looks on changes anything. */
	memset(play.asked, 0, sizeof(play.asked));
	stack_run(program, group, &silent, &again);
	assert_int_equal(again.outcome, result.outcome);
	assert_int_equal(again.code, result.code);
	assert_ptr_equal(again.line, result.line);
	assert_int_equal(again.charged, result.charged);
	stack_program_free(program);
}

#define CHECK(rows)                                                                                                    \
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)                                                  \
	check_row(&(rows)[i], #rows, (int)i)

/* ---- VERDICT OF A GROUP: every group but key ---- */

static const struct row controls[] = {
	/* starts as passed */
	{"page", "none", NULL, NULL, "", "passed", "", "-", "-", false},
	{"page", "required", NULL, NULL, "success", "passed", "0", "-", "-", false},
	{"page", "required", NULL, NULL, "ignore", "passed", "0", "-", "-", false},
	/* required: the lines that follow are still asked */
	{"page", "required;required", NULL, NULL, "rate_limited success", "rate_limited", "01", "0", "-", false},
	{"page", "required;required", NULL, NULL, "success rate_limited", "rate_limited", "01", "1", "-", false},
	{"page", "required;required", NULL, NULL, "expired rate_limited", "expired", "01", "0", "-", false},
	{"page", "required;required", NULL, NULL, "stale success", "stale", "01", "0", "-", false},
	/* requisite: they are not */
	{"page", "requisite;required", NULL, NULL, "network success", "network", "0", "0", "-", false},
	{"page", "requisite;required", NULL, NULL, "success success", "passed", "01", "-", "-", false},
	{"page", "requisite;required", NULL, NULL, "ignore caller", "caller", "01", "1", "-", false},
	{"page", "requisite;required", NULL, NULL, "timeout policy", "timeout", "0", "0", "-", false},
	{"page", "required;requisite;required", NULL, NULL, "expired network success", "expired", "01", "0", "-",
	 false},
	/* sufficient: a success ends the group, a refusal counts for nothing */
	{"page", "sufficient;required", NULL, NULL, "success policy", "passed", "0", "-", "-", false},
	{"page", "sufficient;required", NULL, NULL, "policy policy", "policy", "01", "1", "-", false},
	{"page", "sufficient;required", NULL, NULL, "policy success", "passed", "01", "-", "-", false},
	{"page", "sufficient", NULL, NULL, "policy", "passed", "0", "-", "-", false},
	{"page", "sufficient", NULL, NULL, "overload", "passed", "0", "-", "-", false},
	/* done, unless a line before has failed: then it is ok, and the next line is asked */
	{"page", "required;sufficient;required", NULL, NULL, "revoked success success", "revoked", "012", "0", "-",
	 false},
	{"page", "required;sufficient;required", NULL, NULL, "success success policy", "passed", "01", "-", "-", false},
	{"page", "required;sufficient;requisite;required", NULL, NULL, "stale success policy policy", "policy", "012",
	 "2", "-", false},
	/* optional */
	{"page", "optional;required", NULL, NULL, "policy success", "passed", "01", "-", "-", false},
	{"page", "optional;required", NULL, NULL, "success policy", "policy", "01", "1", "-", false},
	/* binding */
	{"page", "binding;required", NULL, NULL, "success policy", "passed", "0", "-", "-", false},
	{"page", "binding;required", NULL, NULL, "ignore policy", "policy", "01", "1", "-", false},
	{"page", "binding;required", NULL, NULL, "network success", "network", "01", "0", "-", false},
	{"page", "required;binding;required", NULL, NULL, "network success success", "network", "012", "0", "-", false},
	/* in brackets */
	{"page", "[success=done default=die];required", NULL, NULL, "success policy", "passed", "0", "-", "-", false},
	{"page", "[success=done default=die];required", NULL, NULL, "ignore policy", "policy", "0", "-", "-", false},
	{"page", "[success=ok expired=ignore default=bad]", NULL, NULL, "expired", "passed", "0", "-", "-", false},
	{"page", "[success=ok expired=ignore default=bad]", NULL, NULL, "revoked", "revoked", "0", "0", "-", false},
	{"page", "[success=ok stale=ignore default=bad]", NULL, NULL, "stale", "passed", "0", "-", "-", false},
	/* codes that are not listed, with no default, are bad */
	{"page", "[success=ok]", NULL, NULL, "ignore", "policy", "0", "-", "-", false},
	{"page", "[expired=ignore]", NULL, NULL, "success", "policy", "0", "-", "-", false},
};

static const struct row reasons[] = {
	/* the first deny that was bad or died; else the first fault, be it bad, died or ignored; else policy */
	{"page", "required;required", NULL, NULL, "stale expired", "expired", "01", "1", "-", false},
	{"page", "required;required", NULL, NULL, "stale overload", "stale", "01", "0", "-", false},
	{"page", "required;requisite;required", NULL, NULL, "stale overload expired", "stale", "01", "0", "-", false},
	{"page", "optional;required", NULL, NULL, "expired network", "network", "01", "1", "-", false},
	{"page", "optional;required", NULL, NULL, "stale overload", "stale", "01", "0", "-", false},
	{"page", "optional;[success=bad]", NULL, NULL, "stale success", "stale", "01", "0", "-", false},
	{"page", "[success=bad];optional", NULL, NULL, "success stale", "stale", "01", "1", "-", false},
	{"page", "[success=die];optional", NULL, NULL, "success stale", "policy", "0", "-", "-", false},
	{"page", "[success=bad]", NULL, NULL, "success", "policy", "0", "-", "-", false},
	{"page", "[success=bad];required", NULL, NULL, "success expired", "expired", "01", "1", "-", false},
	{"page", "[success=ok ignore=die default=bad];required", NULL, NULL, "ignore expired", "policy", "0", "-", "-",
	 false},
	{"page", "required;optional", NULL, NULL, "policy stale", "policy", "01", "0", "-", false},
	/* what is no code is module_fault; zero is a refusal */
	{"page", "required", NULL, NULL, "junk", "module_fault", "0", "0", "-", false},
	{"page", "[success=ok module_fault=ignore default=bad]", NULL, NULL, "junk", "passed", "0", "-", "-", false},
	/* every group but key is the same */
	{"caller", "sufficient;required", NULL, NULL, "policy caller", "caller", "01", "1", "-", false},
	{"account", "required;sufficient;required", NULL, NULL, "revoked success success", "revoked", "012", "0", "-",
	 false},
	{"scope", "requisite;required", NULL, NULL, "timeout policy", "timeout", "0", "0", "-", false},
	{"audit", "optional;required", NULL, NULL, "stale overload", "stale", "01", "0", "-", false},
	/* include: as if the lines were written here */
	{"page", "include s;required", "sufficient", NULL, "success policy", "passed", "0", "-", "-", false},
	{"page", "include s;required", "requisite;required", NULL, "policy policy policy", "policy", "0", "0", "-",
	 false},
	{"page", "required;include s;required", "sufficient", NULL, "stale success expired", "expired", "012", "2", "-",
	 false},
};

static void test_controls(void **state)
{
	(void)state;
	CHECK(controls);
}

static void test_reasons(void **state)
{
	(void)state;
	CHECK(reasons);
}

/* ---- THE GROUP KEY ---- */

static const struct row key_rows[] = {
	/* starts as no: only a grant passes */
	{"key", "required", NULL, NULL, "success", "passed", "0", "-", "0", false},
	{"key", "required", NULL, NULL, "ignore", "unknown_key", "0", "-", "-", false},
	{"key", "required", NULL, NULL, "unknown_key", "unknown_key", "0", "0", "-", false},
	{"key", "required", NULL, NULL, "revoked", "revoked", "0", "0", "-", false},
	{"key", "sufficient", NULL, NULL, "revoked", "unknown_key", "0", "-", "-", false},
	{"key", "requisite", NULL, NULL, "success", "passed", "0", "-", "0", false},
	{"key", "binding", NULL, NULL, "success", "passed", "0", "-", "0", false},
	/* the usual two lines */
	{"key", "sufficient;required", NULL, NULL, "success unknown_key", "passed", "0", "-", "0", false},
	{"key", "sufficient;required", NULL, NULL, "unknown_key success", "passed", "01", "-", "1", false},
	{"key", "sufficient;required", NULL, NULL, "unknown_key unknown_key", "unknown_key", "01", "1", "-", false},
	/* the first success is the grant; later ones change nothing in that */
	{"key", "required;required", NULL, NULL, "success success", "passed", "01", "-", "0", false},
	{"key", "required;sufficient", NULL, NULL, "success success", "passed", "01", "-", "0", false},
	/* a line that failed takes the grant away */
	{"key", "required;required", NULL, NULL, "success revoked", "revoked", "01", "1", "0", false},
	{"key", "required;required", NULL, NULL, "revoked success", "revoked", "01", "0", "1", false},
	{"key", "required;sufficient;required", NULL, NULL, "revoked success success", "revoked", "012", "0", "1",
	 false},
	/* an optional success is no grant, however it is written */
	{"key", "optional", NULL, NULL, "success", "unknown_key", "0", "-", "-", false},
	{"key", "[success=ok default=ignore]", NULL, NULL, "success", "unknown_key", "0", "-", "-", false},
	{"key", "[success=ok ignore=ignore default=ignore]", NULL, NULL, "success", "unknown_key", "0", "-", "-",
	 false},
	{"key", "optional;required", NULL, NULL, "success success", "passed", "01", "-", "1", false},
	{"key", "optional;required", NULL, NULL, "success expired", "expired", "01", "1", "-", false},
	/* one that can fail is not optional, nor is one whose success is done */
	{"key", "[success=ok revoked=bad default=ignore]", NULL, NULL, "success", "passed", "0", "-", "0", false},
	{"key", "[success=ok stale=die default=ignore]", NULL, NULL, "success", "passed", "0", "-", "0", false},
	{"key", "[success=done default=ignore]", NULL, NULL, "success", "passed", "0", "-", "0", false},
	/* a success that is ignored grants nothing */
	{"key", "[success=ignore default=bad]", NULL, NULL, "success", "unknown_key", "0", "-", "-", false},
	/* where nothing granted and there was a fault, the outcome is the first fault, whatever else was said */
	{"key", "sufficient;required", NULL, NULL, "stale unknown_key", "stale", "01", "0", "-", false},
	{"key", "optional;required", NULL, NULL, "stale revoked", "stale", "01", "0", "-", false},
	{"key", "sufficient;required", NULL, NULL, "revoked timeout", "timeout", "01", "1", "-", false},
	{"key", "required;required", NULL, NULL, "revoked timeout", "timeout", "01", "1", "-", false},
	{"key", "sufficient;sufficient", NULL, NULL, "overload timeout", "overload", "01", "0", "-", false},
	{"key", "requisite;required", NULL, NULL, "unknown_key stale", "unknown_key", "0", "0", "-", false},
	{"key", "[success=ok stale=ignore default=bad]", NULL, NULL, "stale", "stale", "0", "0", "-", false},
	/* a fault that is ignored takes no grant away; one that is bad does */
	{"key", "sufficient;required", NULL, NULL, "stale success", "passed", "01", "-", "1", false},
	{"key", "required;required", NULL, NULL, "stale success", "stale", "01", "0", "1", false},
	{"key", "required;required", NULL, NULL, "success stale", "stale", "01", "1", "0", false},
	/* granted, and failed: the first deny, else the first fault, else unknown_key */
	{"key", "required;required;required", NULL, NULL, "success stale revoked", "revoked", "012", "2", "0", false},
	{"key", "optional;required;required", NULL, NULL, "stale success overload", "stale", "012", "0", "1", false},
	{"key", "required;[success=bad]", NULL, NULL, "success success", "unknown_key", "01", "-", "0", false},
	{"key", "[success=bad];optional", NULL, NULL, "success unknown_key", "unknown_key", "01", "-", "-", false},
};

static void test_key(void **state)
{
	(void)state;
	CHECK(key_rows);
}

/* ---- SUBSTACKS ---- */

static const struct row substacks[] = {
	/* ok where a line within it passed; else ignore */
	{"page", "substack s;required", "required", NULL, "success success", "passed", "01", "-", "-", false},
	{"page", "substack s", "required", NULL, "ignore", "passed", "0", "-", "-", false},
	{"page", "substack s", "none", NULL, "", "passed", "", "-", "-", false},
	/* done and die end the substack only */
	{"page", "substack s;required", "sufficient;required", NULL, "success policy expired", "expired", "02", "2",
	 "-", false},
	{"page", "substack s;required", "requisite;required", NULL, "expired policy network", "expired", "02", "0", "-",
	 false},
	/* what done looks at is what failed within it */
	{"page", "required;substack s;required", "sufficient;required", NULL, "expired success policy success",
	 "expired", "013", "0", "-", false},
	{"page", "substack s;sufficient;required", "required", NULL, "expired success success", "expired", "012", "0",
	 "-", false},
	/* bad, with the reason that it would give itself */
	{"page", "substack s;required", "required;required", NULL, "stale expired network", "expired", "012", "1", "-",
	 false},
	{"page", "substack s;required", "required;required", NULL, "stale overload network", "network", "012", "2", "-",
	 false},
	{"page", "substack s", "optional;required", NULL, "stale overload", "stale", "01", "0", "-", false},
	{"page", "required;substack s", "[success=bad]", NULL, "stale success", "policy", "01", "s", "-", false},
	{"page", "substack s;required", "[success=bad]", NULL, "success expired", "policy", "01", "s", "-", false},
	{"page", "substack s;required", "optional;[success=bad]", NULL, "stale success expired", "expired", "012", "2",
	 "-", false},
	/* faults within it are remembered by the group */
	{"page", "substack s;[success=bad]", "optional", NULL, "stale success", "stale", "01", "0", "-", false},
	{"page", "optional;substack s;[success=bad]", "optional", NULL, "overload stale success", "overload", "012",
	 "0", "-", false},
	/* a substack in a substack counts in it as one line */
	{"page", "substack s;required", "substack t;required", "requisite;required", "expired policy success success",
	 "expired", "023", "0", "-", false},
	{"page", "substack s;required", "substack t;sufficient;required", "sufficient;required",
	 "success policy success policy expired", "expired", "024", "4", "-", false},
	{"page", "substack s;required", "substack t;sufficient;required", "required", "network success success expired",
	 "network", "0123", "0", "-", false},
	{"page", "include s;required", "substack t;sufficient", "requisite", "policy success success", "policy", "012",
	 "0", "-", false},
	{"page", "substack s;required", "include t;required", "sufficient", "success policy expired", "expired", "02",
	 "2", "-", false},
	/* key: a grant within it is the group's, where there was none before */
	{"key", "substack s", "sufficient;required", NULL, "unknown_key success", "passed", "01", "-", "1", false},
	{"key", "required;substack s", "required", NULL, "success success", "passed", "01", "-", "0", false},
	{"key", "substack s", "optional", NULL, "success", "unknown_key", "0", "-", "-", false},
	{"key", "substack s;required", "sufficient", NULL, "success revoked", "revoked", "01", "1", "0", false},
	{"key", "substack s;required", "required;required", NULL, "success revoked success", "revoked", "012", "1", "0",
	 false},
	{"key", "substack s", "substack t", "sufficient", "success", "passed", "0", "-", "0", false},
	{"key", "substack s;required", "sufficient", NULL, "stale unknown_key", "stale", "01", "0", "-", false},
	{"key", "substack s;required", "sufficient", NULL, "stale success", "passed", "01", "-", "1", false},
	{"key", "substack s;required", "required", NULL, "stale success", "stale", "01", "0", "1", false},
	{"key", "required;substack s", "[success=bad]", NULL, "success success", "unknown_key", "01", "s", "0", false},
};

static void test_substacks(void **state)
{
	(void)state;
	CHECK(substacks);
}

/* What a substack is seen to come to: `s`, in which is but `t`. */
static void test_ends(void **state)
{
	static const struct {
		const char *group, *inner, *code, *leaves;
	} ends[] = {
		{"page", "required", "success", "t success ok ok, s success ok ok"},
		{"page", "sufficient", "success", "t success ok ok, s success ok ok"},
		{"page", "required", "ignore", "t ignore ignore nothing, s ignore ignore nothing"},
		{"page", "optional", "stale", "t ignore ignore nothing, s ignore ignore nothing"},
		{"page", "required", "stale", "t stale bad failed, s stale bad failed"},
		{"page", "requisite", "expired", "t expired bad failed, s expired bad failed"},
		{"page", "[success=bad]", "success", "t policy bad failed, s policy bad failed"},
		{"key", "required", "success", "t success ok ok, s success ok ok"},
		{"key", "optional", "success", "t ignore ignore nothing, s ignore ignore nothing"},
		{"key", "[success=bad]", "success", "t unknown_key bad failed, s unknown_key bad failed"},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		const struct row row = {
			.group = ends[i].group, .controls = "substack s", .s = "substack t", .t = ends[i].inner};
		struct stack_program *program = program_of(&row);
		struct play play = {.granted = "-"};
		const struct stack_runner runner = {.ask = on_ask, .trace = on_trace, .data = &play};
		struct stack_result result;
		enum stack_group group;

		assert_true(group_from_word(row.group, strlen(row.group), &group));
		read_codes(&play, first_module(program, group), ends[i].code);
		stack_run(program, group, &runner, &result);
		assert_string_equal(play.leaves, ends[i].leaves);
		stack_program_free(program);
	}
}

/* ---- RATES OF KEYS ---- */

static const struct row rates[] = {
	{"account", "@required", NULL, NULL, "success", "passed", "0", "-", "-", true},
	{"account", "@requisite", NULL, NULL, "success", "passed", "0", "-", "-", true},
	{"account", "@sufficient", NULL, NULL, "success", "passed", "0", "-", "-", true},
	{"account", "@binding", NULL, NULL, "success", "passed", "0", "-", "-", true},
	{"account", "required", NULL, NULL, "success", "passed", "0", "-", "-", false},
	/* not where the line is optional, or its success ignored, or it has no opinion, or is not reached */
	{"account", "@optional", NULL, NULL, "success", "passed", "0", "-", "-", false},
	{"account", "@[success=ok default=ignore]", NULL, NULL, "success", "passed", "0", "-", "-", false},
	{"account", "@[success=ignore default=bad]", NULL, NULL, "success", "passed", "0", "-", "-", false},
	{"account", "@required", NULL, NULL, "ignore", "passed", "0", "-", "-", false},
	{"account", "@sufficient", NULL, NULL, "rate_limited", "passed", "0", "-", "-", false},
	{"account", "sufficient;@required", NULL, NULL, "success success", "passed", "0", "-", "-", false},
	{"account", "sufficient;@required", NULL, NULL, "policy success", "passed", "01", "-", "-", true},
	/* one of several is enough */
	{"account", "@optional;@required", NULL, NULL, "success success", "passed", "01", "-", "-", true},
	{"account", "substack s;required", "@sufficient;required", NULL, "success policy success", "passed", "02", "-",
	 "-", true},
	/* who fails is not said to have been charged */
	{"account", "@required;required", NULL, NULL, "success policy", "policy", "01", "1", "-", false},
	{"account", "@required", NULL, NULL, "rate_limited", "rate_limited", "0", "0", "-", false},
};

static void test_rates(void **state)
{
	(void)state;
	CHECK(rates);
}

/* ---- WAITING ---- */

static const struct row waiting[] = {
	{"page", "required", NULL, NULL, "pending", "waits", "0", "-", "-", false},
	{"page", "required;required", NULL, NULL, "success pending", "waits", "01", "-", "-", false},
	{"page", "required;required;required", NULL, NULL, "revoked pending policy", "waits", "01", "-", "-", false},
	{"page", "sufficient;required", NULL, NULL, "success pending", "passed", "0", "-", "-", false},
	{"page", "substack s;required", "required;required", NULL, "success pending success", "waits", "01", "-", "-",
	 false},
	{"key", "required;required", NULL, NULL, "success pending", "waits", "01", "-", "0", false},
};

static void test_waiting(void **state)
{
	(void)state;
	CHECK(waiting);
}

/* ---- every code, in every class ---- */

/* What a line does by itself, for each code and each of the control words. */
static void test_each_code(void **state)
{
	static const char *const words[] = {"required", "requisite", "sufficient", "optional", "binding"};
	enum apikeyd_code code;

	(void)state;
	for (unsigned i = 0; code_at(i, &code); i++) {
		enum stack_class class = code_class(code);

		for (unsigned j = 0; j < 5; j++) {
			bool strict = j == 0 || j == 1 || j == 4;
			bool fails = strict && (class == STACK_CLASS_DENY || class == STACK_CLASS_FAULT);
			bool grants = class == STACK_CLASS_SUCCESS && j != 3;
			struct row page = {
				.group = "page", .controls = words[j], .codes = code_word(code), .asked = "0"};
			struct row key = page;

			page.outcome = fails ? code_word(code) : "passed";
			page.line = "0";
			check_row(&page, "page", (int)i);
			key.group = "key";
			key.granted = grants ? "0" : "-";
			key.outcome = grants				    ? "passed"
				      : fails || class == STACK_CLASS_FAULT ? code_word(code)
									    : "unknown_key";
			key.line = fails || class == STACK_CLASS_FAULT ? "0" : "-";
			check_row(&key, "key", (int)i);
		}
	}
}

/* Each code, listed alone with each action that it may have. */
static void test_each_action(void **state)
{
	static const char *const actions[] = {"bad", "die", "ignore"};
	enum apikeyd_code code;

	(void)state;
	for (unsigned i = 1; code_at(i, &code); i++) {
		for (unsigned j = 0; j < 3; j++) {
			char control[128];
			bool says = code_class(code) != STACK_CLASS_IGNORE;
			struct row row = {.group = "scope", .controls = control, .codes = code_word(code)};

			snprintf(control, sizeof(control), "[%s=%s success=ok default=%s];required", code_word(code),
				 actions[j], j == 2 ? "bad" : "ignore");
			row.asked = j == 1 ? "0" : "01";
			row.outcome = j == 2 ? "policy" : says ? code_word(code) : "policy";
			row.line = j == 2 ? "1" : says ? "0" : "-";
			/* The second line refuses where the first is ignored, and says nothing where it is not. */
			char codes[64];
			snprintf(codes, sizeof(codes), "%s %s", code_word(code), j == 2 ? "policy" : "ignore");
			row.codes = codes;
			check_row(&row, "scope", (int)i);
		}
	}
}

/* A program's lines that no parser would let through: zeroed memory is no pass, and ok counts with success alone. */
static void test_hostile_lines(void **state)
{
	struct stack_line lines[2] = {{.module = world_module("id"), .end = 1}, {.op = STACK_OP_LEAVE}};
	struct stack_program program = {.name = "x", .lines = lines, .module_count = 1};
	struct play play = {.granted = "-"};
	const struct stack_runner runner = {.ask = on_ask, .data = &play};
	struct stack_result result;
	enum apikeyd_code code;

	(void)state;
	for (unsigned group = 0; group < STACK_GROUPS; group++) {
		for (unsigned i = 0; i <= STACK_GROUPS; i++)
			program.first[i] = i > group;
		memset(lines[0].actions, 0, sizeof(lines[0].actions));
		for (unsigned i = 0; code_at(i, &code); i++) {
			play.codes[0] = code;
			memset(play.asked, 0, sizeof(play.asked));
			stack_run(&program, (enum stack_group)group, &runner, &result);
			assert_int_equal(result.outcome, STACK_FAILED);
			assert_int_not_equal(result.code, APIKEYD_SUCCESS);
		}
		memset(lines[0].actions, STACK_OK, sizeof(lines[0].actions));
		for (unsigned i = 0; code_at(i, &code); i++) {
			play.codes[0] = code;
			memset(play.asked, 0, sizeof(play.asked));
			stack_run(&program, (enum stack_group)group, &runner, &result);
			assert_int_equal(result.outcome, code == APIKEYD_SUCCESS ? STACK_PASSED : STACK_FAILED);
		}
		memset(lines[0].actions, 77, sizeof(lines[0].actions));
		play.codes[0] = APIKEYD_SUCCESS;
		memset(play.asked, 0, sizeof(play.asked));
		stack_run(&program, (enum stack_group)group, &runner, &result);
		assert_int_equal(result.outcome, STACK_FAILED);
	}
	result = (struct stack_result){0};
	assert_int_equal(result.outcome, STACK_FAILED);
}

/* Sixteen files, one in the other. */
static void test_deep(void **state)
{
	static char names[STACK_DEPTH_MAX][4], texts[STACK_DEPTH_MAX][256];
	static struct world world;
	struct world_file files[STACK_DEPTH_MAX + 1] = {{0}};
	struct play play = {.granted = "-"};
	const struct stack_runner runner = {.ask = on_ask, .data = &play};
	struct stack_program *program;
	struct stack_result result;

	(void)state;
	for (unsigned i = 0; i < STACK_DEPTH_MAX; i++) {
		snprintf(names[i], sizeof(names[i]), "d%u", i);
		snprintf(texts[i], sizeof(texts[i]),
			 i + 1 < STACK_DEPTH_MAX
				 ? "caller none\nkey required id\npage substack d%u\npage required any\naudit none\n"
				 : "page required any # %u\n",
			 i + 1);
		files[i] = (struct world_file){names[i], texts[i]};
	}
	program = world_compile(&world, files, "d0");
	assert_string_equal(world.text, "");
	assert_non_null(program);
	for (unsigned i = 0; i <= STACK_DEPTH_MAX; i++)
		play.codes[i] = APIKEYD_SUCCESS;
	play.codes[1] = APIKEYD_EXPIRED; /* the innermost is asked first; 0 is the line of key */
	stack_run(program, STACK_PAGE, &runner, &result);
	assert_int_equal(result.code, APIKEYD_EXPIRED);
	assert_int_equal(result.line->module_number, 1);
	assert_int_equal(strlen(play.asked), STACK_DEPTH_MAX);
	stack_program_free(program);
}

static void test_effect_words(void **state)
{
	static const char *const words[] = {"nothing", "ok", "granted", "ended", "failed", "died", "pending"};

	(void)state;
	for (unsigned i = 0; i < 7; i++)
		assert_string_equal(effect_word((enum stack_effect)i), words[i]);
	assert_string_equal(effect_word((enum stack_effect)7), "nothing");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_controls),    cmocka_unit_test(test_reasons),
		cmocka_unit_test(test_key),	    cmocka_unit_test(test_substacks),
		cmocka_unit_test(test_ends),	    cmocka_unit_test(test_rates),
		cmocka_unit_test(test_waiting),	    cmocka_unit_test(test_each_code),
		cmocka_unit_test(test_each_action), cmocka_unit_test(test_hostile_lines),
		cmocka_unit_test(test_deep),	    cmocka_unit_test(test_effect_words),
	};

	return cmocka_run_group_tests_name("stack_run", tests, NULL, NULL);
}
