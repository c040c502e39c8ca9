/*
 * The kernel's landlock, as far as it goes: which files may be opened, and which TCP ports reached, from now on.
 *
 * Owns a ruleset until it is in force; the kernel keeps it then. Knows what the daemon needs by what it is told alone.
 * Who calls it: confine.c.
 *
 * Always holds: what is not allowed is refused (EACCES), for files already in the version 1; what a kernel's version
 * does not know it does not restrict. What was open before stays open.
 *
 * version  kernel  adds
 * 1        5.13    opening, making, removing files; running programs
 * 2        5.19    moving files between directories
 * 3        6.2     cutting files off
 * 4        6.7     TCP: binding and connecting
 * 5        6.10    device calls (ioctl)
 * 6        6.12    abstract Unix sockets of others
 */
#ifndef APIKEYD_DAEMON_CONFINE_LANDLOCK_H
#define APIKEYD_DAEMON_CONFINE_LANDLOCK_H

#include <stdbool.h>
#include <stdint.h>

enum { LANDLOCK_VERSION_TCP = 4, LANDLOCK_VERSION_ABSTRACT = 6 };

/* The kernel's version, from 1; or -errno: -ENOSYS and -EOPNOTSUPP where it has none, or it is off. */
int landlock_version(void);

struct landlock {
	int fd;
	int version;
};

struct landlock_wish {
	bool any_port; /* connecting to TCP ports is not restricted */
	bool abstract; /* nor to abstract Unix sockets */
};

/* 0, or -errno. */
int landlock_begin(struct landlock *ret, int version, const struct landlock_wish *wish);
/* Allows what `use` says (enum needs_use) of the file or tree that `fd` is of. 0, or -errno. */
int landlock_allow(const struct landlock *landlock, int fd, bool directory, unsigned use);
int landlock_allow_port(const struct landlock *landlock, uint16_t port);
/* For this thread, and those that it starts. No new privileges must have been asked for. 0, or -errno. */
int landlock_enforce(const struct landlock *landlock);
void landlock_end(struct landlock *landlock);

#endif
