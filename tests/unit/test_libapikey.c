/* libapikey's blocking form and what both forms share, against daemons that behave and daemons that do not. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "client/apikey.h"
#include "client/libapikey/call.h"
#include "tests/unit/fake_daemon.h"

#define KEY	   "aku_0123456789_thesecretpartofakeythatisnotakeyatall"
#define SCRIPTS(s) (s), sizeof(s) / sizeof((s)[0])

enum {
	SHORT_MS = 50,	 /* for deadlines that must pass */
	LONG_MS = 60000, /* for those that must not */
};

static struct apikey *open_at(const char *path, int timeout_ms, unsigned connections)
{
	struct apikey_options options = APIKEY_OPTIONS_INIT;
	struct apikey *handle;

	options.socket = path;
	options.timeout_ms = timeout_ms;
	options.connections = connections;
	assert_int_equal(apikey_open(&options, &handle), 0);
	return handle;
}

/* A result as a careless caller has it before a call: everything is yes. */
static struct apikey_result yes(void)
{
	struct apikey_result result;

	memset(&result, 0x5a, sizeof(result));
	result.verdict = APIKEY_ALLOW;
	result.reason = APIKEY_REASON_OK;
	return result;
}

static bool is_failed(const struct apikey_result *result, enum apikey_verdict verdict)
{
	struct apikey_result failed;

	memset(&failed, 0, sizeof(failed));
	failed.verdict = verdict;
	return memcmp(&failed, result, sizeof(failed)) == 0;
}

/* One check on a new handle against one script; the result is what a failure must leave. */
static int check_against(fake_script script, int timeout_ms)
{
	const fake_script scripts[] = {script};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey *handle = open_at(fake_path(fake), timeout_ms, 0);
	struct apikey_result result = yes();
	int r = apikey_check(handle, KEY, "incident:write", "acme", NULL, &result);

	assert_int_not_equal(r, 0);
	assert_true(is_failed(&result, r == -EINVAL ? APIKEY_DENY : APIKEY_UNAVAILABLE));
	assert_true(strlen(apikey_error()) > 0);
	assert_null(strstr(apikey_error(), "thesecret"));
	/* one that was closed is tried again, twice; whatever else happens on a new one is its answer */
	assert_int_equal(fake_accepted(fake), r == -ECONNRESET ? 3 : 1);
	apikey_close(handle);
	fake_stop(fake);
	return r;
}

/* ---- answers ---- */

static void test_words(void **state)
{
	(void)state;
	assert_string_equal(apikey_verdict_word(APIKEY_DENY), "deny");
	assert_string_equal(apikey_verdict_word(APIKEY_ALLOW), "allow");
	assert_string_equal(apikey_verdict_word(APIKEY_UNAVAILABLE), "unavailable");
	assert_string_equal(apikey_reason_word(APIKEY_REASON_NO_ANSWER), "no_answer");
	assert_string_equal(apikey_reason_word(APIKEY_REASON_OTHER), "other");
	assert_string_equal(apikey_reason_word((enum apikey_reason)999), "other");
	/* every reason of the protocol has a number of its own here, and the same word */
	for (unsigned i = 0; i < REASON_COUNT; i++) {
		unsigned found = 0;

		for (int n = APIKEY_REASON_OK; n <= APIKEY_REASON_NO_PEPPER; n++)
			if (!strcmp(apikey_reason_word((enum apikey_reason)n), reason_word((enum reason)i)))
				found++;
		assert_int_equal(found, 1);
	}
}

static void script_every_field(struct peer *peer)
{
	struct rpc_request request;
	struct rpc_buffer out = {0};
	struct rpc_answer answer = {
		.reason = REASON_SCOPE_NOT_GRANTED,
		.rev = 1234567890123,
		.age_ms = 99,
		.stale = true,
		.proven = true,
		.key_id = "AbCdEfGhIj",
		.kind = KEY_KIND_USER,
		.org = {"acme", 4},
		.user = {"ada@example.org", 15},
		.page = {"acme-status", 11},
		.missing_scope = {"incident:delete", 15},
		.needs_role = {"admin", 5},
		.has_retry = true,
		.retry_after_ms = 1500,
		.has_expiry = true,
		.expires_at = 1900000000,
		.successor = "ZZZZZZZZZZ",
	};

	if (peer_greet(peer) && peer_next(peer, &request)) {
		rpc_put_answer(&out, request.msgid, &answer);
		peer_put(peer, &out);
	}
	peer_wait(peer);
}

static void test_every_field(void **state)
{
	const fake_script scripts[] = {script_every_field};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey *handle = open_at(fake_path(fake), LONG_MS, 0);
	struct apikey_result result = yes();

	(void)state;
	assert_int_equal(apikey_check(handle, KEY, "incident:delete", "acme-status", NULL, &result), 0);
	assert_string_equal(apikey_error(), "");
	assert_int_equal(result.verdict, APIKEY_DENY);
	assert_int_equal(result.reason, APIKEY_REASON_SCOPE_NOT_GRANTED);
	assert_string_equal(result.reason_word, "scope_not_granted");
	assert_int_equal(result.rev, 1234567890123);
	assert_int_equal(result.age_ms, 99);
	assert_true(result.stale);
	assert_string_equal(result.key_id, "AbCdEfGhIj");
	assert_string_equal(result.kind, "user");
	assert_string_equal(result.org, "acme");
	assert_string_equal(result.user, "ada@example.org");
	assert_string_equal(result.page, "acme-status");
	assert_string_equal(result.missing_scope, "incident:delete");
	assert_string_equal(result.needs_role, "admin");
	assert_int_equal(result.retry_after_ms, 1500);
	assert_int_equal(result.expires_at, 1900000000);
	assert_string_equal(result.successor, "ZZZZZZZZZZ");
	apikey_close(handle);
	fake_stop(fake);
}

static void assert_stale(const struct apikey_result *result, bool first)
{
	assert_int_equal(result->verdict, first ? APIKEY_ALLOW : APIKEY_UNAVAILABLE);
	assert_int_equal(result->stale, first);
	assert_int_equal(result->age_ms, 12345);
	assert_int_equal(result->retry_after_ms, first ? 0 : 250);
}

/* Every call tells of a stale copy, and none asks again by itself: when, is the caller's to say. */
static void test_stale(void **state)
{
	const fake_script scripts[] = {script_stale};
	const struct apikey_pair pairs[2] = {{"page:read", NULL}, {"page:read", "acme"}};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey *handle = open_at(fake_path(fake), LONG_MS, 1);
	struct apikey_identity identity;
	struct apikey_page_list list;
	struct apikey_result results[2];

	(void)state;
	for (int round = 0; round < 2; round++) {
		assert_int_equal(apikey_check(handle, KEY, "page:read", NULL, NULL, results), 0);
		assert_stale(results, true);
		assert_int_equal(apikey_check_many(handle, KEY, pairs, 2, NULL, results), 0);
		assert_stale(&results[0], false);
		assert_stale(&results[1], false);
		assert_int_equal(apikey_pages(handle, KEY, "page:read", NULL, &list), 0);
		assert_stale(&list.result, true);
		apikey_page_list_free(&list);
		assert_int_equal(apikey_whoami(handle, KEY, NULL, &identity), 0);
		assert_stale(&identity.result, false);
		apikey_identity_free(&identity);
	}
	/* An odd one, and the kinds are answered the other way round. */
	assert_int_equal(apikey_check(handle, KEY, "page:read", NULL, NULL, results), 0);
	assert_stale(results, true);
	assert_int_equal(apikey_check(handle, KEY, "page:read", NULL, NULL, results), 0);
	assert_stale(results, false);
	assert_int_equal(apikey_check_many(handle, KEY, pairs, 2, NULL, results), 0);
	assert_stale(&results[1], true);
	assert_int_equal(apikey_pages(handle, KEY, "page:read", NULL, &list), 0);
	assert_stale(&list.result, false);
	apikey_page_list_free(&list);
	assert_int_equal(apikey_whoami(handle, KEY, NULL, &identity), 0);
	assert_stale(&identity.result, true);
	apikey_identity_free(&identity);
	assert_int_equal(fake_asked(fake), 13);
	apikey_close(handle);
	fake_stop(fake);
}

/* Answers check number n with reason n. */
static void script_all_reasons(struct peer *peer)
{
	struct rpc_request request;

	if (!peer_greet(peer))
		return;
	for (unsigned i = 0; peer_next(peer, &request); i++)
		peer_answer(peer, request.msgid, (enum reason)i, NULL);
}

static void test_all_reasons(void **state)
{
	const fake_script scripts[] = {script_all_reasons};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey *handle = open_at(fake_path(fake), LONG_MS, 0);

	(void)state;
	for (unsigned i = 0; i < REASON_COUNT; i++) {
		struct apikey_result result = yes();

		assert_int_equal(apikey_check(handle, KEY, "page:read", NULL, NULL, &result), 0);
		assert_int_equal(result.verdict, verdict_of((enum reason)i));
		assert_string_equal(result.reason_word, reason_word((enum reason)i));
		assert_string_equal(apikey_reason_word(result.reason), reason_word((enum reason)i));
	}
	assert_int_equal(fake_accepted(fake), 1);
	apikey_close(handle);
	fake_stop(fake);
}

/* A verdict map with these words; further fields by the caller. */
static void put_words(struct peer *peer, uint32_t msgid, const char *verdict, const char *reason, const char *page)
{
	struct rpc_buffer out = {0};
	struct arena arena = {0};
	struct value map;

	value_map(&map);
	value_set_text(&arena, &map, "verdict", verdict);
	value_set_text(&arena, &map, "reason", reason);
	value_set_uint(&arena, &map, "rev", 1);
	value_set_uint(&arena, &map, "age_ms", 1);
	if (page)
		value_set_text(&arena, &map, "page", page);
	rpc_put_result(&out, msgid, &map);
	peer_put(peer, &out);
	arena_clear(&arena);
}

static void script_words(struct peer *peer)
{
	static char page[APIKEY_SLUG_MAX + 1];
	struct rpc_request request;

	memset(page, 'p', APIKEY_SLUG_MAX);
	if (!peer_greet(peer) || !peer_next(peer, &request))
		return;
	if (request.pair.scope.len == 4) /* "deny" */
		put_words(peer, request.msgid, "deny", "moon_phase", NULL);
	else if (request.pair.scope.len == 5)
		put_words(peer, request.msgid, "unavailable", "moon_lost", NULL);
	else if (request.pair.scope.len == 6)
		put_words(peer, request.msgid, "allow", "moon_phase", NULL);
	else if (request.pair.scope.len == 7)
		put_words(peer, request.msgid, "allow", "expired", NULL);
	else if (request.pair.scope.len == 8)
		put_words(peer, request.msgid, "perhaps", "ok", NULL);
	else
		put_words(peer, request.msgid, "allow", "ok", page);
	peer_wait(peer);
}

static void test_words_unknown_or_wrong(void **state)
{
	const fake_script scripts[] = {script_words};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey *handle;
	struct apikey_result result = yes();

	(void)state;
	/* A newer daemon's reason goes by its verdict, unless that is ALLOW. */
	handle = open_at(fake_path(fake), LONG_MS, 0);
	assert_int_equal(apikey_check(handle, KEY, "1234", NULL, NULL, &result), 0);
	assert_int_equal(result.verdict, APIKEY_DENY);
	assert_int_equal(result.reason, APIKEY_REASON_OTHER);
	assert_string_equal(result.reason_word, "moon_phase");
	apikey_close(handle);
	handle = open_at(fake_path(fake), LONG_MS, 0);
	assert_int_equal(apikey_check(handle, KEY, "12345", NULL, NULL, &result), 0);
	assert_int_equal(result.verdict, APIKEY_UNAVAILABLE);
	assert_int_equal(result.reason, APIKEY_REASON_OTHER);
	assert_string_equal(result.reason_word, "moon_lost");
	apikey_close(handle);
	/* unknown reason of ALLOW; ALLOW with a reason to deny; unknown verdict; a text longer than any may be */
	for (size_t len = 6; len <= 9; len++) {
		char scope[16] = {0};

		memset(scope, 's', len);
		result = yes();
		handle = open_at(fake_path(fake), LONG_MS, 0);
		assert_int_equal(apikey_check(handle, KEY, scope, NULL, NULL, &result), -EPROTO);
		assert_true(is_failed(&result, APIKEY_UNAVAILABLE));
		apikey_close(handle);
	}
	fake_stop(fake);
}

/* ---- questions ---- */

static bool text_is(struct rpc_text text, const char *wanted)
{
	return text.data && text.len == strlen(wanted) && !memcmp(text.data, wanted, text.len);
}

/* ALLOW where everything that the test asks for arrived as it should. */
static void script_context(struct peer *peer)
{
	const uint8_t addr[4] = {192, 0, 2, 7};
	struct rpc_request request;
	bool good;

	if (!peer_greet(peer) || !peer_next(peer, &request))
		return;
	good = request.method == RPC_METHOD_PAGES && text_is(request.key, KEY) &&
	       text_is(request.pair.scope, "page:read") && text_is(request.context.stack, "strict") &&
	       text_is(request.context.org, "acme") && text_is(request.context.after, "m") &&
	       request.context.addr.family == 4 && !memcmp(request.context.addr.bytes, addr, 4) &&
	       request.context.min_rev == 77 && request.context.cost == 3 && request.context.deadline_ms > 0 &&
	       request.context.deadline_ms < LONG_MS;
	if (good)
		peer_allow(peer, &request);
	else
		peer_answer(peer, request.msgid, REASON_POLICY, NULL);
	peer_wait(peer);
}

static void test_context_arrives(void **state)
{
	const fake_script scripts[] = {script_context};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey *handle = open_at(fake_path(fake), 1, 0);
	struct apikey_context context = APIKEY_CONTEXT_INIT;
	struct apikey_page_list list;

	(void)state;
	context.timeout_ms = LONG_MS;
	context.stack = "strict";
	context.org = "acme";
	context.after = "m";
	context.addr = "::ffff:192.0.2.7";
	context.min_rev = 77;
	context.cost = 3;
	assert_int_equal(apikey_pages(handle, KEY, "page:read", &context, &list), 0);
	assert_int_equal(list.result.verdict, APIKEY_ALLOW);
	assert_int_equal(list.count, 2);
	assert_string_equal(list.pages[0], "alpha");
	assert_string_equal(list.pages[1], "beta");
	assert_null(list.next);
	apikey_page_list_free(&list);
	assert_int_equal(list.count, 0);
	apikey_page_list_free(&list);
	apikey_page_list_free(NULL);
	apikey_close(handle);
	fake_stop(fake);
}

static void script_key_length(struct peer *peer)
{
	struct rpc_request request;

	if (peer_greet(peer))
		while (peer_next(peer, &request))
			peer_answer(peer, request.msgid,
				    request.key.len == 0 || request.key.len == RPC_KEY_MAX ? REASON_MALFORMED_KEY
											   : REASON_OK,
				    NULL);
}

/* What remote clients send is the daemon's to judge, however long it is. */
static void test_keys_of_any_length(void **state)
{
	const fake_script scripts[] = {script_key_length};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey *handle = open_at(fake_path(fake), LONG_MS, 0);
	static char key[1 << 20];
	struct apikey_result result;

	(void)state;
	memset(key, 'k', sizeof(key) - 1);
	assert_int_equal(apikey_check(handle, key, "page:read", NULL, NULL, &result), 0);
	assert_int_equal(result.reason, APIKEY_REASON_MALFORMED_KEY);
	assert_int_equal(apikey_check(handle, "", "page:read", NULL, NULL, &result), 0);
	assert_int_equal(result.reason, APIKEY_REASON_MALFORMED_KEY);
	assert_int_equal(apikey_check(handle, KEY, "page:read", NULL, NULL, &result), 0);
	assert_int_equal(result.reason, APIKEY_REASON_OK);
	apikey_close(handle);
	fake_stop(fake);
}

static void test_wrong_arguments_are_deny(void **state)
{
	struct apikey *handle = open_at("/nowhere/at/all", LONG_MS, 0);
	static struct apikey_pair pairs[APIKEY_PAIRS_MAX + 1];
	static struct apikey_result results[APIKEY_PAIRS_MAX + 1];
	struct apikey_context context = APIKEY_CONTEXT_INIT;
	struct apikey_result result;
	struct apikey_identity identity;
	char longer[512] = {0};

	(void)state;
	memset(longer, 'x', sizeof(longer) - 1);
#define DENIED(call)                                                                                                   \
	do {                                                                                                           \
		result = yes();                                                                                        \
		assert_int_equal((call), -EINVAL);                                                                     \
		assert_true(is_failed(&result, APIKEY_DENY));                                                          \
		assert_true(strlen(apikey_error()) > 0);                                                               \
	} while (0)
	DENIED(apikey_check(NULL, KEY, "page:read", NULL, NULL, &result));
	DENIED(apikey_check(handle, NULL, "page:read", NULL, NULL, &result));
	DENIED(apikey_check(handle, KEY, NULL, NULL, NULL, &result));
	DENIED(apikey_check(handle, KEY, longer, NULL, NULL, &result));
	DENIED(apikey_check(handle, KEY, "page:read", longer, NULL, &result));
	context.addr = "300.1.1.1";
	DENIED(apikey_check(handle, KEY, "page:read", NULL, &context, &result));
	context = (struct apikey_context)APIKEY_CONTEXT_INIT;
	context.timeout_ms = -1;
	DENIED(apikey_check(handle, KEY, "page:read", NULL, &context, &result));
	context.timeout_ms = APIKEY_TIMEOUT_MAX_MS + 1;
	DENIED(apikey_check(handle, KEY, "page:read", NULL, &context, &result));
	context = (struct apikey_context)APIKEY_CONTEXT_INIT;
	context.cost = RPC_COST_MAX + 1;
	DENIED(apikey_check(handle, KEY, "page:read", NULL, &context, &result));
	memset(&context, 0, sizeof(context)); /* no size */
	DENIED(apikey_check(handle, KEY, "page:read", NULL, &context, &result));
	DENIED(apikey_check_many(handle, KEY, NULL, 1, NULL, &result));
	DENIED(apikey_check_many(handle, KEY, pairs, 1, NULL, &result));
#undef DENIED
	for (size_t i = 0; i <= APIKEY_PAIRS_MAX; i++) {
		pairs[i].scope = "page:read";
		results[i] = yes();
	}
	assert_int_equal(apikey_check_many(handle, KEY, pairs, APIKEY_PAIRS_MAX + 1, NULL, results), -EINVAL);
	for (size_t i = 0; i <= APIKEY_PAIRS_MAX; i++)
		assert_true(is_failed(&results[i], APIKEY_DENY));
	assert_int_equal(apikey_check_many(handle, KEY, pairs, 0, NULL, results), -EINVAL);
	assert_int_equal(apikey_check(handle, KEY, "page:read", NULL, NULL, NULL), -EINVAL);
	assert_int_equal(apikey_whoami(handle, NULL, NULL, &identity), -EINVAL);
	assert_true(is_failed(&identity.result, APIKEY_DENY));
	apikey_identity_free(&identity);
	apikey_close(handle);
	apikey_close(NULL);
}

static void test_options(void **state)
{
	struct {
		struct apikey_options known;
		void *newer;
	} options = {.known = APIKEY_OPTIONS_INIT};
	struct apikey *handle = (struct apikey *)&options;
	char path[300] = {0};

	(void)state;
	options.known.size = 0;
	assert_int_equal(apikey_open(&options.known, &handle), -EINVAL);
	assert_null(handle);
	/* a newer caller: fine while what we do not know is not set */
	options.known.size = sizeof(options);
	assert_int_equal(apikey_open(&options.known, &handle), 0);
	apikey_close(handle);
	options.newer = &options;
	assert_int_equal(apikey_open(&options.known, &handle), -E2BIG);
	/* an older one, which knew but the socket: what lies behind is not looked at */
	options.known.size = offsetof(struct apikey_options, timeout_ms);
	options.known.timeout_ms = -5;
	assert_int_equal(apikey_open(&options.known, &handle), 0);
	apikey_close(handle);
	options.known.size = sizeof(options.known);
	assert_int_equal(apikey_open(&options.known, &handle), -EINVAL);
	options.known.timeout_ms = 0;
	options.known.connections = 100000;
	assert_int_equal(apikey_open(&options.known, &handle), -EINVAL);
	options.known.connections = 0;
	memset(path, 'p', sizeof(path) - 1);
	options.known.socket = path;
	assert_int_equal(apikey_open(&options.known, &handle), -ENAMETOOLONG);
	options.known.socket = NULL;
	options.known.client = path;
	assert_int_equal(apikey_open(&options.known, &handle), -EINVAL);
	assert_int_equal(apikey_open(NULL, NULL), -EINVAL);
	assert_int_equal(apikey_open(NULL, &handle), 0);
	apikey_close(handle);
}

static void test_socket_from_environment(void **state)
{
	const fake_script scripts[] = {script_allow};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey_result result;
	struct apikey *handle;

	(void)state;
	setenv("APIKEYD_SOCKET", fake_path(fake), 1);
	assert_int_equal(apikey_open(NULL, &handle), 0);
	unsetenv("APIKEYD_SOCKET");
	assert_int_equal(apikey_check(handle, KEY, "page:read", "acme", NULL, &result), 0);
	assert_int_equal(result.verdict, APIKEY_ALLOW);
	apikey_close(handle);
	fake_stop(fake);
}

/* ---- check_many and whoami ---- */

static void test_check_many(void **state)
{
	const fake_script scripts[] = {script_allow};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey *handle = open_at(fake_path(fake), LONG_MS, 0);
	static struct apikey_pair pairs[APIKEY_PAIRS_MAX];
	static struct apikey_result results[APIKEY_PAIRS_MAX];
	static char pages[APIKEY_PAIRS_MAX][16], longest[RPC_PAGE_MAX + 1];

	(void)state;
	for (size_t i = 0; i < APIKEY_PAIRS_MAX; i++) {
		snprintf(pages[i], sizeof(pages[i]), "page-%zu", i);
		pairs[i] = (struct apikey_pair){"page:read", pages[i]};
	}
	assert_int_equal(apikey_check_many(handle, KEY, pairs, APIKEY_PAIRS_MAX, NULL, results), 0);
	for (size_t i = 0; i < APIKEY_PAIRS_MAX; i++) {
		assert_int_equal(results[i].verdict, APIKEY_ALLOW);
		assert_string_equal(results[i].page, pages[i]);
	}
	memset(longest, 'l', RPC_PAGE_MAX);
	for (size_t i = 0; i < APIKEY_PAIRS_MAX; i++)
		pairs[i].page = longest;
	assert_int_equal(apikey_check_many(handle, KEY, pairs, APIKEY_PAIRS_MAX, NULL, results), -EMSGSIZE);
	for (size_t i = 0; i < APIKEY_PAIRS_MAX; i++)
		assert_true(is_failed(&results[i], APIKEY_UNAVAILABLE));
	apikey_close(handle);
	fake_stop(fake);
}

/* To three pairs: two verdicts; then three of which the last is nonsense. */
static void script_many_wrong(struct peer *peer)
{
	struct rpc_answer answer = {.reason = REASON_OK};
	struct rpc_buffer out = {0};
	struct rpc_request request;

	if (!peer_greet(peer) || !peer_next(peer, &request))
		return;
	rpc_put_answers_head(&out, request.msgid, 2);
	rpc_put_answer_map(&out, &answer);
	rpc_put_answer_map(&out, &answer);
	peer_put(peer, &out);
	if (!peer_next(peer, &request))
		return;
	rpc_put_answers_head(&out, request.msgid, 3);
	rpc_put_answer_map(&out, &answer);
	rpc_put_answer_map(&out, &answer);
	peer_put(peer, &out);
	peer_bytes(peer, "\x80", 1); /* an empty map */
	peer_wait(peer);
}

static void test_check_many_is_all_or_nothing(void **state)
{
	const fake_script scripts[] = {script_many_wrong};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey *handle = open_at(fake_path(fake), LONG_MS, 0);
	struct apikey_pair pairs[3] = {{"a:read", NULL}, {"b:read", NULL}, {"c:read", NULL}};
	struct apikey_result results[3];

	(void)state;
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 3; i++)
			results[i] = yes();
		assert_int_equal(apikey_check_many(handle, KEY, pairs, 3, NULL, results), -EPROTO);
		for (int i = 0; i < 3; i++)
			assert_true(is_failed(&results[i], APIKEY_UNAVAILABLE));
	}
	apikey_close(handle);
	fake_stop(fake);
}

static void add_role(struct arena *arena, struct value *list, const char *where, const char *place, const char *role)
{
	struct value *map = value_add(arena, list);

	value_map(map);
	value_set_text(arena, map, where, place);
	value_set_text(arena, map, "role", role);
}

static void script_whoami(struct peer *peer)
{
	struct rpc_answer answer = {.reason = REASON_OK, .proven = true, .key_id = "0123456789"};
	struct rpc_buffer out = {0};
	struct rpc_request request;
	struct arena arena = {0};
	struct value more, *list, *narrowing, *rate;

	if (!peer_greet(peer) || !peer_next(peer, &request))
		return;
	value_map(&more);
	list = value_set(&arena, &more, "organizations");
	value_list(list);
	add_role(&arena, list, "org", "acme", "viewer");
	add_role(&arena, list, "org", "zeta", "owner");
	list = value_set(&arena, &more, "pages");
	value_list(list);
	add_role(&arena, list, "page", "acme-status", "editor");
	value_set_bool(&arena, &more, "truncated", true);
	narrowing = value_set(&arena, &more, "narrowing");
	value_map(narrowing);
	list = value_set(&arena, narrowing, "pages");
	value_list(list);
	list = value_set(&arena, narrowing, "scopes");
	value_list(list);
	value_text(&arena, value_add(&arena, list), "page:read", 9);
	rate = value_set(&arena, narrowing, "rate");
	value_map(rate);
	value_set_uint(&arena, rate, "count", 100);
	value_set_uint(&arena, rate, "period_s", 60);
	answer.more = &more;
	rpc_put_answer(&out, request.msgid, &answer);
	peer_put(peer, &out);
	arena_clear(&arena);
	peer_wait(peer);
}

static void test_whoami(void **state)
{
	const fake_script scripts[] = {script_whoami};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey *handle = open_at(fake_path(fake), LONG_MS, 0);
	struct apikey_identity identity;

	(void)state;
	assert_int_equal(apikey_whoami(handle, KEY, NULL, &identity), 0);
	assert_int_equal(identity.result.verdict, APIKEY_ALLOW);
	assert_string_equal(identity.result.kind, "user");
	assert_int_equal(identity.organization_count, 2);
	assert_string_equal(identity.organizations[1].place, "zeta");
	assert_string_equal(identity.organizations[1].role, "owner");
	assert_int_equal(identity.page_count, 1);
	assert_string_equal(identity.page_roles[0].place, "acme-status");
	assert_string_equal(identity.page_roles[0].role, "editor");
	assert_true(identity.truncated);
	/* narrowed to nothing is not the same as not narrowed */
	assert_true(identity.pages.narrowed);
	assert_int_equal(identity.pages.count, 0);
	assert_true(identity.scopes.narrowed);
	assert_int_equal(identity.scopes.count, 1);
	assert_string_equal(identity.scopes.names[0], "page:read");
	assert_false(identity.networks.narrowed);
	assert_true(identity.narrowed_rate);
	assert_int_equal(identity.rate_count, 100);
	assert_int_equal(identity.rate_period_s, 60);
	assert_null(identity.access);
	apikey_identity_free(&identity);
	apikey_close(handle);
	fake_stop(fake);
}

enum { MANY_PAGES = 3000 };

static void script_many_pages(struct peer *peer)
{
	static char slugs[MANY_PAGES][201];
	static struct rpc_text pages[MANY_PAGES];
	struct rpc_answer answer = {.reason = REASON_OK, .has_pages = true, .pages = pages, .page_count = MANY_PAGES};
	struct rpc_buffer out = {0};
	struct rpc_request request;

	for (int i = 0; i < MANY_PAGES; i++) {
		snprintf(slugs[i], sizeof(slugs[i]), "%0200d", i);
		pages[i] = (struct rpc_text){slugs[i], 200};
	}
	answer.next = pages[MANY_PAGES - 1];
	answer.proven = true;
	strcpy(answer.key_id, "0123456789");
	if (!peer_greet(peer) || !peer_next(peer, &request))
		return;
	rpc_put_answer(&out, request.msgid, &answer);
	assert_true(out.len > 600000);
	peer_put(peer, &out);
	peer_wait(peer);
}

static void test_long_answer(void **state)
{
	const fake_script scripts[] = {script_many_pages};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey *handle = open_at(fake_path(fake), LONG_MS, 0);
	struct apikey_page_list list;
	char last[201];

	(void)state;
	snprintf(last, sizeof(last), "%0200d", MANY_PAGES - 1);
	assert_int_equal(apikey_pages(handle, KEY, "page:read", NULL, &list), 0);
	assert_int_equal(list.count, MANY_PAGES);
	assert_string_equal(list.pages[MANY_PAGES - 1], last);
	assert_string_equal(list.next, last);
	apikey_page_list_free(&list);
	apikey_close(handle);
	fake_stop(fake);
}

/* ---- daemons that are not there, or not well ---- */

static void test_nobody_listens(void **state)
{
	const fake_script scripts[] = {script_allow};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey *handle = open_at(fake_path(fake), LONG_MS, 0);
	struct apikey_result result = yes();
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	(void)state;
	strcpy(address.sun_path, fake_path(fake));
	fake_stop(fake);
	assert_int_equal(apikey_check(handle, KEY, "page:read", NULL, NULL, &result), -ENOENT);
	assert_true(is_failed(&result, APIKEY_UNAVAILABLE));
	assert_non_null(strstr(apikey_error(), address.sun_path));
	/* a socket file that nobody listens at */
	strcpy(address.sun_path, "/tmp/libapikey-test.stale");
	unlink(address.sun_path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	apikey_close(handle);
	handle = open_at(address.sun_path, LONG_MS, 0);
	result = yes();
	assert_int_equal(apikey_check(handle, KEY, "page:read", NULL, NULL, &result), -ECONNREFUSED);
	assert_true(is_failed(&result, APIKEY_UNAVAILABLE));
	close(fd);
	unlink(address.sun_path);
	apikey_close(handle);
}

/* A full backlog makes even connecting wait. */
static void test_backlog_full(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct apikey_result result = yes();
	int listener = socket(AF_UNIX, SOCK_STREAM, 0), fill[8];
	struct apikey *handle;
	unsigned filled = 0;

	(void)state;
	snprintf(address.sun_path, sizeof(address.sun_path), "/tmp/libapikey-test.backlog.%d", (int)getpid());
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, 0), 0);
	do {
		fill[filled] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	} while (!connect(fill[filled++], (struct sockaddr *)&address, sizeof(address)) && filled < 8);
	assert_int_equal(errno, EAGAIN);
	handle = open_at(address.sun_path, SHORT_MS, 0);
	assert_int_equal(apikey_check(handle, KEY, "page:read", NULL, NULL, &result), -ETIMEDOUT);
	assert_true(is_failed(&result, APIKEY_UNAVAILABLE));
	apikey_close(handle);
	while (filled > 0)
		close(fill[--filled]);
	close(listener);
	unlink(address.sun_path);
}

static void script_no_hello(struct peer *peer)
{
	peer_wait(peer);
}

static void script_other_protocol(struct peer *peer)
{
	peer_greet_with(peer, RPC_PROTOCOL + 1, 0);
	peer_wait(peer);
}

static void script_no_protocol(struct peer *peer)
{
	peer_greet_with(peer, 0, 0);
	peer_wait(peer);
}

/* Half of an answer, and the end. */
static void script_dies(struct peer *peer)
{
	struct rpc_answer answer = {.reason = REASON_OK};
	struct rpc_buffer out = {0};
	struct rpc_request request;

	if (!peer_greet(peer) || !peer_next(peer, &request))
		return;
	rpc_put_answer(&out, request.msgid, &answer);
	peer_bytes(peer, out.data, out.len - 1);
	rpc_buffer_deinit(&out);
}

/* The same without the end. */
static void script_stops(struct peer *peer)
{
	script_dies(peer);
	peer_wait(peer);
}

static void script_other_id(struct peer *peer)
{
	struct rpc_request request;

	if (peer_greet(peer) && peer_next(peer, &request))
		peer_answer(peer, request.msgid + 1, REASON_OK, NULL);
	peer_wait(peer);
}

static void put_error(struct peer *peer, bool notice, enum rpc_error_code code)
{
	struct rpc_error error = {.code = code, .message = "told by\nthe test"};
	struct rpc_buffer out = {0};
	struct rpc_request request;

	if (notice)
		rpc_put_notice(&out, &error);
	else if (peer_greet(peer) && peer_next(peer, &request))
		rpc_put_error(&out, request.msgid, &error);
	peer_put(peer, &out);
}

static void script_full(struct peer *peer)
{
	put_error(peer, true, RPC_LIMIT);
}

static void script_bad_params(struct peer *peer)
{
	put_error(peer, false, RPC_BAD_PARAMS);
}

static void script_unknown_method(struct peer *peer)
{
	put_error(peer, false, RPC_UNKNOWN_METHOD);
}

static void script_internal(struct peer *peer)
{
	put_error(peer, false, RPC_INTERNAL);
}

static void script_nil(struct peer *peer)
{
	struct rpc_buffer out = {0};
	struct rpc_request request;
	struct value nil = {0};

	if (peer_greet(peer) && peer_next(peer, &request))
		rpc_put_result(&out, request.msgid, &nil);
	peer_put(peer, &out);
	peer_wait(peer);
}

static void test_bad_daemons(void **state)
{
	(void)state;
	assert_int_equal(check_against(script_close_at_once, LONG_MS), -ECONNRESET);
	assert_int_equal(check_against(script_no_hello, SHORT_MS), -ETIMEDOUT);
	assert_int_equal(check_against(script_other_protocol, LONG_MS), -EPROTONOSUPPORT);
	assert_int_equal(check_against(script_no_protocol, LONG_MS), -EPROTO);
	assert_int_equal(check_against(script_silent, SHORT_MS), -ETIMEDOUT);
	assert_int_equal(check_against(script_dies, LONG_MS), -ECONNRESET);
	assert_int_equal(check_against(script_stops, SHORT_MS), -ETIMEDOUT);
	assert_int_equal(check_against(script_other_id, LONG_MS), -EPROTO);
	assert_int_equal(check_against(script_full, LONG_MS), -EBUSY);
	assert_int_equal(check_against(script_bad_params, LONG_MS), -EINVAL);
	assert_int_equal(check_against(script_unknown_method, LONG_MS), -EOPNOTSUPP);
	assert_int_equal(check_against(script_internal, LONG_MS), -EREMOTEIO);
	assert_int_equal(check_against(script_nil, LONG_MS), -EPROTO);
}

struct bytes {
	const char *data;
	size_t len;
};
#define BYTES(text)                                                                                                    \
	{                                                                                                              \
		text, sizeof(text) - 1                                                                                 \
	}

static const struct bytes garbage[] = {
	BYTES("HTTP/1.1 400 Bad Request\r\n\r\n"),
	BYTES("\xc1"),
	BYTES("\x80"),				       /* a map */
	BYTES("\x90"),				       /* an empty array */
	BYTES("\x94\x01\x02\xc0"		       /* a response ... */
	      "\xdf\xff\xff\xff\xff"),		       /* ... with a map of four billion fields */
	BYTES("\xdd\xff\xff\xff\xff"),		       /* an array of four billion */
	BYTES("\x94\x01\x02\xc0\xdb\x7f\xff\xff\xff"), /* a text of two gigabytes */
	BYTES("\x94\x01\x02\xc0\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\xc0"), /* deep */
	BYTES("\x94\x00\x02\xa5hello\x90"),					       /* a request */
	BYTES("\x94\x01\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xc0\xc0"),		       /* a huge msgid */
	BYTES("\x94\x01\xff\xc0\xc0"),						       /* a negative one */
	BYTES("\x93\x02\xa5other\x90"),		   /* a notification that is none of ours */
	BYTES("\x94\x01\x02\xc0\xc7\x01\x01\x01"), /* ext */
	BYTES("\x94\x01\x02\xc0\x81\x01\x02"),	   /* a map whose key is a number */
};
static size_t garbage_at;

static void script_garbage(struct peer *peer)
{
	struct rpc_request request;

	if (peer_greet(peer) && peer_next(peer, &request))
		peer_bytes(peer, garbage[garbage_at].data, garbage[garbage_at].len);
	peer_wait(peer);
}

static void test_garbage(void **state)
{
	(void)state;
	for (garbage_at = 0; garbage_at < sizeof(garbage) / sizeof(garbage[0]); garbage_at++)
		assert_int_equal(check_against(script_garbage, LONG_MS), -EPROTO);
}

/* An answer with a byte changed is an answer or a fault (ASan watches), and a DENY never becomes ALLOW. */
static void test_answers_with_wrong_bytes(void **state)
{
	struct rpc_answer answer = {.reason = REASON_EXPIRED, .proven = true, .key_id = "0123456789"};
	struct rpc_buffer out = {0};
	unsigned read = 0;

	(void)state;
	answer.missing_scope = (struct rpc_text){"page:read", 9};
	rpc_put_answer(&out, 1, &answer);
	for (size_t i = 0; i < out.len; i++) {
		for (unsigned byte = 0; byte < 256; byte += 17) {
			static const struct scan_limits limits = {WIRE_MESSAGE_MAX, SCAN_DEPTH_MAX};
			uint8_t *copy = malloc(out.len);
			struct rpc_answer again;
			struct rpc_reply reply;
			struct arena arena = {0};
			size_t size;

			memcpy(copy, out.data, out.len);
			copy[i] = (uint8_t)byte;
			if (scan_message(copy, out.len, &limits, &size) == SCAN_MESSAGE &&
			    rpc_decode_reply(&arena, copy, size, &reply) && reply.error.code == RPC_OK &&
			    rpc_read_answer(&arena, &reply.result, &again)) {
				assert_int_not_equal(verdict_of(again.reason), VERDICT_ALLOW);
				read++;
			}
			arena_clear(&arena);
			free(copy);
		}
	}
	assert_true(read > 0);
	rpc_buffer_deinit(&out);
}

static void script_endless(struct peer *peer)
{
	static const char filler[65536];
	struct rpc_request request;

	if (!peer_greet(peer) || !peer_next(peer, &request))
		return;
	/* within the limit by its declaration, and then a million small things */
	peer_bytes(peer, "\x94\x01\x02\xc0\xdd\x00\x0f\xff\x00", 9);
	for (int i = 0; i < 15; i++)
		peer_bytes(peer, filler, sizeof(filler));
	peer_wait(peer);
}

static void test_answer_that_never_ends(void **state)
{
	(void)state;
	assert_int_equal(check_against(script_endless, 500), -ETIMEDOUT);
}

/* ---- connections that go ---- */

static void script_answer_once(struct peer *peer)
{
	struct rpc_request request;

	if (peer_greet(peer) && peer_next(peer, &request))
		peer_allow(peer, &request);
}

/* Answers one question, and dies of the next. */
static void script_answer_and_die(struct peer *peer)
{
	struct rpc_request request;

	if (peer_greet(peer) && peer_next(peer, &request)) {
		peer_allow(peer, &request);
		peer_next(peer, &request);
	}
}

static void test_dead_connection_is_replaced(void **state)
{
	const fake_script scripts[] = {script_answer_and_die, script_answer_and_die, script_allow};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey *handle = open_at(fake_path(fake), LONG_MS, 0);
	struct apikey_result result;

	(void)state;
	for (int i = 0; i < 4; i++) {
		assert_int_equal(apikey_check(handle, KEY, "page:read", "acme", NULL, &result), 0);
		assert_int_equal(result.verdict, APIKEY_ALLOW);
	}
	assert_int_equal(fake_accepted(fake), 3);
	/* a restart in between is not noticed */
	fake_restart(fake, SCRIPTS(scripts));
	assert_int_equal(apikey_check(handle, KEY, "page:read", "acme", NULL, &result), 0);
	assert_int_equal(result.verdict, APIKEY_ALLOW);
	assert_string_equal(result.page, "acme");
	apikey_close(handle);
	fake_stop(fake);
}

static void test_asked_again_only_twice(void **state)
{
	const fake_script scripts[] = {script_answer_once, script_dies, script_dies, script_allow};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey *handle = open_at(fake_path(fake), LONG_MS, 0);
	struct apikey_result result;

	(void)state;
	assert_int_equal(apikey_check(handle, KEY, "page:read", NULL, NULL, &result), 0);
	result = yes();
	assert_int_equal(apikey_check(handle, KEY, "page:read", NULL, NULL, &result), -ECONNRESET);
	assert_true(is_failed(&result, APIKEY_UNAVAILABLE));
	assert_int_equal(fake_accepted(fake), 3);
	assert_int_equal(apikey_check(handle, KEY, "page:read", NULL, NULL, &result), 0);
	assert_int_equal(result.verdict, APIKEY_ALLOW);
	apikey_close(handle);
	fake_stop(fake);
}

/* A daemon that stops took a new connection in, with the hello and without. */
static void test_asked_again_on_a_new_connection(void **state)
{
	const fake_script scripts[] = {script_close_at_once, script_dies, script_allow};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey *handle = open_at(fake_path(fake), LONG_MS, 0);
	struct apikey_result result;

	(void)state;
	assert_int_equal(apikey_check(handle, KEY, "page:read", NULL, NULL, &result), 0);
	assert_int_equal(result.verdict, APIKEY_ALLOW);
	assert_int_equal(fake_accepted(fake), 3);
	apikey_close(handle);
	fake_stop(fake);
}

/* Answers the first question after the client has given up, or tries to. */
static void script_late(struct peer *peer)
{
	struct rpc_request request;
	uint32_t msgid;

	if (!peer_greet(peer) || !peer_next(peer, &request))
		return;
	msgid = request.msgid;
	usleep(4 * SHORT_MS * 1000);
	peer_answer(peer, msgid, REASON_OK, "late");
	peer_wait(peer);
}

static void script_deny_all(struct peer *peer)
{
	struct rpc_request request;

	if (peer_greet(peer))
		while (peer_next(peer, &request))
			peer_answer(peer, request.msgid, REASON_EXPIRED, NULL);
}

static void test_late_answer_is_nobodys(void **state)
{
	const fake_script scripts[] = {script_late, script_deny_all};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey *handle = open_at(fake_path(fake), SHORT_MS, 1);
	struct apikey_context context = APIKEY_CONTEXT_INIT;
	struct apikey_result result = yes();

	(void)state;
	context.timeout_ms = LONG_MS;
	assert_int_equal(apikey_check(handle, KEY, "page:read", NULL, NULL, &result), -ETIMEDOUT);
	assert_true(is_failed(&result, APIKEY_UNAVAILABLE));
	for (int i = 0; i < 3; i++) {
		assert_int_equal(apikey_check(handle, KEY, "page:read", NULL, &context, &result), 0);
		assert_int_equal(result.reason, APIKEY_REASON_EXPIRED);
	}
	apikey_close(handle);
	fake_stop(fake);
}

/* An answer, and an ALLOW behind it that nobody asked for. */
static void script_answer_twice(struct peer *peer)
{
	struct rpc_answer answer = {.reason = REASON_EXPIRED};
	struct rpc_buffer out = {0};
	struct rpc_request request;

	if (!peer_greet(peer) || !peer_next(peer, &request))
		return;
	rpc_put_answer(&out, request.msgid, &answer);
	answer.reason = REASON_OK;
	rpc_put_answer(&out, request.msgid + 1, &answer);
	peer_put(peer, &out);
	peer_wait(peer);
}

static void test_answer_before_the_question(void **state)
{
	const fake_script scripts[] = {script_answer_twice, script_deny_all};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey *handle = open_at(fake_path(fake), LONG_MS, 1);
	struct apikey_result result;

	(void)state;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(apikey_check(handle, KEY, "page:read", NULL, NULL, &result), 0);
		assert_int_equal(result.reason, APIKEY_REASON_EXPIRED);
	}
	assert_int_equal(fake_accepted(fake), 2);
	apikey_close(handle);
	fake_stop(fake);
}

/* ---- threads and processes ---- */

enum { THREADS = 8, CALLS = 100 };

struct worker {
	struct apikey *handle;
	pthread_t thread;
	unsigned number, right, failed;
};

static void *work(void *arg)
{
	struct worker *worker = arg;

	for (unsigned i = 0; i < CALLS; i++) {
		struct apikey_result result = yes();
		char page[32];

		snprintf(page, sizeof(page), "page-%u-%u", worker->number, i);
		if (apikey_check(worker->handle, KEY, "page:read", page, NULL, &result))
			worker->failed++;
		else if (result.verdict == APIKEY_ALLOW && !strcmp(result.page, page) && !*apikey_error())
			worker->right++;
		/* each thread has its own line */
		if (i % 10 == 0 &&
		    (apikey_check(worker->handle, KEY, NULL, page, NULL, &result) != -EINVAL || !*apikey_error()))
			worker->failed++;
	}
	return NULL;
}

static void run_threads(struct apikey *handle)
{
	struct worker workers[THREADS] = {0};

	for (unsigned i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){.handle = handle, .number = i};
		assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(workers[i].thread, NULL);
		assert_int_equal(workers[i].failed, 0);
		assert_int_equal(workers[i].right, CALLS);
	}
}

static void test_threads_share_a_handle(void **state)
{
	const fake_script scripts[] = {script_allow};

	(void)state;
	for (unsigned connections = 1; connections <= THREADS; connections += 3) {
		struct fake *fake = fake_start(SCRIPTS(scripts));
		struct apikey *handle = open_at(fake_path(fake), LONG_MS, connections);

		run_threads(handle);
		assert_true(fake_accepted(fake) <= connections);
		assert_int_equal(fake_asked(fake), THREADS * CALLS);
		apikey_close(handle);
		fake_stop(fake);
	}
}

/* Answers some questions and hangs up, again and again. */
static void script_hangs_up(struct peer *peer)
{
	struct rpc_request request;

	if (!peer_greet(peer))
		return;
	for (int i = 0; i < 7 && peer_next(peer, &request); i++)
		peer_allow(peer, &request);
}

static void test_threads_with_a_daemon_that_hangs_up(void **state)
{
	const fake_script scripts[] = {script_hangs_up};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey *handle = open_at(fake_path(fake), LONG_MS, 4);

	(void)state;
	run_threads(handle);
	assert_true(fake_accepted(fake) > 4);
	apikey_close(handle);
	fake_stop(fake);
}

static void *ask_and_wait(void *arg)
{
	struct apikey_result result;

	/* Times out: nobody answers; or finds the only connection in use. */
	apikey_check(arg, KEY, "page:read", NULL, NULL, &result);
	return NULL;
}

static void test_all_connections_in_use(void **state)
{
	const fake_script scripts[] = {script_silent};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey *handle = open_at(fake_path(fake), 20 * SHORT_MS, 1);
	struct apikey_context context = APIKEY_CONTEXT_INIT;
	struct apikey_result result = yes();
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, ask_and_wait, handle), 0);
	while (fake_asked(fake) == 0)
		usleep(1000);
	context.timeout_ms = SHORT_MS;
	assert_int_equal(apikey_check(handle, KEY, "page:read", NULL, &context, &result), -EBUSY);
	assert_true(is_failed(&result, APIKEY_UNAVAILABLE));
	assert_non_null(strstr(apikey_error(), "in use"));
	pthread_join(thread, NULL);
	apikey_close(handle);
	fake_stop(fake);
}

static int checks_right(struct apikey *handle, const char *page, int count)
{
	for (int i = 0; i < count; i++) {
		struct apikey_result result = yes();

		if (apikey_check(handle, KEY, "page:read", page, NULL, &result) || strcmp(result.page, page))
			return 1;
	}
	return 0;
}

static void test_fork(void **state)
{
	const fake_script scripts[] = {script_allow};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey *handle = open_at(fake_path(fake), LONG_MS, 2);
	int status;
	pid_t child;

	(void)state;
	assert_int_equal(checks_right(handle, "before", 1), 0);
	child = fork();
	if (child == 0)
		_exit(checks_right(handle, "child", 50));
	assert_int_equal(checks_right(handle, "parent", 50), 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(fake_accepted(fake), 2);
	apikey_close(handle);
	fake_stop(fake);
}

/* ---- call.h ---- */

static void script_admin(struct peer *peer)
{
	struct rpc_request request;
	struct rpc_buffer out = {0};
	struct arena arena = {0};
	struct value map;

	if (!peer_greet(peer) || !peer_next(peer, &request) || request.method != RPC_METHOD_STATS)
		return;
	value_map(&map);
	value_set_text(&arena, &map, "key", KEY);
	rpc_put_result(&out, request.msgid, &map);
	peer_put(peer, &out);
	arena_clear(&arena);
	peer_wait(peer);
}

static bool holds(const void *memory, size_t len, const char *text)
{
	return memory && memmem(memory, len, text, strlen(text));
}

static void test_call_wipes_what_it_saw(void **state)
{
	const fake_script scripts[] = {script_admin};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct rpc_text key = {KEY, sizeof(KEY) - 1};
	struct rpc_buffer request = {0};
	struct arena arena = {0};
	struct rpc_reply reply;
	struct call call;
	uint32_t msgid;

	(void)state;
	assert_int_equal(call_open(&call, fake_path(fake)), 0);
	assert_int_equal(call_run(&call, "stats", NULL, LONG_MS, &arena, &reply), 0);
	assert_int_equal(reply.error.code, RPC_OK);
	assert_string_equal(value_as_text(value_get(&reply.result, "key"), ""), KEY);
	assert_true(call.wire.in_cap > 0);
	assert_false(holds(call.wire.in, call.wire.in_cap, "thesecret"));
	/* and what it sends: the peer never answers this one, so look after it went out and before the end */
	msgid = call_next_id(&call);
	rpc_put_whoami(&request, msgid, key, NULL);
	assert_int_equal(wire_append(&call.wire, request.data, request.len), 0);
	assert_true(holds(call.wire.out.data, call.wire.out.cap, "thesecret"));
	assert_int_equal(wire_send(&call.wire, wire_now_ms() + LONG_MS), 0);
	assert_false(holds(call.wire.out.data, call.wire.out.cap, "thesecret"));
	rpc_buffer_deinit(&request);
	arena_clear(&arena);
	call_close(&call);
	call_close(&call);
	fake_stop(fake);
}

static void test_call_fails(void **state)
{
	const fake_script scripts[] = {script_internal, script_silent, script_other_id};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct arena arena = {0};
	struct rpc_reply reply;
	struct call call;

	(void)state;
	assert_int_equal(call_open(&call, ""), -EINVAL);
	call_close(&call);
	assert_int_equal(call_open(&call, fake_path(fake)), 0);
	/* an error is an answer, and comes with its line */
	assert_int_equal(call_run(&call, "stats", NULL, LONG_MS, &arena, &reply), 0);
	assert_int_equal(reply.error.code, RPC_INTERNAL);
	/* that connection has ended; nothing is sent twice here, so one call pays for it */
	assert_int_equal(call_run(&call, "stats", NULL, LONG_MS, &arena, &reply), -ECONNRESET);
	assert_int_equal(call_run(&call, "stats", NULL, SHORT_MS, &arena, &reply), -ETIMEDOUT);
	assert_true(strlen(call_error()) > 0);
	assert_int_equal(call_run(&call, "stats", NULL, LONG_MS, &arena, &reply), -EPROTO);
	assert_int_equal(reply.result.type, VALUE_NIL);
	call_close(&call);
	arena_clear(&arena);
	fake_stop(fake);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_every_field),
		cmocka_unit_test(test_stale),
		cmocka_unit_test(test_all_reasons),
		cmocka_unit_test(test_words_unknown_or_wrong),
		cmocka_unit_test(test_context_arrives),
		cmocka_unit_test(test_keys_of_any_length),
		cmocka_unit_test(test_wrong_arguments_are_deny),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_socket_from_environment),
		cmocka_unit_test(test_check_many),
		cmocka_unit_test(test_check_many_is_all_or_nothing),
		cmocka_unit_test(test_whoami),
		cmocka_unit_test(test_long_answer),
		cmocka_unit_test(test_nobody_listens),
		cmocka_unit_test(test_backlog_full),
		cmocka_unit_test(test_bad_daemons),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_answers_with_wrong_bytes),
		cmocka_unit_test(test_answer_that_never_ends),
		cmocka_unit_test(test_dead_connection_is_replaced),
		cmocka_unit_test(test_asked_again_only_twice),
		cmocka_unit_test(test_asked_again_on_a_new_connection),
		cmocka_unit_test(test_late_answer_is_nobodys),
		cmocka_unit_test(test_answer_before_the_question),
		cmocka_unit_test(test_threads_share_a_handle),
		cmocka_unit_test(test_threads_with_a_daemon_that_hangs_up),
		cmocka_unit_test(test_all_connections_in_use),
		cmocka_unit_test(test_fork),
		cmocka_unit_test(test_call_wipes_what_it_saw),
		cmocka_unit_test(test_call_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
