/*
 * The system calls of a daemon that runs, as a seccomp filter: for all threads, for good.
 *
 * Owns nothing; the kernel keeps the filter. Who calls it: confine.c.
 *
 * Three classes, beside what is allowed:
 *  - killed: what nothing of ours has any business with, and what a break-in does first (run a program, look into other
 *    processes, change mounts or the kernel). The log says which call it was, and the process ends by SIGSYS: whatever
 *    came to make such a call must not go on with the pepper in its memory.
 *  - refused (EPERM): what a library or a module may try in good faith and can do without: starting a process, changing
 *    ids, modes and owners of files, code that was not there at the start.
 *  - unknown (ENOSYS): all others, and so every call that is newer than this list. libc takes that for an older kernel
 *    and does without; killing would take the service down for an upgrade of libc.
 * A call of another architecture (of x32 too) kills: the numbers mean something else there.
 */
#ifndef APIKEYD_DAEMON_CONFINE_SECCOMP_H
#define APIKEYD_DAEMON_CONFINE_SECCOMP_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct seccomp_wish {
	bool only_log; /* the kernel writes down what would be killed, refused or unknown, and lets it pass */
	bool new_code; /* memory may become executable */
	pid_t broker;  /* may be sent signals; 0: there is none */
};

/*
 * 0 with how many calls are allowed in *ret_count, or -errno with one line in `error`. No new privileges must have been asked for.
 */
int seccomp_enforce(const struct seccomp_wish *wish, unsigned *ret_count, char *error, size_t error_size);

#endif
