/*
 * What is known of a request, as a line of `name=value` for the log. No state, no memory but the struct.
 *
 * Who calls it: ledger.c, debug.c. Always holds: a value from outside stands in quotation marks, where `"` and `\` have
 * a backslash before them and all that is not printable ASCII is written \xNN: no value can end its quotes, look like a
 * field or begin a line. A value that is too long is cut, and "..." after its quotes says so. No key's text: only its
 * key_id.
 */
#ifndef APIKEYD_DAEMON_MODULES_FACTS_H
#define APIKEYD_DAEMON_MODULES_FACTS_H

#include <stddef.h>

#include "daemon/apikeyd-module.h"

enum { FACTS_MAX = 2048, FACTS_VALUE_MAX = 192 /* of a value as it is written, quotation marks not counted */ };

struct facts {
	size_t len;
	char text[FACTS_MAX]; /* terminated */
};

void facts_init(struct facts *facts);

/* A number of the daemon's own. */
void facts_number(struct facts *facts, const char *name, unsigned long long number);
/* A word of the protocol: without quotes where it is one. Absent: nothing is written. */
void facts_word(struct facts *facts, const char *name, struct apikeyd_text word);
/* Text from outside, in quotes. Absent: nothing is written. */
void facts_text(struct facts *facts, const char *name, struct apikeyd_text text);

/* What ledger and debug both tell of a request: where it was asked, by whom, about what. */
void facts_request(struct facts *facts, const struct apikeyd_request *request);

#endif
