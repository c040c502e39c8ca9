#include "client/libapikey/hello.h"

#include <errno.h>
#include <string.h>

#include "client/libapikey/answer.h"
#include "client/libapikey/error.h"
#include "proto/value.h"

void hello_put(struct rpc_buffer *out, uint32_t msgid, const char *client)
{
	struct rpc_text name = {client, (uint32_t)strlen(client)};
	struct rpc_text version = {APIKEYD_VERSION, sizeof(APIKEYD_VERSION) - 1};

	rpc_put_hello(out, msgid, name, version);
}

int hello_read(const struct rpc_reply *reply, uint32_t *ret_in_flight)
{
	const struct value *limits = value_get(&reply->result, "limits");
	uint64_t protocol = value_as_uint(value_get(&reply->result, "protocol"), 0);
	uint64_t in_flight = value_as_uint(value_get(limits, "in_flight"), 0);

	if (reply->error.code == RPC_UNKNOWN_METHOD)
		return error_set(-EPROTONOSUPPORT, "what listens there is no apikeyd: it knows no hello");
	if (reply->error.code != RPC_OK)
		return answer_error(reply);
	if (protocol == 0)
		return error_set(-EPROTO, "the daemon's hello names no protocol");
	if (protocol != RPC_PROTOCOL)
		return error_set(-EPROTONOSUPPORT,
				 "the daemon speaks version %llu of the protocol, this library version %d",
				 (unsigned long long)protocol, RPC_PROTOCOL);
	*ret_in_flight = in_flight > UINT32_MAX ? UINT32_MAX : (uint32_t)in_flight;
	return 0;
}
