#include "client/apikeyctl/program.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/libapikey/wire.h"

enum { PROGRAM_SAID_MAX = 1 << 20 };

/* Starts it with both streams in one pipe. 0 or -errno. */
static int program_start(char *const argv[], pid_t *ret_pid, int *ret_fd)
{
	posix_spawn_file_actions_t actions;
	int ends[2], r;

	if (pipe2(ends, O_CLOEXEC) != 0)
		return -errno;
	r = posix_spawn_file_actions_init(&actions);
	if (r == 0) {
		r = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
		if (r == 0)
			r = posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
		if (r == 0)
			r = posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
		if (r == 0)
			r = posix_spawnp(ret_pid, argv[0], &actions, NULL, argv, environ);
		posix_spawn_file_actions_destroy(&actions);
	}
	close(ends[1]);
	if (r != 0)
		close(ends[0]);
	else
		*ret_fd = ends[0];
	return -r;
}

/* All that it says until it ends, or the time does. 0 or -errno. */
static int program_listen(int fd, char **ret)
{
	int64_t deadline = wire_now_ms() + PROGRAM_MS;
	size_t len = 0, room = 0;
	char *text = NULL;
	int r = 0;

	for (;;) {
		struct pollfd watched = {.fd = fd, .events = POLLIN};
		int64_t left = deadline - wire_now_ms();
		ssize_t got;

		if (len + 1 >= room) {
			char *grown = len < PROGRAM_SAID_MAX ? realloc(text, room + 4096) : NULL;

			if (!grown) {
				r = -ENOMEM;
				break;
			}
			text = grown;
			room += 4096;
		}
		if (left <= 0 || (poll(&watched, 1, (int)left) == 0)) {
			r = -ETIMEDOUT;
			break;
		}
		got = read(fd, text + len, room - len - 1);
		if (got == 0)
			break;
		if (got < 0 && errno != EINTR) {
			r = -errno;
			break;
		}
		len += got > 0 ? (size_t)got : 0;
	}
	while (text && len > 0 && (text[len - 1] == '\n' || text[len - 1] == ' '))
		len--;
	if (text)
		text[len] = '\0';
	*ret = text;
	return r;
}

int program_run(char *const argv[], char **ret_said)
{
	int fd = -1, status = 0, r;
	pid_t pid = 0;

	*ret_said = NULL;
	fflush(NULL);
	r = program_start(argv, &pid, &fd);
	if (r != 0)
		return r;
	r = program_listen(fd, ret_said);
	close(fd);
	if (r != 0)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (r == 0 && !WIFEXITED(status))
		r = -EPIPE;
	if (r != 0) {
		free(*ret_said);
		*ret_said = NULL;
		return r;
	}
	return WEXITSTATUS(status);
}

const char *program_beside(const char *relative, const char *installed, char *out, unsigned size)
{
	static const char build[] = APIKEYCTL_BUILD_DIR "/";
	char self[4096];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self));
	bool is_build = len > (ssize_t)strlen(build) && memcmp(self, build, strlen(build)) == 0;

	if (is_build)
		snprintf(out, size, "%s%s", build, relative);
	else
		snprintf(out, size, "%s", installed);
	return out;
}
