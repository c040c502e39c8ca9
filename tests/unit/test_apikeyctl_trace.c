/* apikeyctl explain's one sentence: which entry of a trace became the verdict's reason; and times as people read them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "client/apikeyctl/trace.h"

static struct arena arena;
static struct value trace;

static void start(void)
{
	arena_clear(&arena);
	value_list(&trace);
}

static void add_core(const char *group, const char *code)
{
	struct value *entry = value_add(&arena, &trace);

	assert_non_null(entry);
	value_map(entry);
	assert_true(value_set_text(&arena, entry, "group", group) && value_set_text(&arena, entry, "module", "core") &&
		    value_set_text(&arena, entry, "code", code));
}

static void add_line(const char *group, const char *line, const char *module, const char *code, const char *action,
		     const char *effect)
{
	struct value *entry = value_add(&arena, &trace);

	assert_non_null(entry);
	value_map(entry);
	assert_true(value_set_text(&arena, entry, "group", group) && value_set_text(&arena, entry, "module", module) &&
		    value_set_text(&arena, entry, "code", code) && value_set_text(&arena, entry, "line", line) &&
		    value_set_text(&arena, entry, "control", "required") &&
		    value_set_text(&arena, entry, "action", action) && value_set_text(&arena, entry, "effect", effect));
}

static void assert_why(enum reason reason, const char *why)
{
	char out[TRACE_WHY_SIZE];

	memset(out, '#', sizeof(out));
	trace_why(&trace, reason, out);
	assert_string_equal(out, why);
}

static void granted(void)
{
	start();
	add_core("caller", "success");
	add_core("key", "success");
	add_line("key", "default:2", "file", "unknown_key", "ignore", "nothing");
	add_line("key", "default:3", "store", "success", "ok", "granted");
	add_core("account", "success");
}

static void test_allow(void **state)
{
	(void)state;
	granted();
	assert_why(REASON_OK, "Every group passed; store (default:3) said whose key it is.");
}

static void test_the_core(void **state)
{
	(void)state;
	granted();
	add_core("page", "success");
	add_core("scope", "scope_not_granted");
	add_line("audit", "default:9", "ledger", "success", "ok", "ok");
	assert_why(REASON_SCOPE_NOT_GRANTED,
		   "The group scope failed: the daemon's own part, before all lines, said scope_not_granted.");
	/* The rate of a key is the core's last word in account. */
	granted();
	add_line("account", "default:5", "debug", "success", "ok", "ok");
	add_core("account", "policy");
	assert_why(REASON_POLICY, "The group account failed: the key is narrowed to a rate, and no line charged it.");
}

static void test_a_line(void **state)
{
	(void)state;
	granted();
	/* ignored: it is not why */
	add_line("account", "default:4", "hours", "policy", "ignore", "nothing");
	add_line("account", "inner:1", "deny", "policy", "bad", "failed");
	add_line("account", "default:5", "substack", "policy", "bad", "failed");
	assert_why(REASON_POLICY,
		   "The group account failed: deny (inner:1) said policy, which its control required makes bad.");
}

static void test_no_grant(void **state)
{
	(void)state;
	start();
	add_core("key", "success");
	assert_why(REASON_UNKNOWN_KEY, "In key no line granted.");
	add_line("key", "default:2", "store", "unknown_key", "ignore", "nothing");
	assert_why(REASON_UNKNOWN_KEY, "In key no line granted, and store (default:2) said unknown_key.");
	/* A fault that was ignored is the outcome all the same. */
	add_line("key", "default:3", "exec", "timeout", "ignore", "nothing");
	assert_why(REASON_TIMEOUT, "In key no line granted, and exec (default:3) said timeout.");
}

static void test_audit(void **state)
{
	(void)state;
	granted();
	add_line("audit", "default:8", "debug", "ignore", "ignore", "nothing");
	add_line("audit", "default:9", "ledger", "module_fault", "bad", "failed");
	assert_why(REASON_AUDIT_FULL, "Every group passed, but audit failed: ledger (default:9) said module_fault, and "
				      "what cannot be written down is not allowed.");
	/* A question that failed before is not audit's. */
	assert_why(REASON_STALE, "stale was found when account had been judged; no line of it said so.");
}

static void test_nothing_was_asked(void **state)
{
	(void)state;
	start();
	assert_why(REASON_NO_STACK, "No group was begun: no_stack was found before.");
}

/* What a stranger's daemon may send: no text where text is wanted, and words without end. */
static void test_a_trace_that_is_none(void **state)
{
	static char longest[2000];
	char out[TRACE_WHY_SIZE];

	(void)state;
	start();
	memset(longest, 'x', sizeof(longest) - 1);
	value_int(value_add(&arena, &trace), 7);
	add_line("account", longest, longest, "policy", longest, "failed");
	value_map(value_add(&arena, &trace));
	for (unsigned reason = 0; reason < REASON_COUNT; reason++) {
		memset(out, '#', sizeof(out));
		trace_why(&trace, (enum reason)reason, out);
		assert_non_null(memchr(out, '\0', sizeof(out)));
		assert_true(strlen(out) > 10);
	}
	/* The last entry has no group: nothing is said to have judged. */
	assert_why(REASON_POLICY, "No group was begun: policy was found before.");
}

static void test_times(void **state)
{
	static const struct {
		uint64_t ns;
		const char *text;
	} times[] = {{0, "0 ns"},      {412, "412 ns"},	    {999, "999 ns"},	   {1000, "1.0 µs"},
		     {8340, "8.3 µs"}, {1250000, "1.2 ms"}, {2000000000, "2.0 s"}, {UINT64_C(90000000000), "90.0 s"}};
	struct value ns;

	(void)state;
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		value_uint(&ns, times[i].ns);
		assert_string_equal(trace_time(&arena, &ns), times[i].text);
	}
	assert_string_equal(trace_time(&arena, NULL), "-");
}

static int forget(void **state)
{
	(void)state;
	arena_clear(&arena);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_allow),  cmocka_unit_test(test_the_core),
		cmocka_unit_test(test_a_line), cmocka_unit_test(test_no_grant),
		cmocka_unit_test(test_audit),  cmocka_unit_test(test_nothing_was_asked),
		cmocka_unit_test(test_times),  cmocka_unit_test(test_a_trace_that_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, forget);
}
