/* Answers, as clients read them. */
#include "proto/rpc_internal.h"

#include <string.h>

enum { ZONE_SIZE = 8192 };

/* [code, message]; anything else that is no nil is an error that we do not know. */
static void read_error(const msgpack_object *object, struct rpc_error *ret)
{
	const msgpack_object *part = object->via.array.ptr;
	struct rpc_text message = {0};

	ret->code = RPC_INTERNAL;
	if (object->type == MSGPACK_OBJECT_ARRAY && object->via.array.size == 2 && part[0].type == MSGPACK_OBJECT_STR &&
	    part[1].type == MSGPACK_OBJECT_STR) {
		for (unsigned code = RPC_OK + 1; code < RPC_ERROR_COUNT; code++) {
			const char *word = rpc_error_word((enum rpc_error_code)code);

			if (rpc_is_text(&part[0], word, strlen(word)))
				ret->code = (enum rpc_error_code)code;
		}
		message = rpc_text_of(&part[1]);
	} else if (object->type == MSGPACK_OBJECT_STR) {
		message = rpc_text_of(object);
	}
	if (message.len > sizeof(ret->message) - 1)
		message.len = sizeof(ret->message) - 1;
	if (message.data)
		memcpy(ret->message, message.data, message.len);
	ret->message[message.len] = '\0';
}

static bool read_reply(struct arena *arena, const msgpack_object *root, struct rpc_reply *ret)
{
	const msgpack_object *part = root->via.array.ptr;
	struct rpc_reply reply = {0};

	if (root->type != MSGPACK_OBJECT_ARRAY || root->via.array.size < 3 ||
	    part[0].type != MSGPACK_OBJECT_POSITIVE_INTEGER)
		return false;
	if (part[0].via.u64 == 2) {
		if (root->via.array.size != 3 || !rpc_is_text(&part[1], "error", 5))
			return false;
		reply.notice = true;
		read_error(&part[2], &reply.error);
		*ret = reply;
		return true;
	}
	if (part[0].via.u64 != 1 || root->via.array.size != 4 || part[1].type != MSGPACK_OBJECT_POSITIVE_INTEGER ||
	    part[1].via.u64 > UINT32_MAX)
		return false;
	reply.msgid = (uint32_t)part[1].via.u64;
	if (part[2].type != MSGPACK_OBJECT_NIL)
		read_error(&part[2], &reply.error);
	else if (rpc_value_from(arena, &part[3], 0, &reply.result))
		return false;
	*ret = reply;
	return true;
}

bool rpc_decode_reply(struct arena *arena, const uint8_t *message, size_t size, struct rpc_reply *ret)
{
	msgpack_zone zone;
	msgpack_object root;
	size_t offset = 0;
	bool good;

	if (!msgpack_zone_init(&zone, ZONE_SIZE))
		return false;
	good = msgpack_unpack((const char *)message, size, &offset, &zone, &root) == MSGPACK_UNPACK_SUCCESS &&
	       read_reply(arena, &root, ret);
	msgpack_zone_destroy(&zone);
	return good;
}

/* ---- verdict maps ---- */

static bool read_text(const struct value *v, struct rpc_text *ret)
{
	if (v->type != VALUE_TEXT)
		return false;
	*ret = (struct rpc_text){v->text, v->count};
	return true;
}

static bool read_number(const struct value *v, uint64_t *ret)
{
	if (v->type == VALUE_UINT)
		*ret = v->unsigned_integer;
	else if (v->type == VALUE_INT && v->integer >= 0)
		*ret = (uint64_t)v->integer;
	else
		return false;
	return true;
}

static bool read_id(const struct value *v, char ret[KEYTEXT_ID_LEN + 1])
{
	keytext_id id;

	if (v->type != VALUE_TEXT || !keytext_id_parse(v->text, v->count, &id))
		return false;
	memcpy(ret, v->text, KEYTEXT_ID_LEN);
	ret[KEYTEXT_ID_LEN] = '\0';
	return true;
}

static bool read_kind(const struct value *v, enum key_kind *ret)
{
	return v->type == VALUE_TEXT && key_kind_from_word(v->text, v->count, ret);
}

static bool read_pages(struct arena *arena, const struct value *v, struct rpc_answer *ret)
{
	struct rpc_text *pages;

	if (v->type != VALUE_LIST)
		return false;
	pages = arena_alloc(arena, (v->count ? v->count : 1) * sizeof(*pages));
	if (!pages)
		return false;
	for (uint32_t i = 0; i < v->count; i++) {
		if (!read_text(&v->items[i], &pages[i]))
			return false;
	}
	ret->has_pages = true;
	ret->pages = pages;
	ret->page_count = v->count;
	return true;
}

/*
 * The reason for a word. One that a newer daemon has learnt is read by its verdict, as far as a
 * decision or a fault goes; an ALLOW has but one reason.
 */
static bool read_reason(const struct value *map, enum reason *ret)
{
	const struct value *verdict = value_get(map, "verdict");
	const struct value *reason = value_get(map, "reason");
	enum verdict said;

	if (!verdict || verdict->type != VALUE_TEXT || !reason || reason->type != VALUE_TEXT ||
	    !verdict_from_word(verdict->text, verdict->count, &said))
		return false;
	if (reason_from_word(reason->text, reason->count, ret))
		return verdict_of(*ret) == said;
	if (said == VERDICT_ALLOW)
		return false;
	*ret = said == VERDICT_DENY ? REASON_POLICY : REASON_MODULE_FAULT;
	return true;
}

enum field {
	FIELD_VERDICT,
	FIELD_REASON,
	FIELD_REV,
	FIELD_AGE,
	FIELD_STALE,
	FIELD_KEY_ID,
	FIELD_KIND,
	FIELD_ORG,
	FIELD_USER,
	FIELD_PAGE,
	FIELD_MISSING_SCOPE,
	FIELD_NEEDS_ROLE,
	FIELD_RETRY,
	FIELD_EXPIRES,
	FIELD_SUCCESSOR,
	FIELD_PAGES,
	FIELD_NEXT,
	FIELD_COUNT
};

static enum field find_field(const char *name)
{
	static const char *const names[FIELD_COUNT] = {
		[FIELD_VERDICT] = "verdict",
		[FIELD_REASON] = "reason",
		[FIELD_REV] = "rev",
		[FIELD_AGE] = "age_ms",
		[FIELD_STALE] = "stale",
		[FIELD_KEY_ID] = "key_id",
		[FIELD_KIND] = "kind",
		[FIELD_ORG] = "org",
		[FIELD_USER] = "user",
		[FIELD_PAGE] = "page",
		[FIELD_MISSING_SCOPE] = "missing_scope",
		[FIELD_NEEDS_ROLE] = "needs_role",
		[FIELD_RETRY] = "retry_after_ms",
		[FIELD_EXPIRES] = "expires_at",
		[FIELD_SUCCESSOR] = "successor",
		[FIELD_PAGES] = "pages",
		[FIELD_NEXT] = "next",
	};
	unsigned i = 0;

	while (i < FIELD_COUNT && strcmp(name, names[i]) != 0)
		i++;
	return (enum field)i;
}

static bool read_field(struct arena *arena, enum field field, const struct value *v, struct rpc_answer *ret)
{
	switch (field) {
	case FIELD_VERDICT:
	case FIELD_REASON:
		return true; /* by read_reason */
	case FIELD_REV:
		return read_number(v, &ret->rev);
	case FIELD_AGE:
		return read_number(v, &ret->age_ms);
	case FIELD_STALE:
		ret->stale = value_as_bool(v, false);
		return v->type == VALUE_BOOL;
	case FIELD_KEY_ID:
		ret->proven = true;
		return read_id(v, ret->key_id);
	case FIELD_KIND:
		return read_kind(v, &ret->kind);
	case FIELD_ORG:
		return read_text(v, &ret->org);
	case FIELD_USER:
		return read_text(v, &ret->user);
	case FIELD_PAGE:
		return read_text(v, &ret->page);
	case FIELD_MISSING_SCOPE:
		return read_text(v, &ret->missing_scope);
	case FIELD_NEEDS_ROLE:
		return read_text(v, &ret->needs_role);
	case FIELD_RETRY:
		ret->has_retry = true;
		return read_number(v, &ret->retry_after_ms);
	case FIELD_EXPIRES:
		ret->has_expiry = true;
		ret->expires_at = value_as_int(v, 0);
		return v->type == VALUE_INT;
	case FIELD_SUCCESSOR:
		return read_id(v, ret->successor);
	case FIELD_PAGES:
		/* whoami has a field of this name too, with a map a page: that one is read from
		 * `more` */
		if (v->type == VALUE_LIST && v->count > 0 && v->items[0].type == VALUE_MAP)
			return true;
		return read_pages(arena, v, ret);
	case FIELD_NEXT:
		return read_text(v, &ret->next);
	case FIELD_COUNT:
		break;
	}
	return true; /* a newer daemon's */
}

bool rpc_read_answer(struct arena *arena, const struct value *map, struct rpc_answer *ret)
{
	unsigned seen = 0;

	memset(ret, 0, sizeof(*ret));
	if (!map || map->type != VALUE_MAP || !read_reason(map, &ret->reason))
		goto failed;
	for (uint32_t i = 0; i < map->count; i++) {
		enum field field = find_field(map->fields[i].name);

		if (field != FIELD_COUNT && (seen & 1u << field))
			goto failed;
		seen |= 1u << field;
		if (!read_field(arena, field, &map->fields[i].value, ret))
			goto failed;
	}
	if (!(seen & 1u << FIELD_REV) || !(seen & 1u << FIELD_AGE))
		goto failed;
	ret->more = map;
	return true;
failed:
	memset(ret, 0, sizeof(*ret));
	return false;
}
