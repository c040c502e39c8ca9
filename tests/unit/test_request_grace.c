/* Requests in each state of the copy: the table of PROTOCOL.md (Freshness), row by row and method by method. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/request_world.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define STORE	     "caller none\nkey required store\n"
#define END	     "audit none\n"
#define HOUR	     3600000

/* Reads an hour, incident:write a minute, audit:read not, the others 10 s; without a scope not. */
#define SETTINGS                                                                                                       \
	"[database]\npoll_ms = 123\n[freshness]\nmax_stale_ms = 1s\n"                                                  \
	"offline_grace = *:read=1h, incident:write=1min, audit:read=0, *:*=10s\n"

/* ---- the copy's age ---- */

/* The clock of the database stands still, so that no key begins or ends by it. */
static void set_age(struct world *w, int64_t ms)
{
	w->mirror.confirmed_at = mirror_boot_now() - ms * 1000;
	w->mirror.database_time = US(NOW_S) - ms * 1000;
}

static const struct {
	const char *name;
	int64_t age_ms; /* well within the state, however slow this machine is */
} ages[] = {
	{"fresh", 0},	      {"10 s of grace", 3000}, {"1 min of grace", 31000}, {"1 h of grace", 300000},
	{"beyond", 2 * HOUR},
};

enum seen { FRESH, GRACE, BEYOND };

/* Written down apart from the daemon's: the age up to which a scope is answered. */
static enum seen seen_of(const char *scope, int64_t age_ms)
{
	int64_t grace = 0;

	if (age_ms <= 1000)
		return FRESH;
	if (scope && strcmp(scope, "audit:read") == 0)
		grace = 0;
	else if (scope && strcmp(scope, "incident:write") == 0)
		grace = 60000;
	else if (scope && strstr(scope, ":read"))
		grace = HOUR;
	else if (scope && strchr(scope, ':'))
		grace = 10000;
	return age_ms <= 1000 + grace ? GRACE : BEYOND;
}

/* ---- keys ---- */

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
	row->not_before = US(NOW_S + 86400);
}
static void expired(struct copy_key_row *row)
{
	row->expires_at = US(NOW_S - 86400);
}
static void at_home(struct copy_key_row *row)
{
	static const struct rule_network home = {4, 8, {10}};

	row->flags |= RULE_NARROWED_NETWORKS;
	row->networks = &home;
	row->network_count = 1;
}
static void on_acme_only(struct copy_key_row *row)
{
	static const int64_t pages[] = {11};

	row->flags |= RULE_NARROWED_PAGES;
	row->pages = pages;
	row->page_count = 1;
}
static void other_pepper(struct copy_key_row *row)
{
	row->pepper = 9;
}
static void rated(struct copy_key_row *row)
{
	row->flags |= RULE_NARROWED_RATE;
	row->rate_count = 5;
	row->rate_period_s = 60;
}

/* What becomes of the key's text. */
enum text { AS_IT_IS = 0, WRONG_SECRET, NOBODYS, JUNK };

static const struct row {
	enum reason reason; /* of a fresh copy */
	enum reason grace;  /* within grace */
	bool marked;	    /* within grace */
	enum key_kind kind;
	int64_t owner;
	const char *access;
	void (*change)(struct copy_key_row *row);
	const char *scope, *page, *org, *stack;
	enum text text;
} rows[] = {
	{REASON_OK, REASON_OK, true, KEY_KIND_USER, 101, NULL, NULL, "incident:write", "acme", NULL, NULL, 0},
	{REASON_OK, REASON_OK, true, KEY_KIND_USER, 101, NULL, NULL, "page:create", NULL, "acme", NULL, 0},
	{REASON_OK, REASON_OK, true, KEY_KIND_ORGANIZATION, 1, "read", NULL, "page:read", "acme-old", NULL, NULL, 0},
	{REASON_OK, REASON_OK, true, KEY_KIND_ORGANIZATION, 1, "write", on_acme_only, "incident:write", "acme", "acme",
	 NULL, 0},
	/* for good */
	{REASON_REVOKED, REASON_REVOKED, true, KEY_KIND_USER, 101, NULL, revoked, "page:read", "acme", NULL, NULL, 0},
	{REASON_RETIRED, REASON_RETIRED, true, KEY_KIND_USER, 101, NULL, retired, "page:read", "acme", NULL, NULL, 0},
	/* what the copy holds */
	{REASON_DISABLED, REASON_DISABLED, true, KEY_KIND_USER, 101, NULL, disabled, "page:read", "acme", NULL, NULL,
	 0},
	{REASON_USER_SUSPENDED, REASON_USER_SUSPENDED, true, KEY_KIND_USER, 103, NULL, NULL, "page:read", "acme", NULL,
	 NULL, 0},
	{REASON_NETWORK, REASON_NETWORK, true, KEY_KIND_USER, 101, NULL, at_home, "page:read", "acme", NULL, NULL, 0},
	{REASON_ORG_SUSPENDED, REASON_ORG_SUSPENDED, true, KEY_KIND_USER, 101, NULL, NULL, "page:read", "shut", NULL,
	 NULL, 0},
	{REASON_PAGE_ARCHIVED, REASON_PAGE_ARCHIVED, true, KEY_KIND_USER, 101, NULL, NULL, "incident:write", "acme-old",
	 NULL, NULL, 0},
	{REASON_PAGE_NOT_GRANTED, REASON_PAGE_NOT_GRANTED, true, KEY_KIND_USER, 101, NULL, on_acme_only, "page:read",
	 "acme-z", NULL, NULL, 0},
	{REASON_SCOPE_NOT_GRANTED, REASON_SCOPE_NOT_GRANTED, true, KEY_KIND_USER, 102, NULL, NULL, "incident:write",
	 "acme", NULL, NULL, 0},
	{REASON_SCOPE_NOT_GRANTED, REASON_SCOPE_NOT_GRANTED, true, KEY_KIND_ORGANIZATION, 1, "read", NULL,
	 "page:delete", "acme", NULL, NULL, 0},
	/* time, which goes on */
	{REASON_NOT_YET_VALID, REASON_NOT_YET_VALID, true, KEY_KIND_USER, 101, NULL, not_yet, "page:read", "acme", NULL,
	 NULL, 0},
	{REASON_EXPIRED, REASON_EXPIRED, true, KEY_KIND_USER, 101, NULL, expired, "page:read", "acme", NULL, NULL, 0},
	/* what it does not hold, and what must not be told apart from that */
	{REASON_UNKNOWN_KEY, REASON_STALE, false, KEY_KIND_USER, 101, NULL, NULL, "page:read", "acme", NULL, NULL,
	 NOBODYS},
	{REASON_UNKNOWN_KEY, REASON_STALE, false, KEY_KIND_USER, 101, NULL, NULL, "page:read", "acme", NULL, NULL,
	 WRONG_SECRET},
	{REASON_UNKNOWN_KEY, REASON_STALE, false, KEY_KIND_USER, 101, NULL, revoked, "incident:write", "acme", NULL,
	 NULL, WRONG_SECRET},
	{REASON_UNKNOWN_SCOPE, REASON_STALE, false, KEY_KIND_USER, 101, NULL, NULL, "new:read", "acme", NULL, NULL, 0},
	{REASON_UNKNOWN_SCOPE, REASON_STALE, false, KEY_KIND_USER, 101, NULL, NULL, "page:create", "acme", NULL, NULL,
	 0},
	{REASON_UNKNOWN_SCOPE, REASON_STALE, false, KEY_KIND_USER, 101, NULL, NULL, "audit:read", "acme", NULL, NULL,
	 0},
	{REASON_UNKNOWN_SCOPE, REASON_STALE, false, KEY_KIND_USER, 101, NULL, NULL, "no-colon", "acme", NULL, NULL, 0},
	{REASON_UNKNOWN_PAGE, REASON_STALE, false, KEY_KIND_USER, 101, NULL, NULL, "page:read", "nowhere", NULL, NULL,
	 0},
	{REASON_UNKNOWN_PAGE, REASON_STALE, false, KEY_KIND_USER, 101, NULL, NULL, "page:read", "umbra", NULL, NULL, 0},
	{REASON_UNKNOWN_PAGE, REASON_STALE, false, KEY_KIND_USER, 101, NULL, NULL, "page:read", "acme", "umbra", NULL,
	 0},
	{REASON_UNKNOWN_PAGE, REASON_STALE, false, KEY_KIND_ORGANIZATION, 1, "write", NULL, "incident:write", "umbra",
	 NULL, NULL, 0},
	{REASON_NOT_MEMBER, REASON_STALE, false, KEY_KIND_USER, 102, NULL, NULL, "billing:read", NULL, NULL, NULL, 0},
	{REASON_NOT_MEMBER, REASON_STALE, false, KEY_KIND_USER, 101, NULL, NULL, "billing:read", NULL, "nowhere", NULL,
	 0},
	{REASON_NOT_MEMBER, REASON_STALE, false, KEY_KIND_ORGANIZATION, 1, "read", NULL, "billing:read", NULL, "umbra",
	 NULL, 0},
	/* what the copy has no part in */
	{REASON_MALFORMED_KEY, REASON_MALFORMED_KEY, false, KEY_KIND_USER, 101, NULL, NULL, "page:read", "acme", NULL,
	 NULL, JUNK},
	{REASON_NO_STACK, REASON_NO_STACK, false, KEY_KIND_USER, 101, NULL, NULL, "page:read", "acme", NULL, "nowhere",
	 0},
	/* other faults */
	{REASON_NO_PEPPER, REASON_NO_PEPPER, false, KEY_KIND_USER, 101, NULL, other_pepper, "page:read", "acme", NULL,
	 NULL, 0},
	/* a rate that no line charges */
	{REASON_POLICY, REASON_POLICY, true, KEY_KIND_USER, 101, NULL, rated, "page:read", "acme", NULL, NULL, 0},
};

enum { ROWS = COUNT(rows), KEY_ROOM = KEYTEXT_MAX + 1 };

/* Whether the reason is found before the copy is asked: then it is the same in every state. */
static bool is_early(enum reason reason)
{
	return reason == REASON_MALFORMED_KEY || reason == REASON_NO_STACK;
}

static enum reason expected(const struct row *row, enum seen seen)
{
	if (seen == FRESH || is_early(row->reason))
		return row->reason;
	return seen == GRACE ? row->grace : REASON_STALE;
}

static void make_row_key(struct world *w, const struct row *row, char ret[KEY_ROOM])
{
	static const uint8_t other[KEYTEXT_SECRET_BYTES] = {1, 2, 3};
	size_t len;

	add_key(w, w->mirror.copy, row->kind, row->owner, row->access, row->change, ret);
	len = strlen(ret);
	if (row->text == WRONG_SECRET)
		keytext_format("ak", row->kind, w->next_key, other, ret);
	else if (row->text == NOBODYS)
		keytext_format("ak", row->kind, w->next_key + 1000000, other, ret);
	else if (row->text == JUNK)
		ret[len - 1] = ret[len - 1] == 'x' ? 'y' : 'x';
}

static struct rpc_request request_of(const struct row *row, const char *key)
{
	struct rpc_request request = check(key, row->scope, row->page);

	request.context.org = text(row->org);
	request.context.stack = text(row->stack);
	return request;
}

static struct world *table_world(const char *settings, char keys[ROWS][KEY_ROOM])
{
	struct world *w = world_new(true, settings);

	world_stack(w, STORE END);
	for (unsigned i = 0; i < ROWS; i++)
		make_row_key(w, &rows[i], keys[i]);
	publish(w);
	return w;
}

/* Asks until the answer was made at no greater age than `age_ms` and 200 ms: a busy machine may sleep in between. */
static struct rpc_answer ask_at(struct world *w, int64_t age_ms, const struct rpc_request *request)
{
	struct rpc_answer answer;

	do {
		set_age(w, age_ms);
		answer = ask(w, request);
	} while (answer.age_ms > (uint64_t)age_ms + 200);
	return answer;
}

#define assert_case(answer, want, row, age)                                                                            \
	do {                                                                                                           \
		if ((answer).reason != (want))                                                                         \
			fail_msg("row %u (%s), %s: %s, not %s", (unsigned)(row), reason_word(rows[row].reason), age,   \
				 reason_word((answer).reason), reason_word(want));                                     \
	} while (0)

static void check_hints(const struct rpc_answer *answer, uint64_t retry)
{
	bool wants = answer->reason == REASON_STALE || answer->reason == REASON_NOT_LOADED;

	assert_int_equal(answer->has_retry, wants);
	if (wants)
		assert_int_equal(answer->retry_after_ms, retry);
}

/* ---- check ---- */

static void test_table(void **state)
{
	char keys[ROWS][KEY_ROOM];
	struct world *w = table_world(SETTINGS, keys);
	uint64_t marked = 0;

	(void)state;
	for (unsigned a = 0; a < COUNT(ages); a++) {
		for (unsigned i = 0; i < ROWS; i++) {
			struct rpc_request request = request_of(&rows[i], keys[i]);
			struct rpc_answer answer = ask_at(w, ages[a].age_ms, &request);
			enum seen seen = seen_of(rows[i].scope, ages[a].age_ms);
			enum reason want = expected(&rows[i], seen);

			assert_case(answer, want, i, ages[a].name);
			assert_int_equal(answer.stale, seen == GRACE && rows[i].marked);
			/* Who it is, stands there where an answer came of the copy, and nowhere else. */
			if (seen == BEYOND || want == REASON_NO_PEPPER || is_early(want) || rows[i].text)
				assert_false(answer.proven);
			else
				assert_true(answer.proven);
			check_hints(&answer, 123);
			marked += answer.stale;
			arena_clear(&w->arena);
		}
	}
	assert_true(marked > ROWS);
	assert_int_equal(w->core.counters.stale, marked);
	world_end(w);
}

/* Without offline_grace there is no state between fresh and stale. */
static void test_without_grace(void **state)
{
	char keys[ROWS][KEY_ROOM];
	struct world *w = table_world("[freshness]\nmax_stale_ms = 1s\n", keys);

	(void)state;
	for (unsigned a = 0; a < COUNT(ages); a++) {
		for (unsigned i = 0; i < ROWS; i++) {
			struct rpc_request request = request_of(&rows[i], keys[i]);
			struct rpc_answer answer = ask_at(w, ages[a].age_ms, &request);

			assert_case(answer, expected(&rows[i], ages[a].age_ms ? BEYOND : FRESH), i, ages[a].name);
			assert_false(answer.stale);
			arena_clear(&w->arena);
		}
	}
	assert_int_equal(w->core.counters.stale, 0);
	world_end(w);
}

static void test_never_loaded(void **state)
{
	struct world *w = world_new(false, SETTINGS);
	char key[KEY_ROOM];
	struct rpc_request request;
	struct rpc_answer answer;

	(void)state;
	world_stack(w, STORE END);
	make_key(KEY_KIND_USER, key);
	request = check(key, "page:read", "acme");
	answer = ask(w, &request);
	assert_reason(answer, REASON_NOT_LOADED);
	assert_false(answer.stale);
	check_hints(&answer, 123);
	key[20] ^= 1;
	assert_reason(ask(w, &request), REASON_MALFORMED_KEY);
	world_end(w);
}

/* ---- the other methods ---- */

static void same_answer(const struct rpc_answer *a, const struct rpc_answer *b, unsigned row, const char *age)
{
	assert_case(*a, b->reason, row, age);
	assert_int_equal(a->stale, b->stale);
	assert_int_equal(a->proven, b->proven);
	assert_string_equal(a->key_id, b->key_id);
	assert_int_equal(a->has_retry, b->has_retry);
	assert_int_equal(a->retry_after_ms, b->retry_after_ms);
	assert_int_equal(a->has_expiry, b->has_expiry);
	assert_int_equal(a->user.data != NULL, b->user.data != NULL);
	assert_int_equal(a->org.data != NULL, b->org.data != NULL);
	assert_int_equal(a->page.data != NULL, b->page.data != NULL);
	assert_int_equal(a->missing_scope.data != NULL, b->missing_scope.data != NULL);
}

/* Each pair is answered as check would, whatever stands beside it. */
static void test_check_many(void **state)
{
	char keys[ROWS][KEY_ROOM];
	struct world *w = table_world(SETTINGS, keys);

	(void)state;
	for (unsigned a = 0; a < COUNT(ages); a++) {
		for (unsigned i = 0; i < ROWS; i++) {
			const struct rpc_pair pairs[] = {
				{text("audit:read"), text("acme")},	{text(rows[i].scope), text(rows[i].page)},
				{text("incident:write"), text("acme")}, {text("page:read"), text("umbra")},
				{text("page:read"), text("acme")},	{text("new:thing"), text(NULL)},
			};
			struct rpc_request one = request_of(&rows[i], keys[i]), many = one;
			uint64_t age_ms = (uint64_t)ages[a].age_ms;
			struct rpc_answer got[COUNT(pairs)];

			many.method = RPC_METHOD_CHECK_MANY;
			many.pairs = pairs;
			many.pair_count = COUNT(pairs);
			do {
				set_age(w, ages[a].age_ms);
				w->out.len = 0;
				request_batch(&w->core, &w->owner, &many, 1, &w->out);
				for (uint32_t p = 0; p < COUNT(pairs); p++)
					got[p] = read_answer(w, &w->out, p);
			} while (got[0].age_ms > age_ms + 200);
			for (uint32_t p = 0; p < COUNT(pairs); p++) {
				struct rpc_answer alone;

				one.pair = pairs[p];
				alone = ask_at(w, ages[a].age_ms, &one);
				same_answer(&got[p], &alone, i, ages[a].name);
			}
			arena_clear(&w->arena);
		}
	}
	world_end(w);
}

static bool says_stale(const struct value *trace)
{
	for (uint32_t i = 0; i < trace->count; i++) {
		const struct value *entry = &trace->items[i];

		if (strcmp(value_as_text(value_get(entry, "module"), ""), "core") == 0 &&
		    strcmp(value_as_text(value_get(entry, "group"), ""), "key") == 0 &&
		    strstr(value_as_text(value_get(entry, "detail"), ""), "the copy is stale: confirmed "))
			return true;
	}
	return false;
}

static bool says_instead(const struct value *trace, enum reason reason)
{
	char want[96];

	snprintf(want, sizeof(want), "%s by a copy that is stale", reason_word(reason));
	for (uint32_t i = 0; i < trace->count; i++) {
		const struct value *entry = &trace->items[i];

		if (strcmp(value_as_text(value_get(entry, "code"), ""), "stale") == 0 &&
		    strstr(value_as_text(value_get(entry, "detail"), ""), want))
			return true;
	}
	return false;
}

static void test_explain(void **state)
{
	char keys[ROWS][KEY_ROOM];
	struct world *w = table_world(SETTINGS, keys);

	(void)state;
	for (unsigned a = 0; a < COUNT(ages); a++) {
		for (unsigned i = 0; i < ROWS; i++) {
			struct rpc_request request = request_of(&rows[i], keys[i]);
			enum seen seen = seen_of(rows[i].scope, ages[a].age_ms);
			struct rpc_answer alone = ask_at(w, ages[a].age_ms, &request), told;
			const struct value *trace;

			request.method = RPC_METHOD_EXPLAIN;
			told = ask_at(w, ages[a].age_ms, &request);
			same_answer(&told, &alone, i, ages[a].name);
			trace = value_get(told.more, "trace");
			assert_non_null(trace);
			assert_int_equal(says_stale(trace), seen != FRESH && rows[i].reason != REASON_NO_STACK);
			assert_int_equal(says_instead(trace, rows[i].reason),
					 seen == GRACE && rows[i].grace == REASON_STALE);
			arena_clear(&w->arena);
		}
	}
	world_end(w);
}

static void test_pages(void **state)
{
	static const struct {
		const char *scope, *org;
		enum reason reason;
	} cases[] = {
		{"page:read", NULL, REASON_OK},
		{"incident:write", NULL, REASON_OK},
		{"page:delete", NULL, REASON_OK},
		{"new:read", NULL, REASON_UNKNOWN_SCOPE},
		{"billing:read", NULL, REASON_UNKNOWN_SCOPE},
		{"page:read", "nowhere", REASON_NOT_MEMBER},
		{"incident:write", "umbra", REASON_NOT_MEMBER},
	};
	struct world *w = world_new(true, SETTINGS);
	char key[KEY_ROOM];

	(void)state;
	world_stack(w, STORE END);
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "write", NULL, key);
	for (unsigned a = 0; a < COUNT(ages); a++) {
		for (unsigned i = 0; i < COUNT(cases); i++) {
			struct rpc_request request = check(key, cases[i].scope, NULL);
			enum seen seen = seen_of(cases[i].scope, ages[a].age_ms);
			struct rpc_answer fresh, answer;

			request.method = RPC_METHOD_PAGES;
			request.context.org = text(cases[i].org);
			fresh = ask_at(w, 0, &request);
			answer = ask_at(w, ages[a].age_ms, &request);
			assert_reason(fresh, cases[i].reason);
			assert_false(fresh.stale);
			if (seen == FRESH)
				assert_reason(answer, cases[i].reason);
			else if (seen == GRACE && cases[i].reason == REASON_OK)
				assert_reason(answer, REASON_OK);
			else
				assert_reason(answer, REASON_STALE);
			assert_int_equal(answer.stale, seen == GRACE && cases[i].reason == REASON_OK);
			assert_int_equal(answer.has_pages, answer.reason == REASON_OK);
			if (answer.has_pages)
				assert_int_equal(answer.page_count, fresh.page_count);
			check_hints(&answer, 123);
			arena_clear(&w->arena);
		}
	}
	world_end(w);
}

/* It has no scope: the pattern `*` says how long, and no other. */
static void test_whoami(void **state)
{
	static const struct {
		const char *grace;
		int64_t age_ms;
		enum reason reason;
	} cases[] = {
		{"*:*=1h, *:read=1h", 3000, REASON_STALE}, {"*=1h", 3000, REASON_OK},
		{"*=1h, *:*=0", 300000, REASON_OK},	   {"*=1h", 2 * HOUR, REASON_STALE},
		{"*=0, *:*=1h", 3000, REASON_STALE},	   {"*=1h", 0, REASON_OK},
	};

	(void)state;
	for (unsigned i = 0; i < COUNT(cases); i++) {
		char settings[128], key[KEY_ROOM];
		struct rpc_request request;
		struct rpc_answer answer;
		struct world *w;

		snprintf(settings, sizeof(settings), "[freshness]\nmax_stale_ms = 1s\noffline_grace = %s\n",
			 cases[i].grace);
		w = world_new(true, settings);
		world_stack(w, STORE END);
		publish_key(w, KEY_KIND_ORGANIZATION, 1, "write", NULL, key);
		request = check(key, NULL, NULL);
		request.method = RPC_METHOD_WHOAMI;
		answer = ask_at(w, cases[i].age_ms, &request);
		assert_reason(answer, cases[i].reason);
		assert_int_equal(answer.stale, cases[i].age_ms > 0 && cases[i].reason == REASON_OK);
		assert_int_equal(value_get(answer.more, "access") != NULL, cases[i].reason == REASON_OK);
		world_end(w);
	}
}

/* ---- modules ---- */

static void test_modules_are_told(void **state)
{
	struct world *w = world_new(true, SETTINGS);
	char key[KEY_ROOM], junk[KEY_ROOM];
	struct rpc_request request;
	struct rpc_answer answer;

	(void)state;
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "write", NULL, key);
	make_key(KEY_KIND_USER, junk);
	world_stack(w, "caller required say n=0\nkey required store\naccount required say n=1\npage required say n=2\n"
		       "scope required say n=3\naudit required say n=4\n");
	for (unsigned i = 0; i <= 4; i++)
		plays[i].code = APIKEYD_SUCCESS;
	request = check(key, "page:read", "acme");
	assert_reason(ask_at(w, 0, &request), REASON_OK);
	for (unsigned i = 0; i <= 4; i++)
		assert_false(plays[i].stale);
	assert_reason(ask_at(w, 3000, &request), REASON_OK);
	for (unsigned i = 0; i <= 4; i++)
		assert_true(plays[i].stale);
	/* In audit it is the answer's mark. */
	request.key = text(junk);
	assert_reason(ask_at(w, 3000, &request), REASON_STALE);
	assert_true(plays[0].stale);
	assert_false(plays[4].stale);
	/* A denial of a module's is marked where the copy said whose key it is; a fault is not. */
	request.key = text(key);
	plays[3].code = APIKEYD_RATE_LIMITED;
	plays[3].retry_after_ms = 77;
	answer = ask_at(w, 3000, &request);
	assert_reason(answer, REASON_RATE_LIMITED);
	assert_true(answer.stale && answer.has_retry);
	assert_int_equal(answer.retry_after_ms, 77);
	plays[3].code = APIKEYD_MODULE_FAULT;
	answer = ask_at(w, 3000, &request);
	assert_reason(answer, REASON_MODULE_FAULT);
	assert_false(answer.stale);
	plays[0].code = APIKEYD_CALLER;
	answer = ask_at(w, 3000, &request);
	assert_reason(answer, REASON_CALLER);
	assert_false(answer.stale);
	/* Its own `stale`, with what it says about when. */
	plays[0].code = APIKEYD_SUCCESS;
	plays[3].code = APIKEYD_STALE;
	answer = ask_at(w, 0, &request);
	assert_reason(answer, REASON_STALE);
	assert_int_equal(answer.retry_after_ms, 77);
	world_end(w);
}

/* Page and scope modules see the pairs that may be answered, account sees the request once. */
static void test_modules_and_pairs(void **state)
{
	const struct rpc_pair pairs[] = {{text("page:read"), text("acme")}, {text("incident:write"), text("acme")}};
	struct world *w = world_new(true, SETTINGS);
	struct rpc_request request;
	char key[KEY_ROOM];
	struct rpc_answer answers[2];

	(void)state;
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "write", NULL, key);
	world_stack(w, STORE "account required say n=1\nscope required say n=2\naudit required say n=3\n");
	plays[1].code = plays[2].code = plays[3].code = APIKEYD_SUCCESS;
	request = check(key, NULL, NULL);
	request.method = RPC_METHOD_CHECK_MANY;
	request.pairs = pairs;
	request.pair_count = 2;
	set_age(w, 300000);
	request_batch(&w->core, &w->owner, &request, 1, &w->out);
	answers[0] = read_answer(w, &w->out, 0);
	answers[1] = read_answer(w, &w->out, 1);
	assert_reason(answers[0], REASON_OK);
	assert_reason(answers[1], REASON_STALE);
	assert_int_equal(plays[1].asked, 1);
	assert_int_equal(plays[2].asked, 1);
	assert_int_equal(plays[3].asked, 2);
	assert_int_equal(plays[3].reason_code, APIKEYD_STALE);
	/* With all pairs beyond, the key is not judged by the copy at all. */
	set_age(w, 2 * HOUR);
	request_batch(&w->core, &w->owner, &request, 1, &w->out);
	assert_reason(read_answer(w, &w->out, 0), REASON_STALE);
	assert_reason(read_answer(w, &w->out, 1), REASON_STALE);
	assert_int_equal(plays[1].asked, 1);
	world_end(w);
}

/* A module's principal is looked up in the copy: one that it does not know may be new. */
static void test_principals(void **state)
{
	static const struct {
		int64_t user, age_ms;
		enum reason reason;
	} cases[] = {
		{101, 0, REASON_OK},
		{101, 3000, REASON_OK},
		{101, 2 * HOUR, REASON_STALE},
		{4711, 0, REASON_UNKNOWN_KEY},
		{4711, 3000, REASON_STALE},
		{4711, 2 * HOUR, REASON_STALE},
		{103, 3000, REASON_USER_SUSPENDED},
	};
	struct world *w = world_new(true, SETTINGS);
	struct rpc_request request;
	char key[KEY_ROOM];

	(void)state;
	make_key(KEY_KIND_USER, key);
	world_stack(w, "caller none\nkey required id n=0\n" END);
	request = check(key, "page:read", "acme");
	plays[0].code = APIKEYD_SUCCESS;
	for (unsigned i = 0; i < COUNT(cases); i++) {
		struct apikeyd_principal p = {.size = sizeof(p), .kind = APIKEYD_KIND_USER, .user_id = cases[i].user};
		struct rpc_answer answer;

		plays[0].principal = &p;
		answer = ask_at(w, cases[i].age_ms, &request);
		assert_reason(answer, cases[i].reason);
		assert_int_equal(answer.stale, cases[i].age_ms == 3000 && cases[i].reason != REASON_STALE);
	}
	/* What the module itself does not know is its own word. */
	plays[0].principal = NULL;
	plays[0].code = APIKEYD_UNKNOWN_KEY;
	assert_reason(ask_at(w, 3000, &request), REASON_UNKNOWN_KEY);
	world_end(w);
}

/* Break-glass keys need no copy: of a stale one only what denies counts, with and without grace. */
static void test_break_glass(void **state)
{
	static const struct {
		const char *scope, *page;
		enum reason fresh, later;
	} cases[] = {
		{"incident:write", "acme", REASON_OK, REASON_OK},
		{"incident:write", "new-page", REASON_UNKNOWN_PAGE, REASON_OK},
		{"incident:write", "umbra", REASON_UNKNOWN_PAGE, REASON_UNKNOWN_PAGE},
		{"incident:write", "acme-old", REASON_PAGE_ARCHIVED, REASON_PAGE_ARCHIVED},
		{"page:delete", "acme", REASON_SCOPE_NOT_GRANTED, REASON_SCOPE_NOT_GRANTED},
		{"new:read", "acme", REASON_UNKNOWN_SCOPE, REASON_UNKNOWN_SCOPE},
		{"incident:write", "acme-z", REASON_PAGE_NOT_GRANTED, REASON_PAGE_NOT_GRANTED},
	};
	const struct apikeyd_text pages[] = {module_text("acme"), module_text("new-page"), module_text("umbra"),
					     module_text("acme-old")};
	const struct apikeyd_text scopes[] = {module_text("incident:write"), module_text("new:read")};
	struct apikeyd_principal p = {.size = sizeof(p),
				      .kind = APIKEYD_KIND_BREAK_GLASS,
				      .organization = module_text("acme"),
				      .narrowed_pages = true,
				      .narrowed_scopes = true,
				      .pages = pages,
				      .scopes = scopes,
				      .page_count = COUNT(pages),
				      .scope_count = COUNT(scopes)};
	struct world *w = world_new(true, SETTINGS);
	struct rpc_pair pairs[COUNT(cases)];
	struct rpc_request request;
	char key[KEY_ROOM];

	(void)state;
	make_key(KEY_KIND_BREAK_GLASS, key);
	world_stack(w, "caller none\nkey required id n=0\n" END);
	plays[0].code = APIKEYD_SUCCESS;
	plays[0].principal = &p;
	plays[0].ends_in_us = US(3600);
	for (unsigned a = 0; a < COUNT(ages); a++) {
		for (unsigned i = 0; i < COUNT(cases); i++) {
			struct rpc_answer answer;

			request = check(key, cases[i].scope, cases[i].page);
			pairs[i] = request.pair;
			answer = ask_at(w, ages[a].age_ms, &request);
			assert_reason(answer, ages[a].age_ms ? cases[i].later : cases[i].fresh);
			assert_true(answer.proven);
			assert_false(answer.stale);
		}
		request.method = RPC_METHOD_CHECK_MANY;
		request.pairs = pairs;
		request.pair_count = COUNT(pairs);
		set_age(w, ages[a].age_ms);
		request_batch(&w->core, &w->owner, &request, 1, &w->out);
		for (unsigned i = 0; i < COUNT(cases); i++)
			assert_reason(read_answer(w, &w->out, i), ages[a].age_ms ? cases[i].later : cases[i].fresh);
	}
	world_end(w);
}

/* ---- time, and revisions ---- */

/* Expiry goes on by the clock, while nobody confirms anything. */
static void for_100_s(struct copy_key_row *row)
{
	row->expires_at = US(NOW_S + 100);
}

static void test_expiry_goes_on(void **state)
{
	struct world *w = world_new(true, SETTINGS);
	struct rpc_request request;
	struct rpc_answer answer;
	char key[KEY_ROOM];

	(void)state;
	world_stack(w, STORE END);
	publish_key(w, KEY_KIND_USER, 101, NULL, for_100_s, key);
	request = check(key, "page:read", "acme");
	w->mirror.confirmed_at = mirror_boot_now() - US(50);
	answer = ask(w, &request);
	assert_reason(answer, REASON_OK);
	assert_true(answer.stale);
	w->mirror.confirmed_at = mirror_boot_now() - US(100);
	answer = ask(w, &request);
	assert_reason(answer, REASON_EXPIRED);
	assert_true(answer.stale);
	/* Never back, whoever confirms what. */
	w->mirror.confirmed_at = mirror_boot_now();
	assert_reason(ask(w, &request), REASON_EXPIRED);
	world_end(w);
}

static uint64_t next_attempt(void *data)
{
	(void)data;
	return 4567;
}

static void test_min_rev(void **state)
{
	struct world *w = world_new(true, SETTINGS);
	char key[KEY_ROOM];
	struct rpc_request request;
	struct rpc_answer answer;

	(void)state;
	world_stack(w, STORE END);
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "write", NULL, key);
	w->core.callbacks.retry_ms = next_attempt;
	request = check(key, "page:read", "acme");
	/* A copy in grace may get the revision yet; one that is too old says so at once. */
	set_age(w, 3000);
	request.context.min_rev = 200;
	request.context.deadline_ms = 20;
	ask_later(w, &request);
	run_until_answered(w, 1);
	answer = read_answer(w, &w->late, 0);
	assert_reason(answer, REASON_BEHIND);
	assert_false(answer.stale);
	assert_int_equal(answer.retry_after_ms, 4567);
	set_age(w, 2 * HOUR);
	answer = ask(w, &request);
	assert_reason(answer, REASON_STALE);
	assert_int_equal(answer.retry_after_ms, 4567);
	/* It comes, from a read that was sent long ago: an answer, and marked. */
	set_age(w, 3000);
	request.context.deadline_ms = 600000;
	w->config->deadline_max_ms = 600000;
	ask_later(w, &request);
	mirror_publish(&w->mirror, 200, mirror_boot_now() - US(3), US(NOW_S));
	run_until_answered(w, 2);
	answer = read_answer(w, &w->late, 0);
	assert_reason(answer, REASON_OK);
	assert_int_equal(answer.rev, 200);
	assert_true(answer.stale);
	/* It grows too old while it waits. */
	set_age(w, 3000);
	request.context.min_rev = 300;
	ask_later(w, &request);
	set_age(w, 2 * HOUR);
	request_finish(&w->core);
	answer = read_answer(w, &w->late, 0);
	assert_reason(answer, REASON_STALE);
	world_end(w);
}

/* What the database was told ends every grace. */
static void test_lease(void **state)
{
	struct world *w = world_new(true, SETTINGS);
	struct rpc_request request;
	char key[KEY_ROOM];

	(void)state;
	world_stack(w, STORE END);
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "write", NULL, key);
	request = check(key, "page:read", "acme");
	mirror_lease(&w->mirror, mirror_boot_now() + US(3600));
	assert_reason(ask_at(w, 3000, &request), REASON_OK);
	mirror_lease(&w->mirror, mirror_boot_now() - 1);
	assert_reason(ask_at(w, 3000, &request), REASON_STALE);
	assert_reason(ask_at(w, 0, &request), REASON_STALE);
	world_end(w);
}

static unsigned aged;

static void on_aged(void *data)
{
	(void)data;
	aged++;
}

/* Each change of the state is told before answers are made in it, and only then. */
static void test_aged(void **state)
{
	struct world *w = world_new(true, SETTINGS);
	char key[KEY_ROOM];
	struct rpc_request request;

	(void)state;
	world_stack(w, STORE END);
	publish_key(w, KEY_KIND_ORGANIZATION, 1, "write", NULL, key);
	request = check(key, "page:read", "acme");
	w->core.callbacks.aged = on_aged;
	aged = 0;
	for (unsigned a = 0; a < COUNT(ages); a++) {
		for (unsigned i = 0; i < 5; i++)
			ask_at(w, ages[a].age_ms, &request);
	}
	assert_int_equal(aged, 3); /* fresh, grace, stale */
	ask_at(w, 0, &request);
	assert_int_equal(aged, 4);
	world_end(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_without_grace),
		cmocka_unit_test(test_never_loaded),
		cmocka_unit_test(test_check_many),
		cmocka_unit_test(test_explain),
		cmocka_unit_test(test_pages),
		cmocka_unit_test(test_whoami),
		cmocka_unit_test(test_modules_are_told),
		cmocka_unit_test(test_modules_and_pairs),
		cmocka_unit_test(test_principals),
		cmocka_unit_test(test_break_glass),
		cmocka_unit_test(test_expiry_goes_on),
		cmocka_unit_test(test_min_rev),
		cmocka_unit_test(test_aged),
		cmocka_unit_test(test_lease),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
