#include "daemon/modules/reasons.h"

#include <string.h>

static const struct {
	const char *word;
	enum apikeyd_code code;
} words[] = {
	{"success", APIKEYD_SUCCESS},
	{"ignore", APIKEYD_IGNORE},
	{"policy", APIKEYD_POLICY},
	{"malformed_key", APIKEYD_MALFORMED_KEY},
	{"unknown_key", APIKEYD_UNKNOWN_KEY},
	{"revoked", APIKEYD_REVOKED},
	{"retired", APIKEYD_RETIRED},
	{"disabled", APIKEYD_DISABLED},
	{"not_yet_valid", APIKEYD_NOT_YET_VALID},
	{"expired", APIKEYD_EXPIRED},
	{"user_suspended", APIKEYD_USER_SUSPENDED},
	{"network", APIKEYD_NETWORK},
	{"unknown_scope", APIKEYD_UNKNOWN_SCOPE},
	{"unknown_page", APIKEYD_UNKNOWN_PAGE},
	{"not_member", APIKEYD_NOT_MEMBER},
	{"org_suspended", APIKEYD_ORG_SUSPENDED},
	{"page_archived", APIKEYD_PAGE_ARCHIVED},
	{"page_not_granted", APIKEYD_PAGE_NOT_GRANTED},
	{"scope_not_granted", APIKEYD_SCOPE_NOT_GRANTED},
	{"rate_limited", APIKEYD_RATE_LIMITED},
	{"caller", APIKEYD_CALLER},
	{"no_stack", APIKEYD_NO_STACK},
	{"not_loaded", APIKEYD_NOT_LOADED},
	{"stale", APIKEYD_STALE},
	{"behind", APIKEYD_BEHIND},
	{"timeout", APIKEYD_TIMEOUT},
	{"overload", APIKEYD_OVERLOAD},
	{"module_fault", APIKEYD_MODULE_FAULT},
	{"audit_full", APIKEYD_AUDIT_FULL},
	{"no_pepper", APIKEYD_NO_PEPPER},
};

bool reasons_code(const char *word, enum apikeyd_code *ret)
{
	for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(words[i].word, word) == 0) {
			*ret = words[i].code;
			return true;
		}
	}
	return false;
}
