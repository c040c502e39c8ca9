/*
 * Messages after the scanner: as a request of each service and as a reply. What decodes is encoded and decoded again,
 * and is the same; a reply that is read as an answer opens nothing by accident.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/rpc.h"
#include "proto/scan.h"

static void must(int condition)
{
	if (!condition)
		abort();
}

static const struct scan_limits limits = {RPC_MESSAGE_MAX, SCAN_DEPTH_MAX};

static int same(struct rpc_text a, struct rpc_text b)
{
	return !a.data == !b.data && a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static int same_value(const struct value *a, const struct value *b)
{
	if (a->type != b->type || a->count != b->count)
		return 0;
	switch (a->type) {
	case VALUE_NIL:
		return 1;
	case VALUE_BOOL:
		return a->truth == b->truth;
	case VALUE_INT:
	case VALUE_UINT:
	case VALUE_FLOAT:
		return a->integer == b->integer; /* bit by bit, NaN too */
	case VALUE_TEXT:
		return memcmp(a->text, b->text, a->count) == 0;
	case VALUE_LIST:
		for (uint32_t i = 0; i < a->count; i++) {
			if (!same_value(&a->items[i], &b->items[i]))
				return 0;
		}
		return 1;
	case VALUE_MAP:
		for (uint32_t i = 0; i < a->count; i++) {
			if (strcmp(a->fields[i].name, b->fields[i].name) != 0 ||
			    !same_value(&a->fields[i].value, &b->fields[i].value))
				return 0;
		}
		return 1;
	}
	return 0;
}

/* By its first letter: the words that a request can say. */
static void encode(struct rpc_buffer *out, const struct rpc_request *r)
{
	struct rpc_context_text context = {.stack = r->context.stack,
					   .org = r->context.org,
					   .after = r->context.after,
					   .min_rev = r->context.min_rev,
					   .deadline_ms = r->context.deadline_ms,
					   .cost = r->context.cost};
	char method[RPC_MESSAGE_MAX + 1];

	if (r->context.addr.family == 4)
		context.addr = (struct rpc_text){"203.0.113.9", 11};
	else if (r->context.addr.family == 6)
		context.addr = (struct rpc_text){"2001:db8::9", 11};
	switch (r->method) {
	case RPC_METHOD_HELLO:
		rpc_put_hello(out, r->msgid, r->client, r->client_version);
		break;
	case RPC_METHOD_CHECK:
		rpc_put_check(out, r->msgid, r->key, r->pair, &context);
		break;
	case RPC_METHOD_CHECK_MANY:
		rpc_put_check_many(out, r->msgid, r->key, r->pairs, r->pair_count, &context);
		break;
	case RPC_METHOD_PAGES:
		rpc_put_pages(out, r->msgid, r->key, r->pair.scope, &context);
		break;
	case RPC_METHOD_WHOAMI:
		rpc_put_whoami(out, r->msgid, r->key, &context);
		break;
	case RPC_METHOD_EXPLAIN:
		rpc_put_explain(out, r->msgid, r->key, r->pair, &context);
		break;
	case RPC_METHOD_STATS:
		rpc_put_call(out, r->msgid, "stats", NULL);
		break;
	case RPC_METHOD_ADMIN:
		memcpy(method, r->admin_method.data, r->admin_method.len);
		method[r->admin_method.len] = '\0';
		if (strlen(method) == r->admin_method.len)
			rpc_put_call(out, r->msgid, method, r->admin_params);
		break;
	case RPC_METHOD_COUNT:
		abort();
	}
}

static void assert_same(const struct rpc_request *a, const struct rpc_request *b)
{
	must(a->method == b->method && a->msgid == b->msgid);
	must(same(a->key, b->key) && same(a->pair.scope, b->pair.scope) && same(a->pair.page, b->pair.page));
	must(a->pair_count == b->pair_count);
	for (uint32_t i = 0; i < a->pair_count; i++)
		must(same(a->pairs[i].scope, b->pairs[i].scope) && same(a->pairs[i].page, b->pairs[i].page));
	must(same(a->context.stack, b->context.stack) && same(a->context.org, b->context.org));
	must(same(a->context.after, b->context.after) && a->context.min_rev == b->context.min_rev);
	must(a->context.deadline_ms == b->context.deadline_ms && a->context.cost == b->context.cost);
	must(a->context.addr.family == b->context.addr.family);
	must(same(a->client, b->client) && same(a->client_version, b->client_version));
	must(same(a->admin_method, b->admin_method));
	must(!a->admin_params == !b->admin_params);
	if (a->admin_params)
		must(same_value(a->admin_params, b->admin_params));
}

static void assert_plain_line(const struct rpc_error *error)
{
	must(error->code != RPC_OK && memchr(error->message, '\0', sizeof(error->message)) != NULL);
	must(error->message[0] != '\0');
	for (const char *c = error->message; *c; c++)
		must(*c >= ' ' && *c <= '~');
}

static void as_request(struct rpc_decoder *decoder, enum rpc_service service, const uint8_t *data, size_t size)
{
	struct rpc_request request, again;
	struct rpc_error error = {0};
	struct rpc_buffer out = {0};
	enum rpc_error_code code = rpc_decode_request(decoder, service, data, size, &request, &error);
	size_t whole;

	if (code) {
		must(error.code == code && code != RPC_INTERNAL);
		assert_plain_line(&error);
		rpc_put_error(&out, request.msgid, &error);
	} else if (!request.notification) {
		encode(&out, &request);
	}
	if (out.len > 0 && out.len <= RPC_MESSAGE_MAX)
		must(scan_message(out.data, out.len, &limits, &whole) == SCAN_MESSAGE && whole == out.len);
	if (out.len > 0 && !code) {
		must(rpc_decode_request(decoder, service, out.data, out.len, &again, &error) == RPC_OK);
		assert_same(&request, &again);
	}
	rpc_buffer_deinit(&out);
}

static void as_reply(const uint8_t *data, size_t size)
{
	struct arena arena = {0};
	struct rpc_buffer out = {0};
	struct rpc_reply reply, again;
	struct rpc_answer answer;

	if (!rpc_decode_reply(&arena, data, size, &reply))
		goto out;
	if (reply.notice)
		rpc_put_notice(&out, &reply.error);
	else if (reply.error.code)
		rpc_put_error(&out, reply.msgid, &reply.error);
	else
		rpc_put_result(&out, reply.msgid, &reply.result);
	must(rpc_decode_reply(&arena, out.data, out.len, &again));
	must(again.notice == reply.notice && again.msgid == reply.msgid && again.error.code == reply.error.code);
	must(strcmp(again.error.message, reply.error.message) == 0);
	must(same_value(&again.result, &reply.result));
	if (rpc_read_answer(&arena, &reply.result, &answer)) {
		const char *verdict = value_as_text(value_get(&reply.result, "verdict"), "");

		must(strcmp(verdict, verdict_word(verdict_of(answer.reason))) == 0);
		answer.more = NULL;
		out.len = 0;
		rpc_put_answer(&out, reply.msgid, &answer);
		must(rpc_decode_reply(&arena, out.data, out.len, &again));
		must(rpc_read_answer(&arena, &again.result, &answer));
	} else {
		must(verdict_of(answer.reason) == VERDICT_DENY);
	}
out:
	rpc_buffer_deinit(&out);
	arena_clear(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct rpc_decoder *decoder; /* used again and again, as a reader does */
	size_t whole;

	if (!decoder)
		decoder = rpc_decoder_new();
	must(decoder != NULL);
	while (scan_message(data, size, &limits, &whole) == SCAN_MESSAGE) {
		as_request(decoder, RPC_SERVICE_CHECK, data, whole);
		as_request(decoder, RPC_SERVICE_ADMIN, data, whole);
		as_reply(data, whole);
		data += whole;
		size -= whole;
	}
	rpc_decoder_reset(decoder);
	return 0;
}
