/* The canonical encoding, by the vectors of tests/sql/ledger.sql: what C makes is what SQL makes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "daemon/audit/batch.h"
#include "daemon/audit/spool_internal.h"
#include "daemon/secret.h"

static struct spool *spool;
static const int64_t half_past = INT64_C(1796020200000000); /* 2026-11-30 06:30:00 */

static int set_up(void **state)
{
	char error[SPOOL_ERROR_SIZE];

	(void)state;
	return spool_open("", 1 << 20, &spool, error);
}

static int tear_down(void **state)
{
	(void)state;
	spool_close(spool);
	return 0;
}

static void put_words(struct spool_record *r, const char *stack, const char *scope, const char *page, const char *org)
{
	r->stack_len = (uint8_t)strlen(stack);
	r->scope_len = (uint8_t)strlen(scope);
	r->page_len = (uint8_t)strlen(page);
	r->org_len = (uint8_t)strlen(org);
	sprintf(r->text, "%s%s%s%s", stack, scope, page, org);
}

static void put_addr(struct spool_record *r, int family, const char *text)
{
	r->addr_family = family == AF_INET ? 4 : 6;
	assert_int_equal(inet_pton(family, text, r->addr), 1);
}

static void put_vectors(void)
{
	struct spool_record *r = spool_next(spool);

	r->kind = SPOOL_EVENT;
	r->count = 1;
	r->verdict = VERDICT_DENY;
	r->reason = spool_reason_at(spool, REASON_SCOPE_NOT_GRANTED);
	r->method = spool_method_at(spool, RPC_METHOD_CHECK);
	r->first_at = r->last_at = half_past + 123456;
	r->uid = 1000;
	assert_true(keytext_id_parse("LedgKey001", 10, &r->key_id));
	put_words(r, "default", "incident:write", "acme", "acme");
	put_addr(r, AF_INET, "192.0.2.7");
	r->rev = 77;
	r->age_ms = 12;
	spool_append(spool);
	r = spool_next(spool);
	r->kind = SPOOL_EVENT;
	r->count = 1;
	r->verdict = VERDICT_UNAVAILABLE;
	r->reason = spool_reason_at(spool, REASON_STALE);
	r->method = spool_method_at(spool, RPC_METHOD_CHECK_MANY);
	r->first_at = r->last_at = half_past + 123457;
	r->uid = UINT32_MAX;
	put_words(r, "default", "", "", "");
	put_addr(r, AF_INET6, "2001:db8::1");
	r->rev = 77;
	r->age_ms = 10000;
	r->flags = SPOOL_STALE | SPOOL_EXPLAIN;
	spool_append(spool);
	r = spool_next(spool);
	r->kind = SPOOL_ROLLUP;
	r->count = 41;
	r->verdict = VERDICT_DENY;
	r->reason = spool_reason_at(spool, REASON_UNKNOWN_KEY);
	r->first_at = half_past + 1;
	r->last_at = half_past + 59999999;
	r->uid = 1000;
	put_words(r, "default", "", "", "");
	put_addr(r, AF_INET6, "2001:db8:0:1::");
	spool_append(spool);
}

static void assert_hex(const uint8_t *bytes, const char *want)
{
	char hex[2 * BATCH_DIGEST_LEN + 1];

	batch_hex(bytes, BATCH_DIGEST_LEN, hex);
	assert_string_equal(hex, want);
}

static void test_vectors(void **state)
{
	const uint8_t zeros[BATCH_DIGEST_LEN] = {0};
	uint8_t nothing[BATCH_DIGEST_LEN], got[BATCH_DIGEST_LEN];
	struct batch_head head = {.chain = "6b1c1b0e-0000-4000-8000-00000000000a",
				  .number = 1,
				  .kind = "rows",
				  .made_at = INT64_C(1796020261000000),
				  .rows = 3,
				  .lost = 5,
				  .pepper = 1,
				  .prev_head = zeros,
				  .seals_digest = nothing};
	struct spool_batch sealed;
	struct batch batch;
	char *json;

	(void)state;
	put_vectors();
	assert_true(spool_seal(spool, half_past, 100, 8));
	assert_true(spool_sealed(spool, &sealed));
	assert_int_equal(batch_make(spool, &sealed, &batch), 0);
	assert_int_equal(batch.rows, 3);
	assert_int_equal(batch.part_count, 2);
	assert_string_equal(batch.parts[0].tbl, "event");
	assert_string_equal(batch.parts[0].day, "2026-11-30");
	assert_int_equal(batch.parts[0].counted, 2);
	assert_hex(batch.parts[0].digest, "4a3eb64512c30d77301f570fc22018e71ce88dfc6d2fa20b9ec1ca4f11970175");
	assert_string_equal(batch.parts[1].tbl, "rollup");
	assert_int_equal(batch.parts[1].counted, 41);
	assert_hex(batch.parts[1].digest, "92145ff4874ae38adc72fc46eaad34ef2963233c70156bb8398871f153c61d30");
	assert_true(batch_from_hex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", nothing, 32));
	assert_true(batch_head(&head, batch.parts, batch.part_count, got));
	assert_hex(got, "5d312acc643ada5cd6558722afb8ed1b95dd114cc4ea4b250ededc2bad40fff6");
	json = batch_parts_json(batch.parts, batch.part_count);
	assert_non_null(
		strstr(json, "{\"tbl\": \"rollup\", \"day\": \"2026-11-30\", \"rows\": 1, \"counted\": 41, \"digest\": "
			     "\"92145ff4"));
	assert_int_equal(json[strlen(json) - 1], ']');
	free(json);
	batch_deinit(&batch);
	json = batch_parts_json(NULL, 0);
	assert_string_equal(json, "[]");
	free(json);
}

/* What COPY takes: times in words, nulls, and nothing that could end a column. */
static void test_copy(void **state)
{
	struct spool_batch sealed;
	struct batch batch;
	struct spool_record *r;
	char chain[UUID_TEXT], want[400];

	(void)state;
	put_vectors();
	r = spool_next(spool);
	r->kind = SPOOL_ROLLUP;
	r->count = 2;
	r->verdict = VERDICT_ALLOW;
	r->reason = spool_reason_at(spool, REASON_OK);
	r->first_at = r->last_at = half_past;
	put_words(r, "d\\", "", "", "");
	spool_append(spool);
	assert_true(spool_seal(spool, half_past, 100, 8));
	assert_true(spool_sealed(spool, &sealed));
	assert_int_equal(batch_make(spool, &sealed, &batch), 0);
	uuid_text(spool_chain(spool), chain);
	snprintf(
		want, sizeof(want),
		"%s\t1\t3\t2026-11-30 06:30:00.000000+00\tdeny\tunknown_key\tdefault\t1000\t\\N\t\\N\t\\N\t2001:db8:0:1::/64\t"
		"41\t2026-11-30 06:30:00.000001+00\t2026-11-30 06:30:59.999999+00\n",
		chain);
	assert_memory_equal(batch.rollups.data, want, strlen(want));
	assert_true(batch.rollups.len > strlen(want));
	assert_non_null(memmem(batch.rollups.data + strlen(want), batch.rollups.len - strlen(want), "\td\\\\\t0\t", 7));
	snprintf(want, sizeof(want),
		 "%s\t1\t1\t2026-11-30 06:30:00.123456+00\tdeny\tscope_not_granted\tcheck\tdefault\t1000\tLedgKey001\t"
		 "incident:write\tacme\tacme\t192.0.2.7\t77\t12\tf\tf\n",
		 chain);
	assert_memory_equal(batch.events.data, want, strlen(want));
	batch_deinit(&batch);
}

static void test_days(void **state)
{
	static const struct {
		int64_t day;
		const char *text;
	} days[] = {{0, "1970-01-01"},	   {58, "1970-02-28"},	  {59, "1970-03-01"},
		    {789, "1972-02-29"},   {11016, "2000-02-29"}, {20787, "2026-11-30"},
		    {47540, "2100-02-28"}, {47541, "2100-03-01"}, {2932896, "9999-12-31"}};
	char text[16];

	(void)state;
	for (unsigned i = 0; i < sizeof(days) / sizeof(days[0]); i++) {
		batch_day_text(days[i].day, text);
		assert_string_equal(text, days[i].text);
	}
}

/* Rows of several days stand in a part each, and what was damaged is left out of the numbers. */
static void test_parts(void **state)
{
	struct spool_batch sealed;
	struct batch batch;

	(void)state;
	for (unsigned i = 0; i < 9; i++) {
		struct spool_record *r = spool_next(spool);

		r->kind = (uint8_t)(i % 3);
		r->count = 1;
		r->reason = spool_reason_at(spool, REASON_REVOKED);
		r->method = spool_method_at(spool, RPC_METHOD_CHECK);
		r->first_at = r->last_at = half_past + (int64_t)(i / 3) * INT64_C(86400000000);
		spool_append(spool);
	}
	assert_true(spool_seal(spool, half_past, 100, 3));
	assert_true(spool_sealed(spool, &sealed));
	assert_int_equal(batch_make(spool, &sealed, &batch), 0);
	assert_int_equal(batch.part_count, 3);
	assert_int_equal(batch.rows, 3);
	assert_int_equal(batch.last_day - batch.first_day, 1);
	assert_string_equal(batch.parts[2].day, "2026-12-01");
	batch_deinit(&batch);
}

/* HMAC-SHA-256 of the head, under the keyed BLAKE2b-256 of a label: computed with another library. */
static void test_mac(void **state)
{
	static const char pepper[] = "1 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";
	char error[200];
	struct secret *secret = secret_parse("pepper", pepper, strlen(pepper), error, sizeof(error));
	uint8_t head[32], mac[32];

	(void)state;
	assert_non_null(secret);
	memset(head, 7, sizeof(head));
	assert_true(secret_ledger_mac(secret, 1, head, mac));
	assert_hex(mac, "243029a1c963bb429487764d083442d390beb12bf8e5787e50bfc8069c446e77");
	assert_false(secret_ledger_mac(secret, 2, head, mac));
	secret_free(secret);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_vectors),	    TEST(test_copy), TEST(test_parts), cmocka_unit_test(test_days),
		cmocka_unit_test(test_mac),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
