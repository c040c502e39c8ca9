/* apikeyctl's sentences about verdicts: each reason has one, and they name what the reader needs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "client/apikeyctl/ctl.h"
#include "client/apikeyctl/verdicts.h"
#include "client/apikeyctl/words.h"

static char why[WORDS_SIZE], next[WORDS_SIZE];

static struct rpc_text text(const char *words)
{
	return (struct rpc_text){.data = words, .len = (uint32_t)strlen(words)};
}

static void say(const struct rpc_answer *answer, const struct words_question *question)
{
	memset(why, '#', sizeof(why));
	memset(next, '#', sizeof(next));
	words_why(answer, question, why);
	words_next(answer, question, next);
}

static void assert_says(const char *where, const char *part)
{
	if (!strstr(where, part))
		fail_msg("\"%s\" lacks \"%s\"", where, part);
}

static void test_every_reason_has_words(void **state)
{
	static const struct words_question questions[] = {
		{.scope = "incident:write", .page = "status-acme"},
		{.scope = "incident:write", .org = "acme"},
		{.scope = "incident:write"},
		{.scope = NULL},
	};

	(void)state;
	for (unsigned reason = 0; reason < REASON_COUNT; reason++) {
		struct rpc_answer answer = {.reason = (enum reason)reason};

		for (size_t i = 0; i < sizeof(questions) / sizeof(questions[0]); i++) {
			say(&answer, &questions[i]);
			assert_true(strlen(why) > 10);
			assert_null(strchr(why, '%'));
			assert_null(strchr(next, '%'));
			if (strcmp(why, reason_word(answer.reason)) == 0)
				fail_msg("%s has no words", why);
			/* An allow needs no advice; everything else has some. */
			if ((*next == '\0') != (reason == REASON_OK))
				fail_msg("%s: next is \"%s\"", reason_word(answer.reason), next);
		}
	}
}

static void test_what_is_missing_is_named(void **state)
{
	struct words_question page = {.scope = "incident:write", .page = "status-acme"};
	struct words_question level = {.scope = "member:write", .org = "acme"};
	struct rpc_answer answer = {.reason = REASON_SCOPE_NOT_GRANTED,
				    .proven = true,
				    .kind = KEY_KIND_USER,
				    .user = text("eve@acme.example"),
				    .org = text("acme"),
				    .missing_scope = text("incident:write"),
				    .needs_role = text("editor")};

	(void)state;
	say(&answer, &page);
	assert_says(why, "incident:write");
	assert_says(why, "page status-acme");
	assert_says(why, "editor");
	assert_says(next, "apikeyctl member set eve@acme.example editor --page status-acme");

	answer.needs_role = text("owner");
	say(&answer, &level);
	assert_says(why, "organization acme");
	assert_says(next, "member set eve@acme.example owner --org acme");

	answer.kind = KEY_KIND_ORGANIZATION;
	answer.needs_role = text("write");
	say(&answer, &page);
	assert_says(why, "access");
	assert_says(next, "key mint --org acme --access write");

	answer.needs_role = (struct rpc_text){0};
	say(&answer, &page);
	assert_says(next, "--scope incident:write");
}

static void test_break_glass_keys_are_no_rows(void **state)
{
	struct words_question page = {.scope = "incident:write", .page = "status-acme"}, level = {.org = "acme"};
	struct rpc_answer answer = {
		.proven = true, .kind = KEY_KIND_BREAK_GLASS, .key_id = "0123456789", .org = text("acme")};

	(void)state;
	for (unsigned reason = 0; reason < REASON_COUNT; reason++) {
		answer.reason = (enum reason)reason;
		if (reason == REASON_DISABLED) /* which it cannot be */
			continue;
		say(&answer, &page);
		assert_null(strstr(next, "key show"));
		assert_null(strstr(next, "member set"));
	}
	answer.reason = REASON_SCOPE_NOT_GRANTED;
	say(&answer, &page);
	assert_says(why, "the file");
	assert_says(next, "key break-glass --org acme --page status-acme --scope incident:write");
	answer.reason = REASON_EXPIRED;
	answer.org = (struct rpc_text){0};
	say(&answer, &level);
	assert_says(next, "key break-glass --org ORG --page PAGE --scope SCOPE");
	/* nothing is known about a key that was not proven */
	answer.proven = false;
	say(&answer, &level);
	assert_says(next, "key mint");
}

static void test_details_are_told(void **state)
{
	struct words_question question = {.scope = "incident:write", .page = "status-acme"};
	struct rpc_answer answer = {.proven = true, .key_id = "0123456789"};

	(void)state;
	answer.reason = REASON_RETIRED;
	strcpy(answer.successor, "abcdefghij");
	say(&answer, &question);
	assert_says(next, "abcdefghij");

	answer.reason = REASON_DISABLED;
	say(&answer, &question);
	assert_says(next, "apikeyctl key enable 0123456789");

	answer.reason = REASON_EXPIRED;
	answer.has_expiry = true;
	answer.expires_at = 0;
	say(&answer, &question);
	assert_says(why, "1970-01-01T00:00:00Z");

	answer.reason = REASON_RATE_LIMITED;
	answer.has_retry = true;
	answer.retry_after_ms = 1234;
	say(&answer, &question);
	assert_says(next, "1234 ms");

	answer.reason = REASON_STALE;
	say(&answer, &question);
	assert_says(next, "see the daemon's log: can it reach the database? Ask again in 1234 ms");
	answer.has_retry = false;
	say(&answer, &question);
	assert_null(strstr(next, "again"));

	answer.reason = REASON_NETWORK;
	say(&answer, &question);
	assert_says(why, "no address was given");
	question.addr = true;
	say(&answer, &question);
	assert_says(why, "the address is in none of them");
}

/* The longest texts that the protocol allows are cut, not overrun. */
static void test_long_texts_fit(void **state)
{
	static char page[RPC_PAGE_MAX + 1], email[1000];
	struct words_question question = {.scope = "incident:write", .page = page, .org = page};
	struct rpc_answer answer = {.proven = true, .kind = KEY_KIND_USER};

	(void)state;
	memset(page, 'p', RPC_PAGE_MAX);
	memset(email, 'e', sizeof(email) - 1);
	answer.user = text(email);
	answer.org = text(email);
	answer.needs_role = text(email);
	for (unsigned reason = 0; reason < REASON_COUNT; reason++) {
		answer.reason = (enum reason)reason;
		say(&answer, &question);
		assert_true(strlen(why) < WORDS_SIZE);
		assert_true(strlen(next) < WORDS_SIZE);
	}
}

static void test_exit_codes(void **state)
{
	(void)state;
	assert_int_equal(verdicts_exit(REASON_OK), 0);
	for (unsigned reason = 0; reason < REASON_COUNT; reason++) {
		int code = verdicts_exit((enum reason)reason);

		if (reason != REASON_OK)
			assert_int_equal(code, verdict_of((enum reason)reason) == VERDICT_DENY ? 1 : 3);
	}
	assert_int_equal(verdicts_exit((enum reason)999), 1);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_reason_has_words),
		cmocka_unit_test(test_what_is_missing_is_named),
		cmocka_unit_test(test_break_glass_keys_are_no_rows),
		cmocka_unit_test(test_details_are_told),
		cmocka_unit_test(test_long_texts_fit),
		cmocka_unit_test(test_exit_codes),
	};

	return cmocka_run_group_tests_name("apikeyctl_words", tests, NULL, NULL);
}
