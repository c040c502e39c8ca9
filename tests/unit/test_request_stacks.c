/* Requests judged by stacks: what modules may do to a verdict, and being waited for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/request_world.h"

#define STORE "caller none\nkey required store\n"
#define ID    "caller none\nkey required id n=0\n"
#define END   "audit none\n"

#define assert_text(got, want)                                                                                         \
	do {                                                                                                           \
		assert_int_equal((got).len, strlen(want));                                                             \
		assert_memory_equal((got).data, want, strlen(want));                                                   \
	} while (0)

/* ---- the core's own part ---- */

static void set_revoked(struct copy_key_row *row)
{
	row->flags |= RULE_REVOKED;
}

/* Every code, on lines that would open all there is to open. */
static void test_no_module_turns_a_denial(void **state)
{
	struct world *w = world_new(true, "");
	char revoked[KEYTEXT_MAX + 1], good[KEYTEXT_MAX + 1];
	struct rpc_request requests[3];

	(void)state;
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "write", set_revoked, revoked);
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "write", NULL, good);
	requests[0] = check(revoked, "page:read", "acme");
	requests[1] = check(good, "page:read", "umbra");
	requests[2] = check(good, "page:delete", "acme");
	world_stack(w, STORE "account sufficient say n=1\naccount optional say n=2\n"
			     "page [success=done default=ignore] say n=3\nscope sufficient say n=4\n"
			     "audit [success=done default=ignore] say n=5\n");
	for (int code = -1; code <= APIKEYD_CODE_END; code++) {
		for (unsigned i = 1; i <= 5; i++)
			plays[i].code = code;
		assert_reason(ask(w, &requests[0]), REASON_REVOKED);
		assert_reason(ask(w, &requests[1]), REASON_UNKNOWN_PAGE);
		assert_reason(ask(w, &requests[2]), REASON_SCOPE_NOT_GRANTED);
		/* Nobody is asked about what the core has denied. */
		assert_int_equal(plays[1].asked, (unsigned)(code + 2) * 2);
		assert_int_equal(plays[3].asked, (unsigned)(code + 2));
		assert_int_equal(plays[4].asked, 0);
	}
	/* And a denial of a module's is not the reason where the core has its own. */
	world_stack(w, STORE "account required say n=1\nscope required say n=4\n" END);
	plays[1].code = plays[4].code = APIKEYD_POLICY;
	assert_reason(ask(w, &requests[0]), REASON_REVOKED);
	assert_reason(ask(w, &requests[1]), REASON_POLICY);
	plays[1].code = APIKEYD_SUCCESS;
	assert_reason(ask(w, &requests[1]), REASON_UNKNOWN_PAGE);
	assert_reason(ask(w, &requests[2]), REASON_SCOPE_NOT_GRANTED);
	world_end(w);
}

/* ---- principals ---- */

static struct apikeyd_principal principal_of(enum apikeyd_kind kind, const char *organization, int64_t user)
{
	return (struct apikeyd_principal){.size = sizeof(struct apikeyd_principal),
					  .kind = kind,
					  .organization =
						  organization ? module_text(organization) : (struct apikeyd_text){0},
					  .user_id = user,
					  .writes = true};
}

static void test_granted(void **state)
{
	static const struct {
		enum reason reason;
		enum apikeyd_kind kind;
		const char *organization;
		int64_t user;
		const char *scope, *page;
	} cases[] = {
		{REASON_OK, APIKEYD_KIND_ORGANIZATION, "acme", 0, "incident:write", "acme"},
		{REASON_SCOPE_NOT_GRANTED, APIKEYD_KIND_ORGANIZATION, "acme", 0, "page:delete", "acme"},
		{REASON_UNKNOWN_PAGE, APIKEYD_KIND_ORGANIZATION, "acme", 0, "page:read", "umbra"},
		{REASON_ORG_SUSPENDED, APIKEYD_KIND_ORGANIZATION, "shut", 0, "page:read", "shut"},
		{REASON_UNKNOWN_KEY, APIKEYD_KIND_ORGANIZATION, "nobody", 0, "page:read", "acme"},
		{REASON_OK, APIKEYD_KIND_USER, NULL, 101, "page:delete", "acme"},
		{REASON_SCOPE_NOT_GRANTED, APIKEYD_KIND_USER, NULL, 102, "incident:write", "acme"},
		{REASON_USER_SUSPENDED, APIKEYD_KIND_USER, NULL, 103, "page:read", "acme"},
		{REASON_UNKNOWN_KEY, APIKEYD_KIND_USER, NULL, 4711, "page:read", "acme"},
		{REASON_UNKNOWN_KEY, APIKEYD_KIND_USER, NULL, INT64_MIN, "page:read", "acme"},
	};
	struct world *w = world_new(true, "");
	char key[KEYTEXT_MAX + 1];

	(void)state;
	make_key(KEY_KIND_ORGANIZATION, key);
	world_stack(w, ID END);
	plays[0].code = APIKEYD_SUCCESS;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct apikeyd_principal p = principal_of(cases[i].kind, cases[i].organization, cases[i].user);
		struct rpc_request request = check(key, cases[i].scope, cases[i].page);
		struct rpc_answer answer;

		plays[0].principal = &p;
		answer = ask(w, &request);
		assert_int_equal(plays[0].granted, 0);
		assert_reason(answer, cases[i].reason);
		assert_int_equal(answer.proven, cases[i].reason != REASON_UNKNOWN_KEY);
		if (cases[i].user == 101)
			assert_text(answer.user, "olga@x");
	}
	world_end(w);
}

static void test_writes(void **state)
{
	struct world *w = world_new(true, "");
	struct apikeyd_principal p = principal_of(APIKEYD_KIND_ORGANIZATION, "acme", 0);
	char key[KEYTEXT_MAX + 1];
	struct rpc_request read, write;

	(void)state;
	make_key(KEY_KIND_ORGANIZATION, key);
	read = check(key, "page:read", "acme");
	write = check(key, "incident:write", "acme");
	world_stack(w, ID END);
	plays[0].code = APIKEYD_SUCCESS;
	plays[0].principal = &p;
	p.writes = false;
	assert_reason(ask(w, &read), REASON_OK);
	assert_reason(ask(w, &write), REASON_SCOPE_NOT_GRANTED);
	p.expires_at_us = US(NOW_S);
	assert_reason(ask(w, &read), REASON_EXPIRED);
	p.expires_at_us = 0;
	p.not_before_us = US(NOW_S + 600);
	assert_reason(ask(w, &read), REASON_NOT_YET_VALID);
	world_end(w);
}

/* A flag with no rows, or with rows that nobody knows, allows nothing. */
static void test_narrowing(void **state)
{
	struct world *w = world_new(true, "");
	struct apikeyd_principal p = principal_of(APIKEYD_KIND_ORGANIZATION, "acme", 0);
	const struct apikeyd_text pages[] = {module_text("nowhere"), module_text("acme-z"), module_text("acme")};
	const struct apikeyd_text scopes[] = {module_text("*"), module_text("page:read")};
	const struct apikeyd_network networks[] = {
		{.family = 4, .prefix = 8, .bytes = {10}}, {.family = 4, .prefix = 129}, {.family = 7}};
	char key[KEYTEXT_MAX + 1];
	struct rpc_request request;

	(void)state;
	make_key(KEY_KIND_ORGANIZATION, key);
	request = check(key, "page:read", "acme");
	world_stack(w, ID END);
	plays[0].code = APIKEYD_SUCCESS;
	plays[0].principal = &p;
	p.narrowed_pages = true;
	assert_reason(ask(w, &request), REASON_PAGE_NOT_GRANTED);
	p.pages = pages;
	p.page_count = 2;
	assert_reason(ask(w, &request), REASON_PAGE_NOT_GRANTED);
	p.page_count = 3;
	assert_reason(ask(w, &request), REASON_OK);
	p.narrowed_scopes = true;
	assert_reason(ask(w, &request), REASON_SCOPE_NOT_GRANTED);
	p.scopes = scopes;
	p.scope_count = 1;
	assert_reason(ask(w, &request), REASON_SCOPE_NOT_GRANTED);
	p.scope_count = 2;
	assert_reason(ask(w, &request), REASON_OK);
	p.narrowed_networks = true;
	request.context.addr = (struct rpc_addr){.family = 4, .bytes = {10, 1, 2, 3}};
	assert_reason(ask(w, &request), REASON_NETWORK);
	p.networks = networks + 1;
	p.network_count = 2;
	assert_reason(ask(w, &request), REASON_NETWORK);
	p.networks = networks;
	p.network_count = 1;
	assert_reason(ask(w, &request), REASON_OK);
	/* Rows without their flag are no principal at all: it would be less narrowed than was meant. */
	p.narrowed_pages = false;
	assert_reason(ask(w, &request), REASON_MODULE_FAULT);
	assert_int_equal(plays[0].granted, -EINVAL);
	world_end(w);
}

/* ---- break-glass ---- */

static void test_break_glass_without_a_copy(void **state)
{
	static const int64_t hour = US(3600);
	struct world *w = world_new(false, "");
	struct apikeyd_principal p = principal_of(APIKEYD_KIND_BREAK_GLASS, "acme", 0);
	const struct apikeyd_text pages[] = {module_text("acme")};
	const struct apikeyd_text scopes[] = {module_text("incident:write"), module_text("member:read"),
					      module_text("apikey:write"), module_text("org:read")};
	static const struct {
		enum reason reason;
		const char *scope, *page;
	} cases[] = {
		{REASON_OK, "incident:write", "acme"},
		{REASON_OK, "incident:read", "acme"}, /* write brings it */
		{REASON_SCOPE_NOT_GRANTED, "page:read", "acme"},
		{REASON_SCOPE_NOT_GRANTED, "member:read", "acme"},
		{REASON_SCOPE_NOT_GRANTED, "apikey:write", "acme"},
		{REASON_SCOPE_NOT_GRANTED, "apikey:read", "acme"},
		{REASON_SCOPE_NOT_GRANTED, "org:read", "acme"},
		{REASON_PAGE_NOT_GRANTED, "incident:write", "umbra"},
		{REASON_PAGE_NOT_GRANTED, "incident:write", NULL},
	};
	char key[KEYTEXT_MAX + 1];
	struct rpc_request request;

	(void)state;
	make_key(KEY_KIND_BREAK_GLASS, key);
	p.narrowed_pages = p.narrowed_scopes = true;
	p.pages = pages;
	p.page_count = 1;
	p.scopes = scopes;
	p.scope_count = 4;
	world_stack(w, ID END);
	plays[0].code = APIKEYD_SUCCESS;
	plays[0].principal = &p;
	plays[0].ends_in_us = hour;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		request = check(key, cases[i].scope, cases[i].page);
		assert_reason(ask(w, &request), cases[i].reason);
	}
	request = check(key, "incident:write", "acme");
	plays[0].ends_in_us = 24 * hour;
	assert_reason(ask(w, &request), REASON_OK);
	plays[0].ends_in_us = 24 * hour + 1;
	assert_reason(ask(w, &request), REASON_POLICY);
	plays[0].ends_in_us = INT64_MAX / 2;
	assert_reason(ask(w, &request), REASON_POLICY);
	plays[0].ends_in_us = -1;
	assert_reason(ask(w, &request), REASON_EXPIRED);
	plays[0].ends_in_us = 0; /* no end: no principal */
	assert_reason(ask(w, &request), REASON_MODULE_FAULT);
	plays[0].ends_in_us = hour;
	p.scope_count = 0;
	p.narrowed_scopes = false;
	assert_reason(ask(w, &request), REASON_MODULE_FAULT);
	/* Nobody else is let in without a copy. */
	p = principal_of(APIKEYD_KIND_ORGANIZATION, "acme", 0);
	assert_reason(ask(w, &request), REASON_NOT_LOADED);
	world_end(w);
}

/* ---- faults ---- */

static void test_faults(void **state)
{
	static const int codes[] = {-1, INT32_MIN, INT32_MAX, 4, 7, 27, 39, 48, 63, 64, 65, 255, 256 + APIKEYD_SUCCESS};
	struct world *w = world_new(true, "");
	char key[KEYTEXT_MAX + 1];
	struct rpc_request request;
	uint64_t faults;

	(void)state;
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "write", NULL, key);
	request = check(key, "page:read", "acme");
	world_stack(w, ID END);
	plays[0].code = APIKEYD_SUCCESS; /* and nothing granted */
	assert_reason(ask(w, &request), REASON_MODULE_FAULT);
	assert_int_equal(w->core.counters.module_faults, 1);
	world_stack(w, STORE "scope required say n=1\n" END);
	for (unsigned i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		plays[1].code = codes[i];
		assert_reason(ask(w, &request), REASON_MODULE_FAULT);
	}
	/* It may not be waited for. */
	faults = w->core.counters.module_faults;
	plays[1].code = APIKEYD_PENDING;
	assert_reason(ask(w, &request), REASON_MODULE_FAULT);
	assert_int_equal(w->core.counters.module_faults, faults + 1);
	assert_int_equal(request_waiting_count(&w->core), 0);
	world_end(w);
}

/* ---- waiting ---- */

static void *complete_there(void *data)
{
	(void)data;
	complete(1, 0, APIKEYD_SUCCESS);
	return NULL;
}

static void test_completed_once(void **state)
{
	for (unsigned there = 0; there < 2; there++) {
		struct world *w = world_new(true, "");
		char key[KEYTEXT_MAX + 1];
		struct rpc_request request;
		pthread_t thread;

		(void)state;
		publish_key(w, KEY_KIND_ORGANIZATION, 1, "write", NULL, key);
		request = check(key, "page:read", "acme");
		world_stack(w, STORE "scope required later n=1\n" END);
		plays[1].code = APIKEYD_PENDING;
		ask_later(w, &request);
		assert_int_equal(w->owner.in_flight, 1);
		if (there) {
			assert_int_equal(pthread_create(&thread, NULL, complete_there, NULL), 0);
			run_until_answered(w, 1);
			pthread_join(thread, NULL);
		} else {
			complete(1, 0, APIKEYD_SUCCESS);
			assert_int_equal(w->answered, 0); /* never from inside */
			run_until_answered(w, 1);
		}
		assert_reason(read_answer(w, &w->late, 0), REASON_OK);
		/* Twice, and of nobody's: dropped, and counted. */
		complete(1, 0, APIKEYD_POLICY);
		plays[1].tokens[1] = plays[1].tokens[0] + ((uint64_t)1 << 32);
		plays[1].tokens[2] = UINT64_MAX;
		for (unsigned i = 1; i < 4; i++)
			complete(1, i, APIKEYD_SUCCESS);
		run_until_late(w, 4);
		assert_int_equal(w->core.counters.calls_late, 4);
		assert_int_equal(w->answered, 1);
		assert_int_equal(plays[1].asked, 1);
		assert_int_equal(plays[1].self->pending, 0);
		assert_int_equal(w->owner.in_flight, 0);
		world_end(w);
	}
}

/* What became of the world meanwhile counts, not what was when it was asked. */
static void test_judged_again(void **state)
{
	struct world *w = world_new(true, "");
	struct apikeyd_principal p = principal_of(APIKEYD_KIND_USER, NULL, 101);
	char key[KEYTEXT_MAX + 1];
	struct rpc_request request;

	(void)state;
	make_key(KEY_KIND_ORGANIZATION, key);
	request = check(key, "page:read", "acme");
	world_stack(w, ID "account required say n=1\naccount required again n=2\nscope required later n=3\n" END);
	plays[0].code = plays[3].code = APIKEYD_PENDING;
	plays[1].code = plays[2].code = APIKEYD_SUCCESS;
	plays[0].principal = &p;
	ask_later(w, &request);
	complete(0, 0, APIKEYD_SUCCESS);
	while (plays[3].asked == 0)
		uv_run(&w->loop, UV_RUN_ONCE);
	assert_int_equal(plays[1].asked, 1);
	assert_int_equal(copy_put_page(w->mirror.copy, &(struct copy_page_row){11, 2, text("acme"), false}), 0);
	publish(w);
	complete(3, 0, APIKEYD_SUCCESS);
	run_until_answered(w, 1);
	assert_reason(read_answer(w, &w->late, 0), REASON_UNKNOWN_PAGE);
	assert_int_equal(plays[0].asked, 1);
	assert_int_equal(plays[1].asked, 1);
	assert_int_equal(plays[2].asked, 2); /* wants to be asked again */
	/* And the user. */
	request = check(key, "page:read", "acme-z");
	ask_later(w, &request);
	complete(0, 1, APIKEYD_SUCCESS);
	while (plays[3].asked == 1)
		uv_run(&w->loop, UV_RUN_ONCE);
	assert_int_equal(copy_remove_user(w->mirror.copy, 101), 0);
	publish(w);
	complete(3, 1, APIKEYD_SUCCESS);
	run_until_answered(w, 2);
	assert_reason(read_answer(w, &w->late, 0), REASON_UNKNOWN_KEY);
	world_end(w);
}

/* A module that had the store prove a key and said no all the same has said no for good. */
static void test_kept_denials(void **state)
{
	struct world *w = world_new(true, "");
	struct apikeyd_principal p = principal_of(APIKEYD_KIND_ORGANIZATION, "umbra", 0);
	char key[KEYTEXT_MAX + 1];
	struct rpc_request request;

	(void)state;
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "write", NULL, key);
	request = check(key, "incident:write", "acme");
	world_stack(w, "caller none\nkey [success=ok ignore=ignore default=ignore] id n=0\nkey required id n=1\n" END);
	plays[0].code = APIKEYD_POLICY;
	plays[0].store = true;
	plays[1].code = APIKEYD_PENDING;
	plays[1].principal = &p;
	ask_later(w, &request);
	complete(1, 0, APIKEYD_SUCCESS);
	run_until_answered(w, 1);
	assert_reason(read_answer(w, &w->late, 0), REASON_UNKNOWN_PAGE);
	assert_int_equal(plays[0].asked, 1);
	world_end(w);
}

static void test_deadline(void **state)
{
	struct world *w = world_new(true, "");
	char key[KEYTEXT_MAX + 1];
	struct rpc_request request;

	(void)state;
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "write", NULL, key);
	request = check(key, "page:read", "acme");
	request.context.deadline_ms = 1;
	world_stack(w, STORE "scope required later n=1\n" END);
	plays[1].code = APIKEYD_PENDING;
	ask_later(w, &request);
	run_until_answered(w, 1);
	assert_reason(read_answer(w, &w->late, 0), REASON_TIMEOUT);
	assert_int_equal(plays[1].cancelled, 1);
	assert_int_equal(plays[1].cancelled_token, plays[1].tokens[0]);
	/* Through the line's control, and the lines after it are asked. */
	world_stack(w, STORE "scope [success=ok timeout=ignore default=bad] later n=2\nscope required say n=3\n" END);
	plays[2].code = APIKEYD_PENDING;
	plays[3].code = APIKEYD_SUCCESS;
	ask_later(w, &request);
	run_until_answered(w, 2);
	assert_reason(read_answer(w, &w->late, 0), REASON_OK);
	assert_int_equal(plays[3].asked, 1);
	complete(2, 0, APIKEYD_SUCCESS); /* too late */
	run_until_late(w, 1);
	assert_int_equal(w->answered, 2);
	world_end(w);
}

static void test_forgotten(void **state)
{
	struct world *w = world_new(true, "[limits]\nmodule_pending = 2\n");
	char key[KEYTEXT_MAX + 1];
	struct rpc_request request;

	(void)state;
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "write", NULL, key);
	request = check(key, "page:read", "acme");
	world_stack(w, STORE "scope required later n=1\n" END);
	plays[1].code = APIKEYD_PENDING;
	ask_later(w, &request);
	ask_later(w, &request);
	assert_reason(ask(w, &request), REASON_OVERLOAD);
	assert_int_equal(w->core.counters.calls_overload, 1);
	assert_int_equal(plays[1].asked, 2);
	request_forget(&w->core, &w->owner);
	assert_int_equal(plays[1].cancelled, 2);
	assert_int_equal(plays[1].self->pending, 0);
	assert_int_equal(w->core.calls.count, 0);
	complete(1, 0, APIKEYD_SUCCESS);
	run_until_late(w, 1);
	assert_int_equal(w->answered, 0);
	ask_later(w, &request); /* there is room again */
	world_end(w);
}

/* Pairs are asked about together and answered together. */
static void test_many(void **state)
{
	struct world *w = world_new(true, "");
	const struct rpc_pair pairs[] = {{text("page:read"), text("acme")},
					 {text("page:read"), text("umbra")},
					 {text("page:read"), text("acme-z")},
					 {text("incident:write"), text("acme")}};
	static const int codes[] = {APIKEYD_SUCCESS, APIKEYD_POLICY, APIKEYD_RATE_LIMITED};
	static const enum reason reasons[] = {REASON_OK, REASON_UNKNOWN_PAGE, REASON_POLICY, REASON_RATE_LIMITED};
	char key[KEYTEXT_MAX + 1];
	struct rpc_request request;

	(void)state;
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "write", NULL, key);
	request = check(key, NULL, NULL);
	request.method = RPC_METHOD_CHECK_MANY;
	request.pairs = pairs;
	request.pair_count = 4;
	world_stack(w, STORE "page required later n=1\n" END);
	plays[1].code = APIKEYD_PENDING;
	ask_later(w, &request);
	assert_int_equal(plays[1].asked, 3);
	for (unsigned i = 3; i-- > 0;) {
		assert_int_equal(w->answered, 0);
		complete(1, i, codes[i]);
		uv_run(&w->loop, UV_RUN_NOWAIT);
	}
	run_until_answered(w, 1);
	for (unsigned i = 0; i < 4; i++)
		assert_reason(read_answer(w, &w->late, i), reasons[i]);
	assert_int_equal(plays[1].asked, 3);
	world_end(w);
}

static void test_pages(void **state)
{
	struct world *w = world_new(true, "");
	char key[KEYTEXT_MAX + 1];
	struct rpc_request request;
	struct rpc_answer answer;

	(void)state;
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "write", NULL, key);
	request = check(key, "page:read", NULL);
	request.method = RPC_METHOD_PAGES;
	/* It waits twice: before it knows its pages, and for each of them. */
	world_stack(w, STORE "account required later n=1\nscope required later n=2\n" END);
	plays[1].code = plays[2].code = APIKEYD_PENDING;
	ask_later(w, &request);
	complete(1, 0, APIKEYD_SUCCESS);
	while (plays[2].asked < 4)
		uv_run(&w->loop, UV_RUN_ONCE);
	for (unsigned i = 0; i < 4; i++)
		complete(2, i, i == 1 ? APIKEYD_POLICY : APIKEYD_SUCCESS);
	run_until_answered(w, 1);
	answer = read_answer(w, &w->late, 0);
	assert_reason(answer, REASON_OK);
	assert_int_equal(answer.page_count, 3); /* acme, acme-cloud (which was denied), acme-old, acme-z */
	assert_text(answer.pages[1], "acme-old");
	assert_int_equal(plays[2].asked, 4);
	/* Where some of them cannot be decided, the first says why, and the slowest says when. */
	plays[1].code = APIKEYD_SUCCESS;
	ask_later(w, &request);
	for (unsigned i = 0; i < 4; i++) {
		plays[2].retry_after_ms = i * 7 % 4 * 100;
		complete(2, 4 + i, i < 2 ? APIKEYD_OVERLOAD : APIKEYD_TIMEOUT);
	}
	run_until_answered(w, 2);
	answer = read_answer(w, &w->late, 0);
	assert_reason(answer, REASON_OVERLOAD);
	assert_int_equal(answer.retry_after_ms, 300);
	world_end(w);
}

/* More pages than a batch has room for. */
static void test_pages_endless(void **state)
{
	struct world *w = world_new(true, "[limits]\npages_per_answer = 10000\n");
	char key[KEYTEXT_MAX + 1], slug[32];
	struct rpc_request request;
	struct rpc_answer answer;

	(void)state;
	for (unsigned i = 0; i < 3000; i++) {
		snprintf(slug, sizeof(slug), "bulk-%04u", i);
		assert_int_equal(copy_put_page(w->mirror.copy, &(struct copy_page_row){1000 + i, 1, text(slug), false}),
				 0);
	}
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "write", NULL, key);
	request = check(key, "page:read", NULL);
	request.method = RPC_METHOD_PAGES;
	world_stack(w, STORE END);
	answer = ask(w, &request);
	assert_reason(answer, REASON_OK);
	assert_int_equal(answer.page_count, RPC_PAIRS_MAX);
	assert_non_null(answer.next.data);
	world_end(w);
}

/* ---- reload ---- */

static void test_swapped_while_pending(void **state)
{
	struct world *w = world_new(true, "");
	char key[KEYTEXT_MAX + 1];
	struct rpc_request request;

	(void)state;
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "write", NULL, key);
	request = check(key, "page:read", "acme");
	world_stack(w, STORE "account required say n=2\nscope required later n=1\n" END);
	plays[1].code = APIKEYD_PENDING;
	plays[2].code = plays[4].code = APIKEYD_SUCCESS;
	plays[3].code = APIKEYD_POLICY;
	ask_later(w, &request);
	assert_int_equal(plays[2].self->line, 3);
	world_stack(w, "# one more\n" STORE "account required say n=2\nscope required say n=3\n" END);
	assert_reason(ask(w, &request), REASON_POLICY);
	assert_int_equal(plays[2].opened, 1);	  /* the line is the same, and goes on */
	assert_int_equal(plays[2].self->line, 4); /* where it stands now */
	assert_int_equal(plays[1].closed, 0);
	world_stack(w, STORE "scope required say n=4\n" END);
	assert_reason(ask(w, &request), REASON_OK);
	assert_int_equal(plays[3].closed, 1);
	assert_int_equal(plays[2].closed, 0); /* who waits has it still */
	complete(1, 0, APIKEYD_SUCCESS);
	run_until_answered(w, 1);
	assert_reason(read_answer(w, &w->late, 0), REASON_OK);
	assert_int_equal(plays[1].closed, 1);
	assert_int_equal(plays[2].closed, 1);
	assert_int_equal(plays[1].ended, 1);
	world_end(w);
}

/* ---- explain, audit ---- */

static const char *trace_field(const struct value *trace, unsigned at, const char *name)
{
	static char found[128];
	const struct value *v = at < trace->count ? value_get(&trace->items[at], name) : NULL;

	snprintf(found, sizeof(found), "%.*s", v && v->type == VALUE_TEXT ? (int)v->count : 0, v ? v->text : "");
	return found;
}

static void test_explain(void **state)
{
	static const struct {
		const char *group, *module, *code;
	} lines[] = {
		{"caller", "core", "success"},	{"key", "core", "success"},  {"key", "store", "success"},
		{"account", "core", "success"}, {"page", "core", "success"}, {"scope", "core", "success"},
		{"scope", "say", "policy"},	{"audit", "say", "success"},
	};
	struct world *w = world_new(true, "");
	char key[KEYTEXT_MAX + 1];
	struct rpc_request request;
	struct rpc_answer answer;
	const struct value *trace;

	(void)state;
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "write", NULL, key);
	request = check(key, "page:read", "acme");
	request.method = RPC_METHOD_EXPLAIN;
	world_stack(w, STORE "scope requisite say n=1\naudit required say n=2\n");
	plays[1].code = APIKEYD_POLICY;
	plays[1].detail = "not today";
	plays[2].code = APIKEYD_SUCCESS;
	answer = ask(w, &request);
	assert_reason(answer, REASON_POLICY);
	trace = value_get(answer.more, "trace");
	assert_non_null(trace);
	assert_int_equal(trace->count, sizeof(lines) / sizeof(lines[0]));
	for (unsigned i = 0; i < trace->count; i++) {
		assert_string_equal(trace_field(trace, i, "group"), lines[i].group);
		assert_string_equal(trace_field(trace, i, "module"), lines[i].module);
		assert_string_equal(trace_field(trace, i, "code"), lines[i].code);
	}
	assert_string_equal(trace_field(trace, 6, "line"), "default:3");
	assert_string_equal(trace_field(trace, 6, "detail"), "not today");
	assert_string_equal(trace_field(trace, 6, "action"), "die");
	/* Only looked at: not counted, and nobody is told. */
	assert_int_equal(plays[1].ended + plays[2].ended, 0);
	assert_int_equal(w->core.counters.verdicts[REASON_POLICY], 0);
	request.method = RPC_METHOD_CHECK;
	assert_reason(ask(w, &request), REASON_POLICY);
	assert_int_equal(plays[1].ended, 1);
	assert_int_equal(w->core.counters.verdicts[REASON_POLICY], 1);
	world_end(w);
}

static void test_audit(void **state)
{
	struct world *w = world_new(true, "");
	char key[KEYTEXT_MAX + 1];
	struct rpc_request good, bad;

	(void)state;
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "write", NULL, key);
	good = check(key, "page:read", "acme");
	bad = check(key, "page:read", "umbra");
	world_stack(w, STORE "audit required say n=1\n");
	for (int code = -1; code <= APIKEYD_CODE_END; code++) {
		bool writes = code == APIKEYD_SUCCESS || code == APIKEYD_IGNORE;

		plays[1].code = code;
		assert_reason(ask(w, &good), writes ? REASON_OK : REASON_AUDIT_FULL);
		assert_int_equal(plays[1].reason_code, writes ? APIKEYD_SUCCESS : APIKEYD_AUDIT_FULL);
		assert_reason(ask(w, &bad), REASON_UNKNOWN_PAGE);
		assert_int_equal(plays[1].reason_code, APIKEYD_UNKNOWN_PAGE);
	}
	world_end(w);
}

/* What the answer says is the longest time of the lines that refused. */
static void test_retry_after(void **state)
{
	struct world *w = world_new(true, "");
	char key[KEYTEXT_MAX + 1], lines[1024] = STORE;
	struct rpc_request request;
	struct rpc_answer answer;
	uint64_t longest = 0;

	(void)state;
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "write", NULL, key);
	request = check(key, "page:read", "acme");
	for (unsigned i = 0; i < PLAYS; i++) {
		snprintf(lines + strlen(lines), sizeof(lines) - strlen(lines), "account required say n=%u\n", i);
		plays[i].code = APIKEYD_SUCCESS;
		plays[i].retry_after_ms = 1000 + i * 7 % PLAYS; /* the longest comes neither first nor last */
	}
	strcat(lines, END);
	world_stack(w, lines);
	answer = ask(w, &request);
	assert_reason(answer, REASON_OK);
	assert_false(answer.has_retry);
	for (unsigned i = PLAYS; i-- > 0;) {
		plays[i].code = i % 2 ? APIKEYD_RATE_LIMITED : APIKEYD_POLICY;
		longest = plays[i].retry_after_ms > longest ? plays[i].retry_after_ms : longest;
		answer = ask(w, &request);
		assert_reason(answer, i % 2 ? REASON_RATE_LIMITED : REASON_POLICY);
		assert_true(answer.has_retry);
		assert_int_equal(answer.retry_after_ms, longest);
	}
	/* The denial is the reason, however long a fault beside it would have one wait. */
	plays[0].code = APIKEYD_OVERLOAD;
	plays[0].retry_after_ms = 5000;
	answer = ask(w, &request);
	assert_reason(answer, REASON_RATE_LIMITED);
	assert_int_equal(answer.retry_after_ms, longest);
	for (unsigned i = 1; i < PLAYS; i++)
		plays[i].code = i == 2 ? APIKEYD_TIMEOUT : APIKEYD_SUCCESS;
	answer = ask(w, &request);
	assert_reason(answer, REASON_OVERLOAD);
	assert_int_equal(answer.retry_after_ms, 5000);
	for (unsigned i = 0; i < PLAYS; i++) {
		plays[i].code = APIKEYD_POLICY;
		plays[i].retry_after_ms = 1000 + PLAYS - i;
	}
	/* However many said no and were ignored, it is that of the one which refused: a denial's, or a fault's. */
	strcpy(lines, STORE);
	for (unsigned i = 0; i + 1 < PLAYS; i++)
		snprintf(lines + strlen(lines), sizeof(lines) - strlen(lines), "account optional say n=%u\n", i);
	snprintf(lines + strlen(lines), sizeof(lines) - strlen(lines), "account required say n=%u\n" END, PLAYS - 1);
	world_stack(w, lines);
	for (unsigned faulty = 0; faulty < 2; faulty++) {
		plays[PLAYS - 1].code = faulty ? APIKEYD_OVERLOAD : APIKEYD_POLICY;
		answer = ask(w, &request);
		assert_reason(answer, faulty ? REASON_OVERLOAD : REASON_POLICY);
		assert_int_equal(answer.retry_after_ms, 1001);
	}
	/* Of a substack, too: it refused in the lines that refused in it. */
	policy_text_set(&w->core,
			(const struct policy_text[]){
				{"default", STORE "account required say n=8\naccount substack inner\n" END},
				{"inner", STORE "account required say n=5\naccount required say n=7\n" END},
				{0}},
			play_modules);
	answer = ask(w, &request);
	assert_reason(answer, REASON_POLICY);
	assert_int_equal(answer.retry_after_ms, 1000 + PLAYS - 5);
	/* Of the core's own denial: none, whoever said one. */
	for (unsigned i = 0; i < PLAYS; i++)
		plays[i].code = APIKEYD_SUCCESS;
	request = check(key, "page:read", "umbra");
	answer = ask(w, &request);
	assert_reason(answer, REASON_UNKNOWN_PAGE);
	assert_false(answer.has_retry);
	world_end(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_module_turns_a_denial),
		cmocka_unit_test(test_granted),
		cmocka_unit_test(test_writes),
		cmocka_unit_test(test_narrowing),
		cmocka_unit_test(test_break_glass_without_a_copy),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_completed_once),
		cmocka_unit_test(test_judged_again),
		cmocka_unit_test(test_kept_denials),
		cmocka_unit_test(test_deadline),
		cmocka_unit_test(test_forgotten),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_pages),
		cmocka_unit_test(test_pages_endless),
		cmocka_unit_test(test_swapped_while_pending),
		cmocka_unit_test(test_explain),
		cmocka_unit_test(test_audit),
		cmocka_unit_test(test_retry_after),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
