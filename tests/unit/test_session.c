/* Sessions over a socket pair and a loop, with no copy loaded: every well-formed key is not_loaded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>
#include <cmocka.h>

#include "daemon/mirror/mirror.h"
#include "daemon/session_internal.h"
#include "proto/scan.h"
#include "tests/unit/policy_text.h"

#define KEY "aku_0123456789_RpDerJwSmJOV7ncwJCyHXraomQkoIdam8P97JMgMH3S2cl5LA"

enum { PATIENCE_MS = 20000 };

struct world {
	uv_loop_t loop;
	struct config *config;
	struct mirror mirror;
	struct request_core core;
	struct admin admin;
	struct sessions sessions;
	int fd; /* the client's end */
	bool empty;
	struct arena arena;
	uint8_t in[1 << 22]; /* what the client has received */
	size_t in_len, in_taken;
	bool eof;
};

/* What the kernel is made to say of a peer: NULL groups or a NULL peer for what it says itself. */
static struct {
	const gid_t *groups;
	uint32_t count;
	int error; /* in place of groups */
	const struct ucred *peer;
} kernel;

int __real_getsockopt(int fd, int level, int name, void *value, socklen_t *len);
int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *len);

int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	socklen_t size = kernel.count * (socklen_t)sizeof(gid_t);

	if (level == SOL_SOCKET && name == SO_PEERCRED && kernel.peer) {
		assert_int_equal(*len, sizeof(*kernel.peer));
		memcpy(value, kernel.peer, sizeof(*kernel.peer));
		return 0;
	}
	if (level != SOL_SOCKET || name != SO_PEERGROUPS || (!kernel.groups && kernel.error == 0))
		return __real_getsockopt(fd, level, name, value, len);
	if (kernel.error != 0) {
		errno = kernel.error;
		return -1;
	}
	if (*len < size) {
		*len = size;
		errno = ERANGE;
		return -1;
	}
	memcpy(value, kernel.groups, size);
	*len = size;
	return 0;
}

static void nothing(void *data)
{
	(void)data;
}

static void flush(void *data)
{
	sessions_flush(&((struct world *)data)->sessions);
}

static bool stats(void *data, struct arena *arena, struct value *map)
{
	(void)data;
	return value_set_uint(arena, map, "answer", 42);
}

static void empty(void *data)
{
	((struct world *)data)->empty = true;
}

static int connect_to(struct world *w, enum rpc_service service)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	sessions_accept(&w->sessions, fds[0], service, NULL);
	return fds[1];
}

static struct world *world_with(const char *text, enum rpc_service service)
{
	struct world *w = calloc(1, sizeof(*w));
	struct request_callbacks core = {.hurry = nothing, .flush = flush, .data = w};
	struct session_callbacks sessions = {.stats = stats, .empty = empty, .data = w};
	char errors[1024];

	assert_non_null(w);
	w->config = config_parse(text, strlen(text), "test", errors, sizeof(errors));
	assert_non_null(w->config);
	assert_int_equal(uv_loop_init(&w->loop), 0);
	mirror_init(&w->mirror);
	w->admin.config = w->config;
	assert_int_equal(request_core_init(&w->core, &w->loop, w->config, NULL, &w->mirror, &core), 0);
	policy_text_set(&w->core, policy_text_plain, NULL);
	assert_int_equal(sessions_init(&w->sessions, &w->loop, w->config, &w->core, &w->admin, &sessions), 0);
	w->fd = connect_to(w, service);
	return w;
}

/* What is left over at the end is a fault: the loop must close, and the sanitizer sees the rest. */
static void end(struct world *w)
{
	if (w->fd >= 0)
		close(w->fd);
	if (!w->sessions.stopping)
		sessions_stop(&w->sessions);
	sessions_abort(&w->sessions);
	while (!w->empty)
		uv_run(&w->loop, UV_RUN_ONCE);
	request_core_close(&w->core);
	sessions_close(&w->sessions);
	uv_run(&w->loop, UV_RUN_DEFAULT);
	sessions_deinit(&w->sessions);
	request_core_deinit(&w->core);
	mirror_deinit(&w->mirror);
	assert_int_equal(uv_loop_close(&w->loop), 0);
	config_free(w->config);
	arena_clear(&w->arena);
	free(w);
}

static void turn(struct world *w)
{
	uv_run(&w->loop, UV_RUN_NOWAIT);
}

/* One read of what is there. False where there is nothing. */
static bool client_read(struct world *w)
{
	ssize_t n = recv(w->fd, w->in + w->in_len, sizeof(w->in) - w->in_len, MSG_DONTWAIT);

	if (n == 0 || (n < 0 && errno != EAGAIN)) {
		w->eof = true;
		return false;
	}
	if (n < 0)
		return false;
	w->in_len += (size_t)n;
	return true;
}

/* The next message; turns the loop until it is there. */
static struct rpc_reply receive(struct world *w)
{
	const struct scan_limits limits = {.message_max = sizeof(w->in), .depth_max = SCAN_DEPTH_MAX};
	struct rpc_reply reply;
	size_t size;

	for (unsigned i = 0; i < PATIENCE_MS; i++) {
		enum scan_result result = scan_message(w->in + w->in_taken, w->in_len - w->in_taken, &limits, &size);

		if (result == SCAN_MESSAGE) {
			assert_true(rpc_decode_reply(&w->arena, w->in + w->in_taken, size, &reply));
			w->in_taken += size;
			return reply;
		}
		assert_int_equal(result, SCAN_MORE);
		assert_false(w->eof);
		turn(w);
		if (!client_read(w))
			usleep(1000);
	}
	fail_msg("no answer");
	abort();
}

static void expect_eof(struct world *w)
{
	for (unsigned i = 0; i < PATIENCE_MS && !w->eof; i++) {
		turn(w);
		client_read(w);
		usleep(1000);
	}
	assert_true(w->eof);
	assert_int_equal(w->in_taken, w->in_len);
}

static void expect_gone(struct world *w)
{
	for (unsigned i = 0; i < PATIENCE_MS && w->sessions.count > 0; i++) {
		turn(w);
		usleep(1000);
	}
	assert_int_equal(w->sessions.count, 0);
}

static void expect_reason(struct world *w, uint32_t msgid, const char *reason)
{
	struct rpc_reply reply = receive(w);

	assert_false(reply.notice);
	assert_int_equal(reply.msgid, msgid);
	assert_int_equal(reply.error.code, RPC_OK);
	assert_string_equal(value_as_text(value_get(&reply.result, "reason"), ""), reason);
}

static void expect_notice(struct world *w, enum rpc_error_code code, const char *part)
{
	struct rpc_reply reply = receive(w);

	assert_true(reply.notice);
	assert_int_equal(reply.error.code, code);
	assert_non_null(strstr(reply.error.message, part));
}

static struct rpc_text text(const char *s)
{
	return (struct rpc_text){.data = s, .len = (uint32_t)strlen(s)};
}

static void put_check(struct rpc_buffer *out, uint32_t msgid)
{
	rpc_put_check(out, msgid, text(KEY), (struct rpc_pair){.scope = text("page:read"), .page = text("acme")}, NULL);
}

static void put_many(struct rpc_buffer *out, uint32_t msgid, uint32_t count)
{
	struct rpc_pair *pairs = calloc(count, sizeof(*pairs));

	for (uint32_t i = 0; i < count; i++)
		pairs[i] = (struct rpc_pair){.scope = text("page:read"), .page = text("acme-status")};
	rpc_put_check_many(out, msgid, text(KEY), pairs, count, NULL);
	free(pairs);
}

static void send_all(struct world *w, const uint8_t *data, size_t len)
{
	assert_int_equal(send(w->fd, data, len, MSG_NOSIGNAL), (ssize_t)len);
}

static void send_buffer(struct world *w, struct rpc_buffer *out)
{
	send_all(w, out->data, out->len);
	rpc_buffer_deinit(out);
}

/* ---- reading ---- */

static void test_byte_by_byte(void **state)
{
	struct world *w = world_with("", RPC_SERVICE_CHECK);
	struct rpc_buffer out = {0};

	(void)state;
	put_check(&out, 1);
	put_many(&out, 2, 1000); /* longer than what is copied in front of a read */
	put_check(&out, 3);
	for (size_t i = 0; i < out.len; i++) {
		send_all(w, out.data + i, 1);
		turn(w);
	}
	assert_int_equal(w->sessions.counters.reads, out.len);
	expect_reason(w, 1, "not_loaded");
	{
		struct rpc_reply reply = receive(w);

		assert_int_equal(reply.msgid, 2);
		assert_int_equal(reply.result.type, VALUE_LIST);
		assert_int_equal(reply.result.count, 1000);
	}
	expect_reason(w, 3, "not_loaded");
	assert_int_equal(w->core.counters.verdicts[REASON_NOT_LOADED], 1002);
	rpc_buffer_deinit(&out);
	end(w);
}

/* Pieces of every size, so that a message ends at each place of a read. */
static void test_pieces(void **state)
{
	struct world *w = world_with("", RPC_SERVICE_CHECK);
	struct rpc_buffer out = {0};
	uint32_t sent = 0;

	(void)state;
	for (size_t piece = 1; piece < 400; piece += 7) {
		for (unsigned i = 0; i < 5; i++)
			put_check(&out, sent++);
		for (size_t at = 0; at < out.len; at += piece) {
			send_all(w, out.data + at, out.len - at < piece ? out.len - at : piece);
			turn(w);
		}
		out.len = 0;
	}
	for (uint32_t i = 0; i < sent; i++)
		expect_reason(w, i, "not_loaded");
	rpc_buffer_deinit(&out);
	end(w);
}

static uint64_t counted(const struct latency *latency)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i <= LATENCY_BOUNDS; i++)
		sum += latency->within[i];
	return sum;
}

/* More than one batch, and still one read and one write. */
static void test_one_write(void **state)
{
	struct world *w = world_with("", RPC_SERVICE_CHECK);
	struct rpc_buffer out = {0};

	(void)state;
	for (uint32_t i = 0; i < 3 * REQUEST_BATCH_MAX + 1; i++)
		put_check(&out, i);
	send_buffer(w, &out);
	turn(w);
	assert_int_equal(w->sessions.counters.reads, 1);
	assert_int_equal(w->sessions.counters.writes, 1);
	assert_true(client_read(w));
	assert_false(client_read(w));
	for (uint32_t i = 0; i < 3 * REQUEST_BATCH_MAX + 1; i++)
		expect_reason(w, i, "not_loaded");
	assert_int_equal(counted(&w->sessions.answered), 3 * REQUEST_BATCH_MAX + 1);
	end(w);
}

/* Each question that is answered is counted in how long it took, however it comes; what is none is not. */
static void test_latency(void **state)
{
	struct world *w = world_with("[limits]\noutput_bytes_per_connection = 65536\n", RPC_SERVICE_CHECK);
	struct rpc_buffer out = {0};

	(void)state;
	rpc_put_hello(&out, 1, text("test"), text("1"));
	rpc_put_call(&out, 2, "stats", NULL);
	rpc_put_call(&out, 3, "nothing", NULL);
	send_buffer(w, &out);
	turn(w);
	assert_int_equal(counted(&w->sessions.answered), 0);
	for (unsigned i = 0; i < 3; i++)
		receive(w);
	/* Part of them is held until the peer reads. */
	for (uint32_t i = 0; i < 2000; i++)
		put_check(&out, i);
	send_buffer(w, &out);
	for (uint32_t i = 0; i < 2000; i++)
		expect_reason(w, i, "not_loaded");
	turn(w);
	assert_int_equal(counted(&w->sessions.answered), 2000);
	put_many(&out, 1, 10);
	put_check(&out, 2);
	send_buffer(w, &out);
	send_all(w, (const uint8_t *)"\xc1", 1);
	turn(w);
	assert_int_equal(counted(&w->sessions.answered), 2002);
	end(w);
}

static void test_mixed(void **state)
{
	struct world *w = world_with("[limits]\npairs = 2\n", RPC_SERVICE_CHECK);
	static const uint8_t notification[] = {0x93, 0x02, 0xa1, 'x', 0x90};
	struct rpc_buffer out = {0};
	struct rpc_reply reply;

	(void)state;
	rpc_put_hello(&out, 1, text("test"), text("1"));
	put_many(&out, 2, 3);
	rpc_put_call(&out, 3, "stats", NULL);
	rpc_put_call(&out, 4, "nope", NULL);
	rpc_put_check(&out, 5, text("junk"), (struct rpc_pair){.scope = text("a:b")}, NULL);
	send_all(w, notification, sizeof(notification));
	send_buffer(w, &out);
	for (unsigned seen = 0; seen != 31; seen |= 1U << (reply.msgid - 1)) {
		reply = receive(w);
		switch (reply.msgid) {
		case 1:
			assert_string_equal(value_as_text(value_get(&reply.result, "server"), ""), "apikeyd");
			assert_int_equal(value_as_int(value_get(value_get(&reply.result, "limits"), "pairs"), 0), 2);
			break;
		case 2:
			assert_int_equal(reply.error.code, RPC_LIMIT);
			assert_string_equal(reply.error.message, "3 pairs: limits.pairs allows 2");
			break;
		case 3:
			assert_int_equal(value_as_int(value_get(&reply.result, "answer"), 0), 42);
			break;
		case 4:
			assert_int_equal(reply.error.code, RPC_UNKNOWN_METHOD);
			break;
		case 5:
			assert_string_equal(value_as_text(value_get(&reply.result, "reason"), ""), "malformed_key");
			break;
		default:
			fail_msg("msgid %u", reply.msgid);
		}
	}
	assert_int_equal(w->sessions.counters.notifications, 1);
	assert_int_equal(w->sessions.counters.limit_pairs, 1);
	assert_int_equal(w->sessions.counters.request_errors, 2);
	end(w);
}

/* Once a read is answered, nothing of a key is left in the buffers that it went through. */
static void test_wiped(void **state)
{
	struct world *w = world_with("", RPC_SERVICE_CHECK);
	struct rpc_buffer out = {0};

	(void)state;
	for (uint32_t i = 0; i < 20; i++)
		put_check(&out, i);
	send_all(w, out.data, out.len - 3);
	turn(w);
	assert_null(memmem(w->sessions.read_buffer, w->sessions.read_size, KEY, 20));
	send_all(w, out.data + out.len - 3, 3);
	turn(w);
	assert_null(memmem(w->sessions.read_buffer, w->sessions.read_size, KEY, 20));
	for (uint32_t i = 0; i < 20; i++)
		expect_reason(w, i, "not_loaded");
	rpc_buffer_deinit(&out);
	end(w);
}

/* ---- faults of the stream ---- */

static void test_malformed(void **state)
{
	struct world *w = world_with("", RPC_SERVICE_CHECK);
	struct rpc_buffer out = {0};
	uint8_t junk = 0xc1;

	(void)state;
	put_check(&out, 7);
	send_buffer(w, &out);
	send_all(w, &junk, 1);
	expect_reason(w, 7, "not_loaded");
	expect_notice(w, RPC_MALFORMED, "");
	expect_eof(w);
	assert_int_equal(w->sessions.counters.closed_malformed, 1);
	/* The peer has read the end; its close ends the session. */
	close(w->fd);
	w->fd = -1;
	expect_gone(w);
	end(w);
}

/* A peer that does not close its end after a notice is closed all the same. */
static void test_linger(void **state)
{
	struct world *w = world_with("", RPC_SERVICE_CHECK);
	uint8_t junk[] = {0x01};

	(void)state;
	send_all(w, junk, 1);
	expect_notice(w, RPC_MALFORMED, "");
	expect_eof(w);
	expect_gone(w);
	end(w);
}

static void test_no_rpc(void **state)
{
	struct world *w = world_with("", RPC_SERVICE_CHECK);
	uint8_t junk[] = {0x93, 0x07, 0x01, 0x90};

	(void)state;
	send_all(w, junk, sizeof(junk));
	expect_notice(w, RPC_MALFORMED, "");
	expect_eof(w);
	end(w);
}

static void test_too_long(void **state)
{
	struct world *w = world_with("[limits]\nmessage_bytes = 1k\n", RPC_SERVICE_CHECK);
	struct rpc_buffer out = {0};

	(void)state;
	put_many(&out, 1, 100);
	send_buffer(w, &out);
	expect_notice(w, RPC_MALFORMED, "long");
	expect_eof(w);
	end(w);
}

static void test_partial_times_out(void **state)
{
	struct world *w = world_with("[limits]\npartial_message_ms = 40ms\n", RPC_SERVICE_CHECK);
	struct rpc_buffer out = {0};

	(void)state;
	put_check(&out, 1);
	put_check(&out, 2);
	send_all(w, out.data, out.len - 1);
	expect_reason(w, 1, "not_loaded");
	expect_notice(w, RPC_LIMIT, "limits.partial_message_ms");
	expect_eof(w);
	assert_int_equal(w->sessions.counters.closed_partial, 1);
	rpc_buffer_deinit(&out);
	end(w);
}

static void test_idle_times_out(void **state)
{
	struct world *w = world_with("[limits]\nidle_ms = 40ms\n", RPC_SERVICE_CHECK);

	(void)state;
	expect_notice(w, RPC_LIMIT, "limits.idle_ms");
	expect_eof(w);
	assert_int_equal(w->sessions.counters.closed_idle, 1);
	end(w);
}

/* ---- the end ---- */

static void test_half_close(void **state)
{
	struct world *w = world_with("", RPC_SERVICE_CHECK);
	struct rpc_buffer out = {0};

	(void)state;
	put_check(&out, 1);
	put_check(&out, 2);
	send_buffer(w, &out);
	shutdown(w->fd, SHUT_WR);
	expect_reason(w, 1, "not_loaded");
	expect_reason(w, 2, "not_loaded");
	expect_eof(w);
	expect_gone(w);
	end(w);
}

static void test_peer_goes(void **state)
{
	struct world *w = world_with("", RPC_SERVICE_CHECK);
	struct rpc_buffer out = {0};

	(void)state;
	put_check(&out, 1);
	send_buffer(w, &out);
	close(w->fd);
	w->fd = -1;
	expect_gone(w);
	end(w);
}

/* What has arrived when the daemon stops is still answered, then the connection ends. */
static void test_stop(void **state)
{
	struct world *w = world_with("", RPC_SERVICE_CHECK);
	struct rpc_buffer out = {0};

	(void)state;
	for (uint32_t i = 0; i < 50; i++)
		put_check(&out, i);
	send_all(w, out.data, out.len - 1);
	sessions_stop(&w->sessions);
	for (uint32_t i = 0; i < 49; i++)
		expect_reason(w, i, "not_loaded");
	expect_eof(w);
	expect_gone(w);
	rpc_buffer_deinit(&out);
	end(w);
}

/* ---- slow readers ---- */

/* A peer that writes without reading is not read from any more; when it reads, it gets every answer. */
static void test_slow_reader(void **state)
{
	struct world *w = world_with("[limits]\noutput_bytes_per_connection = 64k\n", RPC_SERVICE_CHECK);
	struct rpc_buffer out = {0};
	uint32_t sent = 0;
	size_t at = 0;

	(void)state;
	for (; sent < 20000; sent++)
		put_check(&out, sent);
	while (w->sessions.counters.paused == 0) {
		ssize_t n = send(w->fd, out.data + at, out.len - at, MSG_NOSIGNAL | MSG_DONTWAIT);

		at += n > 0 ? (size_t)n : 0;
		assert_true(at < out.len);
		turn(w);
	}
	assert_int_equal(w->sessions.count, 1);
	for (uint32_t i = 0; i < sent; i++) {
		ssize_t n = send(w->fd, out.data + at, out.len - at, MSG_NOSIGNAL | MSG_DONTWAIT);

		at += n > 0 ? (size_t)n : 0;
		expect_reason(w, i, "not_loaded");
		arena_clear(&w->arena);
		if (w->in_taken == w->in_len)
			w->in_taken = w->in_len = 0;
	}
	assert_int_equal(at, out.len);
	assert_int_equal(w->sessions.counters.closed_output, 0);
	rpc_buffer_deinit(&out);
	end(w);
}

/* ---- who may connect ---- */

static void test_connection_limits(void **state)
{
	struct world *w = world_with("[limits]\nconnections = 3\nconnections_per_uid = 2\n", RPC_SERVICE_CHECK);
	int first = w->fd, second = connect_to(w, RPC_SERVICE_CHECK);

	(void)state;
	assert_int_equal(w->sessions.count, 2);
	w->fd = connect_to(w, RPC_SERVICE_CHECK);
	expect_notice(w, RPC_LIMIT, "limits.connections_per_uid");
	expect_eof(w);
	close(w->fd);
	assert_int_equal(w->sessions.counters.refused_uid_connections, 1);
	w->config->connections = 2;
	w->eof = false;
	w->fd = connect_to(w, RPC_SERVICE_CHECK);
	expect_notice(w, RPC_LIMIT, "limits.connections");
	expect_eof(w);
	close(w->fd);
	assert_int_equal(w->sessions.counters.refused_connections, 1);
	/* One goes, another may come. */
	close(first);
	while (w->sessions.count == 2)
		uv_run(&w->loop, UV_RUN_ONCE);
	w->fd = connect_to(w, RPC_SERVICE_CHECK);
	assert_int_equal(w->sessions.count, 2);
	close(second);
	end(w);
}

/* ---- who they are ---- */

static struct session *newest(struct world *w)
{
	assert_non_null(w->sessions.first);
	return w->sessions.first;
}

/* As the kernel itself has it, through a real socket. */
static void test_peer(void **state)
{
	struct world *w = world_with("", RPC_SERVICE_CHECK);
	const struct session *session = newest(w);
	int count = getgroups(0, NULL);
	gid_t *groups = calloc((size_t)count + 1, sizeof(*groups));

	(void)state;
	assert_int_equal(getgroups(count, groups), count);
	assert_int_equal(session->owner.uid, geteuid());
	assert_int_equal(session->owner.gid, getegid());
	assert_int_equal(session->owner.pid, getpid());
	assert_true(session->owner.gids_known);
	assert_int_equal(session->owner.gid_count, count);
	if (count > 0)
		assert_memory_equal(session->owner.gids, groups, (size_t)count * sizeof(*groups));
	assert_null(session->owner.stack);
	free(groups);
	end(w);
}

/* As many groups as there may be, as the kernel itself has them. */
static void test_peer_with_all_groups(void **state)
{
	enum { MANY = 65536 };
	int before = getgroups(0, NULL);
	gid_t *groups = calloc(MANY, sizeof(*groups)), *ours = calloc((size_t)before + 1, sizeof(*ours));
	const struct session *session;
	struct world *w;

	(void)state;
	if (geteuid() != 0) {
		free(groups);
		free(ours);
		skip(); /* needs root, to take groups */
	}
	assert_int_equal(getgroups(before, ours), before);
	for (uint32_t i = 0; i < MANY; i++)
		groups[i] = 100000 + i;
	assert_int_equal(setgroups(MANY, groups), 0);
	w = world_with("", RPC_SERVICE_CHECK);
	assert_int_equal(setgroups((size_t)before, ours), 0);
	session = newest(w);
	assert_true(session->owner.gids_known);
	assert_int_equal(session->owner.gid_count, MANY);
	assert_memory_equal(session->owner.gids, groups, MANY * sizeof(*groups));
	free(groups);
	free(ours);
	end(w);
}

/* Of every number up to beyond what is read at once, with two among them that stand for anybody's group. */
static void test_peer_groups(void **state)
{
	gid_t groups[100];
	struct world *w = world_with("", RPC_SERVICE_CHECK);

	(void)state;
	w->sessions.overflow_gid = 1005;
	kernel.groups = groups;
	for (kernel.count = 0; kernel.count < 100; kernel.count++) {
		const struct session *session;
		uint32_t at = 0, wanted = kernel.count - (kernel.count > 5) - (kernel.count > 40);

		for (uint32_t i = 0; i < kernel.count; i++)
			groups[i] = i == 40 ? 65534 : 1000 + i;
		close(w->fd);
		w->fd = connect_to(w, RPC_SERVICE_CHECK);
		session = newest(w);
		assert_true(session->owner.gids_known);
		assert_int_equal(session->owner.gid_count, wanted);
		for (uint32_t i = 0; i < kernel.count; i++) {
			if (i != 5 && i != 40)
				assert_int_equal(session->owner.gids[at++], 1000 + i);
		}
		assert_int_equal(at, wanted);
	}
	memset(&kernel, 0, sizeof(kernel));
	end(w);
}

/* A peer whose groups the kernel does not tell stays, and has none. */
static void test_peer_without_groups(void **state)
{
	static const int faults[] = {ENOPROTOOPT, ENODATA, EPERM};
	struct world *w = world_with("", RPC_SERVICE_CHECK);
	struct rpc_buffer out = {0};

	(void)state;
	for (uint32_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		close(w->fd);
		kernel.error = faults[i];
		w->fd = connect_to(w, RPC_SERVICE_CHECK);
		kernel.error = 0;
		assert_false(newest(w)->owner.gids_known);
		assert_int_equal(newest(w)->owner.gid_count, 0);
		assert_null(newest(w)->owner.gids);
		put_check(&out, i);
		send_buffer(w, &out);
		expect_reason(w, i, "not_loaded");
	}
	end(w);
}

/* A user without a translation is refused; a group without one is no group. */
static void test_peer_without_translation(void **state)
{
	struct ucred peer = {.pid = 7, .uid = 65534, .gid = 12};
	struct world *w = world_with("", RPC_SERVICE_CHECK);

	(void)state;
	kernel.peer = &peer;
	for (unsigned i = 0; i < 2; i++) {
		close(w->fd);
		w->fd = connect_to(w, RPC_SERVICE_CHECK);
		expect_notice(w, RPC_REFUSED, "overflow uid");
		expect_eof(w);
		w->eof = false;
		assert_int_equal(w->sessions.counters.refused_credentials, i + 1);
		peer.uid = w->sessions.overflow_uid = 4242;
	}
	peer.uid = 11;
	close(w->fd);
	w->fd = connect_to(w, RPC_SERVICE_CHECK);
	assert_int_equal(newest(w)->owner.uid, 11);
	assert_int_equal(newest(w)->owner.gid, 12);
	assert_int_equal(newest(w)->owner.pid, 7);
	peer.gid = 65534;
	close(w->fd);
	w->fd = connect_to(w, RPC_SERVICE_CHECK);
	assert_int_equal(newest(w)->owner.gid, (gid_t)-1);
	memset(&kernel, 0, sizeof(kernel));
	end(w);
}

static void configure(struct world *w, const char *admins, const char *explainers)
{
	struct session_users users = {0};
	char unknown[64];

	assert_int_equal(user_set_read(admins, &users.admin, unknown, sizeof(unknown)), 0);
	assert_int_equal(user_set_read(explainers, &users.explain, unknown, sizeof(unknown)), 0);
	assert_int_equal(sessions_configure(&w->sessions, w->config, &users), 0);
	assert_null(users.admin.uids);
	assert_null(users.explain.uids);
}

/* Who may ask `explain`, as the configuration has it at the time of asking; who may administer is another matter. */
static void test_may_explain(void **state)
{
	struct world *w = world_with("", RPC_SERVICE_CHECK);
	struct ucred peer = {.pid = 7, .uid = geteuid() + 1, .gid = 12};
	char uid[16];

	(void)state;
	snprintf(uid, sizeof(uid), "%u", (unsigned)peer.uid);
	assert_true(session_may_explain(newest(w))); /* the daemon's own user */
	kernel.peer = &peer;
	close(w->fd);
	w->fd = connect_to(w, RPC_SERVICE_CHECK);
	assert_false(session_may_explain(newest(w)));
	configure(w, uid, "");
	assert_false(session_may_explain(newest(w)));
	configure(w, "", uid);
	assert_true(session_may_explain(newest(w)));
	configure(w, "", "");
	assert_false(session_may_explain(newest(w)));
	memset(&kernel, 0, sizeof(kernel));
	end(w);
}

/* A connection keeps what its socket is bound to. */
static void test_bound_stack(void **state)
{
	struct world *w = world_with("", RPC_SERVICE_CHECK);
	static const char name[] = "web";
	int fds[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	sessions_accept(&w->sessions, fds[0], RPC_SERVICE_CHECK, name);
	assert_ptr_equal(newest(w)->owner.stack, name);
	configure(w, "", "");
	assert_ptr_equal(newest(w)->owner.stack, name);
	close(fds[1]);
	end(w);
}

/* ---- administration ---- */

/* Its answers come late, and to nobody where the session is gone. */
static void test_admin(void **state)
{
	struct world *w = world_with("", RPC_SERVICE_ADMIN);
	struct rpc_buffer out = {0};
	struct rpc_reply reply;

	(void)state;
	assert_int_equal(w->sessions.admin_count, 1);
	rpc_put_call(&out, 9, "no_such_method", NULL);
	send_all(w, out.data, out.len);
	reply = receive(w);
	assert_int_equal(reply.msgid, 9);
	assert_int_equal(reply.error.code, RPC_UNKNOWN_METHOD);
	send_buffer(w, &out);
	close(w->fd);
	w->fd = -1;
	expect_gone(w);
	assert_int_equal(w->sessions.admin_count, 0);
	end(w);
}

/* An administration socket knows no check, and a check socket no administration. */
static void test_services(void **state)
{
	struct world *w = world_with("", RPC_SERVICE_ADMIN);
	struct rpc_buffer out = {0};
	struct rpc_reply reply;

	(void)state;
	put_check(&out, 1);
	send_buffer(w, &out);
	reply = receive(w);
	assert_int_not_equal(reply.error.code, RPC_OK);
	close(w->fd);
	w->fd = connect_to(w, RPC_SERVICE_CHECK);
	rpc_put_call(&out, 2, "org_list", NULL);
	send_buffer(w, &out);
	reply = receive(w);
	assert_int_equal(reply.error.code, RPC_UNKNOWN_METHOD);
	end(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_byte_by_byte),
		cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_one_write),
		cmocka_unit_test(test_latency),
		cmocka_unit_test(test_mixed),
		cmocka_unit_test(test_wiped),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_linger),
		cmocka_unit_test(test_no_rpc),
		cmocka_unit_test(test_too_long),
		cmocka_unit_test(test_partial_times_out),
		cmocka_unit_test(test_idle_times_out),
		cmocka_unit_test(test_half_close),
		cmocka_unit_test(test_peer_goes),
		cmocka_unit_test(test_stop),
		cmocka_unit_test(test_slow_reader),
		cmocka_unit_test(test_connection_limits),
		cmocka_unit_test(test_peer),
		cmocka_unit_test(test_peer_with_all_groups),
		cmocka_unit_test(test_peer_groups),
		cmocka_unit_test(test_peer_without_groups),
		cmocka_unit_test(test_peer_without_translation),
		cmocka_unit_test(test_may_explain),
		cmocka_unit_test(test_bound_stack),
		cmocka_unit_test(test_admin),
		cmocka_unit_test(test_services),
	};

	signal(SIGPIPE, SIG_IGN); /* as main.c does */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
