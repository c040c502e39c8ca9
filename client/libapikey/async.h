/*
 * The event-loop form, inside: questions and their lists (async.c), and the one connection (async_io.c).
 *
 * A question is in exactly one list until it is freed:
 *   waiting -> sent -> (answered: freed)
 *   waiting or sent -> failed -> (called back: freed, or gone while its answer is still owed)
 *   sent -> waiting, when its connection died: it is asked ASK_TRIES times at most
 *   gone -> (answered, or the connection went: freed)
 * Always holds: a question in waiting, sent or failed is owed its callback; one in gone is not. Callbacks are called
 * from async_deliver alone, and only where no list is being walked.
 */
#ifndef APIKEY_LIBAPIKEY_ASYNC_H
#define APIKEY_LIBAPIKEY_ASYNC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "client/apikey.h"
#include "client/libapikey/ask.h"
#include "client/libapikey/error.h"
#include "client/libapikey/settings.h"
#include "client/libapikey/wire.h"
#include "proto/rpc.h"
#include "proto/value.h"

enum {
	ASYNC_SLOT_BITS = 16,
	ASYNC_SLOT_MASK = (1 << ASYNC_SLOT_BITS) - 1, /* as a slot: nobody's */
};
#define ASYNC_HELLO_ID UINT32_MAX /* the msgid of hello: in the slot that is nobody's */
#define ASYNC_NEVER    INT64_MAX

struct question;
struct question_list {
	struct question *first, *last;
	uint32_t count;
};

struct question {
	struct question *next, *previous;
	struct question_list *list;
	uint64_t id; /* serial number and slot; the lower half is the msgid */
	int64_t started, sent_at, deadline;
	uint64_t reads;		   /* the connection's, when this was put on it */
	bool on_wire;		   /* its answer is owed by the connection there is */
	unsigned tries;		   /* how often it was put on a connection */
	int err;		   /* in failed */
	struct rpc_buffer request; /* kept until its last try */
	enum ask_kind kind;
	uint32_t count;
	struct apikey_result *results; /* check_many: memory for the answer, so that failing needs none */
	union {
		apikey_check_cb check;
		apikey_check_many_cb many;
		apikey_pages_cb pages;
		apikey_whoami_cb whoami;
	} callback;
	void *data;
};

enum async_state {
	ASYNC_CLOSED = 0,
	ASYNC_CONNECTING, /* the backlog was full: again at retry_at */
	ASYNC_GREETING,	  /* hello is on its way */
	ASYNC_READY,
};

struct apikey_async {
	struct settings settings;
	pid_t owner;
	int epoll_fd, timer_fd; /* epoll_fd is what the caller watches: the timer and the connection are in it */
	int64_t timer_at;	/* what the timer is set to; ASYNC_NEVER */

	struct wire wire;
	enum async_state state;
	uint32_t watched;   /* epoll events set for the connection */
	bool answered;	    /* a question was answered on this connection: it counts as a kept one */
	unsigned fruitless; /* connections that were closed since the last answer */
	int broken;	    /* found while a question was started: for the next dispatch */
	int64_t since;	    /* when this state was entered */
	uint64_t reads;	    /* how often something came */
	int64_t retry_at;   /* ASYNC_CONNECTING */
	uint32_t on_wire, window;
	char fault[ERROR_TEXT_MAX]; /* why the connection went */

	struct question_list waiting, sent, failed, gone;
	struct question **slots; /* settings.queue of them */
	uint32_t *free_slots, free_count;
	uint64_t serial;
	unsigned busy; /* calls of ours on the stack: dispatch, cancel, close */
	bool dispatching, closing;
};

/* Lists. async_move takes a question out of the list that it is in (NULL: none). */
void async_move(struct question *question, struct question_list *to);
void async_move_front(struct question *question, struct question_list *to);

/* Takes the first out; NULL where the list is empty. */
struct question *async_pop(struct question_list *list);

/* Fails without calling back yet: that is async_call_failed's, when nothing is being walked. */
void async_fail(struct apikey_async *handle, struct question *question, int err);
void async_call_failed(struct apikey_async *handle);
/*
 * Calls back, with the reply (err 0) or with the failure `err` and error.h's line as it is, and frees the question or
 * leaves it in gone.
 */
void async_deliver(struct apikey_async *handle, struct question *question, int err, struct arena *arena,
		   const struct rpc_reply *reply);
/* The question that a msgid names, or NULL. */
struct question *async_find(struct apikey_async *handle, uint32_t msgid);
/* Frees a question that is owed no callback; it leaves its list and slot. */
void async_free(struct apikey_async *handle, struct question *question);

/* Frees everything; only where no call of ours is on the stack. */
void async_destroy(struct apikey_async *handle);

/* Makes what was started go out: now where nothing is in flight, with the next dispatch where something is. */
void async_kick(struct apikey_async *handle, const struct question *question);
/* Forgets the connection; disturbs no other process that shares it. */
void async_hang_up(struct apikey_async *handle);

#endif
