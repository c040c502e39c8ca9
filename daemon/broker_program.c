/* One program: may it be started, and starting it. In the broker's process. */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/broker_internal.h"
#include "daemon/trusted.h"

enum { EXEC_MS = BROKER_RUN_MS * 3 / 4, EXIT_CANNOT = 127 };

static const char *const environment[] = {
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	"LANG=C.UTF-8",
	NULL,
};

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

/* In the new process: all that it has of us is its standard error. Returns only where the program cannot be started. */
static void become(const char *const *argv, int socket, pid_t broker)
{
	sigset_t none;

	setsid();
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != broker)
		return;
	if (dup2(socket, STDIN_FILENO) < 0 || dup2(socket, STDOUT_FILENO) < 0 || chdir("/") != 0)
		return;
	/* All of the broker's are close-on-exec; this is for those that it does not know of. */
	close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC);
	for (int number = 1; number < NSIG; number++)
		signal(number, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execve(argv[0], (char *const *)(uintptr_t)argv, (char *const *)(uintptr_t)environment);
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
	if (pid == 0) {
		become(argv, socket, broker);
		rc = errno;
		if (write(result[1], &rc, sizeof(rc)) < 0)
			_exit(EXIT_CANNOT);
		_exit(EXIT_CANNOT);
	}
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

int broker_spawn(const char *const *argv, pid_t *ret_pid, int *ret_fd, int *ret_kept)
{
	int pair[2], rc;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
		return -errno;
	rc = fcntl(pair[0], F_SETFL, O_RDWR | O_NONBLOCK) != 0 ? -errno : start(argv, pair[1], ret_pid);
	if (rc != 0) {
		close(pair[0]);
		close(pair[1]);
		return rc;
	}
	*ret_fd = pair[0];
	*ret_kept = pair[1];
	return 0;
}
