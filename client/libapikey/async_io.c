/* The event-loop form's connection: see async.h. */
#include "client/libapikey/async.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "client/libapikey/answer.h"
#include "client/libapikey/hello.h"

enum {
	OUT_BATCH = 256 * 1024, /* bytes that wait in the connection before more questions are added */
	READS_MAX = 16,		/* of one dispatch: the loop has others to serve */
};

/* ---- what the caller's loop waits for ---- */

static void set_timer(struct apikey_async *handle, int64_t at)
{
	struct itimerspec spec = {
		.it_value = {.tv_sec = at / 1000, .tv_nsec = at % 1000 * 1000000 + 1},
	};

	handle->timer_at = at;
	timerfd_settime(handle->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL);
}

/* It may fire too early, which costs a look; never too late. */
static void set_timer_by(struct apikey_async *handle, int64_t at)
{
	if (at < handle->timer_at)
		set_timer(handle, at);
}

static bool wants_to_send(const struct apikey_async *handle)
{
	return handle->wire.out.len > 0 ||
	       (handle->state == ASYNC_READY && handle->waiting.first && handle->on_wire < handle->window);
}

static void watch(struct apikey_async *handle)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = handle->wire.fd};

	if (handle->state < ASYNC_GREETING)
		return;
	if (wants_to_send(handle))
		event.events |= EPOLLOUT;
	if (event.events == handle->watched)
		return;
	if (epoll_ctl(handle->epoll_fd, handle->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, handle->wire.fd, &event)) {
		handle->broken = error_set(-errno, "cannot watch the connection: %m");
		memcpy(handle->fault, error_text(), sizeof(handle->fault));
		set_timer_by(handle, 0);
		return;
	}
	handle->watched = event.events;
}

void async_hang_up(struct apikey_async *handle)
{
	/* By hand: where a child of fork() shares the connection, closing it would not take it out. */
	if (handle->watched && handle->owner == getpid())
		epoll_ctl(handle->epoll_fd, EPOLL_CTL_DEL, handle->wire.fd, NULL);
	wire_close(&handle->wire);
	handle->watched = 0;
	handle->state = ASYNC_CLOSED;
	handle->answered = false;
	handle->broken = 0;
	handle->on_wire = 0;
}

static void enter(struct apikey_async *handle, enum async_state state, int64_t now)
{
	handle->state = state;
	handle->since = now;
}

/* ---- the connection goes ---- */

/*
 * Whatever was on it is asked again where a new connection may fare better, and fails otherwise or when it has been
 * asked often enough. `waiting_too`: what waits for a connection fails as well.
 */
static void drop(struct apikey_async *handle, int err, bool again, bool waiting_too)
{
	struct question *question, *previous;

	memcpy(handle->fault, error_text(), sizeof(handle->fault));
	async_hang_up(handle);
	while ((question = async_pop(&handle->gone)))
		async_free(handle, question);
	for (question = handle->failed.first; question; question = question->next)
		question->on_wire = false;
	/* from the last, so that they come before those waiting in their old order */
	for (question = handle->sent.last; question; question = previous) {
		previous = question->previous;
		question->on_wire = false;
		if (again && question->tries < ASK_TRIES) {
			async_move_front(question, &handle->waiting);
		} else {
			async_fail(handle, question, err == -ETIMEDOUT ? -ECONNRESET : err);
		}
	}
	while (waiting_too && handle->waiting.first)
		async_fail(handle, handle->waiting.first, err);
}

/*
 * A fault of the connection. One that had answered before is worth a new one; and so is one that was closed before it
 * could, since a daemon that stops may have taken it in just then.
 */
static void fault(struct apikey_async *handle, int err)
{
	bool again = err == -ECONNRESET && ++handle->fruitless < ASK_TRIES;

	if (!again)
		handle->fruitless = 0;
	drop(handle, err, again || (handle->answered && err == -EBUSY), !again && !handle->answered);
}

/* ---- connecting ---- */

static void connect_now(struct apikey_async *handle, int64_t now)
{
	int r = wire_start(&handle->wire, &handle->settings.address);

	if (r == -EAGAIN) {
		if (handle->state != ASYNC_CONNECTING)
			enter(handle, ASYNC_CONNECTING, now);
		handle->retry_at = now + WIRE_BACKLOG_RETRY_MS;
		set_timer_by(handle, handle->retry_at);
		return;
	}
	if (!r) {
		hello_put(&handle->wire.out, ASYNC_HELLO_ID, handle->settings.client);
		enter(handle, ASYNC_GREETING, now);
		r = wire_flush(&handle->wire);
	}
	if (r && r != -EAGAIN)
		fault(handle, r);
}

/* ---- out ---- */

/* Puts waiting questions on the wire as far as they may go, and writes. 0, or the fault of the connection. */
static int send_waiting(struct apikey_async *handle)
{
	int64_t now = wire_now_ms();
	int r = 0;

	do {
		while (handle->state == ASYNC_READY && handle->waiting.first && handle->on_wire < handle->window &&
		       handle->wire.out.len < OUT_BATCH) {
			struct question *question = handle->waiting.first;

			r = wire_append(&handle->wire, question->request.data, question->request.len);
			if (r)
				return r;
			if (++question->tries == ASK_TRIES)
				rpc_buffer_deinit(&question->request);
			question->on_wire = true;
			question->sent_at = now;
			question->reads = handle->reads;
			handle->on_wire++;
			async_move(question, &handle->sent);
		}
		r = wire_flush(&handle->wire);
	} while (!r && wants_to_send(handle));
	return r == -EAGAIN ? 0 : r;
}

/* Leaves the outcome of a write to the next dispatch. */
static void note_fault(struct apikey_async *handle, int r)
{
	/* What the daemon said before it closed is still to be read, and the loop tells of that. */
	if (!r || (r == -ECONNRESET && handle->watched))
		return;
	handle->broken = r;
	memcpy(handle->fault, error_text(), sizeof(handle->fault));
	set_timer_by(handle, 0);
}

void async_kick(struct apikey_async *handle, const struct question *question)
{
	set_timer_by(handle, question->deadline);
	if (handle->dispatching)
		return;
	if (handle->state == ASYNC_CLOSED) {
		set_timer_by(handle, 0);
	} else if (handle->state == ASYNC_READY && !handle->broken) {
		/* Alone it goes at once; behind others it waits for the loop, so that many go in one write. */
		if (handle->on_wire == 0)
			note_fault(handle, send_waiting(handle));
		watch(handle);
	}
}

/* ---- in ---- */

static int take_hello(struct apikey_async *handle, const struct rpc_reply *reply)
{
	uint32_t in_flight;
	int r = hello_read(reply, &in_flight);

	if (r)
		return r;
	handle->window = handle->settings.in_flight;
	if (in_flight && in_flight < handle->window)
		handle->window = in_flight;
	enter(handle, ASYNC_READY, wire_now_ms());
	return 0;
}

/* One message. 0, or the fault of the connection. Calls back. */
static int take_message(struct apikey_async *handle, const uint8_t *message, size_t size, struct arena *arena)
{
	struct question *question;
	struct rpc_reply reply;
	bool read = rpc_decode_reply(arena, message, size, &reply);

	wire_consume(&handle->wire, size);
	if (!read)
		return error_set(-EPROTO, "the daemon's answer is no MessagePack-RPC response");
	if (reply.notice)
		return answer_error(&reply);
	if (handle->state == ASYNC_GREETING && reply.msgid == ASYNC_HELLO_ID)
		return take_hello(handle, &reply);
	question = async_find(handle, reply.msgid);
	if (!question || !question->on_wire)
		return error_set(-EPROTO, "the daemon answered question %u, which was not asked", reply.msgid);
	question->on_wire = false;
	handle->on_wire--;
	handle->answered = true;
	handle->fruitless = 0;
	error_clear();
	if (question->list == &handle->gone)
		async_free(handle, question);
	else
		async_deliver(handle, question, 0, arena, &reply);
	return 0;
}

static int receive(struct apikey_async *handle)
{
	int r = 0;

	for (int i = 0; i < READS_MAX && !r && !handle->closing; i++) {
		r = wire_fill(&handle->wire);
		if (r)
			break;
		handle->reads++;
		while (!r && !handle->closing) {
			struct arena arena = {0};
			const uint8_t *message;
			size_t size;

			r = wire_message(&handle->wire, &message, &size);
			if (!r)
				r = take_message(handle, message, size, &arena);
			arena_clear(&arena);
		}
		if (r == -EAGAIN && !handle->closing)
			r = 0;
	}
	return r == -EAGAIN ? 0 : r;
}

/* ---- time ---- */

/* Whether a question waited in vain for long enough to tell a dead connection from a new one: half of its time. */
static bool had_time(const struct question *question, int64_t waited_ms)
{
	return waited_ms >= (question->deadline - question->started) / 2;
}

/*
 * Fails what is past its deadline. A connection on which nothing at all came meanwhile is taken for dead, and so is one
 * that owes half of what it may hold to nobody.
 */
static void expire(struct apikey_async *handle, int64_t now)
{
	struct question *question, *next;
	bool hung = false;

	for (question = handle->sent.first; question; question = next) {
		next = question->next;
		if (question->deadline > now)
			continue;
		hung |= handle->reads == question->reads && had_time(question, now - question->sent_at);
		async_fail(handle, question, -ETIMEDOUT);
	}
	for (question = handle->waiting.first; question; question = next) {
		next = question->next;
		if (question->deadline > now)
			continue;
		hung |= handle->state == ASYNC_GREETING && had_time(question, now - handle->since);
		async_fail(handle, question, -ETIMEDOUT);
	}
	hung |= handle->state == ASYNC_READY && handle->on_wire > handle->sent.count &&
		(handle->on_wire - handle->sent.count) * 2 >= handle->window;
	if (hung) {
		error_set(-ETIMEDOUT, "the connection was given up: the daemon does not answer on it");
		drop(handle, -ETIMEDOUT, true, false);
	}
}

static int64_t next_deadline(const struct apikey_async *handle)
{
	int64_t at = handle->state == ASYNC_CONNECTING ? handle->retry_at : ASYNC_NEVER;
	const struct question *question;

	for (question = handle->sent.first; question; question = question->next)
		if (question->deadline < at)
			at = question->deadline;
	for (question = handle->waiting.first; question; question = question->next)
		if (question->deadline < at)
			at = question->deadline;
	return at;
}

/* ---- dispatch ---- */

/* Everything that time and the connection allow, in an order that lets an answer win against its deadline. */
static void work(struct apikey_async *handle, uint32_t events, bool timer)
{
	int64_t now;
	int r = handle->broken;

	if (r)
		error_set(r, "%s", handle->fault);
	if (!r && events)
		r = receive(handle);
	if (handle->closing)
		return;
	if (r)
		fault(handle, r);
	now = wire_now_ms();
	if (timer)
		expire(handle, now);
	if (handle->state == ASYNC_CONNECTING && !handle->waiting.first)
		async_hang_up(handle);
	if ((handle->state == ASYNC_CLOSED && handle->waiting.first) ||
	    (handle->state == ASYNC_CONNECTING && now >= handle->retry_at))
		connect_now(handle, now);
	async_call_failed(handle);
	if (handle->closing)
		return;
	/* Now that callbacks have started what they wanted to. */
	if (handle->state == ASYNC_READY) {
		r = send_waiting(handle);
	} else if (handle->state == ASYNC_GREETING) {
		r = wire_flush(&handle->wire);
		r = r == -EAGAIN ? 0 : r;
	} else {
		r = 0;
	}
	note_fault(handle, r);
	watch(handle);
	if (handle->state == ASYNC_CLOSED && handle->waiting.first)
		set_timer_by(handle, 0);
}

int apikey_async_dispatch(struct apikey_async *handle)
{
	struct epoll_event events[2];
	uint32_t connection = 0;
	bool timer = false;
	uint64_t ticks;
	int n;

	error_clear();
	if (!handle)
		return error_set(-EINVAL, "handle is NULL");
	if (handle->owner != getpid())
		return error_set(-ECHILD, "the handle belongs to the parent of this process");
	if (handle->dispatching || handle->closing)
		return 0;
	n = epoll_wait(handle->epoll_fd, events, 2, 0);
	if (n < 0 && errno != EINTR)
		return error_set(-errno, "cannot look at what happened: %m");
	for (int i = 0; i < n; i++) {
		if (events[i].data.fd == handle->timer_fd)
			timer = read(handle->timer_fd, &ticks, sizeof(ticks)) == sizeof(ticks);
		else
			connection = events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR);
	}
	if (timer)
		handle->timer_at = ASYNC_NEVER;
	handle->busy++;
	handle->dispatching = true;
	work(handle, connection, timer);
	handle->dispatching = false;
	handle->busy--;
	if (handle->closing) {
		/* A callback closed it; apikey_async_close left the rest to the outermost call of ours. */
		if (handle->busy == 0)
			async_destroy(handle);
		return 0;
	}
	if (timer)
		set_timer_by(handle, next_deadline(handle));
	error_clear();
	return 0;
}
