/*
 * Sums of a copy's things: as PostgreSQL makes them, the same whichever way the copy came about, and another one for
 * each bit of a record that flips.
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
#include "daemon/mirror/copy_sum.h"
#include "tests/unit/copy_world.h"

/* ---- memory that runs out ---- */

void *__real_realloc(void *memory, size_t size);
void *__real_calloc(size_t count, size_t size);

static int left = -1; /* pieces that there still are; -1: any number */

void *__wrap_realloc(void *memory, size_t size)
{
	if (left == 0)
		return NULL;
	left -= left > 0;
	return __real_realloc(memory, size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	if (left == 0)
		return NULL;
	left -= left > 0;
	return __real_calloc(count, size);
}

/* ---- a world by hand, and what PostgreSQL 15 says of it (queries_verify.h) ---- */

static const int64_t far = INT64_MAX;

static void put_catalog(struct copy *copy)
{
	struct copy_scope_row scopes[] = {{world_text("page:read"), RULE_LEVEL_PAGE},
					  {world_text("incident:read"), RULE_LEVEL_PAGE | RULE_LEVEL_ORGANIZATION},
					  {world_text("incident:write"), RULE_LEVEL_ORGANIZATION},
					  {world_text("a-b:c_d"), RULE_LEVEL_PAGE}};
	struct copy_role_row roles[] = {{RULE_ROLE_ORGANIZATION, world_text("owner"), 40},
					{RULE_ROLE_PAGE, world_text("viewer"), 10},
					{RULE_ROLE_ORGANIZATION, world_text("viewer"), 10},
					{RULE_ROLE_KEY, world_text("read"), 10}};
	struct copy_grant_row grants[] = {
		{RULE_ROLE_ORGANIZATION, world_text("owner"), world_text("page:read"), false},
		{RULE_ROLE_ORGANIZATION, world_text("owner"), world_text("incident:write"), false},
		{RULE_ROLE_KEY, world_text("read"), world_text("incident:read"), true},
		{RULE_ROLE_PAGE, world_text("viewer"), world_text("page:read"), false}};

	assert_int_equal(copy_put_catalog(copy, scopes, 4, roles, 4, grants, 4), 0);
}

static void put_places(struct copy *copy)
{
	struct copy_organization_row organizations[] = {{7, world_text("acme"), false}, {far, world_text("z-1"), true}};
	struct copy_page_row pages[] = {{12, 7, world_text("acme"), false},
					{3, 7, world_text("a"), true},
					{70000, far, world_text("umbra"), false}};

	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(copy_put_organization(copy, &organizations[i]), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(copy_put_page(copy, &pages[i]), 0);
}

static void put_users(struct copy *copy)
{
	struct copy_role_at organizations[] = {{far, world_text("owner")}, {7, world_text("viewer")}};
	struct copy_role_at pages[] = {
		{12, world_text("viewer")}, {3, world_text("viewer")}, {70000, world_text("viewer")}};
	struct copy_user_row users[] = {{.id = 5,
					 .email = world_text("jos\xc3\xa9\xe2\x98\x83@b\xc3\xbc"
							     "cher.example"),
					 .organizations = organizations,
					 .organization_count = 2,
					 .pages = pages,
					 .page_count = 3},
					{.id = 6, .email = world_text("b@example.com"), .suspended = true}};

	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(copy_put_user(copy, &users[i]), 0);
}

static keytext_id key_id(const char *text)
{
	keytext_id id;

	assert_true(keytext_id_parse(text, strlen(text), &id));
	return id;
}

static void hash_of(const char *hex, uint8_t ret[COPY_HASH_LEN])
{
	for (unsigned i = 0; i < COPY_HASH_LEN; i++) {
		char digits[3] = {hex[2 * i], hex[2 * i + 1], 0};

		ret[i] = (uint8_t)strtoul(digits, NULL, 16);
	}
}

static void put_keys(struct copy *copy)
{
	static const struct rpc_text scopes[] = {{"page:read", 9}, {"incident:read", 13}, {"a-b:c_d", 7}};
	static const struct rule_network networks[] = {
		{6, 32, {0x20, 0x01, 0x0d, 0xb8}}, {4, 9, {10}}, {4, 8, {10}},
		{4, 32, {192, 0, 2, 1}},	   {6, 0, {0}},	 {4, 0, {0}},
	};
	static const int64_t pages[] = {12, 3};
	struct copy_key_row keys[] = {
		{.id = key_id("0000000001"),
		 .kind = KEY_KIND_USER,
		 .owner_id = 5,
		 .pepper = 1,
		 .not_before = INT64_MIN,
		 .expires_at = INT64_MAX,
		 .retired_at = INT64_MAX},
		{.id = key_id("Ab9Ab9Ab9A"),
		 .kind = KEY_KIND_ORGANIZATION,
		 .owner_id = 7,
		 .access = world_text("read"),
		 .pepper = 1,
		 .flags = RULE_NARROWED_PAGES | RULE_NARROWED_SCOPES | RULE_NARROWED_NETWORKS,
		 .not_before = INT64_MIN,
		 .expires_at = INT64_MAX,
		 .retired_at = INT64_MAX},
		{.id = key_id("zzzzzzzzzz"),
		 .kind = KEY_KIND_ORGANIZATION,
		 .owner_id = 7,
		 .access = world_text("read"),
		 .pepper = 32767,
		 .flags = RULE_REVOKED | RULE_DISABLED | RULE_NARROWED_PAGES | RULE_NARROWED_SCOPES |
			  RULE_NARROWED_NETWORKS | RULE_NARROWED_RATE,
		 .not_before = INT64_C(946684799999999),
		 .expires_at = INT64_C(1896091200000001),
		 .retired_at = INT64_C(1861920000000000),
		 .rate_count = 1000000000,
		 .rate_period_s = 31536000,
		 .successor = key_id("0000000001"),
		 .has_successor = true,
		 .pages = pages,
		 .page_count = 2,
		 .scopes = scopes,
		 .scope_count = 3,
		 .networks = networks,
		 .network_count = 6},
	};

	/* SHA-256 of k1, k3 and k2. */
	hash_of("6ab9f1eb8f7d3388f4f9d586f66e99fd54080df2c446f0e58668b09c08a16dd0", keys[0].hash);
	hash_of("2f5052c9fd15b19a18c584d01363568198613f0c34e84409ef7938709a159ec2", keys[1].hash);
	hash_of("015f7e6bc5aeaf483724089e9252cc13b50951a6b69412522765cff4d780306e", keys[2].hash);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(copy_put_key(copy, &keys[i]), 0);
}

static struct copy *by_hand(void)
{
	struct copy *copy = copy_new(0, 0, 0);

	assert_non_null(copy);
	put_catalog(copy);
	put_places(copy);
	put_users(copy);
	put_keys(copy);
	copy_publish(copy, 1);
	assert_false(copy_tidy(copy, 1));
	return copy;
}

struct vector {
	enum copy_kind kind;
	const char *id, *sum;
};

static const struct vector vectors[] = {
	{COPY_CATALOG, "0", "b9c3a01bae68294a"},
	{COPY_ORGANIZATIONS, "7", "edc23c7e8070eda4"},
	{COPY_ORGANIZATIONS, "9223372036854775807", "11698c57a818c34b"},
	{COPY_PAGES, "3", "ab6a78c5e8b4b815"},
	{COPY_PAGES, "12", "ddfd3b1bce67c8c0"},
	{COPY_PAGES, "70000", "fa016bd603b4441f"},
	{COPY_USERS, "5", "b54f48b7e52989cd"},
	{COPY_USERS, "6", "9c7ff47f73ca3b83"},
	{COPY_KEYS, "0000000001", "4ff7f6857043b011"},
	{COPY_KEYS, "Ab9Ab9Ab9A", "cfab403bf03acc3c"},
	{COPY_KEYS, "zzzzzzzzzz", "a162d462dcc004ae"},
};
enum { VECTORS = sizeof(vectors) / sizeof(vectors[0]) };

static struct copy_sum_row row_of(const struct vector *vector)
{
	struct copy_sum_row row = {.id = vector->kind == COPY_KEYS ? key_id(vector->id)
								   : strtoull(vector->id, NULL, 10)};

	for (unsigned i = 0; i < COPY_SUM_LEN; i++) {
		char digits[3] = {vector->sum[2 * i], vector->sum[2 * i + 1], 0};

		row.sum[i] = (uint8_t)strtoul(digits, NULL, 16);
	}
	return row;
}

static void test_vectors(void **state)
{
	struct copy *copy = by_hand();
	struct copy_sums sums = {0};

	(void)state;
	for (unsigned i = 0; i < VECTORS; i++) {
		struct copy_sum_row row = row_of(&vectors[i]);
		uint8_t sum[COPY_SUM_LEN];

		assert_int_equal(copy_sum(&sums, copy, vectors[i].kind, row.id, sum), 1);
		if (memcmp(sum, row.sum, sizeof(sum)) != 0)
			fail_msg("%s %s has another sum", copy_kind_word(vectors[i].kind), vectors[i].id);
	}
	assert_int_equal(copy_sum(&sums, copy, COPY_CATALOG, 1, (uint8_t[COPY_SUM_LEN]){0}), 0);
	assert_int_equal(copy_sum(&sums, copy, COPY_KEYS, 5, (uint8_t[COPY_SUM_LEN]){0}), 0);
	assert_int_equal(copy_sum(&sums, copy, COPY_KINDS, 5, (uint8_t[COPY_SUM_LEN]){0}), 0);
	assert_string_equal(copy_kind_word(COPY_KINDS), "");
	copy_sums_deinit(&sums);
	copy_free(copy);
}

/* ---- what differs ---- */

/* Compares the whole of a kind with what it should be. How many differ, are missing, and are too many. */
struct found {
	unsigned different, missing, surplus;
};

static struct found compare(const struct copy *copy, enum copy_kind kind)
{
	struct copy_sum_row rows[VECTORS];
	struct copy_sums sums = {0};
	struct found found = {0};
	uint32_t count = 0;
	enum copy_rest rest;
	uint64_t id;

	for (unsigned i = 0; i < VECTORS; i++)
		if (vectors[i].kind == kind)
			rows[count++] = row_of(&vectors[i]);
	assert_int_equal(copy_sums_begin(&sums, copy, kind), 0);
	assert_int_equal(copy_sums_compare(&sums, copy, rows, count), 0);
	for (uint32_t i = 0; i < count; i++) {
		found.different += rows[i].result == COPY_SUM_DIFFERENT;
		found.missing += rows[i].result == COPY_SUM_MISSING;
	}
	while ((rest = copy_sums_rest(&sums, copy, 1, &id)) != COPY_REST_END)
		found.surplus += rest == COPY_REST_FOUND;
	copy_sums_deinit(&sums);
	return found;
}

static void assert_found(const struct copy *copy, enum copy_kind kind, struct found wanted)
{
	for (enum copy_kind k = 0; k < COPY_KINDS; k++) {
		struct found found = compare(copy, k), none = {0}, *right = k == kind ? &wanted : &none;

		if (memcmp(&found, right, sizeof(found)) != 0)
			fail_msg("%s: %u different, %u missing, %u surplus", copy_kind_word(k), found.different,
				 found.missing, found.surplus);
	}
}

/* Each bit of some memory flips: things of that kind, and of no other, differ. */
static void flip_bits(const struct copy *copy, enum copy_kind kind, void *memory, size_t bits)
{
	uint8_t *bytes = memory;

	for (size_t bit = 0; bit < bits; bit++) {
		struct found found;

		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		found = compare(copy, kind);
		if (!found.different && !found.missing)
			fail_msg("bit %zu of some %s is in no sum", bit, copy_kind_word(kind));
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_found(copy, COPY_KINDS, (struct found){0});
}

static void flip(const struct copy *copy, enum copy_kind kind, void *memory, size_t size)
{
	flip_bits(copy, kind, memory, 8 * size);
}

static void test_flipped_bits(void **state)
{
	struct copy *copy = by_hand();
	rule_handle acme = copy_organization_by_id(copy, 7), page = copy_page_by_id(copy, 12);
	rule_handle user = copy_user_by_id(copy, 5), key = copy_key_by_id(copy, key_id("zzzzzzzzzz"));
	struct copy_key *record = key_at(copy, key);
	struct user_roles *roles = user_at(copy, user)->now.roles;

	(void)state;
	assert_found(copy, COPY_KINDS, (struct found){0});
	flip(copy, COPY_ORGANIZATIONS, &organization_at(copy, acme)->now.slug.data[0], 4);
	flip_bits(copy, COPY_ORGANIZATIONS, &organization_at(copy, acme)->now.suspended, 1);
	flip(copy, COPY_PAGES, &page_at(copy, page)->now.slug.data[0], 4);
	flip_bits(copy, COPY_PAGES, &page_at(copy, page)->now.archived, 1);
	flip(copy, COPY_PAGES, &page_at(copy, page)->now.organization, sizeof(rule_handle));
	flip(copy, COPY_USERS, &user_at(copy, user)->now.email.data[0], 10);
	flip_bits(copy, COPY_USERS, &user_at(copy, user)->now.suspended, 1);
	for (unsigned i = 0; i < 5; i++) {
		flip(copy, COPY_USERS, &roles->roles[i].at, sizeof(rule_handle));
		flip(copy, COPY_USERS, &roles->roles[i].role, 1);
	}
	flip(copy, COPY_KEYS, &record->expires_at, 8);
	flip(copy, COPY_KEYS, &record->pepper, 2);
	flip(copy, COPY_KEYS, &record->access, 1);
	flip(copy, COPY_KEYS, &record->more->not_before, 8);
	flip(copy, COPY_KEYS, &record->more->retired_at, 8);
	flip(copy, COPY_KEYS, &record->more->rate_count, 4);
	flip(copy, COPY_KEYS, &record->more->rate_period_s, 4);
	flip(copy, COPY_KEYS, (void *)(uintptr_t)record->more->pages, 2 * sizeof(rule_handle));
	flip(copy, COPY_KEYS, (void *)(uintptr_t)record->more->scopes, 3 * sizeof(rule_scope));
	flip(copy, COPY_KEYS, (void *)(uintptr_t)record->more->networks[0].bytes, 4);
	flip(copy, COPY_KEYS, table_at(&copy->hashes, key), COPY_HASH_LEN);
	flip_bits(copy, COPY_CATALOG, copy->catalog->roles[1].holds, 5);
	flip_bits(copy, COPY_CATALOG, &copy->catalog->scopes[1].levels, 2);
	copy_free(copy);
}

/* The bits of a key's flags one by one: those that the store says are in the sum, what is remembered is not. */
static void test_flags(void **state)
{
	static const uint16_t said[] = {RULE_REVOKED,	      RULE_DISABLED,	      RULE_NARROWED_PAGES,
					RULE_NARROWED_SCOPES, RULE_NARROWED_NETWORKS, RULE_NARROWED_RATE};
	struct copy *copy = by_hand();
	struct copy_key *record = key_at(copy, copy_key_by_id(copy, key_id("zzzzzzzzzz")));

	(void)state;
	for (unsigned i = 0; i < sizeof(said) / sizeof(said[0]); i++) {
		record->flags ^= said[i];
		assert_found(copy, COPY_KEYS, (struct found){.different = 1});
		record->flags ^= said[i];
	}
	record->more->has_successor = false;
	assert_found(copy, COPY_KEYS, (struct found){.different = 1});
	record->more->has_successor = true;
	record->kind = KEY_KIND_USER;
	assert_found(copy, COPY_KEYS, (struct found){.different = 1});
	record->kind = KEY_KIND_ORGANIZATION;
	memset(record->proof, 0x5a, sizeof(record->proof));
	assert_found(copy, COPY_KINDS, (struct found){0});
	copy_free(copy);
}

/* What is denied on top of what the store says is no difference. */
static void test_held(void **state)
{
	struct copy *copy = by_hand();
	struct denials held;

	(void)state;
	assert_int_equal(denials_init(&held, 10), 0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(denials_put(&held, key_id(i ? "Ab9Ab9Ab9A" : "0000000001"),
					     (struct denial){.flags = DENIAL_FLAGS, .retired_at = -7}),
				 0);
	copy_hold(copy, &held);
	assert_found(copy, COPY_KINDS, (struct found){0});
	denials_deinit(&held);
	copy_free(copy);
}

static void test_missing_and_surplus(void **state)
{
	struct copy *copy = by_hand();
	struct copy_key_row extra = {.id = key_id("0000000002"),
				     .kind = KEY_KIND_USER,
				     .owner_id = 6,
				     .pepper = 1,
				     .not_before = INT64_MIN,
				     .expires_at = INT64_MAX,
				     .retired_at = INT64_MAX};

	(void)state;
	assert_int_equal(copy_put_organization(copy, &(struct copy_organization_row){8, world_text("eight"), false}),
			 0);
	assert_int_equal(copy_put_page(copy, &(struct copy_page_row){8, 7, world_text("eight"), false}), 0);
	assert_int_equal(copy_put_user(copy, &(struct copy_user_row){.id = 8, .email = world_text("8@example.com")}),
			 0);
	assert_int_equal(copy_put_key(copy, &extra), 0);
	/* Staged only: readers do not see it. */
	assert_found(copy, COPY_KINDS, (struct found){0});
	copy_publish(copy, 2);
	while (copy_tidy(copy, 1))
		;
	for (enum copy_kind kind = COPY_ORGANIZATIONS; kind < COPY_KINDS; kind++) {
		struct found found = compare(copy, kind);

		assert_int_equal(found.surplus, 1);
		assert_int_equal(found.missing + found.different, 0);
		assert_int_equal(copy_kind_count(copy, kind), kind == COPY_ORGANIZATIONS ? 3
							      : kind == COPY_USERS	 ? 3
											 : 4);
	}
	assert_int_equal(copy_remove_key(copy, extra.id), 0);
	assert_int_equal(copy_remove_user(copy, 8), 0);
	assert_int_equal(copy_remove_page(copy, 8), 0);
	assert_int_equal(copy_remove_organization(copy, 8), 0);
	copy_publish(copy, 3);
	while (copy_tidy(copy, 1))
		;
	assert_found(copy, COPY_KINDS, (struct found){0});
	assert_int_equal(copy_remove_key(copy, key_id("Ab9Ab9Ab9A")), 0);
	assert_int_equal(copy_remove_user(copy, 6), 0);
	copy_publish(copy, 4);
	while (copy_tidy(copy, 1))
		;
	assert_int_equal(compare(copy, COPY_KEYS).missing, 1);
	assert_int_equal(compare(copy, COPY_USERS).missing, 1);
	copy_free(copy);
}

/* A thing that comes while a walk goes on is not too many, whatever the walk met. */
static void test_what_comes_meanwhile(void **state)
{
	struct copy *copy = by_hand();
	struct copy_sums sums = {0};
	uint64_t id = 0;

	(void)state;
	assert_int_equal(copy_sums_begin(&sums, copy, COPY_USERS), 0);
	assert_int_equal(copy_put_user(copy, &(struct copy_user_row){.id = 9, .email = world_text("9@example.com")}),
			 0);
	assert_int_equal(copy_remove_user(copy, 6), 0);
	copy_publish(copy, 2);
	while (copy_tidy(copy, 1))
		;
	struct copy_sum_row row = row_of(&vectors[6]);

	assert_int_equal(copy_sums_compare(&sums, copy, &row, 1), 0);
	assert_int_equal(row.result, COPY_SUM_EQUAL);
	assert_int_equal(copy_sums_rest(&sums, copy, 100, &id), COPY_REST_END);
	/* Nor is it met by the walk after, which knows it. */
	assert_int_equal(copy_sums_begin(&sums, copy, COPY_USERS), 0);
	assert_int_equal(copy_sums_compare(&sums, copy, &row, 1), 0);
	assert_int_equal(copy_sums_rest(&sums, copy, 100, &id), COPY_REST_FOUND);
	assert_int_equal(id, 9);
	assert_int_equal(copy_sums_rest(&sums, copy, 100, &id), COPY_REST_END);
	copy_sums_deinit(&sums);
	copy_free(copy);
}

/* A slug that leads elsewhere, or nowhere, though the record is right. */
static void test_lost_from_the_index(void **state)
{
	struct copy *copy = by_hand();
	rule_handle page = copy_page_by_id(copy, 12), acme = copy_organization_by_id(copy, 7);
	struct text slug = page_at(copy, page)->now.slug;

	(void)state;
	index_remove(&copy->page_slugs, hash_text(&copy->seed, slug.data, slug.len), page);
	assert_found(copy, COPY_PAGES, (struct found){.different = 1});
	assert_int_equal(index_add(&copy->page_slugs, hash_text(&copy->seed, slug.data, slug.len), page), 0);
	assert_found(copy, COPY_KINDS, (struct found){0});
	slug = organization_at(copy, acme)->now.slug;
	index_remove(&copy->organization_slugs, hash_text(&copy->seed, slug.data, slug.len), acme);
	assert_found(copy, COPY_ORGANIZATIONS, (struct found){.different = 1});
	copy_free(copy);
}

/* ---- at random: the same world has the same sums, whichever way it came about ---- */

static uint64_t thing_id(enum copy_kind kind, unsigned i)
{
	static const enum world_kind kinds[] = {
		[COPY_ORGANIZATIONS] = WORLD_ORGANIZATION, [COPY_PAGES] = WORLD_PAGE, [COPY_USERS] = WORLD_USER};

	return kind == COPY_KEYS ? world_key_id(i) : kind == COPY_CATALOG ? i : (uint64_t)world_id(kinds[kind], i);
}

static const unsigned thing_counts[COPY_KINDS] = {1, WORLD_ORGANIZATIONS, WORLD_PAGES, WORLD_USERS, WORLD_KEYS};

static void assert_same_sums(const struct copy *a, const struct copy *b)
{
	struct copy_sums sums = {0};

	for (enum copy_kind kind = 0; kind < COPY_KINDS; kind++) {
		for (unsigned i = 0; i < thing_counts[kind]; i++) {
			uint64_t id = thing_id(kind, i);
			uint8_t x[COPY_SUM_LEN] = {0}, y[COPY_SUM_LEN] = {0};
			int there = copy_sum(&sums, a, kind, id, x);

			assert_int_equal(copy_sum(&sums, b, kind, id, y), there);
			if (memcmp(x, y, sizeof(x)) != 0)
				fail_msg("%s %u of the same world has two sums", copy_kind_word(kind), i);
		}
	}
	copy_sums_deinit(&sums);
}

/* Loaded at once. */
static struct copy *load_of(const struct world *world)
{
	struct world empty;
	struct copy *copy = copy_new(0, 0, 0);
	struct world_stager stager = {.copy = copy};

	assert_non_null(copy);
	memset(&empty, 0, sizeof(empty));
	assert_int_equal(world_stage(&stager, &empty, world), 0);
	copy_publish(copy, world->rev);
	assert_false(copy_tidy(copy, 1));
	return copy;
}

static void test_random(void **state)
{
	const char *seed_text = getenv("APIKEYD_TEST_SEED");
	uint64_t seed = seed_text ? strtoull(seed_text, NULL, 10) : (uint64_t)time(NULL);
	struct world_random random = {seed};
	struct world now, next;
	struct copy *copy;
	struct world_stager stager = {.random = &random};

	(void)state;
	printf("# APIKEYD_TEST_SEED=%llu\n", (unsigned long long)seed);
	fflush(stdout);
	world_init(&now);
	copy = load_of(&now);
	stager.copy = copy;
	for (unsigned step = 0; step < 300; step++) {
		world_change(&random, &now, &next, 20);
		assert_int_equal(world_stage(&stager, &now, &next), 0);
		if (world_below(&random, 4) == 0) {
			copy_discard(copy);
		} else {
			copy_publish(copy, next.rev);
			now = next;
		}
		while (copy_tidy(copy, 3))
			;
		struct copy *loaded = load_of(&now);

		assert_same_sums(copy, loaded);
		copy_free(loaded);
	}
	copy_free(copy);
}

/* ---- memory ---- */

static void test_memory(void **state)
{
	struct copy *copy = by_hand();

	(void)state;
	for (unsigned i = 0; i < VECTORS; i++) {
		struct copy_sum_row row = row_of(&vectors[i]);
		int failures = 0;

		for (int pieces = 0;; pieces++) {
			struct copy_sums sums = {0};
			int r;

			left = pieces;
			r = copy_sums_begin(&sums, copy, vectors[i].kind);
			if (r == 0)
				r = copy_sums_compare(&sums, copy, &row, 1);
			left = -1;
			copy_sums_deinit(&sums);
			if (r == 0)
				break;
			assert_int_equal(r, -ENOMEM);
			failures++;
		}
		assert_true(failures >= 2);
		assert_int_equal(row.result, COPY_SUM_EQUAL);
	}
	copy_free(copy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_flipped_bits),
		cmocka_unit_test(test_flags),
		cmocka_unit_test(test_held),
		cmocka_unit_test(test_missing_and_surplus),
		cmocka_unit_test(test_what_comes_meanwhile),
		cmocka_unit_test(test_lost_from_the_index),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
