/* The histogram of how long answers took. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "daemon/latency.h"

static const struct value *filled(const struct latency *latency, struct arena *arena)
{
	static struct value map;

	value_map(&map);
	assert_true(latency_stats(latency, "it", arena, &map));
	return value_get(&map, "it");
}

static uint64_t within(const struct value *map, uint64_t us)
{
	char name[32];

	snprintf(name, sizeof(name), "le_%llu", (unsigned long long)us);
	assert_non_null(value_get(map, name));
	return value_as_uint(value_get(map, name), UINT64_MAX);
}

/* Each bound is the first that holds what is exactly it, and not a nanosecond more. */
static void test_bounds(void **state)
{
	(void)state;
	for (unsigned i = 0; i < LATENCY_BOUNDS; i++) {
		uint64_t us = UINT64_C(1) << (LATENCY_FIRST + i);
		struct latency latency = {0};

		latency_add(&latency, us * 1000, 1);
		assert_int_equal(latency.within[i], 1);
		latency_add(&latency, us * 1000 + 1, 1);
		assert_int_equal(latency.within[i], 1);
		assert_int_equal(latency.within[i + 1], 1);
		latency_add(&latency, us * 1000 - 1, 1);
		assert_int_equal(latency.within[i], 2);
	}
}

static void test_ends(void **state)
{
	struct latency latency = {0};

	(void)state;
	latency_add(&latency, 0, 1);
	latency_add(&latency, 1, 1);
	assert_int_equal(latency.within[0], 2);
	latency_add(&latency, UINT64_MAX, 1);
	assert_int_equal(latency.within[LATENCY_BOUNDS], 1);
}

/* What is shown adds up from below, and what is beyond all bounds is counted too. */
static void test_stats(void **state)
{
	struct latency latency = {0};
	struct arena arena = {0};
	const struct value *map;

	(void)state;
	latency_add(&latency, 1500, 128);
	latency_add(&latency, 3000, 2);
	latency_add(&latency, 100000, 1);
	latency_add(&latency, UINT64_C(60000000000), 3);
	map = filled(&latency, &arena);
	assert_int_equal(within(map, 2), 128);
	assert_int_equal(within(map, 4), 130);
	assert_int_equal(within(map, 64), 130);
	assert_int_equal(within(map, 128), 131);
	assert_int_equal(within(map, 1 << 24), 131);
	assert_int_equal(value_as_uint(value_get(map, "count"), 0), 134);
	assert_int_equal(value_as_uint(value_get(map, "sum_us"), 0), 180000000 + 192 + 6 + 100);
	assert_int_equal(map->count, LATENCY_BOUNDS + 2);
	arena_clear(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_stats),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
