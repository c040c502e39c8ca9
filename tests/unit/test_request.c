/* Requests, judged against a small copy in memory. */
#include "tests/unit/request_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>
#include <cmocka.h>

#include "proto/scan.h"

/* ---- nothing that is given back may hold a key ---- */

static const char *secret_text; /* what must not stand in freed memory; NULL: not looked at */

void __real_free(void *data);
void __wrap_free(void *data);
void __wrap_free(void *data)
{
	if (secret_text && data)
		assert_null(memmem(data, malloc_usable_size(data), secret_text, strlen(secret_text)));
	__real_free(data);
}

/* ---- help ---- */

/* Ends a world. What its memory held is looked at no more. */
static void end(struct world *w)
{
	secret_text = NULL;
	world_end(w);
}

#define assert_text(got, want)                                                                                         \
	do {                                                                                                           \
		assert_int_equal((got).len, strlen(want));                                                             \
		assert_memory_equal((got).data, want, strlen(want));                                                   \
	} while (0)

/* ---- every reason ---- */

static void revoked(struct copy_key_row *row)
{
	row->flags |= RULE_REVOKED;
}
static void retired(struct copy_key_row *row)
{
	row->retired_at = US(NOW_S - 5);
	row->has_successor = true;
	row->successor = 7;
}
static void disabled(struct copy_key_row *row)
{
	row->flags |= RULE_DISABLED;
}
static void not_yet(struct copy_key_row *row)
{
	row->not_before = US(NOW_S + 3600);
}
static void expired(struct copy_key_row *row)
{
	row->expires_at = US(NOW_S) - 1;
}
static void at_home(struct copy_key_row *row)
{
	static const struct rule_network home = {4, 8, {10}};

	row->flags |= RULE_NARROWED_NETWORKS;
	row->networks = &home;
	row->network_count = 1;
}
static void rated(struct copy_key_row *row)
{
	row->flags |= RULE_NARROWED_RATE;
	row->rate_count = 1000000;
	row->rate_period_s = 60;
}
static void on_acme_only(struct copy_key_row *row)
{
	static const int64_t pages[] = {11};

	row->flags |= RULE_NARROWED_PAGES;
	row->pages = pages;
	row->page_count = 1;
}
static void reads_only(struct copy_key_row *row)
{
	static const struct rpc_text scopes[] = {{"page:read", 9}};

	row->flags |= RULE_NARROWED_SCOPES;
	row->scopes = scopes;
	row->scope_count = 1;
}

static const struct {
	enum reason reason;
	enum key_kind kind;
	int64_t owner;
	const char *access;
	void (*change)(struct copy_key_row *row);
	const char *scope, *page, *org, *addr;
} cases[] = {
	{REASON_OK, KEY_KIND_USER, 101, NULL, NULL, "incident:write", "acme", NULL, NULL},
	{REASON_OK, KEY_KIND_ORGANIZATION, 1, "write", NULL, "incident:write", "acme", "acme", NULL},
	{REASON_OK, KEY_KIND_USER, 101, NULL, at_home, "page:create", NULL, "acme", "10.1.2.3"},
	{REASON_OK, KEY_KIND_USER, 101, NULL, at_home, "page:create", NULL, "acme", "::ffff:10.1.2.3"},
	{REASON_OK, KEY_KIND_USER, 104, NULL, NULL, "incident:write", "acme-cloud", NULL, NULL},
	{REASON_OK, KEY_KIND_USER, 101, NULL, NULL, "page:read", "acme-old", NULL, NULL},
	{REASON_REVOKED, KEY_KIND_USER, 103, NULL, revoked, "page:read", "acme", NULL, NULL},
	{REASON_RETIRED, KEY_KIND_USER, 101, NULL, retired, "page:read", "acme", NULL, NULL},
	{REASON_DISABLED, KEY_KIND_USER, 101, NULL, disabled, "page:read", "acme", NULL, NULL},
	{REASON_NOT_YET_VALID, KEY_KIND_USER, 101, NULL, not_yet, "page:read", "acme", NULL, NULL},
	{REASON_EXPIRED, KEY_KIND_USER, 101, NULL, expired, "page:read", "acme", NULL, NULL},
	{REASON_USER_SUSPENDED, KEY_KIND_USER, 103, NULL, at_home, "page:read", "acme", NULL, NULL},
	{REASON_NETWORK, KEY_KIND_USER, 101, NULL, at_home, "no:scope", "acme", NULL, NULL},
	{REASON_NETWORK, KEY_KIND_USER, 101, NULL, at_home, "page:read", "acme", NULL, "11.0.0.1"},
	{REASON_OK, KEY_KIND_USER, 101, NULL, rated, "page:read", "acme", NULL, NULL},
	{REASON_UNKNOWN_SCOPE, KEY_KIND_USER, 101, NULL, NULL, "no:scope", "nowhere", NULL, NULL},
	{REASON_UNKNOWN_SCOPE, KEY_KIND_USER, 101, NULL, NULL, "page:create", "acme", NULL, NULL},
	{REASON_UNKNOWN_SCOPE, KEY_KIND_USER, 101, NULL, NULL, "page:read", NULL, "acme", NULL},
	{REASON_UNKNOWN_PAGE, KEY_KIND_USER, 101, NULL, NULL, "page:read", "nowhere", NULL, NULL},
	{REASON_UNKNOWN_PAGE, KEY_KIND_USER, 101, NULL, NULL, "page:read", "umbra", NULL, NULL},
	{REASON_UNKNOWN_PAGE, KEY_KIND_USER, 101, NULL, NULL, "page:read", "acme", "umbra", NULL},
	{REASON_UNKNOWN_PAGE, KEY_KIND_ORGANIZATION, 1, "write", NULL, "page:read", "umbra", NULL, NULL},
	{REASON_NOT_MEMBER, KEY_KIND_USER, 102, NULL, NULL, "billing:read", NULL, NULL, NULL},
	{REASON_NOT_MEMBER, KEY_KIND_USER, 104, NULL, NULL, "billing:read", NULL, "acme", NULL},
	{REASON_NOT_MEMBER, KEY_KIND_USER, 101, NULL, NULL, "billing:read", NULL, "nowhere", NULL},
	{REASON_NOT_MEMBER, KEY_KIND_ORGANIZATION, 1, "read", NULL, "billing:read", NULL, "umbra", NULL},
	{REASON_ORG_SUSPENDED, KEY_KIND_USER, 101, NULL, NULL, "page:read", "shut", NULL, NULL},
	{REASON_PAGE_ARCHIVED, KEY_KIND_USER, 101, NULL, NULL, "incident:write", "acme-old", NULL, NULL},
	{REASON_PAGE_NOT_GRANTED, KEY_KIND_USER, 101, NULL, on_acme_only, "page:read", "acme-z", NULL, NULL},
	{REASON_PAGE_NOT_GRANTED, KEY_KIND_ORGANIZATION, 1, "write", on_acme_only, "billing:read", NULL, NULL, NULL},
	{REASON_SCOPE_NOT_GRANTED, KEY_KIND_USER, 102, NULL, NULL, "incident:write", "acme", NULL, NULL},
	{REASON_SCOPE_NOT_GRANTED, KEY_KIND_USER, 101, NULL, reads_only, "incident:write", "acme", NULL, NULL},
	{REASON_SCOPE_NOT_GRANTED, KEY_KIND_ORGANIZATION, 1, "write", NULL, "page:delete", "acme", NULL, NULL},
};

enum { CASE_COUNT = sizeof(cases) / sizeof(cases[0]) };

static struct rpc_request request_of(unsigned i, const char *key)
{
	struct rpc_request request = check(key, cases[i].scope, cases[i].page);

	request.msgid = i;
	request.context.org = text(cases[i].org);
	if (cases[i].addr)
		assert_true(rpc_addr_parse(cases[i].addr, strlen(cases[i].addr), &request.context.addr));
	return request;
}

/* One by one and all as one batch, twice: by the keyed hash, then by the remembered proof. */
static void test_every_reason(void **state)
{
	struct world *w = world_new(true, "");
	char keys[CASE_COUNT][KEYTEXT_MAX + 1];
	struct rpc_request requests[CASE_COUNT];

	(void)state;
	for (unsigned i = 0; i < CASE_COUNT; i++) {
		publish_key(w, cases[i].kind, cases[i].owner, cases[i].access, cases[i].change, keys[i]);
		requests[i] = request_of(i, keys[i]);
	}
	for (unsigned i = 0; i < CASE_COUNT; i++) {
		struct rpc_answer answer = ask(w, &requests[i]);

		assert_reason(answer, cases[i].reason);
		assert_true(answer.proven);
		assert_int_equal(answer.rev, 100 + CASE_COUNT);
	}
	assert_int_equal(w->core.counters.proofs_hashed, CASE_COUNT);
	for (unsigned round = 0; round < 2; round++) {
		w->out.len = 0;
		request_batch(&w->core, &w->owner, requests, CASE_COUNT, &w->out);
		for (unsigned i = 0; i < CASE_COUNT; i++)
			assert_reason(read_answer(w, &w->out, 0), cases[i].reason);
		assert_int_equal(w->out.len, 0);
	}
	assert_int_equal(w->core.counters.proofs_hashed, CASE_COUNT);
	assert_int_equal(w->core.counters.proofs_remembered, 2 * CASE_COUNT);
	assert_int_equal(w->core.counters.verdicts[REASON_NETWORK], 3 * 2);
	end(w);
}

/* ---- the key itself ---- */

/* What a lost history must not take back is denied in every way of asking, until nothing is held any more. */
static void test_held(void **state)
{
	static const struct {
		struct denial held;
		enum reason reason;
	} all[] = {
		{{.flags = RULE_REVOKED, .retired_at = INT64_MAX}, REASON_REVOKED},
		{{.flags = RULE_DISABLED, .retired_at = INT64_MAX}, REASON_DISABLED},
		{{.retired_at = US(NOW_S - 5)}, REASON_RETIRED},
		{{.retired_at = US(NOW_S + 3600)}, REASON_OK},
		{{.flags = RULE_REVOKED | RULE_DISABLED, .retired_at = 0}, REASON_REVOKED},
	};
	static const enum rpc_method methods[] = {RPC_METHOD_CHECK, RPC_METHOD_CHECK_MANY, RPC_METHOD_WHOAMI,
						  RPC_METHOD_PAGES, RPC_METHOD_EXPLAIN};
	struct rpc_pair pairs[] = {{text("page:read"), text("acme")}, {text("incident:write"), text("acme")}};
	struct world *w = world_new(true, "");
	char key[KEYTEXT_MAX + 1], other[KEYTEXT_MAX + 1];
	struct denials held;

	(void)state;
	assert_int_equal(denials_init(&held, 10), 0);
	copy_hold(w->mirror.copy, &held);
	publish_key(w, KEY_KIND_USER, 101, NULL, NULL, key);
	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		assert_int_equal(denials_put(&held, w->next_key, all[i].held), 0);
		for (unsigned m = 0; m < sizeof(methods) / sizeof(methods[0]); m++) {
			struct rpc_request request =
				check(key, "page:read", methods[m] == RPC_METHOD_PAGES ? NULL : "acme");

			request.method = methods[m];
			request.context.org = text("acme");
			request.pairs = pairs;
			request.pair_count = 2;
			request_batch(&w->core, &w->owner, &request, 1, &w->out);
			for (uint32_t n = 0; n < (methods[m] == RPC_METHOD_CHECK_MANY ? 2 : 1); n++)
				assert_reason(read_answer(w, &w->out, n), all[i].reason);
		}
	}
	/* The key of another is not, and the store's own word is not weakened. */
	denials_put(&held, w->next_key, (struct denial){.retired_at = US(NOW_S + 3600)});
	publish_key(w, KEY_KIND_USER, 101, NULL, retired, other);
	denials_put(&held, w->next_key, (struct denial){.retired_at = US(NOW_S + 3600)});
	struct rpc_request request = check(other, "page:read", "acme");

	assert_reason(ask(w, &request), REASON_RETIRED);
	denials_clear(&held);
	request = check(key, "page:read", "acme");
	assert_reason(ask(w, &request), REASON_OK);
	end(w);
	denials_deinit(&held);
}

static void test_order(void **state)
{
	struct world *w = world_new(false, "");
	char key[KEYTEXT_MAX + 1], junk[KEYTEXT_MAX + 1];
	struct rpc_request request;
	uint8_t bytes[KEYTEXT_SECRET_BYTES] = {9};

	(void)state;
	keytext_format("ak", KEY_KIND_USER, 5, bytes, key);
	strcpy(junk, key);
	junk[strlen(junk) - 1] ^= 1;
	/* The stack comes before all else. */
	request = check(junk, "page:read", "acme");
	request.context.stack = text("other");
	assert_reason(ask(w, &request), REASON_NO_STACK);
	/* That a text is no key needs no copy; its revision is awaited by nobody. */
	request.context.stack = text("default");
	request.context.min_rev = 1000;
	assert_reason(ask(w, &request), REASON_MALFORMED_KEY);
	request.key = text("");
	assert_reason(ask(w, &request), REASON_MALFORMED_KEY);
	request.key = text("bku_0123456789_RpDerJwSmJOV7ncwJCyHXraomQkoIdam8P97JMgMH3S2cl5LA");
	assert_reason(ask(w, &request), REASON_MALFORMED_KEY);
	/* Never loaded comes before a revision that is not there. */
	request.key = text(key);
	assert_reason(ask(w, &request), REASON_NOT_LOADED);
	assert_int_equal(w->core.counters.proofs_hashed, 0);
	end(w);
}

static void test_stale(void **state)
{
	struct world *w = world_new(true, "[freshness]\nmax_stale_ms = 1000\n");
	char key[KEYTEXT_MAX + 1];
	struct rpc_request request;
	struct rpc_answer answer;

	(void)state;
	publish_key(w, KEY_KIND_USER, 101, NULL, revoked, key);
	request = check(key, "page:read", "acme");
	w->mirror.confirmed_at = mirror_boot_now() - 900000;
	answer = ask(w, &request);
	assert_reason(answer, REASON_REVOKED);
	assert_in_range(answer.age_ms, 900, 1000);
	w->mirror.confirmed_at = mirror_boot_now() - 1001000;
	request.context.min_rev = 1000; /* stale comes before behind */
	answer = ask(w, &request);
	assert_reason(answer, REASON_STALE);
	assert_false(answer.proven);
	assert_true(answer.age_ms > 1000);
	request.key = text("junk");
	assert_reason(ask(w, &request), REASON_MALFORMED_KEY);
	end(w);
}

/* An unknown id and a wrong secret: the same answer after the same work, and nothing about the key. */
static void test_unknown(void **state)
{
	struct world *w = world_new(true, "");
	char key[KEYTEXT_MAX + 1], wrong[KEYTEXT_MAX + 1], other[KEYTEXT_MAX + 1];
	uint8_t bytes[KEYTEXT_SECRET_BYTES] = {9};
	const char *texts[] = {wrong, other, wrong, other};
	struct rpc_request request;

	(void)state;
	publish_key(w, KEY_KIND_USER, 101, NULL, revoked, key);
	keytext_format("ak", KEY_KIND_USER, w->next_key, bytes, wrong);
	keytext_format("ak", KEY_KIND_USER, 4711, bytes, other);
	request = check(key, "page:read", "acme");
	assert_reason(ask(w, &request), REASON_REVOKED);
	for (unsigned i = 0; i < 4; i++) {
		uint64_t hashed = w->core.counters.proofs_hashed;
		struct rpc_answer answer;

		request.key = text(texts[i]);
		answer = ask(w, &request);
		assert_reason(answer, REASON_UNKNOWN_KEY);
		assert_false(answer.proven);
		assert_string_equal(answer.key_id, "");
		assert_int_equal(w->core.counters.proofs_hashed, hashed + 1);
	}
	/* What was wrong is not remembered, and does not make what is right forgotten. */
	request.key = text(key);
	assert_reason(ask(w, &request), REASON_REVOKED);
	assert_int_equal(w->core.counters.proofs_remembered, 1);
	/* A kind letter that is not the key's is another text. */
	other[0] = '\0';
	strcpy(other, key);
	other[2] = 'o';
	request.key = text(other);
	assert_reason(ask(w, &request), REASON_MALFORMED_KEY);
	end(w);
}

/* The stored hash is not a key, and a remembered proof is of the whole text. */
static void test_proof_is_of_all(void **state)
{
	struct world *w = world_new(true, "");
	char key[KEYTEXT_MAX + 1], bent[KEYTEXT_MAX + 1];
	struct rpc_request request;

	(void)state;
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "read", NULL, key);
	request = check(key, "page:read", "acme");
	assert_reason(ask(w, &request), REASON_OK);
	for (size_t i = 0; key[i]; i++) {
		strcpy(bent, key);
		bent[i] = bent[i] == 'x' ? 'y' : 'x';
		request.key = text(bent);
		assert_int_not_equal(verdict_of(ask(w, &request).reason), VERDICT_ALLOW);
	}
	end(w);
}

static void test_pepper(void **state)
{
	struct world *w = world_new(true, "");
	struct secret *old = w->secret;
	char key[KEYTEXT_MAX + 1];
	struct rpc_request request;

	(void)state;
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "read", NULL, key);
	request = check(key, "page:read", "acme");
	assert_reason(ask(w, &request), REASON_OK);
	/* Read again with one more version: a new proof is made, once. */
	load_pepper(w, PEPPER_1 PEPPER_2);
	w->core.secret = w->secret;
	secret_free(old);
	assert_reason(ask(w, &request), REASON_OK);
	assert_reason(ask(w, &request), REASON_OK);
	assert_int_equal(w->core.counters.proofs_hashed, 2);
	assert_int_equal(w->core.counters.proofs_remembered, 1);
	/* Without the key's version: a fault, and not the key's. */
	old = w->secret;
	load_pepper(w, PEPPER_2);
	w->core.secret = w->secret;
	secret_free(old);
	assert_reason(ask(w, &request), REASON_NO_PEPPER);
	assert_int_equal(verdict_of(REASON_NO_PEPPER), VERDICT_UNAVAILABLE);
	end(w);
}

/* ---- what answers say ---- */

static void expires_later(struct copy_key_row *row)
{
	row->expires_at = US(NOW_S + 60) + 1;
}

static void test_fields(void **state)
{
	struct world *w = world_new(true, "");
	char user[KEYTEXT_MAX + 1], organization[KEYTEXT_MAX + 1], gone[KEYTEXT_MAX + 1];
	struct rpc_request request;
	struct rpc_answer answer;

	(void)state;
	publish_key(w, KEY_KIND_USER, 102, NULL, expires_later, user);
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "read", NULL, organization);
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "read", retired, gone);

	request = check(user, "incident:write", "umbra");
	answer = ask(w, &request);
	assert_reason(answer, REASON_SCOPE_NOT_GRANTED);
	assert_string_equal(answer.key_id, "0000000001");
	assert_int_equal(answer.kind, KEY_KIND_USER);
	assert_text(answer.user, "vera@x");
	assert_text(answer.org, "umbra");
	assert_text(answer.page, "umbra");
	assert_text(answer.missing_scope, "incident:write");
	assert_text(answer.needs_role, "owner");
	assert_true(answer.has_expiry);
	assert_int_equal(answer.expires_at, NOW_S + 60);
	/* A place that it has nothing to do with is not named. */
	request = check(user, "page:read", "shut");
	answer = ask(w, &request);
	assert_reason(answer, REASON_UNKNOWN_PAGE);
	assert_null(answer.org.data);
	assert_null(answer.page.data);
	assert_text(answer.user, "vera@x");

	request = check(organization, "incident:write", "acme");
	answer = ask(w, &request);
	assert_reason(answer, REASON_SCOPE_NOT_GRANTED);
	assert_int_equal(answer.kind, KEY_KIND_ORGANIZATION);
	assert_text(answer.org, "acme");
	assert_null(answer.user.data);
	assert_text(answer.needs_role, "write");
	assert_false(answer.has_expiry);
	request = check(organization, "page:read", "umbra");
	answer = ask(w, &request);
	assert_reason(answer, REASON_UNKNOWN_PAGE);
	assert_text(answer.org, "acme"); /* its own, whatever was asked */
	assert_null(answer.page.data);

	request = check(gone, "page:read", "acme");
	answer = ask(w, &request);
	assert_reason(answer, REASON_RETIRED);
	assert_string_equal(answer.successor, "0000000007");
	assert_text(answer.org, "acme");
	end(w);
}

static void test_check_many(void **state)
{
	struct world *w = world_new(true, "");
	struct rpc_pair pairs[] = {{text("page:read"), text("acme")},
				   {text("incident:write"), text("acme")},
				   {text("page:read"), text("nowhere")},
				   {text("billing:read"), text(NULL)},
				   {text("no:scope"), text("acme")}};
	const enum reason reasons[] = {REASON_OK, REASON_SCOPE_NOT_GRANTED, REASON_UNKNOWN_PAGE,
				       REASON_SCOPE_NOT_GRANTED, REASON_UNKNOWN_SCOPE};
	char key[KEYTEXT_MAX + 1], bad[KEYTEXT_MAX + 1];
	struct rpc_request request;

	(void)state;
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "read", NULL, key);
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "read", disabled, bad);
	request = check(key, NULL, NULL);
	request.method = RPC_METHOD_CHECK_MANY;
	request.pairs = pairs;
	request.pair_count = 5;
	request_batch(&w->core, &w->owner, &request, 1, &w->out);
	for (uint32_t i = 0; i < 5; i++)
		assert_reason(read_answer(w, &w->out, i), reasons[i]);
	assert_int_equal(w->core.counters.proofs_hashed, 1);
	request.key = text(bad);
	request_batch(&w->core, &w->owner, &request, 1, &w->out);
	for (uint32_t i = 0; i < 5; i++)
		assert_reason(read_answer(w, &w->out, i), REASON_DISABLED);
	assert_int_equal(w->core.counters.verdicts[REASON_DISABLED], 5);
	end(w);
}

/* A batch of all methods, full to the brim, answers each request once and in order. */
static void test_full_batch(void **state)
{
	struct world *w = world_new(true, "");
	struct rpc_request requests[REQUEST_BATCH_MAX];
	struct rpc_pair *pairs = calloc(RPC_PAIRS_MAX, sizeof(*pairs));
	struct rpc_answer *answers = calloc(RPC_PAIRS_MAX, sizeof(*answers));
	char key[KEYTEXT_MAX + 1];

	(void)state;
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "read", NULL, key);
	for (uint32_t i = 0; i < RPC_PAIRS_MAX; i++)
		pairs[i] = (struct rpc_pair){text("page:read"), text(i % 3 ? "acme" : "acme-z")};
	for (uint32_t i = 0; i < REQUEST_BATCH_MAX; i++) {
		requests[i] = check(i % 5 ? key : "junk", "page:read", i % 2 ? "acme" : "umbra");
		requests[i].msgid = i;
	}
	requests[7].method = RPC_METHOD_CHECK_MANY;
	requests[7].pairs = pairs;
	requests[7].pair_count = RPC_PAIRS_MAX;
	requests[9].method = RPC_METHOD_WHOAMI;
	requests[11].method = RPC_METHOD_PAGES;
	request_batch(&w->core, &w->owner, requests, REQUEST_BATCH_MAX, &w->out);
	for (uint32_t i = 0; i < REQUEST_BATCH_MAX; i++) {
		enum reason want = i % 5 == 0 ? REASON_MALFORMED_KEY : i % 2 ? REASON_OK : REASON_UNKNOWN_PAGE;

		if (i == 7) {
			read_answers(w, &w->out, answers, RPC_PAIRS_MAX);
			for (uint32_t j = 0; j < RPC_PAIRS_MAX; j++)
				assert_reason(answers[j], REASON_OK);
		} else {
			assert_reason(read_answer(w, &w->out, 0), want);
		}
		arena_clear(&w->arena);
	}
	assert_int_equal(w->out.len, 0);
	free(answers);
	free(pairs);
	end(w);
}

/* ---- pages ---- */

static struct rpc_request pages(const char *key, const char *scope, const char *after, const char *org)
{
	struct rpc_request request = check(key, scope, NULL);

	request.method = RPC_METHOD_PAGES;
	request.context.after = text(after);
	request.context.org = text(org);
	return request;
}

static void expect_pages(struct world *w, struct rpc_request request, const char *want, const char *next)
{
	struct rpc_answer answer = ask(w, &request);
	char got[256] = "";

	assert_reason(answer, REASON_OK);
	assert_true(answer.has_pages);
	for (uint32_t i = 0; i < answer.page_count; i++)
		sprintf(got + strlen(got), "%s%.*s", i ? " " : "", (int)answer.pages[i].len, answer.pages[i].data);
	assert_string_equal(got, want);
	if (next)
		assert_text(answer.next, next);
	else
		assert_null(answer.next.data);
}

static void test_pages(void **state)
{
	struct world *w = world_new(true, "");
	char olga[KEYTEXT_MAX + 1], vera[KEYTEXT_MAX + 1], paula[KEYTEXT_MAX + 1], una[KEYTEXT_MAX + 1];
	char organization[KEYTEXT_MAX + 1], narrow[KEYTEXT_MAX + 1];
	struct rpc_request request;

	(void)state;
	publish_key(w, KEY_KIND_USER, 101, NULL, NULL, olga);
	publish_key(w, KEY_KIND_USER, 102, NULL, NULL, vera);
	publish_key(w, KEY_KIND_USER, 104, NULL, NULL, paula);
	publish_key(w, KEY_KIND_USER, 105, NULL, NULL, una);
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "write", NULL, organization);
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "write", on_acme_only, narrow);

	/* A suspended organization's pages and, for writing, archived ones are not there. */
	expect_pages(w, pages(olga, "page:read", NULL, NULL), "acme acme-cloud acme-old acme-z", NULL);
	expect_pages(w, pages(olga, "incident:write", NULL, NULL), "acme acme-cloud acme-z", NULL);
	/* Two organizations, in the order of the slugs. */
	expect_pages(w, pages(vera, "page:read", NULL, NULL), "acme acme-cloud acme-old acme-z umbra umbra-b", NULL);
	expect_pages(w, pages(vera, "incident:write", NULL, NULL), "", NULL);
	expect_pages(w, pages(vera, "page:read", NULL, "umbra"), "umbra umbra-b", NULL);
	/* Page roles: without any organization, and above the organization's role. */
	expect_pages(w, pages(paula, "page:read", NULL, NULL), "acme-cloud umbra-b", NULL);
	expect_pages(w, pages(paula, "page:read", NULL, "umbra"), "umbra-b", NULL);
	expect_pages(w, pages(una, "incident:write", NULL, NULL), "acme-cloud", NULL);
	expect_pages(w, pages(una, "page:read", NULL, NULL), "acme acme-cloud acme-old acme-z", NULL);
	expect_pages(w, pages(organization, "incident:write", NULL, NULL), "acme acme-cloud acme-z", NULL);
	expect_pages(w, pages(narrow, "incident:write", NULL, "acme"), "acme", NULL);
	/* In parts. */
	w->config->pages_per_answer = 2;
	expect_pages(w, pages(vera, "page:read", NULL, NULL), "acme acme-cloud", "acme-cloud");
	expect_pages(w, pages(vera, "page:read", "acme-cloud", NULL), "acme-old acme-z", "acme-z");
	expect_pages(w, pages(vera, "page:read", "acme-z", NULL), "umbra umbra-b", NULL);
	expect_pages(w, pages(vera, "page:read", "umbra-b", NULL), "", NULL);
	expect_pages(w, pages(vera, "page:read", "", NULL), "acme acme-cloud", "acme-cloud");
	w->config->pages_per_answer = 1;
	expect_pages(w, pages(paula, "page:read", NULL, NULL), "acme-cloud", "acme-cloud");

	request = pages(olga, "billing:read", NULL, NULL);
	assert_reason(ask(w, &request), REASON_UNKNOWN_SCOPE);
	request = pages(olga, "no:scope", NULL, NULL);
	assert_reason(ask(w, &request), REASON_UNKNOWN_SCOPE);
	request = pages(olga, "page:read", NULL, "umbra");
	assert_reason(ask(w, &request), REASON_NOT_MEMBER);
	request = pages(olga, "page:read", NULL, "nowhere");
	assert_reason(ask(w, &request), REASON_NOT_MEMBER);
	request = pages(organization, "page:read", NULL, "umbra");
	assert_reason(ask(w, &request), REASON_NOT_MEMBER);
	end(w);
}

/* What `pages` lists is what `check` allows, for every key, scope and page. */
static void test_pages_agree_with_check(void **state)
{
	static const char *const slugs[] = {"acme", "acme-cloud", "acme-old", "acme-z", "shut", "umbra", "umbra-b"};
	static const char *const scopes[] = {"page:read", "incident:read", "incident:write", "page:delete",
					     "member:read"};
	struct world *w = world_new(true, "");

	(void)state;
	for (unsigned i = 0; i < CASE_COUNT; i++) {
		char key[KEYTEXT_MAX + 1];

		publish_key(w, cases[i].kind, cases[i].owner, cases[i].access, cases[i].change, key);
		for (unsigned s = 0; s < 5; s++) {
			struct rpc_request request = pages(key, scopes[s], NULL, NULL);
			struct rpc_answer listed = ask(w, &request);
			uint32_t at = 0;

			for (unsigned p = 0; p < 7; p++) {
				struct rpc_answer asked;

				request = check(key, scopes[s], slugs[p]);
				asked = ask(w, &request);
				if (listed.reason != REASON_OK) {
					assert_reason(asked, listed.reason);
				} else if (asked.reason == REASON_OK) {
					assert_true(at < listed.page_count);
					assert_text(listed.pages[at], slugs[p]);
					at++;
				}
			}
			assert_int_equal(at, listed.page_count);
		}
		arena_clear(&w->arena);
	}
	end(w);
}

/* ---- whoami ---- */

static void narrowed_all_round(struct copy_key_row *row)
{
	on_acme_only(row);
	reads_only(row);
	at_home(row);
}

static void test_whoami(void **state)
{
	struct world *w = world_new(true, "");
	char una[KEYTEXT_MAX + 1], narrow[KEYTEXT_MAX + 1], bad[KEYTEXT_MAX + 1];
	const struct value *more, *list, *narrowing;
	struct rpc_request request;
	struct rpc_answer answer;

	(void)state;
	publish_key(w, KEY_KIND_USER, 105, NULL, NULL, una);
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "write", narrowed_all_round, narrow);
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "write", disabled, bad);

	request = check(una, NULL, NULL);
	request.method = RPC_METHOD_WHOAMI;
	answer = ask(w, &request);
	assert_reason(answer, REASON_OK);
	assert_text(answer.user, "una@x");
	more = answer.more;
	list = value_get(more, "organizations");
	assert_int_equal(list->count, 1);
	assert_string_equal(value_as_text(value_get(&list->items[0], "org"), ""), "acme");
	assert_string_equal(value_as_text(value_get(&list->items[0], "role"), ""), "viewer");
	list = value_get(more, "pages");
	assert_int_equal(list->count, 1);
	assert_string_equal(value_as_text(value_get(&list->items[0], "page"), ""), "acme-cloud");
	assert_string_equal(value_as_text(value_get(&list->items[0], "role"), ""), "editor");
	assert_int_equal(value_get(more, "narrowing")->count, 0);
	assert_null(value_get(more, "truncated"));

	request.key = text(narrow);
	rpc_addr_parse("10.0.0.1", 8, &request.context.addr);
	answer = ask(w, &request);
	assert_reason(answer, REASON_OK);
	more = answer.more;
	assert_string_equal(value_as_text(value_get(more, "access"), ""), "write");
	narrowing = value_get(more, "narrowing");
	assert_string_equal(value_as_text(&value_get(narrowing, "pages")->items[0], ""), "acme");
	assert_string_equal(value_as_text(&value_get(narrowing, "scopes")->items[0], ""), "page:read");
	assert_string_equal(value_as_text(&value_get(narrowing, "networks")->items[0], ""), "10.0.0.0/8");
	assert_null(value_get(narrowing, "rate"));

	request.key = text(bad);
	answer = ask(w, &request);
	assert_reason(answer, REASON_DISABLED);
	assert_null(value_get(answer.more, "access"));
	end(w);
}

/* ---- waiting ---- */

static struct rpc_request wait_for(const char *key, uint64_t rev, uint32_t deadline_ms)
{
	struct rpc_request request = check(key, "page:read", "acme");

	request.context.min_rev = rev;
	request.context.deadline_ms = deadline_ms;
	return request;
}

static uint64_t counted(const struct latency *latency)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i <= LATENCY_BOUNDS; i++)
		sum += latency->within[i];
	return sum;
}

/* Judged anew on the revision that it waited for, from text that is its own. */
static void test_wait_for_revision(void **state)
{
	struct world *w = world_new(true, "");
	char key[KEYTEXT_MAX + 1], copy[KEYTEXT_MAX + 1], slug[] = "acme", scope[] = "page:read";
	struct rpc_request request;
	struct copy_key_row row = {.kind = KEY_KIND_ORGANIZATION,
				   .owner_id = 1,
				   .access = text("read"),
				   .pepper = 1,
				   .flags = RULE_REVOKED,
				   .not_before = INT64_MIN,
				   .expires_at = INT64_MAX,
				   .retired_at = INT64_MAX};

	(void)state;
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "read", NULL, key);
	strcpy(copy, key);
	request = wait_for(copy, 101, 0);
	request.pair.page = text(slug);
	request.pair.scope = text(scope);
	assert_reason(ask(w, &request), REASON_OK); /* is there already */
	w->out.len = 0;
	request.context.min_rev = 102;
	request.context.deadline_ms = 60000;
	request_batch(&w->core, &w->owner, &request, 1, &w->out);
	assert_int_equal(w->out.len, 0);
	assert_int_equal(w->owner.in_flight, 1);
	assert_int_equal(request_waiting_count(&w->core), 1);
	assert_int_equal(w->hurried, 1);
	memset(copy, 'x', sizeof(copy) - 1);
	memset(slug, 'x', sizeof(slug) - 1);
	memset(scope, 'x', sizeof(scope) - 1);
	secret_text = key + 20;

	row.id = w->next_key;
	assert_true(secret_hash(w->secret, 1, key, strlen(key), row.hash));
	assert_int_equal(copy_put_key(w->mirror.copy, &row), 0);
	mirror_publish(&w->mirror, 102, mirror_boot_now(), US(NOW_S));
	assert_int_equal(w->answered, 0); /* never from inside */
	run_until_answered(w, 1);
	assert_reason(read_answer(w, &w->late, 0), REASON_REVOKED);
	assert_int_equal(w->flushed, 1);
	assert_int_equal(counted(&w->core.waited), 1);
	assert_int_equal(w->owner.in_flight, 0);
	assert_int_equal(request_waiting_count(&w->core), 0);
	end(w);
}

static void test_wait_to_deadline(void **state)
{
	struct world *w = world_new(true, "[limits]\ndeadline_ms = 20\ndeadline_max_ms = 30\n");
	char key[KEYTEXT_MAX + 1];
	struct rpc_request requests[3];

	(void)state;
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "read", NULL, key);
	requests[0] = wait_for(key, 1000, 0);
	requests[1] = wait_for(key, 1001, 1);
	requests[2] = wait_for(key, 1002, 600000); /* cut to the longest */
	request_batch(&w->core, &w->owner, requests, 3, &w->out);
	assert_int_equal(w->out.len, 0);
	secret_text = key + 20;
	run_until_answered(w, 3);
	for (unsigned i = 0; i < 3; i++)
		assert_reason(read_answer(w, &w->late, 0), REASON_BEHIND);
	assert_int_equal(w->core.counters.waited_timeout, 3);
	assert_int_equal(counted(&w->core.waited), 3);
	assert_int_equal(w->owner.in_flight, 0);
	end(w);
}

/* Many, of different revisions and deadlines: each is answered once, when its revision is there and no sooner. */
static void test_wait_many(void **state)
{
	struct world *w = world_new(true, "");
	char key[KEYTEXT_MAX + 1];
	struct rpc_pair pairs[] = {{text("page:read"), text("acme")}, {text("page:read"), text("umbra")}};

	(void)state;
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "read", NULL, key);
	for (uint32_t i = 0; i < 1000; i++) {
		struct rpc_request request = wait_for(key, 102 + i * 7 % 10, 60000 + i * 13 % 100);

		if (i % 4 == 0) {
			request.msgid = 2;
			request.method = RPC_METHOD_CHECK_MANY;
			request.pairs = pairs;
			request.pair_count = 2;
		}
		request_batch(&w->core, &w->owner, &request, 1, &w->out);
	}
	assert_int_equal(w->out.len, 0);
	secret_text = key + 20;
	for (unsigned rev = 102; rev < 112; rev++) {
		mirror_publish(&w->mirror, rev, mirror_boot_now(), US(NOW_S));
		run_until_answered(w, (rev - 101) * 100);
		uv_run(&w->loop, UV_RUN_NOWAIT);
		assert_int_equal(w->answered, (rev - 101) * 100);
		while (w->late.len > 0) {
			bool many = w->late.data[2] == 2; /* the msgid */
			struct rpc_answer answer = read_answer(w, &w->late, 0);

			assert_reason(answer, REASON_OK);
			assert_int_equal(answer.rev, rev);
			if (many)
				assert_reason(read_answer(w, &w->late, 1), REASON_UNKNOWN_PAGE);
			arena_clear(&w->arena);
		}
	}
	assert_int_equal(request_waiting_count(&w->core), 0);
	assert_int_equal(counted(&w->core.waited), 1000);
	end(w);
}

static void test_wait_forgotten(void **state)
{
	struct world *w = world_new(true, "");
	char key[KEYTEXT_MAX + 1];
	struct rpc_request request;

	(void)state;
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "read", NULL, key);
	request = wait_for(key, 102, 60000);
	for (unsigned i = 0; i < 5; i++)
		request_batch(&w->core, &w->owner, &request, 1, &w->out);
	secret_text = key + 20;
	request_forget(&w->core, &w->owner);
	assert_int_equal(w->owner.in_flight, 0);
	mirror_publish(&w->mirror, 102, mirror_boot_now(), US(NOW_S));
	uv_run(&w->loop, UV_RUN_DEFAULT);
	assert_int_equal(w->answered, 0);
	assert_int_equal(w->core.counters.waited_forgotten, 5);
	end(w);
}

static void test_wait_limits(void **state)
{
	struct world *w = world_new(true, "[limits]\nin_flight_per_connection = 2\nwaiting = 3\n");
	struct request_owner other = {.answer = w->owner.answer};
	char key[KEYTEXT_MAX + 1];
	struct rpc_request requests[3];

	(void)state;
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "read", NULL, key);
	for (unsigned i = 0; i < 3; i++) {
		requests[i] = wait_for(key, 1000, 60000);
		requests[i].msgid = i;
	}
	request_batch(&w->core, &w->owner, requests, 3, &w->out);
	assert_reason(read_answer(w, &w->out, 0), REASON_OVERLOAD);
	assert_int_equal(w->out.len, 0);
	request_batch(&w->core, &other, requests, 2, &w->out);
	assert_reason(read_answer(w, &w->out, 0), REASON_OVERLOAD);
	assert_int_equal(w->out.len, 0);
	assert_int_equal(w->core.counters.overload, 1);
	assert_int_equal(w->core.counters.in_flight, 1);
	request_forget(&w->core, &other);
	end(w);
}

static void test_wait_bytes(void **state)
{
	struct world *w = world_new(true, "[limits]\nwaiting_bytes = 65536\n");
	char key[KEYTEXT_MAX + 1];
	struct rpc_request request;
	unsigned asked = 0;

	(void)state;
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "read", NULL, key);
	request = wait_for(key, 1000, 60000);
	for (; w->out.len == 0 && asked < 1000; asked++)
		request_batch(&w->core, &w->owner, &request, 1, &w->out);
	assert_reason(read_answer(w, &w->out, 0), REASON_OVERLOAD);
	assert_int_equal(w->owner.in_flight, asked - 1);
	assert_int_equal(w->core.counters.overload, 1);
	assert_int_equal(w->core.counters.overload_bytes, 1);
	assert_true(w->core.waiting_bytes <= 65536);
	request_forget(&w->core, &w->owner);
	assert_int_equal(w->core.waiting_bytes, 0);
	end(w);
}

/* A stop answers all who wait, and makes nobody wait. */
static void test_wait_ends_with_stop(void **state)
{
	struct world *w = world_new(true, "");
	char key[KEYTEXT_MAX + 1];
	struct rpc_request request;

	(void)state;
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "read", NULL, key);
	request = wait_for(key, 1000, 60000);
	request_batch(&w->core, &w->owner, &request, 1, &w->out);
	request_finish(&w->core);
	assert_int_equal(w->answered, 1);
	assert_reason(read_answer(w, &w->late, 0), REASON_BEHIND);
	assert_reason(ask(w, &request), REASON_BEHIND);
	end(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_reason),
		cmocka_unit_test(test_held),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_stale),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_proof_is_of_all),
		cmocka_unit_test(test_pepper),
		cmocka_unit_test(test_fields),
		cmocka_unit_test(test_check_many),
		cmocka_unit_test(test_full_batch),
		cmocka_unit_test(test_pages),
		cmocka_unit_test(test_pages_agree_with_check),
		cmocka_unit_test(test_whoami),
		cmocka_unit_test(test_wait_for_revision),
		cmocka_unit_test(test_wait_to_deadline),
		cmocka_unit_test(test_wait_many),
		cmocka_unit_test(test_wait_forgotten),
		cmocka_unit_test(test_wait_limits),
		cmocka_unit_test(test_wait_bytes),
		cmocka_unit_test(test_wait_ends_with_stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
