#include "client/libapikey/ask.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/libapikey/error.h"
#include "client/libapikey/settings.h"

enum {
	/* How much earlier than we the daemon gives up, so that its reason still reaches us: a sixteenth, within bounds. */
	SLACK_PART = 16,
	SLACK_MAX_MS = 50,
};

/* A text of at most `max` bytes; NULL is fine where it is `optional`. */
static int take_text(const char *name, const char *text, size_t max, bool optional, struct rpc_text *ret)
{
	size_t len;

	if (!text && optional)
		return 0;
	if (!text)
		return error_set(-EINVAL, "%s is NULL", name);
	len = strnlen(text, max + 1);
	if (len > max)
		return error_set(-EINVAL, "%s is longer than %zu bytes", name, max);
	*ret = (struct rpc_text){text, (uint32_t)len};
	return 0;
}

static int take_context(struct ask *ask, const struct apikey_context *given, int timeout_ms)
{
	struct apikey_context context;
	struct rpc_addr addr;
	int r = settings_context(given, timeout_ms, &context);

	if (r)
		return r;
	ask->timeout_ms = context.timeout_ms;
	ask->context.min_rev = context.min_rev;
	ask->context.cost = context.cost;
	if (context.cost > RPC_COST_MAX)
		return error_set(-EINVAL, "context: cost is %u, at most %d is possible", context.cost, RPC_COST_MAX);
	r = take_text("context: stack", context.stack, RPC_NAME_MAX, true, &ask->context.stack);
	if (!r)
		r = take_text("context: org", context.org, RPC_NAME_MAX, true, &ask->context.org);
	if (!r)
		r = take_text("context: after", context.after, RPC_NAME_MAX, true, &ask->context.after);
	if (!r)
		r = take_text("context: addr", context.addr, RPC_NAME_MAX, true, &ask->context.addr);
	if (!r && context.addr && !rpc_addr_parse(context.addr, ask->context.addr.len, &addr))
		r = error_set(-EINVAL, "context: addr is no IP address: %.60s", context.addr);
	return r;
}

static int take_pairs(struct ask *ask, const struct apikey_pair *pairs, size_t count)
{
	ask->pairs = &ask->one;
	if (count > 1) {
		ask->pairs = calloc(count, sizeof(*ask->pairs));
		if (!ask->pairs) {
			ask->pairs = &ask->one;
			return error_set(-ENOMEM, "out of memory");
		}
	}
	ask->count = (uint32_t)count;
	for (size_t i = 0; i < count; i++) {
		struct rpc_pair *pair = &ask->pairs[i];
		int r = take_text("scope", pairs[i].scope, RPC_SCOPE_MAX, false, &pair->scope);

		if (!r)
			r = take_text("page", pairs[i].page, RPC_PAGE_MAX, true, &pair->page);
		if (r)
			return r;
	}
	return 0;
}

int ask_init(struct ask *ask, enum ask_kind kind, const char *key, const struct apikey_pair *pairs, size_t count,
	     const struct apikey_context *context, int timeout_ms)
{
	int r;

	*ask = (struct ask){.kind = kind};
	if (!key)
		return error_set(-EINVAL, "key is NULL");
	if (kind == ASK_CHECK_MANY && (!pairs || count < 1 || count > RPC_PAIRS_MAX))
		return error_set(-EINVAL, "check_many takes 1 to %d pairs, not %zu", RPC_PAIRS_MAX, pairs ? count : 0);
	/*
	 * Remote clients send what they like. No key is as long as RPC_KEY_MAX, so the first bytes of anything longer are
	 * as malformed as the whole, and the daemon says so like for every other text that is no key.
	 */
	ask->key = (struct rpc_text){key, (uint32_t)strnlen(key, RPC_KEY_MAX)};
	r = take_pairs(ask, pairs, count);
	if (!r)
		r = take_context(ask, context, timeout_ms);
	return r;
}

void ask_deinit(struct ask *ask)
{
	if (ask->pairs != &ask->one)
		free(ask->pairs);
	*ask = (struct ask){0};
}

int ask_encode(const struct ask *ask, uint32_t msgid, int64_t left_ms, struct rpc_buffer *out)
{
	struct rpc_context_text context = ask->context;
	int64_t slack = left_ms / SLACK_PART;

	slack = slack < 1 ? 1 : slack > SLACK_MAX_MS ? SLACK_MAX_MS : slack;
	context.deadline_ms = left_ms - slack < 1 ? 1 : (uint32_t)(left_ms - slack);
	switch (ask->kind) {
	case ASK_CHECK:
		rpc_put_check(out, msgid, ask->key, ask->pairs[0], &context);
		break;
	case ASK_CHECK_MANY:
		rpc_put_check_many(out, msgid, ask->key, ask->pairs, ask->count, &context);
		break;
	case ASK_PAGES:
		rpc_put_pages(out, msgid, ask->key, ask->pairs[0].scope, &context);
		break;
	case ASK_WHOAMI:
		rpc_put_whoami(out, msgid, ask->key, &context);
		break;
	}
	if (out->failed)
		return error_set(-ENOMEM, "out of memory");
	if (out->len > RPC_MESSAGE_MAX)
		return error_set(-EMSGSIZE, "the question takes %zu bytes, at most %d fit into a message", out->len,
				 RPC_MESSAGE_MAX);
	return 0;
}
