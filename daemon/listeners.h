/*
 * All listening sockets of the daemon: the check sockets, and the administration socket; each made here, or the one that
 * the service manager passed for its section.
 *
 * Owns each listener, and the name of the stack that its socket is bound to. Who calls it: server.c.
 *
 * Always holds: either all sockets of a configuration are open or none is; what is open stays as it was made, whatever
 * a reload brings.
 */
#ifndef APIKEYD_DAEMON_LISTENERS_H
#define APIKEYD_DAEMON_LISTENERS_H

#include <uv.h>

#include "daemon/config.h"
#include "daemon/listener.h"
#include "daemon/passed.h"
#include "proto/rpc.h"

/*
 * A connection: non-blocking, close-on-exec, the callee's. `stack`: what the socket is bound to, NULL for nothing;
 * valid until listeners_deinit.
 */
typedef void (*listeners_accepted)(void *data, int fd, enum rpc_service service, const char *stack);
typedef void (*listeners_fault)(void *data, const char *line);

struct listeners_socket {
	struct listener listener;
	struct listeners *all;
	enum rpc_service service;
	char *stack; /* NULL: not bound */
};

/* Zeroed: none. */
struct listeners {
	struct listeners_socket sockets[1 + CONFIG_SOCKETS_MAX + 1]; /* the check sockets as configured, then [admin] */
	unsigned count;
	listeners_accepted accepted;
	void *data;
};

/*
 * Would listeners_open go well, as far as can be told without doing it? Each fault is told. `passed`: NULL for none, here
 * and below.
 */
void listeners_check(const struct config *config, const struct passed *passed, listeners_fault fault, void *data);
/* Makes the sockets that were not passed, and listens. 0, or -errno with one line in `error` and nothing left behind. */
int listeners_open(struct listeners *listeners, const struct config *config, const struct passed *passed, char *error,
		   size_t error_size);
/* Begins to accept. 0, or -errno. */
int listeners_start(struct listeners *listeners, uv_loop_t *loop, listeners_accepted accepted, void *data);
/*
 * After listeners_start: leaves who comes to a passed check socket in its queue, until they are let go on: there they
 * stood before the daemon did. False: there is no such socket.
 */
bool listeners_hold(struct listeners *listeners);
void listeners_go_on(struct listeners *listeners);
/* Accepts what has connected already to sockets of our own, then ends it all; handles close as the loop runs on. */
void listeners_stop(struct listeners *listeners);
/* When handles are closed and no connection knows its stack any more. */
void listeners_deinit(struct listeners *listeners);

#endif
