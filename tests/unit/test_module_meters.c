/* The table of a line `rate`, beside a list of all there ever were; and the hash under it. */
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

#include "daemon/mirror/table.h"
#include "daemon/modules/meters.h"
#include "daemon/modules/siphash.h"
#include "tests/unit/fake_host.h"

/* ---- the hash ---- */

static void test_hash(void **state)
{
	struct siphash_key key = {UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)};
	struct hash_seed seed = {key.k0, key.k1};
	unsigned char bytes[300];

	(void)state;
	/* As published for SipHash-1-3 and this key. */
	assert_true(siphash(&key, "", 0) == UINT64_C(0xabac0158050fc4dc));
	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)(i * 7 + 1);
	for (size_t len = 0; len <= sizeof(bytes); len++)
		assert_true(siphash(&key, bytes, len) == hash_text(&seed, bytes, len));
}

/* Two tables do not hash alike. */
static void test_seed(void **state)
{
	struct siphash_key a = {0}, b = {0};

	(void)state;
	assert_int_equal(siphash_key_init(&a), 0);
	assert_int_equal(siphash_key_init(&b), 0);
	assert_true(siphash(&a, "x", 1) != siphash(&b, "x", 1));
}

/* ---- the table ---- */

static struct meters_key key_of(const struct meters *meters, const char *id)
{
	struct meters_key key;

	assert_true(meters_key(meters, id, strlen(id), &key));
	return key;
}

static void test_identities(void **state)
{
	struct gcra_time full = {.us = 50};
	struct meters *meters;
	struct meters_key key, other;

	(void)state;
	assert_int_equal(meters_new(3, 4, &meters), 0);
	assert_false(meters_key(meters, "12345", 5, &key));
	assert_true(meters_key(meters, "1234", 4, &key));
	assert_null(meters_find(meters, &key));
	assert_true(meters_add(meters, &key, &full, 1));
	assert_non_null(meters_find(meters, &key));
	/* All of it counts, and its length: no prefix, no zeros after it, not the hash alone. */
	assert_true(meters_key(meters, "123", 3, &other));
	assert_null(meters_find(meters, &other));
	assert_true(meters_key(meters, "123\0", 4, &other));
	assert_null(meters_find(meters, &other));
	other = key;
	other.id = "1235";
	assert_null(meters_find(meters, &other));
	other = key;
	other.id_len = 3;
	assert_null(meters_find(meters, &other));
	meters_free(meters);
	meters_free(NULL);
}

/* A full bucket makes room; one that is not is never forgotten. */
static void test_room(void **state)
{
	static const char *const names[] = {"a", "b", "c", "d", "e"};
	struct meters *meters;
	struct meters_key key;

	(void)state;
	assert_int_equal(meters_new(3, 4, &meters), 0);
	for (unsigned i = 0; i < 3; i++) {
		struct gcra_time full = {.us = 100 + 10 * (int64_t)i};

		assert_true(meters_has_room(meters, 0));
		key = key_of(meters, names[i]);
		assert_true(meters_add(meters, &key, &full, 0));
	}
	key = key_of(meters, "d");
	assert_false(meters_has_room(meters, 99));
	assert_false(meters_add(meters, &key, &(struct gcra_time){.us = 500}, 99));
	/* Spent again since: what the heap thinks of `a` is too early. */
	key = key_of(meters, "a");
	meters_find(meters, &key)->full.us = 300;
	assert_false(meters_has_room(meters, 109));
	/* A part of a microsecond is not over yet. */
	key = key_of(meters, "b");
	meters_find(meters, &key)->full = (struct gcra_time){.us = 110, .part = 1, .count = 3};
	assert_false(meters_has_room(meters, 110));
	assert_true(meters_has_room(meters, 111));
	key = key_of(meters, "d");
	assert_true(meters_add(meters, &key, &(struct gcra_time){.us = 500}, 111));
	assert_null(
		meters_find(meters, &(struct meters_key){.id = "b", .id_len = 1, .hash = key_of(meters, "b").hash}));
	key = key_of(meters, "a");
	assert_int_equal(meters_find(meters, &key)->full.us, 300);
	/* Full sooner than was thought. */
	meters_set_earlier(meters, meters_find(meters, &key), &(struct gcra_time){.us = 112});
	key = key_of(meters, "e");
	assert_false(meters_add(meters, &key, &(struct gcra_time){.us = 600}, 111));
	assert_true(meters_add(meters, &key, &(struct gcra_time){.us = 600}, 112));
	key = key_of(meters, "a");
	assert_null(meters_find(meters, &key));
	meters_free(meters);
}

/* ---- random: a list of everybody ---- */

enum { EVERYBODY = 400 };

struct model {
	bool known[EVERYBODY];
	struct gcra_time full[EVERYBODY];
};

static unsigned live(const struct model *model, int64_t now)
{
	unsigned count = 0;

	for (unsigned i = 0; i < EVERYBODY; i++)
		count += model->known[i] && !gcra_is_full(&model->full[i], now);
	return count;
}

static void random_table(uint64_t *random, uint32_t entries, unsigned *ret_refused)
{
	struct model *model = calloc(1, sizeof(*model));
	struct meters *meters;
	int64_t now = 1000;

	assert_non_null(model);
	assert_int_equal(meters_new(entries, 8, &meters), 0);
	for (unsigned i = 0; i < 3000; i++) {
		unsigned who = (unsigned)fake_below(random, EVERYBODY);
		struct gcra_time full = {.part = (uint32_t)fake_below(random, 3), .count = 3};
		char id[16];
		struct meters_key key;
		struct meter *meter;

		now += (int64_t)fake_below(random, 3);
		full.us = now + 1 + (int64_t)fake_below(random, fake_below(random, 8) == 0 ? 2000 : 60);
		snprintf(id, sizeof(id), "%u", who);
		key = key_of(meters, id);
		meter = meters_find(meters, &key);
		/* Those whose bucket is not full are there; what is there is right. */
		if (model->known[who] && !gcra_is_full(&model->full[who], now))
			assert_non_null(meter);
		if (meter)
			assert_memory_equal(&meter->full, &model->full[who], sizeof(full));
		if (meter && fake_below(random, 10) == 0) {
			full.us = now + (meter->full.us - now) / 2;
			if (full.us < meter->full.us)
				meters_set_earlier(meters, meter, &full);
			else
				full = meter->full;
		} else if (meter) {
			if (full.us < meter->full.us)
				full.us = meter->full.us + 1;
			meter->full = full;
		} else {
			bool room = live(model, now) < entries;

			if (fake_below(random, 2) == 0)
				assert_int_equal(meters_has_room(meters, now), room);
			assert_int_equal(meters_add(meters, &key, &full, now), room);
			*ret_refused += !room;
			if (!room)
				continue;
		}
		model->known[who] = true;
		model->full[who] = full;
	}
	meters_free(meters);
	free(model);
}

static void test_random(void **state)
{
	static const uint32_t entries[] = {1, 2, 3, 7, 8, 31, 64, 200};
	uint64_t random = fake_seed();

	(void)state;
	for (unsigned i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
		unsigned refused = 0;

		for (unsigned round = 0; round < 20; round++)
			random_table(&random, entries[i], &refused);
		if (entries[i] < 64)
			assert_true(refused > 100);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hash), cmocka_unit_test(test_seed),   cmocka_unit_test(test_identities),
		cmocka_unit_test(test_room), cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
