#include "daemon/stack/code.h"

#include <string.h>

struct row {
	enum apikeyd_code code;
	enum reason reason;
};

/* Of each code that is a reason; the words are the reasons'. In the order of the header that modules include. */
static const struct row reasons[] = {
	{APIKEYD_POLICY, REASON_POLICY},
	{APIKEYD_MALFORMED_KEY, REASON_MALFORMED_KEY},
	{APIKEYD_UNKNOWN_KEY, REASON_UNKNOWN_KEY},
	{APIKEYD_REVOKED, REASON_REVOKED},
	{APIKEYD_RETIRED, REASON_RETIRED},
	{APIKEYD_DISABLED, REASON_DISABLED},
	{APIKEYD_NOT_YET_VALID, REASON_NOT_YET_VALID},
	{APIKEYD_EXPIRED, REASON_EXPIRED},
	{APIKEYD_USER_SUSPENDED, REASON_USER_SUSPENDED},
	{APIKEYD_NETWORK, REASON_NETWORK},
	{APIKEYD_UNKNOWN_SCOPE, REASON_UNKNOWN_SCOPE},
	{APIKEYD_UNKNOWN_PAGE, REASON_UNKNOWN_PAGE},
	{APIKEYD_NOT_MEMBER, REASON_NOT_MEMBER},
	{APIKEYD_ORG_SUSPENDED, REASON_ORG_SUSPENDED},
	{APIKEYD_PAGE_ARCHIVED, REASON_PAGE_ARCHIVED},
	{APIKEYD_PAGE_NOT_GRANTED, REASON_PAGE_NOT_GRANTED},
	{APIKEYD_SCOPE_NOT_GRANTED, REASON_SCOPE_NOT_GRANTED},
	{APIKEYD_RATE_LIMITED, REASON_RATE_LIMITED},
	{APIKEYD_CALLER, REASON_CALLER},
	{APIKEYD_NO_STACK, REASON_NO_STACK},
	{APIKEYD_NOT_LOADED, REASON_NOT_LOADED},
	{APIKEYD_STALE, REASON_STALE},
	{APIKEYD_BEHIND, REASON_BEHIND},
	{APIKEYD_TIMEOUT, REASON_TIMEOUT},
	{APIKEYD_OVERLOAD, REASON_OVERLOAD},
	{APIKEYD_MODULE_FAULT, REASON_MODULE_FAULT},
	{APIKEYD_AUDIT_FULL, REASON_AUDIT_FULL},
	{APIKEYD_NO_PEPPER, REASON_NO_PEPPER},
};

enum { REASON_ROWS = sizeof(reasons) / sizeof(reasons[0]) };

_Static_assert(REASON_ROWS == REASON_COUNT - 1, "each reason but `ok` has a code");
_Static_assert(APIKEYD_POLICY == 0 && REASON_POLICY == 0, "zeroed memory is a refusal");

static const char *const group_words[STACK_GROUPS] = {
	[STACK_CALLER] = "caller", [STACK_KEY] = "key",	    [STACK_ACCOUNT] = "account",
	[STACK_PAGE] = "page",	   [STACK_SCOPE] = "scope", [STACK_AUDIT] = "audit",
};

static const char *const action_words[STACK_ACTIONS] = {
	[STACK_BAD] = "bad", [STACK_OK] = "ok", [STACK_DONE] = "done", [STACK_DIE] = "die", [STACK_IGNORE] = "ignore",
};

static const struct row *row_of(int number)
{
	for (unsigned i = 0; i < REASON_ROWS; i++) {
		if ((int)reasons[i].code == number)
			return &reasons[i];
	}
	return NULL;
}

enum apikeyd_code code_clean(int number)
{
	if (number == APIKEYD_SUCCESS || number == APIKEYD_IGNORE || number == APIKEYD_PENDING || row_of(number))
		return (enum apikeyd_code)number;
	return APIKEYD_MODULE_FAULT;
}

enum stack_class code_class(enum apikeyd_code code)
{
	if (code == APIKEYD_SUCCESS)
		return STACK_CLASS_SUCCESS;
	if (code == APIKEYD_IGNORE)
		return STACK_CLASS_IGNORE;
	return verdict_of(code_reason(code)) == VERDICT_UNAVAILABLE ? STACK_CLASS_FAULT : STACK_CLASS_DENY;
}

enum reason code_reason(enum apikeyd_code code)
{
	const struct row *row;

	if (code == APIKEYD_SUCCESS)
		return REASON_OK;
	if (code == APIKEYD_IGNORE)
		return REASON_POLICY;
	row = row_of(code);
	return row ? row->reason : REASON_MODULE_FAULT;
}

enum apikeyd_code code_of_reason(enum reason reason)
{
	if (reason == REASON_OK)
		return APIKEYD_SUCCESS;
	for (unsigned i = 0; i < REASON_ROWS; i++) {
		if (reasons[i].reason == reason)
			return reasons[i].code;
	}
	return APIKEYD_POLICY;
}

const char *code_word(enum apikeyd_code code)
{
	switch (code) {
	case APIKEYD_SUCCESS:
		return "success";
	case APIKEYD_IGNORE:
		return "ignore";
	case APIKEYD_PENDING:
		return "pending";
	default:
		return reason_word(code_reason(code));
	}
}

bool code_at(unsigned i, enum apikeyd_code *ret)
{
	if (i == 0)
		*ret = APIKEYD_SUCCESS;
	else if (i == 1)
		*ret = APIKEYD_IGNORE;
	else if (i - 2 < REASON_ROWS)
		*ret = reasons[i - 2].code;
	else
		return false;
	return true;
}

static bool word_is(const char *known, const char *word, size_t len)
{
	return strlen(known) == len && memcmp(known, word, len) == 0;
}

bool code_from_word(const char *word, size_t len, enum apikeyd_code *ret)
{
	enum apikeyd_code code;

	for (unsigned i = 0; code_at(i, &code); i++) {
		if (word_is(code_word(code), word, len)) {
			*ret = code;
			return true;
		}
	}
	return false;
}

const char *group_word(enum stack_group group)
{
	return (unsigned)group < STACK_GROUPS ? group_words[group] : "none";
}

bool group_from_word(const char *word, size_t len, enum stack_group *ret)
{
	for (unsigned i = 0; i < STACK_GROUPS; i++) {
		if (word_is(group_words[i], word, len)) {
			*ret = (enum stack_group)i;
			return true;
		}
	}
	return false;
}

const char *action_word(enum stack_action action)
{
	return (unsigned)action < STACK_ACTIONS ? action_words[action] : action_words[STACK_BAD];
}

bool action_from_word(const char *word, size_t len, enum stack_action *ret)
{
	for (unsigned i = 0; i < STACK_ACTIONS; i++) {
		if (word_is(action_words[i], word, len)) {
			*ret = (enum stack_action)i;
			return true;
		}
	}
	return false;
}
