/* Simulation: codes are read, every line is told of once, and the verdict and the sentence are the engine's. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "daemon/stack/simulate.h"
#include "tests/unit/stack_world.h"

static struct world world;

static const struct world_file files[] = {
	{"default", "caller required permit\n"		/* 1 */
		    "key sufficient file path=/x\n"	/* 2 */
		    "key required store\n"		/* 3 */
		    "account substack common\n"		/* 4 */
		    "account required rate\n"		/* 5 */
		    "scope requisite hours between=x\n" /* 6 */
		    "scope required any\n"		/* 7 */
		    "audit required ledger\n"},		/* 8 */
	{"common", "# shared\n"
		   "account optional penalty\n"
		   "account substack more\n"
		   "account required penalty\n"},
	{"more", "account sufficient penalty\naccount required penalty\n"},
	{"bare", "caller none\nkey required store\naudit none\n"},
	{"turned", "caller none\nkey required store\nkey [success=bad default=ignore] id\naudit none\n"},
	{"turned_page", "caller none\nkey required store\npage substack turned_page_in\naudit none\n"},
	{"turned_page_in", "page [success=bad default=ignore] any\n"},
	{0},
};

struct trace {
	char text[4096];
	unsigned steps;
};

static void on_step(void *data, const struct stack_step *step)
{
	static const char *const ops[] = {"", "{", "}"};
	struct trace *trace = data;
	char *out = trace->text + strlen(trace->text);
	size_t size = sizeof(trace->text) - strlen(trace->text);
	const struct stack_line *line = step->line;

	trace->steps++;
	if (!step->asked)
		snprintf(out, size, "%u %s %s%s -\n", step->depth, group_word(step->group), ops[line->op], line->name);
	else if (line->op == STACK_OP_ENTER)
		snprintf(out, size, "%u %s {%s\n", step->depth, group_word(step->group), line->name);
	else
		snprintf(out, size, "%u %s %s%s %s %s %s\n", step->depth, group_word(step->group), ops[line->op],
			 line->name, code_word(step->code), action_word(step->action), effect_word(step->effect));
}

static struct stack_program *compile(const char *name)
{
	struct stack_program *program = world_compile(&world, files, name);

	assert_string_equal(world.text, "");
	assert_non_null(program);
	return program;
}

/* ---- a whole run ---- */

static void test_trace(void **state)
{
	struct stack_program *program = compile("default");
	struct stack_simulated got;
	struct trace trace = {.text = ""};
	char error[512] = "";

	(void)state;
	assert_int_equal(stack_simulate(program, NULL, on_step, &trace, &got, error, sizeof(error)), 0);
	assert_string_equal(trace.text, "0 caller permit success ok ok\n"
					"0 key file success done granted\n"
					"0 key store -\n"
					"0 account {common\n"
					"1 account penalty success ok ok\n"
					"1 account {more\n"
					"2 account penalty success done ended\n"
					"2 account penalty -\n"
					"1 account }more success ok ok\n"
					"1 account penalty success ok ok\n"
					"0 account }common success ok ok\n"
					"0 account rate success ok ok\n"
					"0 scope hours success ok ok\n"
					"0 scope any success ok ok\n"
					"0 audit ledger success ok ok\n");
	assert_int_equal(trace.steps, program->first[STACK_GROUPS]);
	assert_int_equal(got.verdict, VERDICT_ALLOW);
	assert_int_equal(got.reason, REASON_OK);
	assert_int_equal(got.group, STACK_GROUPS);
	assert_null(got.line);
	assert_string_equal(got.granted->name, "file");
	assert_true(got.charged);
	assert_string_equal(got.why, "Every group passed; file (default:2) said whose key it is.");
	trace.text[0] = '\0';
	/* Modules in the program's order: permit, file, store, four times penalty, rate, hours, any, ledger. */
	assert_int_equal(stack_simulate(program,
					"success,unknown_key,success,stale,policy,success,rate_limited,success,success,"
					"success,success",
					on_step, &trace, &got, error, sizeof(error)),
			 0);
	assert_string_equal(trace.text, "0 caller permit success ok ok\n"
					"0 key file unknown_key ignore nothing\n"
					"0 key store success ok granted\n"
					"0 account {common\n"
					"1 account penalty stale ignore nothing\n"
					"1 account {more\n"
					"2 account penalty policy ignore nothing\n"
					"2 account penalty success ok ok\n"
					"1 account }more success ok ok\n"
					"1 account penalty rate_limited bad failed\n"
					"0 account }common rate_limited bad failed\n"
					"0 account rate success ok ok\n"
					"0 scope hours -\n"
					"0 scope any -\n"
					"0 audit ledger success ok ok\n");
	assert_int_equal(got.verdict, VERDICT_DENY);
	assert_int_equal(got.reason, REASON_RATE_LIMITED);
	assert_int_equal(got.group, STACK_ACCOUNT);
	assert_string_equal(got.line->stack, "common");
	assert_int_equal(got.line->place.line, 4);
	assert_string_equal(got.granted->name, "store");
	assert_false(got.charged);
	assert_string_equal(got.why, "The group account failed: penalty (common:4) said rate_limited.");
	stack_program_free(program);
}

/* ---- verdicts ---- */

static const struct {
	const char *stack, *as, *verdict, *reason, *group, *why;
} rows[] = {
	{"default", "1=caller", "deny", "caller", "caller", "The group caller failed: permit (default:1) said caller."},
	{"default", "1=timeout", "unavailable", "timeout", "caller",
	 "The group caller failed: permit (default:1) said timeout."},
	{"default", "2=unknown_key", "allow", "ok", "none",
	 "Every group passed; store (default:3) said whose key it is."},
	{"default", "2=stale", "allow", "ok", "none", "Every group passed; store (default:3) said whose key it is."},
	{"default", "2=unknown_key,3=unknown_key", "deny", "unknown_key", "key",
	 "In key no line granted, and store (default:3) said unknown_key."},
	{"default", "2=ignore,3=ignore", "deny", "unknown_key", "key", "In key no line granted."},
	{"default", "2=stale,3=unknown_key", "unavailable", "stale", "key",
	 "In key no line granted, and file (default:2) said stale: nobody knows whose key it would have been."},
	{"default", "6=policy,7=expired", "deny", "policy", "scope",
	 "The group scope failed: hours (default:6) said policy."},
	{"default", "7=expired", "deny", "expired", "scope", "The group scope failed: any (default:7) said expired."},
	/* audit is always asked, and turns ALLOW alone into something else, and into one thing alone */
	{"default", "8=audit_full", "unavailable", "audit_full", "audit",
	 "Every group passed, but audit failed: ledger (default:8) said audit_full, and what cannot be written down is not "
	 "allowed."},
	{"default", "8=policy", "unavailable", "audit_full", "audit",
	 "Every group passed, but audit failed: ledger (default:8) said policy, and what cannot be written down is not "
	 "allowed."},
	{"default", "7=expired,8=audit_full", "deny", "expired", "scope",
	 "The group scope failed: any (default:7) said expired."},
	{"default", "7=overload,8=audit_full", "unavailable", "overload", "scope",
	 "The group scope failed: any (default:7) said overload."},
	/* included lines by the name of their stack */
	{"default", "common:4=revoked", "deny", "revoked", "account",
	 "The group account failed: penalty (common:4) said revoked."},
	{"default", "more:1=policy,more:2=overload", "unavailable", "overload", "account",
	 "The group account failed: penalty (more:2) said overload."},
	{"default", "default:3=unknown_key,2=unknown_key", "deny", "unknown_key", "key",
	 "In key no line granted, and store (default:3) said unknown_key."},
	/* nothing charged */
	{"default", "5=ignore", "allow", "ok", "none",
	 "Every group passed; file (default:2) said whose key it is. A key that is narrowed to a rate would be denied with "
	 "policy, since no line that charges it has passed."},
	{"bare", "success", "allow", "ok", "none",
	 "Every group passed; store (bare:2) said whose key it is. A key that is narrowed to a rate would be denied with "
	 "policy, since no line that charges it has passed."},
	/* no line gave a reason */
	{"turned", NULL, "deny", "unknown_key", "key", "The group key failed: a line failed that gave no reason."},
	{"turned_page", NULL, "deny", "policy", "page",
	 "The group page failed: substack turned_page_in (turned_page:3) said policy."},
};

static void test_verdicts(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct stack_program *program = compile(rows[i].stack);
		struct stack_simulated got;
		struct trace trace = {.text = ""};
		char error[512] = "";

		assert_int_equal(stack_simulate(program, rows[i].as, on_step, &trace, &got, error, sizeof(error)), 0);
		assert_string_equal(error, "");
		assert_string_equal(got.why, rows[i].why);
		assert_string_equal(verdict_word(got.verdict), rows[i].verdict);
		assert_string_equal(reason_word(got.reason), rows[i].reason);
		assert_string_equal(group_word(got.group), rows[i].group);
		assert_int_equal(trace.steps, program->first[STACK_GROUPS]);
		stack_program_free(program);
	}
}

/* ---- codes that are wrong ---- */

#define LINES                                                                                                               \
	"permit (default:1), file (default:2), store (default:3), penalty (common:2), penalty (more:1), penalty (more:2), " \
	"penalty (common:4), rate (default:5), hours (default:6), any (default:7), ledger (default:8)"

static const struct {
	const char *stack, *as, *error;
} wrong[] = {
	{"bare", "", "0 codes given, and the stack has 1 line of modules: store (bare:2)"},
	{"bare", "success,success", "2 codes given, and the stack has 1 line of modules: store (bare:2)"},
	{"bare", "success,", "an empty word: is no code; apikeyd-stacks(5) lists them under CODES"},
	{"bare", ",success", "an empty word: is no code; apikeyd-stacks(5) lists them under CODES"},
	{"bare", "yes", "yes: is no code; apikeyd-stacks(5) lists them under CODES"},
	{"bare", "pending", "pending: is no code; apikeyd-stacks(5) lists them under CODES"},
	{"default", "success", "1 code given, and the stack has 11 lines of modules: " LINES},
	{"default", "4=success", "4=success: no module's line has that number; those that have: " LINES},
	{"default", "x=success", "x=success: no module's line has that number; those that have: " LINES},
	{"default", "=success", "=success: no module's line has that number; those that have: " LINES},
	{"default", "other:1=success", "other:1=success: no module's line has that number; those that have: " LINES},
	{"default", "99999999999999999999=success",
	 "99999999999999999999=success: no module's line has that number; those that have: " LINES},
	{"default", "3=nothing", "nothing: is no code; apikeyd-stacks(5) lists them under CODES"},
	{"default", "3=", "an empty word: is no code; apikeyd-stacks(5) lists them under CODES"},
	{"default", "3=success,stale", "stale: names no line; where one line is named, all are, such as 3=unknown_key"},
	{"default", "3=success,",
	 "an empty word: names no line; where one line is named, all are, such as 3=unknown_key"},
};

static void test_wrong(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct stack_program *program = compile(wrong[i].stack);
		struct stack_simulated got = {.why = "before"};
		struct trace trace = {.text = ""};
		char error[512] = "";

		assert_int_equal(stack_simulate(program, wrong[i].as, on_step, &trace, &got, error, sizeof(error)),
				 -EINVAL);
		assert_string_equal(error, wrong[i].error);
		assert_int_equal(trace.steps, 0);
		assert_string_equal(got.why, "before");
		stack_program_free(program);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_trace),
		cmocka_unit_test(test_verdicts),
		cmocka_unit_test(test_wrong),
	};

	return cmocka_run_group_tests_name("stack_simulate", tests, NULL, NULL);
}
