/*
 * deny: refuses, for the reason it is given.
 */
#include "daemon/modules/table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/modules/reasons.h"

enum { REASON = 0 }; /* arguments */

struct deny {
	enum apikeyd_code code;
};

static int deny_open(struct apikeyd_self *self, const struct apikeyd_host *host, const struct apikeyd_value *values,
		     void **ret_instance, char *error, size_t error_size)
{
	struct deny *deny = calloc(1, sizeof(*deny));

	(void)self;
	(void)host;
	if (!deny) {
		snprintf(error, error_size, "no memory");
		return -ENOMEM;
	}
	if (!reasons_code(values[REASON].text, &deny->code)) {
		snprintf(error, error_size, "reason: '%s' is no reason to deny", values[REASON].text);
		free(deny);
		return -EINVAL;
	}
	*ret_instance = deny;
	return 0;
}

static void deny_close(void *instance)
{
	free(instance);
}

static enum apikeyd_code deny_start(void *instance, const struct apikeyd_request *request, uint64_t token)
{
	const struct deny *deny = instance;

	(void)request;
	(void)token;
	return deny->code;
}

static const struct apikeyd_argument arguments[] = {
	[REASON] = {.name = "reason",
		    .type = APIKEYD_TYPE_WORD,
		    .fallback = "policy",
		    .words = REASONS_DENY,
		    .help = "what it answers"},
	{0},
};

const struct apikeyd_module module_deny = {
	.abi = APIKEYD_ABI,
	.size = sizeof(struct apikeyd_module),
	.name = "deny",
	.help = "refuses everything",
	.groups = APIKEYD_GROUP_CALLER | APIKEYD_GROUP_ACCOUNT | APIKEYD_GROUP_PAGE | APIKEYD_GROUP_SCOPE,
	.arguments = arguments,
	.open = deny_open,
	.start = deny_start,
	.close = deny_close,
};
