/*
 * A daemon that does what a test tells it to: a real Unix socket, and for each connection, in the order in which they
 * are accepted, a script that runs in a thread of its own (the last script goes for all that come after).
 */
#ifndef APIKEYD_TESTS_FAKE_DAEMON_H
#define APIKEYD_TESTS_FAKE_DAEMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/rpc.h"

struct fake;
struct peer; /* one connection, as the script sees it */

typedef void (*fake_script)(struct peer *peer);

struct fake *fake_start(const fake_script *scripts, size_t count);
/* As if the daemon were restarted at the same path: connections end, scripts begin anew. */
void fake_restart(struct fake *fake, const fake_script *scripts, size_t count);
void fake_stop(struct fake *fake); /* ends all connections, waits for the scripts, removes the socket */
const char *fake_path(const struct fake *fake);
unsigned fake_accepted(struct fake *fake); /* connections since fake_start */
unsigned fake_asked(struct fake *fake);	   /* requests since then, hello not counted */

/* ---- for scripts ---- */

/* The next request, any but hello; borrowed until the next call. False: the client has closed. */
bool peer_next(struct peer *peer, struct rpc_request *ret);
/* Answers hello as apikeyd does. False: the client closed, or began with something else. */
bool peer_greet(struct peer *peer);
bool peer_greet_with(struct peer *peer, uint64_t protocol, uint64_t in_flight);
/* Whether the client has sent more than was read by peer_next. */
bool peer_has_more(struct peer *peer);
/* Waits until the client closes. */
void peer_wait(struct peer *peer);

/* An answer of this reason that names the page asked for; `page` NULL: none. */
void peer_answer(struct peer *peer, uint32_t msgid, enum reason reason, const char *page);
/* ALLOW to a whole request: check, check_many, pages or whoami. */
void peer_allow(struct peer *peer, const struct rpc_request *request);
/* What rpc_put_* wrote. */
void peer_put(struct peer *peer, struct rpc_buffer *bytes);
void peer_bytes(struct peer *peer, const void *data, size_t len);

/* Scripts for everyone. */
void script_allow(struct peer *peer);  /* greets, and allows everything until the client closes */
void script_stale(struct peer *peer);  /* greets; by turns ALLOW marked stale, and UNAVAILABLE `stale` with 250 ms */
void script_silent(struct peer *peer); /* greets, and never answers */
void script_close_at_once(struct peer *peer);

#endif
