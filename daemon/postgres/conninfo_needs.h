/*
 * What a connection string makes libpq open on this host and connect to: for confine/, which lets nothing else.
 *
 * Owns nothing. Who calls it: confine/needs.c, at the start and on a reload.
 */
#ifndef APIKEYD_DAEMON_POSTGRES_CONNINFO_NEEDS_H
#define APIKEYD_DAEMON_POSTGRES_CONNINFO_NEEDS_H

#include <stdbool.h>
#include <stdint.h>

struct conninfo_needs {
	/* `keyword` names the parameter; the path is as it is given, credentials are resolved. Borrowed for the call. */
	void (*file)(void *data, const char *keyword, const char *path, bool directory);
	/* Of a host that is reached by TCP. */
	void (*port)(void *data, uint16_t port);
	/* Of a host that is an abstract Unix socket. */
	void (*abstract)(void *data);
	void *data;
};

/* Tells all of them, those of the environment too. Of a string that is no connection string: nothing. */
void conninfo_needs(const char *text, const struct conninfo_needs *told);

#endif
