/*
 * penalty: slows sources of bad keys.
 *
 * What comes from a source with malformed and unknown keys uses up an allowance; while it is used up, nothing of that
 * source is judged. Learned when a verdict is known (`ended`), asked before the key is looked at (`caller`). What
 * penalty itself refuses is no bad key, and so prolongs nothing.
 */
#include "daemon/modules/table.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/modules/gcra.h"
#include "daemon/modules/sources.h"

enum { ALLOW = 0, BURST, PREFIX4, PREFIX6, ENTRIES }; /* arguments */
enum { BURST_MAX = 1000000 };

struct penalty {
	struct apikeyd_self *self;
	const struct apikeyd_host *host;
	struct gcra_rate allow;
	/* Of bad keys that were under way together, as many again as the burst count beyond it; the rest are let go. */
	struct gcra_rate debt;
	unsigned prefix4, prefix6;
	struct sources *sources;
};

static bool rates_init(const struct apikeyd_value *values, struct gcra_rate *ret_allow, struct gcra_rate *ret_debt)
{
	const struct apikeyd_value *allow = &values[ALLOW];
	uint64_t burst = values[BURST].number;

	return gcra_rate_init(ret_allow, allow->number, allow->period_us, burst) &&
	       gcra_rate_init(ret_debt, allow->number, allow->period_us, 2 * burst);
}

static int penalty_check(enum apikeyd_group group, const struct apikeyd_value *values, char *error, size_t error_size)
{
	const struct apikeyd_value *rate = &values[ALLOW];
	struct gcra_rate allow, debt;

	(void)group;
	if (rates_init(values, &allow, &debt))
		return 0;
	if (!gcra_rate_init(&allow, rate->number, rate->period_us, 1)) {
		snprintf(error, error_size,
			 "allow: is out of bounds; at most %" PRIu64 " in a period, which is at most 365 days",
			 GCRA_COUNT_MAX);
		return -EINVAL;
	}
	snprintf(error, error_size,
		 "allow: with this burst it would take more than 50 years to forget; a faster rate or a smaller burst");
	return -EINVAL;
}

static int penalty_open(struct apikeyd_self *self, const struct apikeyd_host *host, const struct apikeyd_value *values,
			void **ret_instance, char *error, size_t error_size)
{
	struct penalty *penalty = calloc(1, sizeof(*penalty));
	int rc = penalty ? 0 : -ENOMEM;

	if (rc == 0) {
		penalty->self = self;
		penalty->host = host;
		penalty->prefix4 = (unsigned)values[PREFIX4].number;
		penalty->prefix6 = (unsigned)values[PREFIX6].number;
		rc = rates_init(values, &penalty->allow, &penalty->debt) ? 0 : -EINVAL;
	}
	if (rc == 0)
		rc = sources_new((uint32_t)values[ENTRIES].number, &penalty->sources);
	if (rc != 0) {
		snprintf(error, error_size, "entries: no table of %" PRIu64 " can be had (%s); fewer need less memory",
			 values[ENTRIES].number, strerror(-rc));
		free(penalty);
		return rc;
	}
	*ret_instance = penalty;
	return 0;
}

static void penalty_close(void *instance)
{
	struct penalty *penalty = instance;

	sources_free(penalty->sources);
	free(penalty);
}

static void explain(const struct penalty *penalty, const struct apikeyd_request *request,
		    const struct apikeyd_network *network, const struct gcra_time *full)
{
	char text[INET6_ADDRSTRLEN] = "", line[160];

	inet_ntop(network->family == 4 ? AF_INET : AF_INET6, network->bytes, text, sizeof(text));
	snprintf(line, sizeof(line), "%s/%u: %" PRIu64 " of %" PRIu32 " bad keys left", text, network->prefix,
		 gcra_left(&penalty->allow, full, request->boot_us), penalty->allow.burst);
	penalty->host->detail(penalty->self, request, line);
}

static enum apikeyd_code penalty_start(void *instance, const struct apikeyd_request *request, uint64_t token)
{
	struct penalty *penalty = instance;
	struct gcra_time full = {0}, next;
	struct apikeyd_network network;
	const struct source *source;
	uint64_t wait_us;

	(void)token;
	if (request->addr.family == 0)
		return APIKEYD_IGNORE;
	network = sources_network(&request->addr, penalty->prefix4, penalty->prefix6);
	source = sources_find(penalty->sources, &network);
	if (source)
		full = source->full;
	if (request->explain)
		explain(penalty, request, &network, &full);
	/* Would one more bad key be within the allowance? */
	if (gcra_look(&penalty->allow, &full, request->boot_us, 1, &next, &wait_us) == GCRA_PASSES)
		return APIKEYD_SUCCESS;
	penalty->host->retry_after(penalty->self, request, (wait_us + 999) / 1000);
	return APIKEYD_RATE_LIMITED;
}

static bool is_list(const struct apikeyd_request *request)
{
	static const char method[] = "check_many";

	return request->method.len == sizeof(method) - 1 &&
	       memcmp(request->method.data, method, sizeof(method) - 1) == 0;
}

static void penalty_ended(void *instance, const struct apikeyd_request *request)
{
	struct penalty *penalty = instance;
	struct apikeyd_network network;
	struct gcra_time next;
	struct source *source;
	uint64_t wait_us;

	if (request->addr.family == 0 || request->explain ||
	    (request->reason_code != APIKEYD_MALFORMED_KEY && request->reason_code != APIKEYD_UNKNOWN_KEY))
		return;
	network = sources_network(&request->addr, penalty->prefix4, penalty->prefix6);
	source = sources_take(penalty->sources, &network);
	/* Each pair of a check_many is told of, but its key was bad once. */
	if (is_list(request)) {
		if (source->list_us == request->boot_us)
			return;
		source->list_us = request->boot_us;
	}
	if (gcra_look(&penalty->debt, &source->full, request->boot_us, 1, &next, &wait_us) == GCRA_PASSES)
		source->full = next;
}

static const struct apikeyd_argument arguments[] = {
	[ALLOW] = {.name = "allow",
		   .type = APIKEYD_TYPE_RATE,
		   .fallback = "10/min",
		   .help = "how many bad keys a source may send for long"},
	[BURST] = {.name = "burst",
		   .type = APIKEYD_TYPE_COUNT,
		   .fallback = "20",
		   .min = 1,
		   .max = BURST_MAX,
		   .help = "how many at once"},
	[PREFIX4] = {.name = "prefix4",
		     .type = APIKEYD_TYPE_COUNT,
		     .fallback = "32",
		     .min = 1,
		     .max = 32,
		     .help = "how many bits of an IPv4 address make a source"},
	[PREFIX6] = {.name = "prefix6",
		     .type = APIKEYD_TYPE_COUNT,
		     .fallback = "64",
		     .min = 1,
		     .max = 128,
		     .help = "how many bits of an IPv6 address make a source"},
	[ENTRIES] = {.name = "entries",
		     .type = APIKEYD_TYPE_COUNT,
		     .fallback = "16384",
		     .min = 1,
		     .max = SOURCES_MAX,
		     .help = "how many sources are remembered"},
	{0},
};

const struct apikeyd_module module_penalty = {
	.abi = APIKEYD_ABI,
	.size = sizeof(struct apikeyd_module),
	.name = "penalty",
	.help = "slows sources of malformed and unknown keys, by address",
	.groups = APIKEYD_GROUP_CALLER | APIKEYD_GROUP_ACCOUNT,
	.arguments = arguments,
	.check = penalty_check,
	.open = penalty_open,
	.start = penalty_start,
	.ended = penalty_ended,
	.close = penalty_close,
};
