/* The parameters of each method, read strictly: what is wrong is named, shown where that is safe,
 * and put right. */
#include "proto/rpc_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { ADMIN_FIELDS_MAX = 64 };

/* Never shows what a key holds. */
static enum rpc_error_code read_key(struct rpc_reading *r)
{
	const msgpack_object *object = &r->params[0];
	struct rpc_shown shown;

	if (object->type != MSGPACK_OBJECT_STR)
		return rpc_fail(r->error, RPC_BAD_PARAMS, "key is %s: a text is right", rpc_show(&shown, object));
	if (object->via.str.size > RPC_KEY_MAX)
		return rpc_fail(r->error, RPC_BAD_PARAMS, "key has %" PRIu32 " bytes: at most %d are right",
				object->via.str.size, RPC_KEY_MAX);
	r->request->key = rpc_text_of(object);
	return RPC_OK;
}

/* `where` is the name of what is read, or its beginning before an index. */
static enum rpc_error_code read_text(struct rpc_reading *r, const msgpack_object *object, const char *name,
				     uint32_t max, struct rpc_text *ret)
{
	struct rpc_shown shown;

	if (object->type != MSGPACK_OBJECT_STR)
		return rpc_fail(r->error, RPC_BAD_PARAMS, "%s is %s: a text is right", name, rpc_show(&shown, object));
	if (object->via.str.size > max) {
		const char *text = rpc_show(&shown, object);

		/* One that is not shown is told by its length already. */
		if (*text != '"')
			return rpc_fail(r->error, RPC_BAD_PARAMS, "%s is %s: at most %" PRIu32 " are right", name, text,
					max);
		return rpc_fail(r->error, RPC_BAD_PARAMS,
				"%s is %s, %" PRIu32 " bytes long: at most %" PRIu32 " are right", name, text,
				object->via.str.size, max);
	}
	*ret = rpc_text_of(object);
	return RPC_OK;
}

static enum rpc_error_code read_number(struct rpc_reading *r, const msgpack_object *object, const char *name,
				       uint64_t min, uint64_t max, uint64_t *ret)
{
	struct rpc_shown shown;

	if (object->type != MSGPACK_OBJECT_POSITIVE_INTEGER || object->via.u64 < min || object->via.u64 > max)
		return rpc_fail(r->error, RPC_BAD_PARAMS,
				"%s is %s: a whole number from %" PRIu64 " to %" PRIu64 " is right", name,
				rpc_show(&shown, object), min, max);
	*ret = object->via.u64;
	return RPC_OK;
}

static enum rpc_error_code read_page(struct rpc_reading *r, const msgpack_object *object, const char *name,
				     struct rpc_text *ret)
{
	struct rpc_shown shown;

	if (object->type == MSGPACK_OBJECT_NIL) {
		*ret = (struct rpc_text){0};
		return RPC_OK;
	}
	if (object->type != MSGPACK_OBJECT_STR)
		return rpc_fail(r->error, RPC_BAD_PARAMS,
				"%s is %s: a text is right, or nil for the organization's level", name,
				rpc_show(&shown, object));
	return read_text(r, object, name, RPC_PAGE_MAX, ret);
}

static enum rpc_error_code read_addr(struct rpc_reading *r, const msgpack_object *object)
{
	struct rpc_shown shown;

	if (object->type == MSGPACK_OBJECT_STR &&
	    rpc_addr_parse(object->via.str.ptr, object->via.str.size, &r->request->context.addr))
		return RPC_OK;
	return rpc_fail(r->error, RPC_BAD_PARAMS, "context addr is %s: an IPv4 or IPv6 address as text is right",
			rpc_show(&shown, object));
}

enum field { FIELD_STACK, FIELD_ADDR, FIELD_ORG, FIELD_MIN_REV, FIELD_DEADLINE, FIELD_COST, FIELD_AFTER, FIELD_COUNT };

static enum field find_field(const msgpack_object *name)
{
	static const struct {
		const char *text;
		uint32_t len;
	} names[FIELD_COUNT] = {
		[FIELD_STACK] = {"stack", 5},
		[FIELD_ADDR] = {"addr", 4},
		[FIELD_ORG] = {"org", 3},
		[FIELD_MIN_REV] = {"min_rev", 7},
		[FIELD_DEADLINE] = {"deadline_ms", 11},
		[FIELD_COST] = {"cost", 4},
		[FIELD_AFTER] = {"after", 5},
	};
	unsigned i = 0;

	while (i < FIELD_COUNT && !rpc_is_text(name, names[i].text, names[i].len))
		i++;
	return (enum field)i;
}

static enum rpc_error_code read_field(struct rpc_reading *r, enum field field, const msgpack_object *object)
{
	struct rpc_context *context = &r->request->context;
	enum rpc_error_code code;
	uint64_t number = 0;

	switch (field) {
	case FIELD_STACK:
		return read_text(r, object, "context stack", RPC_NAME_MAX, &context->stack);
	case FIELD_ADDR:
		return read_addr(r, object);
	case FIELD_ORG:
		return read_text(r, object, "context org", RPC_NAME_MAX, &context->org);
	case FIELD_MIN_REV:
		return read_number(r, object, "context min_rev", 0, UINT64_MAX, &context->min_rev);
	case FIELD_DEADLINE:
		code = read_number(r, object, "context deadline_ms", 1, RPC_DEADLINE_MAX_MS, &number);
		context->deadline_ms = (uint32_t)number;
		return code;
	case FIELD_COST:
		code = read_number(r, object, "context cost", 1, RPC_COST_MAX, &number);
		if (code == RPC_OK)
			context->cost = (uint32_t)number;
		return code;
	case FIELD_AFTER:
		return read_text(r, object, "context after", RPC_NAME_MAX, &context->after);
	case FIELD_COUNT:
		break;
	}
	return RPC_INTERNAL; /* never: the caller asked find_field */
}

/* The context is the parameter at `index`, or absent. */
static enum rpc_error_code read_context(struct rpc_reading *r, uint32_t index)
{
	const msgpack_object *object;
	const msgpack_object_map *map;
	struct rpc_shown shown;
	unsigned seen = 0;

	if (index >= r->count || r->params[index].type == MSGPACK_OBJECT_NIL)
		return RPC_OK;
	object = &r->params[index];
	map = &object->via.map;
	if (object->type != MSGPACK_OBJECT_MAP)
		return rpc_fail(r->error, RPC_BAD_PARAMS, "context is %s: a map or nil is right",
				rpc_show(&shown, object));
	for (uint32_t i = 0; i < map->size; i++) {
		enum field field = find_field(&map->ptr[i].key);
		enum rpc_error_code code;

		if (field == FIELD_COUNT)
			return rpc_fail(r->error, RPC_BAD_PARAMS,
					"context has the field %s: stack, addr, org, min_rev, deadline_ms, "
					"cost and after are known",
					rpc_show(&shown, &map->ptr[i].key));
		if (seen & 1u << field)
			return rpc_fail(r->error, RPC_BAD_PARAMS, "context has the field %s twice",
					rpc_show(&shown, &map->ptr[i].key));
		seen |= 1u << field;
		code = read_field(r, field, &map->ptr[i].val);
		if (code)
			return code;
	}
	return RPC_OK;
}

static enum rpc_error_code want_params(struct rpc_reading *r, uint32_t min, uint32_t max, const char *form)
{
	if (r->count >= min && r->count <= max)
		return RPC_OK;
	return rpc_fail(r->error, RPC_BAD_PARAMS, "%s has %" PRIu32 " parameters: [%s] is right",
			rpc_method_word(r->request->method), r->count, form);
}

enum rpc_error_code rpc_read_check(struct rpc_reading *r)
{
	struct rpc_pair *pair = &r->request->pair;
	enum rpc_error_code code = want_params(r, 3, 4, "key, scope, page or nil, context?");

	if (!code)
		code = read_key(r);
	if (!code)
		code = read_text(r, &r->params[1], "scope", RPC_SCOPE_MAX, &pair->scope);
	if (!code)
		code = read_page(r, &r->params[2], "page", &pair->page);
	return code ? code : read_context(r, 3);
}

static enum rpc_error_code read_pair(struct rpc_reading *r, uint32_t index, const msgpack_object *object,
				     struct rpc_pair *ret)
{
	char name[32];
	struct rpc_shown shown;
	enum rpc_error_code code;

	if (__builtin_expect(object->type == MSGPACK_OBJECT_ARRAY && object->via.array.size == 2 &&
				     object->via.array.ptr[0].type == MSGPACK_OBJECT_STR &&
				     object->via.array.ptr[0].via.str.size <= RPC_SCOPE_MAX &&
				     object->via.array.ptr[1].type == MSGPACK_OBJECT_STR &&
				     object->via.array.ptr[1].via.str.size <= RPC_PAGE_MAX,
			     1)) {
		ret->scope = rpc_text_of(&object->via.array.ptr[0]);
		ret->page = rpc_text_of(&object->via.array.ptr[1]);
		return RPC_OK;
	}
	if (object->type != MSGPACK_OBJECT_ARRAY || object->via.array.size != 2)
		return rpc_fail(r->error, RPC_BAD_PARAMS, "pair %" PRIu32 " is %s: [scope, page or nil] is right",
				index, rpc_show(&shown, object));
	snprintf(name, sizeof(name), "scope of pair %" PRIu32, index);
	code = read_text(r, &object->via.array.ptr[0], name, RPC_SCOPE_MAX, &ret->scope);
	if (code)
		return code;
	snprintf(name, sizeof(name), "page of pair %" PRIu32, index);
	return read_page(r, &object->via.array.ptr[1], name, &ret->page);
}

enum rpc_error_code rpc_read_check_many(struct rpc_reading *r)
{
	enum rpc_error_code code = want_params(r, 2, 3, "key, [[scope, page or nil], ...], context?");
	const msgpack_object *list = &r->params[1];
	struct rpc_pair *pairs;
	struct rpc_shown shown;

	if (!code)
		code = read_key(r);
	if (code)
		return code;
	if (list->type != MSGPACK_OBJECT_ARRAY || list->via.array.size < 1 || list->via.array.size > RPC_PAIRS_MAX)
		return rpc_fail(r->error, RPC_BAD_PARAMS,
				"pairs is %s: an array of 1 to %d [scope, page or nil] is right",
				rpc_show(&shown, list), RPC_PAIRS_MAX);
	pairs = rpc_take_pairs(r->decoder, list->via.array.size);
	if (!pairs)
		return rpc_fail(r->error, RPC_INTERNAL, "out of memory");
	for (uint32_t i = 0; i < list->via.array.size; i++) {
		code = read_pair(r, i, &list->via.array.ptr[i], &pairs[i]);
		if (code)
			return code;
	}
	r->request->pairs = pairs;
	r->request->pair_count = list->via.array.size;
	return read_context(r, 2);
}

enum rpc_error_code rpc_read_pages(struct rpc_reading *r)
{
	enum rpc_error_code code = want_params(r, 2, 3, "key, scope, context?");

	if (!code)
		code = read_key(r);
	if (!code)
		code = read_text(r, &r->params[1], "scope", RPC_SCOPE_MAX, &r->request->pair.scope);
	return code ? code : read_context(r, 2);
}

enum rpc_error_code rpc_read_whoami(struct rpc_reading *r)
{
	enum rpc_error_code code = want_params(r, 1, 2, "key, context?");

	if (!code)
		code = read_key(r);
	return code ? code : read_context(r, 1);
}

/* Fields that are not known are a newer client's: nothing hangs on them. */
enum rpc_error_code rpc_read_hello(struct rpc_reading *r)
{
	enum rpc_error_code code = want_params(r, 0, 1, "{client, version}");
	const msgpack_object_map *map;
	struct rpc_shown shown;

	if (code || r->count == 0 || r->params[0].type == MSGPACK_OBJECT_NIL)
		return code;
	if (r->params[0].type != MSGPACK_OBJECT_MAP)
		return rpc_fail(r->error, RPC_BAD_PARAMS, "the parameter of hello is %s: a map is right",
				rpc_show(&shown, &r->params[0]));
	map = &r->params[0].via.map;
	for (uint32_t i = 0; i < map->size && !code; i++) {
		const msgpack_object_kv *field = &map->ptr[i];

		if (rpc_is_text(&field->key, "client", 6))
			code = read_text(r, &field->val, "client", RPC_NAME_MAX, &r->request->client);
		else if (rpc_is_text(&field->key, "version", 7))
			code = read_text(r, &field->val, "version", RPC_NAME_MAX, &r->request->client_version);
	}
	return code;
}

enum rpc_error_code rpc_read_stats(struct rpc_reading *r)
{
	return want_params(r, 0, 0, "");
}

enum rpc_error_code rpc_read_admin(struct rpc_reading *r)
{
	struct value *params;
	struct rpc_shown shown;

	if (r->count > 1 || (r->count == 1 && r->params[0].type != MSGPACK_OBJECT_MAP))
		return rpc_fail(r->error, RPC_BAD_PARAMS,
				"the parameters are %" PRIu32 ", the first %s: one map is right", r->count,
				rpc_show(&shown, &r->params[0]));
	params = arena_alloc(rpc_decoder_arena(r->decoder), sizeof(*params));
	if (!params)
		return rpc_fail(r->error, RPC_INTERNAL, "out of memory");
	value_map(params);
	r->request->admin_params = params;
	if (r->count == 0)
		return RPC_OK;
	switch (rpc_value_from(rpc_decoder_arena(r->decoder), &r->params[0], ADMIN_FIELDS_MAX, params)) {
	case 0:
		return RPC_OK;
	case -E2BIG:
		return rpc_fail(r->error, RPC_BAD_PARAMS, "a map in the parameters has more than %d fields",
				ADMIN_FIELDS_MAX);
	case -EEXIST:
		return rpc_fail(r->error, RPC_BAD_PARAMS, "a map in the parameters has a field twice");
	case -EINVAL:
		return rpc_fail(r->error, RPC_BAD_PARAMS,
				"the parameters hold an extension type, or a field whose name is no plain "
				"text");
	default:
		return rpc_fail(r->error, RPC_INTERNAL, "out of memory");
	}
}
