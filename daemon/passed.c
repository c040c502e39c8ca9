#include "daemon/passed.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FIRST = 3 }; /* descriptors from here on, by the service manager's contract */

static bool option_is(int fd, int option, int wanted)
{
	int value = -1;
	socklen_t len = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, option, &value, &len) == 0 && value == wanted;
}

/* What is wrong with it, or NULL with its path in `out`. */
static const char *fault_of(int fd, char out[sizeof(((struct passed_socket *)0)->path)])
{
	struct sockaddr_un address = {0};
	socklen_t len = sizeof(address);

	if (!option_is(fd, SO_DOMAIN, AF_UNIX))
		return "is no socket in the Unix domain; ListenStream= must be a path";
	if (!option_is(fd, SO_TYPE, SOCK_STREAM))
		return "is no stream socket; it takes ListenStream=";
	if (!option_is(fd, SO_ACCEPTCONN, 1))
		return "does not listen; it takes Accept=no";
	if (getsockname(fd, (struct sockaddr *)&address, &len) != 0)
		return "has no address";
	if (address.sun_path[0] != '/')
		return "has no path, which its permissions would be those of; ListenStream= must be a path";
	snprintf(out, sizeof(((struct passed_socket *)0)->path), "%.*s", (int)sizeof(address.sun_path),
		 address.sun_path);
	return NULL;
}

int passed_add(struct passed *passed, int fd, const char *name, char *error, size_t error_size)
{
	struct passed_socket *socket = &passed->sockets[passed->count];
	const char *fault;

	if (passed->count == sizeof(passed->sockets) / sizeof(passed->sockets[0])) {
		snprintf(error, error_size, "more than %u sockets were passed", passed->count);
		return -EINVAL;
	}
	if (strlen(name) >= sizeof(socket->name)) {
		snprintf(error, error_size, "passed socket %s: names no section of the configuration", name);
		return -EINVAL;
	}
	if (passed_find(passed, name)) {
		snprintf(error, error_size,
			 "passed socket %s: two have this name; FileDescriptorName= must name another section for each",
			 name);
		return -EINVAL;
	}
	fault = fault_of(fd, socket->path);
	if (fault) {
		snprintf(error, error_size, "passed socket %s: %s", name, fault);
		return -EINVAL;
	}
	socket->fd = fd;
	snprintf(socket->name, sizeof(socket->name), "%s", name);
	passed->count++;
	return 0;
}

const struct passed_socket *passed_find(const struct passed *passed, const char *section)
{
	for (unsigned i = 0; passed && i < passed->count; i++) {
		if (strcmp(passed->sockets[i].name, section) == 0)
			return &passed->sockets[i];
	}
	return NULL;
}

/* A whole number and nothing else; -1. */
static long number_of(const char *text)
{
	char *end;
	long number;

	if (!text || *text < '0' || *text > '9')
		return -1;
	errno = 0;
	number = strtol(text, &end, 10);
	return errno == 0 && *end == '\0' ? number : -1;
}

static int take_all(struct passed *passed, long count, char *names, char *error, size_t error_size)
{
	for (long i = 0; i < count; i++) {
		const char *name = names ? strsep(&names, ":") : NULL;
		int fd = FIRST + (int)i;

		if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
			snprintf(error, error_size, "passed socket %s: descriptor %d is not there", name ? name : "",
				 fd);
			return -EINVAL;
		}
		if (passed_add(passed, fd, name ? name : "unknown", error, error_size) != 0)
			return -EINVAL;
	}
	return 0;
}

int passed_take(struct passed *passed, char *error, size_t error_size)
{
	long count = number_of(getenv("LISTEN_FDS"));
	const char *told = getenv("LISTEN_FDNAMES");
	char *names = told ? strdup(told) : NULL;
	int rc = 0;

	*passed = (struct passed){0};
	if (told && !names) {
		snprintf(error, error_size, "no memory");
		return -ENOMEM;
	}
	if (count > 0 && number_of(getenv("LISTEN_PID")) == (long)getpid())
		rc = take_all(passed, count, names, error, error_size);
	free(names);
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	return rc;
}
