/* hours: each minute of weeks in several zones beside what the wall's clock says; and the patterns of scopes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "daemon/modules/patterns.h"
#include "daemon/modules/table.h"
#include "tests/unit/fake_host.h"
#include "tests/unit/less.h"

enum { SECOND = 1000000, DAY_MIN = 24 * 60, WEEK_MIN = 7 * DAY_MIN };

static struct fake_host host;

static void set_zone(const char *zone)
{
	setenv("TZ", zone, 1);
	tzset();
}

static void test_arguments(void **state)
{
#define WINDOW                                                                                                         \
	"is no window; write HH:MM-HH:MM, such as 08:00-18:00, 22:00-06:00 (over midnight) or 00:00-24:00 (all day)"
#define DAY  "is no day; days are mon tue wed thu fri sat sun, or ranges such as mon-fri"
#define ZONE "is no zone; utc, local, or an offset from -14:00 to +14:00"
	static const struct {
		const char *arguments, *error;
	} cases[] = {
		{"", "host: between is required"},
		{"between=8:00-18:00", "between: '8:00-18:00' " WINDOW},
		{"between=08:00", "between: '08:00' " WINDOW},
		{"between=08:00-", "between: '08:00-' " WINDOW},
		{"between=08:00-18:00-", "between: '08:00-18:00-' " WINDOW},
		{"between=08:00-18:60", "between: '08:00-18:60' " WINDOW},
		{"between=08:00-24:01", "between: '08:00-24:01' " WINDOW},
		{"between=24:00-08:00", "between: '24:00-08:00' " WINDOW},
		{"between=25:00-08:00", "between: '25:00-08:00' " WINDOW},
		{"between=08:00-08:00", "between: '08:00-08:00' " WINDOW},
		{"between=0a:00-08:00", "between: '0a:00-08:00' " WINDOW},
		{"between=08.00-18.00", "between: '08.00-18.00' " WINDOW},
		{"between=-1:00-18:00", "between: '-1:00-18:00' " WINDOW},
		{"between=08:00-12:00,13:00-8:00", "between: '13:00-8:00' " WINDOW},
		{"between=00:00-24:00 days=monday", "days: 'monday' " DAY},
		{"between=00:00-24:00 days=Mon", "days: 'Mon' " DAY},
		{"between=00:00-24:00 days=mon-", "days: 'mon-' " DAY},
		{"between=00:00-24:00 days=mon-mon", "days: 'mon-mon' " DAY},
		{"between=00:00-24:00 days=mon-tue-wed", "days: 'mon-tue-wed' " DAY},
		{"between=00:00-24:00 days=mon,day", "days: 'day' " DAY},
		{"between=00:00-24:00 zone=UTC", "zone: 'UTC' " ZONE},
		{"between=00:00-24:00 zone=Europe/Berlin", "zone: 'Europe/Berlin' " ZONE},
		{"between=00:00-24:00 zone=05:30", "zone: '05:30' " ZONE},
		{"between=00:00-24:00 zone=+5", "zone: '+5' " ZONE},
		{"between=00:00-24:00 zone=+14:01", "zone: '+14:01' " ZONE},
		{"between=00:00-24:00 zone=-99:00", "zone: '-99:00' " ZONE},
		{"between=00:00-24:00 zone=", "zone: '' " ZONE},
	};
	static const char *const good[] = {"between=00:00-24:00", "between=23:59-00:00",
					   "between=00:00-00:01,22:00-06:00",
					   "between=08:00-18:00 days=sat-mon,wed zone=-14:00 only=*:write,metric:push",
					   "between=08:00-18:00 zone=local"};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(fake_open(&host, &module_hours, cases[i].arguments), -EINVAL);
		assert_string_equal(host.error, cases[i].error);
	}
	for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		fake_open_good(&host, &module_hours, good[i]);
		fake_close(&host);
	}
}

/* ---- each minute ---- */

struct window {
	int from, to; /* minutes; to below from: over midnight */
};

struct hours {
	const char *arguments;
	struct window windows[3];
	unsigned window_count;
	unsigned days;	  /* from Sunday */
	const char *zone; /* TZ for `local`; NULL: not local */
	int offset_min;
};

/* What is on the wall, and then by its digits. */
static bool wall_open(const struct hours *hours, int64_t at_s)
{
	time_t at = (time_t)(at_s + 60 * hours->offset_min);
	struct tm wall;
	int minute;

	if (hours->zone)
		assert_non_null(localtime_r(&at, &wall));
	else
		assert_non_null(gmtime_r(&at, &wall));
	minute = wall.tm_hour * 60 + wall.tm_min;
	for (unsigned i = 0; i < hours->window_count; i++) {
		const struct window *window = &hours->windows[i];
		bool today = hours->days >> wall.tm_wday & 1, yesterday = hours->days >> (wall.tm_wday + 6) % 7 & 1;

		if (window->from < window->to ? today && minute >= window->from && minute < window->to
					      : (today && minute >= window->from) || (yesterday && minute < window->to))
			return true;
	}
	return false;
}

static void each_minute(const struct hours *hours, int64_t start_s)
{
	enum { LOOK_MIN = 8 * DAY_MIN, ALL = WEEK_MIN + LOOK_MIN + 1 };
	bool *open = calloc(ALL, sizeof(*open));
	int64_t *next = calloc(ALL + 1, sizeof(*next)); /* the first open minute from each on */
	unsigned opened = 0;

	assert_non_null(open);
	assert_non_null(next);
	if (hours->zone)
		set_zone(hours->zone);
	fake_open_good(&host, &module_hours, hours->arguments);
	for (int64_t i = 0; i < ALL; i++)
		open[i] = wall_open(hours, start_s + 60 * i);
	next[ALL] = INT64_MAX;
	for (int64_t i = ALL - 1; i >= 0; i--)
		next[i] = open[i] ? i : next[i + 1];
	for (int64_t i = 0; i < WEEK_MIN; i++) {
		/* Each minute; under sanitizers some, and each at which something changes. */
		if (LESS > 1 && i % (2 * LESS + 1) != 0 && open[i] == open[i > 0 ? i - 1 : i])
			continue;
		/* At one microsecond of the minute; now and then at its first and its last, too. */
		const int64_t within[] = {(i * 7919 % 60) * SECOND + i, 0, INT64_C(59999999)};

		opened += open[i];
		for (unsigned j = 0; j < (i % 16 == 0 ? 3 : 1); j++) {
			struct apikeyd_request request = fake_request(APIKEYD_GROUP_ACCOUNT);
			int64_t left_us;
			enum apikeyd_code code;

			request.now_us = (start_s + 60 * i) * SECOND + within[j];
			left_us = open[i] ? 0
				  : next[i] == INT64_MAX || next[i] > i + LOOK_MIN
					  ? (int64_t)LOOK_MIN * 60 * SECOND - within[j] % SECOND
					  : (next[i] - i) * 60 * SECOND - within[j];
			code = fake_ask(&host, &request);
			if (code != (open[i] ? APIKEYD_SUCCESS : APIKEYD_POLICY) ||
			    host.retry_ms != (uint64_t)((left_us + 999) / 1000))
				fail_msg("%s in %s at %" PRId64 ": code %d, %" PRIu64 " ms for %" PRId64 " us",
					 hours->arguments, hours->zone ? hours->zone : "no zone", request.now_us,
					 (int)code, host.retry_ms, left_us);
		}
	}
	fake_close(&host);
	assert_true(opened > 0 || strstr(hours->arguments, "02:30-02:45"));
	assert_true(opened < WEEK_MIN);
	free(open);
	free(next);
}

enum { ALL_DAYS = 0x7f, MON_FRI = 0x3e, SUN = 1, MON = 2, WED = 8, FRI = 32, SAT = 64 };
#define AT(hours, minutes) ((hours)*60 + (minutes))

static const struct hours of_offsets[] = {
	{"between=08:00-18:00", {{AT(8, 0), AT(18, 0)}}, 1, ALL_DAYS, NULL, 0},
	{"between=08:00-18:00 days=mon-fri", {{AT(8, 0), AT(18, 0)}}, 1, MON_FRI, NULL, 0},
	{"between=22:00-06:00 days=fri", {{AT(22, 0), AT(6, 0)}}, 1, FRI, NULL, 0},
	{"between=22:00-06:00 days=sat", {{AT(22, 0), AT(6, 0)}}, 1, SAT, NULL, 0},
	{"between=23:59-00:01 days=sat-sun", {{AT(23, 59), AT(0, 1)}}, 1, SAT | SUN, NULL, 0},
	{"between=18:00-24:00 days=fri-mon", {{AT(18, 0), AT(24, 0)}}, 1, FRI | SAT | SUN | MON, NULL, 0},
	{"between=18:00-00:00 days=wed", {{AT(18, 0), AT(24, 0)}}, 1, WED, NULL, 0},
	{"between=00:00-24:00 days=wed,mon", {{0, AT(24, 0)}}, 1, WED | MON, NULL, 0},
	{"between=08:00-12:00,11:00-13:30,20:00-02:00 days=mon-fri",
	 {{AT(8, 0), AT(12, 0)}, {AT(11, 0), AT(13, 30)}, {AT(20, 0), AT(2, 0)}},
	 3,
	 MON_FRI,
	 NULL,
	 0},
	{"between=12:34-12:35 days=sun", {{AT(12, 34), AT(12, 35)}}, 1, SUN, NULL, 0},
	{"between=08:00-18:00 days=mon-fri zone=+05:45", {{AT(8, 0), AT(18, 0)}}, 1, MON_FRI, NULL, AT(5, 45)},
	{"between=08:00-18:00 days=mon-fri zone=-14:00", {{AT(8, 0), AT(18, 0)}}, 1, MON_FRI, NULL, -AT(14, 0)},
	{"between=22:00-06:00 days=sun zone=+14:00", {{AT(22, 0), AT(6, 0)}}, 1, SUN, NULL, AT(14, 0)},
};

static void test_offsets(void **state)
{
	(void)state;
	set_zone("America/New_York"); /* nobody's business here */
	for (unsigned i = 0; i < sizeof(of_offsets) / sizeof(of_offsets[0]); i++) {
		each_minute(&of_offsets[i], INT64_C(1772323200));  /* Sunday 2026-03-01 */
		each_minute(&of_offsets[i], -INT64_C(86400) * 40); /* before 1970 */
	}
}

/* By rules written out, so that no zone database is needed. */
#define BERLIN	  "CET-1CEST,M3.5.0,M10.5.0/3"
#define NEW_YORK  "EST5EDT,M3.2.0,M11.1.0"
#define LORD_HOWE "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0"
#define KATHMANDU "<+0545>-5:45"

static void test_local(void **state)
{
	/* Each week begins at 00:00 UTC, before a day on which the zone's clocks change, on it, or far from it. */
	static const struct {
		const char *zone;
		int64_t start_s;
	} weeks[] = {
		{BERLIN, INT64_C(1774137600)},	  /* 2026-03-22: forward on 03-29 */
		{BERLIN, INT64_C(1774742400)},	  /* 2026-03-29 */
		{BERLIN, INT64_C(1792281600)},	  /* 2026-10-18: back on 10-25 */
		{BERLIN, INT64_C(1792886400)},	  /* 2026-10-25 */
		{BERLIN, INT64_C(1783209600)},	  /* 2026-07-05 */
		{NEW_YORK, INT64_C(1772841600)},  /* 2026-03-07: forward on 03-08 */
		{NEW_YORK, INT64_C(1793404800)},  /* 2026-10-31: back on 11-01 */
		{LORD_HOWE, INT64_C(1775260800)}, /* 2026-04-04: back by half an hour on 04-05 */
		{LORD_HOWE, INT64_C(1790899200)}, /* 2026-10-02: forward on 10-04 */
		{KATHMANDU, INT64_C(1783209600)}, {"UTC0", INT64_C(1783209600)},
	};
	struct hours cases[] = {
		{"between=08:00-18:00 days=mon-fri zone=local", {{AT(8, 0), AT(18, 0)}}, 1, MON_FRI, NULL, 0},
		{"between=22:00-06:00 days=sat zone=local", {{AT(22, 0), AT(6, 0)}}, 1, SAT, NULL, 0},
		{"between=02:30-02:45 days=sun zone=local", {{AT(2, 30), AT(2, 45)}}, 1, SUN, NULL, 0},
		{"between=02:30-05:00 days=sun zone=local", {{AT(2, 30), AT(5, 0)}}, 1, SUN, NULL, 0},
		{"between=01:00-02:20 days=sun zone=local", {{AT(1, 0), AT(2, 20)}}, 1, SUN, NULL, 0},
		{"between=00:30-01:10,01:40-01:50 days=sun zone=local",
		 {{AT(0, 30), AT(1, 10)}, {AT(1, 40), AT(1, 50)}},
		 2,
		 SUN,
		 NULL,
		 0},
		{"between=02:00-03:00 days=mon-sun zone=local", {{AT(2, 0), AT(3, 0)}}, 1, ALL_DAYS, NULL, 0},
	};

	(void)state;
	for (unsigned w = 0; w < sizeof(weeks) / sizeof(weeks[0]); w++) {
		for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
			cases[i].zone = weeks[w].zone;
			each_minute(&cases[i], weeks[w].start_s);
		}
	}
}

/* ---- scopes ---- */

static void test_patterns(void **state)
{
	static const struct {
		const char *patterns, *scope;
		bool matches;
	} cases[] = {
		{"*", "incident:write", true},
		{"*", NULL, true},
		{"incident:write", "incident:write", true},
		{"incident:write", "incident:writer", false},
		{"incident:write", "incident:writ", false},
		{"incident:write", NULL, false},
		{"incident:*", "incident:write", true},
		{"incident:*", "incidents:write", false},
		{"incident:*", "inciden:write", false},
		{"incident:*", "incident", false},
		{"*:write", "incident:write", true},
		{"*:write", "incident:read", false},
		{"*:write", "write", false},
		{"*:*", "incident:read", true},
		{"*:*", NULL, false},
		{"page:read,*:write", "incident:write", true},
		{"page:read,*:write", "page:read", true},
		{"page:read,*:write", "page:push", false},
		{"page:read,*:write", "", false},
		{"page:read,*", "metric:push", true},
		{"inc*:write", "incident:write", false},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (patterns_match(cases[i].patterns, fake_text(cases[i].scope)) != cases[i].matches)
			fail_msg("%s, %s", cases[i].patterns, cases[i].scope ? cases[i].scope : "none");
		assert_int_equal(patterns_match_all(cases[i].patterns),
				 !strcmp(cases[i].patterns, "*") || !strcmp(cases[i].patterns, "page:read,*"));
	}
	/* Not terminated. */
	assert_true(patterns_match("page:read", (struct apikeyd_text){"page:reader", 9}));
	assert_false(patterns_match("page:reader", (struct apikeyd_text){"page:reader", 9}));
}

static void test_only(void **state)
{
	struct apikeyd_request request = fake_request(APIKEYD_GROUP_SCOPE);

	(void)state;
	request.now_us = INT64_C(1772323200) * SECOND; /* Sunday 00:00 */
	fake_open_good(&host, &module_hours, "only=*:write,page:delete between=08:00-18:00");
	request.scope = fake_text("page:read");
	assert_int_equal(fake_ask(&host, &request), APIKEYD_IGNORE);
	request.scope = fake_text("page:write");
	assert_int_equal(fake_ask(&host, &request), APIKEYD_POLICY);
	assert_int_equal(host.retry_ms, 8 * 3600 * 1000);
	request.group = APIKEYD_GROUP_PAGE;
	request.scope = fake_text("page:delete");
	assert_int_equal(fake_ask(&host, &request), APIKEYD_POLICY);
	request.now_us += INT64_C(8) * 3600 * SECOND;
	assert_int_equal(fake_ask(&host, &request), APIKEYD_SUCCESS);
	/* whoami has no scope */
	request.scope = fake_text(NULL);
	assert_int_equal(fake_ask(&host, &request), APIKEYD_IGNORE);
	fake_close(&host);
	/* Where no scope is known, a line that is about some of them could never hold. */
	assert_int_equal(fake_open_in(&host, &module_hours, APIKEYD_GROUP_PAGE, "only=a:b between=08:00-18:00"), 0);
	fake_close(&host);
	assert_int_equal(fake_open_in(&host, &module_hours, APIKEYD_GROUP_ACCOUNT, "only=*,a:b between=08:00-18:00"),
			 0);
	fake_close(&host);
	for (unsigned group = APIKEYD_GROUP_CALLER; group <= APIKEYD_GROUP_ACCOUNT; group <<= 2) {
		assert_int_equal(fake_open_in(&host, &module_hours, (enum apikeyd_group)group,
					      "only=*:write between=08:00-18:00"),
				 -EINVAL);
		assert_string_equal(host.error,
				    "only: *:write: the scope is not known yet in this group; put the line into scope, "
				    "or leave only out");
	}
}

static void test_explain(void **state)
{
	struct apikeyd_request request = fake_request(APIKEYD_GROUP_SCOPE);

	(void)state;
	request.explain = true;
	request.now_us = INT64_C(1772323200) * SECOND + 1;
	request.scope = fake_text("page:write");
	fake_open_good(&host, &module_hours, "only=*:write between=08:00-18:00");
	assert_int_equal(fake_ask(&host, &request), APIKEYD_POLICY);
	assert_string_equal(host.detail, "closed; asking again before 28800 s are over is in vain");
	request.now_us += INT64_C(9) * 3600 * SECOND;
	assert_int_equal(fake_ask(&host, &request), APIKEYD_SUCCESS);
	assert_string_equal(host.detail, "open");
	request.scope = fake_text("page:read");
	assert_int_equal(fake_ask(&host, &request), APIKEYD_IGNORE);
	assert_string_equal(host.detail, "not about this scope");
	fake_close(&host);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_arguments), cmocka_unit_test(test_offsets), cmocka_unit_test(test_local),
		cmocka_unit_test(test_patterns),  cmocka_unit_test(test_only),	  cmocka_unit_test(test_explain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
