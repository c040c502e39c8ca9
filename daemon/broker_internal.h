/*
 * What the two ends of the broker's socket share. Messages are structs: both ends are the same program. Never included
 * outside daemon/broker*.c.
 */
#ifndef APIKEYD_DAEMON_BROKER_INTERNAL_H
#define APIKEYD_DAEMON_BROKER_INTERNAL_H

#include "daemon/broker.h"

enum broker_what { BROKER_REGISTER = 1, BROKER_SEAL, BROKER_RUN };

struct broker_question {
	uint32_t serial; /* comes back in the answer */
	uint32_t what;
	uint32_t number; /* BROKER_RUN */
	uint32_t argv_len;
	char argv[BROKER_ARGV_MAX]; /* BROKER_REGISTER: terminated texts, one after the other */
};

/* A descriptor comes with the answer to BROKER_RUN, where rc is 0. */
struct broker_answer {
	uint32_t serial;
	int32_t rc;
	uint32_t number; /* BROKER_REGISTER; BROKER_SEAL: how many programs there are */
	char error[512]; /* terminated */
};

/* The broker's process, from the fork on. `daemon` is the pid of who forked it. */
_Noreturn void broker_process(int control, pid_t daemon);

/*
 * Starts it. 0 with *ret_pid, *ret_fd (the daemon's end of the socket) and *ret_kept (the program's end: once the other
 * one is closed, poll says POLLHUP of it).
 */
int broker_spawn(const char *const *argv, pid_t *ret_pid, int *ret_fd, int *ret_kept);

#endif
