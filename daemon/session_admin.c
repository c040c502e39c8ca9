/* Administrative requests: started here, answered when the database has spoken. */
#include "daemon/session_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct session_admin {
	struct sessions *all;
	struct session *session; /* NULL: gone */
	struct session_admin *prev, *next;
	uint32_t msgid;
};

static void on_done(void *data, const struct rpc_error *error, const struct value *result)
{
	struct session_admin *request = data;
	struct sessions *all = request->all;
	struct rpc_buffer out = {0};

	if (request->session) {
		request->session->owner.in_flight--;
		if (error->code == RPC_OK)
			rpc_put_result(&out, request->msgid, result);
		else
			rpc_put_error(&out, request->msgid, error);
		session_answer(&request->session->owner, &out);
		rpc_buffer_deinit(&out); /* wipes: it may be a minted key */
	}
	if (request->prev)
		request->prev->next = request->next;
	else
		all->admin_requests = request->next;
	if (request->next)
		request->next->prev = request->prev;
	free(request);
	sessions_flush(all);
	session_check_empty(all);
}

static void refuse(struct sessions *all, uint32_t msgid, enum rpc_error_code code, const char *message,
		   struct rpc_buffer *out)
{
	struct rpc_error error = {.code = code};

	snprintf(error.message, sizeof(error.message), "%s", message);
	all->counters.request_errors++;
	rpc_put_error(out, msgid, &error);
}

void session_admin_start(struct session *session, const struct rpc_request *rpc, struct rpc_buffer *out)
{
	struct sessions *all = session->all;
	struct session_admin *request;

	if (session->owner.in_flight >= all->config->in_flight_per_connection) {
		all->counters.limit_in_flight++;
		refuse(all, rpc->msgid, RPC_LIMIT, "too many requests in flight: limits.in_flight_per_connection", out);
		return;
	}
	if (all->stopping) {
		refuse(all, rpc->msgid, RPC_UNAVAILABLE, "apikeyd is stopping; nothing was changed", out);
		return;
	}
	request = calloc(1, sizeof(*request));
	if (!request) {
		refuse(all, rpc->msgid, RPC_INTERNAL, "no memory; nothing was changed", out);
		return;
	}
	request->all = all;
	request->session = session;
	request->msgid = rpc->msgid;
	if (admin_start(all->admin, all->loop, rpc, session->owner.uid, on_done, request) != 0) {
		free(request);
		refuse(all, rpc->msgid, RPC_INTERNAL, "no memory; nothing was changed", out);
		return;
	}
	session->owner.in_flight++;
	request->next = all->admin_requests;
	if (request->next)
		request->next->prev = request;
	all->admin_requests = request;
}

void session_admin_forget(struct session *session)
{
	if (session->service != RPC_SERVICE_ADMIN)
		return;
	for (struct session_admin *request = session->all->admin_requests; request; request = request->next) {
		if (request->session == session) {
			request->session = NULL;
			session->owner.in_flight--;
		}
	}
}
