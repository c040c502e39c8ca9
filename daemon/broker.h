/*
 * The broker: a small process of its own that starts programs for the daemon, since the daemon itself may have
 * confined itself by then.
 *
 * Who calls it: main.c starts it before there is a configuration, a thread or a loop, so that nothing secret is in
 * the memory that it gets; server.c registers and runs programs for modules, on the loop's thread.
 *
 * Always holds
 *  - it starts what was registered before it was sealed, and nothing else, ever;
 *  - a program (argv[0], an absolute path) is trusted, as trusted.h has it, when it is registered and each time it is
 *    started;
 *  - a program has its standard input and output on one socket, the daemon's standard error, a session of its own, the
 *    working directory /, PATH and LANG in its environment, signals as a new process has them, and no other descriptor;
 *  - it ends where the other end of its socket is closed: it reads an end of file, is sent SIGTERM after
 *    BROKER_GRACE_MS, SIGKILL after as long again, and so is all that it left in its process group; the daemon reads an
 *    end of file where it has ended;
 *  - when it has ended, all that it started is killed, whatever session or parent that has given itself: a keeper, one
 *    process beside each program, is the subreaper of it all. What a killed keeper leaves goes to the broker's hands;
 *  - broker, keepers and programs do not outlive the daemon, whatever becomes of it. Programs run as the daemon's user:
 *    one that means to can kill broker and keeper first, and is then beyond reach of all but a control group;
 *  - what the daemon asks takes bounded time (BROKER_REGISTER_MS, BROKER_RUN_MS). It is milliseconds unless the host
 *    is in trouble.
 */
#ifndef APIKEYD_DAEMON_BROKER_H
#define APIKEYD_DAEMON_BROKER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	BROKER_PROGRAMS_MAX = 256,
	BROKER_RUNNING_MAX = 256,
	BROKER_ARGUMENTS_MAX = 64,
	BROKER_ARGV_MAX = 16384, /* bytes of all arguments, terminators included */
	BROKER_GRACE_MS = 500,
	BROKER_REGISTER_MS = 2000,
	BROKER_RUN_MS = 1000,
};

struct broker;

/* Forks it. 0 with *ret, or -errno with one line in `error`. To be called while there is one thread. */
int broker_start(struct broker **ret, char *error, size_t error_size);
/* Ends it and all programs, and waits for that, some seconds at most. NULL is fine. */
void broker_free(struct broker *broker);

/*
 * Makes a program known; argv ends with NULL. The same argv has the same number. 0 with *ret_number, or with one line in
 * `error`: -EINVAL or what trusted_open says where it cannot be; -EPERM where the broker is sealed and it is a new one:
 * that takes a restart; -ENOSPC; -ETIMEDOUT; -EPIPE where the broker is gone.
 */
int broker_register(struct broker *broker, const char *const *argv, uint32_t *ret_number, char *error,
		    size_t error_size);
/* What broker_register finds out about a program, without a broker: 0, or -errno with one line in `error`. */
int broker_look(const char *const *argv, char *error, size_t error_size);
/* No new programs from now on. A broker that has none ends. 0, or -ETIMEDOUT or -EPIPE with one line in `error`. */
int broker_seal(struct broker *broker, char *error, size_t error_size);
/*
 * Starts a program once more. 0 with *ret_fd, a non-blocking stream socket, the caller's to close; or with one line in
 * `error`: -ENOENT where there is no such number, -EAGAIN where BROKER_RUNNING_MAX run, what the kernel says of the
 * program, -ETIMEDOUT, -EPIPE.
 */
int broker_run(struct broker *broker, uint32_t number, int *ret_fd, char *error, size_t error_size);

/* 0: it has ended. */
pid_t broker_pid(const struct broker *broker);

#endif
