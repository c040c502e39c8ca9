/* Verifying: the daemon's copy against the database. Changes nothing; the feed does the work. */
#include "daemon/admin/table.h"
#include "daemon/log.h"

static const struct admin_param no_params[] = {ADMIN_PARAM_END};

static bool show(struct admin_request *request, struct value *ret, struct rpc_error *error)
{
	if (feed_verify_show(request->admin->feed, &request->arena, ret))
		return true;
	admin_error(error, RPC_INTERNAL, "out of memory");
	return false;
}

static bool start(struct admin_request *request, struct value *ret, struct rpc_error *error)
{
	if (!feed_verify_start(request->admin->feed)) {
		admin_error(error, RPC_UNAVAILABLE, "there is no copy yet: nothing was ever loaded");
		return false;
	}
	log_info("%s by %s", request->method->name, request->actor);
	return show(request, ret, error);
}

const struct admin_method admin_verify_copy_methods[] = {
	{.name = "verify_copy_start",
	 .help = "begins to compare all of the daemon's copy with the database, or joins the pass that goes on",
	 .params = no_params,
	 .noun = "pass",
	 .local = start},
	{.name = "verify_copy_show",
	 .help = "how far the last pass that was asked for has come, and what it found",
	 .params = no_params,
	 .noun = "pass",
	 .local = show},
	{.name = NULL},
};
