/* What the core has recorded: each answer one verdict, what of it is known, and audit_full. */
#include "tests/unit/request_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static struct spool *spool;
static struct world *w;
static char key[KEYTEXT_MAX + 1];

static void begin(const char *lines, uint64_t bytes)
{
	const struct rollup_limits limits = {1000, 1000, 1000};
	char error[SPOOL_ERROR_SIZE];

	assert_int_equal(spool_open("", bytes, &spool, error), 0);
	w = world_new(true, "");
	w->core.ledger = rollup_new(spool, &limits);
	assert_non_null(w->core.ledger);
	world_stack(w, lines);
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "write", NULL, key);
}

static void end(void)
{
	rollup_free(w->core.ledger);
	w->core.ledger = NULL;
	world_end(w);
	spool_close(spool);
}

#define LINES(audit) "caller none\nkey required store\n" audit

static const struct spool_record *last(void)
{
	assert_true(spool_used(spool) > 0);
	return spool_at(spool, spool_end(spool) - 1);
}

static void assert_last(enum spool_kind kind, enum reason reason, uint64_t count, const char *text_of)
{
	const struct spool_record *r = last();

	assert_int_equal(r->kind, kind);
	assert_string_equal(spool_reason_word(spool, r->reason), reason_word(reason));
	assert_int_equal(r->count, count);
	assert_int_equal((size_t)r->stack_len + r->scope_len + r->page_len + r->org_len, strlen(text_of));
	assert_memory_equal(r->text, text_of, strlen(text_of));
}

static void test_checks(void **state)
{
	struct rpc_request request = check(key, "incident:read", "acme");

	(void)state;
	begin(LINES("audit required ledger\n"), 1 << 20);
	request = check(key, "incident:read", "acme");
	assert_reason(ask(w, &request), REASON_OK);
	assert_last(SPOOL_ROLLUP, REASON_OK, 1, "defaultincident:readacme");
	assert_reason(ask(w, &request), REASON_OK);
	assert_last(SPOOL_ROLLUP, REASON_OK, 2, "defaultincident:readacme");
	assert_true(last()->key_id != 0);
	/* Names that are nobody's are not said. */
	request = check(key, "incident:fly", "acme");
	assert_reason(ask(w, &request), REASON_UNKNOWN_SCOPE);
	assert_last(SPOOL_EVENT, REASON_UNKNOWN_SCOPE, 1, "defaultacme");
	request = check(key, "incident:read", "nowhere");
	assert_reason(ask(w, &request), REASON_UNKNOWN_PAGE);
	assert_last(SPOOL_EVENT, REASON_UNKNOWN_PAGE, 1, "defaultincident:read");
	request = check("junk", "incident:read", "acme");
	assert_reason(ask(w, &request), REASON_MALFORMED_KEY);
	assert_last(SPOOL_ROLLUP, REASON_MALFORMED_KEY, 1, "default");
	assert_int_equal(last()->key_id, 0);
	request = check(key, "incident:read", "acme");
	request.context.stack = text("nobody's");
	assert_reason(ask(w, &request), REASON_NO_STACK);
	assert_last(SPOOL_ROLLUP, REASON_NO_STACK, 1, "");
	assert_int_equal(spool_used(spool), 5);
	request.context.stack = text(NULL);
	request.method = RPC_METHOD_EXPLAIN;
	ask(w, &request);
	assert_last(SPOOL_EVENT, REASON_OK, 1, "defaultincident:readacme");
	assert_int_equal(last()->flags, SPOOL_EXPLAIN);
	request.method = RPC_METHOD_WHOAMI;
	ask(w, &request);
	assert_last(SPOOL_ROLLUP, REASON_OK, 1, "default");
	request.method = RPC_METHOD_PAGES;
	request.pair.page = text(NULL);
	ask(w, &request);
	assert_last(SPOOL_ROLLUP, REASON_OK, 1, "defaultincident:read");
	end();
}

static void test_pairs(void **state)
{
	struct rpc_pair pairs[5];
	struct rpc_answer answers[5];
	struct rpc_request request;

	(void)state;
	begin(LINES("audit required ledger denials=rollup\n"), 1 << 20);
	request = check(key, "incident:read", "acme");
	for (unsigned i = 0; i < 5; i++)
		pairs[i] = (struct rpc_pair){text("incident:read"), text(i < 3 ? "acme" : "nowhere")};
	request.method = RPC_METHOD_CHECK_MANY;
	request.pairs = pairs;
	request.pair_count = 5;
	w->out.len = 0;
	request_batch(&w->core, &w->owner, &request, 1, &w->out);
	read_answers(w, &w->out, answers, 5);
	assert_int_equal(spool_used(spool), 2);
	assert_int_equal(spool_at(spool, 1)->count, 3);
	assert_int_equal(spool_at(spool, 2)->count, 2);
	end();
}

/* A stack without the line records nothing; what another line of audit makes of an ALLOW is what is recorded. */
static void test_other_lines(void **state)
{
	struct rpc_request request;

	(void)state;
	begin(LINES("audit none\n"), 1 << 20);
	request = check(key, "incident:read", "acme");
	assert_reason(ask(w, &request), REASON_OK);
	assert_int_equal(spool_used(spool), 0);
	world_stack(w, LINES("audit required ledger\naudit required debug code=policy\n"));
	assert_reason(ask(w, &request), REASON_AUDIT_FULL);
	assert_last(SPOOL_EVENT, REASON_AUDIT_FULL, 1, "defaultincident:readacme");
	assert_int_equal(spool_used(spool), 1);
	world_stack(w, LINES("audit required ledger allows=full\naudit required ledger\n"));
	assert_reason(ask(w, &request), REASON_OK);
	assert_last(SPOOL_EVENT, REASON_OK, 1, "defaultincident:readacme");
	assert_int_equal(spool_used(spool), 2);
	end();
}

static void test_full(void **state)
{
	struct rpc_request request;
	uint64_t lost = 0;

	(void)state;
	begin(LINES("audit required ledger allows=full\n"), 0);
	request = check(key, "incident:read", "acme");
	for (unsigned i = 0; i < SPOOL_FEWEST; i++)
		assert_reason(ask(w, &request), REASON_OK);
	assert_int_equal(spool_room(spool), 0);
	assert_reason(ask(w, &request), REASON_AUDIT_FULL);
	assert_int_equal(spool_lost(spool), ++lost);
	/* Where its control says so, the line holds nothing up; nor with on_full. */
	world_stack(w, LINES("audit optional ledger\n"));
	assert_reason(ask(w, &request), REASON_OK);
	assert_int_equal(spool_lost(spool), ++lost);
	world_stack(w, LINES("audit required ledger on_full=count\n"));
	assert_reason(ask(w, &request), REASON_OK);
	assert_int_equal(spool_lost(spool), ++lost);
	/* The strictest of two. */
	world_stack(w, LINES("audit required ledger on_full=count\naudit required ledger\n"));
	assert_reason(ask(w, &request), REASON_AUDIT_FULL);
	assert_int_equal(spool_lost(spool), ++lost);
	request = check("junk", "incident:read", "acme");
	assert_reason(ask(w, &request), REASON_MALFORMED_KEY);
	assert_int_equal(spool_lost(spool), ++lost);
	assert_int_equal(w->core.counters.verdicts[REASON_AUDIT_FULL], 2);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_checks),
		cmocka_unit_test(test_pairs),
		cmocka_unit_test(test_other_lines),
		cmocka_unit_test(test_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
