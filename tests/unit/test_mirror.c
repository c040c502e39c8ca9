/* Which copy is the current one, how old it is, and what time the database has. No clock but the one given. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "daemon/mirror/mirror.h"

enum { SECOND = 1000000 };
static const int64_t day = INT64_C(1700000000) * SECOND; /* of the database */

struct heard {
	struct mirror *mirror;
	unsigned calls;
	uint64_t rev;
	int64_t age;
};

static void hear(void *data)
{
	struct heard *heard = data;

	heard->calls++;
	heard->rev = mirror_rev(heard->mirror);
	heard->age = mirror_age_us(heard->mirror, 100 * SECOND);
}

static struct copy *loaded(uint64_t rev)
{
	struct copy *copy = copy_new(0, 0, 0);

	assert_non_null(copy);
	copy_publish(copy, rev);
	return copy;
}

static void stage_organization(struct copy *copy, int64_t id, const char *slug)
{
	struct copy_organization_row row = {.id = id, .slug = {slug, (uint32_t)strlen(slug)}};

	assert_int_equal(copy_put_organization(copy, &row), 0);
}

static bool has_organization(const struct mirror *mirror, const char *slug)
{
	struct copy_organization found;

	return copy_find_organization(mirror->copy, (struct rpc_text){slug, (uint32_t)strlen(slug)}, &found);
}

static void test_never_loaded(void **state)
{
	struct mirror mirror;

	(void)state;
	mirror_init(&mirror);
	assert_null(mirror.copy);
	assert_int_equal(mirror_rev(&mirror), 0);
	assert_true(mirror_age_us(&mirror, 5) == INT64_MAX);
	assert_true(mirror_age_us(&mirror, INT64_MAX) == INT64_MAX);
	/* A read may end before anything is loaded; that makes nothing young. */
	mirror_confirm(&mirror, 4, day);
	assert_true(mirror_age_us(&mirror, 5) == INT64_MAX);
	mirror_deinit(&mirror);
}

static void test_age(void **state)
{
	struct mirror mirror;

	(void)state;
	mirror_init(&mirror);
	assert_null(mirror_swap(&mirror, loaded(70), 10 * SECOND, day));
	assert_int_equal(mirror_rev(&mirror), 70);
	assert_int_equal(mirror_age_us(&mirror, 10 * SECOND), 0);
	assert_int_equal(mirror_age_us(&mirror, 13 * SECOND), 3 * SECOND);
	/* From when the read was sent, whenever its answer came. */
	mirror_confirm(&mirror, 12 * SECOND, day + 2 * SECOND);
	assert_int_equal(mirror_age_us(&mirror, 13 * SECOND), SECOND);
	assert_int_equal(mirror_rev(&mirror), 70);
	mirror_publish(&mirror, 71, 13 * SECOND, day + 3 * SECOND);
	assert_int_equal(mirror_age_us(&mirror, 13 * SECOND), 0);
	assert_int_equal(mirror_rev(&mirror), 71);
	mirror_deinit(&mirror);
	assert_null(mirror.copy);
}

/* A read that was sent before another and ends after it says nothing new. */
static void test_late_read(void **state)
{
	struct mirror mirror;

	(void)state;
	mirror_init(&mirror);
	mirror_swap(&mirror, loaded(1), 10 * SECOND, day);
	mirror_confirm(&mirror, 20 * SECOND, day + 10 * SECOND);
	mirror_confirm(&mirror, 15 * SECOND, day + 5 * SECOND);
	assert_int_equal(mirror_age_us(&mirror, 20 * SECOND), 0);
	assert_true(mirror_database_now(&mirror, 20 * SECOND) == day + 10 * SECOND);
	mirror_deinit(&mirror);
}

static void test_database_time(void **state)
{
	struct mirror mirror;

	(void)state;
	mirror_init(&mirror);
	mirror_swap(&mirror, loaded(1), 10 * SECOND, day);
	assert_true(mirror_database_now(&mirror, 10 * SECOND) == day);
	assert_true(mirror_database_now(&mirror, 11 * SECOND) == day + SECOND);
	assert_true(mirror_database_now(&mirror, 11 * SECOND + 1) == day + SECOND + 1);
	/* It goes on without reads, for as long as it takes. */
	assert_true(mirror_database_now(&mirror, 86411 * (int64_t)SECOND) == day + 86401 * (int64_t)SECOND);
	mirror_deinit(&mirror);
}

/* The database's clock is set back, or a standby has another: what has expired stays so. */
static void test_time_never_back(void **state)
{
	struct mirror mirror;
	struct copy *old;

	(void)state;
	mirror_init(&mirror);
	mirror_swap(&mirror, loaded(1), 10 * SECOND, day);
	assert_true(mirror_database_now(&mirror, 15 * SECOND) == day + 5 * SECOND);
	/* Asked of an earlier moment. */
	assert_true(mirror_database_now(&mirror, 12 * SECOND) == day + 5 * SECOND);
	mirror_confirm(&mirror, 16 * SECOND, day - 100 * SECOND);
	assert_true(mirror_database_now(&mirror, 16 * SECOND) == day + 5 * SECOND);
	mirror_publish(&mirror, 2, 17 * SECOND, day - 99 * SECOND);
	assert_true(mirror_database_now(&mirror, 17 * SECOND) == day + 5 * SECOND);
	old = mirror_swap(&mirror, loaded(1), 18 * SECOND, day - 98 * SECOND);
	copy_free(old);
	assert_true(mirror_database_now(&mirror, 18 * SECOND) == day + 5 * SECOND);
	/* Once it has come as far again, it goes on. */
	assert_true(mirror_database_now(&mirror, 121 * SECOND) == day + 5 * SECOND);
	assert_true(mirror_database_now(&mirror, 122 * SECOND) == day + 6 * SECOND);
	/* Forward it goes at once. */
	mirror_confirm(&mirror, 123 * SECOND, day + 500 * SECOND);
	assert_true(mirror_database_now(&mirror, 123 * SECOND) == day + 500 * SECOND);
	mirror_deinit(&mirror);
}

static void test_publish(void **state)
{
	struct mirror mirror;
	struct heard heard = {.mirror = &mirror};

	(void)state;
	mirror_init(&mirror);
	mirror.on_rev = hear;
	mirror.on_rev_data = &heard;
	mirror_swap(&mirror, loaded(5), 50 * SECOND, day);
	assert_int_equal(heard.calls, 1);
	assert_int_equal(heard.rev, 5);
	assert_int_equal(heard.age, 50 * SECOND);

	/* Who is told finds the new revision and its age, not those before. */
	stage_organization(mirror.copy, 1, "acme");
	assert_false(has_organization(&mirror, "acme"));
	assert_int_equal(mirror_rev(&mirror), 5);
	mirror_publish(&mirror, 6, 90 * SECOND, day + 40 * SECOND);
	assert_int_equal(heard.calls, 2);
	assert_int_equal(heard.rev, 6);
	assert_int_equal(heard.age, 10 * SECOND);
	assert_true(has_organization(&mirror, "acme"));
	/* Confirming is no new revision. */
	mirror_confirm(&mirror, 91 * SECOND, day + 41 * SECOND);
	assert_int_equal(heard.calls, 2);
	/* Nobody waits. */
	mirror.on_rev = NULL;
	mirror_publish(&mirror, 7, 92 * SECOND, day + 42 * SECOND);
	assert_int_equal(heard.calls, 2);
	assert_int_equal(mirror_rev(&mirror), 7);
	mirror_deinit(&mirror);
}

/* A swap brings another history: a lower revision, an older read, whatever it is. */
static void test_swap(void **state)
{
	struct mirror mirror;
	struct heard heard = {.mirror = &mirror};
	struct copy *first = loaded(100), *second = loaded(30), *old;

	(void)state;
	stage_organization(first, 1, "acme");
	copy_publish(first, 101);
	mirror_init(&mirror);
	mirror.on_rev = hear;
	mirror.on_rev_data = &heard;
	assert_null(mirror_swap(&mirror, first, 10 * SECOND, day));
	assert_int_equal(mirror.history, 0);
	assert_true(has_organization(&mirror, "acme"));
	mirror_confirm(&mirror, 20 * SECOND, day + 10 * SECOND);

	old = mirror_swap(&mirror, second, 15 * SECOND, day + 5 * SECOND);
	assert_ptr_equal(old, first);
	assert_ptr_equal(mirror.copy, second);
	assert_int_equal(mirror_rev(&mirror), 30);
	assert_int_equal(heard.calls, 2);
	assert_int_equal(heard.rev, 30);
	assert_int_equal(mirror.history, 1);
	assert_false(has_organization(&mirror, "acme"));
	/* It is as old as its own read says, not as the last copy's. */
	assert_int_equal(mirror_age_us(&mirror, 20 * SECOND), 5 * SECOND);
	copy_free(old);
	mirror_deinit(&mirror);
}

static void test_boot_clock(void **state)
{
	int64_t before = mirror_boot_now(), after = mirror_boot_now();

	(void)state;
	assert_true(before > 0);
	assert_true(after >= before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_never_loaded),
		cmocka_unit_test(test_age),
		cmocka_unit_test(test_late_read),
		cmocka_unit_test(test_database_time),
		cmocka_unit_test(test_time_never_back),
		cmocka_unit_test(test_publish),
		cmocka_unit_test(test_swap),
		cmocka_unit_test(test_boot_clock),
	};

	return cmocka_run_group_tests_name("mirror", tests, NULL, NULL);
}
