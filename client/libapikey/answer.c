#include "client/libapikey/answer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/libapikey/error.h"

/* ---- words ---- */

static const enum apikey_reason reasons[REASON_COUNT] = {
	[REASON_POLICY] = APIKEY_REASON_POLICY,
	[REASON_OK] = APIKEY_REASON_OK,
	[REASON_MALFORMED_KEY] = APIKEY_REASON_MALFORMED_KEY,
	[REASON_UNKNOWN_KEY] = APIKEY_REASON_UNKNOWN_KEY,
	[REASON_REVOKED] = APIKEY_REASON_REVOKED,
	[REASON_RETIRED] = APIKEY_REASON_RETIRED,
	[REASON_DISABLED] = APIKEY_REASON_DISABLED,
	[REASON_NOT_YET_VALID] = APIKEY_REASON_NOT_YET_VALID,
	[REASON_EXPIRED] = APIKEY_REASON_EXPIRED,
	[REASON_USER_SUSPENDED] = APIKEY_REASON_USER_SUSPENDED,
	[REASON_NETWORK] = APIKEY_REASON_NETWORK,
	[REASON_UNKNOWN_SCOPE] = APIKEY_REASON_UNKNOWN_SCOPE,
	[REASON_UNKNOWN_PAGE] = APIKEY_REASON_UNKNOWN_PAGE,
	[REASON_NOT_MEMBER] = APIKEY_REASON_NOT_MEMBER,
	[REASON_ORG_SUSPENDED] = APIKEY_REASON_ORG_SUSPENDED,
	[REASON_PAGE_ARCHIVED] = APIKEY_REASON_PAGE_ARCHIVED,
	[REASON_PAGE_NOT_GRANTED] = APIKEY_REASON_PAGE_NOT_GRANTED,
	[REASON_SCOPE_NOT_GRANTED] = APIKEY_REASON_SCOPE_NOT_GRANTED,
	[REASON_RATE_LIMITED] = APIKEY_REASON_RATE_LIMITED,
	[REASON_CALLER] = APIKEY_REASON_CALLER,
	[REASON_NO_STACK] = APIKEY_REASON_NO_STACK,
	[REASON_NOT_LOADED] = APIKEY_REASON_NOT_LOADED,
	[REASON_STALE] = APIKEY_REASON_STALE,
	[REASON_BEHIND] = APIKEY_REASON_BEHIND,
	[REASON_TIMEOUT] = APIKEY_REASON_TIMEOUT,
	[REASON_OVERLOAD] = APIKEY_REASON_OVERLOAD,
	[REASON_MODULE_FAULT] = APIKEY_REASON_MODULE_FAULT,
	[REASON_AUDIT_FULL] = APIKEY_REASON_AUDIT_FULL,
	[REASON_NO_PEPPER] = APIKEY_REASON_NO_PEPPER,
};

/* A reason that proto/ learns must be given a number in apikey.h as well. */
_Static_assert((int)REASON_COUNT + 2 == (int)APIKEY_REASON_NO_PEPPER + 1, "apikey.h lacks a reason");
_Static_assert((int)APIKEY_DENY == (int)VERDICT_DENY && (int)APIKEY_ALLOW == (int)VERDICT_ALLOW &&
		       (int)APIKEY_UNAVAILABLE == (int)VERDICT_UNAVAILABLE,
	       "the verdicts of apikey.h and proto/ are numbered alike");

const char *apikey_verdict_word(enum apikey_verdict verdict)
{
	return verdict_word((enum verdict)verdict);
}

const char *apikey_reason_word(enum apikey_reason reason)
{
	if (reason == APIKEY_REASON_NO_ANSWER)
		return "no_answer";
	for (unsigned i = 0; i < REASON_COUNT; i++)
		if (reasons[i] == reason)
			return reason_word((enum reason)i);
	return "other";
}

/* ---- one verdict map ---- */

static int not_an_answer(const char *what)
{
	return error_set(-EPROTO, "the daemon's answer cannot be understood: %s", what);
}

/* Text into a field of `room` bytes, whole or not at all. */
static bool fill(char *to, size_t room, struct rpc_text text)
{
	if (!text.data)
		return true;
	if (text.len >= room || memchr(text.data, '\0', text.len))
		return false;
	memcpy(to, text.data, text.len);
	to[text.len] = '\0';
	return true;
}

static bool fill_word(char *to, size_t room, const char *word)
{
	return fill(to, room, (struct rpc_text){word, (uint32_t)strlen(word)});
}

/* *ret is zeroed, and stays so where this fails. */
static int read_result(struct arena *arena, const struct value *map, struct rpc_answer *ret_answer,
		       struct apikey_result *ret)
{
	const struct value *word = value_get(map, "reason");
	struct rpc_answer answer;
	struct apikey_result result;
	enum reason known;
	bool fits;

	if (!rpc_read_answer(arena, map, &answer))
		return not_an_answer("it is no verdict map");
	memset(&result, 0, sizeof(result));
	result.rev = answer.rev;
	result.age_ms = answer.age_ms;
	result.stale = answer.stale;
	result.retry_after_ms = answer.has_retry ? answer.retry_after_ms : 0;
	result.expires_at = answer.has_expiry ? answer.expires_at : 0;
	fits = fill(result.reason_word, sizeof(result.reason_word), (struct rpc_text){word->text, word->count}) &&
	       fill_word(result.key_id, sizeof(result.key_id), answer.key_id) &&
	       fill_word(result.successor, sizeof(result.successor), answer.successor) &&
	       fill(result.org, sizeof(result.org), answer.org) &&
	       fill(result.page, sizeof(result.page), answer.page) &&
	       fill(result.user, sizeof(result.user), answer.user) &&
	       fill(result.missing_scope, sizeof(result.missing_scope), answer.missing_scope) &&
	       fill(result.needs_role, sizeof(result.needs_role), answer.needs_role);
	if (fits && answer.proven)
		fits = fill_word(result.kind, sizeof(result.kind), key_kind_word(answer.kind));
	if (!fits)
		return not_an_answer("one of its texts is too long");
	/* proto reads a word that it does not know by its verdict; here it is told apart. */
	result.reason =
		reason_from_word(word->text, word->count, &known) ? reasons[answer.reason] : APIKEY_REASON_OTHER;
	result.verdict = (enum apikey_verdict)verdict_of(answer.reason);
	*ret_answer = answer;
	*ret = result;
	return 0;
}

/* ---- lists ---- */

/* The arena's blocks under a head that free_memory finds again. NULL: out of memory. */
static void *keep_memory(struct arena *arena)
{
	struct arena *kept = malloc(sizeof(*kept));

	if (kept) {
		*kept = *arena;
		*arena = (struct arena){0};
	}
	return kept;
}

static void free_memory(void *memory)
{
	if (memory)
		arena_clear(memory);
	free(memory);
}

void apikey_page_list_free(struct apikey_page_list *list)
{
	if (!list)
		return;
	free_memory(list->memory);
	memset(list, 0, sizeof(*list));
}

void apikey_identity_free(struct apikey_identity *identity)
{
	if (!identity)
		return;
	free_memory(identity->memory);
	memset(identity, 0, sizeof(*identity));
}

static bool is_text(const struct value *v)
{
	return v && v->type == VALUE_TEXT && !memchr(v->text, '\0', v->count);
}

/* A list of texts; absent or nil: none of it. */
static int read_names(struct arena *arena, const struct value *list, size_t *ret_count, const char *const **ret)
{
	const char **names;

	if (!list || list->type == VALUE_NIL)
		return 0;
	if (list->type != VALUE_LIST)
		return not_an_answer("a list is none");
	if (list->count == 0)
		return 0;
	names = arena_alloc(arena, list->count * sizeof(*names));
	if (!names)
		return error_set(-ENOMEM, "out of memory");
	for (uint32_t i = 0; i < list->count; i++) {
		if (!is_text(&list->items[i]))
			return not_an_answer("a list of names holds something else");
		names[i] = list->items[i].text;
	}
	*ret_count = list->count;
	*ret = names;
	return 0;
}

/* A list of maps with a place under the name `where`, and a role. */
static int read_roles(struct arena *arena, const struct value *list, const char *where, size_t *ret_count,
		      const struct apikey_role **ret)
{
	struct apikey_role *roles;

	if (!list || list->type == VALUE_NIL)
		return 0;
	if (list->type != VALUE_LIST)
		return not_an_answer("a list of roles is none");
	if (list->count == 0)
		return 0;
	roles = arena_alloc(arena, list->count * sizeof(*roles));
	if (!roles)
		return error_set(-ENOMEM, "out of memory");
	for (uint32_t i = 0; i < list->count; i++) {
		const struct value *place = value_get(&list->items[i], where);
		const struct value *role = value_get(&list->items[i], "role");

		if (!is_text(place) || !is_text(role))
			return not_an_answer("a list of roles holds something else");
		roles[i] = (struct apikey_role){place->text, role->text};
	}
	*ret_count = list->count;
	*ret = roles;
	return 0;
}

static int read_narrowing(struct arena *arena, const struct value *map, const char *name, struct apikey_narrowing *ret)
{
	const struct value *list = value_get(map, name);

	ret->narrowed = list && list->type != VALUE_NIL;
	return read_names(arena, list, &ret->count, &ret->names);
}

static int read_pages(struct arena *arena, const struct rpc_reply *reply, struct apikey_page_list *ret)
{
	struct apikey_page_list list;
	struct rpc_answer answer;
	const struct value *next = value_get(&reply->result, "next");
	int r;

	memset(&list, 0, sizeof(list));
	r = read_result(arena, &reply->result, &answer, &list.result);
	if (!r && list.result.verdict == APIKEY_ALLOW)
		r = read_names(arena, value_get(&reply->result, "pages"), &list.count, &list.pages);
	if (!r && next && next->type != VALUE_NIL && !is_text(next))
		r = not_an_answer("next is no text");
	if (r)
		return r;
	list.next = value_as_text(next, NULL);
	list.memory = keep_memory(arena);
	if (!list.memory)
		return error_set(-ENOMEM, "out of memory");
	*ret = list;
	return 0;
}

static int read_identity(struct arena *arena, const struct rpc_reply *reply, struct apikey_identity *ret)
{
	struct apikey_identity identity;
	struct rpc_answer answer;
	const struct value *map = &reply->result;
	const struct value *access = value_get(map, "access");
	const struct value *narrowing = value_get(map, "narrowing");
	const struct value *rate = value_get(narrowing, "rate");
	int r;

	memset(&identity, 0, sizeof(identity));
	r = read_result(arena, map, &answer, &identity.result);
	if (!r)
		r = read_roles(arena, value_get(map, "organizations"), "org", &identity.organization_count,
			       &identity.organizations);
	if (!r)
		r = read_roles(arena, value_get(map, "pages"), "page", &identity.page_count, &identity.page_roles);
	if (!r)
		r = read_narrowing(arena, narrowing, "pages", &identity.pages);
	if (!r)
		r = read_narrowing(arena, narrowing, "scopes", &identity.scopes);
	if (!r)
		r = read_narrowing(arena, narrowing, "networks", &identity.networks);
	if (!r && access && access->type != VALUE_NIL && !is_text(access))
		r = not_an_answer("access is no text");
	if (r)
		return r;
	identity.access = value_as_text(access, NULL);
	identity.truncated = value_as_bool(value_get(map, "truncated"), false);
	identity.narrowed_rate = rate && rate->type != VALUE_NIL;
	if (rate && rate->type == VALUE_MAP) {
		identity.rate_count = value_as_uint(value_get(rate, "count"), 0);
		identity.rate_period_s = value_as_uint(value_get(rate, "period_s"), 0);
	}
	identity.memory = keep_memory(arena);
	if (!identity.memory)
		return error_set(-ENOMEM, "out of memory");
	*ret = identity;
	return 0;
}

/* ---- whole answers ---- */

static void fail_result(struct apikey_result *result, int err)
{
	memset(result, 0, sizeof(*result));
	/* A call that is wrong in itself is no fault of the daemon: it stays DENY. */
	if (err != -EINVAL)
		result->verdict = APIKEY_UNAVAILABLE;
}

int answer_fail(const struct answer *answer, int err)
{
	switch (answer->kind) {
	case ASK_CHECK:
	case ASK_CHECK_MANY:
		for (size_t i = 0; i < answer->count; i++)
			fail_result(&answer->results[i], err);
		break;
	case ASK_PAGES:
		memset(answer->list, 0, sizeof(*answer->list));
		fail_result(&answer->list->result, err);
		break;
	case ASK_WHOAMI:
		memset(answer->identity, 0, sizeof(*answer->identity));
		fail_result(&answer->identity->result, err);
		break;
	}
	return err;
}

int answer_error(const struct rpc_reply *reply)
{
	static const int errors[RPC_ERROR_COUNT] = {
		[RPC_OK] = -EPROTO, /* a notice without a code */
		[RPC_MALFORMED] = -EPROTO,   [RPC_UNKNOWN_METHOD] = -EOPNOTSUPP, [RPC_BAD_PARAMS] = -EINVAL,
		[RPC_LIMIT] = -EBUSY,	     [RPC_NOT_FOUND] = -EREMOTEIO,	 [RPC_EXISTS] = -EREMOTEIO,
		[RPC_INVALID] = -EREMOTEIO,  [RPC_REFUSED] = -EREMOTEIO,	 [RPC_UNAVAILABLE] = -EREMOTEIO,
		[RPC_INTERNAL] = -EREMOTEIO,
	};

	return error_set(errors[reply->error.code], "the daemon says: %s: %s", rpc_error_word(reply->error.code),
			 reply->error.message);
}

static int read_many(const struct answer *answer, struct arena *arena, const struct value *list)
{
	struct rpc_answer read;
	int r = 0;

	if (list->type != VALUE_LIST || list->count != answer->count)
		return not_an_answer("it is no list of as many verdicts as were asked for");
	for (uint32_t i = 0; i < list->count && !r; i++)
		r = read_result(arena, &list->items[i], &read, &answer->results[i]);
	return r;
}

int answer_read(const struct answer *answer, struct arena *arena, const struct rpc_reply *reply)
{
	struct rpc_answer read;
	int r = -EPROTO;

	answer_fail(answer, r);
	if (reply->error.code != RPC_OK)
		return answer_fail(answer, answer_error(reply));
	switch (answer->kind) {
	case ASK_CHECK:
		r = read_result(arena, &reply->result, &read, answer->results);
		break;
	case ASK_CHECK_MANY:
		r = read_many(answer, arena, &reply->result);
		break;
	case ASK_PAGES:
		r = read_pages(arena, reply, answer->list);
		break;
	case ASK_WHOAMI:
		r = read_identity(arena, reply, answer->identity);
		break;
	}
	return r ? answer_fail(answer, r) : 0;
}
