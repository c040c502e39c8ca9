/*
 * The keeper: a process between the broker and one program. It sees the program's time come to an end, and ends all
 * that the program started, however far that went: to it, the nearest subreaper, comes whoever loses its parent.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
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

#define NAME "apikeyd-keeper"

enum { EXIT_LEFT = 1, EXIT_CANNOT = 127, ROUNDS_MAX = 1000 };

static const char *const environment[] = {
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	"LANG=C.UTF-8",
	NULL,
};

enum stage { STAGE_RUNS = 0, STAGE_CLOSED, STAGE_TERMINATED, STAGE_KILLED };

struct keeper {
	pid_t program;
	int kept; /* the program's end of its socket; -1: the other end is closed */
	int signals;
	enum stage stage;
	int64_t until; /* ms: when the next stage begins; not while it runs */
};

int64_t broker_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- children ---- */

unsigned broker_children(pid_t ret[BROKER_CHILDREN_MAX])
{
	char name[64], text[BROKER_CHILDREN_MAX * 12 + 1], *at = text, *end;
	unsigned count = 0;
	size_t len = 0;
	ssize_t got;
	int fd;

	snprintf(name, sizeof(name), "/proc/self/task/%d/children", (int)getpid());
	fd = open(name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	while (len < sizeof(text) - 1 && (got = read(fd, text + len, sizeof(text) - 1 - len)) > 0)
		len += (size_t)got;
	close(fd);
	text[len] = '\0';
	/* Each number has a blank after it: one without is cut. */
	for (;; at = end) {
		long pid = strtol(at, &end, 10);

		if (end == at || *end != ' ' || count == BROKER_CHILDREN_MAX)
			return count;
		ret[count++] = (pid_t)pid;
	}
}

/* Ours are not reaped but here, so no number is another's by now. False where some are left after all. */
static bool end_children(void)
{
	const struct timespec moment = {.tv_nsec = 1000000};
	pid_t pids[BROKER_CHILDREN_MAX], reaped;
	unsigned count;

	for (unsigned round = 0; round < ROUNDS_MAX; round++) {
		do {
			reaped = waitpid(-1, NULL, WNOHANG);
		} while (reaped > 0);
		if (reaped < 0 && errno == ECHILD)
			return true;
		/* Who dies leaves its own to us, for the next round. */
		count = broker_children(pids);
		for (unsigned i = 0; i < count; i++)
			kill(pids[i], SIGKILL);
		nanosleep(&moment, NULL);
	}
	return false;
}

/* ---- the program's time ---- */

static void close_kept(struct keeper *keeper)
{
	if (keeper->kept < 0)
		return;
	/* The daemon reads an end of file now, whoever else has the program's end still. */
	shutdown(keeper->kept, SHUT_RDWR);
	close(keeper->kept);
	keeper->kept = -1;
}

static void begin_end(struct keeper *keeper, int64_t ms)
{
	close_kept(keeper);
	if (keeper->stage > STAGE_CLOSED)
		return;
	keeper->stage = STAGE_CLOSED;
	keeper->until = broker_now_ms() + ms;
}

/* It leads its process group, and is not reaped yet: the number is nobody else's. */
static void next_stage(struct keeper *keeper)
{
	kill(-keeper->program, keeper->stage == STAGE_CLOSED ? SIGTERM : SIGKILL);
	keeper->stage = keeper->stage == STAGE_CLOSED ? STAGE_TERMINATED : STAGE_KILLED;
	keeper->until = broker_now_ms() + BROKER_GRACE_MS;
}

/* Returns whether the program has ended: it is not reaped then. Others that came to us are. */
static bool reap(const struct keeper *keeper)
{
	siginfo_t info = {0};

	while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid > 0) {
		if (info.si_pid == keeper->program)
			return true;
		waitpid(info.si_pid, NULL, 0);
		info = (siginfo_t){0};
	}
	return false;
}

/* Returns whether the program has ended. */
static bool take_signals(struct keeper *keeper)
{
	struct signalfd_siginfo info;

	while (read(keeper->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGUSR1) /* the broker stops, or has died */
			begin_end(keeper, 0);
	}
	return reap(keeper);
}

_Noreturn static void keep(struct keeper *keeper)
{
	for (;;) {
		struct pollfd ready[] = {{.fd = keeper->signals, .events = POLLIN},
					 {.fd = keeper->kept}}; /* for POLLHUP alone */
		int64_t left = keeper->until - broker_now_ms();

		poll(ready, 2, keeper->stage == STAGE_RUNS ? -1 : left > 0 ? (int)left : 0);
		if (keeper->kept >= 0 && ready[1].revents)
			begin_end(keeper, BROKER_GRACE_MS);
		if (take_signals(keeper))
			break;
		if (keeper->stage != STAGE_RUNS && keeper->until <= broker_now_ms())
			next_stage(keeper);
	}
	close_kept(keeper);
	kill(-keeper->program, SIGKILL);
	_exit(end_children() ? 0 : EXIT_LEFT);
}

/* ---- the start ---- */

/* In the program's process: all that it has of us is its standard error. Returns only where it cannot be started. */
static void become(const char *const *argv, int socket, pid_t keeper)
{
	sigset_t none;

	setsid();
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != keeper)
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

_Noreturn static void cannot(int result, int number)
{
	if (write(result, &number, sizeof(number)) < 0)
		_exit(EXIT_CANNOT); /* nobody reads it any more */
	_exit(EXIT_CANNOT);
}

/* Nothing of the broker's but the program's socket: an open end of its own would keep the daemon waiting for it. */
static void keep_descriptors(int socket, int result)
{
	int first = socket < result ? socket : result, second = socket < result ? result : socket;

	broker_close(STDERR_FILENO + 1, (unsigned)first - 1);
	broker_close((unsigned)first + 1, (unsigned)second - 1);
	broker_close((unsigned)second + 1, ~0U);
}

_Noreturn void broker_keeper(const char *const *argv, int socket, int result, pid_t broker)
{
	struct keeper keeper = {.kept = socket};
	pid_t own = getpid();
	sigset_t ours;

	keep_descriptors(socket, result);
	sigemptyset(&ours); /* all are blocked, by the broker */
	sigaddset(&ours, SIGCHLD);
	sigaddset(&ours, SIGUSR1);
	keeper.signals = signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK);
	if (keeper.signals < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1) != 0 || prctl(PR_SET_PDEATHSIG, SIGUSR1) != 0)
		cannot(result, errno);
	prctl(PR_SET_NAME, NAME);
	if (getppid() != broker)
		cannot(result, ESRCH);
	keeper.program = fork();
	if (keeper.program == 0) {
		become(argv, socket, own);
		cannot(result, errno);
	}
	if (keeper.program < 0)
		cannot(result, errno);
	close(result);
	keep(&keeper);
}
