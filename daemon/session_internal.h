/*
 * What the session*.c files share; included by them alone.
 */
#ifndef APIKEYD_DAEMON_SESSION_INTERNAL_H
#define APIKEYD_DAEMON_SESSION_INTERNAL_H

#include "daemon/session.h"

struct session_write {
	uv_write_t req;
	struct session *session;
	struct rpc_buffer bytes;
	bool running;
};

struct session {
	struct request_owner owner; /* first: owner and session are one address. Who the peer is stands in there */
	struct sessions *all;
	struct session *prev, *next;
	struct session *next_dirty;
	uv_pipe_t pipe;
	enum rpc_service service;

	/* in: the messages, or the part of one, that could not be taken yet */
	struct rpc_buffer rest;
	struct scan scan;
	bool in_rest;  /* the read in hand goes into `rest`, not into the shared buffer */
	bool reading;  /* uv_read_start is on */
	bool held;     /* `rest` has whole messages that wait for the peer to read */
	bool ended;    /* the peer has no more to say */
	bool draining; /* the stream cannot be followed: what comes is thrown away until the peer closes */
	bool half;     /* while draining: our side is shut */
	bool closing, is_dirty;

	/* out: `queued` goes into `write` when that is done */
	struct rpc_buffer queued;
	struct rpc_buffer late; /* answers to requests that waited, until the flush */
	struct session_write write;

	/* loop ms */
	uint64_t active_at, partial_since, draining_since;
};

/* ---- session.c: bytes ---- */

static inline size_t session_pending(const struct session *session)
{
	return session->queued.len + (session->write.running ? session->write.bytes.len : 0);
}

/* Writes now what can be written, and queues the rest. `out` is empty after. False where the session went. */
bool session_write(struct session *session, struct rpc_buffer *out);
/* Takes a late answer; sessions_flush writes it. */
void session_answer(struct request_owner *owner, const struct rpc_buffer *bytes);
void session_close(struct session *session);
/* Ends a session with nothing more to do: the peer has ended or the daemon stops, and all is answered and written. */
void session_finish(struct session *session);
/* What has arrived already, when the daemon stops, is still taken. */
void session_last_reads(struct session *session);
/* Looks at what a session wants to read, after the state of all has changed. */
void session_set_reading(struct session *session);
/* Says why, and ends the session when the peer has had time to read it. `out` as in session_write. */
void session_fail(struct session *session, enum rpc_error_code code, const char *why, struct rpc_buffer *out);

/* ---- session_take.c: messages ---- */

/*
 * Takes the messages in `data`, appending answers to the shared buffer and writing them. Returns how many bytes are
 * done with; what is left is a part of a message, or, where session->held, messages. Wipes nothing.
 */
size_t session_take(struct session *session, const uint8_t *data, size_t len);

/* ---- session_admin.c ---- */

/* Starts an administrative request; its answer comes late. */
void session_admin_start(struct session *session, const struct rpc_request *request, struct rpc_buffer *out);
/* The session goes; its requests run to their end, and their answers are dropped. */
void session_admin_forget(struct session *session);

/* ---- session_accept.c ---- */

void session_uid_gone(struct sessions *sessions, uid_t uid);
/* What the peer's close ends a session for that has been told to go: milliseconds. */
enum { SESSION_LINGER_MS = 1000 };
/* Tells the server, while stopping, that nothing is left. */
void session_check_empty(struct sessions *sessions);

#endif
