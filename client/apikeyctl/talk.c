#include "client/apikeyctl/talk.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum {
	TALK_CHECK_MS = 5000,
	TALK_ADMIN_MS = 30000,
	/* The daemon answers `timeout` or `behind` at the deadline that it was told; that answer is worth waiting for. */
	TALK_GRACE_MS = 1000,
};

static const char *talk_path(const struct talk *talk)
{
	return talk->socket == TALK_ADMIN ? talk->ctl->admin_socket : talk->ctl->check_socket;
}

static const char *talk_option(const struct talk *talk)
{
	return talk->socket == TALK_ADMIN ? "--admin-socket or APIKEYD_ADMIN_SOCKET" : "--socket or APIKEYD_SOCKET";
}

static int talk_wait_ms(const struct talk *talk)
{
	if (talk->ctl->timeout_ms)
		return (int)talk->ctl->timeout_ms + TALK_GRACE_MS;
	return talk->socket == TALK_ADMIN ? TALK_ADMIN_MS : TALK_CHECK_MS;
}

int talk_open(struct talk *talk, const struct ctl *ctl, enum talk_socket socket)
{
	*talk = (struct talk){.ctl = ctl, .socket = socket};
	if (call_open(&talk->call, talk_path(talk)) != 0)
		return ctl_say(ctl, CTL_USAGE, "\"%s\" is no path of a socket (at most 107 bytes): see %s",
			       talk_path(talk), talk_option(talk));
	talk->call.client = "apikeyctl";
	return CTL_DONE;
}

void talk_close(struct talk *talk)
{
	call_close(&talk->call);
	arena_clear(&talk->arena);
}

/* No answer came. */
static int talk_failed(const struct talk *talk, int err)
{
	const struct ctl *ctl = talk->ctl;
	const char *path = talk_path(talk);
	const char *unknown = talk->socket == TALK_ADMIN && talk->call.asked
				      ? "; whether the request was done is not known, so look before "
					"you repeat it"
				      : "";

	switch (err) {
	case -ENOENT:
		return ctl_say(ctl, CTL_UNAVAILABLE,
			       "there is no daemon at %s: start apikeyd, or name its socket with %s", path,
			       talk_option(talk));
	case -ECONNREFUSED:
		return ctl_say(ctl, CTL_UNAVAILABLE, "nobody listens at %s: the daemon has ended; start apikeyd", path);
	case -EACCES:
	case -EPERM:
		return ctl_say(ctl, CTL_UNAVAILABLE,
			       "user %ld may not connect to %s: run as its owner or join its group (ls -l %s)",
			       (long)geteuid(), path, path);
	case -ETIMEDOUT:
		return ctl_say(ctl, CTL_UNAVAILABLE, "the daemon at %s did not answer within %d ms (--timeout)%s", path,
			       talk_wait_ms(talk), unknown);
	case -ECONNRESET:
	case -EPIPE:
		return ctl_say(
			ctl, CTL_UNAVAILABLE,
			"the daemon at %s closed the connection: its log says why (a user that it does not serve, or "
			"a stop)%s",
			path, unknown);
	case -ENOMEM:
		return ctl_no_memory(ctl);
	default:
		return ctl_say(ctl, CTL_UNAVAILABLE, "%s: %s%s", path, call_error(), unknown);
	}
}

/* An answer came, and it is an error. */
static int talk_refused(const struct talk *talk, const struct rpc_error *error)
{
	const struct ctl *ctl = talk->ctl;

	switch (error->code) {
	case RPC_UNAVAILABLE:
	case RPC_INTERNAL:
		return ctl_say(ctl, CTL_UNAVAILABLE, "%s (%s)", error->message, rpc_error_word(error->code));
	case RPC_UNKNOWN_METHOD:
		return ctl_say(
			ctl, CTL_REFUSED,
			"the daemon at %s does not know this request: it is older than this apikeyctl, or that is "
			"not its %s socket (%s)",
			talk_path(talk), talk->socket == TALK_ADMIN ? "administration" : "check", error->message);
	default:
		return ctl_say(ctl, CTL_REFUSED, "%s (%s)", error->message, rpc_error_word(error->code));
	}
}

static int talk_reply(struct talk *talk, int err, const struct rpc_reply *reply, const struct value **ret)
{
	struct value *kept;

	if (err)
		return talk_failed(talk, err);
	if (reply->error.code != RPC_OK)
		return talk_refused(talk, &reply->error);
	/* The tree lives in the arena; its root stood in the reply. */
	kept = arena_alloc(&talk->arena, sizeof(*kept));
	if (!kept)
		return ctl_no_memory(talk->ctl);
	*kept = reply->result;
	*ret = kept;
	return CTL_DONE;
}

int talk_run(struct talk *talk, const char *method, const struct value *params, const struct value **ret)
{
	struct rpc_reply reply;
	int err;

	arena_clear(&talk->arena);
	err = call_run(&talk->call, method, params, talk_wait_ms(talk), &talk->arena, &reply);
	return talk_reply(talk, err, &reply, ret);
}

int talk_try(struct talk *talk, const char *method, const struct value *params, int timeout_ms,
	     const struct value **ret, char why[TALK_WHY_SIZE])
{
	struct rpc_reply reply;
	int err;

	arena_clear(&talk->arena);
	why[0] = '\0';
	err = call_run(&talk->call, method, params, timeout_ms, &talk->arena, &reply);
	if (!talk->answered && (err == -ENOENT || err == -ECONNREFUSED || err == -EACCES || err == -EPERM))
		return talk_failed(talk, err);
	talk->answered = true;
	if (err && err != -ENOMEM) {
		snprintf(why, TALK_WHY_SIZE, "%s: %s", talk_path(talk), call_error());
		return CTL_UNAVAILABLE;
	}
	if (!err && (reply.error.code == RPC_UNAVAILABLE || reply.error.code == RPC_LIMIT)) {
		snprintf(why, TALK_WHY_SIZE, "%s", reply.error.message);
		return CTL_UNAVAILABLE;
	}
	return talk_reply(talk, err, &reply, ret);
}

int talk_send(struct talk *talk, struct rpc_buffer *encoded, uint32_t msgid, const struct value **ret)
{
	struct rpc_reply reply;
	int err;

	arena_clear(&talk->arena);
	err = call_send(&talk->call, encoded, msgid, wire_now_ms() + talk_wait_ms(talk), &talk->arena, &reply);
	return talk_reply(talk, err, &reply, ret);
}

int talk_admin(struct talk *talk, const struct ctl *ctl, const char *method, const struct value *params,
	       const struct value **ret)
{
	int code = talk_open(talk, ctl, TALK_ADMIN);

	return code ? code : talk_run(talk, method, params, ret);
}
