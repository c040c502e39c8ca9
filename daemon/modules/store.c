/*
 * store: whose key it is, as the platform's database has it, in the daemon's copy.
 *
 * Asked again when a request that had to wait is judged again, since the copy may have changed.
 */
#include "daemon/modules/table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct store {
	struct apikeyd_self *self;
	const struct apikeyd_host *host;
};

static int store_open(struct apikeyd_self *self, const struct apikeyd_host *host, const struct apikeyd_value *values,
		      void **ret_instance, char *error, size_t error_size)
{
	struct store *store = calloc(1, sizeof(*store));

	(void)values;
	if (!store) {
		snprintf(error, error_size, "no memory");
		return -ENOMEM;
	}
	store->self = self;
	store->host = host;
	*ret_instance = store;
	return 0;
}

static void store_close(void *instance)
{
	free(instance);
}

static enum apikeyd_code store_start(void *instance, const struct apikeyd_request *request, uint64_t token)
{
	const struct store *store = instance;

	(void)token;
	return store->host->store(store->self, request);
}

const struct apikeyd_module module_store = {
	.abi = APIKEYD_ABI,
	.size = sizeof(struct apikeyd_module),
	.name = "store",
	.help = "says whose key it is, as the store has it",
	.groups = APIKEYD_GROUP_KEY,
	.flags = APIKEYD_IDENTIFIES | APIKEYD_ASK_AGAIN,
	.open = store_open,
	.start = store_start,
	.close = store_close,
};
