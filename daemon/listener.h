/*
 * One listening socket: made, owned and closed to strangers before anybody can connect, and taken away at the end; or
 * adopted from the service manager, and left to it at the end.
 *
 * Owns the descriptor, the socket's path as long as it is ours, and a lock beside it (<path>.lock) against a second
 * daemon. Who calls it: listeners.c.
 *
 * Always holds: what stands at the path and is not a dead socket is never touched; a live daemon's socket stays its; of
 * an adopted one nothing but the queue is ever touched, and who stands in it at the end waits for the next daemon.
 */
#ifndef APIKEYD_DAEMON_LISTENER_H
#define APIKEYD_DAEMON_LISTENER_H

#include <stdbool.h>
#include <sys/types.h>
#include <uv.h>

#include "daemon/config.h"

/* A connection: non-blocking, close-on-exec, the callee's. */
typedef void (*listener_accepted)(void *data, int fd);

struct listener {
	int fd; /* -1: none */
	int lock;
	char *path, *lock_path;
	dev_t device; /* of what we made at `path` */
	ino_t inode;
	uv_poll_t poll;
	uv_timer_t pause; /* out of descriptors: a moment without accepting */
	bool started, adopted;
	listener_accepted accepted;
	void *data;
};

/*
 * Would listener_open go well, as far as can be told without doing it? 0, or -EINVAL with a line in `error`. A line names
 * the file, the line, the setting and its value, and what to do. `socket` is the section's, of that configuration.
 */
int listener_check(const struct config *config, const char *section, const struct config_socket *socket, char *error,
		   size_t error_size);

/* Makes the socket and listens. 0, or -errno with one line in `error` and nothing left behind. */
int listener_open(struct listener *listener, const struct config *config, const char *section,
		  const struct config_socket *socket, char *error, size_t error_size);
/* Takes over one that listens at `path`. 0, or -errno with one line in `error`, and `fd` is left. */
int listener_adopt(struct listener *listener, int fd, const char *path, char *error, size_t error_size);
/* Begins to accept from a listening descriptor, which is non-blocking. 0, or -errno. */
int listener_start(struct listener *listener, uv_loop_t *loop, listener_accepted accepted, void *data);
/* After listener_start: leaves who comes in the queue, until it is let go on. Both are fine twice. */
void listener_hold(struct listener *listener);
void listener_go_on(struct listener *listener);
/* Accepts what has connected already (not where it was adopted), then ends it all; handles close as the loop runs on. */
void listener_stop(struct listener *listener);

#endif
