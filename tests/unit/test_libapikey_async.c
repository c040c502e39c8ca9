/* libapikey's event-loop form: each callback exactly once, in time, with the right answer, whatever the daemon does. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "client/apikey.h"
#include "tests/unit/fake_daemon.h"

#define KEY	   "aku_0123456789_thesecretpartofakeythatisnotakeyatall"
#define SCRIPTS(s) (s), sizeof(s) / sizeof((s)[0])

enum {
	SHORT_MS = 50,
	LONG_MS = 60000,
	MANY = 1000,
};

/* One question and what became of it. */
struct seen {
	struct apikey_async *handle;
	uint64_t id;
	char page[32];
	int calls, err;
	struct apikey_result result;
	size_t count; /* check_many, pages */
	bool inside;  /* a start call is running */
	void (*then)(struct seen *seen);
	struct seen *other;
};

static void note(struct seen *seen, int err, const struct apikey_result *result)
{
	assert_false(seen->inside);
	assert_non_null(result);
	assert_int_equal(err != 0, *apikey_error() != '\0');
	if (err)
		assert_int_equal(result->verdict, err == -EINVAL ? APIKEY_DENY : APIKEY_UNAVAILABLE);
	seen->calls++;
	seen->err = err;
	seen->result = *result;
	if (seen->then)
		seen->then(seen);
}

static void on_check(void *data, int err, const struct apikey_result *result)
{
	note(data, err, result);
}

static void on_many(void *data, int err, const struct apikey_result *results, size_t count)
{
	((struct seen *)data)->count = count;
	for (size_t i = 0; i < count; i++)
		assert_int_equal(results[i].verdict, results[0].verdict);
	note(data, err, results);
}

static void on_pages(void *data, int err, const struct apikey_page_list *list)
{
	((struct seen *)data)->count = list->count;
	note(data, err, &list->result);
}

static void on_whoami(void *data, int err, const struct apikey_identity *identity)
{
	note(data, err, &identity->result);
}

static struct apikey_async *open_with(const char *path, int timeout_ms, unsigned in_flight, unsigned queue)
{
	struct apikey_options options = APIKEY_OPTIONS_INIT;
	struct apikey_async *handle;

	options.socket = path;
	options.timeout_ms = timeout_ms;
	options.in_flight = in_flight;
	options.queue = queue;
	assert_int_equal(apikey_async_open(&options, &handle), 0);
	return handle;
}

static void start_for(struct apikey_async *handle, struct seen *seen, const char *page, int timeout_ms)
{
	struct apikey_context context = APIKEY_CONTEXT_INIT;

	context.timeout_ms = timeout_ms;
	seen->handle = handle;
	seen->inside = true;
	snprintf(seen->page, sizeof(seen->page), "%s", page);
	assert_int_equal(apikey_async_check(handle, KEY, "page:read", page, &context, on_check, seen, &seen->id), 0);
	assert_true(seen->id != 0);
	seen->inside = false;
}

static void start(struct apikey_async *handle, struct seen *seen, const char *page)
{
	start_for(handle, seen, page, 0);
}

/* As a loop does: waits for the one descriptor and nothing else. */
static void turn(struct apikey_async *handle)
{
	struct pollfd p = {.fd = apikey_async_fd(handle), .events = apikey_async_events(handle)};

	assert_int_equal(p.events, POLLIN);
	/* the library sets its own timers: a loop that waits for ever must not hang */
	assert_int_equal(poll(&p, 1, LONG_MS), 1);
	assert_int_equal(apikey_async_dispatch(handle), 0);
}

static void run_until(struct apikey_async *handle, const struct seen *seen, size_t count)
{
	for (size_t i = 0; i < count; i++)
		while (seen[i].calls == 0)
			turn(handle);
}

static void assert_answered(const struct seen *seen, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(seen[i].calls, 1);
		assert_int_equal(seen[i].err, 0);
		assert_int_equal(seen[i].result.verdict, APIKEY_ALLOW);
		assert_string_equal(seen[i].result.page, seen[i].page);
	}
}

/* ---- many at once ---- */

/* Collects questions and answers them backwards, when the client has no more to send or ten are there. */
static void script_backwards(struct peer *peer)
{
	struct rpc_request request;
	uint32_t ids[10];
	char pages[10][32];

	if (!peer_greet(peer))
		return;
	for (;;) {
		for (int i = 0; i < 10; i++) {
			if (!peer_next(peer, &request))
				return;
			ids[i] = request.msgid;
			snprintf(pages[i], sizeof(pages[i]), "%.*s", (int)request.pair.page.len,
				 request.pair.page.data);
		}
		for (int i = 9; i >= 0; i--)
			peer_answer(peer, ids[i], REASON_OK, pages[i]);
	}
}

static void test_many_out_of_order(void **state)
{
	const fake_script scripts[] = {script_backwards};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey_async *handle = open_with(fake_path(fake), LONG_MS, 0, 0);
	struct seen *seen = calloc(MANY, sizeof(*seen));
	int fd = apikey_async_fd(handle);

	(void)state;
	for (int round = 0; round < 2; round++) {
		memset(seen, 0, MANY * sizeof(*seen));
		for (int i = 0; i < MANY; i++) {
			char page[32];

			snprintf(page, sizeof(page), "page-%d-%d", round, i);
			start(handle, &seen[i], page);
		}
		run_until(handle, seen, MANY);
		assert_answered(seen, MANY);
	}
	assert_int_equal(fake_accepted(fake), 1);
	assert_int_equal(fake_asked(fake), 2 * MANY);
	assert_int_equal(apikey_async_fd(handle), fd);
	apikey_async_close(handle);
	assert_answered(seen, MANY);
	free(seen);
	fake_stop(fake);
}

static void test_every_kind(void **state)
{
	const fake_script scripts[] = {script_allow};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey_async *handle = open_with(fake_path(fake), LONG_MS, 0, 0);
	const struct apikey_pair pairs[3] = {{"a:read", NULL}, {"b:read", "x"}, {"c:read", NULL}};
	struct seen seen[4] = {0};

	(void)state;
	start(handle, &seen[0], "acme");
	assert_int_equal(apikey_async_check_many(handle, KEY, pairs, 3, NULL, on_many, &seen[1], NULL), 0);
	assert_int_equal(apikey_async_pages(handle, KEY, "page:read", NULL, on_pages, &seen[2], NULL), 0);
	assert_int_equal(apikey_async_whoami(handle, KEY, NULL, on_whoami, &seen[3], NULL), 0);
	run_until(handle, seen, 4);
	for (int i = 0; i < 4; i++)
		assert_int_equal(seen[i].result.verdict, APIKEY_ALLOW);
	assert_int_equal(seen[1].count, 3);
	assert_int_equal(seen[2].count, 2);
	assert_string_equal(seen[3].result.key_id, "0123456789");
	apikey_async_close(handle);
	fake_stop(fake);
}

/* Every kind tells of a stale copy, and none is asked again by the library. */
static void test_stale(void **state)
{
	const fake_script scripts[] = {script_stale};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey_async *handle = open_with(fake_path(fake), LONG_MS, 1, 0); /* in the order of their start */
	const struct apikey_pair pairs[2] = {{"a:read", NULL}, {"b:read", "x"}};
	struct seen seen[9] = {0};

	(void)state;
	for (int i = 0; i < 8; i += 4) {
		/* The second time one question more has come before. */
		start(handle, &seen[i], "acme");
		assert_int_equal(apikey_async_check_many(handle, KEY, pairs, 2, NULL, on_many, &seen[i + 1], NULL), 0);
		assert_int_equal(apikey_async_pages(handle, KEY, "page:read", NULL, on_pages, &seen[i + 2], NULL), 0);
		assert_int_equal(apikey_async_whoami(handle, KEY, NULL, on_whoami, &seen[i + 3], NULL), 0);
		if (i == 0) {
			start(handle, &seen[8], "acme");
			run_until(handle, &seen[8], 1);
		}
	}
	run_until(handle, seen, 9);
	for (int i = 0; i < 9; i++) {
		bool marked = i == 8 || (i < 4 ? i % 2 == 0 : i % 2 == 1);

		assert_int_equal(seen[i].result.verdict, marked ? APIKEY_ALLOW : APIKEY_UNAVAILABLE);
		assert_int_equal(seen[i].result.stale, marked);
		assert_int_equal(seen[i].result.age_ms, 12345);
		assert_int_equal(seen[i].result.retry_after_ms, marked ? 0 : 250);
		assert_int_equal(seen[i].calls, 1);
	}
	assert_int_equal(fake_asked(fake), 9);
	apikey_async_close(handle);
	fake_stop(fake);
}

/* Takes 4 at once, and says so: where a fifth comes all the same, they are refused. */
static void script_four_at_once(struct peer *peer)
{
	struct rpc_request request;
	bool more = false;
	uint32_t ids[4];

	if (!peer_greet_with(peer, RPC_PROTOCOL, 4))
		return;
	for (;;) {
		for (int i = 0; i < 4; i++) {
			if (!peer_next(peer, &request))
				return;
			ids[i] = request.msgid;
		}
		usleep(2000); /* for a fifth to come, where one does */
		more |= peer_has_more(peer);
		for (int i = 0; i < 4; i++)
			peer_answer(peer, ids[i], more ? REASON_POLICY : REASON_OK, NULL);
	}
}

static void test_window(void **state)
{
	const fake_script scripts[] = {script_four_at_once};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey_async *handle = open_with(fake_path(fake), LONG_MS, 0, 0);
	struct seen seen[40] = {0};

	(void)state;
	for (int i = 0; i < 40; i++)
		start(handle, &seen[i], "");
	run_until(handle, seen, 40);
	assert_answered(seen, 40);
	apikey_async_close(handle);
	fake_stop(fake);
}

static void test_queue_is_bounded(void **state)
{
	const fake_script scripts[] = {script_allow};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey_async *handle = open_with(fake_path(fake), LONG_MS, 0, 3);
	struct seen seen[4] = {0};
	uint64_t id = 0;

	(void)state;
	for (int round = 0; round < 3; round++) {
		memset(seen, 0, sizeof(seen));
		for (int i = 0; i < 3; i++)
			start(handle, &seen[i], "acme");
		assert_int_equal(apikey_async_check(handle, KEY, "page:read", NULL, NULL, on_check, &seen[3], &id),
				 -EBUSY);
		run_until(handle, seen, 3);
		assert_answered(seen, 3);
	}
	assert_int_equal(seen[3].calls, 0);
	assert_int_equal(id, 0);
	apikey_async_close(handle);
	fake_stop(fake);
}

static void test_wrong_arguments(void **state)
{
	struct apikey_async *handle = open_with("/nowhere", LONG_MS, 0, 0);
	struct seen seen = {0};

	(void)state;
	assert_int_equal(apikey_async_check(NULL, KEY, "a:read", NULL, NULL, on_check, &seen, NULL), -EINVAL);
	assert_int_equal(apikey_async_check(handle, NULL, "a:read", NULL, NULL, on_check, &seen, NULL), -EINVAL);
	assert_int_equal(apikey_async_check(handle, KEY, NULL, NULL, NULL, on_check, &seen, NULL), -EINVAL);
	assert_int_equal(apikey_async_check(handle, KEY, "a:read", NULL, NULL, NULL, &seen, NULL), -EINVAL);
	assert_int_equal(apikey_async_check_many(handle, KEY, NULL, 3, NULL, on_many, &seen, NULL), -EINVAL);
	assert_int_equal(apikey_async_cancel(handle, 17), -ENOENT);
	assert_int_equal(apikey_async_cancel(handle, 0), -EINVAL);
	assert_int_equal(apikey_async_dispatch(handle), 0);
	assert_int_equal(apikey_async_dispatch(NULL), -EINVAL);
	apikey_async_close(handle);
	apikey_async_close(NULL);
	assert_int_equal(seen.calls, 0);
}

/* ---- daemons that are not there, or not well ---- */

static int fails_against(fake_script script, int timeout_ms)
{
	const fake_script scripts[] = {script};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey_async *handle = open_with(fake_path(fake), timeout_ms, 0, 0);
	struct seen seen[20] = {0};

	for (int i = 0; i < 20; i++)
		start(handle, &seen[i], "acme");
	run_until(handle, seen, 20);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(seen[i].calls, 1);
		assert_int_equal(seen[i].err, seen[0].err);
		assert_int_equal(seen[i].result.verdict, APIKEY_UNAVAILABLE);
	}
	apikey_async_close(handle);
	for (int i = 0; i < 20; i++)
		assert_int_equal(seen[i].calls, 1);
	fake_stop(fake);
	return seen[0].err;
}

static void script_no_hello(struct peer *peer)
{
	peer_wait(peer);
}

static void script_other_protocol(struct peer *peer)
{
	peer_greet_with(peer, RPC_PROTOCOL + 1, 0);
	peer_wait(peer);
}

static void script_full(struct peer *peer)
{
	struct rpc_error error = {.code = RPC_LIMIT, .message = "limits.connections"};
	struct rpc_buffer out = {0};

	rpc_put_notice(&out, &error);
	peer_put(peer, &out);
}

static void script_garbage(struct peer *peer)
{
	struct rpc_request request;

	if (peer_greet(peer) && peer_next(peer, &request))
		peer_bytes(peer, "\xc1\xc1\xc1", 3);
	peer_wait(peer);
}

static void script_other_id(struct peer *peer)
{
	struct rpc_request request;

	if (peer_greet(peer) && peer_next(peer, &request))
		peer_answer(peer, request.msgid ^ 0x10000, REASON_OK, NULL);
	peer_wait(peer);
}

static void script_dies(struct peer *peer)
{
	struct rpc_request request;

	if (peer_greet(peer) && peer_next(peer, &request))
		peer_bytes(peer, "\x94\x01", 2);
}

static void test_bad_daemons(void **state)
{
	(void)state;
	assert_int_equal(fails_against(script_close_at_once, LONG_MS), -ECONNRESET);
	assert_int_equal(fails_against(script_no_hello, SHORT_MS), -ETIMEDOUT);
	assert_int_equal(fails_against(script_other_protocol, LONG_MS), -EPROTONOSUPPORT);
	assert_int_equal(fails_against(script_full, LONG_MS), -EBUSY);
	assert_int_equal(fails_against(script_silent, SHORT_MS), -ETIMEDOUT);
	assert_int_equal(fails_against(script_garbage, LONG_MS), -EPROTO);
	assert_int_equal(fails_against(script_other_id, LONG_MS), -EPROTO);
	assert_int_equal(fails_against(script_dies, LONG_MS), -ECONNRESET);
}

static void test_nobody_listens(void **state)
{
	struct apikey_async *handle = open_with("/tmp/libapikey-test.nobody", LONG_MS, 0, 0);
	struct seen seen[3] = {0};

	(void)state;
	for (int i = 0; i < 3; i++)
		start(handle, &seen[i], "acme");
	run_until(handle, seen, 3);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(seen[i].calls, 1);
		assert_int_equal(seen[i].err, -ENOENT);
	}
	apikey_async_close(handle);
}

static void test_backlog_full(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_STREAM, 0), fill[8];
	struct apikey_async *handle;
	struct seen seen = {0};
	unsigned filled = 0;

	(void)state;
	snprintf(address.sun_path, sizeof(address.sun_path), "/tmp/libapikey-test.full.%d", (int)getpid());
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, 0), 0);
	do {
		fill[filled] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	} while (!connect(fill[filled++], (struct sockaddr *)&address, sizeof(address)) && filled < 8);
	handle = open_with(address.sun_path, SHORT_MS, 0, 0);
	start(handle, &seen, "acme");
	run_until(handle, &seen, 1);
	assert_int_equal(seen.err, -ETIMEDOUT);
	apikey_async_close(handle);
	while (filled > 0)
		close(fill[--filled]);
	close(listener);
	unlink(address.sun_path);
}

/* A connection that says nothing is given up with the question that waited for it; the next gets another. */
static void test_silent_connection_is_left(void **state)
{
	const fake_script scripts[] = {script_silent, script_no_hello, script_allow};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey_async *handle = open_with(fake_path(fake), LONG_MS, 0, 0);
	struct seen seen[3] = {0};

	(void)state;
	for (int i = 0; i < 3; i++) {
		start_for(handle, &seen[i], "acme", i < 2 ? SHORT_MS : LONG_MS);
		run_until(handle, &seen[i], 1);
		assert_int_equal(seen[i].err, i < 2 ? -ETIMEDOUT : 0);
	}
	assert_answered(&seen[2], 1);
	assert_int_equal(fake_accepted(fake), 3);
	apikey_async_close(handle);
	fake_stop(fake);
}

/* Answers all but those about the page "slow", and those only when the page "go" is asked for. */
static void script_slow(struct peer *peer)
{
	struct rpc_request request;
	uint32_t slow = 0;

	if (!peer_greet(peer))
		return;
	while (peer_next(peer, &request)) {
		if (request.pair.page.len == 4 && !memcmp(request.pair.page.data, "slow", 4)) {
			slow = request.msgid;
			continue;
		}
		if (request.pair.page.len == 2 && !memcmp(request.pair.page.data, "go", 2))
			peer_answer(peer, slow, REASON_OK, "slow");
		peer_allow(peer, &request);
	}
}

/* A late answer belongs to nobody, but it is no fault of the connection. */
static void test_late_answer_is_nobodys(void **state)
{
	const fake_script scripts[] = {script_slow};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey_async *handle = open_with(fake_path(fake), LONG_MS, 0, 0);
	struct seen slow = {0}, quick[50] = {0}, go = {0};
	int asked = 0;

	(void)state;
	start(handle, &go, "first");
	run_until(handle, &go, 1);
	start_for(handle, &slow, "slow", 4 * SHORT_MS);
	/* others are answered meanwhile: the connection lives */
	while (slow.calls == 0 && asked < 50) {
		start(handle, &quick[asked], "quick");
		run_until(handle, &quick[asked++], 1);
		usleep(1000 * SHORT_MS / 10);
	}
	run_until(handle, &slow, 1);
	assert_int_equal(slow.err, -ETIMEDOUT);
	memset(&go, 0, sizeof(go));
	start(handle, &go, "go");
	run_until(handle, &go, 1);
	assert_answered(&go, 1);
	assert_answered(quick, (size_t)asked);
	assert_int_equal(slow.calls, 1);
	assert_int_equal(fake_accepted(fake), 1);
	apikey_async_close(handle);
	fake_stop(fake);
}

/* ---- connections that go ---- */

/* Answers five questions, reads some more, and dies. */
static void script_answer_five(struct peer *peer)
{
	struct rpc_request request;

	if (!peer_greet(peer))
		return;
	for (int i = 0; i < 5 && peer_next(peer, &request); i++)
		peer_allow(peer, &request);
	for (int i = 0; i < 5; i++)
		peer_next(peer, &request);
}

static void test_asked_again_when_it_dies(void **state)
{
	const fake_script scripts[] = {script_answer_five, script_allow};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey_async *handle = open_with(fake_path(fake), LONG_MS, 20, 0);
	struct seen seen[100] = {0};

	(void)state;
	for (int i = 0; i < 100; i++) {
		char page[32];

		snprintf(page, sizeof(page), "page-%d", i);
		start(handle, &seen[i], page);
	}
	run_until(handle, seen, 100);
	assert_answered(seen, 100);
	assert_int_equal(fake_accepted(fake), 2);
	apikey_async_close(handle);
	fake_stop(fake);
}

/* Answers one question, reads one more, and dies of it. */
static void script_poisoned(struct peer *peer)
{
	struct rpc_request request;

	if (peer_greet(peer) && peer_next(peer, &request)) {
		peer_allow(peer, &request);
		peer_next(peer, &request);
	}
}

static void test_asked_again_only_twice(void **state)
{
	const fake_script scripts[] = {script_poisoned, script_dies, script_dies, script_allow};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey_async *handle = open_with(fake_path(fake), LONG_MS, 0, 0);
	struct seen seen[3] = {0};

	(void)state;
	for (int i = 0; i < 3; i++) {
		start(handle, &seen[i], "acme");
		run_until(handle, &seen[i], 1);
	}
	assert_answered(&seen[0], 1);
	assert_int_equal(seen[1].err, -ECONNRESET);
	assert_answered(&seen[2], 1);
	assert_int_equal(fake_accepted(fake), 4);
	apikey_async_close(handle);
	fake_stop(fake);
}

/* A daemon that stops took a new connection in, with the hello and without. */
static void test_asked_again_on_a_new_connection(void **state)
{
	const fake_script scripts[] = {script_close_at_once, script_dies, script_allow};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey_async *handle = open_with(fake_path(fake), LONG_MS, 0, 0);
	struct seen seen[2] = {0};

	(void)state;
	start(handle, &seen[0], "acme");
	start(handle, &seen[1], "acme");
	run_until(handle, seen, 2);
	assert_answered(&seen[0], 1);
	assert_answered(&seen[1], 1);
	assert_int_equal(fake_accepted(fake), 3);
	apikey_async_close(handle);
	fake_stop(fake);
}

/* Reads two questions, answers the second, and dies of the first. */
static void script_answer_second(struct peer *peer)
{
	struct rpc_request request;

	if (peer_greet(peer) && peer_next(peer, &request) && peer_next(peer, &request))
		peer_allow(peer, &request);
}

/* Also where the second connection had been a good one to others. */
static void test_a_deadly_question_is_asked_three_times(void **state)
{
	const fake_script scripts[] = {script_poisoned, script_answer_second, script_dies, script_allow};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey_async *handle = open_with(fake_path(fake), LONG_MS, 0, 0);
	struct seen seen[4] = {0};

	(void)state;
	start(handle, &seen[0], "first");
	run_until(handle, seen, 1);
	start(handle, &seen[1], "deadly");
	start(handle, &seen[2], "harmless");
	run_until(handle, seen, 3);
	assert_int_equal(seen[1].calls, 1);
	assert_int_equal(seen[1].err, -ECONNRESET);
	assert_answered(&seen[2], 1);
	start(handle, &seen[3], "next");
	run_until(handle, seen, 4);
	assert_answered(&seen[3], 1);
	assert_int_equal(fake_accepted(fake), 4);
	apikey_async_close(handle);
	fake_stop(fake);
}

static void test_restart(void **state)
{
	const fake_script scripts[] = {script_allow};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey_async *handle = open_with(fake_path(fake), LONG_MS, 0, 0);

	(void)state;
	for (int round = 0; round < 5; round++) {
		struct seen seen[10] = {0};

		for (int i = 0; i < 10; i++)
			start(handle, &seen[i], "acme");
		run_until(handle, seen, 10);
		assert_answered(seen, 10);
		fake_restart(fake, SCRIPTS(scripts));
		/* noticed at once, or with the next question: both are right */
		if (round % 2)
			assert_int_equal(apikey_async_dispatch(handle), 0);
	}
	apikey_async_close(handle);
	fake_stop(fake);
}

/* ---- cancelling and closing ---- */

static void test_cancel(void **state)
{
	const fake_script scripts[] = {script_slow};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey_async *handle = open_with(fake_path(fake), LONG_MS, 0, 0);
	struct seen early = {0}, sent = {0}, first = {0}, go = {0};

	(void)state;
	/* before it was sent */
	start(handle, &early, "acme");
	assert_int_equal(apikey_async_cancel(handle, early.id), 0);
	assert_int_equal(early.calls, 1);
	assert_int_equal(early.err, -ECANCELED);
	assert_int_equal(early.result.verdict, APIKEY_UNAVAILABLE);
	assert_int_equal(apikey_async_cancel(handle, early.id), -ENOENT);
	/* when it is on the wire: its answer, which comes after all, is nobody's */
	start(handle, &first, "first");
	run_until(handle, &first, 1);
	start(handle, &sent, "slow");
	assert_int_equal(apikey_async_cancel(handle, sent.id), 0);
	assert_int_equal(apikey_async_cancel(handle, sent.id), -ENOENT);
	start(handle, &go, "go");
	run_until(handle, &go, 1);
	assert_answered(&go, 1);
	assert_int_equal(sent.calls, 1);
	assert_int_equal(sent.err, -ECANCELED);
	/* when it was answered */
	assert_int_equal(apikey_async_cancel(handle, go.id), -ENOENT);
	assert_int_equal(go.calls, 1);
	apikey_async_close(handle);
	assert_int_equal(early.calls + sent.calls + first.calls + go.calls, 4);
	fake_stop(fake);
}

static void test_close_answers_everyone(void **state)
{
	const fake_script scripts[] = {script_silent};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey_async *handle = open_with(fake_path(fake), LONG_MS, 4, 0);
	struct seen seen[20] = {0};

	(void)state;
	for (int i = 0; i < 20; i++)
		start(handle, &seen[i], "acme");
	/* until some are with the daemon, of whom the library hears nothing */
	while (fake_asked(fake) == 0) {
		struct pollfd p = {.fd = apikey_async_fd(handle), .events = POLLIN};

		poll(&p, 1, 5);
		assert_int_equal(apikey_async_dispatch(handle), 0);
	}
	apikey_async_close(handle);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(seen[i].calls, 1);
		assert_int_equal(seen[i].err, -ECANCELED);
	}
	fake_stop(fake);
}

static void close_now(struct seen *seen)
{
	struct apikey_async *handle = seen->handle;
	struct seen more = {0};

	apikey_async_close(handle);
	/* everybody was told before it returned, and nothing can be started any more */
	assert_int_equal(seen->other->calls, 1);
	assert_int_equal(apikey_async_check(handle, KEY, "a:read", NULL, NULL, on_check, &more, NULL), -ECANCELED);
}

static void test_close_in_a_callback(void **state)
{
	const fake_script scripts[] = {script_allow};

	(void)state;
	for (int how = 0; how < 2; how++) {
		struct fake *fake = fake_start(SCRIPTS(scripts));
		struct apikey_async *handle = open_with(fake_path(fake), LONG_MS, 0, 0);
		struct seen seen[10] = {0};

		for (int i = 0; i < 10; i++)
			start(handle, &seen[i], "acme");
		seen[0].then = close_now;
		seen[0].other = &seen[9];
		if (how == 0) /* from a dispatch */
			while (seen[0].calls == 0)
				turn(handle);
		else /* from a cancel */
			assert_int_equal(apikey_async_cancel(handle, seen[0].id), 0);
		for (int i = 0; i < 10; i++)
			assert_int_equal(seen[i].calls, 1);
		assert_int_equal(seen[9].err, -ECANCELED);
		fake_stop(fake);
	}
}

static void cancel_other(struct seen *seen)
{
	seen->then = NULL;
	assert_int_equal(apikey_async_cancel(seen->handle, seen->id), -ENOENT); /* itself: it is running */
	assert_int_equal(apikey_async_cancel(seen->handle, seen->other->id), 0);
}

static void start_other(struct seen *seen)
{
	start(seen->handle, seen->other, "other");
	/* a dispatch inside a dispatch does nothing */
	assert_int_equal(apikey_async_dispatch(seen->handle), 0);
	assert_int_equal(seen->other->calls, 0);
}

static void test_callbacks_may_do_things(void **state)
{
	const fake_script scripts[] = {script_allow};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey_async *handle = open_with(fake_path(fake), LONG_MS, 0, 0);
	struct seen chain[10] = {0}, seen[3] = {0};

	(void)state;
	for (int i = 0; i < 9; i++) {
		chain[i].then = start_other;
		chain[i].other = &chain[i + 1];
	}
	start(handle, &chain[0], "other");
	run_until(handle, chain, 10);
	assert_answered(chain, 10);
	for (int i = 0; i < 3; i++)
		start(handle, &seen[i], "acme");
	seen[0].then = cancel_other;
	seen[0].other = &seen[2];
	run_until(handle, seen, 3);
	assert_answered(seen, 2);
	assert_int_equal(seen[2].err, -ECANCELED);
	/* one that fails starts another: nobody is forgotten, and nothing spins */
	fake_stop(fake);
	memset(seen, 0, sizeof(seen));
	seen[0].then = start_other;
	seen[0].other = &seen[1];
	start(handle, &seen[0], "acme");
	run_until(handle, seen, 2);
	assert_int_equal(seen[0].calls, 1);
	assert_int_equal(seen[1].calls, 1);
	assert_true(seen[0].err < 0 && seen[1].err < 0);
	apikey_async_close(handle);
}

/* A deadline that is set in a callback must not make the library forget an earlier one. */
static void test_deadlines_of_different_length(void **state)
{
	const fake_script scripts[] = {script_silent};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey_async *handle = open_with(fake_path(fake), LONG_MS, 0, 0);
	struct seen seen[4] = {0}, last = {0};

	(void)state;
	start_for(handle, &last, "acme", LONG_MS);
	start_for(handle, &seen[0], "acme", 3 * SHORT_MS);
	start_for(handle, &seen[1], "acme", SHORT_MS);
	start_for(handle, &seen[2], "acme", 2 * SHORT_MS);
	seen[1].then = start_other; /* a long one */
	seen[1].other = &seen[3];
	run_until(handle, seen, 3);
	for (int i = 0; i < 3; i++)
		assert_true(seen[i].err == -ETIMEDOUT || seen[i].err == -ECONNRESET);
	apikey_async_close(handle);
	assert_int_equal(seen[3].calls, 1);
	assert_int_equal(last.calls, 1);
	fake_stop(fake);
}

static void test_fork(void **state)
{
	const fake_script scripts[] = {script_slow};
	struct fake *fake = fake_start(SCRIPTS(scripts));
	struct apikey_async *handle = open_with(fake_path(fake), LONG_MS, 0, 0);
	struct seen seen[2] = {0}, first = {0};
	int status;
	pid_t child;

	(void)state;
	start(handle, &first, "first");
	run_until(handle, &first, 1);
	start(handle, &seen[0], "slow");
	child = fork();
	if (child == 0) {
		struct seen mine = {0};
		int wrong = apikey_async_dispatch(handle) != -ECHILD;

		wrong |= apikey_async_cancel(handle, seen[0].id) != -ECHILD;
		wrong |= apikey_async_check(handle, KEY, "a:read", NULL, NULL, on_check, &mine, NULL) != -ECHILD;
		apikey_async_close(handle);
		_exit(wrong || mine.calls || seen[0].calls);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	start(handle, &seen[1], "go");
	run_until(handle, seen, 2);
	assert_answered(seen, 2);
	assert_int_equal(fake_accepted(fake), 1);
	apikey_async_close(handle);
	fake_stop(fake);
}

static int open_descriptors(void)
{
	int count = 0;

	for (int fd = 0; fd < 1024; fd++) {
		char path[64];

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		count += access(path, F_OK) == 0;
	}
	return count;
}

static int descriptors_before;

static int remember_descriptors(void **state)
{
	(void)state;
	descriptors_before = open_descriptors();
	return 0;
}

static void test_no_descriptor_is_left(void **state)
{
	(void)state;
	assert_int_equal(open_descriptors(), descriptors_before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_many_out_of_order),
		cmocka_unit_test(test_every_kind),
		cmocka_unit_test(test_stale),
		cmocka_unit_test(test_window),
		cmocka_unit_test(test_queue_is_bounded),
		cmocka_unit_test(test_wrong_arguments),
		cmocka_unit_test(test_bad_daemons),
		cmocka_unit_test(test_nobody_listens),
		cmocka_unit_test(test_backlog_full),
		cmocka_unit_test(test_silent_connection_is_left),
		cmocka_unit_test(test_late_answer_is_nobodys),
		cmocka_unit_test(test_asked_again_when_it_dies),
		cmocka_unit_test(test_asked_again_only_twice),
		cmocka_unit_test(test_asked_again_on_a_new_connection),
		cmocka_unit_test(test_a_deadly_question_is_asked_three_times),
		cmocka_unit_test(test_restart),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_close_answers_everyone),
		cmocka_unit_test(test_close_in_a_callback),
		cmocka_unit_test(test_callbacks_may_do_things),
		cmocka_unit_test(test_deadlines_of_different_length),
		cmocka_unit_test(test_fork),
		cmocka_unit_test(test_no_descriptor_is_left),
	};

	return cmocka_run_group_tests(tests, remember_descriptors, NULL);
}
