/* What people type at apikeyctl: durations, times, rates, keys in the wrong place; and lines of migrations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "client/apikeyctl/db_directory.h"
#include "client/apikeyctl/db_text.h"
#include "client/apikeyctl/text.h"

static void test_durations(void **state)
{
	static const struct {
		const char *text;
		uint64_t ms;
	} good[] = {
		{"0", 0},	 {"7", 7000},	       {"250ms", 250},	   {"5s", 5000},       {"2m", 120000},
		{"1h", 3600000}, {"30d", 2592000000U}, {"2w", 1209600000}, {"1h30m", 5400000}, {"0s", 0},
	};
	static const char *const bad[] = {
		"", " 5s", "5 s", "5x", "-5s", "s", "5s3", "1.5h", "5S", "99999999999999999999", "99999999999999999w"};
	uint64_t ms;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		ms = 77;
		assert_true(text_duration(good[i].text, &ms));
		assert_int_equal(ms, good[i].ms);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ms = 77;
		assert_false(text_duration(bad[i], &ms));
		assert_int_equal(ms, 77);
	}
}

static void test_moments(void **state)
{
	static const struct {
		const char *text;
		int64_t when;
	} good[] = {
		{"1970-01-01", 0},
		{"1970-01-01T00:00:00Z", 0},
		{"1970-01-01T01:00:00+01:00", 0},
		{"1969-12-31T23:59:59Z", -1},
		{"2024-02-29", 1709164800},
		{"2027-01-31T12:34:56.789Z", 1801398896},
		{"2027-01-31 12:34:56-02:30", 1801407896},
		{"2016-12-31t23:59:60z", 1483228800},
		{"now", 1000},
		{"+90s", 1090},
		{"+30d", 1000 + 30 * 86400},
		{"+1500ms", 1001},
		{"9999-12-31T23:59:59Z", 253402300799},
	};
	static const char *const bad[] = {
		"",
		"2027",
		"2027-02-29",
		"2027-13-01",
		"2027-00-10",
		"2027-1-31",
		"2027-01-31T12:00:00",
		"2027-01-31T12:00Z",
		"2027-01-31T24:00:00Z",
		"2027-01-31T12:60:00Z",
		"+",
		"30d",
		"-30d",
		"2027-01-31T12:00:00+24:00",
		"2027-01-31Z",
		"0000-01-01",
		"2027-01-31T12:00:00.Z",
		"2027-01-31T12:00:00Zx",
		"tomorrow",
		"2027-04-31",
	};
	int64_t when;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		when = 77;
		if (!text_when(good[i].text, 1000, &when) || when != good[i].when)
			fail_msg("%s reads as %lld", good[i].text, (long long)when);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		when = 77;
		if (text_when(bad[i], 1000, &when) || when != 77)
			fail_msg("\"%s\" is taken", bad[i]);
	}
}

static void test_moments_are_written(void **state)
{
	char out[TEXT_WHEN_SIZE];
	int64_t back = 0;

	(void)state;
	text_format_when(0, out);
	assert_string_equal(out, "1970-01-01T00:00:00Z");
	text_format_when(1801398896, out);
	assert_string_equal(out, "2027-01-31T12:34:56Z");
	assert_true(text_when(out, 0, &back));
	assert_int_equal(back, 1801398896);
	text_format_when(INT64_MAX, out); /* no year of ours: the number itself */
	assert_string_equal(out, "9223372036854775807");
}

static void test_rates(void **state)
{
	static const char *const bad[] = {"",	    "100",   "100/",   "/1m",	 "0/1m", "100/0s",	"100/500ms",
					  "100/1x", "1e3/s", "100/ms", "100/sx", "-1/s", "3000000000/s"};
	uint32_t count = 0, period = 0;

	(void)state;
	assert_true(text_rate("100/1m", &count, &period));
	assert_int_equal(count, 100);
	assert_int_equal(period, 60);
	assert_true(text_rate("5/s", &count, &period));
	assert_int_equal(count, 5);
	assert_int_equal(period, 1);
	assert_true(text_rate("1000/24h", &count, &period));
	assert_int_equal(period, 86400);
	assert_true(text_rate("7/90", &count, &period)); /* a bare number is seconds */
	assert_int_equal(period, 90);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (text_rate(bad[i], &count, &period))
			fail_msg("\"%s\" is taken", bad[i]);
	}
}

static void test_numbers(void **state)
{
	uint64_t number = 77;

	(void)state;
	assert_true(text_number("0", 5, &number));
	assert_int_equal(number, 0);
	assert_true(text_number("5", 5, &number));
	assert_int_equal(number, 5);
	assert_false(text_number("6", 5, &number));
	assert_false(text_number("", 5, &number));
	assert_false(text_number("1 ", 5, &number));
	assert_false(text_number("+1", 5, &number));
	assert_int_equal(number, 5);
	assert_true(text_number("18446744073709551615", UINT64_MAX, &number));
	assert_true(number == UINT64_MAX);
	assert_false(text_number("18446744073709551616", UINT64_MAX, &number));
}

#define SECRET "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVW"

static void test_keys_are_told(void **state)
{
	static const char *const keys[] = {
		"aku_0123456789_" SECRET,	"ako_0123456789_" SECRET,
		"status9u_0123456789_" SECRET,	"--key=aku_0123456789_" SECRET,
		" aku_0123456789_" SECRET "\n", "aku_0123456789_abcdefghijklmnopqrst", /* cut short */
		"x_aku_0123456789_" SECRET,	"akb_0123456789_" SECRET,
	};
	static const char *const others[] = {
		"",
		"incident:write",
		"status-acme",
		"0123456789",
		"aku_0123456789_",
		"aku_0123456789",
		"ann@acme.example",
		"/run/secrets/menu_0123456789_a",
		"aku_012345678_" SECRET,
		"akx_0123456789_" SECRET,
		"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
		"_",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		if (!text_looks_like_key(keys[i]))
			fail_msg("key %zu goes through", i);
	}
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		if (text_looks_like_key(others[i]))
			fail_msg("\"%s\" is taken for a key", others[i]);
	}
}

static void test_positions(void **state)
{
	static const char sql[] = "begin;\n-- é\nselect 'é', x;\ncommit;\n";

	(void)state;
	assert_int_equal(db_text_line_of(sql, 1), 1);
	assert_int_equal(db_text_line_of(sql, 7), 1); /* the line end belongs to its line */
	assert_int_equal(db_text_line_of(sql, 8), 2);
	assert_int_equal(db_text_line_of(sql, 13), 3); /* é is one character */
	assert_int_equal(db_text_line_of(sql, 9999), 5);
}

static void test_statements(void **state)
{
	static const char sql[] = "-- a migration; with a semicolon\n"	 /* 1 */
				  "begin;\n"				 /* 2: statement 0 */
				  ";;\n"				 /* 3: nothing */
				  "/* one /* two; */ ; */ select ';',\n" /* 4: statement 1 */
				  " \"a;b\", E'\\';', 'it''s; so';\n"	 /* 5 */
				  "create function f() returns int\n"	 /* 6: statement 2 */
				  "as $body$\n"				 /* 7 */
				  "begin; return $1; end;\n"		 /* 8 */
				  "$body$ language plpgsql;\n"		 /* 9 */
				  "do $$ begin; end $$; select a$b$c;\n" /* 10: statements 3 and 4 */
				  "\n"					 /* 11 */
				  "commit";				 /* 12: statement 5 */
	static const size_t lines[] = {2, 4, 6, 10, 10, 12};

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		assert_int_equal(db_text_line_of_statement(sql, i), lines[i]);
	assert_int_equal(db_text_line_of_statement(sql, 99), 12);
	assert_int_equal(db_text_line_of_statement("", 0), 1);
	/* What is never closed ends with the text. */
	assert_int_equal(db_text_line_of_statement("select 1;\nselect 'x", 1), 2);
	assert_int_equal(db_text_line_of_statement("select 1;\n/* x", 1), 1);
	assert_int_equal(db_text_line_of_statement("select 1;\n$t$ x", 1), 2);
}

static void test_migration_names(void **state)
{
	static const char *const others[] = {"",	   "0001.sql",	 "0001_.txt",  "1_a.sql",     "00001_a.sql",
					     "0000_a.sql", "000a_b.sql", "0001-a.sql", "0001_a.sql~", ".0001_a.sql",
					     "0001_.sql"};

	(void)state;
	assert_int_equal(db_migration_number("0001_a.sql"), 1);
	assert_int_equal(db_migration_number("0042_change_log.sql"), 42);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		assert_int_equal(db_migration_number(others[i]), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_durations),
		cmocka_unit_test(test_moments),
		cmocka_unit_test(test_moments_are_written),
		cmocka_unit_test(test_rates),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_keys_are_told),
		cmocka_unit_test(test_positions),
		cmocka_unit_test(test_statements),
		cmocka_unit_test(test_migration_names),
	};

	return cmocka_run_group_tests_name("apikeyctl_text", tests, NULL, NULL);
}
