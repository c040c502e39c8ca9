/*
 * One generic call to any of the daemon's sockets, check or administration: what apikeyctl is made
 * of.
 *
 * Owns one connection. Not for threads: one call at a time. It connects at the first call_run, and
 * again after one that failed. Whether a call that failed after it was sent took effect is not
 * known: nothing is sent twice here, unlike checks, which are safe to repeat. A new connection begins with hello.
 *
 * Inside apikey_static only; the shared library does not export it.
 */
#ifndef APIKEY_LIBAPIKEY_CALL_H
#define APIKEY_LIBAPIKEY_CALL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/un.h>

#include "client/libapikey/wire.h"
#include "proto/rpc.h"
#include "proto/value.h"

struct call {
	struct wire wire;
	struct sockaddr_un address;
	const char *client; /* the name that hello tells; call_open sets one, the caller may set another */
	uint32_t msgid;
	bool asked; /* the last question was sent, or some of it: after a failure, whether it took effect is not known */
};

/* Remembers where to connect; touches nothing. 0, -EINVAL (empty path) or -ENAMETOOLONG. */
int call_open(struct call *call, const char *path);
void call_close(struct call *call); /* after a failed call_open too, and for a zeroed struct */

/*
 * Sends [0, msgid, method, [params]] (no params: []) and waits for the answer, `timeout_ms` for all
 * of it. Returns 0 when an answer came: look at ret->error.code (RPC_OK: ret->result is there).
 * Everything in *ret lives in `arena`; arena_clear wipes it, which an answer with a minted key
 * needs. Otherwise a negative errno with *ret zeroed, and call_error says more: -ENOENT and
 * -ECONNREFUSED (nobody listens there), -EACCES, -ETIMEDOUT, -ECONNRESET (the daemon closed),
 * -EPROTO (it answered nonsense), -EBUSY (a limit of the daemon was passed, and it closed),
 * -ENOMEM, -EINVAL.
 */
int call_run(struct call *call, const char *method, const struct value *params, int timeout_ms, struct arena *arena,
	     struct rpc_reply *ret);

/*
 * The same for a question that is already written (rpc_put_check and its like) with the msgid that
 * call_next_id gave: `encoded` is taken over, wiped and left empty, whatever the outcome.
 */
uint32_t call_next_id(struct call *call);
int call_send(struct call *call, struct rpc_buffer *encoded, uint32_t msgid, int64_t deadline, struct arena *arena,
	      struct rpc_reply *ret);

/* One line about this thread's last failure here, such as "connect to /run/…: Connection refused".
 * Never NULL. */
const char *call_error(void);

#endif
