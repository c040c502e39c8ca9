/*
 * The copy where memory runs out: each allocation that it makes fails once. What was published must answer as before,
 * and what was staged must be forgotten without a trace and succeed when it is tried again.
 *
 * A copy is built anew for each allocation that is to fail, the same each time: seeds are given, its hashes' too. The
 * seed is printed; APIKEYD_TEST_SEED sets it, APIKEYD_TEST_ROUNDS how many worlds live.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "daemon/mirror/copy_internal.h"
#include "tests/unit/copy_world.h"
#include "tests/unit/copy_world_memory.h"
#include "tests/unit/less.h"

/* ---- a world up to the staging that will fail ---- */

enum scene {
	FIRST,	/* nothing was ever there: all is made */
	LOADED, /* nothing was ever staged but a load */
	LATER,	/* a world that has lived, with something still to tidy up */
	SCENES,
	EDGE, /* as the first, where the tables are about to grow */
};

struct life {
	struct copy *copy;
	struct world now, next;
	struct world_seen seen;
	struct world_random random;
};

static int stage(struct life *life, struct world_random *random)
{
	struct world_stager stager = {.copy = life->copy, .random = random, .seen = &life->seen};

	return world_stage(&stager, &life->now, &life->next);
}

static void publish(struct life *life)
{
	copy_publish(life->copy, life->next.rev);
	world_settle(&life->seen, true);
	life->now = life->next;
	world_compare(life->copy, &life->now, &life->seen);
}

static void tidy(struct copy *copy)
{
	while (copy_tidy(copy, 7))
		;
	world_assert_clean(copy);
}

/* Handles are given away, to things that are gone, until few are left before a table needs more room. */
static void wear_out(struct copy *copy)
{
	struct table *tables[] = {&copy->organizations, &copy->pages, &copy->users, &copy->keys, &copy->hashes};

	for (unsigned i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
		while (tables[i]->next < 4 * TABLE_CHUNK - 2)
			assert_int_not_equal(table_add(tables[i]), 0);
	}
}

static void begin(struct life *life, uint64_t seed, enum scene scene)
{
	struct world first;

	memset(life, 0, sizeof(*life));
	memory.hash_seed = seed;
	life->random.state = seed;
	life->copy = copy_new(0, 0, 0);
	assert_non_null(life->copy);
	world_init(&first);
	if (scene == FIRST || scene == EDGE) {
		if (scene == EDGE)
			wear_out(life->copy);
		copy_publish(life->copy, 0);
		world_change(&life->random, &first, &life->next, 60);
		return;
	}
	for (unsigned step = 0; step < (scene == LATER ? 5 : 1); step++) {
		world_change(&life->random, step ? &life->now : &first, &life->next, step ? 12 : 60);
		assert_int_equal(stage(life, &life->random), 0);
		publish(life);
		for (unsigned n = world_below(&life->random, 8); n > 0 && copy_tidy(life->copy, 3); n--)
			;
	}
	world_change(&life->random, &life->now, &life->next, 12);
}

static void end(struct life *life)
{
	copy_free(life->copy);
	world_seen_deinit(&life->seen);
}

/* What is staged fails after `left` allocations; false where it has no more than that. */
static bool stage_and_fail(struct life *life, uint32_t left)
{
	struct world_random random = life->random;
	int rc;

	memory_arm(left);
	rc = stage(life, &random);
	assert_int_equal(rc, memory_disarm() ? -ENOMEM : 0);
	return memory.failed;
}

/* The same, and it is forgotten. */
static bool fail_and_discard(struct life *life, uint32_t left)
{
	if (!stage_and_fail(life, left))
		return false;
	world_compare(life->copy, &life->now, &life->seen);
	copy_discard(life->copy);
	world_settle(&life->seen, false);
	world_compare(life->copy, &life->now, &life->seen);
	tidy(life->copy);
	return true;
}

/* The same again, with memory; and some life after it. */
static void go_on(struct life *life)
{
	for (unsigned step = 0; step < 4; step++) {
		assert_int_equal(stage(life, &life->random), 0);
		world_compare(life->copy, &life->now, &life->seen);
		publish(life);
		tidy(life->copy);
		world_compare(life->copy, &life->now, &life->seen);
		world_change(&life->random, &life->now, &life->next, 12);
	}
}

static uint64_t seed_from(unsigned long *ret_rounds, unsigned long rounds)
{
	const char *seed = getenv("APIKEYD_TEST_SEED"), *text = getenv("APIKEYD_TEST_ROUNDS");

	*ret_rounds = text ? strtoul(text, NULL, 10) : (rounds + LESS - 1) / LESS;
	return seed ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL) * 1000;
}

static void say(uint64_t seed)
{
	/* The last line before a failure is the seed of the world that failed. */
	printf("# APIKEYD_TEST_ROUNDS=1 APIKEYD_TEST_SEED=%llu\n", (unsigned long long)seed);
	fflush(stdout);
}

static void fail_each(uint64_t seed, enum scene scene)
{
	bool failed = true;

	for (uint32_t left = 0; failed; left++) {
		int64_t blocks = memory.blocks;
		struct life life;

		begin(&life, seed, scene);
		failed = fail_and_discard(&life, left);
		if (failed)
			go_on(&life);
		end(&life);
		assert_int_equal(memory.blocks, blocks);
	}
}

static void test_each(void **state)
{
	unsigned long rounds;
	uint64_t seed = seed_from(&rounds, 5);

	(void)state;
	for (unsigned long i = 0; i < rounds; i++) {
		say(seed + i);
		for (unsigned scene = 0; scene < SCENES; scene++)
			fail_each(seed + i, (enum scene)scene);
		if (i == 0)
			fail_each(seed, EDGE);
	}
}

/* What failed need not be forgotten first: the whole copy may go. */
static void give_up_each(uint64_t seed, enum scene scene)
{
	bool failed = true;

	for (uint32_t left = 0; failed; left++) {
		int64_t blocks = memory.blocks;
		struct life life;

		begin(&life, seed, scene);
		failed = stage_and_fail(&life, left);
		end(&life);
		assert_int_equal(memory.blocks, blocks);
	}
}

static void test_given_up(void **state)
{
	unsigned long rounds;
	uint64_t seed = seed_from(&rounds, 2);

	(void)state;
	for (unsigned long i = 0; i < rounds; i++) {
		say(seed + i);
		for (unsigned scene = 0; scene < SCENES; scene++)
			give_up_each(seed + i, (enum scene)scene);
	}
}

/* One copy that meets failure after failure: nothing adds up. */
static void test_lasting(void **state)
{
	unsigned long rounds;
	uint64_t seed = seed_from(&rounds, 2);

	(void)state;
	for (unsigned long i = 0; i < rounds; i++) {
		int64_t blocks = memory.blocks;
		struct life life;

		say(seed + i);
		begin(&life, seed + i, LATER);
		for (unsigned step = 0; step < 100; step++) {
			for (unsigned n = world_below(&life.random, 4); n > 0; n--) {
				if (!fail_and_discard(&life, world_below(&life.random, 60))) {
					copy_discard(life.copy);
					world_settle(&life.seen, false);
					tidy(life.copy);
				}
			}
			assert_int_equal(stage(&life, &life.random), 0);
			publish(&life);
			for (unsigned n = world_below(&life.random, 8); n > 0 && copy_tidy(life.copy, 3); n--)
				;
			world_change(&life.random, &life.now, &life.next, 12);
		}
		tidy(life.copy);
		end(&life);
		assert_int_equal(memory.blocks, blocks);
	}
}

/* ---- what goes needs memory too: each removal is the first that is staged ---- */

static void load_one_of_each(struct copy *copy)
{
	struct copy_user_row user = {.id = 1, .email = {"a@b", 3}};
	struct copy_key_row key = {.id = 1,
				   .kind = KEY_KIND_USER,
				   .owner_id = 1,
				   .not_before = INT64_MIN,
				   .expires_at = INT64_MAX,
				   .retired_at = INT64_MAX};

	assert_int_equal(copy_put_organization(copy, &(struct copy_organization_row){1, {"acme", 4}, false}), 0);
	assert_int_equal(copy_put_organization(copy, &(struct copy_organization_row){2, {"umbra", 5}, false}), 0);
	assert_int_equal(copy_put_page(copy, &(struct copy_page_row){1, 1, {"page", 4}, false}), 0);
	assert_int_equal(copy_put_user(copy, &user), 0);
	assert_int_equal(copy_put_key(copy, &key), 0);
	copy_publish(copy, 1);
}

static int go_organization(struct copy *copy)
{
	return copy_remove_organization(copy, 2);
}
static int go_page(struct copy *copy)
{
	return copy_remove_page(copy, 1);
}
static int go_user(struct copy *copy)
{
	return copy_remove_user(copy, 1);
}
static int go_key(struct copy *copy)
{
	return copy_remove_key(copy, 1);
}
/* It goes from one organization, and comes in the other as another page. */
static int go_over(struct copy *copy)
{
	return copy_put_page(copy, &(struct copy_page_row){1, 2, {"page", 4}, false});
}
/* To an organization that does not stand in the copy. */
static int go_astray(struct copy *copy)
{
	return copy_put_page(copy, &(struct copy_page_row){1, 9, {"page", 4}, false});
}

/* Organizations, pages, users, keys, as one number. */
static unsigned held(const struct copy *copy)
{
	struct copy_counts counts;

	copy_count(copy, &counts);
	return (unsigned)(counts.organizations * 1000 + counts.pages * 100 + counts.users * 10 + counts.keys);
}

static void test_removals(void **state)
{
	static const struct {
		int (*go)(struct copy *copy);
		unsigned held;
	} removals[] = {{go_organization, 1111}, {go_page, 2011}, {go_user, 2101},
			{go_key, 2110},		 {go_over, 2111}, {go_astray, 2011}};

	(void)state;
	for (unsigned i = 0; i < sizeof(removals) / sizeof(*removals); i++) {
		bool failed = true;
		uint32_t left = 0;

		for (; failed; left++) {
			int64_t blocks = memory.blocks;
			struct copy *copy = copy_new(0, 0, 0);
			int rc;

			assert_non_null(copy);
			load_one_of_each(copy);
			memory_arm(left);
			rc = removals[i].go(copy);
			failed = memory_disarm();
			assert_int_equal(rc, failed ? -ENOMEM : 0);
			copy_discard(copy);
			tidy(copy);
			assert_int_equal(held(copy), 2111);
			assert_int_equal(removals[i].go(copy), 0);
			copy_publish(copy, 2);
			tidy(copy);
			assert_int_equal(held(copy), removals[i].held);
			copy_free(copy);
			assert_int_equal(memory.blocks, blocks);
		}
		assert_true(left > 2);
	}
}

/* ---- what was never published ---- */

static void test_new(void **state)
{
	static const uint64_t expected[][3] = {{0, 0, 0}, {90000, 0, 0}, {0, 90000, 0}, {0, 0, 90000}};
	int64_t blocks = memory.blocks;

	(void)state;
	for (unsigned i = 0; i < sizeof(expected) / sizeof(*expected); i++) {
		bool failed = true;

		/* The indexes' segments are like each other: some of them will do. */
		for (uint32_t left = 0; failed; left += left < 4 ? 1 : 59) {
			struct copy *copy;

			memory_arm(left);
			copy = copy_new(expected[i][0], expected[i][1], expected[i][2]);
			failed = memory_disarm();
			assert_int_equal(copy == NULL, failed);
			copy_free(copy);
			assert_int_equal(memory.blocks, blocks);
		}
	}
	memory.no_seed = true;
	assert_null(copy_new(0, 0, 0));
	memory.no_seed = false;
	assert_int_equal(memory.blocks, blocks);
}

static void assert_shows_nothing(const struct copy *copy)
{
	struct copy_organization organization;

	assert_int_equal(copy_rev(copy), 0);
	for (unsigned i = 0; i < WORLD_KEYS; i++) {
		keytext_id id = world_key_id(i);
		const struct copy_key *found;

		copy_find_keys(copy, &id, 1, &found);
		assert_null(found);
	}
	for (unsigned i = 0; i < WORLD_SLUGS; i++) {
		struct rpc_text slug = world_text(world_slugs[i]);
		struct copy_page page;

		copy_find_pages(copy, &slug, 1, &page);
		assert_int_equal(page.handle, 0);
		assert_false(copy_find_organization(copy, slug, &organization));
	}
}

/* A load without memory: the copy shows nothing yet, and is given up. */
static void test_loading(void **state)
{
	unsigned long rounds;
	uint64_t seed = seed_from(&rounds, 3);

	(void)state;
	for (unsigned long i = 0; i < rounds; i++) {
		bool failed = true;

		say(seed + i);
		for (uint32_t left = 0; failed; left++) {
			int64_t blocks = memory.blocks;
			struct life life = {.random = {seed + i}};
			struct world first;

			memory.hash_seed = seed + i;
			life.copy = copy_new(0, 0, 0);
			assert_non_null(life.copy);
			world_init(&first);
			world_change(&life.random, &first, &life.next, 60);
			failed = stage_and_fail(&life, left);
			if (failed) {
				assert_shows_nothing(life.copy);
			} else {
				publish(&life);
				tidy(life.copy);
			}
			end(&life);
			assert_int_equal(memory.blocks, blocks);
		}
	}
}

/* ---- more than a small world has ---- */

enum { THERE = PAGE_RUN - 20, COMING = 90 }; /* more than one run of a page list, and than a first list of pendings */

static int put_pages(struct copy *copy, unsigned from, unsigned to)
{
	int rc = 0;

	for (unsigned i = from; rc == 0 && i < to; i++) {
		char slug[16];
		struct copy_page_row row = {(int64_t)i, 1, {slug, 5}, false};

		snprintf(slug, sizeof(slug), "p%04u", i * 7919 % 10000);
		rc = copy_put_page(copy, &row);
	}
	return rc;
}

struct walk {
	unsigned count, listed[10000];
};

static bool on_page(void *data, const struct copy_page *page)
{
	struct walk *walk = data;
	unsigned number = (unsigned)strtoul(page->slug.data + 1, NULL, 10);

	assert_true(walk->count == 0 || walk->listed[walk->count - 1] < number);
	assert_int_equal(number, (unsigned)page->id * 7919 % 10000);
	walk->listed[walk->count++] = number;
	return true;
}

static void assert_pages(const struct copy *copy, unsigned count)
{
	struct copy_organization organization;
	struct walk walk = {0};

	assert_true(copy_find_organization(copy, world_text("acme"), &organization));
	copy_walk_pages(copy, organization.handle, (struct rpc_text){0}, on_page, &walk);
	assert_int_equal(walk.count, count);
}

static void test_many_pages(void **state)
{
	bool failed = true;

	(void)state;
	memory.hash_seed = 1;
	for (uint32_t left = 0; failed; left++) {
		int64_t blocks = memory.blocks;
		struct copy *copy = copy_new(0, 0, 0);
		struct copy_organization_row acme = {1, {"acme", 4}, false};
		int rc;

		assert_non_null(copy);
		assert_int_equal(copy_put_organization(copy, &acme), 0);
		assert_int_equal(put_pages(copy, 0, THERE), 0);
		copy_publish(copy, 1);
		memory_arm(left);
		rc = put_pages(copy, THERE, THERE + COMING);
		failed = memory_disarm();
		assert_int_equal(rc, failed ? -ENOMEM : 0);
		assert_pages(copy, THERE);
		copy_discard(copy);
		tidy(copy);
		assert_pages(copy, THERE);
		assert_int_equal(put_pages(copy, THERE, THERE + COMING), 0);
		copy_publish(copy, 2);
		assert_pages(copy, THERE + COMING);
		tidy(copy);
		assert_pages(copy, THERE + COMING);
		copy_free(copy);
		assert_int_equal(memory.blocks, blocks);
	}
}

/* All of the above were of use: each way to memory was barred. */
static void test_all_were_met(void **state)
{
	(void)state;
	for (unsigned i = 0; i < MEMORY_ALLOCATORS; i++) {
		printf("# allocator %u failed %lu times\n", i, memory.failures[i]);
		assert_true(memory.failures[i] > 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_new),	 cmocka_unit_test(test_loading),      cmocka_unit_test(test_each),
		cmocka_unit_test(test_given_up), cmocka_unit_test(test_lasting),      cmocka_unit_test(test_many_pages),
		cmocka_unit_test(test_removals), cmocka_unit_test(test_all_were_met),
	};

	return cmocka_run_group_tests_name("copy_memory", tests, NULL, NULL);
}
