/* Lost history: what is kept denied since, and that an administrator accepts it. The feed and its journal do the work. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/admin/table.h"
#include "daemon/log.h"

enum { AFTER = 0, LIMIT };
enum { LOSS = 0 };

static bool fits_place(const char *text, size_t len)
{
	return len > 0 && len <= 9 && strspn(text, "0123456789") == len;
}

static const struct admin_param show_params[] = {
	[AFTER] = {"after", ADMIN_TEXT, false, fits_place, "what `next` said", 0, 0, NULL},
	[LIMIT] = ADMIN_PARAM_LIMIT,
	ADMIN_PARAM_END,
};
static const struct admin_param accept_params[] = {
	[LOSS] = {"loss", ADMIN_INT, true, NULL, "`loss` as history_show answered it", 1, INT64_MAX, NULL},
	ADMIN_PARAM_END,
};

static bool show_from(struct admin_request *request, uint32_t after, struct value *ret, struct rpc_error *error)
{
	if (feed_history_show(request->admin->feed, &request->arena, ret, after, request->limit))
		return true;
	admin_error(error, RPC_INTERNAL, "out of memory");
	return false;
}

static bool show(struct admin_request *request, struct value *ret, struct rpc_error *error)
{
	const char *after = request->params[AFTER];

	return show_from(request, after ? (uint32_t)strtoul(after, NULL, 10) : 0, ret, error);
}

static bool accept_loss(struct admin_request *request, struct value *ret, struct rpc_error *error)
{
	int r = feed_history_accept(request->admin->feed, strtoll(request->params[LOSS], NULL, 10), request->uid);

	if (r == 0)
		log_warning("%s by %s", request->method->name, request->actor);
	else if (r == -ENOENT)
		admin_error(error, RPC_NOT_FOUND, "no history is lost, or it was accepted already");
	else if (r == -ESTALE)
		admin_error(error, RPC_REFUSED,
			    "that is not the loss that there is now: history was lost again; look at it first "
			    "(history_show)");
	else
		admin_error(error, RPC_UNAVAILABLE, "a load is being looked at for what it has lost: try again");
	return r == 0 && show_from(request, 0, ret, error);
}

const struct admin_method admin_history_methods[] = {
	{.name = "history_show",
	 .help = "whether the database has lost history, and which keys are kept denied since",
	 .params = show_params,
	 .noun = "loss",
	 .local = show},
	{.name = "history_accept",
	 .help = "accepts the history that there is: keys that were kept denied are as the database says",
	 .params = accept_params,
	 .noun = "loss",
	 .local = accept_loss},
	{.name = NULL},
};
