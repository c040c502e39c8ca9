/* penalty: who is slowed, for how long, and who never is; memory under a crowd of attackers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "daemon/modules/sources.h"
#include "daemon/modules/table.h"
#include "tests/unit/fake_host.h"

enum { MS = 1000, SECOND = 1000000 };

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);

static unsigned allocations;
static unsigned fail_at; /* which calloc from now on finds no memory; 0: none */
static size_t allocated; /* bytes, never taken back */

void *__wrap_malloc(size_t size)
{
	allocations++;
	allocated += size;
	return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	if (fail_at > 0 && --fail_at == 0)
		return NULL;
	allocations++;
	allocated += count * size;
	return __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
	allocations++;
	allocated += size;
	return __real_realloc(old, size);
}

static struct fake_host host;

static struct apikeyd_request from(const char *addr, int64_t boot_us)
{
	struct apikeyd_request request = fake_request(APIKEYD_GROUP_CALLER);

	request.boot_us = boot_us;
	if (addr)
		request.addr = fake_addr(addr);
	return request;
}

static void ended(const char *addr, int64_t boot_us, enum apikeyd_code reason)
{
	struct apikeyd_request request = from(addr, boot_us);

	request.reason_code = reason;
	module_penalty.ended(host.instance, &request);
}

static void assert_asked(const char *addr, int64_t boot_us, enum apikeyd_code code, uint64_t ms)
{
	struct apikeyd_request request = from(addr, boot_us);

	assert_int_equal(fake_ask(&host, &request), code);
	assert_int_equal(host.retry_ms, ms);
}

static void test_arguments(void **state)
{
	static const struct {
		const char *arguments, *error;
	} cases[] = {
		{"prefix4=33", "host: prefix4 must be a whole number from 1 to 32"},
		{"prefix6=0", "host: prefix6 must be a whole number from 1 to 128"},
		{"prefix6=129", "host: prefix6 must be a whole number from 1 to 128"},
		{"allow=1/365d burst=51", "allow: with this burst it would take more than 50 years to forget; a faster "
					  "rate or a smaller burst"},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(fake_open(&host, &module_penalty, cases[i].arguments), -EINVAL);
		assert_string_equal(host.error, cases[i].error);
	}
	fake_open_good(&host, &module_penalty, "allow=1/365d burst=50 prefix4=1 prefix6=128 entries=1");
	fake_close(&host);
}

static void test_slowed(void **state)
{
	int64_t now = SECOND;

	(void)state;
	fake_open_good(&host, &module_penalty, "allow=10/s burst=3");
	for (unsigned i = 0; i < 3; i++) {
		assert_asked("192.0.2.1", now, APIKEYD_SUCCESS, 0);
		ended("192.0.2.1", now, i == 1 ? APIKEYD_MALFORMED_KEY : APIKEYD_UNKNOWN_KEY);
	}
	assert_asked("192.0.2.1", now, APIKEYD_RATE_LIMITED, 100);
	assert_asked("192.0.2.2", now, APIKEYD_SUCCESS, 0);
	/* Its own refusals prolong nothing, however many. */
	for (unsigned i = 0; i < 100; i++)
		ended("192.0.2.1", now, APIKEYD_RATE_LIMITED);
	assert_asked("192.0.2.1", now, APIKEYD_RATE_LIMITED, 100);
	now += 100 * MS - 1;
	assert_asked("192.0.2.1", now, APIKEYD_RATE_LIMITED, 1);
	now += 1;
	assert_asked("192.0.2.1", now, APIKEYD_SUCCESS, 0);
	/* One bad key more, and it waits again; good ones do no harm. */
	ended("192.0.2.1", now, APIKEYD_SUCCESS);
	ended("192.0.2.1", now, APIKEYD_EXPIRED);
	ended("192.0.2.1", now, APIKEYD_SCOPE_NOT_GRANTED);
	ended("192.0.2.1", now, APIKEYD_NOT_LOADED);
	assert_asked("192.0.2.1", now, APIKEYD_SUCCESS, 0);
	ended("192.0.2.1", now, APIKEYD_UNKNOWN_KEY);
	assert_asked("192.0.2.1", now, APIKEYD_RATE_LIMITED, 100);
	fake_close(&host);
}

/* Many under way at once count beyond the burst, but only so many. */
static void test_debt(void **state)
{
	(void)state;
	fake_open_good(&host, &module_penalty, "allow=1/s burst=5");
	for (unsigned i = 0; i < 8; i++)
		ended("192.0.2.1", SECOND, APIKEYD_UNKNOWN_KEY);
	assert_asked("192.0.2.1", SECOND, APIKEYD_RATE_LIMITED, 4000);
	for (unsigned i = 0; i < 100000; i++)
		ended("192.0.2.1", SECOND, APIKEYD_UNKNOWN_KEY);
	assert_asked("192.0.2.1", SECOND, APIKEYD_RATE_LIMITED, 6000);
	fake_close(&host);
}

/* A check_many is one key, however many pairs it asks about. */
static void test_list(void **state)
{
	struct apikeyd_request request = from("192.0.2.1", SECOND);

	(void)state;
	fake_open_good(&host, &module_penalty, "allow=1/h burst=2");
	request.method = fake_text("check_many");
	request.reason_code = APIKEYD_UNKNOWN_KEY;
	for (unsigned i = 0; i < 1024; i++)
		module_penalty.ended(host.instance, &request);
	assert_asked("192.0.2.1", SECOND, APIKEYD_SUCCESS, 0);
	request.boot_us += 1;
	for (unsigned i = 0; i < 1024; i++)
		module_penalty.ended(host.instance, &request);
	assert_asked("192.0.2.1", SECOND + 1, APIKEYD_RATE_LIMITED, 3600 * 1000);
	fake_close(&host);
	/* Two checks at one moment are two. */
	fake_open_good(&host, &module_penalty, "allow=1/h burst=2");
	ended("192.0.2.1", SECOND, APIKEYD_UNKNOWN_KEY);
	ended("192.0.2.1", SECOND, APIKEYD_UNKNOWN_KEY);
	assert_asked("192.0.2.1", SECOND, APIKEYD_RATE_LIMITED, 3600 * 1000);
	fake_close(&host);
}

static void test_networks(void **state)
{
	static const struct {
		const char *arguments, *bad, *asks;
		bool slowed;
	} cases[] = {
		{"", "192.0.2.1", "192.0.2.1", true},
		{"", "192.0.2.1", "192.0.2.0", false},
		{"", "2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", true},
		{"", "2001:db8:1:2::1", "2001:db8:1:3::1", false},
		{"", "2001:db8:1:2::1", "2001:db8:0:2::1", false},
		{"", "192.0.2.1", "c000:0201::", false},
		{"", "c000:0201::", "192.0.2.1", false},
		{"prefix4=24", "192.0.2.1", "192.0.2.255", true},
		{"prefix4=24", "192.0.2.1", "192.0.3.1", false},
		{"prefix4=23", "192.0.2.1", "192.0.3.1", true},
		{"prefix4=23", "192.0.2.1", "192.0.1.1", false},
		{"prefix4=1", "192.0.2.1", "255.0.0.0", true},
		{"prefix4=1", "192.0.2.1", "127.0.0.1", false},
		{"prefix6=128", "2001:db8::1", "2001:db8::1", true},
		{"prefix6=128", "2001:db8::1", "2001:db8::0", false},
		{"prefix6=127", "2001:db8::1", "2001:db8::0", true},
		{"prefix6=48", "2001:db8:1:2::1", "2001:db8:1:3::1", true},
		{"prefix6=33", "2001:db8:8000::1", "2001:db8:ffff::1", true},
		{"prefix6=33", "2001:db8:8000::1", "2001:db8:7fff::1", false},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char arguments[64];

		snprintf(arguments, sizeof(arguments), "burst=1 %s", cases[i].arguments);
		fake_open_good(&host, &module_penalty, arguments);
		ended(cases[i].bad, SECOND, APIKEYD_UNKNOWN_KEY);
		assert_asked(cases[i].asks, SECOND, cases[i].slowed ? APIKEYD_RATE_LIMITED : APIKEYD_SUCCESS,
			     cases[i].slowed ? 6000 : 0);
		fake_close(&host);
	}
}

/* Nobody knows where it came from: nothing is learned and nothing refused. */
static void test_no_address(void **state)
{
	(void)state;
	fake_open_good(&host, &module_penalty, "burst=1");
	for (unsigned i = 0; i < 100; i++)
		ended(NULL, SECOND, APIKEYD_UNKNOWN_KEY);
	assert_asked(NULL, SECOND, APIKEYD_IGNORE, 0);
	assert_asked("0.0.0.0", SECOND, APIKEYD_SUCCESS, 0);
	assert_asked("::", SECOND, APIKEYD_SUCCESS, 0);
	fake_close(&host);
}

static void test_explain(void **state)
{
	struct apikeyd_request request = from("2001:db8::7", SECOND);

	(void)state;
	fake_open_good(&host, &module_penalty, "burst=2");
	request.explain = true;
	request.reason_code = APIKEYD_UNKNOWN_KEY;
	module_penalty.ended(host.instance, &request);
	assert_int_equal(fake_ask(&host, &request), APIKEYD_SUCCESS);
	assert_string_equal(host.detail, "2001:db8::/64: 2 of 2 bad keys left");
	for (unsigned i = 0; i < 2; i++)
		ended("2001:db8::7", SECOND, APIKEYD_UNKNOWN_KEY);
	assert_int_equal(fake_ask(&host, &request), APIKEYD_RATE_LIMITED);
	assert_string_equal(host.detail, "2001:db8::/64: 0 of 2 bad keys left");
	fake_close(&host);
}

/* As long as none is pushed out, sources are slowed as a bucket in whole numbers says. */
static void test_exact(void **state)
{
	enum { SOURCES = 6, PERIOD_US = 7 * SECOND, COUNT = 3, BURST = 4 };
	uint64_t random = fake_seed(), spent[SOURCES] = {0}, slowed = 0, free_to_ask = 0; /* spent: times PERIOD_US */
	int64_t now = SECOND;

	(void)state;
	fake_open_good(&host, &module_penalty, "allow=3/7s burst=4 entries=4096");
	for (unsigned i = 0; i < 100000; i++) {
		int64_t step = (int64_t)fake_below(&random, SECOND / 4);
		unsigned who = (unsigned)fake_below(&random, SOURCES);
		uint64_t level, wait = 0;
		char addr[32];

		now += step;
		for (unsigned s = 0; s < SOURCES; s++)
			spent[s] = spent[s] > (uint64_t)step * COUNT ? spent[s] - (uint64_t)step * COUNT : 0;
		snprintf(addr, sizeof(addr), "198.51.100.%u", who);
		level = spent[who] + PERIOD_US;
		if (level > (uint64_t)BURST * PERIOD_US)
			wait = (level - (uint64_t)BURST * PERIOD_US + COUNT - 1) / COUNT;
		assert_asked(addr, now, wait > 0 ? APIKEYD_RATE_LIMITED : APIKEYD_SUCCESS, (wait + 999) / 1000);
		slowed += wait > 0;
		free_to_ask += wait == 0;
		/* Now and then one that was under way when the allowance was used up. */
		if (fake_below(&random, 20) < (wait > 0 ? 1 : 13)) {
			ended(addr, now, APIKEYD_UNKNOWN_KEY);
			if (level <= 2 * (uint64_t)BURST * PERIOD_US)
				spent[who] = level;
		}
	}
	assert_true(slowed > 10000);
	assert_true(free_to_ask > 1000);
	fake_close(&host);
}

static void address(struct apikeyd_request *request, uint64_t number)
{
	request->addr = (struct apikeyd_addr){.family = number & 1 ? 6 : 4};
	if (number & 1) {
		memcpy(request->addr.bytes, &number, 8); /* all in the /64 */
		request->addr.bytes[12] = (uint8_t)(number >> 3);
	} else {
		uint32_t bytes = (uint32_t)(number >> 1);

		memcpy(request->addr.bytes, &bytes, 4);
	}
}

/* A crowd of attackers, more than are remembered: no address without a bad key is ever slowed, no memory is taken. */
static void test_crowd(void **state)
{
	enum { ATTACKERS = 1000000, ENTRIES = 16384 };
	uint64_t random = fake_seed(), slowed = 0;
	unsigned before;
	size_t bytes = allocated;

	(void)state;
	fake_open_good(&host, &module_penalty, "burst=1 allow=1/h");
	assert_true(allocated - bytes > ENTRIES * sizeof(struct source));
	assert_true(allocated - bytes < ENTRIES * sizeof(struct source) + 65536);
	before = allocations;
	for (uint64_t i = 0; i < ATTACKERS; i++) {
		struct apikeyd_request request = from(NULL, SECOND + (int64_t)i * 10);

		address(&request, 2 * i + (fake_random(&random) & 1));
		request.reason_code = i & 1 ? APIKEYD_UNKNOWN_KEY : APIKEYD_MALFORMED_KEY;
		module_penalty.ended(host.instance, &request);
		slowed += fake_ask(&host, &request) == APIKEYD_RATE_LIMITED;
		/* Somebody else, from where no attacker is. */
		address(&request, 2 * (ATTACKERS + fake_below(&random, ATTACKERS)) + (fake_random(&random) & 1));
		if (fake_ask(&host, &request) != APIKEYD_SUCCESS)
			fail_msg("an address that sent no bad key is slowed (attacker %" PRIu64 ")", i);
	}
	assert_int_equal(slowed, ATTACKERS); /* each, right after its bad key */
	assert_int_equal(allocations, before);
	fake_close(&host);
}

/* Where a set is full, the source with the most bad keys stays. */
static void test_least_goes(void **state)
{
	(void)state;
	fake_open_good(&host, &module_penalty, "burst=20 allow=1/h entries=8");
	for (unsigned i = 0; i < 40; i++)
		ended("192.0.2.1", SECOND, APIKEYD_UNKNOWN_KEY);
	for (unsigned i = 0; i < 10000; i++) {
		char addr[32];

		snprintf(addr, sizeof(addr), "198.51.%u.%u", i / 256, i % 256);
		ended(addr, SECOND, APIKEYD_UNKNOWN_KEY);
	}
	assert_asked("192.0.2.1", SECOND, APIKEYD_RATE_LIMITED, UINT64_C(21) * 3600 * 1000);
	fake_close(&host);
}

/* Without memory the line is refused, and nothing is left behind (the sanitizers see to that). */
static void test_no_memory(void **state)
{
	static const struct apikeyd_value values[] = {
		{.given = true, .number = 10, .period_us = SECOND},
		{.given = true, .number = 20},
		{.given = true, .number = 32},
		{.given = true, .number = 64},
		{.given = true, .number = 10},
	};
	void *instance = NULL;
	unsigned nth = 1;

	(void)state;
	for (;; nth++) {
		char error[256] = "";
		int rc;

		fail_at = nth;
		rc = module_penalty.open(NULL, &host.host.host, values, &instance, error, sizeof(error));
		if (fail_at > 0) {
			assert_int_equal(rc, 0);
			break;
		}
		assert_int_equal(rc, -ENOMEM);
		assert_null(instance);
		assert_string_equal(error, "entries: no table of 10 can be had (Cannot allocate memory); fewer need "
					   "less memory");
	}
	fail_at = 0;
	assert_int_equal(nth, 4);
	module_penalty.close(instance);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_memory),  cmocka_unit_test(test_arguments),  cmocka_unit_test(test_slowed),
		cmocka_unit_test(test_debt),	   cmocka_unit_test(test_list),	      cmocka_unit_test(test_networks),
		cmocka_unit_test(test_no_address), cmocka_unit_test(test_explain),    cmocka_unit_test(test_exact),
		cmocka_unit_test(test_crowd),	   cmocka_unit_test(test_least_goes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
