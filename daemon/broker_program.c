/* One program: may it be started, and starting it. In the broker's process. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/broker_internal.h"
#include "daemon/trusted.h"

enum { EXEC_MS = BROKER_RUN_MS * 3 / 4 };

int broker_look(const char *const *argv, char *error, size_t error_size)
{
	int fd, rc = trusted_open(argv[0], TRUSTED_FILE, &fd, error, error_size);

	if (rc != 0)
		return rc;
	close(fd);
	if (faccessat(AT_FDCWD, argv[0], X_OK, AT_EACCESS) != 0) {
		rc = -errno;
		snprintf(error, error_size, "%s: %s", argv[0],
			 rc == -EACCES ? "is no program that can be run; run chmod +x on it" : strerror(-rc));
	}
	return rc;
}

/* What came of execve: the pipe closes where it succeeded. A path that hangs must not hang the broker. */
static int exec_result(int fd)
{
	struct pollfd ready = {.fd = fd, .events = POLLIN};
	int rc, number = 0;

	do {
		rc = poll(&ready, 1, EXEC_MS);
	} while (rc < 0 && errno == EINTR);
	if (rc <= 0)
		return -ETIMEDOUT;
	if (read(fd, &number, sizeof(number)) == (ssize_t)sizeof(number))
		return -number;
	return 0;
}

static int start(const char *const *argv, int socket, pid_t *ret_pid)
{
	pid_t broker = getpid(), pid;
	int result[2], rc;

	if (pipe2(result, O_CLOEXEC) != 0)
		return -errno;
	pid = fork();
	if (pid == 0)
		broker_keeper(argv, socket, result[1], broker);
	rc = pid < 0 ? -errno : 0;
	close(result[1]);
	if (rc == 0)
		rc = exec_result(result[0]);
	close(result[0]);
	if (rc != 0 && pid > 0) {
		kill(pid, SIGKILL);
		if (rc != -ETIMEDOUT) /* one that hangs is reaped when it comes to its end */
			waitpid(pid, NULL, 0);
	}
	*ret_pid = pid;
	return rc;
}

int broker_spawn(const char *const *argv, pid_t *ret_pid, int *ret_fd)
{
	int pair[2], rc;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
		return -errno;
	rc = fcntl(pair[0], F_SETFL, O_RDWR | O_NONBLOCK) != 0 ? -errno : start(argv, pair[1], ret_pid);
	close(pair[1]);
	if (rc != 0)
		close(pair[0]);
	else
		*ret_fd = pair[0];
	return rc;
}
