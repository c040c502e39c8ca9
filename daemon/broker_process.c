/* The broker's process: takes questions, starts programs, sees them end, and makes them. */
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
#include <time.h>
#include <unistd.h>

#include "daemon/broker_internal.h"

#define NAME "apikeyd-broker"

struct program {
	uint32_t argv_len;
	char *bytes;	   /* terminated texts, one after the other */
	const char **argv; /* into them; ends with NULL */
};

enum stage { STAGE_RUNS = 0, STAGE_CLOSED, STAGE_TERMINATED, STAGE_KILLED };

struct running {
	pid_t pid;
	int kept; /* the program's end of its socket; -1: the other end is closed already, as far as we know */
	enum stage stage;
	int64_t until; /* ms: when the next stage begins; not while it runs */
};

struct process {
	int control, signals;
	struct program programs[BROKER_PROGRAMS_MAX];
	uint32_t program_count;
	bool sealed, stopping;
	struct running running[BROKER_RUNNING_MAX];
	uint32_t running_count;
};

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

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
	struct running *running;
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
	running = &process->running[process->running_count];
	*running = (struct running){0};
	rc = broker_spawn(program->argv, &running->pid, ret_fd, &running->kept);
	if (rc != 0)
		snprintf(answer->error, sizeof(answer->error), "%s: %s", program->argv[0], strerror(-rc));
	else
		process->running_count++;
	return rc;
}

/* ---- their end ---- */

/* The other end is closed: the program reads an end of file, and has a moment to end by itself. */
static void see_closed(struct running *running)
{
	close(running->kept);
	running->kept = -1;
	if (running->stage == STAGE_RUNS) {
		running->stage = STAGE_CLOSED;
		running->until = now_ms() + BROKER_GRACE_MS;
	}
}

/* It is the leader of its process group, and not reaped yet: the number is nobody else's. */
static void next_stage(struct running *running)
{
	kill(-running->pid, running->stage == STAGE_CLOSED ? SIGTERM : SIGKILL);
	running->stage = running->stage == STAGE_CLOSED ? STAGE_TERMINATED : STAGE_KILLED;
	running->until = now_ms() + BROKER_GRACE_MS;
}

/* Who has ended. What it left in its group goes with it, before its number can be given to another. */
static void reap(struct process *process)
{
	siginfo_t info = {0};

	while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid > 0) {
		for (uint32_t i = 0; i < process->running_count; i++) {
			struct running *running = &process->running[i];

			if (running->pid != info.si_pid)
				continue;
			kill(-running->pid, SIGKILL);
			if (running->kept >= 0)
				close(running->kept);
			*running = process->running[--process->running_count];
			break;
		}
		waitpid(info.si_pid, NULL, 0);
		info = (siginfo_t){0};
	}
}

static void stop(struct process *process)
{
	process->stopping = true;
	close(process->control);
	process->control = -1;
	for (uint32_t i = 0; i < process->running_count; i++) {
		struct running *running = &process->running[i];

		if (running->stage <= STAGE_CLOSED) {
			running->stage = STAGE_CLOSED;
			running->until = 0;
		}
	}
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

/* Milliseconds until something is due; -1: nothing is. */
static int time_left(const struct process *process)
{
	int64_t now = now_ms(), least = -1;

	for (uint32_t i = 0; i < process->running_count; i++) {
		const struct running *running = &process->running[i];
		int64_t left = running->until > now ? running->until - now : 0;

		if (running->stage != STAGE_RUNS && (least < 0 || left < least))
			least = left;
	}
	return (int)least;
}

static void loop(struct process *process)
{
	struct pollfd ready[2 + BROKER_RUNNING_MAX];

	while (!process->stopping || process->running_count > 0) {
		uint32_t count = process->running_count;
		int64_t now;

		ready[0] = (struct pollfd){.fd = process->control, .events = POLLIN};
		ready[1] = (struct pollfd){.fd = process->signals, .events = POLLIN};
		for (uint32_t i = 0; i < count; i++)
			ready[2 + i] = (struct pollfd){.fd = process->running[i].kept}; /* for POLLHUP alone */
		if (poll(ready, 2 + count, time_left(process)) < 0 && errno != EINTR)
			break;
		now = now_ms();
		/* Those that run first: the order changes when one is reaped. */
		for (uint32_t i = 0; i < count; i++) {
			struct running *running = &process->running[i];

			if (running->kept >= 0 && ready[2 + i].revents)
				see_closed(running);
			if (running->stage != STAGE_RUNS && running->until <= now)
				next_stage(running);
		}
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

static void close_from(unsigned first, unsigned last)
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
	close_from(STDERR_FILENO + 1, (unsigned)control - 1);
	close_from((unsigned)control + 1, ~0U);
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
