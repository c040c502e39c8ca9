#include "proto/verdict.h"

#include <stdint.h>
#include <string.h>

#define WORD(text)                                                                                                     \
	{                                                                                                              \
		text, sizeof(text) - 1                                                                                 \
	}

struct word {
	const char *text;
	uint8_t len;
};

static const struct word verdict_words[] = {
	[VERDICT_DENY] = WORD("deny"),
	[VERDICT_ALLOW] = WORD("allow"),
	[VERDICT_UNAVAILABLE] = WORD("unavailable"),
};

static const struct {
	struct word word;
	enum verdict verdict;
} reasons[REASON_COUNT] = {
	[REASON_POLICY] = {WORD("policy"), VERDICT_DENY},
	[REASON_OK] = {WORD("ok"), VERDICT_ALLOW},
	[REASON_MALFORMED_KEY] = {WORD("malformed_key"), VERDICT_DENY},
	[REASON_UNKNOWN_KEY] = {WORD("unknown_key"), VERDICT_DENY},
	[REASON_REVOKED] = {WORD("revoked"), VERDICT_DENY},
	[REASON_RETIRED] = {WORD("retired"), VERDICT_DENY},
	[REASON_DISABLED] = {WORD("disabled"), VERDICT_DENY},
	[REASON_NOT_YET_VALID] = {WORD("not_yet_valid"), VERDICT_DENY},
	[REASON_EXPIRED] = {WORD("expired"), VERDICT_DENY},
	[REASON_USER_SUSPENDED] = {WORD("user_suspended"), VERDICT_DENY},
	[REASON_NETWORK] = {WORD("network"), VERDICT_DENY},
	[REASON_UNKNOWN_SCOPE] = {WORD("unknown_scope"), VERDICT_DENY},
	[REASON_UNKNOWN_PAGE] = {WORD("unknown_page"), VERDICT_DENY},
	[REASON_NOT_MEMBER] = {WORD("not_member"), VERDICT_DENY},
	[REASON_ORG_SUSPENDED] = {WORD("org_suspended"), VERDICT_DENY},
	[REASON_PAGE_ARCHIVED] = {WORD("page_archived"), VERDICT_DENY},
	[REASON_PAGE_NOT_GRANTED] = {WORD("page_not_granted"), VERDICT_DENY},
	[REASON_SCOPE_NOT_GRANTED] = {WORD("scope_not_granted"), VERDICT_DENY},
	[REASON_RATE_LIMITED] = {WORD("rate_limited"), VERDICT_DENY},
	[REASON_CALLER] = {WORD("caller"), VERDICT_DENY},
	[REASON_NO_STACK] = {WORD("no_stack"), VERDICT_DENY},
	[REASON_NOT_LOADED] = {WORD("not_loaded"), VERDICT_UNAVAILABLE},
	[REASON_STALE] = {WORD("stale"), VERDICT_UNAVAILABLE},
	[REASON_BEHIND] = {WORD("behind"), VERDICT_UNAVAILABLE},
	[REASON_TIMEOUT] = {WORD("timeout"), VERDICT_UNAVAILABLE},
	[REASON_OVERLOAD] = {WORD("overload"), VERDICT_UNAVAILABLE},
	[REASON_MODULE_FAULT] = {WORD("module_fault"), VERDICT_UNAVAILABLE},
	[REASON_AUDIT_FULL] = {WORD("audit_full"), VERDICT_UNAVAILABLE},
	[REASON_NO_PEPPER] = {WORD("no_pepper"), VERDICT_UNAVAILABLE},
};

static bool word_is(const struct word *word, const char *text, size_t len)
{
	return word->len == len && memcmp(word->text, text, len) == 0;
}

enum verdict verdict_of(enum reason reason)
{
	if ((unsigned)reason >= REASON_COUNT)
		return VERDICT_DENY;
	return reasons[reason].verdict;
}

const char *verdict_word(enum verdict verdict)
{
	if ((unsigned)verdict > VERDICT_UNAVAILABLE)
		verdict = VERDICT_DENY;
	return verdict_words[verdict].text;
}

const char *reason_word(enum reason reason)
{
	if ((unsigned)reason >= REASON_COUNT)
		reason = REASON_POLICY;
	return reasons[reason].word.text;
}

bool verdict_from_word(const char *word, size_t len, enum verdict *ret)
{
	for (unsigned i = 0; i <= VERDICT_UNAVAILABLE; i++) {
		if (word_is(&verdict_words[i], word, len)) {
			*ret = (enum verdict)i;
			return true;
		}
	}
	return false;
}

bool reason_from_word(const char *word, size_t len, enum reason *ret)
{
	for (unsigned i = 0; i < REASON_COUNT; i++) {
		if (word_is(&reasons[i].word, word, len)) {
			*ret = (enum reason)i;
			return true;
		}
	}
	return false;
}
