/* Answers, as the daemon writes them. A verdict map is on the path of every check: written by hand.
 */
#include "proto/rpc_internal.h"

#include <string.h>

enum {
	/* An answer's fixed part at its longest: names, words, numbers and the heads of its texts.
	 */
	FIXED_MAX = 384,
	TEXT_HEAD_MAX = 5,
	RESPONSE_HEAD_MAX = 1 + 1 + 5 + 1,
};

#define DENY                                                                                                           \
	"\xa4"                                                                                                         \
	"deny"
#define ALLOW                                                                                                          \
	"\xa5"                                                                                                         \
	"allow"
#define UNAVAILABLE                                                                                                    \
	"\xab"                                                                                                         \
	"unavailable"
/* The first two fields of the map and the third's name, ready to copy; `word` is with its
 * MessagePack head. */
#define OPENING(verdict, word)                                                                                         \
	{                                                                                                              \
		sizeof("\xa7"                                                                                          \
		       "verdict" verdict "\xa6"                                                                        \
		       "reason" word "\xa3"                                                                            \
		       "rev") -                                                                                        \
			1,                                                                                             \
			"\xa7"                                                                                         \
			"verdict" verdict "\xa6"                                                                       \
			"reason" word "\xa3"                                                                           \
			"rev"                                                                                          \
	}

static const struct {
	uint8_t len;
	char bytes[47];
} openings[REASON_COUNT] = {
	[REASON_POLICY] = OPENING(DENY, "\xa6"
					"policy"),
	[REASON_OK] = OPENING(ALLOW, "\xa2"
				     "ok"),
	[REASON_MALFORMED_KEY] = OPENING(DENY, "\xad"
					       "malformed_key"),
	[REASON_UNKNOWN_KEY] = OPENING(DENY, "\xab"
					     "unknown_key"),
	[REASON_REVOKED] = OPENING(DENY, "\xa7"
					 "revoked"),
	[REASON_RETIRED] = OPENING(DENY, "\xa7"
					 "retired"),
	[REASON_DISABLED] = OPENING(DENY, "\xa8"
					  "disabled"),
	[REASON_NOT_YET_VALID] = OPENING(DENY, "\xad"
					       "not_yet_valid"),
	[REASON_EXPIRED] = OPENING(DENY, "\xa7"
					 "expired"),
	[REASON_USER_SUSPENDED] = OPENING(DENY, "\xae"
						"user_suspended"),
	[REASON_NETWORK] = OPENING(DENY, "\xa7"
					 "network"),
	[REASON_UNKNOWN_SCOPE] = OPENING(DENY, "\xad"
					       "unknown_scope"),
	[REASON_UNKNOWN_PAGE] = OPENING(DENY, "\xac"
					      "unknown_page"),
	[REASON_NOT_MEMBER] = OPENING(DENY, "\xaa"
					    "not_member"),
	[REASON_ORG_SUSPENDED] = OPENING(DENY, "\xad"
					       "org_suspended"),
	[REASON_PAGE_ARCHIVED] = OPENING(DENY, "\xad"
					       "page_archived"),
	[REASON_PAGE_NOT_GRANTED] = OPENING(DENY, "\xb0"
						  "page_not_granted"),
	[REASON_SCOPE_NOT_GRANTED] = OPENING(DENY, "\xb1"
						   "scope_not_granted"),
	[REASON_RATE_LIMITED] = OPENING(DENY, "\xac"
					      "rate_limited"),
	[REASON_CALLER] = OPENING(DENY, "\xa6"
					"caller"),
	[REASON_NO_STACK] = OPENING(DENY, "\xa8"
					  "no_stack"),
	[REASON_NOT_LOADED] = OPENING(UNAVAILABLE, "\xaa"
						   "not_loaded"),
	[REASON_STALE] = OPENING(UNAVAILABLE, "\xa5"
					      "stale"),
	[REASON_BEHIND] = OPENING(UNAVAILABLE, "\xa6"
					       "behind"),
	[REASON_TIMEOUT] = OPENING(UNAVAILABLE, "\xa7"
						"timeout"),
	[REASON_OVERLOAD] = OPENING(UNAVAILABLE, "\xa8"
						 "overload"),
	[REASON_MODULE_FAULT] = OPENING(UNAVAILABLE, "\xac"
						     "module_fault"),
	[REASON_AUDIT_FULL] = OPENING(UNAVAILABLE, "\xaa"
						   "audit_full"),
	[REASON_NO_PEPPER] = OPENING(UNAVAILABLE, "\xa9"
						  "no_pepper"),
};

/* Copies a constant; the length is known where this is compiled. */
#define PUT(p, constant) ((uint8_t *)memcpy(p, constant, sizeof(constant) - 1) + sizeof(constant) - 1)

static inline uint8_t *put_big_endian(uint8_t *p, uint64_t number, unsigned bytes)
{
	for (unsigned i = bytes; i-- > 0;)
		*p++ = (uint8_t)(number >> (8 * i));
	return p;
}

/* The shortest form, as MessagePack asks and msgpack-c does. */
static inline uint8_t *put_uint(uint8_t *p, uint64_t number)
{
	if (number < 0x80) {
		*p++ = (uint8_t)number;
		return p;
	}
	if (number <= UINT8_MAX) {
		*p++ = 0xcc;
		return put_big_endian(p, number, 1);
	}
	if (number <= UINT16_MAX) {
		*p++ = 0xcd;
		return put_big_endian(p, number, 2);
	}
	if (number <= UINT32_MAX) {
		*p++ = 0xce;
		return put_big_endian(p, number, 4);
	}
	*p++ = 0xcf;
	return put_big_endian(p, number, 8);
}

static uint8_t *put_int(uint8_t *p, int64_t number)
{
	if (number >= 0)
		return put_uint(p, (uint64_t)number);
	if (number >= -32) {
		*p++ = (uint8_t)number;
		return p;
	}
	if (number >= INT8_MIN) {
		*p++ = 0xd0;
		return put_big_endian(p, (uint64_t)number, 1);
	}
	if (number >= INT16_MIN) {
		*p++ = 0xd1;
		return put_big_endian(p, (uint64_t)number, 2);
	}
	if (number >= INT32_MIN) {
		*p++ = 0xd2;
		return put_big_endian(p, (uint64_t)number, 4);
	}
	*p++ = 0xd3;
	return put_big_endian(p, (uint64_t)number, 8);
}

static inline uint8_t *put_text(uint8_t *p, const char *text, uint32_t len)
{
	if (len < 32) {
		*p++ = (uint8_t)(0xa0 | len);
	} else if (len <= UINT8_MAX) {
		*p++ = 0xd9;
		*p++ = (uint8_t)len;
	} else if (len <= UINT16_MAX) {
		*p++ = 0xda;
		p = put_big_endian(p, len, 2);
	} else {
		*p++ = 0xdb;
		p = put_big_endian(p, len, 4);
	}
	memcpy(p, text, len);
	return p + len;
}

static inline uint8_t *put_count(uint8_t *p, uint32_t count, uint8_t fix, uint8_t wide)
{
	if (count < 16) {
		*p++ = (uint8_t)(fix | count);
	} else if (count <= UINT16_MAX) {
		*p++ = wide;
		p = put_big_endian(p, count, 2);
	} else {
		*p++ = (uint8_t)(wide + 1);
		p = put_big_endian(p, count, 4);
	}
	return p;
}

static inline uint8_t *put_array(uint8_t *p, uint32_t count)
{
	return put_count(p, count, 0x90, 0xdc);
}

/* [1, msgid, nil, and the result to follow */
static inline uint8_t *put_response(uint8_t *p, uint32_t msgid)
{
	*p++ = 0x94;
	*p++ = 0x01;
	p = put_uint(p, msgid);
	*p++ = 0xc0;
	return p;
}

static inline const struct value *more_of(const struct rpc_answer *a)
{
	return a->proven && a->more && a->more->type == VALUE_MAP ? a->more : NULL;
}

static inline size_t text_size(struct rpc_text text)
{
	return text.data ? text.len : 0;
}

static uint32_t count_fields(const struct rpc_answer *a)
{
	const struct value *more = more_of(a);
	uint32_t count = 4 + a->stale + a->has_retry + (a->trace != NULL);

	if (!a->proven)
		return count;
	count += 2u + (a->org.data != NULL) + (a->user.data != NULL) + (a->page.data != NULL) +
		 (a->missing_scope.data != NULL) + (a->needs_role.data != NULL) + a->has_expiry +
		 (a->successor[0] != '\0') + a->has_pages + (a->next.data != NULL);
	return more ? count + more->count : count;
}

/* At most; `more` and `trace` are not in it. */
static size_t answer_size(const struct rpc_answer *a)
{
	size_t size = FIXED_MAX;

	if (!a->proven)
		return size;
	size += text_size(a->org) + text_size(a->user) + text_size(a->page) + text_size(a->missing_scope) +
		text_size(a->needs_role) + text_size(a->next);
	if (a->has_pages) {
		for (uint32_t i = 0; i < a->page_count; i++)
			size += TEXT_HEAD_MAX + (size_t)a->pages[i].len;
	}
	return size;
}

static uint8_t *put_pages(uint8_t *p, const struct rpc_answer *a)
{
	p = PUT(p, "\xa5"
		   "pages");
	p = put_array(p, a->page_count);
	for (uint32_t i = 0; i < a->page_count; i++)
		p = put_text(p, a->pages[i].data, a->pages[i].len);
	return p;
}

static inline uint8_t *put_who(uint8_t *p, const struct rpc_answer *a)
{
	p = PUT(p, "\xa6"
		   "key_id");
	p = put_text(p, a->key_id, (uint32_t)strnlen(a->key_id, KEYTEXT_ID_LEN));
	if (a->kind == KEY_KIND_ORGANIZATION)
		p = PUT(p, "\xa4"
			   "kind"
			   "\xac"
			   "organization");
	else if (a->kind == KEY_KIND_BREAK_GLASS)
		p = PUT(p, "\xa4"
			   "kind"
			   "\xab"
			   "break_glass");
	else
		p = PUT(p, "\xa4"
			   "kind"
			   "\xa4"
			   "user");
	if (a->org.data) {
		p = PUT(p, "\xa3"
			   "org");
		p = put_text(p, a->org.data, a->org.len);
	}
	if (a->user.data) {
		p = PUT(p, "\xa4"
			   "user");
		p = put_text(p, a->user.data, a->user.len);
	}
	if (a->page.data) {
		p = PUT(p, "\xa4"
			   "page");
		p = put_text(p, a->page.data, a->page.len);
	}
	if (a->missing_scope.data) {
		p = PUT(p, "\xad"
			   "missing_scope");
		p = put_text(p, a->missing_scope.data, a->missing_scope.len);
	}
	if (a->needs_role.data) {
		p = PUT(p, "\xaa"
			   "needs_role");
		p = put_text(p, a->needs_role.data, a->needs_role.len);
	}
	return p;
}

/* The order of the fields is part of the protocol's text: PROTOCOL.md, and the vectors prove it. */
static inline uint8_t *put_map(uint8_t *p, const struct rpc_answer *a)
{
	unsigned reason = (unsigned)a->reason < REASON_COUNT ? a->reason : REASON_POLICY;

	p = put_count(p, count_fields(a), 0x80, 0xde);
	memcpy(p, openings[reason].bytes, sizeof(openings[reason].bytes));
	p = put_uint(p + openings[reason].len, a->rev);
	p = PUT(p, "\xa6"
		   "age_ms");
	p = put_uint(p, a->age_ms);
	if (a->stale)
		p = PUT(p, "\xa5"
			   "stale"
			   "\xc3");
	if (a->proven)
		p = put_who(p, a);
	if (a->has_retry) {
		p = PUT(p, "\xae"
			   "retry_after_ms");
		p = put_uint(p, a->retry_after_ms);
	}
	if (!a->proven)
		return p;
	if (a->has_expiry) {
		p = PUT(p, "\xaa"
			   "expires_at");
		p = put_int(p, a->expires_at);
	}
	if (a->successor[0]) {
		p = PUT(p, "\xa9"
			   "successor");
		p = put_text(p, a->successor, (uint32_t)strnlen(a->successor, KEYTEXT_ID_LEN));
	}
	if (a->has_pages)
		p = put_pages(p, a);
	if (a->next.data) {
		p = PUT(p, "\xa4"
			   "next");
		p = put_text(p, a->next.data, a->next.len);
	}
	return p;
}

static void put_more(struct rpc_buffer *out, const struct rpc_answer *answer)
{
	const struct value *more = more_of(answer);
	msgpack_packer packer;

	if (!more && !answer->trace)
		return;
	msgpack_packer_init(&packer, out, rpc_buffer_write);
	if (more)
		rpc_pack_fields(&packer, more);
	if (answer->trace) {
		rpc_pack_text(&packer, "trace", 5);
		rpc_pack_value(&packer, answer->trace);
	}
}

void rpc_put_answer(struct rpc_buffer *out, uint32_t msgid, const struct rpc_answer *answer)
{
	uint8_t *p = rpc_buffer_reserve(out, RESPONSE_HEAD_MAX + answer_size(answer));

	if (!p)
		return;
	p = put_map(put_response(p, msgid), answer);
	out->len = (size_t)(p - out->data);
	put_more(out, answer);
}

void rpc_put_answer_map(struct rpc_buffer *out, const struct rpc_answer *answer)
{
	uint8_t *p = rpc_buffer_reserve(out, answer_size(answer));

	if (!p)
		return;
	p = put_map(p, answer);
	out->len = (size_t)(p - out->data);
	put_more(out, answer);
}

void rpc_put_answers_head(struct rpc_buffer *out, uint32_t msgid, uint32_t count)
{
	uint8_t *p = rpc_buffer_reserve(out, RESPONSE_HEAD_MAX + 5);

	if (!p)
		return;
	p = put_array(put_response(p, msgid), count);
	out->len = (size_t)(p - out->data);
}

void rpc_put_result(struct rpc_buffer *out, uint32_t msgid, const struct value *result)
{
	msgpack_packer packer;
	uint8_t *p = rpc_buffer_reserve(out, RESPONSE_HEAD_MAX);

	if (!p)
		return;
	p = put_response(p, msgid);
	out->len = (size_t)(p - out->data);
	msgpack_packer_init(&packer, out, rpc_buffer_write);
	rpc_pack_value(&packer, result);
}

static void pack_error(msgpack_packer *packer, const struct rpc_error *error)
{
	const char *word = rpc_error_word(error->code);

	msgpack_pack_array(packer, 2);
	rpc_pack_text(packer, word, strlen(word));
	rpc_pack_text(packer, error->message, strnlen(error->message, sizeof(error->message)));
}

void rpc_put_error(struct rpc_buffer *out, uint32_t msgid, const struct rpc_error *error)
{
	msgpack_packer packer;

	msgpack_packer_init(&packer, out, rpc_buffer_write);
	msgpack_pack_array(&packer, 4);
	msgpack_pack_uint8(&packer, 1);
	msgpack_pack_uint32(&packer, msgid);
	pack_error(&packer, error);
	msgpack_pack_nil(&packer);
}

void rpc_put_notice(struct rpc_buffer *out, const struct rpc_error *error)
{
	msgpack_packer packer;

	msgpack_packer_init(&packer, out, rpc_buffer_write);
	msgpack_pack_array(&packer, 3);
	msgpack_pack_uint8(&packer, 2);
	rpc_pack_text(&packer, "error", 5);
	pack_error(&packer, error);
}
