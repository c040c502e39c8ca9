/* rate: which limits apply, what is spent, what is left; beside leaky buckets in whole numbers. */
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

#include "daemon/modules/table.h"
#include "tests/unit/fake_host.h"

enum { MS = 1000, SECOND = 1000000, MINUTE = 60 * SECOND };

/* ---- memory: what is taken while requests are judged ---- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);

static unsigned allocations;
static unsigned fail_at; /* which calloc from now on finds no memory; 0: none */

void *__wrap_malloc(size_t size)
{
	allocations++;
	return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	if (fail_at > 0 && --fail_at == 0)
		return NULL;
	allocations++;
	return __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
	allocations++;
	return __real_realloc(old, size);
}

/* ---- one line ---- */

static struct fake_host host;

static struct apikeyd_request ask_at(int64_t boot_us)
{
	struct apikeyd_request request = fake_request(APIKEYD_GROUP_ACCOUNT);

	request.boot_us = boot_us;
	return request;
}

static struct apikeyd_request own_rate(int64_t boot_us, uint64_t count, uint64_t period_us)
{
	struct apikeyd_request request = ask_at(boot_us);

	request.rate_count = count;
	request.rate_period_us = period_us;
	return request;
}

#define assert_asked(request, code, ms)                                                                                \
	do {                                                                                                           \
		assert_int_equal(fake_ask(&host, &(request)), code);                                                   \
		assert_int_equal(host.retry_ms, ms);                                                                   \
	} while (0)

static void test_arguments(void **state)
{
	static const struct {
		const char *arguments, *error;
	} cases[] = {
		{"burst=5", "burst: there is no limit for it; give limit= too, or leave both out"},
		{"by=addr", "by: there is no limit for it; give limit= too, or leave both out"},
		{"limit=1/365d burst=101",
		 "burst: would take more than 100 years to come back; a smaller burst or a faster limit"},
		{"limit=0/s", "host: limit must be how many in which time, such as 100/s, 5/min, 1000/h, 1/5s: 1 to "
			      "1000000000, in at most 365d"},
		{"limit=1/s burst=0", "host: burst must be a whole number from 1 to 1000000000"},
		{"by=page", "host: by must be key, user, org, addr or caller"},
		{"entries=0", "host: entries must be a whole number from 1 to 4194304"},
	};
	static const char *const good[] = {"", "limit=1000000000/365d", "limit=1/365d burst=100", "limit=1/5s by=addr",
					   "limit=10/ms burst=1000000000 entries=1"};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(fake_open(&host, &module_rate, cases[i].arguments), -EINVAL);
		assert_string_equal(host.error, cases[i].error);
	}
	for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		fake_open_good(&host, &module_rate, good[i]);
		fake_close(&host);
	}
}

static void test_own_rate(void **state)
{
	struct apikeyd_request request = own_rate(SECOND, 3, SECOND), other;

	(void)state;
	fake_open_good(&host, &module_rate, "");
	/* Its burst is its count. The fourth waits for a third of a second, rounded up to a millisecond. */
	for (unsigned i = 0; i < 3; i++)
		assert_asked(request, APIKEYD_SUCCESS, 0);
	assert_asked(request, APIKEYD_RATE_LIMITED, 334);
	/* What was refused has spent nothing. */
	assert_asked(request, APIKEYD_RATE_LIMITED, 334);
	request.boot_us += 333 * MS;
	assert_asked(request, APIKEYD_RATE_LIMITED, 1);
	request.boot_us += 1 * MS;
	assert_asked(request, APIKEYD_SUCCESS, 0);
	assert_asked(request, APIKEYD_RATE_LIMITED, 333);
	/* Another key, and a key of another kind with the same id, have theirs. */
	other = request;
	other.key_id = fake_text("kkkkkkkkkl");
	assert_asked(other, APIKEYD_SUCCESS, 0);
	other = request;
	other.key_letter = 'b';
	assert_asked(other, APIKEYD_SUCCESS, 0);
	assert_asked(request, APIKEYD_RATE_LIMITED, 333);
	fake_close(&host);
}

/* Nothing to charge: no opinion. */
static void test_nothing_applies(void **state)
{
	struct apikeyd_request request = ask_at(SECOND);

	(void)state;
	fake_open_good(&host, &module_rate, "");
	assert_asked(request, APIKEYD_IGNORE, 0);
	request.explain = true;
	assert_asked(request, APIKEYD_IGNORE, 0);
	assert_string_equal(host.detail, "no limit applies");
	fake_close(&host);
}

static void test_cost(void **state)
{
	struct apikeyd_request request = own_rate(SECOND, 10, MINUTE);

	(void)state;
	fake_open_good(&host, &module_rate, "");
	request.cost = 11; /* never */
	assert_asked(request, APIKEYD_RATE_LIMITED, 0);
	request.cost = UINT64_C(1000000) * 1024;
	assert_asked(request, APIKEYD_RATE_LIMITED, 0);
	request.cost = 7;
	assert_asked(request, APIKEYD_SUCCESS, 0);
	request.cost = 4;
	assert_asked(request, APIKEYD_RATE_LIMITED, 6000);
	request.cost = 3;
	assert_asked(request, APIKEYD_SUCCESS, 0);
	request.cost = 10;
	assert_asked(request, APIKEYD_RATE_LIMITED, 60000);
	fake_close(&host);
}

/* At the bounds of what the store and the protocol allow. */
static void test_bounds(void **state)
{
	struct apikeyd_request request =
		own_rate(INT64_C(3153600000) * SECOND, 1000000000, UINT64_C(31536000) * SECOND);

	(void)state;
	fake_open_good(&host, &module_rate, "limit=1/365d burst=100");
	request.cost = 1000000000;
	assert_asked(request, APIKEYD_RATE_LIMITED, 0);
	fake_close(&host);
	fake_open_good(&host, &module_rate, "");
	assert_asked(request, APIKEYD_SUCCESS, 0);
	assert_asked(request, APIKEYD_RATE_LIMITED, UINT64_C(31536000) * 1000);
	request.cost = UINT64_C(1024) * 1000000;
	assert_asked(request, APIKEYD_RATE_LIMITED, 0);
	request.cost = UINT64_MAX;
	assert_asked(request, APIKEYD_RATE_LIMITED, 0);
	/* No rate that the store can have. */
	request.rate_period_us = 0;
	assert_asked(request, APIKEYD_MODULE_FAULT, 0);
	request.rate_period_us = UINT64_MAX;
	assert_asked(request, APIKEYD_MODULE_FAULT, 0);
	request = own_rate(SECOND, UINT64_C(1) << 32, SECOND);
	assert_asked(request, APIKEYD_MODULE_FAULT, 0);
	request = own_rate(SECOND, 1, SECOND);
	request.key_id.data = NULL;
	assert_asked(request, APIKEYD_MODULE_FAULT, 0);
	fake_close(&host);
}

static void test_burst(void **state)
{
	struct apikeyd_request request = ask_at(SECOND);

	(void)state;
	fake_open_good(&host, &module_rate, "limit=10/s burst=2");
	assert_asked(request, APIKEYD_SUCCESS, 0);
	assert_asked(request, APIKEYD_SUCCESS, 0);
	assert_asked(request, APIKEYD_RATE_LIMITED, 100);
	request.cost = 3;
	assert_asked(request, APIKEYD_RATE_LIMITED, 0);
	fake_close(&host);
	/* Without it, the rate's number. */
	fake_open_good(&host, &module_rate, "limit=4/s");
	request.cost = 4;
	assert_asked(request, APIKEYD_SUCCESS, 0);
	assert_asked(request, APIKEYD_RATE_LIMITED, 1000);
	fake_close(&host);
}

/* Both limits or neither; what is said to wait for is the longer. */
static void test_all_or_nothing(void **state)
{
	struct apikeyd_request request = own_rate(SECOND, 2, SECOND), other;

	(void)state;
	fake_open_good(&host, &module_rate, "limit=3/h by=user");
	assert_asked(request, APIKEYD_SUCCESS, 0);
	assert_asked(request, APIKEYD_SUCCESS, 0);
	/* The key's own refuses: the user's third is not spent. */
	assert_asked(request, APIKEYD_RATE_LIMITED, 500);
	other = request;
	other.key_id = fake_text("llllllllll");
	assert_asked(other, APIKEYD_SUCCESS, 0);
	/* Now the user's refuses: the other key's second is not spent. */
	assert_asked(other, APIKEYD_RATE_LIMITED, 1200 * 1000);
	assert_asked(request, APIKEYD_RATE_LIMITED, 1200 * 1000);
	other.key_user = fake_text("bob@example.org");
	assert_asked(other, APIKEYD_SUCCESS, 0);
	assert_asked(other, APIKEYD_RATE_LIMITED, 500);
	/* One of the two never: no time is told. */
	other.cost = 3;
	assert_asked(other, APIKEYD_RATE_LIMITED, 0);
	fake_close(&host);
}

/* What a limit counts for itself, and what it does not know. */
static void test_by(void **state)
{
	struct apikeyd_request a = ask_at(SECOND), b;

	(void)state;
	fake_open_good(&host, &module_rate, "limit=1/h by=key");
	assert_asked(a, APIKEYD_SUCCESS, 0);
	b = a;
	b.uid = 5;
	b.key_user = fake_text("bob@example.org");
	assert_asked(b, APIKEYD_RATE_LIMITED, 3600 * 1000);
	fake_close(&host);

	fake_open_good(&host, &module_rate, "limit=1/h by=user");
	assert_asked(a, APIKEYD_SUCCESS, 0);
	b = a;
	b.key_id = fake_text("llllllllll");
	assert_asked(b, APIKEYD_RATE_LIMITED, 3600 * 1000);
	b.kind = APIKEYD_KIND_ORGANIZATION;
	b.key_org = fake_text("acme");
	assert_asked(b, APIKEYD_IGNORE, 0);
	fake_close(&host);

	fake_open_good(&host, &module_rate, "limit=1/h by=org");
	assert_asked(b, APIKEYD_SUCCESS, 0);
	b.key_id = fake_text("mmmmmmmmmm");
	assert_asked(b, APIKEYD_RATE_LIMITED, 3600 * 1000);
	b.key_org = fake_text("acme2");
	assert_asked(b, APIKEYD_SUCCESS, 0);
	b = ask_at(SECOND);
	b.org = fake_text("acme"); /* what a user names is not what the key is of */
	assert_asked(b, APIKEYD_IGNORE, 0);
	fake_close(&host);

	fake_open_good(&host, &module_rate, "limit=1/h by=addr");
	assert_asked(a, APIKEYD_IGNORE, 0);
	a.addr = fake_addr("192.0.2.1");
	assert_asked(a, APIKEYD_SUCCESS, 0);
	a.key_id = fake_text("llllllllll");
	assert_asked(a, APIKEYD_RATE_LIMITED, 3600 * 1000);
	a.addr = fake_addr("192.0.2.2");
	assert_asked(a, APIKEYD_SUCCESS, 0);
	a.addr = fake_addr("2001:db8:1:2::1");
	assert_asked(a, APIKEYD_SUCCESS, 0);
	a.addr = fake_addr("2001:db8:1:2:ffff::1"); /* the same /64 */
	assert_asked(a, APIKEYD_RATE_LIMITED, 3600 * 1000);
	a.addr = fake_addr("2001:db8:1:3::1");
	assert_asked(a, APIKEYD_SUCCESS, 0);
	a.addr = fake_addr("c000:0201::1"); /* begins as 192.0.2.1 does */
	assert_asked(a, APIKEYD_SUCCESS, 0);
	fake_close(&host);

	a = ask_at(SECOND);
	fake_open_good(&host, &module_rate, "limit=1/h by=caller");
	assert_asked(a, APIKEYD_SUCCESS, 0);
	a.key_id = fake_text("llllllllll");
	assert_asked(a, APIKEYD_RATE_LIMITED, 3600 * 1000);
	a.uid++;
	assert_asked(a, APIKEYD_SUCCESS, 0);
	fake_close(&host);
}

/* Names as long as the store allows, and none longer. */
static void test_long_names(void **state)
{
	char name[300];
	struct apikeyd_request request = ask_at(SECOND);

	(void)state;
	memset(name, 'x', sizeof(name));
	fake_open_good(&host, &module_rate, "limit=1/h by=user");
	request.key_user = (struct apikeyd_text){name, 254};
	assert_asked(request, APIKEYD_SUCCESS, 0);
	assert_asked(request, APIKEYD_RATE_LIMITED, 3600 * 1000);
	request.key_user.len = 253;
	assert_asked(request, APIKEYD_SUCCESS, 0);
	request.key_user.len = 300;
	assert_asked(request, APIKEYD_MODULE_FAULT, 0);
	fake_close(&host);
}

static void test_overload(void **state)
{
	static const char *const keys[] = {"aaaaaaaaaa", "bbbbbbbbbb", "cccccccccc"};
	struct apikeyd_request request = own_rate(SECOND, 1, SECOND);

	(void)state;
	fake_open_good(&host, &module_rate, "entries=2 limit=100/s by=caller");
	for (unsigned i = 0; i < 2; i++) {
		request.key_id = fake_text(keys[i]);
		assert_asked(request, APIKEYD_SUCCESS, 0);
	}
	request.key_id = fake_text(keys[2]);
	request.explain = true;
	assert_asked(request, APIKEYD_OVERLOAD, 0);
	assert_int_equal(host.line_count, 0);
	request.explain = false;
	assert_asked(request, APIKEYD_OVERLOAD, 0);
	assert_asked(request, APIKEYD_OVERLOAD, 0);
	/* Once a minute it says so. */
	assert_int_equal(host.line_count, 1);
	assert_int_equal(host.levels[0], APIKEYD_LOG_WARNING);
	assert_string_equal(host.lines[0], "no room for another one to count: all 2 are in use; raise entries=");
	/* The two that are remembered still are. */
	for (unsigned i = 0; i < 2; i++) {
		request.key_id = fake_text(keys[i]);
		assert_asked(request, APIKEYD_RATE_LIMITED, 1000);
	}
	request.key_id = fake_text(keys[2]);
	request.boot_us += SECOND - 1;
	assert_asked(request, APIKEYD_OVERLOAD, 0);
	request.boot_us += 1;
	assert_asked(request, APIKEYD_SUCCESS, 0);
	assert_int_equal(host.line_count, 1);
	/* Nothing of the other limit was spent on what was not answered. */
	request.explain = true;
	assert_asked(request, APIKEYD_RATE_LIMITED, 1000);
	assert_string_equal(host.detail, "the key's own rate: 0 of 1 left; the line's limit: 99 of 100 left");
	fake_close(&host);
}

static void test_explain(void **state)
{
	struct apikeyd_request request = own_rate(SECOND, 3, SECOND), look;

	(void)state;
	fake_open_good(&host, &module_rate, "limit=2/s by=caller");
	look = request;
	look.explain = true;
	for (unsigned i = 0; i < 5; i++) {
		assert_asked(look, APIKEYD_SUCCESS, 0);
		assert_string_equal(host.detail, "the key's own rate: 3 of 3 left; the line's limit: 2 of 2 left");
	}
	assert_asked(request, APIKEYD_SUCCESS, 0);
	assert_asked(look, APIKEYD_SUCCESS, 0);
	assert_string_equal(host.detail, "the key's own rate: 2 of 3 left; the line's limit: 1 of 2 left");
	assert_asked(request, APIKEYD_SUCCESS, 0);
	assert_asked(look, APIKEYD_RATE_LIMITED, 500);
	assert_string_equal(host.detail, "the key's own rate: 1 of 3 left; the line's limit: 0 of 2 left");
	fake_close(&host);
	/* What was spent under another rate is only looked at, too. */
	fake_open_good(&host, &module_rate, "");
	request = look = own_rate(SECOND, 1, UINT64_C(3600) * SECOND);
	look.explain = true;
	look.rate_period_us = SECOND;
	assert_asked(request, APIKEYD_SUCCESS, 0);
	assert_asked(look, APIKEYD_RATE_LIMITED, 1000);
	assert_asked(request, APIKEYD_RATE_LIMITED, 3600 * 1000);
	fake_close(&host);
}

/* A key whose rate was raised is not kept waiting by the old one. */
static void test_raised(void **state)
{
	struct apikeyd_request request = own_rate(SECOND, 1, UINT64_C(86400) * SECOND);

	(void)state;
	fake_open_good(&host, &module_rate, "entries=1");
	assert_asked(request, APIKEYD_SUCCESS, 0);
	assert_asked(request, APIKEYD_RATE_LIMITED, 86400 * 1000);
	request.rate_count = 10;
	request.rate_period_us = SECOND;
	request.boot_us += 7 * SECOND;
	assert_asked(request, APIKEYD_RATE_LIMITED, 100);
	request.boot_us += 100 * MS;
	assert_asked(request, APIKEYD_SUCCESS, 0);
	/* Nor does it hold its place any longer. */
	request.boot_us += SECOND;
	request.key_id = fake_text("llllllllll");
	assert_asked(request, APIKEYD_SUCCESS, 0);
	fake_close(&host);
}

static void test_no_allocation(void **state)
{
	uint64_t random = fake_seed();
	unsigned before;

	(void)state;
	fake_open_good(&host, &module_rate, "limit=5/s by=addr entries=1000");
	before = allocations;
	assert_true(before > 0); /* those of the opening are seen */
	for (unsigned i = 0; i < 200000; i++) {
		struct apikeyd_request request = own_rate(SECOND + (int64_t)i * 500, 2, SECOND);
		char id[16];

		snprintf(id, sizeof(id), "%010u", (unsigned)fake_below(&random, 50000));
		request.key_id = fake_text(id);
		request.addr.family = 4;
		memcpy(request.addr.bytes, &i, 4);
		fake_ask(&host, &request);
	}
	assert_int_equal(allocations, before);
	fake_close(&host);
}

/* ---- random questions ---- */

enum { KEYS = 12, CALLERS = 5 };

struct bucket {
	unsigned __int128 level; /* what was spent, times the period */
	int64_t at_us;
	uint64_t count, period_us, burst;
};

static bool bucket_look(struct bucket *bucket, int64_t now, uint64_t cost, uint64_t *wait_us)
{
	unsigned __int128 most = (unsigned __int128)bucket->burst * bucket->period_us, level, gone;

	gone = (unsigned __int128)bucket->count * (uint64_t)(now - bucket->at_us);
	bucket->level = gone < bucket->level ? bucket->level - gone : 0;
	bucket->at_us = now;
	level = bucket->level + (unsigned __int128)cost * bucket->period_us;
	*wait_us = cost > bucket->burst ? UINT64_MAX
		   : level > most	? (uint64_t)((level - most + bucket->count - 1) / bucket->count)
					: 0;
	return level <= most;
}

static unsigned live(struct bucket *buckets, unsigned count, int64_t now)
{
	unsigned n = 0;
	uint64_t wait;

	for (unsigned i = 0; i < count; i++) {
		bucket_look(&buckets[i], now, 0, &wait);
		n += buckets[i].level > 0;
	}
	return n;
}

struct world {
	struct bucket keys[KEYS], callers[CALLERS];
	unsigned entries;
	unsigned seen[APIKEYD_CODE_END], nevers;
};

/* What the module must answer, and the milliseconds it must name. */
static enum apikeyd_code judge(struct world *world, const struct apikeyd_request *request, unsigned key,
			       uint64_t *ret_ms)
{
	struct bucket *own = &world->keys[key], *caller = &world->callers[request->uid];
	uint64_t wait[2] = {0}, longest;
	bool narrowed = own->count > 0;

	*ret_ms = 0;
	if (narrowed)
		bucket_look(own, request->boot_us, request->cost, &wait[0]);
	bucket_look(caller, request->boot_us, request->cost, &wait[1]);
	longest = wait[0] > wait[1] ? wait[0] : wait[1];
	if (longest > 0) {
		*ret_ms = longest == UINT64_MAX ? 0 : (longest + 999) / 1000;
		world->nevers += longest == UINT64_MAX;
		return APIKEYD_RATE_LIMITED;
	}
	if ((narrowed && own->level == 0 && live(world->keys, KEYS, request->boot_us) >= world->entries) ||
	    (caller->level == 0 && live(world->callers, CALLERS, request->boot_us) >= world->entries))
		return APIKEYD_OVERLOAD;
	if (!request->explain) {
		if (narrowed)
			own->level += (unsigned __int128)request->cost * own->period_us;
		caller->level += (unsigned __int128)request->cost * caller->period_us;
	}
	return APIKEYD_SUCCESS;
}

static void random_world(uint64_t *random, struct world *world)
{
	char arguments[128];
	uint64_t count = 1 + fake_below(random, 20), seconds = 1 + fake_below(random, 5),
		 burst = 1 + fake_below(random, 30);
	int64_t now = 1 + (int64_t)fake_below(random, UINT64_C(1) << 45);

	world->entries = 1 + (unsigned)fake_below(random, KEYS);
	snprintf(arguments, sizeof(arguments), "limit=%" PRIu64 "/%" PRIu64 "s burst=%" PRIu64 " by=caller entries=%u",
		 count, seconds, burst, world->entries);
	fake_open_good(&host, &module_rate, arguments);
	for (unsigned i = 0; i < CALLERS; i++)
		world->callers[i] =
			(struct bucket){.at_us = now, .count = count, .period_us = seconds * SECOND, .burst = burst};
	for (unsigned i = 0; i < KEYS; i++) {
		uint64_t own = fake_below(random, 3) == 0 ? 0 : 1 + fake_below(random, 15);

		world->keys[i] = (struct bucket){
			.at_us = now, .count = own, .period_us = (1 + fake_below(random, 4)) * SECOND, .burst = own};
	}
	for (unsigned i = 0; i < 2000; i++) {
		unsigned key = (unsigned)fake_below(random, KEYS);
		struct apikeyd_request request;
		enum apikeyd_code wanted, code;
		uint64_t ms;
		char id[16];

		now += (int64_t)fake_below(random, fake_below(random, 3) == 0 ? SECOND : 30 * MS);
		request = own_rate(now, world->keys[key].count, world->keys[key].period_us);
		snprintf(id, sizeof(id), "key%u", key);
		request.key_id = fake_text(id);
		request.uid = (uid_t)fake_below(random, CALLERS);
		request.cost = 1 + fake_below(random, 4);
		if (fake_below(random, 20) == 0)
			request.cost = 1 + fake_below(random, 2 * burst);
		request.explain = fake_below(random, 5) == 0;
		wanted = judge(world, &request, key, &ms);
		code = fake_ask(&host, &request);
		if (code != wanted || host.retry_ms != ms)
			fail_msg("question %u: %d after %" PRIu64 " ms for %d after %" PRIu64, i, (int)code,
				 host.retry_ms, (int)wanted, ms);
		world->seen[code]++;
	}
	fake_close(&host);
}

static void test_random(void **state)
{
	enum { WORLDS = 300 };
	uint64_t random = fake_seed();
	struct world *world = calloc(1, sizeof(*world));

	(void)state;
	assert_non_null(world);
	for (unsigned i = 0; i < WORLDS; i++)
		random_world(&random, world);
	assert_true(world->seen[APIKEYD_SUCCESS] > WORLDS * 200);
	assert_true(world->seen[APIKEYD_RATE_LIMITED] > WORLDS * 200);
	assert_true(world->seen[APIKEYD_OVERLOAD] > WORLDS * 10);
	assert_true(world->nevers > WORLDS);
	free(world);
}

/* Without memory the line is refused, and nothing is left behind (the sanitizers see to that). */
static void test_no_memory(void **state)
{
	static const struct apikeyd_value values[] = {
		{.given = true, .number = 5, .period_us = SECOND},
		{.given = false},
		{.given = true, .text = "user"},
		{.given = true, .number = 10},
	};
	void *instance = NULL;
	unsigned nth = 1;

	(void)state;
	for (;; nth++) {
		char error[256] = "";
		int rc;

		fail_at = nth;
		rc = module_rate.open(NULL, &host.host.host, values, &instance, error, sizeof(error));
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
	assert_int_equal(nth, 12);
	module_rate.close(instance);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_memory), cmocka_unit_test(test_arguments),
		cmocka_unit_test(test_own_rate),  cmocka_unit_test(test_nothing_applies),
		cmocka_unit_test(test_cost),	  cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_burst),	  cmocka_unit_test(test_all_or_nothing),
		cmocka_unit_test(test_by),	  cmocka_unit_test(test_long_names),
		cmocka_unit_test(test_overload),  cmocka_unit_test(test_explain),
		cmocka_unit_test(test_raised),	  cmocka_unit_test(test_no_allocation),
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
