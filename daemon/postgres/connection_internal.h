/*
 * A connection from the inside: shared by connection.c (its life, ends and failures), connection_dial.c (hosts, names,
 * addresses, libpq's steps) and connection_judge.c (setting a session up; is this server to be believed). Nobody else
 * includes it.
 *
 * Always holds: while there is a PGconn that is not at rest there is one poll handle, and `poll` is it; handles that
 * are closing are counted in `handles` until libuv has let go of them.
 */
#ifndef APIKEYD_DAEMON_POSTGRES_CONNECTION_INTERNAL_H
#define APIKEYD_DAEMON_POSTGRES_CONNECTION_INTERNAL_H

#include "daemon/postgres/connection.h"

enum connection_state {
	CONNECTION_IDLE = 0,
	CONNECTION_WAITING, /* the back-off */
	CONNECTION_NEXT,    /* about to try the next address or host */
	CONNECTION_RESOLVING,
	CONNECTION_CONNECTING,
	CONNECTION_SETTING_UP,
	CONNECTION_UP,
	CONNECTION_REPORTING, /* about to call `failed` */
	CONNECTION_CLOSING,
};

struct connection_poll {
	uv_poll_t handle;
	struct connection *owner;
};

struct connection_lookup {
	uv_getaddrinfo_t request;
	struct connection *owner;
	bool abandoned;
};

struct connection {
	uv_loop_t *loop;
	struct connection_callbacks callbacks;
	void (*closed)(void *data);
	enum connection_state state;
	unsigned handles; /* polls, look-ups and the timer that libuv has not let go of */
	uv_timer_t timer;

	struct conninfo *info; /* NULL: conninfo is wrong, info_error says how */
	char info_error[256];
	char *name, *setting, *role, *session;
	bool insecure_remote, quiet;
	uint32_t connect_timeout_ms, statement_timeout_ms, keepalive_ms, backoff_min_ms, backoff_max_ms;

	unsigned host, hosts_left; /* of this round; the host being tried */
	struct addrinfo *addresses, *address;
	struct connection_lookup *lookup;
	struct conninfo_params params;
	PGconn *pq;
	struct connection_poll *poll;
	bool reading;
	struct connection_identity identity;

	uint32_t backoff_ms;
	bool settled;
	uint64_t attempts;
	char where[512];      /* describes the host being tried */
	char errors[1024];    /* of this round */
	char reported[1024];  /* what was last logged */
	char last_words[256]; /* a FATAL that came with nobody waiting for a result */
};

/* connection.c */
void connection_let_go(struct connection *c); /* one handle less; the last one ends a close */
int connection_poll_begin(struct connection *c, int events);
void connection_poll_end(struct connection *c);
/* Ends the attempt or the session, but not the round. */
void connection_end(struct connection *c);
void connection_drop_addresses(struct connection *c);
/* Goes into that state, and looks again after so long. */
void connection_later(struct connection *c, enum connection_state state, uint32_t ms);

/* connection_dial.c */
/* The next address of this host, else the next host, else the round has failed. */
void connection_next(struct connection *c);
/* The socket is ready for libpq's next step. */
void connection_on_connecting(struct connection *c);

/* connection_judge.c */
void connection_set_up(struct connection *c);
void connection_on_setting_up(struct connection *c); /* there is input */

#endif
