/*
 * The words of codes, for arguments that name one. A table; the ABI has the numbers only.
 *
 * Who calls it: deny.c, debug.c, ledger.c. Always holds: the words are those of the protocol's reasons, one to one, and
 * `success` and `ignore` beside them.
 */
#ifndef APIKEYD_DAEMON_MODULES_REASONS_H
#define APIKEYD_DAEMON_MODULES_REASONS_H

#include <stdbool.h>

#include "daemon/apikeyd-module.h"

/* Words of an argument's table. */
#define REASONS_DENY                                                                                                   \
	"policy|malformed_key|unknown_key|revoked|retired|disabled|not_yet_valid|expired|user_suspended|network|"      \
	"unknown_scope|unknown_page|not_member|org_suspended|page_archived|page_not_granted|scope_not_granted|"        \
	"rate_limited|caller|no_stack"
#define REASONS_FAULT "not_loaded|stale|behind|timeout|overload|module_fault|audit_full|no_pepper"

/* The code of a word of these lists, or of `success` or `ignore`. False with *ret untouched: it is none. */
bool reasons_code(const char *word, enum apikeyd_code *ret);

/* Whether a code says that nobody could decide. */
static inline bool reasons_is_fault(enum apikeyd_code code)
{
	return code >= APIKEYD_NOT_LOADED;
}

#endif
