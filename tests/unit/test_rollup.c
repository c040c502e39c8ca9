/*
 * What becomes of verdicts: each is counted exactly once, whatever comes; junk does not fill the spool; what is full, and
 * what is beyond a rate.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "daemon/audit/rollup.h"
#include "daemon/modules/ledger.h"

enum { SECOND = 1000000, MINUTE = 60000000 };
static const int64_t noon = INT64_C(1700049600000000); /* a minute begins */

static struct spool *spool;
static struct rollup *rollup;
static struct rollup_limits limits;

static int set_up(void **state)
{
	char error[SPOOL_ERROR_SIZE];

	(void)state;
	limits = (struct rollup_limits){.events_per_second = 100, .sources_per_minute = 50, .denials_per_minute = 50};
	if (spool_open("", 1 << 20, &spool, error) != 0)
		return -1;
	rollup = rollup_new(spool, &limits);
	return rollup ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	rollup_free(rollup);
	spool_close(spool);
	return 0;
}

static struct rpc_text text(const char *s)
{
	return (struct rpc_text){.data = s, .len = s ? (uint32_t)strlen(s) : 0};
}

static struct rpc_addr no_addr, some_addr = {.family = 4, .bytes = {192, 0, 2, 7}};

static struct rollup_verdict verdict(enum reason reason, keytext_id key_id)
{
	return (struct rollup_verdict){.reason = reason,
				       .method = RPC_METHOD_CHECK,
				       .how = LEDGER_RECORD | LEDGER_DENIALS_FULL,
				       .stack = text("default"),
				       .scope = text("incident:write"),
				       .page = text("acme"),
				       .key_id = key_id,
				       .addr = &no_addr,
				       .uid = 1000,
				       .rev = 5,
				       .now = noon,
				       .boot = SECOND};
}

static void record(const struct rollup_verdict *v)
{
	assert_true(rollup_record(rollup, v));
}

static struct spool_record *last(void)
{
	return spool_at(spool, spool_end(spool) - 1);
}

static uint64_t all_counted(void)
{
	uint64_t sum = spool_lost(spool);

	for (uint64_t p = spool_end(spool) - spool_used(spool); p < spool_end(spool); p++)
		sum += spool_at(spool, p)->count;
	return sum;
}

static void assert_text(const struct spool_record *r, const char *want)
{
	size_t len = (size_t)r->stack_len + r->scope_len + r->page_len + r->org_len;

	assert_int_equal(len, strlen(want));
	assert_memory_equal(r->text, want, len);
}

/* ---- what is recorded ---- */

static void test_allows_are_counted(void **state)
{
	struct rollup_verdict v = verdict(REASON_OK, 77);

	(void)state;
	v.addr = &some_addr;
	for (unsigned i = 0; i < 1000; i++) {
		v.now = noon + (int64_t)i * 59999;
		record(&v);
	}
	assert_int_equal(spool_used(spool), 1);
	assert_int_equal(last()->kind, SPOOL_ROLLUP);
	assert_int_equal(last()->count, 1000);
	assert_int_equal(last()->key_id, 77);
	assert_int_equal(last()->first_at, noon);
	assert_int_equal(last()->last_at, noon + 999 * INT64_C(59999));
	assert_int_equal(last()->addr_family, 0);
	assert_int_equal(last()->verdict, VERDICT_ALLOW);
	assert_string_equal(spool_reason_word(spool, last()->reason), "ok");
	assert_text(last(), "defaultincident:writeacme");
	/* Another in anything is another; the hint is only that. */
	v.now = noon + MINUTE - 1;
	v.hint = 1;
	record(&v);
	v = verdict(REASON_OK, 78);
	record(&v);
	v.uid = 1001;
	record(&v);
	v.page = text("acmf");
	record(&v);
	v.page = text("acm");
	v.scope = text("incident:writea");
	record(&v);
	v.scope = text("incident:writeb");
	record(&v);
	v.stack = text("defaulu");
	record(&v);
	assert_int_equal(spool_used(spool), 8);
	/* Looking ahead changes nothing, whether there is one or not. */
	rollup_fetch(rollup, rollup_aim(rollup, REASON_OK, v.key_id, v.hint, v.uid, v.stack.len));
	rollup_fetch(rollup, rollup_aim(rollup, REASON_REVOKED, 99, 0, 0, 0));
	assert_int_equal(spool_used(spool), 8);
	assert_int_equal(last()->count, 1);
	/* The next minute, and one that goes back. */
	v.now = noon + MINUTE;
	record(&v);
	record(&v);
	assert_int_equal(spool_used(spool), 9);
	v.now = noon;
	record(&v);
	assert_int_equal(spool_used(spool), 10);
	assert_int_equal(all_counted(), 1010);
}

static void test_sealed_ones_are_left_alone(void **state)
{
	struct rollup_verdict v = verdict(REASON_OK, 77);

	(void)state;
	record(&v);
	record(&v);
	assert_true(spool_seal(spool, noon, 100, 8));
	record(&v);
	record(&v);
	record(&v);
	assert_int_equal(spool_used(spool), 2);
	assert_int_equal(spool_at(spool, 1)->count, 2);
	assert_int_equal(spool_at(spool, 2)->count, 3);
	spool_release(spool);
	record(&v);
	assert_int_equal(spool_at(spool, 2)->count, 4);
	assert_int_equal(spool_used(spool), 1);
}

static void test_full_allows(void **state)
{
	struct rollup_verdict v = verdict(REASON_OK, 77);

	(void)state;
	v.how |= LEDGER_ALLOWS_FULL;
	v.addr = &some_addr;
	v.org = text("acme-org");
	v.age_ms = 12;
	v.stale = true;
	record(&v);
	record(&v);
	assert_int_equal(spool_used(spool), 2);
	assert_int_equal(last()->kind, SPOOL_EVENT);
	assert_int_equal(last()->rev, 5);
	assert_int_equal(last()->age_ms, 12);
	assert_int_equal(last()->flags, SPOOL_STALE);
	assert_int_equal(last()->addr_family, 4);
	assert_string_equal(spool_method_word(spool, last()->method), "check");
	assert_text(last(), "defaultincident:writeacmeacme-org");
}

static void test_denials(void **state)
{
	struct rollup_verdict v = verdict(REASON_REVOKED, 77);

	(void)state;
	limits.events_per_second = 3;
	rollup_configure(rollup, &limits);
	v.addr = &some_addr;
	for (unsigned i = 0; i < 10; i++)
		record(&v);
	/* Three events, then one roll-up, in which the key's address has no part. */
	assert_int_equal(spool_used(spool), 4);
	assert_int_equal(spool_at(spool, 3)->kind, SPOOL_EVENT);
	assert_int_equal(last()->kind, SPOOL_ROLLUP);
	assert_int_equal(last()->count, 7);
	assert_int_equal(last()->addr_family, 0);
	assert_int_equal(rollup_counts(rollup)->limit_events, 7);
	/* Another reason, another caller, another second. */
	v.reason = REASON_DISABLED;
	record(&v);
	assert_int_equal(last()->kind, SPOOL_EVENT);
	v.uid = 0;
	record(&v);
	assert_int_equal(last()->kind, SPOOL_EVENT);
	v = verdict(REASON_REVOKED, 77);
	v.boot += SECOND;
	record(&v);
	assert_int_equal(last()->kind, SPOOL_EVENT);
	/* Faults are events, too, proven or not; what names were given for a key that is nobody's is not said. */
	v = verdict(REASON_STALE, 0);
	v.addr = &some_addr;
	record(&v);
	assert_int_equal(last()->kind, SPOOL_EVENT);
	assert_text(last(), "default");
	v.how = LEDGER_RECORD;
	record(&v);
	assert_int_equal(last()->kind, SPOOL_ROLLUP);
	assert_int_equal(last()->addr_family, 4);
	assert_int_equal(all_counted(), 15);
}

/* Callers that take turns: whoever shares a place with another begins nothing anew. */
static void test_rates_hold_for_many_callers(void **state)
{
	enum { CALLERS = 150, ROUNDS = 10, EACH = 2 };
	struct rollup_verdict v = verdict(REASON_REVOKED, 77);

	(void)state;
	limits.events_per_second = EACH;
	limits.denials_per_minute = CALLERS;
	rollup_configure(rollup, &limits);
	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned i = 0; i < CALLERS; i++) {
			v.uid = i;
			record(&v);
		}
	}
	assert_in_range(rollup_counts(rollup)->events, CALLERS, EACH * CALLERS);
	assert_int_equal(rollup_counts(rollup)->events + rollup_counts(rollup)->limit_events, CALLERS * ROUNDS);
	assert_int_equal(all_counted(), CALLERS * ROUNDS);
	/* All places taken: still no more. */
	limits.events_per_second = 1;
	rollup_configure(rollup, &limits);
	v.boot += SECOND;
	for (unsigned i = 0; i < 20000; i++) {
		v.uid = i;
		record(&v);
	}
	assert_in_range(rollup_counts(rollup)->events, 512, EACH * CALLERS + 1024 + 8);
}

static void test_unproven(void **state)
{
	struct rpc_addr addr = {.family = 6, .bytes = {0x20, 1, 0xd, 0xb8, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 7}};
	struct rollup_verdict v = verdict(REASON_MALFORMED_KEY, 0);

	(void)state;
	record(&v);
	assert_int_equal(last()->kind, SPOOL_ROLLUP);
	assert_text(last(), "default");
	v.addr = &addr;
	record(&v);
	assert_int_equal(last()->addr_family, 6);
	assert_int_equal(last()->addr[7], 2);
	assert_int_equal(last()->addr[15], 0);
	addr.bytes[12] = 99;
	record(&v);
	assert_int_equal(last()->count, 2);
	/* So many addresses a minute, and then none. */
	for (unsigned i = 0; i < 1000; i++) {
		addr.bytes[6] = (uint8_t)(i >> 8);
		addr.bytes[7] = (uint8_t)i;
		record(&v);
	}
	assert_int_equal(spool_used(spool), 51);
	assert_int_equal(all_counted(), 1003);
	assert_int_equal(rollup_counts(rollup)->limit_sources, 1000 - 50);
	v.now += MINUTE;
	record(&v);
	assert_int_equal(last()->addr_family, 6);
}

/* Names of proven keys' denials: so many combinations a minute. */
static void test_many_names(void **state)
{
	struct rollup_verdict v = verdict(REASON_UNKNOWN_PAGE, 77);
	char name[64];

	(void)state;
	v.how = LEDGER_RECORD;
	for (unsigned i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "page-%u", i);
		v.page = text(name);
		record(&v);
	}
	assert_int_equal(spool_used(spool), 51);
	assert_text(last(), "default");
	assert_int_equal(last()->count, 950);
	assert_int_equal(last()->key_id, 77);
	assert_int_equal(all_counted(), 1000);
}

static void test_explain(void **state)
{
	struct rollup_verdict v = verdict(REASON_OK, 77);

	(void)state;
	v.explain = true;
	v.method = RPC_METHOD_EXPLAIN;
	v.how = LEDGER_RECORD;
	record(&v);
	assert_int_equal(last()->kind, SPOOL_EVENT);
	assert_int_equal(last()->flags, SPOOL_EXPLAIN);
	assert_string_equal(spool_method_word(spool, last()->method), "explain");
	v.reason = REASON_MALFORMED_KEY;
	v.key_id = 0;
	record(&v);
	assert_int_equal(last()->flags, SPOOL_EXPLAIN);
}

/* ---- no room ---- */

static void fill_up(struct rollup_verdict *v)
{
	v->how |= LEDGER_ALLOWS_FULL;
	while (rollup_has_room(rollup, v))
		record(v);
	v->how &= ~(unsigned)LEDGER_ALLOWS_FULL;
}

static void test_full(void **state)
{
	struct rollup_verdict v = verdict(REASON_OK, 77), denied = verdict(REASON_REVOKED, 77);
	uint64_t before;

	(void)state;
	record(&v);
	fill_up(&v);
	assert_false(rollup_is_open(rollup));
	/* What there is a place for goes on. */
	assert_true(rollup_has_room(rollup, &v));
	record(&v);
	assert_int_equal(spool_at(spool, 1)->count, 2);
	/* What there is none for is refused, and the caller says so; or goes on, and is counted. */
	v.page = text("other");
	before = all_counted();
	assert_false(rollup_has_room(rollup, &v));
	assert_false(rollup_record(rollup, &v));
	assert_int_equal(all_counted(), before);
	v.how |= LEDGER_GO_ON;
	record(&v);
	assert_int_equal(spool_lost(spool), 1);
	v.how |= LEDGER_ALLOWS_FULL;
	record(&v);
	record(&denied);
	v.explain = true;
	record(&v);
	denied.explain = true;
	record(&denied);
	assert_int_equal(spool_lost(spool), 5);
	assert_int_equal(all_counted(), before + 5);
	assert_int_equal(rollup_counts(rollup)->full, 5);
}

/* The last quarter is for ALLOWs. */
static void test_reserve(void **state)
{
	struct rollup_verdict v = verdict(REASON_REVOKED, 1);
	uint64_t records = spool_capacity(spool) - spool_capacity(spool) / 4;

	(void)state;
	limits.events_per_second = 1000000;
	rollup_configure(rollup, &limits);
	for (unsigned i = 0; i < spool_capacity(spool) * 2; i++)
		record(&v);
	assert_int_equal(spool_used(spool), records);
	assert_int_equal(all_counted(), spool_capacity(spool) * 2);
	v = verdict(REASON_OK, 2);
	record(&v);
	assert_int_equal(spool_used(spool), records + 1);
}

/* ---- whatever comes ---- */

static uint64_t seed = 88172645463325252ULL;

static uint64_t draw(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % below;
}

static void test_each_once(void **state)
{
	static const char *const names[] = {NULL, "a", "bb", "ccc", "a-b", "x1", "x2", "x3"};
	uint64_t asked = 0, told = 0;
	int64_t now = noon;

	(void)state;
	limits.events_per_second = 5;
	rollup_configure(rollup, &limits);
	for (unsigned i = 0; i < 300000; i++) {
		struct rollup_verdict v = verdict((enum reason)draw(REASON_COUNT), draw(3) ? draw(40) : 0);
		struct rpc_addr addr = {.family = (uint8_t)(draw(2) * 4)};
		struct spool_batch batch;

		addr.bytes[3] = (uint8_t)(addr.family ? draw(200) : 0);
		now += (int64_t)draw(5000);
		v.now = draw(1000) ? now : (int64_t)draw(1000);
		v.boot = now - noon;
		v.addr = &addr;
		v.scope = text(names[draw(8)]);
		v.page = text(names[draw(8)]);
		v.hint = draw(2);
		v.how = LEDGER_RECORD | (unsigned)draw(16);
		v.explain = draw(100) == 0;
		v.uid = (uint32_t)draw(3);
		asked += rollup_record(rollup, &v);
		if (draw(2000) == 0)
			spool_seal(spool, now, draw(2) ? 5000 : draw(500), 8);
		if (draw(2000) == 0 && spool_sealed(spool, &batch)) {
			for (uint64_t p = batch.first; p < batch.end; p++)
				told += spool_at(spool, p)->count;
			told += batch.lost;
			spool_release(spool);
		}
	}
	while (spool_seal(spool, now, 1000, 4) || spool_used(spool) > 0) {
		struct spool_batch batch;

		assert_true(spool_sealed(spool, &batch));
		for (uint64_t p = batch.first; p < batch.end; p++)
			told += spool_at(spool, p)->count;
		told += batch.lost;
		spool_release(spool);
	}
	assert_int_equal(told, asked);
	assert_true(spool_lost(spool) > 0 && rollup_counts(rollup)->counted > 1000);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_allows_are_counted),
		TEST(test_sealed_ones_are_left_alone),
		TEST(test_full_allows),
		TEST(test_denials),
		TEST(test_rates_hold_for_many_callers),
		TEST(test_unproven),
		TEST(test_many_names),
		TEST(test_explain),
		TEST(test_full),
		TEST(test_reserve),
		TEST(test_each_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
