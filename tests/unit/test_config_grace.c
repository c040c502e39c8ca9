/* freshness.offline_grace: which pattern holds for which scope, and what is no list of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "daemon/config.h"

static char errors[4096];

static struct config *parse(const char *value)
{
	char text[4096];

	snprintf(text, sizeof(text), "[freshness]\nmax_stale_ms = 1s\noffline_grace = %s\n", value);
	return config_parse(text, strlen(text), "a.conf", errors, sizeof(errors));
}

static uint32_t grace_of(const struct config *config, const char *scope)
{
	return config_grace_ms(config->grace, scope, scope ? strlen(scope) : 0);
}

/* ---- which one holds ---- */

static const struct {
	const char *list, *scope; /* NULL: none */
	uint32_t ms;
} held[] = {
	{"", "incident:read", 0},
	{"", NULL, 0},
	{"*=1s", "incident:read", 1000},
	{"*=1s", NULL, 1000},
	{"*=1s", "", 1000},
	{"*=1s", "no-colon", 1000},
	{"*:*=1s", "incident:read", 1000},
	{"*:*=1s", NULL, 0},
	{"*:*=1s", "no-colon", 0},
	{"*:*=1s", "", 0},
	{"*:read=1h", "incident:read", 3600000},
	{"*:read=1h", "incident:write", 0},
	{"*:read=1h", "read", 0},
	{"*:read=1h", "incident:reads", 0},
	{"*:read=1h", "incident:rea", 0},
	{"*:read=1h", ":read", 3600000},
	{"incident:*=5min", "incident:read", 300000},
	{"incident:*=5min", "incidents:read", 0},
	{"incident:*=5min", "inciden:read", 0},
	{"incident:*=5min", "incident", 0},
	{"incident:*=5min", "incident:", 300000},
	{"incident:read=7", "incident:read", 7},
	{"incident:read=7", "incident:read:more", 0},
	{"incident:read=7", "Incident:read", 0},
	/* the most specific, wherever it stands */
	{"*=1, *:*=2, *:read=3, incident:*=4, incident:read=5", "incident:read", 5},
	{"incident:read=5, incident:*=4, *:read=3, *:*=2, *=1", "incident:read", 5},
	{"incident:*=4, *:read=3, *:*=2, *=1", "incident:read", 4},
	{"*:read=3, incident:*=4", "incident:read", 4},
	{"*:read=3, *:*=2, *=1", "incident:read", 3},
	{"*=1, *:*=2", "incident:read", 2},
	{"*=1, *:*=2", NULL, 1},
	/* and 0 is as good as any */
	{"*:read=1h, audit:read=0", "audit:read", 0},
	{"*=1h, apikey:*=0s", "apikey:manage", 0},
	/* forms */
	{" *:read = 90 s ,\tmetric:push=250ms", "metric:push", 250},
	{" *:read = 90 s ,\tmetric:push=250ms", "page:read", 90000},
	{"a_b-c:d-e_f=24h", "a_b-c:d-e_f", 86400000},
	{"*:read=1s,\n *:write=2s,\n\tpage:write=3s", "page:write", 3000},
	{"*:read=1s,\n *:write=2s,\n\tpage:write=3s", "page:read", 1000},
};

static void test_held(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(held) / sizeof(held[0]); i++) {
		struct config *config = parse(held[i].list);

		if (!config)
			fail_msg("%s: %s", held[i].list, errors);
		if (grace_of(config, held[i].scope) != held[i].ms)
			fail_msg("%s of '%s': %u", held[i].list, held[i].scope ? held[i].scope : "(none)",
				 grace_of(config, held[i].scope));
		config_free(config);
	}
}

/* ---- by a look-up of whole patterns, in the order of the manual, rather than by matching them ---- */

struct oracle {
	struct {
		char pattern[32];
		uint32_t ms;
	} items[40];
	unsigned count;
};

static bool look_up(const struct oracle *oracle, const char *pattern, uint32_t *ret)
{
	for (unsigned i = 0; i < oracle->count; i++) {
		if (strcmp(oracle->items[i].pattern, pattern) == 0) {
			*ret = oracle->items[i].ms;
			return true;
		}
	}
	return false;
}

static uint32_t oracle_grace(const struct oracle *oracle, const char *scope)
{
	const char *colon = scope ? strchr(scope, ':') : NULL;
	char pattern[32];
	uint32_t ms;

	if (colon) {
		if (look_up(oracle, scope, &ms))
			return ms;
		snprintf(pattern, sizeof(pattern), "%.*s:*", (int)(colon - scope), scope);
		if (look_up(oracle, pattern, &ms))
			return ms;
		snprintf(pattern, sizeof(pattern), "*:%s", colon + 1);
		if (look_up(oracle, pattern, &ms))
			return ms;
		if (look_up(oracle, "*:*", &ms))
			return ms;
	}
	return look_up(oracle, "*", &ms) ? ms : 0;
}

static void test_random(void **state)
{
	static const char *const sides[] = {"*", "a", "b", "aa", "a-b", "r", "rw"};
	static const char *const scopes[] = {"a:a",   "a:r", "b:rw", "aa:a", "a:aa", "a-b:r", "c:c", "r:a-b", "rw:rw",
					     "a:a:a", "a",   ":",    "a:",   ":r",   "",      "*:a", NULL};
	enum { SIDES = sizeof(sides) / sizeof(sides[0]), SCOPES = sizeof(scopes) / sizeof(scopes[0]) };
	unsigned given = 0;

	(void)state;
	srand(4711);
	for (unsigned round = 0; round < 3000; round++) {
		struct oracle oracle = {.count = 0};
		unsigned wanted = (unsigned)rand() % 12;
		uint32_t longest = 0, after = 0, steps = 0;
		char list[2048] = "", names[512];
		struct config *config;

		for (unsigned i = 0; i < wanted; i++) {
			char pattern[32];
			uint32_t ms = (uint32_t)rand() % 5 * 1000, had;

			if (rand() % 8)
				snprintf(pattern, sizeof(pattern), "%s:%s", sides[rand() % SIDES],
					 sides[rand() % SIDES]);
			else
				strcpy(pattern, "*");
			if (look_up(&oracle, pattern, &had))
				continue;
			strcpy(oracle.items[oracle.count].pattern, pattern);
			oracle.items[oracle.count++].ms = ms;
			sprintf(list + strlen(list), "%s%s=%us", *list ? ", " : "", pattern, ms / 1000);
			longest = ms > longest ? ms : longest;
		}
		config = parse(list);
		if (!config)
			fail_msg("%s: %s", list, errors);
		for (unsigned i = 0; i < SCOPES; i++) {
			uint32_t want = oracle_grace(&oracle, scopes[i]), got = grace_of(config, scopes[i]);

			given += want > 0;
			if (got != want)
				fail_msg("%s of '%s': %u, not %u", list, scopes[i] ? scopes[i] : "(none)", got, want);
		}
		assert_int_equal(config_longest_grace_ms(config), longest);
		/* Each length once, ascending, up to the longest. */
		for (uint32_t ms; (ms = config_grace_after(config->grace, after, names, sizeof(names))); steps++) {
			assert_true(ms > after && *names);
			for (unsigned i = 0; i < oracle.count; i++)
				assert_false(oracle.items[i].ms > after && oracle.items[i].ms < ms);
			after = ms;
		}
		assert_int_equal(after, longest);
		config_free(config);
	}
	assert_true(given > 3000);
}

static void test_after(void **state)
{
	struct config *config = parse("*:read=1h, *:write=1min, page:read=1h, *=0");
	char names[64];

	(void)state;
	assert_int_equal(config_grace_after(config->grace, 0, names, sizeof(names)), 60000);
	assert_string_equal(names, "*:write");
	assert_int_equal(config_grace_after(config->grace, 60000, names, sizeof(names)), 3600000);
	assert_string_equal(names, "page:read, *:read");
	assert_int_equal(config_grace_after(config->grace, 60000, names, 8), 3600000);
	assert_string_equal(names, "page:re");
	assert_int_equal(config_grace_after(config->grace, 3600000, names, sizeof(names)), 0);
	assert_string_equal(names, "");
	assert_int_equal(config_grace_after(NULL, 0, names, sizeof(names)), 0);
	config_free(config);
}

/* ---- what is no list ---- */

#define PATTERN	 "the pattern must be *, or resource:action with * for either part\n"
#define DURATION "the duration must be 0 to 86400000 milliseconds, or have a unit: ms, s, min, h\n"
#define FORM	 "must be PATTERN=DURATION, with commas between\n"

static const struct {
	const char *list, *error; /* after "a.conf:3: [freshness] offline_grace = <list>: " */
} bad[] = {
	{"*:read", "'*:read': " FORM},
	{"1h", "'1h': " FORM},
	{"*:read=1h,", FORM},
	{",*:read=1h", FORM},
	{"*:read=1h,,*:write=1s", FORM},
	{",", FORM},
	{"*:read=1h *:write=1s", "'*:read=1h *:write=1s': " DURATION},
	{"=1h", "'=1h': " PATTERN},
	{"incident=1h", "'incident=1h': " PATTERN},
	{"incident:=1h", "'incident:=1h': " PATTERN},
	{":read=1h", "':read=1h': " PATTERN},
	{":=1h", "':=1h': " PATTERN},
	{"**=1h", "'**=1h': " PATTERN},
	{"inc*:read=1h", "'inc*:read=1h': " PATTERN},
	{"*:*:*=1h", "'*:*:*=1h': " PATTERN},
	{"incident:read:x=1h", "'incident:read:x=1h': " PATTERN},
	{"Incident:read=1h", "'Incident:read=1h': " PATTERN},
	{"incident :read=1h", "'incident :read=1h': " PATTERN},
	{"a:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb=1s",
	 "'a:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb': " PATTERN},
	{"*:read=", "'*:read=': " DURATION},
	{"*:read=1d", "'*:read=1d': " DURATION},
	{"*:read=-1s", "'*:read=-1s': " DURATION},
	{"*:read=25h", "'*:read=25h': " DURATION},
	{"*:read=86400001", "'*:read=86400001': " DURATION},
	{"*:read=1s=2s", "'*:read=1s=2s': " DURATION},
	{"*:read=99999999999999999999999999999999999h", "'*:read=999999999999999999999999999999999': " DURATION},
	{"*:read=1s, page:read=2s, *:read=3s", "'*:read': must not stand twice\n"},
	{"*=1s,*=1s", "'*': must not stand twice\n"},
};

static void test_bad(void **state)
{
	char want[512];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (parse(bad[i].list))
			fail_msg("%s was taken", bad[i].list);
		snprintf(want, sizeof(want), "a.conf:3: [freshness] offline_grace = %s: %s", bad[i].list, bad[i].error);
		assert_string_equal(errors, want);
	}
}

/* In a list of several lines too, the line is the setting's, and what is wrong is named. */
static void test_bad_lines(void **state)
{
	static const char text[] = "[limits]\npairs = 0\n[freshness]\noffline_grace = *:read=1h,\n  *:write=x\n";
	static const char other[] = "[freshness]\noffline_grace = *=1s\n max_stale_ms = 1s\n";

	(void)state;
	assert_null(config_parse(text, strlen(text), "a.conf", errors, sizeof(errors)));
	assert_string_equal(errors,
			    "a.conf:2: [limits] pairs = 0: must be a number from 1 to 1024\n"
			    "a.conf:4: [freshness] offline_grace = *:read=1h, *:write=x: '*:write=x': " DURATION);
	assert_null(config_parse(other, strlen(other), "a.conf", errors, sizeof(errors)));
	assert_non_null(strstr(errors, "a.conf:3: begins with white space"));
}

static void test_many(void **state)
{
	char list[2048] = "";
	struct config *config;

	(void)state;
	for (unsigned i = 0; i < CONFIG_GRACE_MAX; i++)
		sprintf(list + strlen(list), "%sr%u:a=%us", i ? (i % 8 ? ", " : ",\n ") : "", i, i);
	config = parse(list);
	if (!config)
		fail_msg("%s", errors);
	assert_int_equal(grace_of(config, "r63:a"), 63000);
	assert_int_equal(config_longest_grace_ms(config), 63000);
	config_free(config);
	strcat(list, ", *=1s");
	assert_null(parse(list));
	assert_non_null(strstr(errors, "'*': is one too many: at most 64 patterns are right\n"));
}

/* A long list is printed in lines that read as the same. */
static void test_printed(void **state)
{
	struct config *config = parse(
			      "incident:read=1h, incident:write=1min, maintenance:read=2h, maintenance:write=2min,\n"
			      " subscriber:read=0, *:read=30min, *:*=10s, *=5s"),
		      *again;
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	(void)state;
	assert_non_null(config);
	config_print(config, out);
	fclose(out);
	assert_non_null(strstr(text, "\n  "));
	again = config_parse(text, len, "printed", errors, sizeof(errors));
	assert_string_equal(errors, "");
	assert_string_equal(again->offline_grace, config->offline_grace);
	assert_int_equal(grace_of(again, "subscriber:read"), 0);
	assert_int_equal(grace_of(again, "maintenance:read"), 7200000);
	assert_int_equal(grace_of(again, "page:write"), 10000);
	config_free(config);
	config_free(again);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_held),	cmocka_unit_test(test_random),	  cmocka_unit_test(test_after),
		cmocka_unit_test(test_bad),	cmocka_unit_test(test_bad_lines), cmocka_unit_test(test_many),
		cmocka_unit_test(test_printed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
