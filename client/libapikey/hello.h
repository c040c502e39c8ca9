/*
 * The first exchange on each connection: says who asks, and makes sure that the daemon speaks the protocol that this
 * library reads, since a changed one might make an answer mean something else.
 */
#ifndef APIKEY_LIBAPIKEY_HELLO_H
#define APIKEY_LIBAPIKEY_HELLO_H

#include <stdint.h>

#include "proto/rpc.h"

void hello_put(struct rpc_buffer *out, uint32_t msgid, const char *client);

/*
 * Reads its answer. 0 with *ret_in_flight set to how many requests the daemon takes at once on a connection (0: it
 * does not say); or -EPROTONOSUPPORT, -EPROTO, -EBUSY and so on with error.h's line set.
 */
int hello_read(const struct rpc_reply *reply, uint32_t *ret_in_flight);

#endif
