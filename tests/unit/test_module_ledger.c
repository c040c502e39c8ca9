/* ledger and debug: what they write down, how much of it, and that nobody from outside writes with them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "daemon/modules/facts.h"
#include "daemon/modules/reasons.h"
#include "daemon/modules/table.h"
#include "proto/verdict.h"
#include "tests/unit/fake_host.h"

enum { SECOND = 1000000 };

static struct fake_host host;

static struct apikeyd_request verdict(enum reason reason)
{
	struct apikeyd_request request = fake_request(APIKEYD_GROUP_AUDIT);

	request.verdict = fake_text(verdict_word(verdict_of(reason)));
	request.reason = fake_text(reason_word(reason));
	if (reason == REASON_OK)
		request.reason_code = APIKEYD_SUCCESS;
	else
		assert_true(reasons_code(reason_word(reason), &request.reason_code));
	request.scope = fake_text("page:write");
	request.page = fake_text("status");
	return request;
}

static void write_one(enum reason reason, int64_t boot_us)
{
	struct apikeyd_request request = verdict(reason);

	request.boot_us = boot_us;
	assert_int_equal(fake_ask(&host, &request), APIKEYD_SUCCESS);
}

/* ---- the ledger ---- */

static void test_line(void **state)
{
	struct apikeyd_request request = verdict(REASON_SCOPE_NOT_GRANTED);

	(void)state;
	fake_open_good(&host, &module_ledger, "log=denials");
	request.addr = fake_addr("192.0.2.7");
	assert_int_equal(fake_ask(&host, &request), APIKEYD_SUCCESS);
	assert_int_equal(host.levels[0], APIKEYD_LOG_INFO);
	assert_string_equal(host.lines[0], "verdict=deny reason=scope_not_granted stack=\"default\" method=check "
					   "uid=1000 kind=user key_id=\"kkkkkkkkkk\" addr=\"192.0.2.7\" "
					   "user=\"ada@example.org\" scope=\"page:write\" page=\"status\"");
	request.stale = true;
	assert_int_equal(fake_ask(&host, &request), APIKEYD_SUCCESS);
	assert_string_equal(host.lines[1],
			    "verdict=deny reason=scope_not_granted stale=true stack=\"default\" method=check "
			    "uid=1000 kind=user key_id=\"kkkkkkkkkk\" addr=\"192.0.2.7\" "
			    "user=\"ada@example.org\" scope=\"page:write\" page=\"status\"");
	/* Of a text that is no key, nothing is known; a page may be none. */
	request = verdict(REASON_MALFORMED_KEY);
	request.key_id = request.key_user = request.page = fake_text(NULL);
	request.kind = APIKEYD_KIND_NONE;
	fake_ask(&host, &request);
	assert_string_equal(host.lines[2], "verdict=deny reason=malformed_key stack=\"default\" method=check uid=1000 "
					   "scope=\"page:write\"");
	request = verdict(REASON_STALE);
	request.kind = APIKEYD_KIND_BREAK_GLASS;
	request.key_user = fake_text(NULL);
	request.key_org = fake_text("acme");
	request.addr = fake_addr("2001:db8::7");
	request.method = fake_text("check_many");
	fake_ask(&host, &request);
	assert_string_equal(host.lines[3],
			    "verdict=unavailable reason=stale stack=\"default\" method=check_many uid=1000 "
			    "kind=break_glass key_id=\"kkkkkkkkkk\" addr=\"2001:db8::7\" org=\"acme\" "
			    "scope=\"page:write\" page=\"status\"");
	assert_int_equal(host.line_count, 4);
	fake_close(&host);
}

static void test_log(void **state)
{
	static const struct {
		const char *arguments;
		bool allows, denials;
	} cases[] = {
		{"", false, false},
		{"log=none allows=full", false, false},
		{"log=denials", false, true},
		{"log=all", true, true},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		fake_open_good(&host, &module_ledger, cases[i].arguments);
		for (int reason = 0; reason < REASON_COUNT; reason++) {
			unsigned before = host.line_count;

			write_one((enum reason)reason, SECOND);
			assert_int_equal(host.line_count - before,
					 reason == REASON_OK ? cases[i].allows : cases[i].denials);
		}
		fake_close(&host);
		/* What is only counted is told at the end, where anything is. */
		if (cases[i].denials)
			assert_string_equal(host.lines[host.line_count - 1], "ends: allow=1 deny=20 unavailable=8");
		else
			assert_int_equal(host.line_count, 0);
	}
}

/* So many a second, and how many it would have been is said once. */
static void test_per_second(void **state)
{
	(void)state;
	fake_open_good(&host, &module_ledger, "log=denials per_second=3");
	for (unsigned i = 0; i < 1000; i++)
		write_one(REASON_UNKNOWN_KEY, SECOND + (int64_t)i * 999);
	assert_int_equal(host.line_count, 3);
	write_one(REASON_UNKNOWN_KEY, 2 * SECOND);
	assert_int_equal(host.line_count, 5);
	assert_int_equal(host.levels[3], APIKEYD_LOG_WARNING);
	assert_string_equal(host.lines[3], "suppressed=997 verdicts beyond per_second=3");
	/* Whatever comes next tells of it, be it only counted itself; where nothing was left out, nothing is said. */
	for (unsigned i = 0; i < 4; i++)
		write_one(REASON_UNKNOWN_KEY, 2 * SECOND + 5);
	assert_int_equal(host.line_count, 7);
	write_one(REASON_OK, 3 * SECOND - 1);
	assert_int_equal(host.line_count, 7);
	write_one(REASON_OK, 9 * SECOND);
	assert_int_equal(host.line_count, 8);
	assert_string_equal(host.lines[7], "suppressed=2 verdicts beyond per_second=3");
	write_one(REASON_OK, 20 * SECOND);
	assert_int_equal(host.line_count, 8);
	for (unsigned i = 0; i < 5; i++)
		write_one(REASON_UNKNOWN_KEY, 30 * SECOND);
	assert_int_equal(host.line_count, 11);
	fake_close(&host);
	assert_string_equal(host.lines[11], "suppressed=2 verdicts beyond per_second=3");
	assert_string_equal(host.lines[12], "ends: allow=3 deny=1010 unavailable=0");
	assert_int_equal(host.line_count, 13);
}

static void test_ledger_explain(void **state)
{
	struct apikeyd_request request = verdict(REASON_UNKNOWN_KEY);

	(void)state;
	fake_open_good(&host, &module_ledger, "log=all per_second=1");
	request.explain = true;
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(fake_ask(&host, &request), APIKEYD_SUCCESS);
	assert_int_equal(host.line_count, 0);
	fake_close(&host);
	assert_string_equal(host.lines[0], "");
}

/* The host is told how to record, whether it is to be logged or not, and its answer is the line's. */
static void test_record(void **state)
{
	static const struct {
		const char *arguments;
		unsigned how;
	} cases[] = {
		{"", LEDGER_RECORD | LEDGER_DENIALS_FULL},
		{"allows=full log=all", LEDGER_RECORD | LEDGER_DENIALS_FULL | LEDGER_ALLOWS_FULL},
		{"denials=rollup", LEDGER_RECORD},
		{"denials=rollup on_full=count", LEDGER_RECORD | LEDGER_GO_ON},
		{"on_full=unavailable", LEDGER_RECORD | LEDGER_DENIALS_FULL},
	};

	(void)state;
	fake_records = true;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct apikeyd_request request = verdict(REASON_OK);

		fake_open_good(&host, &module_ledger, cases[i].arguments);
		assert_int_equal(fake_ask(&host, &request), APIKEYD_SUCCESS);
		assert_int_equal(host.record_how, cases[i].how);
		host.record_how = 0;
		host.record_code = APIKEYD_AUDIT_FULL;
		request.explain = true;
		assert_int_equal(fake_ask(&host, &request), APIKEYD_AUDIT_FULL);
		assert_int_equal(host.record_how, cases[i].how);
		fake_close(&host);
	}
	fake_records = false;
}

/* ---- what stands in a line ---- */

/*
 * Reads a line back, as one who trusts nothing but its form would: name=word or name="text", one blank between. Returns
 * how many fields there are and the last one's text; fails where the form is another.
 */
static unsigned read_back(const char *line, char *ret_last, bool *ret_cut)
{
	unsigned fields = 0;
	const char *p = line;

	for (;;) {
		size_t len = 0;

		assert_true(strspn(p, "abcdefghijklmnopqrstuvwxyz_") > 0);
		p += strspn(p, "abcdefghijklmnopqrstuvwxyz_");
		assert_int_equal(*p++, '=');
		*ret_cut = false;
		if (*p != '"') {
			size_t word = strspn(p, "abcdefghijklmnopqrstuvwxyz0123456789_");

			assert_true(word > 0);
			p += word;
		} else {
			for (p++; *p != '"'; p++) {
				assert_true(*p >= 0x20 && *p < 0x7f);
				if (*p == '\\' && p[1] == 'x') {
					unsigned byte;

					assert_int_equal(sscanf(p + 2, "%2x", &byte), 1);
					ret_last[len++] = (char)byte;
					p += 3;
				} else {
					if (*p == '\\') {
						p++;
						assert_true(*p == '"' || *p == '\\');
					}
					ret_last[len++] = *p;
				}
			}
			p++;
			ret_last[len] = '\0';
			if (strncmp(p, "...", 3) == 0) {
				*ret_cut = true;
				p += 3;
			}
		}
		fields++;
		if (!*p)
			return fields;
		assert_int_equal(*p++, ' ');
	}
}

static void test_forged(void **state)
{
	static const char *const pages[] = {
		"status verdict=allow",
		"status\" verdict=allow user=\"root",
		"status\\\" verdict=allow",
		"status\\",
		"\\x22 verdict=allow",
		"status\nverdict=allow reason=ok",
		"status\r\n<3>apikeyd: verdict=allow",
		"\x1b[2Jgone",
		"\xc2\x9b"
		"2J", /* CSI in one character */
		"\xe2\x80\xae"
		"wolla", /* right to left */
		"\xff\xfe\x80",
		"",
		" ",
		"=",
	};

	(void)state;
	fake_open_good(&host, &module_ledger, "log=denials");
	for (unsigned i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
		struct apikeyd_request request = verdict(REASON_UNKNOWN_PAGE);
		char last[FAKE_HOST_TEXT];
		bool cut;

		request.page = fake_text(pages[i]);
		fake_ask(&host, &request);
		assert_int_equal(read_back(host.lines[i], last, &cut), 10);
		assert_string_equal(last, pages[i]);
		assert_false(cut);
	}
	fake_close(&host);
}

static void test_random_text(void **state)
{
	uint64_t random = fake_seed();
	unsigned cuts = 0;

	(void)state;
	for (unsigned i = 0; i < 100000; i++) {
		char text[256], last[FAKE_HOST_TEXT];
		uint32_t len = (uint32_t)fake_below(&random, sizeof(text));
		bool cut;
		struct facts facts;

		for (uint32_t j = 0; j < len; j++) {
			text[j] = 'a';
			if (fake_below(&random, 4) == 0)
				text[j] = "\"\\= \n.x"[fake_below(&random, 7)];
			else if (fake_below(&random, 2) == 0)
				text[j] = (char)(1 + fake_below(&random, 255));
		}
		facts_init(&facts);
		facts_number(&facts, "n", i);
		facts_word(&facts, "word", (struct apikeyd_text){text, len});
		facts_text(&facts, "text", (struct apikeyd_text){text, len});
		assert_int_equal(read_back(facts.text, last, &cut), 3);
		assert_memory_equal(last, text, strlen(last));
		assert_int_equal(strlen(last) < len, cut);
		assert_true(facts.len == strlen(facts.text));
		cuts += cut;
	}
	assert_true(cuts > 1000);
}

/* The longest of everything: each field is still there. */
static void test_longest(void **state)
{
	struct apikeyd_request request = verdict(REASON_UNKNOWN_PAGE);
	char text[255], last[FAKE_HOST_TEXT];
	struct apikeyd_text longest = {text, sizeof(text)};
	bool cut;

	(void)state;
	memset(text, '\n', sizeof(text));
	request.stack = request.key_id = request.key_org = request.key_user = request.scope = request.page = longest;
	request.org = request.method = longest;
	request.addr = fake_addr("1111:2222:3333:4444:5555:6666:7777:8888");
	fake_open_good(&host, &module_ledger, "log=denials");
	fake_ask(&host, &request);
	assert_int_equal(read_back(host.lines[0], last, &cut), 12);
	assert_true(cut);
	assert_int_equal(strlen(last), FACTS_VALUE_MAX / 4);
	fake_close(&host);
	fake_open_good(&host, &module_debug, "");
	fake_ask(&host, &request);
	assert_int_equal(read_back(host.lines[0], last, &cut), 19);
	fake_close(&host);
}

/* ---- debug ---- */

static void test_debug(void **state)
{
	static const char *const line =
		"group=page gid=1000 pid=77 cost=1 rev=5 age_ms=0 stack=\"default\" method=check uid=1000 kind=user "
		"key_id=\"kkkkkkkkkk\" user=\"ada@example.org\" scope=\"page:write\" page=\"a b\" asked_org=\"acme\"";
	struct apikeyd_request request = fake_request(APIKEYD_GROUP_PAGE);

	(void)state;
	request.scope = fake_text("page:write");
	request.page = fake_text("a b");
	request.org = fake_text("acme");
	request.key = fake_text("aku_secret");
	fake_open_good(&host, &module_debug, "");
	assert_int_equal(fake_ask(&host, &request), APIKEYD_IGNORE);
	assert_int_equal(host.line_count, 1);
	assert_int_equal(host.levels[0], APIKEYD_LOG_DEBUG);
	assert_string_equal(host.lines[0], line);
	request.explain = true;
	assert_int_equal(fake_ask(&host, &request), APIKEYD_IGNORE);
	assert_int_equal(host.line_count, 1);
	assert_string_equal(host.detail, line);
	fake_close(&host);
	request = verdict(REASON_OK);
	fake_open_good(&host, &module_debug, "level=warning code=audit_full");
	assert_int_equal(fake_ask(&host, &request), APIKEYD_AUDIT_FULL);
	assert_int_equal(host.levels[0], APIKEYD_LOG_WARNING);
	assert_non_null(strstr(host.lines[0], "group=audit verdict=allow reason=ok gid=1000 "));
	fake_close(&host);
}

static void test_debug_codes(void **state)
{
	static const char *const levels[] = {"error", "warning", "info", "debug"};
	struct apikeyd_request request = fake_request(APIKEYD_GROUP_CALLER);

	(void)state;
	for (int reason = 0; reason < REASON_COUNT; reason++) {
		const char *word = reason == REASON_OK ? "success" : reason_word((enum reason)reason);
		char arguments[64];
		enum apikeyd_code code;

		snprintf(arguments, sizeof(arguments), "code=%s", word);
		fake_open_good(&host, &module_debug, arguments);
		assert_true(reasons_code(word, &code));
		assert_int_equal(fake_ask(&host, &request), code);
		fake_close(&host);
	}
	for (unsigned level = 0; level < 4; level++) {
		char arguments[64];

		snprintf(arguments, sizeof(arguments), "level=%s", levels[level]);
		fake_open_good(&host, &module_debug, arguments);
		fake_ask(&host, &request);
		assert_int_equal(host.levels[0], level);
		fake_close(&host);
	}
	assert_int_equal(fake_open(&host, &module_debug, "code=pending"), -EINVAL);
	assert_int_equal(fake_open(&host, &module_debug, "code=ok"), -EINVAL);
	/* Never where it could say whose key it is. */
	assert_int_equal(module_debug.groups & APIKEYD_GROUP_KEY, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_line),	    cmocka_unit_test(test_log),
		cmocka_unit_test(test_per_second),  cmocka_unit_test(test_ledger_explain),
		cmocka_unit_test(test_record),	    cmocka_unit_test(test_forged),
		cmocka_unit_test(test_random_text), cmocka_unit_test(test_longest),
		cmocka_unit_test(test_debug),	    cmocka_unit_test(test_debug_codes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
