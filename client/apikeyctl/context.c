#include "client/apikeyctl/context.h"

#include <string.h>

#include "client/apikeyctl/text.h"

struct rpc_text context_text(const char *text)
{
	return (struct rpc_text){.data = text, .len = text ? (uint32_t)strlen(text) : 0};
}

int context_read(const struct ctl *ctl, const struct args *args, struct rpc_context_text *ret)
{
	const char *addr = args_text(args, "addr"), *min_rev = args_text(args, "min-rev");
	const char *cost_text = args_text(args, "cost");
	struct rpc_addr parsed;
	uint64_t cost = 0;

	memset(ret, 0, sizeof(*ret));
	if (addr && !rpc_addr_parse(addr, strlen(addr), &parsed))
		return ctl_say(ctl, CTL_USAGE,
			       "--addr takes an IP address such as 192.0.2.7 or 2001:db8::7, not \"%s\"", addr);
	if (min_rev && !text_number(min_rev, INT64_MAX, &ret->min_rev))
		return ctl_say(ctl, CTL_USAGE,
			       "--min-rev takes a revision, a number that a change returned, not \"%s\"", min_rev);
	if (cost_text && (!text_number(cost_text, RPC_COST_MAX, &cost) || cost == 0))
		return ctl_say(ctl, CTL_USAGE, "--cost takes a number from 1 to %d, not \"%s\"", RPC_COST_MAX,
			       cost_text);
	ret->org = context_text(args_text(args, "org"));
	ret->stack = context_text(args_text(args, "stack"));
	ret->addr = context_text(addr);
	ret->cost = (uint32_t)cost;
	ret->deadline_ms = ctl->timeout_ms;
	return CTL_DONE;
}
