/*
 * The words of stacks: groups, codes and their reasons, controls' actions. Pure tables.
 *
 * Always holds: codes and reasons correspond one to one (`success` is `ok`; `ignore` and `pending` are no reasons); a
 * number that is no code reads as `module_fault`.
 */
#ifndef APIKEYD_DAEMON_STACK_CODE_H
#define APIKEYD_DAEMON_STACK_CODE_H

#include <stdbool.h>
#include <stddef.h>

#include "daemon/apikeyd-module.h"
#include "proto/verdict.h"

/* Groups in the order in which they are judged; enum apikeyd_group has them as bits. */
enum stack_group {
	STACK_CALLER = 0,
	STACK_KEY,
	STACK_ACCOUNT,
	STACK_PAGE,
	STACK_SCOPE,
	STACK_AUDIT,
	STACK_GROUPS /* not a group: how many there are */
};

enum stack_action { STACK_BAD = 0, STACK_OK, STACK_DONE, STACK_DIE, STACK_IGNORE, STACK_ACTIONS };

enum stack_class { STACK_CLASS_SUCCESS = 0, STACK_CLASS_IGNORE, STACK_CLASS_DENY, STACK_CLASS_FAULT };

/* What a number stands for that a module returned: itself where it is a code, else APIKEYD_MODULE_FAULT. */
enum apikeyd_code code_clean(int number);
enum stack_class code_class(enum apikeyd_code code);  /* of a clean one but `pending`, which is a fault here */
enum reason code_reason(enum apikeyd_code code);      /* `ignore` has none: `policy` */
enum apikeyd_code code_of_reason(enum reason reason); /* `ok` is `success` */

/* Words; never NULL. The other way about: false with *ret untouched for a word that is none. */
const char *code_word(enum apikeyd_code code);
bool code_from_word(const char *word, size_t len, enum apikeyd_code *ret); /* not `pending` */
const char *group_word(enum stack_group group);
bool group_from_word(const char *word, size_t len, enum stack_group *ret);
const char *action_word(enum stack_action action);
bool action_from_word(const char *word, size_t len, enum stack_action *ret);

/* The i-th code that a module can return at the end (all but `pending`), i from 0; false past the end. */
bool code_at(unsigned i, enum apikeyd_code *ret);

static inline unsigned group_bit(enum stack_group group)
{
	return 1u << group;
}

#endif
