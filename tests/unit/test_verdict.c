#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "proto/verdict.h"

/* Zeroed memory is a DENY: what was never filled in opens nothing. */
static void zero_denies(void **state)
{
	enum verdict verdict;
	enum reason reason;

	(void)state;
	memset(&verdict, 0, sizeof(verdict));
	memset(&reason, 0, sizeof(reason));
	assert_int_equal(verdict, VERDICT_DENY);
	assert_int_equal(reason, REASON_POLICY);
	assert_int_equal(verdict_of(reason), VERDICT_DENY);
}

static void only_ok_allows(void **state)
{
	(void)state;
	for (unsigned r = 0; r < REASON_COUNT; r++)
		assert_int_equal(verdict_of((enum reason)r) == VERDICT_ALLOW, r == REASON_OK);
}

static void words_are_distinct_and_read_back(void **state)
{
	(void)state;
	for (unsigned r = 0; r < REASON_COUNT; r++) {
		const char *word = reason_word((enum reason)r);
		enum reason got = REASON_COUNT;

		assert_true(reason_from_word(word, strlen(word), &got));
		assert_int_equal(got, r);
		/* neither a part of a word nor more than it is the word */
		got = REASON_COUNT;
		assert_false(reason_from_word(word, strlen(word) - 1, &got));
		assert_false(reason_from_word(word, strlen(word) + 1, &got));
		assert_int_equal(got, REASON_COUNT);
	}
	for (unsigned v = VERDICT_DENY; v <= VERDICT_UNAVAILABLE; v++) {
		const char *word = verdict_word((enum verdict)v);
		enum verdict got = (enum verdict)99;

		assert_true(verdict_from_word(word, strlen(word), &got));
		assert_int_equal(got, v);
	}
}

static void unknown_words_are_refused(void **state)
{
	static const char *const words[] = {"", "OK", "Allow", "ok ", "denied", "reason", "user"};
	enum reason reason = REASON_STALE;
	enum verdict verdict = VERDICT_UNAVAILABLE;

	(void)state;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		assert_false(reason_from_word(words[i], strlen(words[i]), &reason));
		assert_false(verdict_from_word(words[i], strlen(words[i]), &verdict));
	}
	assert_int_equal(reason, REASON_STALE);
	assert_int_equal(verdict, VERDICT_UNAVAILABLE);
}

static void values_outside_deny(void **state)
{
	static const int outside[] = {-1, REASON_COUNT, REASON_COUNT + 1, 1 << 30};

	(void)state;
	for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++) {
		assert_int_equal(verdict_of((enum reason)outside[i]), VERDICT_DENY);
		assert_string_equal(reason_word((enum reason)outside[i]), "policy");
		assert_string_equal(verdict_word((enum verdict)outside[i]), "deny");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(zero_denies),
		cmocka_unit_test(only_ok_allows),
		cmocka_unit_test(words_are_distinct_and_read_back),
		cmocka_unit_test(unknown_words_are_refused),
		cmocka_unit_test(values_outside_deny),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
