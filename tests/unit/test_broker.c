/* The broker and real programs: what they have, how they start, and that none is left over. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "daemon/broker.h"

enum { LONG_MS = 30000 }; /* far more than anything here takes */

static struct broker *broker;
static char error[512], directory[] = "/tmp/apikeyd-broker-XXXXXX", path[64];

/* ---- help ---- */

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void pause_ms(int ms)
{
	struct timespec moment = {ms / 1000, ms % 1000 * 1000000L};

	nanosleep(&moment, NULL);
}

static bool is_alive(pid_t pid)
{
	char name[64], text[256] = "", *state;
	ssize_t len;
	int fd;

	if (kill(pid, 0) != 0)
		return false;
	/* One that nobody has reaped yet is dead all the same. */
	snprintf(name, sizeof(name), "/proc/%d/stat", (int)pid);
	fd = open(name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	len = read(fd, text, sizeof(text) - 1);
	close(fd);
	state = len > 0 ? strrchr(text, ')') : NULL;
	return state && state[2] != 'Z' && state[2] != 'X';
}

static void assert_ends(pid_t pid)
{
	int64_t until = now_ms() + LONG_MS;

	while (is_alive(pid)) {
		if (now_ms() > until)
			fail_msg("process %d goes on", (int)pid);
		pause_ms(5);
	}
}

static uint32_t add(const char *const *argv)
{
	uint32_t number = UINT32_MAX;

	error[0] = '\0';
	if (broker_register(broker, argv, &number, error, sizeof(error)) != 0)
		fail_msg("%s", error);
	assert_string_equal(error, "");
	return number;
}

static int run(uint32_t number)
{
	int fd = -1;

	error[0] = '\0';
	if (broker_run(broker, number, &fd, error, sizeof(error)) != 0)
		fail_msg("%s", error);
	assert_true(fd >= 0);
	return fd;
}

/* A shell script of its own name, executable. */
static const char *script(const char *text)
{
	static char name[64];
	static unsigned count;
	FILE *out;

	snprintf(name, sizeof(name), "%s/script-%u", directory, count++);
	out = fopen(name, "w");
	assert_non_null(out);
	fprintf(out, "#!/bin/sh\n%s\n", text);
	assert_int_equal(fclose(out), 0);
	assert_int_equal(chmod(name, 0755), 0);
	return name;
}

static void read_proc(pid_t pid, const char *what, char *out, size_t size)
{
	char name[64];
	ssize_t len;
	int fd;

	snprintf(name, sizeof(name), "/proc/%d/%s", (int)pid, what);
	fd = open(name, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	len = read(fd, out, size - 1);
	assert_true(len >= 0);
	close(fd);
	out[len] = '\0';
	for (ssize_t i = 0; i < len; i++) {
		if (!out[i])
			out[i] = ' ';
	}
}

static int run_script(const char *text)
{
	const char *argv[] = {script(text), NULL};

	return run(add(argv));
}

/* Reads until there is a line end, or the end. */
static void read_some(int fd, char *out, size_t size, bool all)
{
	int64_t until = now_ms() + LONG_MS;
	size_t len = 0;

	out[0] = '\0';
	while (len + 1 < size && (all || !strchr(out, '\n'))) {
		struct pollfd ready = {.fd = fd, .events = POLLIN};
		ssize_t got;

		assert_true(now_ms() < until);
		if (poll(&ready, 1, LONG_MS) <= 0)
			continue;
		/* not beyond the line: the next one is asked for later */
		got = read(fd, out + len, all ? size - len - 1 : 1);
		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (got <= 0)
			break;
		len += (size_t)got;
		out[len] = '\0';
	}
}

static void assert_eof(int fd)
{
	char text[16];

	read_some(fd, text, sizeof(text), true);
	assert_string_equal(text, "");
}

/* What a program says until its end. */
static const char *output_of(const char *const *argv)
{
	static char text[8192];
	int fd = run(add(argv));

	read_some(fd, text, sizeof(text), true);
	close(fd);
	return text;
}

static pid_t pid_from(int fd)
{
	char text[64];

	read_some(fd, text, sizeof(text), false);
	assert_non_null(strchr(text, '\n'));
	return (pid_t)atoi(text);
}

static int set_up(void **state)
{
	(void)state;
	strcpy(directory + strlen(directory) - 6, "XXXXXX");
	assert_non_null(mkdtemp(directory));
	return broker_start(&broker, error, sizeof(error));
}

static int tear_down(void **state)
{
	char command[128];

	(void)state;
	broker_free(broker);
	broker = NULL;
	snprintf(command, sizeof(command), "rm -rf %s", directory);
	return system(command);
}

/* ---- programs ---- */

static void test_talks(void **state)
{
	static const char *const argv[] = {"/bin/cat", NULL};
	uint32_t number = add(argv);
	int one = run(number), two = run(number);
	char text[64];

	(void)state;
	assert_true(fcntl(one, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(one, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(write(one, "first\n", 6), 6);
	assert_int_equal(write(two, "second\n", 7), 7);
	read_some(two, text, sizeof(text), false);
	assert_string_equal(text, "second\n");
	read_some(one, text, sizeof(text), false);
	assert_string_equal(text, "first\n");
	close(one);
	close(two);
}

static void test_numbers(void **state)
{
	static const char *const cat[] = {"/bin/cat", NULL}, *const cat_u[] = {"/bin/cat", "-u", NULL};
	static const char *const joined[] = {"/bin/cat", "-", "u", NULL}, *const empty[] = {"/bin/cat", "", NULL};
	uint32_t first = add(cat), second = add(cat_u);
	int fd = -1;

	(void)state;
	assert_int_not_equal(first, second);
	assert_int_equal(add(cat), first);
	assert_int_equal(add(cat_u), second);
	assert_int_not_equal(add(joined), second);
	assert_int_not_equal(add(empty), first);
	assert_int_equal(broker_run(broker, 4, &fd, error, sizeof(error)), -ENOENT);
	assert_int_equal(broker_run(broker, UINT32_MAX, &fd, error, sizeof(error)), -ENOENT);
	assert_int_equal(fd, -1);
}

static void test_arguments(void **state)
{
	const char *argv[] = {
		script("for a in \"$0\" \"$@\"; do echo \"<$a>\"; done"), "", "a b", "*", "-x=$HOME", NULL};
	char want[256];

	(void)state;
	snprintf(want, sizeof(want), "<%s>\n<>\n<a b>\n<*>\n<-x=$HOME>\n", argv[0]);
	assert_string_equal(output_of(argv), want);
}

/* What a program has, and nothing else. */
static void test_surroundings(void **state)
{
	static const char *const env[] = {"/usr/bin/env", NULL}, *const pwd[] = {"/bin/pwd", NULL};
	static const char *const ls[] = {"/bin/ls", "/proc/self/fd", NULL};
	static const char *const links[] = {"/usr/bin/readlink", "/proc/self/fd/0", "/proc/self/fd/1", NULL};
	static const char *const signals[] = {"/bin/grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status", NULL};
	static const char *const ids[] = {"/bin/cat", "/proc/self/stat", NULL};
	const char *text, *half;
	int pid, group, session;
	char errors[64], own[64] = "";

	(void)state;
	assert_string_equal(output_of(env),
			    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nLANG=C.UTF-8\n");
	assert_string_equal(output_of(pwd), "/\n");
	assert_string_equal(output_of(ls), "0\n1\n2\n3\n"); /* 3 is what ls itself reads */
	text = output_of(links);
	assert_int_equal(strncmp(text, "socket:[", 8), 0);
	half = text + strlen(text) / 2;
	assert_memory_equal(text, half, strlen(half));
	text = output_of(signals);
	assert_non_null(strstr(text, "SigBlk:\t0000000000000000"));
	assert_non_null(strstr(text, "SigIgn:\t0000000000000000"));
	/* a group and a session of its own */
	text = output_of(ids);
	assert_int_equal(sscanf(text, "%d (cat) %*c %*d %d %d", &pid, &group, &session), 3);
	assert_int_equal(pid, group);
	assert_int_equal(pid, session);
	/* standard error is ours */
	snprintf(errors, sizeof(errors), "/proc/self/fd/2");
	assert_true(readlink(errors, own, sizeof(own) - 1) > 0);
	const char *argv[] = {"/usr/bin/readlink", "-n", errors, NULL};

	assert_string_equal(output_of(argv), own);
}

static void test_end_is_seen(void **state)
{
	int fd = run_script("echo $$; read -r line; exit 3");
	pid_t pid = pid_from(fd);

	(void)state;
	assert_true(is_alive(pid));
	assert_int_equal(write(fd, "\n", 1), 1);
	assert_eof(fd);
	assert_false(is_alive(pid));
	close(fd);
	/* nothing it left in its group outlives it */
	fd = run_script("sleep 1000 & echo $!");
	pid = pid_from(fd);
	assert_eof(fd);
	assert_ends(pid);
	close(fd);
}

static void test_closing_ends(void **state)
{
	/* by the end of file; by SIGTERM; by SIGKILL, with what it started */
	static const char *const texts[] = {
		"echo $$; read -r line; exit 0",
		"echo $$; while :; do sleep 0.05; done",
		"trap '' TERM HUP INT; echo $$; while :; do sleep 0.05; done",
		"trap '' TERM; sh -c 'trap \"\" TERM; echo $$; while :; do sleep 0.05; done'; exit 1",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		int fd = run_script(texts[i]);
		pid_t pid = pid_from(fd);

		assert_true(is_alive(pid));
		close(fd);
		assert_ends(pid);
	}
}

/* Another session, another parent: a shell in it, deaf to what ends others, that says its number and goes on. */
#define AWAY "setsid sh -c 'trap \"\" TERM HUP INT; echo $$; exec sleep 1000'"
#define DEEP                                                                                                           \
	"setsid sh -c 'trap \"\" TERM HUP; (setsid sh -c \"echo \\$\\$; exec sleep 1000\" &); echo $$; exec sleep 1000'"

/* What left the program's group, session and family ends with it all the same. */
static void test_nothing_gets_away(void **state)
{
	static const struct {
		const char *text;
		unsigned pids;
		bool closes; /* false: it comes to its own end */
	} cases[] = {
		{AWAY " & read -r line; exit 0", 1, true},		 /* a child, and the program reads the end */
		{"(" AWAY " &); read -r line; exit 0", 1, true},	 /* whose parent is gone */
		{"(" DEEP " &); read -r line; exit 0", 2, true},	 /* and which has one like itself */
		{"trap '' TERM; (" AWAY " &); exec sleep 999", 1, true}, /* the program has to be killed */
		{"(" AWAY " &) | { read -r pid; echo $pid; }", 1, false},
		{"(" AWAY " &) | { read -r pid; echo $pid; }; kill -9 $$", 1, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int fd = run_script(cases[i].text);
		pid_t pids[2];

		for (unsigned j = 0; j < cases[i].pids; j++)
			pids[j] = pid_from(fd);
		if (cases[i].closes)
			assert_true(is_alive(pids[0]));
		else
			assert_eof(fd);
		close(fd);
		for (unsigned j = 0; j < cases[i].pids; j++)
			assert_ends(pids[j]);
	}
}

/* A keeper that somebody kills: what it kept ends, and other programs go on. */
static void test_keeper_killed(void **state)
{
	static const char *const cat[] = {"/bin/cat", NULL};
	int other = run(add(cat)), fd = run_script("echo $PPID; echo $$; (" DEEP " &); read -r line");
	pid_t keeper = pid_from(fd), pids[3] = {pid_from(fd), pid_from(fd), pid_from(fd)};
	char text[64];

	(void)state;
	read_proc(keeper, "comm", text, sizeof(text));
	assert_string_equal(text, "apikeyd-keeper\n");
	kill(keeper, SIGKILL);
	for (unsigned i = 0; i < 3; i++)
		assert_ends(pids[i]);
	assert_eof(fd);
	close(fd);
	assert_int_equal(write(other, "still\n", 6), 6);
	read_some(other, text, sizeof(text), false);
	assert_string_equal(text, "still\n");
	close(other);
	/* and the broker starts others */
	other = run(add(cat));
	close(other);
}

/* A keeper has the program's socket, its signals and standard error, and no socket of the broker's. */
static void test_keeper_has_little(void **state)
{
	const char *argv[] = {script("ls /proc/$PPID/fd"), NULL};

	(void)state;
	assert_int_equal(strlen(output_of(argv)), 5 * 2); /* 0 and 1 are /dev/null */
}

/* A program may get a moment to end by itself: SIGTERM comes after the end of file, not with it. */
static void test_grace(void **state)
{
	char text[256], name[96];
	pid_t pid;
	FILE *in;
	int fd;

	(void)state;
	snprintf(name, sizeof(name), "%s/said", directory);
	snprintf(text, sizeof(text),
		 "trap 'echo term >> %s; exit' TERM; echo $$; exec 2>&-; while read -r x; do :; done; echo eof >> %s; "
		 "while :; do sleep 0.02; done",
		 name, name);
	fd = run_script(text);
	pid = pid_from(fd);
	close(fd);
	assert_ends(pid);
	in = fopen(name, "r");
	assert_non_null(in);
	text[fread(text, 1, sizeof(text) - 1, in)] = '\0';
	fclose(in);
	assert_string_equal(text, "eof\nterm\n");
}

/* A program that cannot be killed by closing a copy: only when all copies of our end are closed is it over. */
static void test_one_end_is_enough(void **state)
{
	int fd = run_script("while read -r x; do echo \"$x\"; done"), copy = dup(fd);
	char text[64];

	(void)state;
	close(fd);
	assert_int_equal(write(copy, "still\n", 6), 6);
	read_some(copy, text, sizeof(text), false);
	assert_string_equal(text, "still\n");
	close(copy);
}

/* ---- refused ---- */

static void refused(const char *const *argv, int rc, const char *says)
{
	uint32_t number = 77;

	error[0] = '\0';
	assert_int_equal(broker_register(broker, argv, &number, error, sizeof(error)), rc);
	if (!strstr(error, says))
		fail_msg("\"%s\" lacks \"%s\"", error, says);
	assert_int_equal(number, 77);
}

static void test_refused(void **state)
{
	static const char *const none[] = {NULL}, *const relative[] = {"cat", NULL}, *const empty[] = {"", NULL};
	const char *argv[] = {path, NULL}, *many[BROKER_ARGUMENTS_MAX + 2];
	static char lengthy[BROKER_ARGV_MAX];

	(void)state;
	refused(none, -EINVAL, "a program needs a path");
	refused(relative, -EINVAL, "cat: is not an absolute path");
	refused(empty, -EINVAL, "is not an absolute path");
	snprintf(path, sizeof(path), "%s/none", directory);
	refused(argv, -ENOENT, "No such file");
	snprintf(path, sizeof(path), "%s", directory);
	refused(argv, -EINVAL, "is a directory");
	snprintf(path, sizeof(path), "%s", script(":"));
	assert_int_equal(chmod(path, 0644), 0);
	refused(argv, -EACCES, "is no program that can be run; run chmod +x");
	assert_int_equal(chmod(path, 0757), 0);
	refused(argv, -EPERM, "anybody can write it");
	assert_int_equal(chmod(path, 0755), 0);
	assert_int_equal(chmod(directory, 0777), 0);
	refused(argv, -EPERM, "anybody can write it");
	assert_int_equal(chmod(directory, 0755), 0);
	add(argv);

	for (unsigned i = 0; i <= BROKER_ARGUMENTS_MAX; i++)
		many[i] = "/bin/true";
	many[BROKER_ARGUMENTS_MAX + 1] = NULL;
	refused(many, -E2BIG, "too many arguments: at most 64, of 16384 bytes in all");
	many[BROKER_ARGUMENTS_MAX] = NULL;
	add(many);
	memset(lengthy, 'x', sizeof(lengthy) - 1);
	argv[0] = "/bin/true";
	many[1] = lengthy;
	many[2] = NULL;
	refused(many, -E2BIG, "too many arguments");
	lengthy[sizeof(lengthy) - sizeof("/bin/true") - 1] = '\0';
	add(many);
}

/* Looked at again each time: what has become untrustworthy since is not started. */
static void test_looked_at_again(void **state)
{
	const char *argv[] = {path, NULL};
	uint32_t number;
	int fd = -1;

	(void)state;
	snprintf(path, sizeof(path), "%s", script("echo here"));
	number = add(argv);
	assert_string_equal(output_of(argv), "here\n");
	assert_int_equal(chmod(path, 0775), 0);
	assert_int_equal(broker_run(broker, number, &fd, error, sizeof(error)), -EPERM);
	assert_non_null(strstr(error, "its group can write it"));
	assert_int_equal(chmod(path, 0755), 0);
	assert_string_equal(output_of(argv), "here\n");
	assert_int_equal(unlink(path), 0);
	assert_int_equal(broker_run(broker, number, &fd, error, sizeof(error)), -ENOENT);
	assert_int_equal(fd, -1);
}

static void test_what_is_no_program(void **state)
{
	const char *argv[] = {path, NULL};
	FILE *out;
	int fd = -1;

	(void)state;
	snprintf(path, sizeof(path), "%s/junk", directory);
	out = fopen(path, "w");
	assert_non_null(out);
	fputs("\1\2\3\4 no program", out);
	assert_int_equal(fclose(out), 0);
	assert_int_equal(chmod(path, 0755), 0);
	assert_int_equal(broker_run(broker, add(argv), &fd, error, sizeof(error)), -ENOEXEC);
	assert_non_null(strstr(error, "/junk: Exec format error"));
	assert_int_equal(fd, -1);
}

static void test_sealed(void **state)
{
	static const char *const cat[] = {"/bin/cat", NULL}, *const yes[] = {"/usr/bin/yes", NULL};
	uint32_t number = add(cat);
	char text[16];
	int fd;

	(void)state;
	assert_int_equal(broker_seal(broker, error, sizeof(error)), 0);
	refused(yes, -EPERM, "/usr/bin/yes: a new program takes a restart of apikeyd");
	/* one that it knows is none that is new */
	assert_int_equal(add(cat), number);
	fd = run(number);
	assert_int_equal(write(fd, "x\n", 2), 2);
	read_some(fd, text, sizeof(text), false);
	assert_string_equal(text, "x\n");
	close(fd);
	assert_int_equal(broker_seal(broker, error, sizeof(error)), 0);
	assert_true(is_alive(broker_pid(broker)));
}

static void test_sealed_empty(void **state)
{
	static const char *const cat[] = {"/bin/cat", NULL};
	pid_t pid = broker_pid(broker);
	int fd = -1;

	(void)state;
	assert_true(is_alive(pid));
	assert_int_equal(broker_seal(broker, error, sizeof(error)), 0);
	assert_false(is_alive(pid));
	assert_int_equal(broker_pid(broker), 0);
	refused(cat, -EPERM, "a new program takes a restart of apikeyd");
	assert_int_equal(broker_run(broker, 0, &fd, error, sizeof(error)), -EPIPE);
}

static void test_how_many(void **state)
{
	static const char *const cat[] = {"/bin/cat", NULL};
	int fds[BROKER_RUNNING_MAX], fd = -1, rc;
	char name[64], text[16];
	const char *argv[] = {"/bin/true", name, NULL};
	uint32_t number = add(cat);

	(void)state;
	for (unsigned i = 0; i < BROKER_RUNNING_MAX; i++)
		fds[i] = run(number);
	assert_int_equal(broker_run(broker, number, &fd, error, sizeof(error)), -EAGAIN);
	assert_non_null(strstr(error, "/bin/cat: 256 programs run already"));
	/* each has its own */
	for (unsigned i = 0; i < BROKER_RUNNING_MAX; i += 51) {
		snprintf(name, sizeof(name), "%u\n", i);
		assert_int_equal(write(fds[i], name, strlen(name)), strlen(name));
		read_some(fds[i], text, sizeof(text), false);
		assert_string_equal(text, name);
	}
	/* places come back */
	for (unsigned i = 0; i < BROKER_RUNNING_MAX; i += 2)
		close(fds[i]);
	for (int64_t until = now_ms() + LONG_MS;
	     (rc = broker_run(broker, number, &fd, error, sizeof(error))) == -EAGAIN;) {
		assert_true(now_ms() < until);
		pause_ms(5);
	}
	assert_int_equal(rc, 0);
	close(fd);
	for (unsigned i = 1; i < BROKER_RUNNING_MAX; i += 2)
		close(fds[i]);
	for (unsigned i = 1; i < BROKER_PROGRAMS_MAX; i++) {
		snprintf(name, sizeof(name), "%u", i);
		assert_int_equal(add(argv), number + i);
	}
	snprintf(name, sizeof(name), "more");
	refused(argv, -ENOSPC, "/bin/true: there are 256 programs already");
}

/* ---- the broker's own process ---- */

static void test_own_process(void **state)
{
	static const char *const cat[] = {"/bin/cat", NULL};
	const char *argv[] = {script("read -r line; ls /proc/$line/fd"), NULL};
	int fd = open("/dev/null", O_RDONLY); /* not close-on-exec, and not the broker's */
	char text[65536];
	pid_t pid;
	int fd_of;

	(void)state;
	assert_true(fd >= 0);
	broker_free(broker);
	assert_int_equal(broker_start(&broker, error, sizeof(error)), 0);
	pid = broker_pid(broker);
	add(cat); /* it has come as far as its loop */
	read_proc(pid, "comm", text, sizeof(text));
	assert_string_equal(text, "apikeyd-broker\n");
	read_proc(getpid(), "environ", text, sizeof(text));
	assert_true(strspn(text, " ") < strlen(text));
	read_proc(pid, "environ", text, sizeof(text));
	assert_int_equal(strspn(text, " "), strlen(text));
	/* 0 1 2, the socket and the signals; the program's socket is its keeper's */
	fd_of = run(add(argv));
	assert_true(dprintf(fd_of, "%d\n", (int)pid) > 0);
	read_some(fd_of, text, sizeof(text), true);
	close(fd_of);
	assert_int_equal(strlen(text), 5 * 2); /* a digit and a line end each */
	close(fd);
	/* what is meant for the daemon does not end it */
	kill(pid, SIGTERM);
	kill(pid, SIGINT);
	kill(pid, SIGHUP);
	kill(pid, SIGPIPE);
	kill(pid, SIGCHLD);
	add(argv);
	assert_true(is_alive(pid));
}

static void test_free_ends_all(void **state)
{
	int fd = run_script("trap '' TERM; echo $$; while :; do sleep 0.05; done");
	pid_t pid = broker_pid(broker), program = pid_from(fd);

	(void)state;
	broker_free(broker);
	broker = NULL;
	assert_false(is_alive(pid));
	assert_ends(program);
	assert_eof(fd);
	close(fd);
}

static void test_broker_killed(void **state)
{
	static const char *const cat[] = {"/bin/cat", NULL};
	int fd = run_script("trap '' TERM; echo $$; (" AWAY " &); while :; do sleep 0.05; done"), other = -1;
	pid_t program = pid_from(fd), away = pid_from(fd);

	(void)state;
	kill(broker_pid(broker), SIGKILL);
	assert_ends(program);
	assert_ends(away);
	assert_eof(fd);
	close(fd);
	assert_int_equal(broker_run(broker, 0, &other, error, sizeof(error)), -EPIPE);
	assert_string_equal(error, "the process that starts programs is gone; restart apikeyd");
	refused(cat, -EPIPE, "is gone; restart apikeyd");
	assert_int_equal(broker_seal(broker, error, sizeof(error)), -EPIPE);
}

/* An answer that comes too late is nobody's, and its program ends. */
static void test_late_answer(void **state)
{
	static const char *const cat[] = {"/bin/cat", NULL};
	char name[96], text[160];
	uint32_t number;
	int fd = -1, rc;
	FILE *in = NULL;
	pid_t late = 0;

	(void)state;
	snprintf(name, sizeof(name), "%s/late", directory);
	snprintf(text, sizeof(text), "echo $$ > %s; while :; do sleep 0.05; done", name);
	const char *argv[] = {script(text), NULL};

	number = add(argv);
	kill(broker_pid(broker), SIGSTOP);
	rc = broker_run(broker, number, &fd, error, sizeof(error));
	kill(broker_pid(broker), SIGCONT);
	assert_int_equal(rc, -ETIMEDOUT);
	assert_string_equal(error, "the process that starts programs did not answer in 1000 ms");
	number = add(cat);
	fd = run(number);
	assert_int_equal(write(fd, "mine\n", 5), 5);
	read_some(fd, text, sizeof(text), false);
	assert_string_equal(text, "mine\n");
	close(fd);
	for (int64_t until = now_ms() + LONG_MS; late == 0;) {
		assert_true(now_ms() < until);
		in = fopen(name, "r");
		if (in && fgets(text, sizeof(text), in))
			late = (pid_t)atoi(text);
		if (in)
			fclose(in);
		pause_ms(5);
	}
	assert_ends(late);
}

/* Whatever becomes of the daemon, broker and programs go with it, and what the programs started. */
static void test_daemon_killed(void **state)
{
	int pipe_fds[2], waits;
	pid_t daemon, pids[4];

	(void)state;
	broker_free(broker);
	broker = NULL;
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	daemon = fork();
	assert_true(daemon >= 0);
	if (daemon == 0) {
		int fd;

		close(pipe_fds[0]);
		if (broker_start(&broker, error, sizeof(error)) != 0)
			_exit(1);
		fd = run_script("trap '' TERM; sh -c 'trap \"\" TERM; echo $$; exec sleep 1000' & (" AWAY
				" &); echo $$; wait");
		pids[0] = broker_pid(broker);
		pids[1] = pid_from(fd);
		pids[2] = pid_from(fd);
		pids[3] = pid_from(fd);
		if (write(pipe_fds[1], pids, sizeof(pids)) != (ssize_t)sizeof(pids))
			_exit(1);
		for (;;)
			pause();
	}
	close(pipe_fds[1]);
	assert_int_equal(read(pipe_fds[0], pids, sizeof(pids)), sizeof(pids));
	close(pipe_fds[0]);
	for (unsigned i = 0; i < 4; i++)
		assert_true(is_alive(pids[i]));
	kill(daemon, SIGKILL);
	assert_int_equal(waitpid(daemon, &waits, 0), daemon);
	for (unsigned i = 0; i < 4; i++)
		assert_ends(pids[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_talks, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_numbers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_arguments, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_surroundings, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_end_is_seen, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_closing_ends, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_nothing_gets_away, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_keeper_killed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_keeper_has_little, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_grace, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_one_end_is_enough, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_looked_at_again, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_is_no_program, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_sealed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_sealed_empty, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_how_many, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_own_process, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_free_ends_all, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_broker_killed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_late_answer, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_daemon_killed, set_up, tear_down),
	};

	signal(SIGPIPE, SIG_IGN); /* as the daemon does; programs must not inherit it */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
