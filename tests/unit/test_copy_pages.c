/*
 * The pages of one organization where they are many: they come, go, change their slugs and are walked in order, beside
 * a plain array of what there should be. The seed is printed; APIKEYD_TEST_SEED sets it.
 */
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

enum { PAGES = 4000, SLUGS = 5000, ORGANIZATIONS = 2 };

/* Slugs are numbers, since text sorts them otherwise; a slug is of one page, whatever the organization. */
struct model {
	unsigned organization[PAGES]; /* 0: no such page */
	unsigned slug[PAGES];
	bool taken[SLUGS];
};

static struct copy *with_organizations(void)
{
	struct copy *copy = copy_new(0, 0, 0);

	assert_non_null(copy);
	assert_int_equal(copy_put_organization(copy, &(struct copy_organization_row){1, {"acme", 4}, false}), 0);
	assert_int_equal(copy_put_organization(copy, &(struct copy_organization_row){2, {"umbra", 5}, false}), 0);
	return copy;
}

static void put(struct copy *copy, unsigned page, unsigned organization, unsigned slug)
{
	char text[16];
	struct copy_page_row row = {
		page, organization, {text, (uint32_t)snprintf(text, sizeof(text), "p%u", slug)}, false};

	assert_int_equal(copy_put_page(copy, &row), 0);
}

static void tidy(struct copy *copy)
{
	while (copy_tidy(copy, 100))
		;
	world_assert_clean(copy);
}

/* ---- what a walk shows ---- */

struct walk {
	char slugs[SLUGS][16];
	unsigned count;
};

static bool on_page(void *data, const struct copy_page *page)
{
	struct walk *walk = data;

	assert_in_range(walk->count, 0, SLUGS - 1);
	snprintf(walk->slugs[walk->count++], sizeof(walk->slugs[0]), "%.*s", (int)page->slug.len, page->slug.data);
	return true;
}

static void walk_from(const struct copy *copy, unsigned organization, const char *after, struct walk *ret)
{
	struct copy_organization found;

	assert_true(copy_find_organization(copy, world_text(organization == 1 ? "acme" : "umbra"), &found));
	ret->count = 0;
	copy_walk_pages(copy, found.handle, after ? world_text(after) : (struct rpc_text){0}, on_page, ret);
}

static int by_bytes(const void *a, const void *b)
{
	return strcmp(a, b);
}

static void compare(const struct copy *copy, const struct model *model, unsigned after)
{
	static struct walk walk, wanted;
	char text[16];

	snprintf(text, sizeof(text), "p%u", after);
	for (unsigned organization = 1; organization <= ORGANIZATIONS; organization++) {
		unsigned skipped = 0;

		wanted.count = 0;
		for (unsigned i = 0; i < PAGES; i++) {
			if (model->organization[i] == organization)
				snprintf(wanted.slugs[wanted.count++], sizeof(wanted.slugs[0]), "p%u", model->slug[i]);
		}
		qsort(wanted.slugs, wanted.count, sizeof(wanted.slugs[0]), by_bytes);
		walk_from(copy, organization, NULL, &walk);
		assert_int_equal(walk.count, wanted.count);
		for (unsigned i = 0; i < walk.count; i++)
			assert_string_equal(walk.slugs[i], wanted.slugs[i]);
		while (skipped < wanted.count && strcmp(wanted.slugs[skipped], text) <= 0)
			skipped++;
		walk_from(copy, organization, text, &walk);
		assert_int_equal(walk.count, wanted.count - skipped);
		if (walk.count)
			assert_string_equal(walk.slugs[0], wanted.slugs[skipped]);
	}
}

/* ---- at random ---- */

/* One page comes, goes, or gets another slug or organization; `greed` of 8 come rather than go. */
static void change(struct world_random *random, struct model *model, unsigned greed)
{
	unsigned page = world_below(random, PAGES), slug;

	if (model->organization[page])
		model->taken[model->slug[page]] = false;
	if (world_below(random, 8) >= greed) {
		model->organization[page] = 0;
		return;
	}
	do
		slug = world_below(random, SLUGS);
	while (model->taken[slug]);
	if (!model->organization[page] || world_below(random, 20) == 0)
		model->organization[page] = 1 + (world_below(random, 5) == 0);
	model->slug[page] = slug;
	model->taken[slug] = true;
}

/* What differs, in any order: a slug may be of two pages for a while. */
static void stage(struct world_random *random, struct copy *copy, const struct model *from, const struct model *to)
{
	unsigned first = world_below(random, PAGES), step = 1 + 2 * world_below(random, 20);

	/* An odd step that 5 does not divide meets every page once. */
	step += step % 5 == 0 ? 2 : 0;
	for (unsigned n = 0, i = first; n < PAGES; n++, i = (i + step) % PAGES) {
		if (from->organization[i] == to->organization[i] &&
		    (!to->organization[i] || from->slug[i] == to->slug[i]))
			continue;
		if (to->organization[i])
			put(copy, i, to->organization[i], to->slug[i]);
		else
			assert_int_equal(copy_remove_page(copy, i), 0);
	}
}

static void test_random(void **state)
{
	static const unsigned greeds[] = {8, 8, 6, 4, 4, 1, 0, 7, 2, 0};
	static struct model now, next;
	const char *text = getenv("APIKEYD_TEST_SEED");
	struct world_random random = {text ? strtoull(text, NULL, 10) : (uint64_t)time(NULL) * 1000};
	struct copy *copy = with_organizations();

	(void)state;
	printf("# APIKEYD_TEST_SEED=%llu\n", (unsigned long long)random.state);
	fflush(stdout);
	for (unsigned step = 0; step < 60; step++) {
		next = now;
		for (unsigned n = world_below(&random, 2) ? 1000 : 30; n > 0; n--)
			change(&random, &next, greeds[step / 6]);
		stage(&random, copy, &now, &next);
		/* What is loaded is published before anything is seen, and cannot be discarded. */
		if (step > 0) {
			compare(copy, &now, world_below(&random, SLUGS));
			if (world_below(&random, 4) == 0) {
				copy_discard(copy);
				tidy(copy);
				compare(copy, &now, world_below(&random, SLUGS));
				continue;
			}
		}
		copy_publish(copy, step + 1);
		now = next;
		compare(copy, &now, world_below(&random, SLUGS));
		if (copy_tidy(copy, 200))
			compare(copy, &now, world_below(&random, SLUGS));
		if (world_below(&random, 2))
			tidy(copy);
	}
	copy_free(copy);
}

/* ---- in order ---- */

static uint32_t run_count(const struct copy *copy)
{
	struct copy_organization organization;

	assert_true(copy_find_organization(copy, world_text("acme"), &organization));
	return organization_at(copy, organization.handle)->pages.count;
}

static void put_in_order(struct copy *copy, unsigned from, unsigned to)
{
	for (unsigned i = from; i < to; i++)
		put(copy, i, 1, 10000 + i);
}

/* What comes in order, loaded or later, fills its memory; what goes gives it back. */
static void test_in_order(void **state)
{
	struct copy *copy = with_organizations();
	struct copy_counts counts;
	uint64_t empty;

	(void)state;
	put_in_order(copy, 0, 4 * PAGE_RUN);
	copy_publish(copy, 1);
	assert_int_equal(run_count(copy), 4);
	put_in_order(copy, 4 * PAGE_RUN, 12 * PAGE_RUN);
	copy_publish(copy, 2);
	tidy(copy);
	assert_int_equal(run_count(copy), 12);
	/* From the front, from the back, and every other one between. */
	for (unsigned i = 0; i < 4 * PAGE_RUN; i++) {
		assert_int_equal(copy_remove_page(copy, i), 0);
		assert_int_equal(copy_remove_page(copy, 12 * PAGE_RUN - 1 - i), 0);
		assert_int_equal(copy_remove_page(copy, 4 * PAGE_RUN + (i | 1)), 0);
	}
	copy_publish(copy, 3);
	tidy(copy);
	assert_in_range(run_count(copy), 2, 4);
	for (unsigned i = 0; i < 12 * PAGE_RUN; i++)
		assert_int_equal(copy_remove_page(copy, i), 0);
	copy_publish(copy, 4);
	tidy(copy);
	assert_int_equal(run_count(copy), 0);

	/* Again and again: nothing adds up. */
	copy_count(copy, &counts);
	empty = counts.bytes;
	for (unsigned n = 0; n < 20; n++) {
		put_in_order(copy, 0, 2 * PAGE_RUN);
		if (n % 2) {
			copy_discard(copy);
			tidy(copy);
		} else {
			copy_publish(copy, 5 + n);
			tidy(copy);
			for (unsigned i = 0; i < 2 * PAGE_RUN; i++)
				assert_int_equal(copy_remove_page(copy, i), 0);
			copy_publish(copy, 5 + n);
			tidy(copy);
		}
		assert_int_equal(run_count(copy), 0);
	}
	copy_count(copy, &counts);
	/* Handles are never given again, and indexes keep their room: no more than that. */
	assert_in_range(counts.bytes, empty, empty + 3 * TABLE_CHUNK * sizeof(struct page_record));
	copy_free(copy);
}

/* The organization goes first, and its pages after it, one by one. */
static void test_organization_goes(void **state)
{
	struct copy *copy = with_organizations();
	struct copy_organization organization;

	(void)state;
	put_in_order(copy, 0, 5 * PAGE_RUN);
	copy_publish(copy, 1);
	assert_int_equal(copy_remove_organization(copy, 1), 0);
	copy_publish(copy, 2);
	while (copy_tidy(copy, 1))
		;
	assert_false(copy_find_organization(copy, world_text("acme"), &organization));
	for (unsigned i = 0; i < 5 * PAGE_RUN; i++)
		assert_int_equal(copy_remove_page(copy, i), 0);
	copy_publish(copy, 3);
	tidy(copy);
	/* Both in one revision, and another of that name after it. */
	assert_int_equal(copy_put_organization(copy, &(struct copy_organization_row){1, {"acme", 4}, false}), 0);
	put_in_order(copy, 0, 5 * PAGE_RUN);
	copy_publish(copy, 4);
	assert_int_equal(copy_remove_organization(copy, 1), 0);
	for (unsigned i = 0; i < 5 * PAGE_RUN; i++)
		assert_int_equal(copy_remove_page(copy, i), 0);
	assert_int_equal(copy_put_organization(copy, &(struct copy_organization_row){1, {"acme", 4}, false}), 0);
	copy_publish(copy, 5);
	tidy(copy);
	assert_int_equal(run_count(copy), 0);
	copy_free(copy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_in_order),
		cmocka_unit_test(test_organization_goes),
	};

	return cmocka_run_group_tests_name("copy_pages", tests, NULL, NULL);
}
