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

/* Starts it under a keeper. 0 with *ret_pid, the keeper's, and *ret_fd, the daemon's end of the program's socket. */
int broker_spawn(const char *const *argv, pid_t *ret_pid, int *ret_fd);
/*
 * The keeper's process, from the fork on: starts the program, and writes what execve said to `result` where it did not
 * start. SIGUSR1 ends it as the closed socket does, without waiting for the program to read that. It exits with 0
 * where nothing of the program is left.
 */
_Noreturn void broker_keeper(const char *const *argv, int socket, int result, pid_t broker);

enum { BROKER_CHILDREN_MAX = 512 };
/* The calling process's children, as many as fit, unreaped ones too. 0 where the kernel does not tell. */
unsigned broker_children(pid_t ret[BROKER_CHILDREN_MAX]);
int64_t broker_now_ms(void);
/* Closes descriptors first to last; first > last: none. */
void broker_close(unsigned first, unsigned last);

#endif
