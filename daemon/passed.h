/*
 * Listening sockets that the service manager made and passed (socket activation): each under the name of the section of
 * apikeyd.conf whose socket it is, as FileDescriptorName= has it: `socket`, `socket NAME` or `admin`.
 *
 * Owns nothing: the descriptors are the service manager's sockets, and the listeners that take them close them. Who calls
 * it: main.c takes them from the environment; listeners.c finds each section's.
 *
 * Always holds: each is a stream socket in the Unix domain that listens at a path, and no two have one name; they and
 * the environment's word of them are not handed on to programs.
 */
#ifndef APIKEYD_DAEMON_PASSED_H
#define APIKEYD_DAEMON_PASSED_H

#include <stddef.h>
#include <sys/un.h>

#include "daemon/config.h"

struct passed_socket {
	int fd;
	char name[CONFIG_SECTION_SIZE];
	char path[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];
};

/* Zeroed: none. */
struct passed {
	struct passed_socket sockets[1 + CONFIG_SOCKETS_MAX + 1];
	unsigned count;
};

/*
 * Takes what the environment tells of (LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES), which it forgets. 0, also where that is
 * none; or -EINVAL with one line in `error`: one of them is not what it should be.
 */
int passed_take(struct passed *passed, char *error, size_t error_size);

/* Adds one. 0, or -EINVAL with one line in `error`. */
int passed_add(struct passed *passed, int fd, const char *name, char *error, size_t error_size);

/* NULL: none has that section's name. NULL for `passed` is fine. */
const struct passed_socket *passed_find(const struct passed *passed, const char *section);

#endif
