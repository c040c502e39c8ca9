/* The daemon's end: the fork, and questions to the broker, each with a deadline. */
#include "daemon/broker.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/broker_internal.h"

enum { END_MS = 4 * BROKER_GRACE_MS, LOOK_MS = 2 };

struct broker {
	int control; /* -1: the broker has ended */
	pid_t pid;
	uint32_t serial;
	bool sealed;
};

/* ---- life ---- */

int broker_start(struct broker **ret, char *error, size_t error_size)
{
	struct broker *broker = calloc(1, sizeof(*broker));
	pid_t daemon = getpid();
	int pair[2], rc;

	if (!broker || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
		rc = broker ? -errno : -ENOMEM;
		snprintf(error, error_size, "broker: %s", strerror(-rc));
		free(broker);
		return rc;
	}
	broker->pid = fork();
	if (broker->pid == 0) {
		close(pair[0]);
		broker_process(pair[1], daemon);
	}
	rc = broker->pid < 0 ? -errno : 0;
	close(pair[1]);
	broker->control = pair[0];
	if (rc != 0) {
		snprintf(error, error_size, "broker: %s", strerror(-rc));
		close(pair[0]);
		free(broker);
		return rc;
	}
	*ret = broker;
	return 0;
}

/* The closed socket tells it to end; where it does not in time, its programs go with it all the same. */
static void end(struct broker *broker)
{
	const struct timespec moment = {.tv_nsec = LOOK_MS * 1000000L};
	int64_t until = broker_now_ms() + END_MS;

	if (broker->control < 0)
		return;
	close(broker->control);
	broker->control = -1;
	while (waitpid(broker->pid, NULL, WNOHANG) == 0) {
		if (broker_now_ms() < until) {
			nanosleep(&moment, NULL);
			continue;
		}
		kill(broker->pid, SIGKILL);
		waitpid(broker->pid, NULL, 0);
		break;
	}
	broker->pid = 0;
}

void broker_free(struct broker *broker)
{
	if (!broker)
		return;
	end(broker);
	free(broker);
}

pid_t broker_pid(const struct broker *broker)
{
	return broker->pid;
}

/* ---- questions ---- */

/* Takes one answer from the socket, with the descriptor that came with it, or -1. The length, 0 at the end, or -errno. */
static ssize_t take(int control, struct broker_answer *answer, int *ret_fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr header;
	} room;
	struct iovec iov = {.iov_base = answer, .iov_len = sizeof(*answer)};
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = room.bytes, .msg_controllen = sizeof(room.bytes)};
	struct cmsghdr *header;
	ssize_t len = recvmsg(control, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	*ret_fd = -1;
	if (len < 0)
		return -errno;
	header = CMSG_FIRSTHDR(&message);
	if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
	    header->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(ret_fd, CMSG_DATA(header), sizeof(int));
	return len;
}

/* The answer to this question; one that comes too late for its own is dropped, and its program with it. */
static int wait_for(struct broker *broker, uint32_t serial, int64_t until, struct broker_answer *answer, int *ret_fd)
{
	for (;;) {
		struct pollfd ready = {.fd = broker->control, .events = POLLIN};
		int64_t left = until - broker_now_ms();
		ssize_t len;
		int fd;

		if (left <= 0)
			return -ETIMEDOUT;
		if (poll(&ready, 1, (int)left) <= 0)
			continue;
		len = take(broker->control, answer, &fd);
		if (len == -EAGAIN || len == -EINTR)
			continue;
		if (len == (ssize_t)sizeof(*answer) && answer->serial == serial) {
			*ret_fd = fd;
			return answer->rc;
		}
		if (fd >= 0)
			close(fd);
		if (len <= 0)
			return len == 0 || len == -ECONNRESET ? -EPIPE : (int)len;
	}
}

static int ask(struct broker *broker, struct broker_question *question, int64_t ms, struct broker_answer *answer,
	       int *ret_fd, char *error, size_t error_size)
{
	size_t len = offsetof(struct broker_question, argv) + question->argv_len;
	int rc = -EPIPE;

	question->serial = ++broker->serial;
	if (broker->control >= 0 && send(broker->control, question, len, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)len)
		rc = wait_for(broker, question->serial, broker_now_ms() + ms, answer, ret_fd);
	else if (broker->control >= 0)
		rc = errno == EAGAIN ? -ETIMEDOUT : -errno;
	if (rc == -ECONNRESET)
		rc = -EPIPE;
	if (rc == -EPIPE)
		snprintf(error, error_size, "the process that starts programs is gone; restart apikeyd");
	else if (rc == -ETIMEDOUT && !answer->error[0])
		snprintf(error, error_size, "the process that starts programs did not answer in %lld ms",
			 (long long)ms);
	else if (rc != 0)
		snprintf(error, error_size, "%s", answer->error[0] ? answer->error : strerror(-rc));
	return rc;
}

static int put_argv(struct broker_question *question, const char *const *argv, char *error, size_t error_size)
{
	unsigned count = 0;

	for (; argv[count]; count++) {
		size_t len = strlen(argv[count]) + 1;

		if (count == BROKER_ARGUMENTS_MAX || len > BROKER_ARGV_MAX - question->argv_len) {
			snprintf(error, error_size, "%s: has too many arguments: at most %d, of %d bytes in all",
				 argv[0], BROKER_ARGUMENTS_MAX, BROKER_ARGV_MAX);
			return -E2BIG;
		}
		memcpy(question->argv + question->argv_len, argv[count], len);
		question->argv_len += (uint32_t)len;
	}
	if (count == 0) {
		snprintf(error, error_size, "a program needs a path");
		return -EINVAL;
	}
	return 0;
}

static int is_sealed(const char *name, char *error, size_t error_size)
{
	snprintf(error, error_size, "%s: a new program takes a restart of apikeyd", name);
	return -EPERM;
}

int broker_register(struct broker *broker, const char *const *argv, uint32_t *ret_number, char *error,
		    size_t error_size)
{
	struct broker_question question = {.what = BROKER_REGISTER};
	struct broker_answer answer = {0};
	int fd, rc = put_argv(&question, argv, error, error_size);

	if (rc != 0)
		return rc;
	if (broker->sealed && broker->control < 0)
		return is_sealed(argv[0], error, error_size);
	rc = ask(broker, &question, BROKER_REGISTER_MS, &answer, &fd, error, error_size);
	if (rc == -EPERM && !answer.error[0])
		return is_sealed(argv[0], error, error_size);
	if (rc == 0)
		*ret_number = answer.number;
	return rc;
}

int broker_seal(struct broker *broker, char *error, size_t error_size)
{
	struct broker_question question = {.what = BROKER_SEAL};
	struct broker_answer answer = {0};
	int fd, rc;

	if (broker->sealed)
		return 0;
	rc = ask(broker, &question, BROKER_REGISTER_MS, &answer, &fd, error, error_size);
	if (rc != 0)
		return rc;
	broker->sealed = true;
	if (answer.number == 0)
		end(broker);
	return 0;
}

int broker_run(struct broker *broker, uint32_t number, int *ret_fd, char *error, size_t error_size)
{
	struct broker_question question = {.what = BROKER_RUN, .number = number};
	struct broker_answer answer = {0};
	int fd = -1, rc = ask(broker, &question, BROKER_RUN_MS, &answer, &fd, error, error_size);

	if (rc != 0)
		return rc;
	if (fd < 0) { /* no descriptor was free */
		snprintf(error, error_size, "%s", strerror(EMFILE));
		return -EMFILE;
	}
	*ret_fd = fd;
	return 0;
}
