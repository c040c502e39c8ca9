#include "client/libapikey/wire.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "client/libapikey/error.h"

enum {
	READ_MIN = 4096, /* room that a read is given at least */
	IN_MAX = WIRE_MESSAGE_MAX + READ_MIN,
};

int64_t wire_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void wire_init(struct wire *wire)
{
	*wire = (struct wire){.fd = -1};
}

void wire_close(struct wire *wire)
{
	if (wire->fd >= 0)
		close(wire->fd);
	rpc_buffer_deinit(&wire->out);
	if (wire->in) {
		explicit_bzero(wire->in, wire->in_cap);
		free(wire->in);
	}
	wire_init(wire);
}

int wire_address(const char *path, struct sockaddr_un *ret)
{
	size_t len = strlen(path);

	if (len == 0)
		return error_set(-EINVAL, "the socket's path is empty");
	if (len >= sizeof(ret->sun_path))
		return error_set(-ENAMETOOLONG, "the socket's path is %zu bytes long, at most %zu fit: %.100s…", len,
				 sizeof(ret->sun_path) - 1, path);
	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(ret->sun_path, path, len + 1);
	return 0;
}

int wire_start(struct wire *wire, const struct sockaddr_un *address)
{
	if (wire->fd < 0)
		wire->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (wire->fd < 0)
		return error_set(-errno, "cannot make a socket: %m");
	while (connect(wire->fd, (const struct sockaddr *)address, sizeof(*address))) {
		if (errno == EINTR)
			continue;
		if (errno == EISCONN)
			break;
		return error_set(-errno, "cannot connect to %s: %m", address->sun_path);
	}
	return 0;
}

int wire_append(struct wire *wire, const void *data, size_t len)
{
	struct rpc_buffer *out = &wire->out;

	if (out->cap - out->len < len) {
		size_t cap = out->cap ? out->cap : READ_MIN;
		uint8_t *grown;

		while (cap - out->len < len)
			cap *= 2;
		grown = malloc(cap);
		if (!grown)
			return error_set(-ENOMEM, "out of memory");
		if (out->data) {
			memcpy(grown, out->data, out->len);
			explicit_bzero(out->data, out->len);
			free(out->data);
		}
		out->data = grown;
		out->cap = cap;
	}
	memcpy(out->data + out->len, data, len);
	out->len += len;
	return 0;
}

int wire_flush(struct wire *wire)
{
	struct rpc_buffer *out = &wire->out;

	if (out->failed)
		return error_set(-ENOMEM, "out of memory");
	while (wire->sent < out->len) {
		ssize_t n = send(wire->fd, out->data + wire->sent, out->len - wire->sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return -EAGAIN;
		if (n < 0)
			return error_set(errno == EPIPE ? -ECONNRESET : -errno, "cannot send to the daemon: %m");
		explicit_bzero(out->data + wire->sent, (size_t)n);
		wire->sent += (size_t)n;
	}
	wire->sent = 0;
	out->len = 0;
	return 0;
}

/* Makes room for a read behind what is there; only an unfinished message is there, so little moves.
 */
static int make_room(struct wire *wire)
{
	size_t cap = wire->in_cap;
	uint8_t *grown;

	if (wire->in_start > 0) {
		memmove(wire->in, wire->in + wire->in_start, wire->in_len);
		/* What is left behind of the moved bytes lies in the room that the read fills, or
		 * is wiped at the end. */
		wire->in_start = 0;
	}
	if (cap - wire->in_len >= READ_MIN)
		return 0;
	if (cap >= IN_MAX)
		return cap > wire->in_len ? 0 : error_set(-EPROTO, "the daemon's answer is too long");
	cap = cap ? cap * 2 : (size_t)READ_MIN * 2;
	if (cap > IN_MAX)
		cap = IN_MAX;
	grown = malloc(cap);
	if (!grown)
		return error_set(-ENOMEM, "out of memory");
	if (wire->in) {
		memcpy(grown, wire->in, wire->in_len);
		explicit_bzero(wire->in, wire->in_cap);
		free(wire->in);
	}
	wire->in = grown;
	wire->in_cap = cap;
	return 0;
}

int wire_fill(struct wire *wire)
{
	ssize_t n;
	int r = make_room(wire);

	if (r)
		return r;
	do
		n = recv(wire->fd, wire->in + wire->in_len, wire->in_cap - wire->in_len, 0);
	while (n < 0 && errno == EINTR);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return -EAGAIN;
	if (n < 0)
		return error_set(-errno, "cannot read the daemon's answer: %m");
	if (n == 0)
		return error_set(-ECONNRESET, wire->in_len ? "the daemon closed in the middle of an answer"
							   : "the daemon closed the connection");
	wire->in_len += (size_t)n;
	return 0;
}

int wire_message(struct wire *wire, const uint8_t **ret_message, size_t *ret_size)
{
	static const struct scan_limits limits = {.message_max = WIRE_MESSAGE_MAX, .depth_max = SCAN_DEPTH_MAX};
	enum scan_result result;

	if (wire->in_len == 0)
		return -EAGAIN;
	result = scan_resume(&wire->scan, wire->in + wire->in_start, wire->in_len, &limits, ret_size);
	if (result == SCAN_MORE)
		return -EAGAIN;
	if (result != SCAN_MESSAGE)
		return error_set(-EPROTO, "the daemon's answer cannot be read: %s", scan_error(result));
	*ret_message = wire->in + wire->in_start;
	return 0;
}

void wire_consume(struct wire *wire, size_t size)
{
	explicit_bzero(wire->in + wire->in_start, size);
	wire->in_start += size;
	wire->in_len -= size;
	if (wire->in_len == 0)
		wire->in_start = 0;
}

/* Waits for events on the descriptor (none: just for a while). 0 or -ETIMEDOUT. */
static int await(struct wire *wire, short events, int64_t deadline)
{
	for (;;) {
		struct pollfd p = {.fd = wire->fd, .events = events};
		int64_t left = deadline - wire_now_ms();
		int n = poll(&p, 1, left <= 0 ? 0 : left > INT_MAX ? INT_MAX : (int)left);

		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return error_set(-errno, "cannot wait for the daemon: %m");
		if (left <= 0)
			return error_set(-ETIMEDOUT, "no answer within the time allowed");
	}
}

int wire_connect(struct wire *wire, const struct sockaddr_un *address, int64_t deadline)
{
	for (;;) {
		int r = wire_start(wire, address);
		int64_t left;

		if (r != -EAGAIN)
			return r;
		/* Nothing tells when a place in the backlog comes free: ask again, never past the
		 * deadline. */
		left = deadline - wire_now_ms();
		if (left <= 0)
			return error_set(-ETIMEDOUT, "cannot connect to %s: its backlog stayed full",
					 address->sun_path);
		poll(NULL, 0, left < WIRE_BACKLOG_RETRY_MS ? (int)left : WIRE_BACKLOG_RETRY_MS);
	}
}

int wire_send(struct wire *wire, int64_t deadline)
{
	for (;;) {
		int r = wire_flush(wire);

		if (r != -EAGAIN)
			return r;
		r = await(wire, POLLOUT, deadline);
		if (r)
			return r;
	}
}

int wire_receive(struct wire *wire, int64_t deadline, const uint8_t **ret_message, size_t *ret_size)
{
	for (;;) {
		int r = wire_message(wire, ret_message, ret_size);

		if (r != -EAGAIN)
			return r;
		r = await(wire, POLLIN, deadline);
		if (!r)
			r = wire_fill(wire);
		if (r && r != -EAGAIN)
			return r;
	}
}
