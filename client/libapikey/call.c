#include "client/libapikey/call.h"

#include <errno.h>
#include <string.h>

#include "client/libapikey/answer.h"
#include "client/libapikey/error.h"
#include "client/libapikey/hello.h"

int call_open(struct call *call, const char *path)
{
	*call = (struct call){0};
	wire_init(&call->wire);
	call->client = "libapikey";
	return wire_address(path, &call->address);
}

void call_close(struct call *call)
{
	if (call->address.sun_family) /* a zeroed struct would say descriptor 0 */
		wire_close(&call->wire);
	*call = (struct call){0};
}

uint32_t call_next_id(struct call *call)
{
	return ++call->msgid;
}

const char *call_error(void)
{
	return error_text();
}

/* Sends `encoded`, which is taken over, and waits for the answer to `msgid`. Anything else that comes is a fault. */
static int exchange(struct call *call, struct rpc_buffer *encoded, uint32_t msgid, int64_t deadline,
		    struct arena *arena, struct rpc_reply *ret)
{
	const uint8_t *message;
	size_t size;
	bool read;
	int r = encoded->failed ? error_set(-ENOMEM, "out of memory") : 0;

	if (!r)
		r = wire_append(&call->wire, encoded->data, encoded->len);
	rpc_buffer_deinit(encoded);
	if (!r)
		r = wire_send(&call->wire, deadline);
	/* A daemon that closed at once may have said why before it did. */
	if (!r || r == -ECONNRESET)
		r = wire_receive(&call->wire, deadline, &message, &size);
	if (r)
		return r;
	read = rpc_decode_reply(arena, message, size, ret);
	wire_consume(&call->wire, size);
	if (!read)
		return error_set(-EPROTO, "the daemon's answer is no MessagePack-RPC response");
	if (ret->notice)
		return answer_error(ret);
	if (ret->msgid != msgid)
		return error_set(-EPROTO, "the daemon answered question %u, which was not asked", ret->msgid);
	return 0;
}

static int connect_and_greet(struct call *call, int64_t deadline)
{
	struct rpc_buffer hello = {0};
	struct arena arena = {0};
	struct rpc_reply reply;
	uint32_t in_flight, msgid = call_next_id(call);
	int r = wire_connect(&call->wire, &call->address, deadline);

	if (r)
		return r;
	hello_put(&hello, msgid, call->client);
	r = exchange(call, &hello, msgid, deadline, &arena, &reply);
	if (!r)
		r = hello_read(&reply, &in_flight);
	arena_clear(&arena);
	return r;
}

int call_send(struct call *call, struct rpc_buffer *encoded, uint32_t msgid, int64_t deadline, struct arena *arena,
	      struct rpc_reply *ret)
{
	int r = 0;

	error_clear();
	*ret = (struct rpc_reply){0};
	call->asked = false;
	if (call->wire.fd < 0)
		r = connect_and_greet(call, deadline);
	call->asked = !r;
	if (!r)
		r = exchange(call, encoded, msgid, deadline, arena, ret);
	rpc_buffer_deinit(encoded);
	/* A late answer, or what came unasked behind this one, must never be taken for the next call's. */
	if (r || call->wire.in_len > 0)
		wire_close(&call->wire);
	if (r)
		*ret = (struct rpc_reply){0};
	return r;
}

int call_run(struct call *call, const char *method, const struct value *params, int timeout_ms, struct arena *arena,
	     struct rpc_reply *ret)
{
	struct rpc_buffer encoded = {0};
	uint32_t msgid = call_next_id(call);
	int64_t deadline = wire_now_ms() + timeout_ms;

	rpc_put_call(&encoded, msgid, method, params);
	return call_send(call, &encoded, msgid, deadline, arena, ret);
}
