/* Rates: the arithmetic beside a leaky bucket in whole numbers of 128 bits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "daemon/modules/gcra.h"
#include "tests/unit/fake_host.h"

/*
 * The other way to say the same: a bucket that holds what was spent and leaks `count` units in a period. The level is
 * kept times the period, so that it is a whole number whatever the rate.
 */
struct bucket {
	unsigned __int128 level;
	int64_t at_us;
	uint64_t count, period_us, burst;
};

static void leak(struct bucket *bucket, int64_t now_us)
{
	unsigned __int128 gone = (unsigned __int128)bucket->count * (uint64_t)(now_us - bucket->at_us);

	bucket->level = gone < bucket->level ? bucket->level - gone : 0;
	bucket->at_us = now_us;
}

/* Whether it passes; where not, after how many microseconds it would (UINT64_MAX: never). */
static bool bucket_look(struct bucket *bucket, int64_t now_us, uint64_t cost, uint64_t *ret_wait_us)
{
	unsigned __int128 most = (unsigned __int128)bucket->burst * bucket->period_us, level;

	leak(bucket, now_us);
	level = bucket->level + (unsigned __int128)cost * bucket->period_us;
	if (level <= most)
		return true;
	if (cost > bucket->burst)
		*ret_wait_us = UINT64_MAX;
	else
		*ret_wait_us = (uint64_t)((level - most + bucket->count - 1) / bucket->count);
	return false;
}

static void bucket_spend(struct bucket *bucket, uint64_t cost)
{
	bucket->level += (unsigned __int128)cost * bucket->period_us;
}

static void test_bounds(void **state)
{
	static const struct {
		uint64_t count, period_us, burst;
		bool good;
	} cases[] = {
		{1, 1, 1, true},
		{GCRA_COUNT_MAX, GCRA_PERIOD_MAX_US, GCRA_COUNT_MAX, true},
		{GCRA_COUNT_MAX, 1, GCRA_COUNT_MAX, true},
		{1, GCRA_PERIOD_MAX_US, 100, true},
		{1, GCRA_PERIOD_MAX_US, 101, false}, /* more than a hundred years */
		{1, GCRA_PERIOD_MAX_US, GCRA_COUNT_MAX, false},
		{2, GCRA_PERIOD_MAX_US, 200, true},
		{3, GCRA_SPAN_MAX_US, 3, false},
		{0, 1, 1, false},
		{1, 0, 1, false},
		{1, 1, 0, false},
		{GCRA_COUNT_MAX + 1, 1, 1, false},
		{1, GCRA_PERIOD_MAX_US + 1, 1, false},
		{1, 1, GCRA_COUNT_MAX + 1, false},
		{UINT64_MAX, UINT64_MAX, UINT64_MAX, false},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct gcra_rate rate = {.count = 77};

		if (gcra_rate_init(&rate, cases[i].count, cases[i].period_us, cases[i].burst) != cases[i].good)
			fail_msg("case %u", i);
		if (!cases[i].good)
			assert_int_equal(rate.count, 77);
	}
}

/* At the bounds of everything: nothing overflows, and the wait is right. */
static void test_extremes(void **state)
{
	int64_t now = INT64_C(100) * 365 * 86400 * 1000000;
	struct gcra_time full = {0}, next;
	struct gcra_rate rate;
	uint64_t wait;

	(void)state;
	assert_true(gcra_rate_init(&rate, GCRA_COUNT_MAX, GCRA_PERIOD_MAX_US, GCRA_COUNT_MAX));
	assert_int_equal(gcra_look(&rate, &full, now, UINT64_C(1000000) * 1024, &next, &wait), GCRA_NEVER);
	assert_int_equal(gcra_look(&rate, &full, now, UINT64_MAX, &next, &wait), GCRA_NEVER);
	assert_int_equal(gcra_look(&rate, &full, now, GCRA_COUNT_MAX, &next, &wait), GCRA_PASSES);
	full = next;
	assert_int_equal(gcra_look(&rate, &full, now, GCRA_COUNT_MAX, &next, &wait), GCRA_LATER);
	assert_true(wait == GCRA_PERIOD_MAX_US);
	assert_int_equal(gcra_look(&rate, &full, now, 1, &next, &wait), GCRA_LATER);
	assert_true(wait == GCRA_PERIOD_MAX_US / GCRA_COUNT_MAX);
	/* Nothing of the kind for the slowest. */
	full = (struct gcra_time){0};
	assert_true(gcra_rate_init(&rate, 1, GCRA_PERIOD_MAX_US, 100));
	assert_int_equal(gcra_look(&rate, &full, now, 100, &next, &wait), GCRA_PASSES);
	full = next;
	assert_int_equal(gcra_look(&rate, &full, now, 100, &next, &wait), GCRA_LATER);
	assert_true(wait == 100 * GCRA_PERIOD_MAX_US);
}

struct numbers {
	uint64_t count, period_us, burst;
};

static uint64_t some(uint64_t *random, uint64_t most)
{
	/* As many small ones as great ones. */
	uint64_t bound = UINT64_C(1) << fake_below(random, 50);

	return 1 + fake_random(random) % (bound < most ? bound : most);
}

static struct numbers some_numbers(uint64_t *random, struct gcra_rate *ret)
{
	struct numbers numbers;

	do {
		numbers = (struct numbers){
			.count = some(random, GCRA_COUNT_MAX),
			.period_us = some(random, GCRA_PERIOD_MAX_US),
			.burst = some(random, GCRA_COUNT_MAX),
		};
	} while (!gcra_rate_init(ret, numbers.count, numbers.period_us, numbers.burst));
	return numbers;
}

/* How far the clock goes on: nothing, a little, about what a unit takes, or about what was said. */
static int64_t some_time(uint64_t *random, const struct gcra_rate *rate, uint64_t said_us)
{
	switch (fake_below(random, 6)) {
	case 0:
		return 0;
	case 1:
		return (int64_t)fake_below(random, 3);
	case 2:
		return (int64_t)fake_below(random, rate->each_us + 2);
	case 3:
		return (int64_t)said_us;
	case 4:
		return (int64_t)(said_us > 0 ? said_us - 1 : 0);
	default:
		return (int64_t)fake_below(random, rate->span_us / 2 + 2);
	}
}

static void test_exact(void **state)
{
	enum { RATES = 4000, QUESTIONS = 200 };
	uint64_t random = fake_seed(), later = 0, passed = 0, never = 0;

	(void)state;
	for (unsigned r = 0; r < RATES; r++) {
		struct gcra_rate rate;
		struct numbers n = some_numbers(&random, &rate);
		int64_t now = (int64_t)fake_below(&random, UINT64_C(1) << 51);
		struct bucket bucket = {.at_us = now, .count = n.count, .period_us = n.period_us, .burst = n.burst};
		struct gcra_time full = {0}, next;
		uint64_t said = 0;

		for (unsigned q = 0; q < QUESTIONS; q++) {
			uint64_t cost, wait = 0, wanted = 0;
			enum gcra_answer answer;
			bool passes;

			now += some_time(&random, &rate, said);
			cost = fake_below(&random, 4) == 0 ? some(&random, n.burst + n.burst / 8 + 1)
							   : 1 + fake_below(&random, n.burst / 3 + 1);
			if (fake_below(&random, 16) == 0)
				cost = UINT64_C(1000000) * 1024;
			passes = bucket_look(&bucket, now, cost, &wanted);
			answer = gcra_look(&rate, &full, now, cost, &next, &wait);
			if (answer != (passes		      ? GCRA_PASSES
				       : wanted == UINT64_MAX ? GCRA_NEVER
							      : GCRA_LATER) ||
			    (answer == GCRA_LATER && wait != wanted))
				fail_msg("%" PRIu64 "/%" PRIu64 "us burst %" PRIu64 ", cost %" PRIu64
					 ": %d, wait %" PRIu64 " for %" PRIu64,
					 n.count, n.period_us, n.burst, cost, (int)answer, wait, wanted);
			said = answer == GCRA_LATER ? wait : 0;
			assert_int_equal(gcra_is_full(&full, now), bucket.level == 0);
			assert_false(gcra_fit(&rate, &full, now));
			if (q % 32 == 0)
				assert_true(gcra_left(&rate, &full, now) ==
					    n.burst - (uint64_t)((bucket.level + n.period_us - 1) / n.period_us));
			passed += passes;
			later += answer == GCRA_LATER;
			never += answer == GCRA_NEVER;
			if (passes) {
				bucket_spend(&bucket, cost);
				full = next;
			}
		}
	}
	/* It was about something. */
	assert_true(passed > RATES * QUESTIONS / 10);
	assert_true(later > RATES * QUESTIONS / 10);
	assert_true(never > RATES * QUESTIONS / 100);
}

/* What was spent under another rate counts, but keeps nobody out for longer than the new one would. */
static void test_other_rate(void **state)
{
	enum { SECOND = 1000000 };
	struct gcra_rate slow, fast;
	struct gcra_time full = {0}, next;
	uint64_t wait;

	(void)state;
	assert_true(gcra_rate_init(&slow, 3, UINT64_C(86400) * SECOND, 3));
	assert_true(gcra_rate_init(&fast, 7, SECOND, 7));
	assert_int_equal(gcra_look(&slow, &full, 5, 3, &full, &wait), GCRA_PASSES);
	assert_true(gcra_fit(&fast, &full, 5));
	assert_int_equal(gcra_look(&fast, &full, 5, 1, &next, &wait), GCRA_LATER);
	assert_int_equal(wait, SECOND / 7 + 1);
	assert_false(gcra_fit(&fast, &full, 6));
	assert_int_equal(gcra_look(&fast, &full, 5 + (int64_t)wait, 1, &next, &wait), GCRA_PASSES);
	/* Made slower: a second's worth is left to wait for, in parts of other sizes. */
	full = (struct gcra_time){0};
	assert_int_equal(gcra_look(&fast, &full, 5, 5, &full, &wait), GCRA_PASSES);
	assert_int_equal(full.part, 5 * (SECOND % 7) % 7);
	assert_false(gcra_fit(&slow, &full, 5));
	assert_int_equal(gcra_look(&slow, &full, 5, 3, &next, &wait), GCRA_LATER);
	assert_int_equal(wait, 5 * SECOND / 7 + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_extremes),
		cmocka_unit_test(test_exact),
		cmocka_unit_test(test_other_rate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
