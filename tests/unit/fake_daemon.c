#include "tests/unit/fake_daemon.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/scan.h"

enum { PEERS_MAX = 256, IN_MAX = 128 * 1024 };

struct peer {
	struct fake *fake;
	fake_script script;
	pthread_t thread;
	int fd;
	struct rpc_decoder *decoder;
	uint8_t *in;
	size_t in_len, taken;
};

struct fake {
	char dir[64], path[96];
	int listener;
	pthread_t thread;
	pthread_mutex_t lock;
	const fake_script *scripts;
	size_t count;
	unsigned accepted, asked;
	unsigned peers; /* since the last (re)start */
	struct peer *peer[PEERS_MAX];
};

static void check(bool good, const char *what)
{
	if (!good) {
		perror(what);
		abort();
	}
}

static void *run_script(void *arg)
{
	struct peer *peer = arg;

	peer->script(peer);
	/* Closed here, so that the client sees the end of a script as the end of the connection. */
	pthread_mutex_lock(&peer->fake->lock);
	close(peer->fd);
	peer->fd = -1;
	pthread_mutex_unlock(&peer->fake->lock);
	return NULL;
}

static void *run_listener(void *arg)
{
	struct fake *fake = arg;
	int fd;

	while ((fd = accept4(fake->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		struct peer *peer = calloc(1, sizeof(*peer));

		check(peer && fake->peers < PEERS_MAX, "a peer");
		peer->fake = fake;
		peer->fd = fd;
		peer->in = malloc(IN_MAX);
		peer->decoder = rpc_decoder_new();
		check(peer->in && peer->decoder, "memory");
		pthread_mutex_lock(&fake->lock);
		peer->script = fake->scripts[fake->peers < fake->count ? fake->peers : fake->count - 1];
		fake->accepted++;
		fake->peer[fake->peers++] = peer;
		check(!pthread_create(&peer->thread, NULL, run_script, peer), "a thread");
		pthread_mutex_unlock(&fake->lock);
	}
	return NULL;
}

static void begin(struct fake *fake, const fake_script *scripts, size_t count)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	fake->scripts = scripts;
	fake->count = count;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", fake->path);
	fake->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	check(fake->listener >= 0 && !bind(fake->listener, (struct sockaddr *)&address, sizeof(address)) &&
		      !listen(fake->listener, 128),
	      "a listener");
	check(!pthread_create(&fake->thread, NULL, run_listener, fake), "a thread");
}

static void end(struct fake *fake)
{
	unlink(fake->path);
	shutdown(fake->listener, SHUT_RDWR);
	pthread_join(fake->thread, NULL);
	close(fake->listener);
	for (unsigned i = 0; i < fake->peers; i++) {
		struct peer *peer = fake->peer[i];

		pthread_mutex_lock(&fake->lock);
		if (peer->fd >= 0)
			shutdown(peer->fd, SHUT_RDWR);
		pthread_mutex_unlock(&fake->lock);
		pthread_join(peer->thread, NULL);
		rpc_decoder_free(peer->decoder);
		free(peer->in);
		free(peer);
	}
	fake->peers = 0;
}

struct fake *fake_start(const fake_script *scripts, size_t count)
{
	struct fake *fake = calloc(1, sizeof(*fake));

	check(fake, "memory");
	strcpy(fake->dir, "/tmp/libapikey-test.XXXXXX");
	check(mkdtemp(fake->dir), "a directory");
	snprintf(fake->path, sizeof(fake->path), "%s/check.sock", fake->dir);
	pthread_mutex_init(&fake->lock, NULL);
	begin(fake, scripts, count);
	return fake;
}

void fake_restart(struct fake *fake, const fake_script *scripts, size_t count)
{
	end(fake);
	begin(fake, scripts, count);
}

void fake_stop(struct fake *fake)
{
	end(fake);
	rmdir(fake->dir);
	pthread_mutex_destroy(&fake->lock);
	free(fake);
}

const char *fake_path(const struct fake *fake)
{
	return fake->path;
}

static unsigned locked(struct fake *fake, const unsigned *number)
{
	unsigned n;

	pthread_mutex_lock(&fake->lock);
	n = *number;
	pthread_mutex_unlock(&fake->lock);
	return n;
}

unsigned fake_accepted(struct fake *fake)
{
	return locked(fake, &fake->accepted);
}

unsigned fake_asked(struct fake *fake)
{
	return locked(fake, &fake->asked);
}

/* ---- for scripts ---- */

static bool next_any(struct peer *peer, struct rpc_request *ret)
{
	static const struct scan_limits limits = {RPC_MESSAGE_MAX, SCAN_DEPTH_MAX};
	struct rpc_error error;
	size_t size;
	ssize_t n;

	rpc_decoder_reset(peer->decoder);
	peer->in_len -= peer->taken;
	memmove(peer->in, peer->in + peer->taken, peer->in_len);
	peer->taken = 0;
	while (scan_message(peer->in, peer->in_len, &limits, &size) != SCAN_MESSAGE) {
		n = recv(peer->fd, peer->in + peer->in_len, IN_MAX - peer->in_len, 0);
		if (n <= 0)
			return false;
		peer->in_len += (size_t)n;
	}
	peer->taken = size;
	if (rpc_decode_request(peer->decoder, RPC_SERVICE_CHECK, peer->in, size, ret, &error) != RPC_OK) {
		fprintf(stderr, "the library sent what cannot be read: %s\n", error.message);
		abort();
	}
	return true;
}

bool peer_next(struct peer *peer, struct rpc_request *ret)
{
	if (!next_any(peer, ret))
		return false;
	pthread_mutex_lock(&peer->fake->lock);
	peer->fake->asked++;
	pthread_mutex_unlock(&peer->fake->lock);
	return true;
}

bool peer_greet_with(struct peer *peer, uint64_t protocol, uint64_t in_flight)
{
	struct rpc_buffer out = {0};
	struct rpc_request request;
	struct arena arena = {0};
	struct value map, *limits;

	if (!next_any(peer, &request) || request.method != RPC_METHOD_HELLO)
		return false;
	value_map(&map);
	value_set_text(&arena, &map, "server", "apikeyd");
	if (protocol)
		value_set_uint(&arena, &map, "protocol", protocol);
	limits = value_set(&arena, &map, "limits");
	value_map(limits);
	if (in_flight)
		value_set_uint(&arena, limits, "in_flight", in_flight);
	rpc_put_result(&out, request.msgid, &map);
	peer_put(peer, &out);
	arena_clear(&arena);
	return true;
}

bool peer_greet(struct peer *peer)
{
	return peer_greet_with(peer, RPC_PROTOCOL, 0);
}

bool peer_has_more(struct peer *peer)
{
	char byte;

	return peer->in_len > peer->taken || recv(peer->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

void peer_wait(struct peer *peer)
{
	struct rpc_request request;

	while (next_any(peer, &request))
		;
}

void peer_bytes(struct peer *peer, const void *data, size_t len)
{
	const uint8_t *bytes = data;

	while (len > 0) {
		ssize_t n = send(peer->fd, bytes, len, MSG_NOSIGNAL);

		if (n <= 0)
			return;
		bytes += n;
		len -= (size_t)n;
	}
}

void peer_put(struct peer *peer, struct rpc_buffer *bytes)
{
	check(!bytes->failed, "memory");
	peer_bytes(peer, bytes->data, bytes->len);
	rpc_buffer_deinit(bytes);
}

static struct rpc_answer answer_of(enum reason reason, struct rpc_text page)
{
	return (struct rpc_answer){
		.reason = reason,
		.rev = 42,
		.age_ms = 7,
		.proven = true,
		.key_id = "0123456789",
		.kind = KEY_KIND_ORGANIZATION,
		.org = {"acme", 4},
		.page = page,
	};
}

void peer_answer(struct peer *peer, uint32_t msgid, enum reason reason, const char *page)
{
	struct rpc_answer answer = answer_of(reason, (struct rpc_text){page, page ? (uint32_t)strlen(page) : 0});
	struct rpc_buffer out = {0};

	rpc_put_answer(&out, msgid, &answer);
	peer_put(peer, &out);
}

static void put_whole(struct peer *peer, const struct rpc_request *request, struct rpc_answer answer)
{
	struct rpc_buffer out = {0};
	struct rpc_text pages[] = {{"alpha", 5}, {"beta", 4}};

	if (request->method == RPC_METHOD_CHECK_MANY) {
		rpc_put_answers_head(&out, request->msgid, request->pair_count);
		for (uint32_t i = 0; i < request->pair_count; i++) {
			answer.page = request->pairs[i].page;
			rpc_put_answer_map(&out, &answer);
		}
	} else {
		if (request->method == RPC_METHOD_PAGES && answer.reason == REASON_OK) {
			answer.has_pages = true;
			answer.pages = pages;
			answer.page_count = 2;
		}
		rpc_put_answer(&out, request->msgid, &answer);
	}
	peer_put(peer, &out);
}

void peer_allow(struct peer *peer, const struct rpc_request *request)
{
	put_whole(peer, request, answer_of(REASON_OK, request->pair.page));
}

void script_stale(struct peer *peer)
{
	struct rpc_request request;

	if (!peer_greet(peer))
		return;
	for (unsigned n = 0; peer_next(peer, &request); n++) {
		struct rpc_answer answer = answer_of(n % 2 ? REASON_STALE : REASON_OK, request.pair.page);

		answer.age_ms = 12345;
		answer.stale = n % 2 == 0;
		answer.has_retry = n % 2 == 1;
		answer.retry_after_ms = 250;
		put_whole(peer, &request, answer);
	}
}

void script_allow(struct peer *peer)
{
	struct rpc_request request;

	if (!peer_greet(peer))
		return;
	while (peer_next(peer, &request))
		peer_allow(peer, &request);
}

void script_silent(struct peer *peer)
{
	struct rpc_request request;

	if (peer_greet(peer))
		while (peer_next(peer, &request))
			;
}

void script_close_at_once(struct peer *peer)
{
	(void)peer;
}
