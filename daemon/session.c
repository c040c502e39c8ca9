/* One client's bytes: in, out, and the end. */
#include "daemon/session_internal.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/log.h"

enum {
	REST_SMALL = 4096,  /* a rest of this size is copied in front of the next read; a longer one grows in place */
	OUT_KEPT = 4 << 20, /* of the shared buffer for answers, when it has grown beyond */
	LAST_READS = 16,    /* of each connection when the daemon stops */
};

/* ---- the rest: what could not be taken yet ---- */

static bool rest_reserve(struct session *session, size_t cap)
{
	struct rpc_buffer *rest = &session->rest;
	uint8_t *data;

	if (rest->data && rest->cap >= cap)
		return true;
	data = malloc(cap);
	if (!data)
		return false;
	if (rest->data) {
		memcpy(data, rest->data, rest->len);
		explicit_bzero(rest->data, rest->cap);
		free(rest->data);
	}
	rest->data = data;
	rest->cap = cap;
	return true;
}

static void rest_clear(struct session *session)
{
	struct rpc_buffer *rest = &session->rest;

	if (rest->cap > REST_SMALL)
		rpc_buffer_deinit(rest);
	else if (rest->len > 0)
		explicit_bzero(rest->data, rest->len);
	rest->len = 0;
}

/* Keeps what session_take left of `data`, which may be the rest itself. */
static bool rest_keep(struct session *session, const uint8_t *data, size_t len)
{
	struct rpc_buffer *rest = &session->rest;

	if (len == 0) {
		rest_clear(session);
		session->partial_since = 0;
		return true;
	}
	if (rest->data && data >= rest->data && data < rest->data + rest->cap) {
		size_t before = rest->len;

		memmove(rest->data, data, len);
		explicit_bzero(rest->data + len, before - len);
	} else {
		if (!rest_reserve(session, len <= REST_SMALL ? REST_SMALL : len))
			return false;
		/* What stood there was copied in front of what was read, and may be longer than what is left. */
		if (rest->len > len)
			explicit_bzero(rest->data + len, rest->len - len);
		memcpy(rest->data, data, len);
	}
	rest->len = len;
	return true;
}

/* ---- reading ---- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret)
{
	struct session *session = handle->data;
	struct sessions *all = session->all;
	struct rpc_buffer *rest = &session->rest;

	(void)suggested;
	session->in_rest = rest->len > REST_SMALL && !session->draining;
	if (!session->in_rest) {
		if (rest->len > 0)
			memcpy(all->read_buffer, rest->data, rest->len);
		ret->base = (char *)all->read_buffer + rest->len;
		ret->len = all->read_size;
		return;
	}
	/* libuv reads a length of 0 as "no memory", and says so to on_read */
	if (rest->cap - rest->len < rest->cap / 2 && !rest_reserve(session, rest->cap * 2)) {
		ret->base = NULL;
		ret->len = 0;
		return;
	}
	ret->base = (char *)rest->data + rest->len;
	ret->len = rest->cap - rest->len;
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf);

/* Whether it reads from its peer follows from its state, and from nothing else. */
void session_set_reading(struct session *session)
{
	struct sessions *all = session->all;
	bool paused = session_pending(session) >= all->config->output_bytes_per_connection / 2;
	bool want = !session->closing && !session->ended && !all->stopping &&
		    (session->draining || (!session->held && !paused));

	if (want == session->reading)
		return;
	session->reading = want;
	if (want) {
		uv_read_start((uv_stream_t *)&session->pipe, on_alloc, on_read);
	} else {
		uv_read_stop((uv_stream_t *)&session->pipe);
		if (!session->closing && !session->ended && !all->stopping)
			all->counters.paused++;
	}
}

/* Takes what there is, keeps what is left. False where the session went. */
static bool take(struct session *session, const uint8_t *data, size_t len)
{
	struct sessions *all = session->all;
	size_t before = session->rest.len, done = session_take(session, data, len);

	if (session->closing)
		return false;
	if (!rest_keep(session, data + done, len - done)) {
		log_about(LOG_LEVEL_WARNING, LOG_CALLER(session->owner.uid, session->owner.pid),
			  "a connection is closed: no memory for its message");
		session_close(session);
		return false;
	}
	if (session->held || session->draining)
		session->partial_since = 0;
	else if (session->rest.len > 0 && (done > 0 || before == 0 || session->partial_since == 0))
		session->partial_since = uv_now(all->loop);
	session_set_reading(session);
	return true;
}

/* Half-closed peers still read their answers; one that is gone altogether does not. */
static void end_of_input(struct session *session)
{
	struct pollfd poll_gone = {.events = 0};
	uv_os_fd_t fd;

	session->ended = true;
	session->reading = false;
	if (session->draining || uv_fileno((uv_handle_t *)&session->pipe, &fd) != 0) {
		session_close(session);
		return;
	}
	uv_read_stop((uv_stream_t *)&session->pipe);
	poll_gone.fd = fd;
	if (poll(&poll_gone, 1, 0) > 0 && (poll_gone.revents & (POLLHUP | POLLERR))) {
		session_close(session);
		return;
	}
	session_finish(session);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct session *session = stream->data;
	struct sessions *all = session->all;
	size_t before = session->rest.len, len = before + (n > 0 ? (size_t)n : 0);
	bool in_rest = session->in_rest;

	if (n > 0) {
		uint8_t *data = in_rest ? session->rest.data : all->read_buffer;

		session->owner.read_ns = latency_now();
		session->owner.boot_us = (int64_t)(session->owner.read_ns / 1000);
		all->counters.reads++;
		all->counters.reads_full += (size_t)n == buf->len && !in_rest;
		all->counters.bytes_in += (uint64_t)n;
		session->active_at = uv_now(all->loop);
		if (in_rest)
			session->rest.len = len;
		if (!session->draining)
			take(session, data, len);
	}
	/* The shared buffer was read into, or the rest copied to its start: it may hold keys. */
	if (!in_rest && len > 0 && buf->base)
		explicit_bzero(all->read_buffer, len);
	if (n >= 0 || session->closing)
		return;
	if (n != UV_EOF && n != UV_ECONNRESET)
		all->counters.closed_error++;
	if (n == UV_EOF)
		end_of_input(session);
	else
		session_close(session);
}

/* ---- writing ---- */

/* Appends; without memory `failed` is set, as rpc.c has it. */
static void append(struct rpc_buffer *buffer, const uint8_t *data, size_t len)
{
	size_t cap = buffer->cap ? buffer->cap : 4096;
	uint8_t *grown;

	while (cap < buffer->len + len)
		cap *= 2;
	if (cap > buffer->cap) {
		grown = malloc(cap);
		if (!grown) {
			buffer->failed = true;
			return;
		}
		if (buffer->data) {
			memcpy(grown, buffer->data, buffer->len);
			explicit_bzero(buffer->data, buffer->cap); /* it may hold a minted key */
			free(buffer->data);
		}
		buffer->data = grown;
		buffer->cap = cap;
	}
	memcpy(buffer->data + buffer->len, data, len);
	buffer->len += len;
}

static void start_write(struct session *session);

static void on_written(uv_write_t *req, int status)
{
	struct session *session = req->data;
	struct sessions *all = session->all;

	session->write.running = false;
	if (session->closing)
		return; /* on_closed frees */
	rpc_buffer_deinit(&session->write.bytes);
	if (status < 0) {
		all->counters.closed_error += status != UV_EPIPE && status != UV_ECONNRESET;
		session_close(session);
		return;
	}
	session->active_at = uv_now(all->loop);
	if (session->queued.len > 0) {
		start_write(session);
		if (session->closing)
			return;
	}
	session->owner.boot_us = 0; /* what was held was read long ago */
	if (session->held && session_pending(session) < all->config->output_bytes_per_connection / 2 &&
	    !take(session, session->rest.data, session->rest.len))
		return;
	session_set_reading(session);
	session_finish(session);
}

static void start_write(struct session *session)
{
	struct session_write *write = &session->write;
	uv_buf_t buf;
	int rc;

	write->bytes = session->queued;
	memset(&session->queued, 0, sizeof(session->queued));
	write->req.data = session;
	buf = uv_buf_init((char *)write->bytes.data, (unsigned)write->bytes.len);
	session->all->counters.writes++;
	rc = uv_write(&write->req, (uv_stream_t *)&session->pipe, &buf, 1, on_written);
	write->running = rc == 0;
	if (rc < 0) {
		session->all->counters.closed_error++;
		session_close(session);
	}
}

/* Appends to what is queued. False where the session went: the peer had its limit already, or there is no memory. */
static bool enqueue(struct session *session, const uint8_t *data, size_t len)
{
	struct sessions *all = session->all;

	if (session_pending(session) > all->config->output_bytes_per_connection) {
		all->counters.closed_output++;
		log_about(LOG_LEVEL_INFO, LOG_CALLER(session->owner.uid, session->owner.pid),
			  "a connection is closed: it does not read, and %zu bytes wait for it "
			  "(limits.output_bytes_per_connection)",
			  session_pending(session));
		session_close(session);
		return false;
	}
	append(&session->queued, data, len);
	if (session->queued.failed) {
		session_close(session);
		return false;
	}
	return true;
}

bool session_write(struct session *session, struct rpc_buffer *out)
{
	struct sessions *all = session->all;
	size_t done = 0;
	bool alive = true;

	if (out->failed) {
		log_about(LOG_LEVEL_WARNING, LOG_CALLER(session->owner.uid, session->owner.pid),
			  "a connection is closed: no memory for its answers");
		session_close(session);
		alive = false;
		goto out;
	}
	if (out->len == 0)
		goto out;
	all->counters.bytes_out += out->len;
	if (session_pending(session) == 0) {
		uv_buf_t buf = uv_buf_init((char *)out->data, (unsigned)out->len);
		int n = uv_try_write((uv_stream_t *)&session->pipe, &buf, 1);

		all->counters.writes++;
		if (n < 0 && n != UV_EAGAIN) {
			all->counters.closed_error += n != UV_EPIPE && n != UV_ECONNRESET;
			session_close(session);
			alive = false;
			goto out;
		}
		done = n > 0 ? (size_t)n : 0;
	}
	if (done < out->len) {
		alive = enqueue(session, out->data + done, out->len - done);
		if (alive && !session->write.running) {
			start_write(session);
			alive = !session->closing;
		}
	}
out:
	out->len = 0;
	if (out->failed || out->cap > OUT_KEPT)
		rpc_buffer_deinit(out);
	return alive;
}

void session_answer(struct request_owner *owner, const struct rpc_buffer *bytes)
{
	struct session *session = (struct session *)(void *)owner;
	struct sessions *all = session->all;

	if (session->closing)
		return;
	/* Also where it has to go: closing is left to the flush, since the caller is amidst its list. */
	if (!session->is_dirty) {
		session->is_dirty = true;
		session->next_dirty = all->dirty;
		all->dirty = session;
	}
	if (bytes->failed)
		session->late.failed = true;
	else if (!session->late.failed)
		append(&session->late, bytes->data, bytes->len);
}

void sessions_flush(struct sessions *sessions)
{
	struct session *session;
	bool alive;

	while ((session = sessions->dirty)) {
		sessions->dirty = session->next_dirty;
		session->is_dirty = false;
		alive = session_write(session, &session->late);
		rpc_buffer_deinit(&session->late); /* wipes: a minted key may have been in it */
		if (!alive)
			continue;
		session_set_reading(session);
		session_finish(session);
	}
}

/* ---- the end ---- */

static void on_closed(uv_handle_t *handle)
{
	struct session *session = handle->data;
	struct sessions *all = session->all;

	rpc_buffer_deinit(&session->rest);
	rpc_buffer_deinit(&session->queued);
	rpc_buffer_deinit(&session->late);
	rpc_buffer_deinit(&session->write.bytes);
	free(session->owner.gids);
	free(session);
	all->closing--;
	session_check_empty(all);
}

void session_close(struct session *session)
{
	struct sessions *all = session->all;

	if (session->closing)
		return;
	session->closing = true;
	request_forget(all->core, &session->owner);
	session_admin_forget(session);
	if (session->is_dirty) {
		struct session **at = &all->dirty;

		while (*at != session)
			at = &(*at)->next_dirty;
		*at = session->next_dirty;
		session->is_dirty = false;
	}
	if (session->prev)
		session->prev->next = session->next;
	else
		all->first = session->next;
	if (session->next)
		session->next->prev = session->prev;
	all->count--;
	all->admin_count -= session->service == RPC_SERVICE_ADMIN;
	all->counters.closed++;
	all->closing++;
	session_uid_gone(all, session->owner.uid);
	uv_close((uv_handle_t *)&session->pipe, on_closed);
}

void session_finish(struct session *session)
{
	struct sessions *all = session->all;
	uv_os_fd_t fd;

	if (session->closing || session->held || session->owner.in_flight > 0 || session->late.len > 0 ||
	    session_pending(session) > 0)
		return;
	if (session->ended || all->stopping) {
		session_close(session);
		return;
	}
	/* The notice is written: our side ends, and the peer's close ends the rest. */
	if (session->draining && !session->half && uv_fileno((uv_handle_t *)&session->pipe, &fd) == 0) {
		session->half = true;
		shutdown(fd, SHUT_WR);
	}
}

void session_fail(struct session *session, enum rpc_error_code code, const char *why, struct rpc_buffer *out)
{
	struct rpc_error error = {.code = code};

	snprintf(error.message, sizeof(error.message), "%s", why);
	log_about(LOG_LEVEL_DEBUG, LOG_CALLER(session->owner.uid, session->owner.pid), "a connection ends: %s", why);
	session->draining = true;
	session->draining_since = uv_now(session->all->loop);
	session->held = false;
	rpc_put_notice(out, &error);
	request_forget(session->all->core, &session->owner);
	session_admin_forget(session);
	if (!session_write(session, out))
		return;
	rest_clear(session);
	session->partial_since = 0;
	session_set_reading(session);
	session_finish(session);
}

/* What has arrived when the daemon stops is still answered. */
void session_last_reads(struct session *session)
{
	uv_os_fd_t fd;

	if (session->draining || session->ended || session->held || uv_fileno((uv_handle_t *)&session->pipe, &fd) != 0)
		return;
	for (unsigned i = 0; i < LAST_READS && !session->closing && !session->draining && !session->held; i++) {
		uv_buf_t buf;
		ssize_t n;

		on_alloc((uv_handle_t *)&session->pipe, 0, &buf);
		if (buf.len == 0)
			return;
		n = recv(fd, buf.base, buf.len, MSG_DONTWAIT);
		if (n <= 0)
			return;
		on_read((uv_stream_t *)&session->pipe, n, &buf);
	}
}
