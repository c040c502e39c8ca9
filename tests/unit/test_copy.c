/*
 * The copy beside a model of it, changed at random; and by hand what the model does not hold: size, account, errors.
 * The seed is printed; APIKEYD_TEST_SEED sets it, APIKEYD_TEST_ROUNDS how many worlds live.
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

#include "tests/unit/copy_world.h"
#include "tests/unit/less.h"

/* ---- at random ---- */

/* One world's life: staged, published or discarded, tidied in pieces, and looked at all the time. */
static void live(struct world_random *random)
{
	struct world_seen seen = {0};
	struct world now, next, after;
	struct copy *copy = copy_new(world_below(random, 2) * 100, world_below(random, 2) * 100, 0);
	struct world_stager stager = {.copy = copy, .random = random, .seen = &seen};

	assert_non_null(copy);
	world_init(&now);
	next = now;
	/* An empty catalog never was published: all of it is a change. */
	memset(&now, 0, sizeof(now));
	world_compare(copy, &now, &seen);
	assert_int_equal(world_stage(&stager, &now, &next), 0);
	world_change(random, &next, &after, 60);
	assert_int_equal(world_stage(&stager, &next, &after), 0);
	copy_publish(copy, after.rev);
	world_settle(&seen, true);
	now = after;
	world_compare(copy, &now, &seen);

	for (unsigned step = 0; step < 40; step++) {
		stager.visible = world_below(random, 2) ? &now : NULL;
		world_change(random, &now, &next, 12);
		assert_int_equal(world_stage(&stager, &now, &next), 0);
		world_compare(copy, &now, &seen);
		world_remember(copy, &now, &seen, world_below(random, WORLD_KEYS));
		if (world_below(random, 3) == 0) {
			world_change(random, &next, &after, 6);
			assert_int_equal(world_stage(&stager, &next, &after), 0);
			next = after;
			world_compare(copy, &now, &seen);
		}
		if (world_below(random, 4) == 0) {
			copy_discard(copy);
			world_settle(&seen, false);
			world_compare(copy, &now, &seen);
			/* As after a publish. */
			for (unsigned n = world_below(random, 12); n > 0 && copy_tidy(copy, 1 + world_below(random, 5));
			     n--)
				world_compare(copy, &now, &seen);
			world_compare(copy, &now, &seen);
			if (!copy_tidy(copy, 1))
				world_assert_clean(copy);
			continue;
		}
		copy_publish(copy, next.rev);
		world_settle(&seen, true);
		now = next;
		world_compare(copy, &now, &seen);
		world_remember(copy, &now, &seen, world_below(random, WORLD_KEYS));
		/* Sometimes the next staging finds all of it undone, or a part. */
		for (unsigned n = world_below(random, 12); n > 0 && copy_tidy(copy, 1 + world_below(random, 5)); n--)
			world_compare(copy, &now, &seen);
		world_compare(copy, &now, &seen);
		if (!copy_tidy(copy, 1))
			world_assert_clean(copy);
	}
	copy_free(copy);
	world_seen_deinit(&seen);
}

static void test_random(void **state)
{
	const char *seed_text = getenv("APIKEYD_TEST_SEED"), *rounds_text = getenv("APIKEYD_TEST_ROUNDS");
	uint64_t seed = seed_text ? strtoull(seed_text, NULL, 10) : (uint64_t)time(NULL) * 1000;
	unsigned long rounds = rounds_text ? strtoul(rounds_text, NULL, 10) : 100 / LESS;

	(void)state;
	for (unsigned long i = 0; i < rounds; i++) {
		struct world_random random = {seed + i};

		/* The last line before a failure is the seed of the world that failed. */
		printf("# APIKEYD_TEST_ROUNDS=1 APIKEYD_TEST_SEED=%llu\n", (unsigned long long)(seed + i));
		fflush(stdout);
		live(&random);
	}
}

/* ---- by hand ---- */

static const struct rpc_text read_scope = {"a:read", 6};

static void put_catalog(struct copy *copy)
{
	struct copy_scope_row scopes[] = {{read_scope, 3}};
	struct copy_role_row roles[] = {{RULE_ROLE_ORGANIZATION, {"viewer", 6}, 1},
					{RULE_ROLE_PAGE, {"viewer", 6}, 1},
					{RULE_ROLE_KEY, {"read", 4}, 1}};
	struct copy_grant_row grants[] = {{RULE_ROLE_ORGANIZATION, {"viewer", 6}, read_scope, false}};

	assert_int_equal(copy_put_catalog(copy, scopes, 1, roles, 3, grants, 1), 0);
}

static int put_organization(struct copy *copy, int64_t id, const char *slug)
{
	return copy_put_organization(copy, &(struct copy_organization_row){id, world_text(slug), false});
}

static int put_page(struct copy *copy, int64_t id, int64_t organization, const char *slug)
{
	return copy_put_page(copy, &(struct copy_page_row){id, organization, world_text(slug), false});
}

static int put_user(struct copy *copy, int64_t id, const struct copy_role_at *organization)
{
	struct copy_user_row row = {.id = id,
				    .email = {"a@b", 3},
				    .organizations = organization,
				    .organization_count = organization != NULL};

	return copy_put_user(copy, &row);
}

static struct copy_key_row key_row(keytext_id id, int64_t user, uint8_t hash)
{
	struct copy_key_row row = {.id = id,
				   .kind = KEY_KIND_USER,
				   .owner_id = user,
				   .pepper = 1,
				   .not_before = INT64_MIN,
				   .expires_at = INT64_MAX,
				   .retired_at = INT64_MAX};

	memset(row.hash, hash, sizeof(row.hash));
	return row;
}

static const struct copy_key *find_key(const struct copy *copy, keytext_id id)
{
	const struct copy_key *found;

	copy_find_keys(copy, &id, 1, &found);
	return found;
}

static rule_handle find_page(const struct copy *copy, const char *slug)
{
	struct rpc_text text = world_text(slug);
	struct copy_page found;

	copy_find_pages(copy, &text, 1, &found);
	return found.handle;
}

static void tidy(struct copy *copy)
{
	while (copy_tidy(copy, 1))
		;
	world_assert_clean(copy);
}

/* A copy that is being filled shows nothing yet, and all of it at once. */
static void test_loading(void **state)
{
	struct copy *copy = copy_new(0, 0, 0);
	struct copy_key_row key = key_row(1, 1, 1);
	struct copy_organization found;

	(void)state;
	assert_int_equal(copy_rev(copy), 0);
	put_catalog(copy);
	assert_int_equal(put_organization(copy, 1, "acme"), 0);
	assert_int_equal(put_page(copy, 1, 1, "page"), 0);
	assert_int_equal(put_user(copy, 1, NULL), 0);
	assert_int_equal(copy_put_key(copy, &key), 0);
	assert_null(find_key(copy, 1));
	assert_int_equal(find_page(copy, "page"), 0);
	assert_false(copy_find_organization(copy, world_text("acme"), &found));
	assert_int_equal(copy_find_scope(copy, read_scope), 0);
	copy_publish(copy, 9);
	assert_int_equal(copy_rev(copy), 9);
	assert_non_null(find_key(copy, 1));
	assert_int_not_equal(find_page(copy, "page"), 0);
	assert_true(copy_find_organization(copy, world_text("acme"), &found));
	assert_int_not_equal(copy_find_scope(copy, read_scope), 0);
	copy_free(copy);
	copy_free(NULL);
}

static uint64_t dropped(const struct copy *copy)
{
	struct copy_counts counts;

	copy_count(copy, &counts);
	return counts.dropped_references;
}

/* What refers to nothing is not reachable, is counted, and is no error. */
static void test_dropped(void **state)
{
	static const int64_t pages[] = {1, 99};
	static const struct rpc_text scopes[] = {{"no:such", 7}, {"a:read", 6}};
	struct copy_role_at nowhere = {99, {"viewer", 6}}, no_role = {1, {"boss", 4}};
	struct copy_key_row key = key_row(1, 1, 1), orphan = key_row(2, 99, 1);
	struct copy *copy = copy_new(0, 0, 0);
	struct copy_user user;
	struct rule_who who;

	(void)state;
	put_catalog(copy);
	assert_int_equal(put_organization(copy, 1, "acme"), 0);
	assert_int_equal(put_page(copy, 1, 1, "page"), 0);
	copy_publish(copy, 1);
	assert_int_equal(dropped(copy), 0);

	assert_int_equal(put_page(copy, 2, 99, "other"), 0);
	assert_int_equal(put_user(copy, 1, &nowhere), 0);
	assert_int_equal(put_user(copy, 2, &no_role), 0);
	key.pages = pages;
	key.page_count = 2;
	key.scopes = scopes;
	key.scope_count = 2;
	key.flags = RULE_NARROWED_PAGES | RULE_NARROWED_SCOPES;
	assert_int_equal(copy_put_key(copy, &key), 0);
	assert_int_equal(copy_put_key(copy, &orphan), 0);
	assert_int_equal(dropped(copy), 0);
	copy_publish(copy, 2);
	assert_int_equal(dropped(copy), 6);
	assert_int_equal(find_page(copy, "other"), 0);
	assert_null(find_key(copy, 2));
	copy_who(copy, find_key(copy, 1), &who, &user);
	assert_int_equal(who.page_count, 1);
	assert_int_equal(who.scope_count, 1);
	assert_int_equal(copy_user_only_organization(copy, user.handle), 0);

	/* What was there and now refers to nothing is there no more. */
	assert_int_equal(put_page(copy, 1, 99, "page"), 0);
	key = key_row(1, 99, 1);
	assert_int_equal(copy_put_key(copy, &key), 0);
	copy_publish(copy, 3);
	assert_int_equal(find_page(copy, "page"), 0);
	assert_null(find_key(copy, 1));
	copy_free(copy);
}

/* The organization goes and nobody is told: nothing of it is found, and its keys and members stand for nobody. */
static void test_dangling(void **state)
{
	struct copy_role_at member = {1, {"viewer", 6}};
	struct copy_key_row of_user = key_row(1, 1, 1), of_organization = key_row(2, 1, 1);
	struct copy *copy = copy_new(0, 0, 0);
	struct copy_user user;
	struct rule_who who;
	rule_handle page;
	struct copy_page found;

	(void)state;
	put_catalog(copy);
	assert_int_equal(put_organization(copy, 1, "acme"), 0);
	assert_int_equal(put_page(copy, 1, 1, "page"), 0);
	assert_int_equal(put_user(copy, 1, &member), 0);
	of_organization.kind = KEY_KIND_ORGANIZATION;
	of_organization.access = world_text("read");
	assert_int_equal(copy_put_key(copy, &of_user), 0);
	assert_int_equal(copy_put_key(copy, &of_organization), 0);
	copy_publish(copy, 1);
	page = find_page(copy, "page");
	assert_int_not_equal(page, 0);
	assert_int_equal(copy_remove_organization(copy, 1), 0);
	copy_publish(copy, 2);
	for (int again = 0; again < 3; again++) {
		assert_int_equal(find_page(copy, "page"), 0);
		assert_false(copy_page(copy, page, &found));
		copy_who(copy, find_key(copy, 1), &who, &user);
		assert_int_equal(who.flags, RULE_LIVE);
		assert_int_equal(copy_user_only_organization(copy, user.handle), 0);
		copy_who(copy, find_key(copy, 2), &who, &user);
		assert_false(who.flags & RULE_LIVE);
		if (again == 0)
			tidy(copy);
		/* Another takes the id and the slug: it has neither pages nor keys nor members. */
		if (again == 1) {
			assert_int_equal(put_organization(copy, 1, "acme"), 0);
			copy_publish(copy, 3);
		}
	}
	assert_int_equal(copy_remove_user(copy, 1), 0);
	copy_publish(copy, 4);
	copy_who(copy, find_key(copy, 1), &who, &user);
	assert_false(who.flags & RULE_LIVE);
	copy_free(copy);
}

/* A proof stays while its hash does, and is of no other. */
static void test_proof(void **state)
{
	static const uint8_t proof[COPY_PROOF_LEN] = {7, 7}, none[COPY_PROOF_LEN];
	struct copy *copy = copy_new(0, 0, 0);
	struct copy_key_row key = key_row(1, 1, 1), other = key_row(2, 1, 1);

	(void)state;
	assert_int_equal(put_user(copy, 1, NULL), 0);
	assert_int_equal(copy_put_key(copy, &key), 0);
	copy_publish(copy, 1);
	assert_memory_equal(copy_key_proof(find_key(copy, 1)), none, sizeof(none));
	copy_key_remember(find_key(copy, 1), proof);

	/* Others change, and of itself all but the hash. */
	assert_int_equal(copy_put_key(copy, &other), 0);
	copy_publish(copy, 2);
	tidy(copy);
	key.flags = RULE_DISABLED;
	assert_int_equal(copy_put_key(copy, &key), 0);
	copy_publish(copy, 3);
	assert_memory_equal(copy_key_proof(find_key(copy, 1)), proof, sizeof(proof));
	tidy(copy);
	assert_memory_equal(copy_key_proof(find_key(copy, 1)), proof, sizeof(proof));

	/* The hash does: remembered before it was staged, after, and with the old hash put back between. */
	key = key_row(1, 1, 2);
	assert_int_equal(copy_put_key(copy, &key), 0);
	copy_key_remember(find_key(copy, 1), proof);
	copy_publish(copy, 4);
	assert_memory_equal(copy_key_proof(find_key(copy, 1)), none, sizeof(none));
	tidy(copy);
	assert_memory_equal(copy_key_proof(find_key(copy, 1)), none, sizeof(none));
	/* Under another pepper the same hash is another's. */
	copy_key_remember(find_key(copy, 1), proof);
	key.pepper = 2;
	assert_int_equal(copy_put_key(copy, &key), 0);
	copy_publish(copy, 5);
	assert_memory_equal(copy_key_proof(find_key(copy, 1)), none, sizeof(none));

	/* Remembered between publish and tidy; then removed and minted anew with the same hash. */
	copy_key_remember(find_key(copy, 1), proof);
	tidy(copy);
	assert_memory_equal(copy_key_proof(find_key(copy, 1)), proof, sizeof(proof));
	assert_int_equal(copy_remove_key(copy, 1), 0);
	copy_publish(copy, 6);
	assert_null(find_key(copy, 1));
	assert_int_equal(copy_put_key(copy, &key), 0);
	copy_publish(copy, 7);
	assert_memory_equal(copy_key_proof(find_key(copy, 1)), none, sizeof(none));
	copy_free(copy);
}

/* ---- rows that cannot be ---- */

static void test_invalid(void **state)
{
	static char name[400];
	struct rule_network network = {4, 33, {0}};
	struct copy_key_row key = key_row(1, 1, 1);
	struct copy *copy = copy_new(0, 0, 0);
	struct copy_page_row page = {1, 1, {name, 256}, false};
	struct copy_organization_row organization = {2, {name, 256}, false};
	struct copy_user_row user = {.id = 2};
	struct copy_scope_row scope = {{name, RPC_SCOPE_MAX + 1}, 1};
	struct copy_role_row role = {RULE_ROLE_PAGE, {name, 33}, 1};

	(void)state;
	memset(name, 'a', sizeof(name));
	assert_int_equal(put_organization(copy, 1, "acme"), 0);
	assert_int_equal(put_user(copy, 1, NULL), 0);
	copy_publish(copy, 1);

	assert_int_equal(copy_put_organization(copy, &organization), -EINVAL);
	organization.slug = (struct rpc_text){"", 0};
	assert_int_equal(copy_put_organization(copy, &organization), -EINVAL);
	assert_int_equal(copy_put_page(copy, &page), -EINVAL);
	page.slug = (struct rpc_text){0};
	assert_int_equal(copy_put_page(copy, &page), -EINVAL);
	assert_int_equal(copy_put_user(copy, &user), -EINVAL);
	key.networks = &network;
	key.network_count = 1;
	assert_int_equal(copy_put_key(copy, &key), -EINVAL);
	network = (struct rule_network){6, 129, {0}};
	assert_int_equal(copy_put_key(copy, &key), -EINVAL);
	network = (struct rule_network){5, 0, {0}};
	assert_int_equal(copy_put_key(copy, &key), -EINVAL);
	key = key_row(1, 1, 1);
	key.flags = RULE_LIVE;
	assert_int_equal(copy_put_key(copy, &key), -EINVAL);
	key.flags = RULE_USER_SUSPENDED;
	assert_int_equal(copy_put_key(copy, &key), -EINVAL);
	assert_int_equal(copy_put_catalog(copy, &scope, 1, NULL, 0, NULL, 0), -EINVAL);
	assert_int_equal(copy_put_catalog(copy, NULL, 0, &role, 1, NULL, 0), -EINVAL);
	role = (struct copy_role_row){0, {name, 5}, 1};
	assert_int_equal(copy_put_catalog(copy, NULL, 0, &role, 1, NULL, 0), -EINVAL);

	/* What went before it goes with it. */
	assert_int_equal(put_organization(copy, 3, "other"), 0);
	copy_discard(copy);
	copy_publish(copy, 2);
	assert_false(copy_find_organization(copy, world_text("other"), &(struct copy_organization){0}));
	assert_true(copy_find_organization(copy, world_text("acme"), &(struct copy_organization){0}));
	copy_free(copy);
}

/* As many scopes and roles as there is room for; one more does not get in, nor does it take room away. */
static void test_too_many(void **state)
{
	static char names[RULE_SCOPES_MAX + 1][16];
	static struct copy_scope_row scopes[RULE_SCOPES_MAX + 1];
	static struct copy_role_row roles[RULE_ROLES_MAX + 1];
	struct copy *copy = copy_new(0, 0, 0);

	(void)state;
	for (unsigned i = 0; i <= RULE_SCOPES_MAX; i++) {
		snprintf(names[i], sizeof(names[i]), "n%u:read", i);
		scopes[i] = (struct copy_scope_row){world_text(names[i]), 3};
		if (i <= RULE_ROLES_MAX)
			roles[i] = (struct copy_role_row){RULE_ROLE_PAGE, scopes[i].name, 1};
	}
	assert_int_equal(copy_put_catalog(copy, scopes, 10, roles, 10, NULL, 0), 0);
	copy_publish(copy, 1);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(copy_put_catalog(copy, scopes, RULE_SCOPES_MAX, NULL, 0, NULL, 0), -E2BIG);
		copy_discard(copy);
		assert_int_equal(copy_put_catalog(copy, NULL, 0, roles, RULE_ROLES_MAX, NULL, 0), -E2BIG);
		copy_discard(copy);
		assert_int_not_equal(copy_find_scope(copy, scopes[9].name), 0);
		assert_int_equal(copy_find_scope(copy, scopes[10].name), 0);
	}
	assert_int_equal(copy_put_catalog(copy, scopes, RULE_SCOPES_MAX - 1, roles, RULE_ROLES_MAX - 1, NULL, 0), 0);
	copy_publish(copy, 2);
	for (unsigned i = 0; i < RULE_SCOPES_MAX - 1; i++) {
		rule_scope scope = copy_find_scope(copy, scopes[i].name);

		assert_int_not_equal(scope, 0);
		assert_string_equal(copy_catalog(copy)->scopes[scope].name, names[i]);
	}
	copy_free(copy);
}

/* ---- size ---- */

enum { MANY_KEYS = 200000 };

static keytext_id many_id(unsigned i)
{
	return (uint64_t)i * i * 7 + i;
}

static void assert_many(const struct copy *copy, unsigned count)
{
	for (unsigned i = 0; i < count; i += 100) {
		const struct copy_key *found[100];
		keytext_id ids[100];

		for (unsigned j = 0; j < 100; j++)
			ids[j] = many_id(i + j);
		copy_find_keys(copy, ids, 100, found);
		for (unsigned j = 0; j < 100 && i + j < count; j++) {
			assert_non_null(found[j]);
			assert_true(copy_key_id(found[j]) == ids[j]);
			assert_int_equal(copy_key_hash(copy, found[j])[0], (uint8_t)(i + j));
		}
	}
	for (unsigned i = count; i < count + 1000 && i < MANY_KEYS; i++)
		assert_null(find_key(copy, many_id(i)));
}

/* A tenth while loading, the rest in transactions of growing size; the expected count was wrong. */
static void test_many_keys(void **state)
{
	struct copy *copy = copy_new(100, 0, 0);
	struct copy_counts counts;
	unsigned count = 0, next = MANY_KEYS / 10;

	(void)state;
	assert_int_equal(put_user(copy, 1, NULL), 0);
	for (uint64_t rev = 1; count < MANY_KEYS; rev++) {
		for (; count < next; count++) {
			struct copy_key_row row = key_row(many_id(count), 1, (uint8_t)count);

			assert_int_equal(copy_put_key(copy, &row), 0);
		}
		copy_publish(copy, rev);
		assert_many(copy, count);
		while (copy_tidy(copy, 1000))
			;
		assert_many(copy, count);
		next = count + count / 2 < MANY_KEYS ? count + count / 2 : MANY_KEYS;
	}
	copy_count(copy, &counts);
	assert_int_equal(counts.keys, MANY_KEYS);
	assert_true(counts.bytes >= (uint64_t)MANY_KEYS * (64 + 32 + 8));
	assert_true(counts.bytes < (uint64_t)MANY_KEYS * 250);
	assert_false(copy_is_worn(copy));

	for (unsigned i = 0; i < MANY_KEYS; i += 2)
		assert_int_equal(copy_remove_key(copy, many_id(i)), 0);
	copy_publish(copy, 1000);
	for (unsigned i = 0; i < MANY_KEYS; i++)
		assert_int_equal(find_key(copy, many_id(i)) != NULL, i % 2);
	tidy(copy);
	for (unsigned i = 0; i < MANY_KEYS; i++)
		assert_int_equal(find_key(copy, many_id(i)) != NULL, i % 2);
	copy_count(copy, &counts);
	assert_int_equal(counts.keys, MANY_KEYS / 2);
	assert_true(copy_is_worn(copy));
	copy_free(copy);
}

/* What comes and goes leaves no more behind than its handle: the account does not drift. */
static void test_account(void **state)
{
	struct copy *copy = copy_new(0, 0, 0);
	static const int64_t pages[] = {1};
	struct copy_role_at member = {1, {"viewer", 6}};
	struct copy_key_row key = key_row(1, 1, 1);
	struct copy_counts counts;
	uint64_t first = 0;

	(void)state;
	put_catalog(copy);
	assert_int_equal(put_organization(copy, 1, "acme"), 0);
	assert_int_equal(put_page(copy, 1, 1, "page"), 0);
	assert_int_equal(put_user(copy, 1, &member), 0);
	assert_int_equal(copy_put_key(copy, &key), 0);
	copy_publish(copy, 1);
	for (unsigned i = 0; i < 3000; i++) {
		assert_int_equal(put_organization(copy, 1, i % 2 ? "acme" : "umbra"), 0);
		assert_int_equal(put_page(copy, 1, 1, i % 2 ? "a-page-of-some-length" : "b-page-of-some-length"), 0);
		assert_int_equal(put_user(copy, 1, i % 2 ? &member : NULL), 0);
		key.pages = pages;
		key.page_count = i % 2;
		assert_int_equal(copy_put_key(copy, &key), 0);
		put_catalog(copy);
		if (i % 4 > 1)
			copy_discard(copy);
		copy_publish(copy, i);
		tidy(copy);
		copy_count(copy, &counts);
		if (i == 16)
			first = counts.bytes;
	}
	assert_true(counts.bytes < first + 1000);
	assert_false(copy_is_worn(copy));
	copy_free(copy);
}

/* What was never published takes nothing with it: neither memory nor handles nor room in an index. */
static void test_given_back(void **state)
{
	struct copy *copy = copy_new(0, 0, 0);
	struct copy_key_row key = key_row(1, 1, 1);
	struct copy_counts counts;
	uint64_t first = 0;

	(void)state;
	copy_publish(copy, 1);
	for (unsigned i = 0; i < 10000; i++) {
		assert_int_equal(put_organization(copy, 1, "acme"), 0);
		assert_int_equal(put_page(copy, 1, 1, "page"), 0);
		assert_int_equal(put_user(copy, 1, NULL), 0);
		assert_int_equal(copy_put_key(copy, &key), 0);
		copy_discard(copy);
		tidy(copy);
		copy_count(copy, &counts);
		first = i == 0 ? counts.bytes : first;
	}
	assert_true(counts.bytes < first + 1000);
	assert_false(copy_is_worn(copy));
	copy_free(copy);
}

/* A discard of much is done in as many pieces as it is given, and readers see nothing of it. */
static void test_discard_in_pieces(void **state)
{
	enum { MANY = 3000, PIECE = 10 };
	struct copy *copy = copy_new(0, 0, 0);
	struct copy_organization organization;
	unsigned pieces = 0;
	char slug[16];

	(void)state;
	assert_int_equal(put_organization(copy, 1, "acme"), 0);
	copy_publish(copy, 1);
	for (unsigned round = 0; round < 2; round++) {
		assert_int_equal(put_organization(copy, 1, "umbra"), 0);
		for (int64_t i = 2; i < MANY; i++) {
			struct copy_key_row key = key_row((keytext_id)i, 1, 1);

			snprintf(slug, sizeof(slug), "o-%d", (int)i);
			assert_int_equal(put_organization(copy, i, slug), 0);
			assert_int_equal(put_page(copy, i, 1, slug), 0);
			key.kind = KEY_KIND_ORGANIZATION;
			key.access = (struct rpc_text){"read", 4};
			assert_int_equal(copy_put_key(copy, &key), 0);
		}
		copy_discard(copy);
		for (pieces = 1; copy_tidy(copy, PIECE); pieces++) {
			assert_true(copy_find_organization(copy, world_text("acme"), &organization));
			assert_false(copy_find_organization(copy, world_text("umbra"), &organization));
			assert_false(copy_find_organization(copy, world_text("o-2"), &organization));
		}
		/* Each thing, and each handle that it was given. */
		assert_true(pieces >= 3 * 2 * (MANY - 2) / PIECE);
		world_assert_clean(copy);
	}
	/* Half-way through, whoever stages or publishes does the rest. */
	for (unsigned round = 0; round < 2; round++) {
		for (int64_t i = 2; i < MANY; i++) {
			snprintf(slug, sizeof(slug), "o-%d", (int)i);
			assert_int_equal(put_organization(copy, i, slug), 0);
		}
		copy_discard(copy);
		assert_true(copy_tidy(copy, PIECE));
		if (round == 0)
			assert_int_equal(put_organization(copy, MANY, "late"), 0);
		copy_publish(copy, 2 + round);
		tidy(copy);
		assert_true(copy_find_organization(copy, world_text("late"), &organization));
		assert_false(copy_find_organization(copy, world_text("o-2"), &organization));
		world_assert_clean(copy);
	}
	copy_free(copy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_loading),
		cmocka_unit_test(test_dropped),
		cmocka_unit_test(test_dangling),
		cmocka_unit_test(test_proof),
		cmocka_unit_test(test_invalid),
		cmocka_unit_test(test_too_many),
		cmocka_unit_test(test_many_keys),
		cmocka_unit_test(test_account),
		cmocka_unit_test(test_given_back),
		cmocka_unit_test(test_discard_in_pieces),
	};

	return cmocka_run_group_tests_name("copy", tests, NULL, NULL);
}
