/*
 * permit: anybody may ask. In `caller` alone: nothing that says whose key it is, or what it may do, can be permitted.
 */
#include "daemon/modules/table.h"

static enum apikeyd_code permit_start(void *instance, const struct apikeyd_request *request, uint64_t token)
{
	(void)instance;
	(void)request;
	(void)token;
	return APIKEYD_SUCCESS;
}

const struct apikeyd_module module_permit = {
	.abi = APIKEYD_ABI,
	.size = sizeof(struct apikeyd_module),
	.name = "permit",
	.help = "every caller may ask",
	.groups = APIKEYD_GROUP_CALLER,
	.start = permit_start,
};
