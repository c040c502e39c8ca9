/*
 * What exec.c (the module, its questions) and exec_worker.c (its programs) share. Never included elsewhere.
 *
 * Always holds: each question stands in `all`, in the order in which they began, so in that of their deadlines, and
 * either in `queue` or in the hand of one worker. Who completes a question has taken it out of all lists before: what
 * is called then may begin another one, cancel any, and close the instance (exec->closed), after which nothing but
 * `closed` and `busy` is looked at.
 */
#ifndef APIKEYD_DAEMON_MODULES_EXEC_INTERNAL_H
#define APIKEYD_DAEMON_MODULES_EXEC_INTERNAL_H

#include "daemon/modules/exec_line.h"

enum { EXEC_BACKOFF_MIN_MS = 100, EXEC_BACKOFF_MAX_MS = 5000, EXEC_WHY_SIZE = 512 };

enum exec_lists { EXEC_IN_ALL = 0, EXEC_IN_PLACE /* queue, or a hand */, EXEC_LISTS };

struct exec_question;

struct exec_list {
	struct exec_question *first, *last;
};

struct exec_question {
	uint64_t id, token;
	int64_t until_ms;	    /* CLOCK_MONOTONIC */
	bool wanted;		    /* false: its request is over, but a worker has it in hand */
	struct exec_worker *worker; /* NULL: in the queue */
	struct exec_question *prev[EXEC_LISTS], *next[EXEC_LISTS];
	uint32_t len, written;
	char line[];
};

struct exec_worker {
	struct exec *exec;
	unsigned number; /* for the log, from 1 */
	int fd;		 /* -1: none runs */
	unsigned events; /* that are watched */
	bool broken;	 /* cannot be written to: ends at the next turn */
	bool silent;	 /* it fails again and again, and that was said */
	struct exec_list hand;
	uint32_t in_hand;
	int64_t again_ms; /* fd -1: when it is started again */
	uint32_t backoff_ms;
	size_t len; /* of an answer that is not whole yet */
	char answer[EXEC_ANSWER_MAX + 1];
};

struct exec {
	struct apikeyd_self *self;
	const struct apikeyd_host *host;
	uint32_t program, depth, pending_max, worker_count;
	int64_t timeout_ms;
	uint64_t last_id;
	struct exec_list all, queue;
	uint32_t pending; /* questions that are wanted */
	int timer;
	int64_t armed_ms; /* 0: not */
	bool closed;
	unsigned busy; /* who is at work in it: memory goes when the last one is done */
	struct exec_worker workers[];
};

int64_t exec_now_ms(void);

/* Round whatever may call host->complete and goes on after it. The memory may be gone when exec_leave returns. */
void exec_enter(struct exec *exec);
void exec_leave(struct exec *exec);

/* Lists. */
void exec_list_add(struct exec_list *list, enum exec_lists which, struct exec_question *question);
void exec_list_remove(struct exec_list *list, enum exec_lists which, struct exec_question *question);

/* Takes a question out of all lists, tells its code to whoever still wants it, and frees it. */
void exec_complete(struct exec *exec, struct exec_question *question, const struct apikeyd_answer *answer);

/* Starts the worker's program. 0, or -errno with one line in `why`. -ENOTSUP: nothing is started here. */
int exec_worker_begin(struct exec_worker *worker, char *why, size_t why_size);
/* The same; where it cannot be started that is logged, and it is tried again later. */
void exec_worker_try(struct exec_worker *worker);
/* Ends it, for the reason `why`, and completes what it had in hand as a fault. It is started again later. */
void exec_worker_end(struct exec_worker *worker, const char *why);
/* Lets go of the descriptor, and of nothing else. */
void exec_worker_close(struct exec_worker *worker);
/* Hands queued questions to workers that have a hand free. Completes nothing. */
void exec_give(struct exec *exec);
/* Sets the timer to what is due next. */
void exec_arm(struct exec *exec);

#endif
