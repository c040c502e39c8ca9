/*
 * The ledger's threads beside the loop's: verdicts are recorded while a sealed batch is made and the spool is brought to
 * the disk, on threads of libuv's pool, as flush.c has it. For ThreadSanitizer; and in any build each is counted once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include <uv.h>

#include "daemon/audit/batch.h"
#include "daemon/audit/rollup.h"
#include "daemon/modules/ledger.h"

enum { VERDICTS = 40000, BETWEEN = 40, KEYS = 30, STEP_US = 5000 };

static char directory[64];
static struct spool *spool;
static struct rollup *rollup;
static uv_loop_t loop;

static struct {
	uv_work_t make, sync;
	bool making, syncing;
	struct spool_batch sealed;
	struct batch batch;
	int made, synced;
	uint64_t told, lost, recorded, batches, unsealed, syncs;
	int64_t now;
	uint32_t dice;
} run;

static unsigned roll(unsigned sides)
{
	run.dice = run.dice * 1664525 + 1013904223;
	return (run.dice >> 8) % sides;
}

/* ---- as flush.c does ---- */

static void on_make(uv_work_t *work)
{
	(void)work;
	run.made = batch_make(spool, &run.sealed, &run.batch);
}

static void on_made(uv_work_t *work, int status)
{
	const uint8_t head[SPOOL_HEAD_LEN] = {1};

	(void)work;
	assert_int_equal(status, 0);
	assert_int_equal(run.made, 0);
	run.making = false;
	spool_try(spool, head);
	/* Now and then the database says that it cannot take it. */
	if (run.batches % 5 == 2 && run.unsealed < run.batches) {
		run.unsealed++;
		spool_unseal(spool);
	} else {
		for (uint32_t i = 0; i < run.batch.part_count; i++)
			run.told += run.batch.parts[i].counted;
		run.lost += run.sealed.lost;
		run.batches++;
		spool_release(spool);
	}
	batch_deinit(&run.batch);
}

static void on_sync(uv_work_t *work)
{
	(void)work;
	run.synced = spool_sync(spool);
}

static void on_synced(uv_work_t *work, int status)
{
	(void)work;
	assert_int_equal(status, 0);
	assert_int_equal(run.synced, 0);
	run.syncs++;
	run.syncing = false;
}

static void advance(void)
{
	if (!run.making && spool_seal(spool, run.now, 200, 16)) {
		assert_true(spool_sealed(spool, &run.sealed));
		assert_int_equal(uv_queue_work(&loop, &run.make, on_make, on_made), 0);
		run.making = true;
	}
	if (!run.syncing) {
		assert_int_equal(uv_queue_work(&loop, &run.sync, on_sync, on_synced), 0);
		run.syncing = true;
	}
}

/* ---- as requests do ---- */

static struct rpc_text text(const char *word)
{
	return (struct rpc_text){.data = word, .len = (uint32_t)strlen(word)};
}

static void record(void)
{
	static const enum reason reasons[] = {REASON_OK,	  REASON_OK,	REASON_OK, REASON_SCOPE_NOT_GRANTED,
					      REASON_UNKNOWN_KEY, REASON_STALE, REASON_OK, REASON_NETWORK};
	enum reason reason = reasons[roll(sizeof(reasons) / sizeof(reasons[0]))];
	struct rpc_addr addr = {.family = 4, .bytes = {192, 0, 2, (uint8_t)roll(256)}};
	struct rollup_verdict verdict = {.reason = reason,
					 .method = RPC_METHOD_CHECK,
					 .how = LEDGER_RECORD | LEDGER_DENIALS_FULL,
					 .stack = text("default"),
					 .scope = text(roll(2) ? "incident:write" : "page:read"),
					 .page = text(roll(2) ? "acme" : "acme-cloud"),
					 .key_id = reason == REASON_UNKNOWN_KEY ? 0 : 1 + roll(KEYS),
					 .addr = &addr,
					 .uid = 1000,
					 .explain = roll(50) == 0,
					 .now = run.now,
					 .boot = run.now};

	run.now += STEP_US;
	run.recorded++;
	if (rollup_record(rollup, &verdict))
		return;
	/* It found no room, and is answered as what is recorded in its stead. */
	verdict.reason = REASON_AUDIT_FULL;
	assert_true(rollup_record(rollup, &verdict));
}

static void test_each_is_counted_once(void **state)
{
	(void)state;
	while (run.recorded < VERDICTS) {
		for (unsigned i = 0; i < BETWEEN; i++)
			record();
		advance();
		uv_run(&loop, roll(4) ? UV_RUN_NOWAIT : UV_RUN_ONCE);
	}
	while (run.making || run.syncing || spool_used(spool) > 0 || spool_lost_untold(spool) > 0) {
		advance();
		uv_run(&loop, UV_RUN_ONCE);
	}
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(run.told + run.lost, run.recorded);
	assert_true(run.batches > 10 && run.unsealed > 0 && run.syncs > 10);
	assert_int_equal(spool_number(spool), run.batches + 1);
}

static int set_up(void **state)
{
	const struct rollup_limits limits = {
		.events_per_second = 20, .sources_per_minute = 50, .denials_per_minute = 50};
	char error[SPOOL_ERROR_SIZE];

	(void)state;
	run.now = INT64_C(1700049600000000);
	strcpy(directory, "/tmp/ledger-threads.XXXXXX");
	if (!mkdtemp(directory) || uv_loop_init(&loop) != 0 || spool_open(directory, 1 << 18, &spool, error) != 0)
		return -1;
	rollup = rollup_new(spool, &limits);
	return rollup ? 0 : -1;
}

static int tear_down(void **state)
{
	char path[96];

	(void)state;
	rollup_free(rollup);
	spool_close(spool);
	snprintf(path, sizeof(path), "%s/ledger.spool", directory);
	unlink(path);
	return rmdir(directory) + uv_loop_close(&loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_each_is_counted_once, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
