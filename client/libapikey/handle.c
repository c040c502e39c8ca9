/*
 * The blocking form: a bounded pool of connections, and each call with one to itself. The lock is held to take one
 * and to put it back, never while anything waits for the daemon.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client/apikey.h"
#include "client/libapikey/answer.h"
#include "client/libapikey/ask.h"
#include "client/libapikey/call.h"
#include "client/libapikey/error.h"
#include "client/libapikey/settings.h"

struct connection {
	struct call call;
	struct connection *next; /* in the stack of idle ones */
};

struct apikey {
	struct settings settings;
	pthread_mutex_t lock;
	pthread_cond_t put_back;
	/* Under the lock. The last one put back lies on top: those that are open lie above those that never were. */
	struct connection *idle;
	pid_t owner;
	struct connection connections[]; /* settings.connections of them */
};

static int init_lock(struct apikey *handle)
{
	pthread_condattr_t attributes;
	int r = pthread_condattr_init(&attributes);

	if (r)
		return -r;
	/* deadlines are monotonic */
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	r = pthread_cond_init(&handle->put_back, &attributes);
	pthread_condattr_destroy(&attributes);
	if (r)
		return -r;
	r = pthread_mutex_init(&handle->lock, NULL);
	if (r)
		pthread_cond_destroy(&handle->put_back);
	return -r;
}

int apikey_open(const struct apikey_options *options, struct apikey **ret)
{
	struct settings settings;
	struct apikey *handle;
	int r;

	error_clear();
	if (!ret)
		return error_set(-EINVAL, "there is nowhere to put the handle");
	*ret = NULL;
	r = settings_read(options, &settings);
	if (r)
		return r;
	handle = calloc(1, sizeof(*handle) + settings.connections * sizeof(handle->connections[0]));
	if (!handle)
		return error_set(-ENOMEM, "out of memory");
	handle->settings = settings;
	handle->owner = getpid();
	r = init_lock(handle);
	if (r) {
		free(handle);
		return error_set(r, "cannot make a lock: %s", strerror(-r));
	}
	for (unsigned i = 0; i < settings.connections; i++) {
		struct connection *connection = &handle->connections[i];

		call_open(&connection->call, settings.address.sun_path);
		connection->call.client = handle->settings.client;
		connection->next = handle->idle;
		handle->idle = connection;
	}
	*ret = handle;
	return 0;
}

void apikey_close(struct apikey *handle)
{
	if (!handle)
		return;
	for (unsigned i = 0; i < handle->settings.connections; i++)
		call_close(&handle->connections[i].call);
	pthread_mutex_destroy(&handle->lock);
	pthread_cond_destroy(&handle->put_back);
	free(handle);
}

const char *apikey_error(void)
{
	return error_text();
}

/* In a child of fork() all are idle (apikey.h asks for that), and shared with the parent: it makes its own. */
static void leave_parent(struct apikey *handle)
{
	pid_t self = getpid();

	if (handle->owner == self)
		return;
	for (unsigned i = 0; i < handle->settings.connections; i++)
		wire_close(&handle->connections[i].call.wire);
	handle->owner = self;
}

/* NULL, with error.h's line set: none came free in time. */
static struct connection *take(struct apikey *handle, int64_t deadline)
{
	struct timespec until = {.tv_sec = deadline / 1000, .tv_nsec = deadline % 1000 * 1000000};
	struct connection *connection;
	int r = 0;

	pthread_mutex_lock(&handle->lock);
	leave_parent(handle);
	while (!handle->idle && r != ETIMEDOUT)
		r = pthread_cond_timedwait(&handle->put_back, &handle->lock, &until);
	connection = handle->idle;
	if (connection)
		handle->idle = connection->next;
	pthread_mutex_unlock(&handle->lock);
	if (!connection)
		error_set(-EBUSY, "all %u connections were in use for the time allowed", handle->settings.connections);
	return connection;
}

static void put_back(struct apikey *handle, struct connection *connection)
{
	struct connection **at = &handle->idle;

	pthread_mutex_lock(&handle->lock);
	/* One that is closed goes below the open ones, so that those are used first. */
	if (connection->call.wire.fd < 0)
		while (*at && (*at)->call.wire.fd >= 0)
			at = &(*at)->next;
	connection->next = *at;
	*at = connection;
	pthread_cond_signal(&handle->put_back);
	pthread_mutex_unlock(&handle->lock);
}

static int ask_once(struct connection *connection, const struct ask *ask, int64_t deadline, struct arena *arena,
		    struct rpc_reply *ret)
{
	struct rpc_buffer request = {0};
	uint32_t msgid = call_next_id(&connection->call);
	int64_t left = deadline - wire_now_ms();
	int r;

	/* Also where a signal or the scheduler took all the time: the daemon would answer for nobody. */
	if (left <= 0)
		return error_set(-ETIMEDOUT, "no answer within the time allowed");
	r = ask_encode(ask, msgid, left, &request);
	if (!r)
		r = call_send(&connection->call, &request, msgid, deadline, arena, ret);
	rpc_buffer_deinit(&request);
	return r;
}

static int run(struct apikey *handle, const struct ask *ask, struct answer *answer)
{
	int64_t deadline = wire_now_ms() + ask->timeout_ms;
	struct connection *connection = take(handle, deadline);
	struct arena arena = {0};
	struct rpc_reply reply;
	bool kept, again = true;
	int r = 0;

	if (!connection)
		return answer_fail(answer, -EBUSY);
	/*
	 * A kept connection may have died while nobody looked (the daemon was restarted, or tidied up and said so), and a
	 * daemon that stops may have taken a new one in just then: that says nothing about the daemon that is there now.
	 */
	for (unsigned tries = 0; again && tries < ASK_TRIES; tries++) {
		arena_clear(&arena);
		kept = connection->call.wire.fd >= 0;
		r = ask_once(connection, ask, deadline, &arena, &reply);
		again = r == -ECONNRESET || (kept && r == -EBUSY);
	}
	put_back(handle, connection);
	if (r)
		answer_fail(answer, r);
	else
		r = answer_read(answer, &arena, &reply);
	arena_clear(&arena);
	return r;
}

/* What all four questions have in common. answer holds memory of the caller's, and is overwritten first of all. */
static int put(struct apikey *handle, struct answer *answer, const char *key, const struct apikey_pair *pairs,
	       size_t count, const struct apikey_context *context)
{
	struct ask ask;
	int r;

	error_clear();
	answer_fail(answer, -EINVAL);
	if (!handle)
		return error_set(-EINVAL, "handle is NULL");
	r = ask_init(&ask, answer->kind, key, pairs, count, context, handle->settings.timeout_ms);
	if (r)
		answer_fail(answer, r);
	else
		r = run(handle, &ask, answer);
	ask_deinit(&ask);
	return r;
}

int apikey_check(struct apikey *handle, const char *key, const char *scope, const char *page,
		 const struct apikey_context *context, struct apikey_result *ret)
{
	struct answer answer = {.kind = ASK_CHECK, .count = 1, .results = ret};
	struct apikey_pair pair = {scope, page};

	if (!ret)
		return error_set(-EINVAL, "there is nowhere to put the result");
	return put(handle, &answer, key, &pair, 1, context);
}

int apikey_check_many(struct apikey *handle, const char *key, const struct apikey_pair *pairs, size_t count,
		      const struct apikey_context *context, struct apikey_result *ret)
{
	struct answer answer = {.kind = ASK_CHECK_MANY, .count = count, .results = ret};

	if (!ret)
		return error_set(-EINVAL, "there is nowhere to put the results");
	return put(handle, &answer, key, pairs, count, context);
}

int apikey_pages(struct apikey *handle, const char *key, const char *scope, const struct apikey_context *context,
		 struct apikey_page_list *ret)
{
	struct answer answer = {.kind = ASK_PAGES, .list = ret};
	struct apikey_pair pair = {scope, NULL};

	if (!ret)
		return error_set(-EINVAL, "there is nowhere to put the list");
	return put(handle, &answer, key, &pair, 1, context);
}

int apikey_whoami(struct apikey *handle, const char *key, const struct apikey_context *context,
		  struct apikey_identity *ret)
{
	struct answer answer = {.kind = ASK_WHOAMI, .identity = ret};

	if (!ret)
		return error_set(-EINVAL, "there is nowhere to put the identity");
	return put(handle, &answer, key, NULL, 0, context);
}
