/*
 * Sessions: the clients that are connected. Credentials, bytes in, requests to request.c or admin/, answers out.
 *
 * Owns: the connections, their buffers, and what all of them share (the read buffer, the decoder, the answers of the
 * read in hand). Who calls it: server.c, with connections as its listeners take them. On the loop's thread.
 *
 * Always holds:
 * - A connection whose peer the kernel does not name is refused. An administration session's uid may administer.
 * - What one read brought is scanned, decoded, judged together and answered in one write.
 * - A peer that does not read is not read from either, once half its limit is queued; past the limit it is closed.
 * - Bytes that may hold a key are wiped when they have been used. A session that goes takes its requests with it.
 */
#ifndef APIKEYD_DAEMON_SESSION_H
#define APIKEYD_DAEMON_SESSION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "daemon/admin/admin.h"
#include "daemon/config.h"
#include "daemon/request.h"
#include "daemon/user.h"
#include "proto/rpc.h"
#include "proto/scan.h"
#include "proto/value.h"

struct session_counters {
	uint64_t accepted, closed;
	uint64_t refused_connections, refused_uid_connections; /* the two limits */
	uint64_t refused_credentials;			       /* unreadable, or the overflow uid */
	uint64_t refused_admin;				       /* a uid that may not administer */
	uint64_t refused_explain;			       /* a question of one that may not ask `explain` */
	uint64_t closed_malformed;			       /* a stream that cannot be followed */
	uint64_t closed_partial, closed_idle, closed_output, closed_error;
	uint64_t paused; /* times that a peer was not read from since it did not read */
	uint64_t limit_pairs, limit_in_flight;
	uint64_t bytes_in, bytes_out;
	uint64_t reads, writes;
	uint64_t reads_full; /* of these, that took as much as limits.read_bytes lets them */
	uint64_t requests[RPC_METHOD_COUNT];
	uint64_t notifications, request_errors;
};

struct session_callbacks {
	/* Fills the map of `stats`; false without memory. */
	bool (*stats)(void *data, struct arena *arena, struct value *map);
	/* While stopping: the last session and its last request are gone. */
	void (*empty)(void *data);
	void *data;
};

struct session;
struct session_admin;
struct session_uid {
	uid_t uid;
	uint32_t count;
};

/* Who may do what not everybody may; beside these, the daemon's own user always. */
struct session_users {
	struct user_set admin;	 /* administration; and root always */
	struct user_set explain; /* `explain` */
};
void session_users_deinit(struct session_users *users);

struct sessions {
	struct session_counters counters;
	struct latency answered; /* from the read to the write of the answer, of requests that had not to wait */
	uint32_t count, admin_count;

	/* private */
	uv_loop_t *loop;
	const struct config *config;
	struct request_core *core;
	struct admin *admin;
	struct session_callbacks callbacks;
	struct session *first, *dirty;
	struct session_admin *admin_requests;
	struct session_uid *uids;
	uint32_t uid_count, uid_cap;
	struct session_users users;
	uint8_t *read_buffer;
	size_t read_size;
	struct rpc_decoder *decoder;
	struct rpc_request *batch; /* REQUEST_BATCH_MAX */
	struct rpc_buffer out;	   /* the answers of the read in hand */
	struct arena arena;	   /* hello, stats */
	uv_timer_t sweep;
	uid_t overflow_uid;
	gid_t overflow_gid;
	uint32_t closing; /* sessions whose handle is closing */
	bool stopping, told_empty;
};

/* 0, or -ENOMEM with nothing to undo. Everything given is borrowed until sessions_deinit. */
int sessions_init(struct sessions *sessions, uv_loop_t *loop, const struct config *config, struct request_core *core,
		  struct admin *admin, const struct session_callbacks *callbacks);
/* Another configuration, and its users, which are taken over and left empty. 0, or -ENOMEM, unchanged. */
int sessions_configure(struct sessions *sessions, const struct config *config, struct session_users *users);
/*
 * Takes a fresh connection, and its fd whatever comes of it. `stack`: what its socket is bound to, borrowed until the
 * last session is gone; NULL: nothing.
 */
void sessions_accept(struct sessions *sessions, int fd, enum rpc_service service, const char *stack);
/* Whether the session's peer may ask `explain`, as the configuration has it now. */
bool session_may_explain(const struct session *session);
/*
 * Stops reading, after what has arrived already; each session ends when its last answer is written. `empty` is called
 * then, perhaps at once.
 */
void sessions_stop(struct sessions *sessions);
/* Ends all sessions now, with what they have queued. */
void sessions_abort(struct sessions *sessions);
/* Starts to close the timer. No session and no request may be left. */
void sessions_close(struct sessions *sessions);
void sessions_deinit(struct sessions *sessions);
/* Writes the late answers that sessions were given: the request core's `flush`. */
void sessions_flush(struct sessions *sessions);

#endif
