/*
 * A libpq connection string taken apart: the hosts to try, what to say about them, and the parameters of one attempt.
 *
 * Owns copies of its strings, wiped when freed (a password may be in them). Who calls it: connection.c, load.c, and
 * the configuration's check through conninfo_check.
 *
 * Always holds: no text that this file makes for people has a password in it; a server that is not on this machine is
 * refused without sslmode=verify-full, unless it was allowed in so many words.
 */
#ifndef APIKEYD_DAEMON_POSTGRES_CONNINFO_H
#define APIKEYD_DAEMON_POSTGRES_CONNINFO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sockaddr;

struct conninfo_host {
	char *name;    /* host name or socket directory; NULL: libpq's own default, a local socket */
	char *address; /* hostaddr; NULL: to be resolved from the name */
	char *port;
};

struct conninfo {
	char **names, **values; /* all parameters but host, hostaddr and port; NULL at the end */
	struct conninfo_host *hosts;
	unsigned host_count;
	char *database, *user; /* for people */
	bool verified;	       /* sslmode=verify-full */
};

/* 0, -EINVAL with one line in `error`, or -ENOMEM. Nothing is resolved or connected to. */
int conninfo_parse(const char *text, struct conninfo **ret, char *error, size_t error_size);
void conninfo_free(struct conninfo *info); /* NULL is fine */

/* For the configuration: would this be taken? 0, or -EINVAL with one line that says what is wrong. */
int conninfo_check(const char *text, char *error, size_t error_size);

/* True where the host is a socket directory (or the default one): no name to resolve, nothing to encrypt. */
bool conninfo_is_socket(const struct conninfo_host *host);
bool conninfo_is_loopback(const struct sockaddr *address);

/* "host=… port=… dbname=… user=…" for log lines. */
void conninfo_describe(const struct conninfo *info, unsigned host, char *out, size_t size);

/* The parameters of one attempt, as PQconnectStartParams takes them. */
struct conninfo_params {
	char **names, **values; /* NULL at the end */
};
/* `address`: the numeric address to connect to; NULL where the host is a socket. 0 or -ENOMEM. */
int conninfo_params_init(struct conninfo_params *params, const struct conninfo *info, unsigned host,
			 const char *address, uint32_t keepalive_ms);
int conninfo_params_copy(struct conninfo_params *params, const struct conninfo_params *from);
void conninfo_params_deinit(struct conninfo_params *params); /* wipes */

/* The statements that set a fresh session up, in one simple query; malloc'd, NULL without memory. */
char *conninfo_session_sql(const char *role, uint32_t statement_timeout_ms, const char *more);

/* Makes one line of a message of several: no line ends, no blanks at the end. */
void conninfo_one_line(char *text);

#endif
