/* Requests and answers beyond the vectors: round trips, memory, and the hand-written bytes against msgpack-c. */
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <msgpack.h>

#include "proto/rpc.h"
#include "proto/scan.h"

/* Between proto/ and the C library, by the linker; msgpack-c's own allocations are not seen. */
static int fail_after = -1;
static unsigned allocations;
static const char *secret;
static unsigned secrets_freed;
static struct {
	void *block;
	size_t size;
} blocks[4096];

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void __real_free(void *block);
void __wrap_free(void *block);

static bool may_allocate(void)
{
	allocations++;
	if (fail_after == 0)
		return false;
	if (fail_after > 0)
		fail_after--;
	return true;
}

static void *note(void *block, size_t size)
{
	for (size_t i = 0; block && i < sizeof(blocks) / sizeof(blocks[0]); i++) {
		if (!blocks[i].block) {
			blocks[i].block = block;
			blocks[i].size = size;
			break;
		}
	}
	return block;
}

void *__wrap_malloc(size_t size)
{
	return may_allocate() ? note(__real_malloc(size), size) : NULL;
}

void *__wrap_calloc(size_t count, size_t size)
{
	return may_allocate() ? note(__real_calloc(count, size), count * size) : NULL;
}

void __wrap_free(void *block)
{
	for (size_t i = 0; block && i < sizeof(blocks) / sizeof(blocks[0]); i++) {
		if (blocks[i].block != block)
			continue;
		if (secret && memmem(block, blocks[i].size, secret, strlen(secret)))
			secrets_freed++;
		blocks[i].block = NULL;
	}
	__real_free(block);
}

static uint64_t random_state = 0x853c49e6748fea9b;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

/* A number of any size of its form. */
static uint64_t random_number(void)
{
	return next_random() >> (next_random() % 64);
}

static const char letters[] = "acme-status:read.incident:write/page@example.com";

static struct rpc_text random_text(uint32_t max)
{
	static char pool[70000];
	uint32_t len = (uint32_t)(next_random() % (max + 1));

	if (!pool[0]) {
		for (size_t i = 0; i < sizeof(pool); i++)
			pool[i] = letters[i % (sizeof(letters) - 1)];
	}
	return (struct rpc_text){pool + next_random() % 40, len};
}

static struct rpc_text text(const char *s)
{
	return (struct rpc_text){s, (uint32_t)strlen(s)};
}

static void assert_same(struct rpc_text a, struct rpc_text b)
{
	assert_int_equal(a.data == NULL, b.data == NULL);
	assert_int_equal(a.len, b.len);
	if (a.len > 0)
		assert_memory_equal(a.data, b.data, a.len);
}

static void assert_whole(const struct rpc_buffer *out)
{
	const struct scan_limits limits = {1 << 24, SCAN_DEPTH_MAX};
	size_t size;

	assert_false(out->failed);
	assert_int_equal(scan_message(out->data, out->len, &limits, &size), SCAN_MESSAGE);
	assert_int_equal(size, out->len);
}

/* ---- answers against msgpack-c ---- */

struct reference {
	msgpack_sbuffer bytes;
	msgpack_packer packer;
};

static void ref_text(struct reference *r, const char *s, size_t len)
{
	msgpack_pack_str(&r->packer, len);
	msgpack_pack_str_body(&r->packer, s, len);
}

static void ref_name(struct reference *r, const char *name)
{
	ref_text(r, name, strlen(name));
}

static void ref_text_field(struct reference *r, const char *name, struct rpc_text t)
{
	if (!t.data)
		return;
	ref_name(r, name);
	ref_text(r, t.data, t.len);
}

static void ref_who(struct reference *r, const struct rpc_answer *a)
{
	ref_name(r, "key_id");
	ref_name(r, a->key_id);
	ref_name(r, "kind");
	ref_name(r, key_kind_word(a->kind));
	ref_text_field(r, "org", a->org);
	ref_text_field(r, "user", a->user);
	ref_text_field(r, "page", a->page);
	ref_text_field(r, "missing_scope", a->missing_scope);
	ref_text_field(r, "needs_role", a->needs_role);
}

static void ref_map(struct reference *r, const struct rpc_answer *a)
{
	unsigned fields = 4 + a->stale + a->has_retry;

	if (a->proven)
		fields += 2u + !!a->org.data + !!a->user.data + !!a->page.data + !!a->missing_scope.data +
			  !!a->needs_role.data + a->has_expiry + !!a->successor[0] + a->has_pages + !!a->next.data +
			  (a->more ? a->more->count : 0);
	msgpack_pack_map(&r->packer, fields);
	ref_name(r, "verdict");
	ref_name(r, verdict_word(verdict_of(a->reason)));
	ref_name(r, "reason");
	ref_name(r, reason_word(a->reason));
	ref_name(r, "rev");
	msgpack_pack_uint64(&r->packer, a->rev);
	ref_name(r, "age_ms");
	msgpack_pack_uint64(&r->packer, a->age_ms);
	if (a->stale) {
		ref_name(r, "stale");
		msgpack_pack_true(&r->packer);
	}
	if (a->proven)
		ref_who(r, a);
	if (a->has_retry) {
		ref_name(r, "retry_after_ms");
		msgpack_pack_uint64(&r->packer, a->retry_after_ms);
	}
	if (!a->proven)
		return;
	if (a->has_expiry) {
		ref_name(r, "expires_at");
		msgpack_pack_int64(&r->packer, a->expires_at);
	}
	if (a->successor[0]) {
		ref_name(r, "successor");
		ref_name(r, a->successor);
	}
	if (a->has_pages) {
		ref_name(r, "pages");
		msgpack_pack_array(&r->packer, a->page_count);
		for (uint32_t i = 0; i < a->page_count; i++)
			ref_text(r, a->pages[i].data, a->pages[i].len);
	}
	ref_text_field(r, "next", a->next);
	for (uint32_t i = 0; a->more && i < a->more->count; i++) {
		ref_name(r, a->more->fields[i].name);
		msgpack_pack_int64(&r->packer, a->more->fields[i].value.integer);
	}
}

static struct rpc_text maybe_text(uint32_t max)
{
	return next_random() & 1 ? random_text(max) : (struct rpc_text){0};
}

static struct rpc_answer random_answer(struct rpc_text pages[70000], const struct value *more)
{
	struct rpc_answer a = {
		.reason = (enum reason)(next_random() % REASON_COUNT),
		.rev = random_number(),
		.age_ms = random_number(),
		.stale = next_random() & 1,
		.proven = next_random() % 4 != 0,
		.key_id = "0123456789",
		.kind = next_random() & 1 ? KEY_KIND_USER : KEY_KIND_ORGANIZATION,
		.org = maybe_text(40),
		.user = maybe_text(300),
		.page = maybe_text(255),
		.missing_scope = maybe_text(64),
		.needs_role = maybe_text(33),
		.has_retry = next_random() & 1,
		.retry_after_ms = random_number(),
		.has_expiry = next_random() & 1,
		.expires_at = (int64_t)(next_random() & 1 ? random_number() : -random_number()),
		.has_pages = next_random() & 1,
		.pages = pages,
		.next = maybe_text(100),
		.more = next_random() & 1 ? more : NULL,
	};

	if (next_random() & 1)
		strcpy(a.successor, "AAAAAAAAAA");
	a.page_count = (uint32_t)(next_random() % 40);
	for (uint32_t i = 0; i < a.page_count; i++)
		pages[i] = random_text(40);
	return a;
}

static void answers_are_as_msgpack_c_writes_them(void **state)
{
	static struct rpc_text pages[70000];
	struct arena arena = {0};
	struct rpc_buffer out = {0};
	struct reference r;
	struct value more;

	(void)state;
	value_map(&more);
	for (int i = 0; i < 20; i++) {
		char name[8];

		snprintf(name, sizeof(name), "m%d", i);
		assert_true(value_set_int(&arena, &more, name, -i * 1000));
	}
	msgpack_sbuffer_init(&r.bytes);
	msgpack_packer_init(&r.packer, &r.bytes, msgpack_sbuffer_write);
	for (unsigned n = 0; n < 30000; n++) {
		struct rpc_answer a = random_answer(pages, &more);
		uint32_t msgid = (uint32_t)random_number();

		if (n < REASON_COUNT) /* each reason at least once, alone */
			a = (struct rpc_answer){.reason = (enum reason)n};
		if (n % 10000 == 9999) { /* counts and texts of the longest forms */
			a.proven = a.has_pages = true;
			a.page_count = 66000;
			for (uint32_t i = 0; i < a.page_count; i++)
				pages[i] = text("p");
			pages[7] = (struct rpc_text){random_text(0).data, 66000};
		}
		out.len = 0;
		r.bytes.size = 0;
		rpc_put_answer(&out, msgid, &a);
		msgpack_pack_array(&r.packer, 4);
		msgpack_pack_uint8(&r.packer, 1);
		msgpack_pack_uint32(&r.packer, msgid);
		msgpack_pack_nil(&r.packer);
		ref_map(&r, &a);
		assert_false(out.failed);
		assert_int_equal(out.len, r.bytes.size);
		assert_memory_equal(out.data, r.bytes.data, out.len);
		/* many into one buffer, none in another's way */
		rpc_put_answers_head(&out, msgid, 2);
		rpc_put_answer_map(&out, &a);
		rpc_put_answer_map(&out, &a);
		msgpack_pack_array(&r.packer, 4);
		msgpack_pack_uint8(&r.packer, 1);
		msgpack_pack_uint32(&r.packer, msgid);
		msgpack_pack_nil(&r.packer);
		msgpack_pack_array(&r.packer, 2);
		ref_map(&r, &a);
		ref_map(&r, &a);
		assert_int_equal(out.len, r.bytes.size);
		assert_memory_equal(out.data, r.bytes.data, out.len);
	}
	msgpack_sbuffer_destroy(&r.bytes);
	rpc_buffer_deinit(&out);
	arena_clear(&arena);
}

/* Whatever the daemon forgot to leave out: nothing about a key that was not proven. */
static void unproven_says_nothing_of_the_key(void **state)
{
	const struct rpc_text page = {"leaky-page", 10};
	struct arena arena = {0};
	struct rpc_buffer out = {0};
	struct value more;
	struct rpc_answer a = {.reason = REASON_UNKNOWN_KEY,
			       .key_id = "leakykeyid",
			       .org = text("leaky-org"),
			       .user = text("leaky@user"),
			       .page = page,
			       .missing_scope = text("leaky:scope"),
			       .needs_role = text("leaky-role"),
			       .has_expiry = true,
			       .successor = "leakysucc0",
			       .has_pages = true,
			       .pages = &page,
			       .page_count = 1,
			       .next = page,
			       .more = &more};

	(void)state;
	value_map(&more);
	assert_true(value_set_text(&arena, &more, "leaky", "leaky"));
	rpc_put_answer(&out, 1, &a);
	assert_whole(&out);
	assert_null(memmem(out.data, out.len, "leaky", 5));
	assert_null(memmem(out.data, out.len, "expires_at", 10));
	rpc_buffer_deinit(&out);
	arena_clear(&arena);
}

/* ---- requests: what a client writes, the daemon reads ---- */

static void requests_round_trip(void **state)
{
	struct rpc_decoder *decoder = rpc_decoder_new();
	struct rpc_buffer out = {0};

	(void)state;
	for (unsigned n = 0; n < 20000; n++) {
		struct rpc_pair pairs[40];
		uint32_t count = 1 + (uint32_t)(next_random() % 40);
		uint32_t msgid = (uint32_t)random_number();
		struct rpc_text key = random_text(RPC_KEY_MAX);
		struct rpc_context_text context = {
			.stack = maybe_text(RPC_NAME_MAX),
			.org = maybe_text(RPC_NAME_MAX),
			.after = maybe_text(RPC_NAME_MAX),
			.addr = next_random() & 1 ? text("2001:db8::1") : (struct rpc_text){0},
			.min_rev = next_random() & 1 ? random_number() : 0,
			.deadline_ms = (uint32_t)(next_random() % (RPC_DEADLINE_MAX_MS + 1)),
			.cost = (uint32_t)(next_random() % (RPC_COST_MAX + 1)),
		};
		const struct rpc_context_text *given = next_random() % 4 ? &context : NULL;
		unsigned method = (unsigned)(next_random() % 5);
		struct rpc_request got;
		struct rpc_error error;

		for (uint32_t i = 0; i < count; i++) {
			pairs[i].scope = random_text(RPC_SCOPE_MAX);
			pairs[i].page = maybe_text(RPC_PAGE_MAX);
		}
		out.len = 0;
		if (method == 0)
			rpc_put_check(&out, msgid, key, pairs[0], given);
		else if (method == 1)
			rpc_put_check_many(&out, msgid, key, pairs, count, given);
		else if (method == 2)
			rpc_put_pages(&out, msgid, key, pairs[0].scope, given);
		else if (method == 3)
			rpc_put_whoami(&out, msgid, key, given);
		else
			rpc_put_explain(&out, msgid, key, pairs[0], given);
		assert_whole(&out);
		assert_int_equal(rpc_decode_request(decoder, RPC_SERVICE_CHECK, out.data, out.len, &got, &error),
				 RPC_OK);
		assert_int_equal(got.msgid, msgid);
		assert_int_equal(got.method, RPC_METHOD_CHECK + method);
		assert_same(got.key, key);
		if (method == 0 || method == 4)
			assert_same(got.pair.page, pairs[0].page);
		if (method == 0 || method == 2 || method == 4)
			assert_same(got.pair.scope, pairs[0].scope);
		assert_int_equal(got.pair_count, method == 1 ? count : 0);
		for (uint32_t i = 0; i < got.pair_count; i++) {
			assert_same(got.pairs[i].scope, pairs[i].scope);
			assert_same(got.pairs[i].page, pairs[i].page);
		}
		if (!given)
			context = (struct rpc_context_text){0};
		assert_same(got.context.stack, context.stack);
		assert_same(got.context.org, context.org);
		assert_same(got.context.after, context.after);
		assert_int_equal(got.context.addr.family, context.addr.data ? 6 : 0);
		assert_true(got.context.min_rev == context.min_rev);
		assert_int_equal(got.context.deadline_ms, context.deadline_ms);
		assert_int_equal(got.context.cost, context.cost ? context.cost : 1);
		if (n % 64 == 0)
			rpc_decoder_reset(decoder);
	}
	rpc_buffer_deinit(&out);
	rpc_decoder_free(decoder);
}

static void hello_and_calls(void **state)
{
	struct rpc_decoder *decoder = rpc_decoder_new();
	struct arena arena = {0};
	struct rpc_buffer out = {0};
	struct rpc_request got;
	struct rpc_error error;
	struct value params;

	(void)state;
	rpc_put_hello(&out, 9, text("tool"), (struct rpc_text){0});
	assert_whole(&out);
	assert_int_equal(rpc_decode_request(decoder, RPC_SERVICE_ADMIN, out.data, out.len, &got, &error), RPC_OK);
	assert_int_equal(got.method, RPC_METHOD_HELLO);
	assert_same(got.client, text("tool"));
	assert_null(got.client_version.data);
	out.len = 0;
	value_map(&params);
	assert_true(value_set_text(&arena, &params, "org", "acme"));
	rpc_put_call(&out, 9, "org_show", &params);
	assert_whole(&out);
	assert_int_equal(rpc_decode_request(decoder, RPC_SERVICE_ADMIN, out.data, out.len, &got, &error), RPC_OK);
	assert_same(got.admin_method, text("org_show"));
	assert_string_equal(value_as_text(value_get(got.admin_params, "org"), ""), "acme");
	out.len = 0;
	rpc_put_call(&out, 9, "stats", NULL);
	assert_int_equal(rpc_decode_request(decoder, RPC_SERVICE_CHECK, out.data, out.len, &got, &error), RPC_OK);
	assert_int_equal(got.method, RPC_METHOD_STATS);
	rpc_buffer_deinit(&out);
	rpc_decoder_free(decoder);
	arena_clear(&arena);
}

/* ---- memory ---- */

/* A read holds many messages: what was decoded first is still right when the last is. */
static void results_last_until_the_reset(void **state)
{
	enum { MESSAGES = 600, PAIRS = 60 };
	static struct rpc_request got[2 * MESSAGES];
	struct rpc_decoder *decoder = rpc_decoder_new();
	struct arena arena = {0};
	struct rpc_buffer out = {0};
	size_t ends[2 * MESSAGES + 1] = {0};
	char pages[PAIRS][16];
	struct rpc_pair pairs[PAIRS];
	struct rpc_error error;

	(void)state;
	for (unsigned n = 0; n < MESSAGES; n++) {
		struct value params;

		for (unsigned i = 0; i < PAIRS; i++) {
			snprintf(pages[i], sizeof(pages[i]), "p%u-%u", n, i);
			pairs[i] = (struct rpc_pair){text("incident:read"), text(pages[i])};
		}
		rpc_put_check_many(&out, n, text("some key"), pairs, 1 + n % PAIRS, NULL);
		ends[2 * n + 1] = out.len;
		value_map(&params);
		assert_true(value_set_text(&arena, &params, "page", pages[0]));
		rpc_put_call(&out, n, "page_show", &params);
		ends[2 * n + 2] = out.len;
	}
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned n = 0; n < 2 * MESSAGES; n++)
			assert_int_equal(rpc_decode_request(decoder, n & 1 ? RPC_SERVICE_ADMIN : RPC_SERVICE_CHECK,
							    out.data + ends[n], ends[n + 1] - ends[n], &got[n], &error),
					 RPC_OK);
		for (unsigned n = 0; n < MESSAGES; n++) {
			assert_int_equal(got[2 * n].pair_count, 1 + n % PAIRS);
			for (unsigned i = 0; i < got[2 * n].pair_count; i++) {
				snprintf(pages[i], sizeof(pages[i]), "p%u-%u", n, i);
				assert_same(got[2 * n].pairs[i].page, text(pages[i]));
			}
			snprintf(pages[0], sizeof(pages[0]), "p%u-0", n);
			assert_string_equal(value_as_text(value_get(got[2 * n + 1].admin_params, "page"), ""),
					    pages[0]);
		}
		rpc_decoder_reset(decoder);
	}
	rpc_buffer_deinit(&out);
	rpc_decoder_free(decoder);
	arena_clear(&arena);
}

static void nothing_is_allocated_once_warm(void **state)
{
	static struct rpc_pair pairs[RPC_PAIRS_MAX];
	const struct rpc_context_text context = {.addr = text("203.0.113.9"), .min_rev = 5};
	struct rpc_decoder *decoder = rpc_decoder_new();
	struct rpc_buffer check = {0}, many = {0}, out = {0};
	struct rpc_answer answer = {.reason = REASON_OK, .proven = true, .key_id = "0123456789"};
	struct rpc_request got;
	struct rpc_error error;

	(void)state;
	for (unsigned i = 0; i < RPC_PAIRS_MAX; i++)
		pairs[i] = (struct rpc_pair){text("incident:read"), text("acme-status")};
	rpc_put_check(&check, 1, text("some key"), pairs[0], &context);
	rpc_put_check_many(&many, 1, text("some key"), pairs, RPC_PAIRS_MAX, &context);
	for (unsigned round = 0; round < 6; round++) {
		if (round == 3)
			allocations = 0;
		for (unsigned n = 0; n < 20; n++) {
			assert_int_equal(
				rpc_decode_request(decoder, RPC_SERVICE_CHECK, check.data, check.len, &got, &error),
				RPC_OK);
			if (n < 2)
				assert_int_equal(rpc_decode_request(decoder, RPC_SERVICE_CHECK, many.data, many.len,
								    &got, &error),
						 RPC_OK);
			rpc_put_answer(&out, 1, &answer);
		}
		out.len = 0;
		rpc_decoder_reset(decoder);
	}
	assert_int_equal(allocations, 0);
	rpc_buffer_deinit(&check);
	rpc_buffer_deinit(&many);
	rpc_buffer_deinit(&out);
	rpc_decoder_free(decoder);
}

static void buffers_wipe_what_they_leave(void **state)
{
	struct rpc_buffer out = {0};

	(void)state;
	secret = "aku_0123456789_MadeUpSecretOfAKey";
	secrets_freed = 0;
	for (unsigned i = 0; i < 3000; i++)
		rpc_put_whoami(&out, i, text(secret), NULL);
	assert_true(out.len > 3000 * strlen(secret));
	rpc_buffer_deinit(&out);
	assert_null(out.data);
	/* used again from the start, as a session does: the bytes behind len go too */
	rpc_put_whoami(&out, 1, text(secret), NULL);
	out.len = 0;
	rpc_buffer_deinit(&out);
	/* and a buffer that moves after len was set back */
	rpc_put_whoami(&out, 1, text(secret), NULL);
	out.len = 0;
	rpc_put_whoami(&out, 1, random_text(0), NULL);
	out.len = 0;
	rpc_put_answer(&out, 1, &(struct rpc_answer){.proven = true, .page = {random_text(0).data, 60000}});
	rpc_buffer_deinit(&out);
	assert_int_equal(secrets_freed, 0);
	secret = NULL;
}

static void write_everything(struct rpc_buffer *out, const struct value *result)
{
	const struct rpc_error error = {RPC_BAD_PARAMS, "what is wrong"};
	const struct rpc_answer answer = {.reason = REASON_OK, .proven = true, .more = result};
	const struct rpc_pair pair = {text("incident:read"), {0}};

	rpc_put_check(out, 1, text("some key"), pair, NULL);
	rpc_put_check_many(out, 1, text("some key"), &pair, 1, NULL);
	rpc_put_hello(out, 1, text("x"), text("1"));
	rpc_put_pages(out, 1, text("some key"), text("x"), NULL);
	rpc_put_call(out, 1, "stats", NULL);
	rpc_put_answer(out, 1, &answer);
	rpc_put_answers_head(out, 1, 5);
	rpc_put_answer_map(out, &answer);
	rpc_put_result(out, 1, result);
	rpc_put_error(out, 1, &error);
	rpc_put_notice(out, &error);
}

static void buffers_fail_once_and_for_all(void **state)
{
	struct arena arena = {0};
	struct value result;
	bool failed = true;

	(void)state;
	value_map(&result);
	assert_true(value_set_text(&arena, &result, "x", "y"));
	for (int n = 0; failed; n++) {
		struct rpc_buffer out = {0};

		assert_true(n < 50);
		fail_after = n;
		for (unsigned i = 0; i < 100; i++)
			write_everything(&out, &result);
		fail_after = -1;
		failed = out.failed;
		write_everything(&out, &result); /* memory is back, but a gap cannot be closed */
		assert_int_equal(out.failed, failed);
		rpc_buffer_deinit(&out);
		assert_false(out.failed);
	}
	arena_clear(&arena);
}

static void decoding_without_memory(void **state)
{
	struct arena params_arena = {0};
	struct rpc_buffer many = {0}, call = {0}, answer = {0};
	const struct rpc_pair pair = {text("incident:read"), {0}};
	struct rpc_request request;
	struct rpc_error error;
	struct value params;

	(void)state;
	rpc_put_check_many(&many, 77, text("some key"), &pair, 1, NULL);
	value_map(&params);
	for (unsigned i = 0; i < 64; i++) {
		char name[16];

		snprintf(name, sizeof(name), "f%u", i);
		assert_true(value_set_text(&params_arena, &params, name, letters));
	}
	rpc_put_call(&call, 78, "org_add", &params);
	rpc_put_result(&answer, 79, &params);
	fail_after = 0;
	assert_null(rpc_decoder_new());
	fail_after = -1;
	for (unsigned n = 0, done = 0; done < 3; n++) {
		struct rpc_decoder *decoder = rpc_decoder_new();
		struct arena arena = {0};
		struct rpc_reply reply = {.msgid = 5};
		enum rpc_error_code code;

		assert_true(n < 50);
		done = 0;
		fail_after = (int)n;
		code = rpc_decode_request(decoder, RPC_SERVICE_CHECK, many.data, many.len, &request, &error);
		assert_int_equal(code, n ? RPC_OK : RPC_INTERNAL);
		assert_int_equal(request.msgid, 77);
		done += code == RPC_OK;
		rpc_decoder_reset(decoder);
		fail_after = (int)n;
		code = rpc_decode_request(decoder, RPC_SERVICE_ADMIN, call.data, call.len, &request, &error);
		assert_true(code == RPC_OK || code == RPC_INTERNAL);
		assert_int_equal(request.msgid, 78);
		done += code == RPC_OK;
		fail_after = (int)n;
		if (rpc_decode_reply(&arena, answer.data, answer.len, &reply))
			done++;
		else
			assert_int_equal(reply.msgid, 5);
		fail_after = -1;
		arena_clear(&arena);
		rpc_decoder_free(decoder);
	}
	rpc_buffer_deinit(&many);
	rpc_buffer_deinit(&call);
	rpc_buffer_deinit(&answer);
	arena_clear(&params_arena);
	rpc_decoder_free(NULL);
}

/* ---- errors never show a key ---- */

/* A key in the place of each other parameter, whole, cut or lengthened: no long piece of it comes back. */
static void errors_hold_no_key(void **state)
{
	static const uint8_t bytes[KEYTEXT_SECRET_BYTES] = {0x5a, 0xc3, 0x17, 0x99, 0x42, 1, 2, 3};
	struct rpc_decoder *decoder = rpc_decoder_new();
	struct rpc_buffer out = {0};
	char key[KEYTEXT_MAX + 1], longer[400];
	unsigned refused = 0;
	size_t len = keytext_format("ak", KEY_KIND_USER, 12345678901234567, bytes, key);

	(void)state;
	for (unsigned n = 0; n < 400; n++) {
		struct rpc_text given = {key, (uint32_t)len};
		struct rpc_context_text context = {0};
		struct rpc_pair pair = {text("incident:read"), text("acme-status")};
		struct rpc_text right = text("hunter2");
		struct rpc_request request;
		struct rpc_error error = {0};

		if (n % 5) { /* long enough to be refused: blanks, then the key, then dots */
			memset(longer, ' ', sizeof(longer));
			memcpy(longer + n % 60, key, len);
			given = (struct rpc_text){longer, 300};
		}
		switch (n % 7) {
		case 0:
			right = given;
			break;
		case 1:
			pair.scope = given;
			break;
		case 2:
			pair.page = given;
			break;
		case 3:
			context.addr = given;
			break;
		case 4:
			context.org = given;
			break;
		case 5:
			context.stack = given;
			break;
		default:
			context.after = given;
		}
		out.len = 0;
		if (n % 3)
			rpc_put_check(&out, 1, right, pair, &context);
		else
			rpc_put_check_many(&out, 1, right, &pair, 1, &context);
		if (rpc_decode_request(decoder, RPC_SERVICE_CHECK, out.data, out.len, &request, &error))
			refused++;
		for (size_t at = 15; at + 8 <= len; at++) {
			char piece[9] = {0};

			memcpy(piece, key + at, 8);
			assert_null(strstr(error.message, piece));
		}
		rpc_decoder_reset(decoder);
	}
	assert_true(refused > 300);
	rpc_buffer_deinit(&out);
	rpc_decoder_free(decoder);
}

static void error_lines_are_plain(void **state)
{
	struct rpc_decoder *decoder = rpc_decoder_new();

	(void)state;
	for (unsigned n = 0; n < 256; n++) {
		char name[300];
		struct rpc_buffer out = {0};
		struct rpc_request request;
		struct rpc_error error = {0};

		for (unsigned i = 0; i < sizeof(name); i++)
			name[i] = (char)(n + i * 7 % 3);
		rpc_put_check(&out, 1, text("hunter2"), (struct rpc_pair){{name, 65 + n % 200}, {0}}, NULL);
		assert_int_equal(rpc_decode_request(decoder, RPC_SERVICE_CHECK, out.data, out.len, &request, &error),
				 RPC_BAD_PARAMS);
		for (const char *c = error.message; *c; c++)
			assert_in_range((unsigned char)*c, 0x20, 0x7e);
		assert_non_null(strstr(error.message, "at most 64 are right"));
		/* the length is told once, whether or not the text may be shown */
		assert_int_equal(strstr(error.message, "bytes long") != NULL,
				 strstr(error.message, "a text of") == NULL);
		rpc_buffer_deinit(&out);
	}
	rpc_decoder_free(decoder);
}

/* ---- words and addresses ---- */

static void words(void **state)
{
	(void)state;
	for (int a = 0; a < RPC_ERROR_COUNT; a++) {
		for (int b = 0; b < a; b++)
			assert_string_not_equal(rpc_error_word((enum rpc_error_code)a),
						rpc_error_word((enum rpc_error_code)b));
	}
	assert_string_equal(rpc_error_word((enum rpc_error_code)RPC_ERROR_COUNT), "internal");
	assert_string_equal(rpc_error_word((enum rpc_error_code) - 1), "internal");
	assert_string_equal(rpc_method_word(RPC_METHOD_CHECK_MANY), "check_many");
	assert_string_equal(rpc_method_word(RPC_METHOD_ADMIN), "admin");
	assert_non_null(rpc_method_word((enum rpc_method)RPC_METHOD_COUNT));
}

static void addresses(void **state)
{
	static const struct {
		const char *text;
		unsigned family, first, last; /* last: of the family's bytes */
	} cases[] = {
		{"0.0.0.0", 4, 0, 0},
		{"203.0.113.9", 4, 203, 9},
		{"255.255.255.255", 4, 255, 255},
		{"::", 6, 0, 0},
		{"::1", 6, 0, 1},
		{"2001:db8::9", 6, 0x20, 9},
		{"2001:DB8:0:0:0:0:0:9", 6, 0x20, 9},
		{"::ffff:203.0.113.9", 4, 203, 9},
		{"::FFFF:cb00:7109", 4, 203, 9},
		{"0:0:0:0:0:ffff:203.0.113.9", 4, 203, 9},
		{"::203.0.113.9", 6, 0, 9}, /* compatible, not mapped */
		{"64:ff9b::203.0.113.9", 6, 0, 9},
		{"ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255", 6, 255, 255},
	};
	static const char *const wrong[] = {"",
					    " ",
					    "1",
					    "1.2.3",
					    "1.2.3.4.5",
					    "256.0.0.1",
					    "1.2.3.4 ",
					    " 1.2.3.4",
					    "01.2.3.4",
					    "1.2.3.4/32",
					    ":",
					    ":::",
					    "1::2::3",
					    "fe80::1%lo",
					    "[::1]",
					    "::ffff:1.2.3",
					    "localhost",
					    "0x7f.1",
					    "2001:db8::12345",
					    "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.2550"};
	struct rpc_addr addr;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t bytes = cases[i].family == 4 ? 4 : 16;

		memset(&addr, 0xff, sizeof(addr));
		assert_true(rpc_addr_parse(cases[i].text, strlen(cases[i].text), &addr));
		assert_int_equal(addr.family, cases[i].family);
		assert_int_equal(addr.bytes[0], cases[i].first);
		assert_int_equal(addr.bytes[bytes - 1], cases[i].last);
		for (size_t k = bytes; k < 16; k++) /* so that equal addresses are equal memory */
			assert_int_equal(addr.bytes[k], 0);
	}
	memset(&addr, 0x55, sizeof(addr));
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_false(rpc_addr_parse(wrong[i], strlen(wrong[i]), &addr));
	assert_false(rpc_addr_parse("1.2.3.4\0", 8, &addr));
	assert_int_equal(addr.family, 0x55);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_are_as_msgpack_c_writes_them),
		cmocka_unit_test(unproven_says_nothing_of_the_key),
		cmocka_unit_test(requests_round_trip),
		cmocka_unit_test(hello_and_calls),
		cmocka_unit_test(results_last_until_the_reset),
		cmocka_unit_test(nothing_is_allocated_once_warm),
		cmocka_unit_test(buffers_wipe_what_they_leave),
		cmocka_unit_test(buffers_fail_once_and_for_all),
		cmocka_unit_test(decoding_without_memory),
		cmocka_unit_test(errors_hold_no_key),
		cmocka_unit_test(error_lines_are_plain),
		cmocka_unit_test(words),
		cmocka_unit_test(addresses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
