/*
 * A policy out of stacks that a test has as text, with the modules that are built in and further ones of the test's.
 */
#ifndef APIKEYD_TESTS_UNIT_POLICY_TEXT_H
#define APIKEYD_TESTS_UNIT_POLICY_TEXT_H

#include "daemon/request.h"

struct policy_text {
	const char *name, *text;
};

/* What the modules of the test's policies may call; set it before the first policy. Zeroed: requests' part alone. */
extern struct apikeyd_host policy_text_host;

/* The usual stack without what remembers or writes down. */
extern const struct policy_text policy_text_plain[];

/*
 * Makes a policy of stacks (the last has no name), and has the core judge by it. `modules` (ends with NULL; NULL: none)
 * stand beside those built in. Fails the test where it cannot be made.
 */
void policy_text_set(struct request_core *core, const struct policy_text *stacks,
		     const struct apikeyd_module *const *modules);

#endif
