/* Requests, as clients write them. */
#include "proto/rpc_internal.h"

#include <string.h>

static void pack_start(msgpack_packer *packer, struct rpc_buffer *out, uint32_t msgid, const char *method,
		       size_t params)
{
	msgpack_packer_init(packer, out, rpc_buffer_write);
	msgpack_pack_array(packer, 4);
	msgpack_pack_uint8(packer, 0);
	msgpack_pack_uint32(packer, msgid);
	rpc_pack_text(packer, method, strlen(method));
	msgpack_pack_array(packer, params);
}

static void pack_optional(msgpack_packer *packer, struct rpc_text text)
{
	if (text.data)
		rpc_pack_text(packer, text.data, text.len);
	else
		msgpack_pack_nil(packer);
}

static void pack_text_field(msgpack_packer *packer, const char *name, struct rpc_text text)
{
	if (!text.data)
		return;
	rpc_pack_text(packer, name, strlen(name));
	rpc_pack_text(packer, text.data, text.len);
}

static void pack_number_field(msgpack_packer *packer, const char *name, uint64_t number)
{
	if (number == 0)
		return;
	rpc_pack_text(packer, name, strlen(name));
	msgpack_pack_uint64(packer, number);
}

/* Written only where there is one: see the count of parameters. */
static void pack_context(msgpack_packer *packer, const struct rpc_context_text *context)
{
	uint32_t cost;
	size_t fields;

	if (!context)
		return;
	cost = context->cost > 1 ? context->cost : 0;
	fields = (context->stack.data != NULL) + (context->addr.data != NULL) + (context->org.data != NULL) +
		 (context->min_rev != 0) + (context->deadline_ms != 0) + (cost != 0) +
		 (size_t)(context->after.data != NULL);
	msgpack_pack_map(packer, fields);
	pack_text_field(packer, "stack", context->stack);
	pack_text_field(packer, "addr", context->addr);
	pack_text_field(packer, "org", context->org);
	pack_number_field(packer, "min_rev", context->min_rev);
	pack_number_field(packer, "deadline_ms", context->deadline_ms);
	pack_number_field(packer, "cost", cost);
	pack_text_field(packer, "after", context->after);
}

void rpc_put_hello(struct rpc_buffer *out, uint32_t msgid, struct rpc_text client, struct rpc_text version)
{
	msgpack_packer packer;

	pack_start(&packer, out, msgid, "hello", 1);
	msgpack_pack_map(&packer, (size_t)(client.data != NULL) + (version.data != NULL));
	pack_text_field(&packer, "client", client);
	pack_text_field(&packer, "version", version);
}

static void pack_question(struct rpc_buffer *out, uint32_t msgid, const char *method, struct rpc_text key,
			  struct rpc_pair pair, const struct rpc_context_text *context)
{
	msgpack_packer packer;

	pack_start(&packer, out, msgid, method, context ? 4 : 3);
	rpc_pack_text(&packer, key.data, key.len);
	rpc_pack_text(&packer, pair.scope.data, pair.scope.len);
	pack_optional(&packer, pair.page);
	pack_context(&packer, context);
}

void rpc_put_check(struct rpc_buffer *out, uint32_t msgid, struct rpc_text key, struct rpc_pair pair,
		   const struct rpc_context_text *context)
{
	pack_question(out, msgid, "check", key, pair, context);
}

void rpc_put_explain(struct rpc_buffer *out, uint32_t msgid, struct rpc_text key, struct rpc_pair pair,
		     const struct rpc_context_text *context)
{
	pack_question(out, msgid, "explain", key, pair, context);
}

void rpc_put_check_many(struct rpc_buffer *out, uint32_t msgid, struct rpc_text key, const struct rpc_pair *pairs,
			uint32_t count, const struct rpc_context_text *context)
{
	msgpack_packer packer;

	pack_start(&packer, out, msgid, "check_many", context ? 3 : 2);
	rpc_pack_text(&packer, key.data, key.len);
	msgpack_pack_array(&packer, count);
	for (uint32_t i = 0; i < count; i++) {
		msgpack_pack_array(&packer, 2);
		rpc_pack_text(&packer, pairs[i].scope.data, pairs[i].scope.len);
		pack_optional(&packer, pairs[i].page);
	}
	pack_context(&packer, context);
}

void rpc_put_pages(struct rpc_buffer *out, uint32_t msgid, struct rpc_text key, struct rpc_text scope,
		   const struct rpc_context_text *context)
{
	msgpack_packer packer;

	pack_start(&packer, out, msgid, "pages", context ? 3 : 2);
	rpc_pack_text(&packer, key.data, key.len);
	rpc_pack_text(&packer, scope.data, scope.len);
	pack_context(&packer, context);
}

void rpc_put_whoami(struct rpc_buffer *out, uint32_t msgid, struct rpc_text key, const struct rpc_context_text *context)
{
	msgpack_packer packer;

	pack_start(&packer, out, msgid, "whoami", context ? 2 : 1);
	rpc_pack_text(&packer, key.data, key.len);
	pack_context(&packer, context);
}

void rpc_put_call(struct rpc_buffer *out, uint32_t msgid, const char *method, const struct value *params)
{
	msgpack_packer packer;

	pack_start(&packer, out, msgid, method, params ? 1 : 0);
	if (params)
		rpc_pack_value(&packer, params);
}
