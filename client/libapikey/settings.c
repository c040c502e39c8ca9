#include "client/libapikey/settings.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "client/libapikey/error.h"
#include "client/libapikey/wire.h"

enum {
	TIMEOUT_DEFAULT_MS = 1000,
	CONNECTIONS_DEFAULT = 8,
	CONNECTIONS_MAX = 1024,
	IN_FLIGHT_DEFAULT = 256,
	IN_FLIGHT_MAX = 32768,
	QUEUE_DEFAULT = 16384,
	QUEUE_MAX = 65535,
};

/*
 * Copies a struct that begins with its own size. A caller built against an older header has a shorter one: what it
 * lacks is zero. One built against a newer header has a longer one, which is fine while the rest of it is zero.
 */
static int copy_sized(void *to, size_t known, const void *from, const char *what)
{
	size_t size;
	const uint8_t *bytes = from;

	memcpy(&size, from, sizeof(size));
	if (size <= sizeof(size))
		return error_set(-EINVAL, "%s: size is not set; begin with the _INIT macro", what);
	for (size_t i = known; i < size; i++)
		if (bytes[i])
			return error_set(-E2BIG, "%s: a field is set that this version does not know", what);
	memset(to, 0, known);
	memcpy(to, from, size < known ? size : known);
	return 0;
}

static int read_count(const char *name, unsigned given, unsigned fallback, unsigned max, unsigned *ret)
{
	if (given > max)
		return error_set(-EINVAL, "options: %s is %u, at most %u is possible", name, given, max);
	*ret = given ? given : fallback;
	return 0;
}

static int read_timeout(const char *what, int given, int fallback, int *ret)
{
	if (given < 0 || given > APIKEY_TIMEOUT_MAX_MS)
		return error_set(-EINVAL, "%s: timeout_ms is %d, 0 to %d is possible", what, given,
				 APIKEY_TIMEOUT_MAX_MS);
	*ret = given ? given : fallback;
	return 0;
}

int settings_read(const struct apikey_options *options, struct settings *ret)
{
	struct apikey_options o = APIKEY_OPTIONS_INIT;
	int r = options ? copy_sized(&o, sizeof(o), options, "options") : 0;

	if (r)
		return r;
	*ret = (struct settings){0};
	if (!o.client)
		o.client = "libapikey";
	if (strlen(o.client) > SETTINGS_CLIENT_MAX)
		return error_set(-EINVAL, "options: client is longer than %d bytes", SETTINGS_CLIENT_MAX);
	memcpy(ret->client, o.client, strlen(o.client) + 1);
	if (!o.socket)
		o.socket = secure_getenv("APIKEYD_SOCKET");
	if (!o.socket || !*o.socket)
		o.socket = APIKEY_SOCKET;
	r = wire_address(o.socket, &ret->address);
	if (!r)
		r = read_timeout("options", o.timeout_ms, TIMEOUT_DEFAULT_MS, &ret->timeout_ms);
	if (!r)
		r = read_count("connections", o.connections, CONNECTIONS_DEFAULT, CONNECTIONS_MAX, &ret->connections);
	if (!r)
		r = read_count("in_flight", o.in_flight, IN_FLIGHT_DEFAULT, IN_FLIGHT_MAX, &ret->in_flight);
	if (!r)
		r = read_count("queue", o.queue, QUEUE_DEFAULT, QUEUE_MAX, &ret->queue);
	return r;
}

int settings_context(const struct apikey_context *context, int timeout_ms, struct apikey_context *ret)
{
	struct apikey_context c = APIKEY_CONTEXT_INIT;
	int r = context ? copy_sized(&c, sizeof(c), context, "context") : 0;

	if (!r)
		r = read_timeout("context", c.timeout_ms, timeout_ms, &c.timeout_ms);
	if (!r)
		*ret = c;
	return r;
}
