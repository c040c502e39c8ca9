/*
 * One connection to a daemon's Unix socket: bytes out, whole scanned messages in.
 *
 * Owns the descriptor and both buffers, which are wiped as they empty (they may hold a key). Used
 * by the blocking calls (wire_connect, wire_send, wire_receive: never past a deadline) and by the
 * event-loop form (wire_start, wire_flush, wire_fill: never block at all).
 *
 * Always holds: the descriptor is non-blocking and close-on-exec; SIGPIPE is never raised; no
 * message longer than WIRE_MESSAGE_MAX is taken in. Functions return 0 or a negative errno, and on
 * failure have set error.h's line; after any failure but -EAGAIN the connection is of no further
 * use and must be closed.
 */
#ifndef APIKEY_LIBAPIKEY_WIRE_H
#define APIKEY_LIBAPIKEY_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/un.h>

#include "proto/rpc.h"
#include "proto/scan.h"

enum {
	/* Answers are longer than requests: 1,024 verdict maps, or a page of slugs. */
	WIRE_MESSAGE_MAX = 1 << 20,
	WIRE_BACKLOG_RETRY_MS = 5, /* a listener whose backlog is full is asked again after this long */
};

/* CLOCK_MONOTONIC in milliseconds: what deadlines are written in. */
int64_t wire_now_ms(void);

struct wire {
	int fd; /* -1: none */
	struct rpc_buffer out;
	size_t sent; /* of out.len */
	uint8_t *in;
	/* What is not consumed: in_len bytes from in_start; the first message is walked up to `scan`. */
	size_t in_start, in_len, in_cap;
	struct scan scan;
};

void wire_init(struct wire *wire);
void wire_close(struct wire *wire); /* closes, wipes, frees; the wire is as after wire_init */

/* -ENAMETOOLONG for a path that a socket address cannot hold, -EINVAL for an empty one. */
int wire_address(const char *path, struct sockaddr_un *ret);

/* ---- without blocking ---- */

/* -EAGAIN: the listener's backlog is full and nothing was begun; call again after
 * WIRE_BACKLOG_RETRY_MS. */
int wire_start(struct wire *wire, const struct sockaddr_un *address);
/* Adds bytes to `out` and wipes what it moves. -ENOMEM. */
int wire_append(struct wire *wire, const void *data, size_t len);
/* Writes what it can of `out`. 0: all is written and wiped; -EAGAIN: some is left, wait for
 * POLLOUT. */
int wire_flush(struct wire *wire);
/* One read. 0: there are new bytes; -EAGAIN; -ECONNRESET: the daemon closed. */
int wire_fill(struct wire *wire);
/*
 * The first whole message that was read; it stays until wire_consume. -EAGAIN: none yet; -EPROTO:
 * what came cannot be followed.
 */
int wire_message(struct wire *wire, const uint8_t **ret_message, size_t *ret_size);
void wire_consume(struct wire *wire, size_t size); /* wipes and forgets the first `size` bytes */

/* ---- under a deadline, as wire_now_ms tells time; -ETIMEDOUT ---- */

int wire_connect(struct wire *wire, const struct sockaddr_un *address, int64_t deadline);
int wire_send(struct wire *wire, int64_t deadline);
int wire_receive(struct wire *wire, int64_t deadline, const uint8_t **ret_message, size_t *ret_size);

#endif
