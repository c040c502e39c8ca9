/* The broker's process: takes questions, starts programs under keepers, and sees those end. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/broker_internal.h"

#define NAME "apikeyd-broker"

struct program {
	uint32_t argv_len;
	char *bytes;	   /* terminated texts, one after the other */
	const char **argv; /* into them; ends with NULL */
};

struct process {
	int control, signals;
	struct program programs[BROKER_PROGRAMS_MAX];
	uint32_t program_count;
	bool sealed, stopping;
	pid_t running[BROKER_RUNNING_MAX]; /* the keepers of programs */
	uint32_t running_count;
};

/* ---- programs ---- */

static bool make_argv(struct program *program)
{
	unsigned count = 0;

	for (uint32_t at = 0; at < program->argv_len; at += (uint32_t)strlen(program->bytes + at) + 1)
		count++;
	program->argv = calloc(count + 1, sizeof(*program->argv));
	if (!program->argv)
		return false;
	count = 0;
	for (uint32_t at = 0; at < program->argv_len; at += (uint32_t)strlen(program->bytes + at) + 1)
		program->argv[count++] = program->bytes + at;
	return true;
}

static int register_program(struct process *process, const struct broker_question *question,
			    struct broker_answer *answer)
{
	struct program program = {.argv_len = question->argv_len};
	int rc;

	if (question->argv_len == 0 || question->argv[question->argv_len - 1] != '\0')
		return -EINVAL;
	for (uint32_t i = 0; i < process->program_count; i++) {
		answer->number = i;
		if (process->programs[i].argv_len == question->argv_len &&
		    memcmp(process->programs[i].bytes, question->argv, question->argv_len) == 0)
			return 0;
	}
	if (process->sealed)
		return -EPERM;
	if (process->program_count == BROKER_PROGRAMS_MAX) {
		snprintf(answer->error, sizeof(answer->error), "%s: there are %d programs already", question->argv,
			 BROKER_PROGRAMS_MAX);
		return -ENOSPC;
	}
	program.bytes = malloc(question->argv_len);
	rc = program.bytes ? 0 : -ENOMEM;
	if (rc == 0) {
		memcpy(program.bytes, question->argv, question->argv_len);
		rc = make_argv(&program) ? broker_look(program.argv, answer->error, sizeof(answer->error)) : -ENOMEM;
	}
	if (rc != 0) {
		free(program.bytes);
		free(program.argv);
		return rc;
	}
	answer->number = process->program_count;
	process->programs[process->program_count++] = program;
	return 0;
}

static int run_program(struct process *process, uint32_t number, struct broker_answer *answer, int *ret_fd)
{
	const struct program *program;
	int rc;

	if (number >= process->program_count)
		return -ENOENT;
	program = &process->programs[number];
	if (process->running_count == BROKER_RUNNING_MAX) {
		snprintf(answer->error, sizeof(answer->error), "%s: %d programs run already", program->argv[0],
			 BROKER_RUNNING_MAX);
		return -EAGAIN;
	}
	rc = broker_look(program->argv, answer->error, sizeof(answer->error));
	if (rc != 0)
		return rc;
	rc = broker_spawn(program->argv, &process->running[process->running_count], ret_fd);
	if (rc != 0)
		snprintf(answer->error, sizeof(answer->error), "%s: %s", program->argv[0], strerror(-rc));
	else
		process->running_count++;
	return rc;
}

/* ---- their end ---- */

static bool is_keeper(const struct process *process, pid_t pid)
{
	for (uint32_t i = 0; i < process->running_count; i++) {
		if (process->running[i] == pid)
			return true;
	}
	return false;
}

/* What a keeper that did not come to its own end has left behind. */
static void kill_strays(const struct process *process)
{
	pid_t pids[BROKER_CHILDREN_MAX];
	unsigned count = broker_children(pids);

	for (unsigned i = 0; i < count; i++) {
		if (!is_keeper(process, pids[i]))
			kill(pids[i], SIGKILL);
	}
}

/* Who has ended. Any that is no keeper is a stray, and may leave others to us, as a keeper may that was killed. */
static void reap(struct process *process)
{
	bool astray = false;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		astray |= status != 0 || !is_keeper(process, pid);
		for (uint32_t i = 0; i < process->running_count; i++) {
			if (process->running[i] == pid)
				process->running[i] = process->running[--process->running_count];
		}
	}
	if (astray)
		kill_strays(process);
}

static void stop(struct process *process)
{
	process->stopping = true;
	close(process->control);
	process->control = -1;
	for (uint32_t i = 0; i < process->running_count; i++)
		kill(process->running[i], SIGUSR1);
}

/* ---- the socket ---- */

static void send_answer(const struct process *process, const struct broker_answer *answer, int fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr header;
	} room = {{0}};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)answer, .iov_len = sizeof(*answer)};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};

	if (fd >= 0) {
		struct cmsghdr *header;

		message.msg_control = room.bytes;
		message.msg_controllen = sizeof(room.bytes);
		header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(header), &fd, sizeof(int));
	}
	/* Where it cannot be sent the daemon's end is closed here, and the program sees that. */
	while (sendmsg(process->control, &message, MSG_NOSIGNAL) < 0 && errno == EINTR)
		;
	if (fd >= 0)
		close(fd);
}

static void take_question(struct process *process)
{
	static struct broker_question question;
	struct broker_answer answer = {0};
	ssize_t len = recv(process->control, &question, sizeof(question), MSG_DONTWAIT);
	int fd = -1;

	if (len == 0 || (len < 0 && errno != EAGAIN && errno != EINTR)) {
		stop(process);
		return;
	}
	if (len < (ssize_t)offsetof(struct broker_question, argv) ||
	    (size_t)len != offsetof(struct broker_question, argv) + question.argv_len)
		return;
	answer.serial = question.serial;
	switch (question.what) {
	case BROKER_REGISTER:
		answer.rc = register_program(process, &question, &answer);
		break;
	case BROKER_SEAL:
		process->sealed = true;
		answer.number = process->program_count;
		break;
	case BROKER_RUN:
		answer.rc = run_program(process, question.number, &answer, &fd);
		break;
	default:
		answer.rc = -EINVAL;
	}
	send_answer(process, &answer, fd);
}

/* ---- the loop ---- */

static void take_signals(struct process *process)
{
	struct signalfd_siginfo info;

	while (read(process->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGUSR1 && !process->stopping) /* the daemon has died */
			stop(process);
	}
	reap(process);
}

static void loop(struct process *process)
{
	while (!process->stopping || process->running_count > 0) {
		struct pollfd ready[] = {{.fd = process->control, .events = POLLIN},
					 {.fd = process->signals, .events = POLLIN}};

		if (poll(ready, 2, -1) < 0 && errno != EINTR)
			break;
		if (ready[1].revents)
			take_signals(process);
		if (!process->stopping && ready[0].revents)
			take_question(process);
	}
}

/* ---- the start ---- */

/* The fork copied what was in memory then: no configuration and no pepper, but an environment, which may have secrets. */
static void forget_environment(void)
{
	for (char **entry = environ; entry && *entry; entry++)
		explicit_bzero(*entry, strlen(*entry));
	clearenv();
}

void broker_close(unsigned first, unsigned last)
{
	enum { FEW = 4096 }; /* where the system has no close_range: nobody opened more than that so early */

	if (first > last || close_range(first, last, 0) == 0)
		return;
	for (unsigned fd = first; fd <= last && fd < FEW; fd++)
		close((int)fd);
}

static void keep_no_descriptors(int control)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
	}
	broker_close(STDERR_FILENO + 1, (unsigned)control - 1);
	broker_close((unsigned)control + 1, ~0U);
}

/* What is meant for the daemon (Ctrl-C, a stop of the whole control group) is not for the broker: it ends after it. */
static int take_over_signals(void)
{
	sigset_t all, ours;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&ours);
	sigaddset(&ours, SIGCHLD);
	sigaddset(&ours, SIGUSR1);
	return signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK);
}

_Noreturn void broker_process(int control, pid_t daemon)
{
	static struct process process;

	keep_no_descriptors(control);
	forget_environment();
	setsid();
	process.control = control;
	process.signals = take_over_signals();
	prctl(PR_SET_NAME, NAME);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	prctl(PR_SET_PDEATHSIG, SIGUSR1);
	if (process.signals < 0 || chdir("/") != 0 || getppid() != daemon)
		_exit(1);
	loop(&process);
	_exit(0);
}
