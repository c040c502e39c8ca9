/*
 * Options and contexts as callers hand them in, of this or another version of the header -> checked values.
 * Pure but for $APIKEYD_SOCKET. Functions return 0 or a negative errno with error.h's line set.
 */
#ifndef APIKEY_LIBAPIKEY_SETTINGS_H
#define APIKEY_LIBAPIKEY_SETTINGS_H

#include <sys/un.h>

#include "client/apikey.h"

enum { SETTINGS_CLIENT_MAX = 64 };

struct settings {
	struct sockaddr_un address;
	int timeout_ms;
	unsigned connections, in_flight, queue;
	char client[SETTINGS_CLIENT_MAX + 1];
};

/* options NULL: the defaults. */
int settings_read(const struct apikey_options *options, struct settings *ret);

/* context NULL: a zeroed one. Texts stay the caller's; timeout_ms is filled in from `timeout_ms` where it is 0. */
int settings_context(const struct apikey_context *context, int timeout_ms, struct apikey_context *ret);

#endif
